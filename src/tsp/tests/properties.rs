//! What holds of any vault, whatever its BIN tables, its tokens and who tampers with it.

use proptest::prelude::*;

use super::*;
use crate::vocab::{Bin, Refusal, luhn_check_digit, luhn_valid};

const CARDS: [&[u8]; 3] = [b"4761739001010119", b"4761730000000011", b"6228480000000000026"];

/// BINs of few digits of few kinds, so that they often overlap.
fn bin() -> impl Strategy<Value = Bin> {
    proptest::collection::vec(prop_oneof![Just(b'4'), Just(b'6')], 1..6)
        .prop_map(|digits| Bin::parse(&digits).unwrap())
}

/// A configuration with these BINs of cards and of tokens, whether or not it can be.
fn table(pans: &[Bin], tokens: &[(Bin, u8)]) -> TspConfig {
    let sample = config::sample();
    let (pan, token) = (sample.pan_ranges[0], sample.token_ranges[0]);
    TspConfig {
        pan_ranges: pans.iter().map(|bin| PanRange { bin: *bin, ..pan }).collect(),
        token_ranges: tokens
            .iter()
            .map(|(bin, length)| TokenRange { bin: *bin, length: *length, ..token })
            .collect(),
        ..sample
    }
}

/// A card's number that begins so, with its check digit.
fn card(bin: &Bin, length: usize, rest: u64) -> Vec<u8> {
    let mut digits = format!("{}{rest:019}", bin.as_str()).into_bytes();
    digits.truncate(length - 1);
    digits.push(luhn_check_digit(&digits).unwrap());
    digits
}

/// One token for each card; some share a card.
fn vault(cards: &[usize]) -> (Bench, Vec<TokenView>) {
    let mut bench = Bench::new();
    let issue = |(at, card): (usize, &usize)| {
        bench.provision(wanted(SECOND, &format!("p{at}"), CARDS[*card])).unwrap()
    };
    let tokens = cards.iter().enumerate().map(issue).collect();
    (bench, tokens)
}

proptest! {
    /// Token and PAN are told apart by their digits alone: under a BIN table that is taken no number is both, and every
    /// token is of its range, whole, and right by its check digit.
    #[test]
    fn no_number_is_a_token_and_a_card(
        pans in proptest::collection::vec(bin(), 1..4),
        tokens in proptest::collection::vec((bin(), 13..=19_u8), 1..4),
        rest: u64,
        seed: u64,
    ) {
        let config = table(&pans, &tokens);
        let overlap = pans.iter().any(|pan| tokens.iter().any(|(token, _)| pan.overlaps(token)));
        let faults = config.faults();
        prop_assert!(!overlap || !faults.is_empty(), "{pans:?} {tokens:?}");
        if !faults.is_empty() {
            return Ok(());
        }
        let mut entropy = Entropy::seeded(seed);
        for range in &config.token_ranges {
            let token = generate::draw_token(&config, range, &mut entropy, |_| false).unwrap();
            let digits = token.as_bytes();
            prop_assert!(luhn_valid(digits) && digits.len() == usize::from(range.length));
            let of = config.token_ranges.iter().filter(|range| range.covers(digits)).count();
            prop_assert_eq!(of, 1, "{:?}", token);
            prop_assert!(!pans.iter().any(|pan| pan.begins(digits)), "{:?} begins as a card", token);
        }
        for (bin, length) in pans.iter().flat_map(|bin| (13..=19).map(move |length| (bin, length))) {
            let number = card(bin, length, rest);
            prop_assert!(luhn_valid(&number));
            prop_assert!(config.pan_range(&Pan::parse(&number).unwrap()).is_some());
            prop_assert!(!config.token_ranges.iter().any(|range| range.covers(&number)), "{bin:?} {length}");
        }
    }

    /// Whoever can write to the vault's rows cannot lead a token to another card: an envelope opens in its own place
    /// only.
    #[test]
    fn rows_that_are_swapped_lead_nowhere(
        cards in proptest::collection::vec(0..CARDS.len(), 2..6),
        (one, other) in (0..6_usize, 0..6_usize),
    ) {
        let (mut bench, tokens) = vault(&cards);
        let (one, other) = (one % tokens.len(), other % tokens.len());
        let mut rows: Vec<_> = (0..tokens.len() as u64).map(|at| bench.tsp.table.record(at).unwrap()).collect();
        let envelopes = (rows[one].sealed, rows[other].sealed);
        (rows[other].sealed, rows[one].sealed) = envelopes;
        bench.tsp = empty(&bench.config);
        rows.iter().for_each(|row| bench.tsp.add(row).unwrap());
        for (at, token) in tokens.iter().enumerate() {
            let mut out = Vec::new();
            // Not a purchase: nothing but the card is asked of it.
            let past = DetokenizeRequest { purpose: Purpose::PastEvent, ..tap(token, 1) };
            bench.tsp.detokenizer().detokenize_batch(bench.now, &[past], &mut out);
            let found = out.remove(0).map(|found| found.card.pan.expose_digits().to_vec());
            let swapped = one != other && (at == one || at == other);
            let expected = if swapped { Err(Refusal::VaultUnavailable) } else { Ok(CARDS[cards[at]].to_vec()) };
            prop_assert_eq!(found, expected, "token {}", at);
        }
    }
}

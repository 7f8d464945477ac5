//! What a payment asks of the vault, and what it is told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::table::{BATCH, TableWriter};
use super::*;
use crate::journal::{Body, Elements, Entry, EntryNumber, OutcomeEntry, TransactionEntry};
use crate::vocab::{Amount, ChipPayment, Currency, Outcome, Refusal, Service, ShardId, VerdictResult};

fn one(bench: &Bench, request: DetokenizeRequest) -> Result<Detokenized, Refusal> {
    let mut out = Vec::new();
    bench.tsp.detokenizer().detokenize_batch(bench.now, &[request], &mut out);
    out.pop().unwrap()
}

fn issued(bench: &mut Bench) -> TokenView {
    bench.provision(wanted(SECOND, "issue", b"4761739001010119")).unwrap()
}

fn euro(minor: u64) -> Option<Amount> {
    Some(Amount::new(minor, Currency::parse(b"978").unwrap()))
}

#[test]
fn a_good_token_leads_to_its_card() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let found = one(&bench, tap(&token, 1)).unwrap();
    assert_eq!(found.card.pan.expose_digits(), b"4761739001010119");
    assert_eq!(found.card.expiry, Expiry::parse(b"2712").ok());
    assert_eq!((found.requestor.as_bytes(), found.par), (SECOND, token.par));
    assert_eq!(found.counter.map(|c| c.atc), Some(1));
    assert!(found.verdicts.letters().eq(*b"MVRNDVSVEVCVAN"));
    let aad = CardAad::vault(&token.token, found.record, found.mapping_version);
    let sealer = crate::crypto::SecurityModule::sample().unwrap().data_sealer();
    assert_eq!(open_card(&sealer, &aad, &found.sealed).unwrap(), found.card, "the envelope for the journal");
}

/// How a payment with a passed cryptogram ends.
fn ended(request: &DetokenizeRequest, found: Option<&Detokenized>) -> TransactionEntry {
    let approved = found.map(|found| (found.record, found.counter.unwrap()));
    TransactionEntry::Outcome(Box::new(OutcomeEntry {
        transaction: request.transaction,
        outcome: if approved.is_some() { Outcome::Approved } else { Outcome::Declined },
        refusal: None,
        answer: Elements::new(),
        approved: None,
        reversal: None,
        advice: None,
        counter: approved,
    }))
}

#[test]
fn what_only_the_issuer_can_check_is_told_as_not_verified_and_counts_once_it_approved() {
    let mut bench = Bench::with(|config| {
        config.token_ranges[0].cryptograms = None;
        config.token_ranges[0].checked_by_issuer = true;
    });
    let token = issued(&mut bench);
    let another = |transaction: u64, atc: u16, forgery: u8| {
        let mut request = DetokenizeRequest { transaction: TransactionId(transaction), ..tap(&token, atc) };
        request.chip = request.chip.map(|chip| ChipPayment { cryptogram: [forgery; 8], ..chip });
        request
    };
    let first = another(1, 7, 1);
    let found = one(&bench, first.clone()).unwrap();
    assert_eq!(found.verdicts.of(Service::Cryptogram), Some(VerdictResult::NotVerified));
    let used = Err(Refusal::CryptogramReplayed);
    assert_eq!(one(&bench, another(2, 7, 1)).map(|_| ()), used, "it is with the issuer");
    bench.tsp.detokenizer().observe(&ended(&first, None), bench.now);
    let second = another(3, 7, 1);
    let found = one(&bench, second.clone()).unwrap();
    one(&bench, another(4, 7, 2)).expect("which of two is the true one the issuer says");
    let approved = ended(&second, Some(&found));
    bench.tsp.detokenizer().observe(&approved, bench.now);
    for (transaction, atc, expected) in
        [(5, 7, used), (6, 108, Err(Refusal::CounterOutOfRange)), (7, 107, Ok(()))]
    {
        assert_eq!(one(&bench, another(transaction, atc, 3)).map(|_| ()), expected, "{atc}");
    }
    assert_eq!(
        one(&bench, DetokenizeRequest { chip: None, ..another(8, 9, 1) }).map(|_| ()),
        Err(Refusal::CryptogramMissing)
    );
    let late = DetokenizeRequest { purpose: Purpose::PastEvent, ..another(9, 7, 1) };
    assert_eq!(one(&bench, late).unwrap().counter, None, "what has happened takes nothing");

    let mut after = bench.recovered(usize::MAX);
    let body = Body::Transaction(approved);
    let entry = Entry { number: EntryNumber(9), shard: ShardId(0), wall_time: TODAY, body };
    after.replay(&entry).unwrap();
    bench.tsp = after;
    assert_eq!(one(&bench, another(10, 7, 1)).map(|_| ()), used, "also after a restart");
}

/// What happens to the token before the payment.
type Before = fn(&mut Bench, &TokenView);
/// How the payment differs from a good one.
type Change = fn(&mut DetokenizeRequest);

fn nothing(_: &mut Bench, _: &TokenView) {}

fn suspended(bench: &mut Bench, token: &TokenView) {
    let by = Suspender::TokenRequestor;
    bench.move_to(SECOND, "suspend", token.reference, Move::Suspend(by)).unwrap();
}

fn unlinked(bench: &mut Bench, token: &TokenView) {
    bench.move_to(SECOND, "unlink", token.reference, Move::Unlink).unwrap();
}

fn years_later(bench: &mut Bench, _: &TokenView) {
    bench.now.wall = Wall(TODAY.0 + 4 * 366 * 86_400_000);
}

fn tapped(bench: &mut Bench, token: &TokenView) {
    one(bench, tap(token, 1)).unwrap();
}

/// Each finding with the service under which an issuer hears of it when the payment is a past event.
const FINDINGS: [(Before, Change, Refusal, Option<Service>); 18] = {
    use Refusal as R;
    use Service as S;
    [
        (nothing, |r| r.token = other_token(), R::UnknownToken, None),
        (nothing, |r| r.requestor = requestor(FIRST), R::WrongRequestor, Some(S::Requestor)),
        (nothing, |r| r.merchant = None, R::MerchantNotAllowed, Some(S::Domain)),
        (nothing, |r| r.acquirer = LinkId(2), R::MerchantNotAllowed, Some(S::Domain)),
        (suspended, |_| (), R::TokenSuspended, Some(S::Status)),
        (unlinked, |_| (), R::TokenDeactivated, Some(S::Status)),
        (nothing, |r| r.expiry = Expiry::parse(b"2712").ok(), R::ExpiryMismatch, Some(S::Expiry)),
        (nothing, |r| r.expiry = None, R::ExpiryMissing, Some(S::Expiry)),
        (years_later, |_| (), R::TokenExpired, Some(S::Expiry)),
        (nothing, |r| r.entry_mode = None, R::EntryModeNotAllowed, Some(S::Domain)),
        (nothing, |r| r.entry_mode = EntryMode::parse(b"01").ok(), R::EntryModeNotAllowed, Some(S::Domain)),
        (nothing, |r| r.chip = None, R::CryptogramMissing, None),
        (nothing, |r| resigned(r, euro(101), |_| ()), R::ChipAmountDiffers, Some(S::ChipAmount)),
        (
            nothing,
            |r| resigned(r, euro(100), |chip| chip.currency = [0x03, 0x92]),
            R::ChipAmountDiffers,
            Some(S::ChipAmount),
        ),
        (
            nothing,
            |r| resigned(r, euro(100), |chip| chip.amount[5] = 0x0A),
            R::ChipAmountDiffers,
            Some(S::ChipAmount),
        ),
        (nothing, |r| forged(r), R::CryptogramWrong, Some(S::Cryptogram)),
        // Verdicts of their own say these.
        (tapped, |_| (), R::CryptogramReplayed, None),
        (nothing, |r| resigned(r, None, |chip| chip.counter = [1, 0]), R::CounterOutOfRange, None),
    ]
};

fn other_token() -> crate::vocab::Token {
    crate::vocab::Token::parse(b"4895370000000005").unwrap()
}

fn requestor(id: &[u8]) -> Option<TokenRequestorId> {
    TokenRequestorId::parse(id).ok()
}

/// The payment with another amount, and other chip data, truly signed.
fn resigned(request: &mut DetokenizeRequest, amount: Option<Amount>, change: fn(&mut ChipPayment)) {
    request.amount = amount;
    request.chip = Some(signed(&request.token, change));
}

fn forged(request: &mut DetokenizeRequest) {
    if let Some(chip) = &mut request.chip {
        chip.cryptogram[0] ^= 1;
    }
}

#[test]
fn every_refusal_of_a_purchase() {
    for (before, change, refusal, _) in FINDINGS {
        let mut bench = Bench::new();
        let token = issued(&mut bench);
        before(&mut bench, &token);
        let mut request = tap(&token, 1);
        change(&mut request);
        assert_eq!(one(&bench, request).map(|_| ()), Err(refusal));
    }
}

#[test]
fn what_has_happened_is_never_refused_and_the_issuer_hears_what_was_found() {
    for (before, change, refusal, service) in FINDINGS {
        let mut bench = Bench::new();
        let token = issued(&mut bench);
        before(&mut bench, &token);
        let mut request = DetokenizeRequest { purpose: Purpose::PastEvent, ..tap(&token, 1) };
        change(&mut request);
        let answer = one(&bench, request);
        if refusal == Refusal::UnknownToken {
            assert_eq!(answer.map(|_| ()), Err(refusal), "there is no card to lead to");
            continue;
        }
        let found = answer.unwrap();
        assert_eq!(found.card.pan.expose_digits(), b"4761739001010119");
        assert_eq!(found.counter, None, "a past event takes no counter");
        let bad: Vec<Service> =
            found.verdicts.iter().filter(|v| v.result == VerdictResult::Bad).map(|v| v.service).collect();
        assert_eq!(bad, service.into_iter().collect::<Vec<_>>(), "{refusal}");
    }
}

#[test]
fn a_refund_is_checked_but_needs_no_cryptogram() {
    for (before, change, refusal, _) in FINDINGS {
        let mut bench = Bench::new();
        let token = issued(&mut bench);
        before(&mut bench, &token);
        let mut request = DetokenizeRequest { purpose: Purpose::Refund, ..tap(&token, 1) };
        change(&mut request);
        let expected = if refusal == Refusal::CryptogramMissing { Ok(()) } else { Err(refusal) };
        assert_eq!(one(&bench, request).map(|_| ()), expected);
    }
}

#[test]
fn who_asks_comes_before_status_and_status_before_expiry() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    suspended(&mut bench, &token);
    let mut request = DetokenizeRequest {
        requestor: requestor(FIRST),
        merchant: None,
        expiry: None,
        entry_mode: None,
        chip: None,
        ..tap(&token, 1)
    };
    type Repair = fn(&mut DetokenizeRequest, &TokenView);
    let steps: [(Refusal, Repair); 2] = [
        (Refusal::WrongRequestor, |r, _| r.requestor = None),
        (Refusal::MerchantNotAllowed, |r, t| r.merchant = tap(t, 1).merchant),
    ];
    for (refusal, repair) in steps {
        assert_eq!(one(&bench, request.clone()).map(|_| ()), Err(refusal));
        repair(&mut request, &token);
    }
    assert_eq!(one(&bench, request.clone()).map(|_| ()), Err(Refusal::TokenSuspended));
    let by = Suspender::TokenRequestor;
    bench.move_to(SECOND, "resume", token.reference, Move::Resume(by)).unwrap();
    let steps: [(Refusal, Repair); 3] = [
        (Refusal::ExpiryMissing, |r, t| r.expiry = Some(t.expiry)),
        (Refusal::EntryModeNotAllowed, |r, _| r.entry_mode = Some(EntryMode::CONTACTLESS_CHIP)),
        (Refusal::CryptogramMissing, |r, t| r.chip = tap(t, 1).chip),
    ];
    for (refusal, repair) in steps {
        assert_eq!(one(&bench, request.clone()).map(|_| ()), Err(refusal));
        repair(&mut request, &token);
    }
    assert!(one(&bench, request).is_ok());
}

#[test]
fn a_range_without_keys_takes_no_chip_payment() {
    let mut bench = Bench::new();
    let token = bench.provision(wanted(SECOND, "debit", b"6228480000000000026")).unwrap();
    assert_eq!(one(&bench, tap(&token, 1)).map(|_| ()), Err(Refusal::CryptogramUnverifiable));
    let card_on_file =
        DetokenizeRequest { entry_mode: EntryMode::parse(b"10").ok(), chip: None, ..tap(&token, 1) };
    let found = one(&bench, card_on_file).unwrap();
    assert_eq!(found.verdicts.of(Service::Cryptogram), Some(VerdictResult::Absent));
    let refund = DetokenizeRequest { purpose: Purpose::Refund, ..tap(&token, 1) };
    let found = one(&bench, refund).unwrap();
    assert_eq!(found.verdicts.of(Service::Cryptogram), Some(VerdictResult::NotVerified));
    assert_eq!(found.counter, None, "what was not checked takes no counter");
}

#[test]
fn a_control_asks_for_a_cryptogram_however_the_token_was_entered() {
    for (required, expected) in [(false, Ok(())), (true, Err(Refusal::CryptogramMissing))] {
        let mut bench = Bench::with(|config| config.requestors[1].controls.cryptogram_required = required);
        let token = issued(&mut bench);
        let entry_mode = EntryMode::parse(b"10").ok();
        let online = DetokenizeRequest { entry_mode, chip: None, ..tap(&token, 1) };
        assert_eq!(one(&bench, online).map(|_| ()), expected);
        assert!(one(&bench, DetokenizeRequest { entry_mode, ..tap(&token, 1) }).is_ok());
    }
}

#[test]
fn a_past_event_s_issuer_is_told_what_the_counter_was_worth() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    tapped(&mut bench, &token);
    for (atc, expected) in
        [(1, VerdictResult::Replayed), (2, VerdictResult::Good), (500, VerdictResult::OutOfRange)]
    {
        let event = DetokenizeRequest { purpose: Purpose::PastEvent, ..tap(&token, atc) };
        assert_eq!(one(&bench, event).unwrap().verdicts.of(Service::Cryptogram), Some(expected), "{atc}");
    }
    assert!(one(&bench, tap(&token, 2)).is_ok(), "a past event takes no counter");
}

#[test]
fn a_forged_counter_does_not_burn_the_token() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    for atc in 1..=200_u16 {
        let mut request = tap(&token, 1);
        if let Some(chip) = &mut request.chip {
            chip.counter = atc.to_be_bytes();
            chip.cryptogram = [9; 8];
        }
        let refusal = if atc > 100 { Refusal::CounterOutOfRange } else { Refusal::CryptogramWrong };
        assert_eq!(one(&bench, request).map(|_| ()), Err(refusal), "{atc}");
    }
    for atc in 1..=3 {
        assert!(one(&bench, tap(&token, atc)).is_ok(), "{atc}");
    }
}

#[test]
fn what_was_not_forwarded_comes_once_more_from_its_terminal() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let request = tap(&token, 1);
    let found = one(&bench, request.clone()).unwrap();
    let detokenizer = bench.tsp.detokenizer();
    detokenizer.release(found.record, found.counter.unwrap(), request.presentation(), bench.now);
    let elsewhere = DetokenizeRequest { terminal: TerminalId::parse(b"TERM0002").ok(), ..request.clone() };
    assert_eq!(one(&bench, elsewhere).map(|_| ()), Err(Refusal::CryptogramReplayed));
    assert!(one(&bench, request.clone()).is_ok());
    assert_eq!(one(&bench, request).map(|_| ()), Err(Refusal::CryptogramReplayed));
}

/// P7: whoever comes with it, and however many, a cryptogram leads to one approval.
#[test]
fn of_two_thousand_taps_with_one_cryptogram_one_passes() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut out = Vec::new();
                let requests = vec![tap(&token, 1); 500];
                bench.tsp.detokenizer().detokenize_batch(bench.now, &requests, &mut out);
                passed.fetch_add(out.iter().filter(|found| found.is_ok()).count() as u64, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(passed.into_inner(), 1);
}

#[test]
fn a_refusal_burns_no_counter() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let wrong = DetokenizeRequest { expiry: None, ..tap(&token, 1) };
    assert!(one(&bench, wrong).is_err());
    assert!(one(&bench, tap(&token, 1)).is_ok());
    assert_eq!(one(&bench, tap(&token, 1)).map(|_| ()), Err(Refusal::CryptogramReplayed));
}

#[test]
fn the_amount_signed_may_be_exceeded_by_the_tolerance_or_only_told() {
    let mut bench = Bench::with(|config| {
        config.amount_tolerance = 5;
        config.requestors[0].controls.chip_amount_binds = false;
    });
    let token = issued(&mut bench);
    let request = |minor, atc| DetokenizeRequest { amount: euro(minor), ..tap(&token, atc) };
    assert_eq!(
        one(&bench, request(105, 1)).unwrap().verdicts.of(Service::ChipAmount),
        Some(VerdictResult::Good)
    );
    assert_eq!(one(&bench, request(106, 2)).map(|_| ()), Err(Refusal::ChipAmountDiffers));
    let free = bench.provision(wanted(FIRST, "free", b"4761739001010119")).unwrap();
    let told = DetokenizeRequest { amount: euro(999), ..tap(&free, 1) };
    assert_eq!(one(&bench, told).unwrap().verdicts.of(Service::ChipAmount), Some(VerdictResult::Bad));
}

#[test]
fn a_batch_of_any_size_is_answered_in_order() {
    let mut bench = Bench::new();
    let tokens: Vec<TokenView> = (0..40)
        .map(|id| {
            let body = format!("47617300{id:07}");
            let check = crate::vocab::luhn_check_digit(body.as_bytes()).unwrap();
            let pan = [body.as_bytes(), &[check]].concat();
            bench.provision(wanted(FIRST, &format!("t{id}"), &pan)).unwrap()
        })
        .collect();
    for size in [0, 1, BATCH - 1, BATCH, BATCH + 1, 40] {
        let mut requests: Vec<DetokenizeRequest> = tokens[..size]
            .iter()
            .map(|token| DetokenizeRequest { purpose: Purpose::PastEvent, ..tap(token, 1) })
            .collect();
        if let Some(request) = requests.get_mut(3) {
            request.token = other_token();
        }
        let mut out = Vec::new();
        bench.tsp.detokenizer().detokenize_batch(bench.now, &requests, &mut out);
        assert_eq!(out.len(), size);
        for (at, (answer, token)) in out.iter().zip(&tokens).enumerate() {
            match answer {
                Ok(found) => assert_eq!(found.card.pan.last4(), token.last4),
                Err(refusal) => assert_eq!((at, *refusal), (3, Refusal::UnknownToken)),
            }
        }
    }
}

#[test]
fn a_token_range_is_covered_whether_or_not_the_token_is_known() {
    let bench = Bench::new();
    let detokenizer = bench.tsp.detokenizer();
    for (account, expected) in [
        (&b"4895370000000005"[..], true),
        (b"489537000000005", false),
        (b"6235290000000000013", true),
        (b"4761739001010119", false),
        (b"0004895370000000005", false),
    ] {
        assert_eq!(detokenizer.covers(account), expected, "{}", String::from_utf8_lossy(account));
    }
}

#[test]
fn an_envelope_in_the_wrong_place_is_never_approved() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let mut swapped = bench.tsp.table.record(0).unwrap();
    swapped.sealed = layout::tests::record(0, b"4895370000000005").sealed;
    let mut damaged = empty(&bench.config);
    damaged.add(&swapped).unwrap();
    bench.tsp = damaged;
    assert_eq!(one(&bench, tap(&token, 1)).map(|_| ()), Err(Refusal::VaultUnavailable));
}

/// Readers never see a record half written: nonce, ciphertext and tag change together, in different words.
#[test]
fn readers_and_the_writer_do_not_disturb_each_other() {
    let mut writer = TableWriter::new(2_000, 4);
    let table = writer.shared();
    let token = |at: u64| {
        let body = format!("489537{at:09}");
        let check = crate::vocab::luhn_check_digit(body.as_bytes()).unwrap();
        crate::vocab::Token::parse(&[body.as_bytes(), &[check]].concat()).unwrap()
    };
    let (done, seen) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    std::thread::scope(|scope| {
        // However the writer ends, the readers do, too.
        let _ended = SetWhenDropped(&done);
        let readers: Vec<_> = seen
            .iter()
            .map(|seen| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        for at in 0..1_000_u64 {
                            let number = token(at).number();
                            table.touch(&[number]);
                            if !table.has(number) {
                                continue;
                            }
                            let mapping = table.mapping(number).expect("a slot that is found is whole");
                            assert_eq!(mapping.record, at);
                            let [nonce, ..] = *mapping.sealed.nonce();
                            let whole = [nonce; 32];
                            assert_eq!(
                                mapping.sealed.ciphertext_and_tag(),
                                whole,
                                "one write, never two mixed"
                            );
                            seen.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let sealed = |mark: u8| crate::crypto::Sealed::from_parts(1, [mark; 12], &[mark; 32]).unwrap();
        for at in 0..1_000 {
            let mut record = layout::tests::record(at, token(at).as_bytes());
            record.sealed = sealed(1);
            writer.insert(&record).unwrap();
        }
        // Until every reader has met the writer at work, however late it was let run.
        let unmet =
            || readers.iter().zip(&seen).any(|(r, s)| !r.is_finished() && s.load(Ordering::Relaxed) < 1_000);
        let mut round = 1_u8;
        while round < 200 || unmet() {
            round = if round == 250 { 200 } else { round + 1 };
            for at in 0..50 {
                writer.replace_for_test(at, sealed(round));
            }
        }
    });
    assert_eq!(writer.len(), 1_000);
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! Draws tokens from token BIN ranges, PARs and references: random, Luhn-valid, never in a PAN's range, never the
//! same twice.

use crate::stdx::random::{Entropy, NoEntropy};
use crate::vocab::{Expiry, Pan, Par, Text, Token, TokenReferenceId, YearMonth, luhn_check_digit};

use super::config::{TokenRange, TspConfig};

/// Past this share of a range, in percent, no more tokens are drawn: a guessed number would be too likely to be
/// one, and drawing needs more than three tries on average.
const MOST_FILL_PERCENT: u128 = 70;

/// Drawing again after a collision. At 70 per cent full, 128 collisions in a row have a chance of 10^-20.
const TRIES: u32 = 128;

const ALPHANUMERIC: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Why no token came out.
#[derive(Debug, thiserror::Error)]
pub(super) enum DrawError {
    #[error("the token range is full")]
    RangeFull,
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// How many tokens a range can hold.
pub(super) fn room(range: &TokenRange) -> u128 {
    let drawn = usize::from(range.length).saturating_sub(range.bin.as_bytes().len() + 1);
    10_u128.saturating_pow(u32::try_from(drawn).unwrap_or_default())
}

/// Whether the range holds so many that no more are drawn.
pub(super) fn is_full(range: &TokenRange, issued: u64) -> bool {
    u128::from(issued) * 100 >= room(range) * MOST_FILL_PERCENT
}

/// A new token of `range`; `taken` tells of numbers in use, deactivated ones included.
///
/// # Errors
/// `RangeFull` when no free number was hit, or `Entropy` when the system gave no randomness.
pub(super) fn draw_token(
    config: &TspConfig,
    range: &TokenRange,
    entropy: &mut Entropy,
    taken: impl Fn(&Token) -> bool,
) -> Result<Token, DrawError> {
    for _ in 0..TRIES {
        let Some(token) = one_token(range, entropy)? else { continue };
        let is_pan = config.pan_ranges.iter().any(|pans| pans.bin.begins(token.as_bytes()));
        if !is_pan && !taken(&token) {
            return Ok(token);
        }
    }
    Err(DrawError::RangeFull)
}

fn one_token(range: &TokenRange, entropy: &mut Entropy) -> Result<Option<Token>, NoEntropy> {
    let mut digits = [0_u8; Pan::MOST];
    let body_len = usize::from(range.length).saturating_sub(1);
    let bin = range.bin.as_bytes();
    if let Some(drawn) = digits.get_mut(bin.len()..body_len) {
        draw(b"0123456789", drawn, entropy)?;
    }
    digits.iter_mut().zip(bin).for_each(|(place, digit)| *place = *digit);
    let check = digits.get(..body_len).and_then(luhn_check_digit);
    if let (Some(place), Some(check)) = (digits.get_mut(body_len), check) {
        *place = check;
    }
    Ok(digits.get(..=body_len).and_then(|whole| Token::parse(whole).ok()))
}

/// A payment account reference: the BIN controller's four characters and 25 random ones (EMVCo 7.1).
///
/// # Errors
/// `NoEntropy`.
pub(super) fn draw_par(controller: &Text<4>, entropy: &mut Entropy) -> Result<Option<Par>, NoEntropy> {
    let mut par = [0_u8; 29];
    if let Some(drawn) = par.get_mut(controller.as_bytes().len()..) {
        draw(ALPHANUMERIC, drawn, entropy)?;
    }
    par.iter_mut().zip(controller.as_bytes()).for_each(|(place, character)| *place = *character);
    Ok(Par::parse(&par).ok())
}

/// A reference: 128 random bits.
///
/// # Errors
/// `NoEntropy`.
pub(super) fn draw_reference(entropy: &mut Entropy) -> Result<TokenReferenceId, NoEntropy> {
    Ok(TokenReferenceId::from_bytes(entropy.bytes()?))
}

/// The token's own expiry, counted from the month of issue.
pub(super) fn expiry(range: &TokenRange, today: YearMonth) -> Option<Expiry> {
    Expiry::of(today.plus_years(range.validity_years))
}

/// Puts one of the characters into each place, each equally likely: as many at a time as one random number has room
/// for.
fn draw<const N: usize>(
    characters: &[u8; N],
    places: &mut [u8],
    entropy: &mut Entropy,
) -> Result<(), NoEntropy> {
    let base = u64::try_from(N).unwrap_or(u64::MAX);
    let at_once = usize::try_from(u64::MAX.ilog(base)).unwrap_or(1);
    for places in places.chunks_mut(at_once) {
        let mut drawn = entropy.below(places.iter().fold(1, |bound, _| bound * base))?;
        for place in places {
            let at = usize::try_from(drawn % base).unwrap_or_default();
            *place = characters.get(at).copied().unwrap_or(b'0');
            drawn /= base;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::sample;
    use super::*;
    use crate::stdx::maps::Set;
    use crate::vocab::{Bin, luhn_valid};

    #[test]
    fn tokens_are_luhn_valid_random_and_of_their_range() {
        let config = sample();
        let mut entropy = Entropy::seeded(1);
        for range in &config.token_ranges {
            let mut seen = Set::default();
            for _ in 0..200 {
                let token = draw_token(&config, range, &mut entropy, |_| false).unwrap();
                assert!(luhn_valid(token.as_bytes()) && range.covers(token.as_bytes()), "{token:?}");
                seen.insert(token);
            }
            assert!(seen.len() > 190);
        }
    }

    #[test]
    fn a_number_is_never_drawn_twice_nor_in_a_pan_range() {
        let mut config = sample();
        // Of 10^9 numbers, those that go on with 0 to 8 belong to PANs from now on.
        for next in b'0'..=b'8' {
            let mut pans = config.pan_ranges[0];
            pans.bin = Bin::parse(&[b"489537".as_slice(), &[next]].concat()).unwrap();
            config.pan_ranges.push(pans);
        }
        let mut entropy = Entropy::seeded(2);
        let range = config.token_ranges[0];
        let mut seen = Set::default();
        for _ in 0..50 {
            let token = draw_token(&config, &range, &mut entropy, |token| seen.contains(token)).unwrap();
            assert!(token.as_bytes().starts_with(b"4895379"));
            assert!(seen.insert(token));
        }
        let all_taken = draw_token(&config, &range, &mut entropy, |_| true);
        assert!(matches!(all_taken, Err(DrawError::RangeFull)));
    }

    #[test]
    fn a_range_is_full_at_seventy_per_cent() {
        let mut range = sample().token_ranges[0];
        range.bin = Bin::parse(b"489537000").unwrap();
        assert_eq!(room(&range), 1_000_000);
        assert!(!is_full(&range, 699_999));
        assert!(is_full(&range, 700_000));
    }

    #[test]
    fn a_par_begins_with_its_controller() {
        let mut entropy = Entropy::seeded(3);
        let par = draw_par(&Text::parse("id", b"Q001").unwrap(), &mut entropy).unwrap().unwrap();
        assert!(par.as_str().starts_with("Q001"));
        let other = draw_par(&Text::parse("id", b"Q001").unwrap(), &mut entropy).unwrap().unwrap();
        assert_ne!(par, other);
    }

    #[test]
    fn a_token_has_an_expiry_of_its_own() {
        let range = sample().token_ranges[0];
        let expiry = expiry(&range, YearMonth { year: 2026, month: 11 }).unwrap();
        assert_eq!(expiry.digits(), *b"2911");
    }
}

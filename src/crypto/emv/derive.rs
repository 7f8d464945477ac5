//! From an issuer master key to a card key, and from that to a session key (EMV Book 2, annexes A1.3 and A1.4).

use ring::digest;
use zeroize::Zeroizing;

use super::super::cipher::{Keyed, decimalized, halves, joined};
use super::super::key::CHIP_KEY_LENGTH;
use crate::vocab::{AtcRange, ChipPayment, PanSequenceNumber};

/// A key in the clear, wiped when dropped. DES parity bits are left as they come: the cipher ignores them.
pub(in super::super) type ClearKey = Zeroizing<[u8; CHIP_KEY_LENGTH]>;

/// How a card's key comes from its issuer's. A property of the profile, never of the number's length: PBOC cards of
/// 19 digits use option A, Visa's option B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum CardKeyMethod {
    /// A1.4.1: the rightmost 16 digits of number and sequence number.
    A,
    /// A1.4.2: as A up to 16 digits; above, 16 decimal digits of a SHA-1.
    B,
    /// A1.4.3, for ciphers with blocks of 16 bytes: all digits.
    C,
}

/// How a payment's key comes from the card's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionKeyMethod {
    /// The card's key itself.
    None,
    /// EMV common session key derivation, A1.3.1: from the counter.
    Common,
    /// Mastercard's, of M/Chip before the common one: from counter and unpredictable number.
    MChip,
    /// PBOC (JR/T 0025): from the counter and its complement.
    Pboc,
}

/// The card key of an account number, given as ASCII digits.
pub(in super::super) fn card_key(
    issuer: &Keyed,
    method: CardKeyMethod,
    account: &[u8],
    sequence: PanSequenceNumber,
) -> ClearKey {
    let [_, tens, ones] = sequence.digits();
    let digits = || account.iter().chain([&tens, &ones]).map(|digit| digit & 0x0F);
    let seed = match method {
        CardKeyMethod::B if account.len() > 16 => with_complement(decimal_digest(digits())),
        CardKeyMethod::A | CardKeyMethod::B => with_complement(packed(digits())),
        CardKeyMethod::C => packed(digits()),
    };
    ClearKey::new(issuer.encrypt(seed))
}

/// The key of one payment.
pub(super) fn session_key(card: &Keyed, method: SessionKeyMethod, chip: &ChipPayment) -> Option<ClearKey> {
    let [high, low] = chip.counter;
    let seed = match (method, card) {
        (SessionKeyMethod::None, _) => return None,
        (SessionKeyMethod::Common, Keyed::TripleDes(_)) => twice([high, low, 0, 0, 0, 0, 0, 0]),
        // A cipher whose block is as long as its key needs no two halves.
        (SessionKeyMethod::Common, Keyed::Aes(_) | Keyed::Sm4(_)) => {
            joined([high, low, 0, 0, 0, 0, 0, 0], [0; 8])
        }
        (SessionKeyMethod::MChip, _) => {
            let [a, b, c, d] = chip.unpredictable;
            twice([high, low, 0, 0, a, b, c, d])
        }
        (SessionKeyMethod::Pboc, _) => joined([0, 0, 0, 0, 0, 0, high, low], [0, 0, 0, 0, 0, 0, !high, !low]),
    };
    Some(ClearKey::new(card.encrypt(seed)))
}

/// The key with which a card pays while its counter lies in this range, and which stands in its own key's place. The
/// schemes keep their formulas to themselves; this one is ours: what is encrypted under the card's key is nothing that
/// a session key comes from, since of those none has anything but zero where this has its letter.
pub(super) fn limited_key(card: &Keyed, range: AtcRange) -> ClearKey {
    let ([a, b], [c, d]) = (range.first.to_be_bytes(), range.last.to_be_bytes());
    ClearKey::new(card.encrypt(twice([a, b, 0, b'L', c, d, 0, 0])))
}

/// One diversification value for each half of the key: the third byte tells them apart.
fn twice([a, b, _, rest @ ..]: [u8; 8]) -> [u8; 16] {
    let [d, e, f, g, h] = rest;
    joined([a, b, 0xF0, d, e, f, g, h], [a, b, 0x0F, d, e, f, g, h])
}

fn with_complement(left: [u8; 8]) -> [u8; 16] {
    joined(left, left.map(|byte| !byte))
}

/// The last digits two to a byte, filled up with zeros on the left.
pub(in super::super) fn packed<const N: usize>(digits: impl DoubleEndedIterator<Item = u8>) -> [u8; N] {
    let mut out = [0; N];
    let mut digits = digits.rev();
    for place in out.iter_mut().rev() {
        let (low, high) = (digits.next().unwrap_or(0), digits.next().unwrap_or(0));
        *place = high << 4 | low;
    }
    out
}

/// The first 16 decimal digits of the SHA-1 of packed digits; where it has fewer, its letters serve too, `a` as 0.
/// SHA-1 spreads digits here and protects nothing by itself.
fn decimal_digest(digits: impl DoubleEndedIterator<Item = u8> + Clone) -> [u8; 8] {
    let length = digits.clone().count().div_ceil(2);
    let bytes = Zeroizing::new(packed::<16>(digits));
    let digest = digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        bytes.get(bytes.len().saturating_sub(length)..).unwrap_or_default(),
    );
    let mut chosen = [0; 16];
    chosen.iter_mut().zip(decimalized(digest.as_ref())).for_each(|(place, digit)| *place = digit);
    packed(chosen.into_iter())
}

/// The left block alone, for 8-byte blocks of which only one is wanted.
pub(in super::super) fn left_block(keyed: &Keyed, block: [u8; 8]) -> [u8; 8] {
    halves(keyed.encrypt(joined(block, [0; 8]))).0
}

#[cfg(test)]
mod tests {
    use super::super::super::cipher::BlockCipher;
    use super::*;

    fn key(text: &str) -> [u8; 16] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    fn sequence(number: u8) -> PanSequenceNumber {
        PanSequenceNumber::new(number).unwrap()
    }

    fn without_parity(key: &[u8; 16]) -> [u8; 16] {
        key.map(|byte| byte & 0xFE)
    }

    /// Published, or made with pyemv 1.5.0, which sets parity bits.
    #[test]
    fn card_keys_are_the_published_ones() {
        let own = "0123456789ABCDEFFEDCBA9876543210";
        let long = "6212345678901234567";
        let (a, b) = (CardKeyMethod::A, CardKeyMethod::B);
        for (issuer, method, account, number, expected) in [
            (own, a, long, 1, "73AD54688CEF2934B0979857E3C719F1"),
            (own, b, long, 1, "58E0894CF4045D98C491D9CE4C7F6145"),
            ("F0C34A8124CEE0A91A0B034AA97D6EAC", a, "6228000100001", 1, "014D996FCC8F49157DC8B49E3BCDFD99"),
        ] {
            let issuer = Keyed::new(BlockCipher::TripleDes, &key(issuer));
            let made = card_key(&issuer, method, account.as_bytes(), sequence(number));
            assert_eq!(without_parity(&made), without_parity(&key(expected)), "{method:?} {account}");
        }
        let issuer = Keyed::new(BlockCipher::Sm4, &key("F23BF4AE92B554C116139D4F67322667"));
        let made = card_key(&issuer, a, b"6214988660100000304", sequence(0));
        assert_eq!(*made, key("016F6E76BD8E6FB4A17C28C4B05E03A8"));
    }

    #[test]
    fn up_to_sixteen_digits_b_is_a() {
        let issuer = Keyed::new(BlockCipher::TripleDes, &key("0123456789ABCDEFFEDCBA9876543210"));
        for length in 12..=19 {
            let account = &b"6212345678901234567"[..length];
            let of = |method| card_key(&issuer, method, account, sequence(7));
            assert_eq!(of(CardKeyMethod::A) == of(CardKeyMethod::B), length <= 16, "{length}");
        }
    }

    #[test]
    fn option_c_takes_every_digit() {
        assert_eq!(packed::<16>(b"621234567890123456701".iter().map(|d| d & 0x0F))[5..], {
            let mut expected = [0; 11];
            hex::decode_to_slice("0621234567890123456701", &mut expected).unwrap();
            expected
        });
    }
}

//! Test cards and merchants, all from one seed: the same seed gives the same cards on every machine.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::crypto::CardKey;
use crate::stdx::random::Entropy;
use crate::vocab::{
    AtcRange, Bin, ChipPayment, Expiry, MerchantCategory, MerchantId, Pan, PanSequenceNumber, TerminalId,
    Text, Token, TokenRequestorId, YearMonth, luhn_check_digit,
};

/// How far apart two cards of one range are drawn. A prime other than 2 and 5 shares no factor with a power
/// of ten, so that stepping by it meets every number of a range once before any comes again.
const STEP: u64 = 7_368_787;

/// A card that no issuer ever issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCard {
    pub pan: Pan,
    pub expiry: Expiry,
    pub sequence: Option<PanSequenceNumber>,
}

/// What stands in DE 2: the number of a card, or a token in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardNumber {
    Pan(Pan),
    Token(Token),
}

impl CardNumber {
    /// The digits as DE 2 carries them. For a PAN this is card data, and the caller answers for it.
    #[must_use]
    pub fn digits(&self) -> &[u8] {
        match self {
            Self::Pan(pan) => pan.expose_digits(),
            Self::Token(token) => token.as_bytes(),
        }
    }

    /// First six and last four.
    #[must_use]
    pub fn masked(&self) -> crate::vocab::MaskedPan {
        match self {
            Self::Pan(pan) => pan.masked(),
            Self::Token(token) => token.masked(),
        }
    }
}

/// A card or a token as a terminal meets it.
#[derive(Debug, Clone)]
pub struct PresentedCard {
    pub number: CardNumber,
    pub expiry: Option<Expiry>,
    /// Sent in the token data where it is known.
    pub requestor: Option<TokenRequestorId>,
    /// The PAN behind a token, where the simulation knows it: no answer may contain it.
    pub behind: Option<Pan>,
    /// What signs its taps. Without it they carry a cryptogram that is worth nothing.
    pub phone: Option<Arc<Phone>>,
}

/// A phone that a token was put into: its card's key, and how often it has tapped, at whatever terminal.
#[derive(Debug)]
pub struct Phone {
    key: CardKey,
    /// Keys in that one's place, each from a value of its counter on, the oldest first.
    limited: Mutex<Vec<(u16, CardKey)>>,
    taps: AtomicU16,
}

impl Phone {
    /// `taps`: how often it has tapped before.
    #[must_use]
    pub fn new(key: CardKey, taps: u16) -> Self {
        Self { key, limited: Mutex::default(), taps: AtomicU16::new(taps) }
    }

    /// Counts another tap; gives its application transaction counter.
    pub fn tap(&self) -> u16 {
        self.taps.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    #[must_use]
    pub fn taps(&self) -> u16 {
        self.taps.load(Ordering::Relaxed)
    }

    /// From its next tap on it signs with this limited-use key; what it signed before, it would sign the same again.
    pub fn replenish(&self, range: AtcRange, key: CardKey) {
        let from = range.first.max(self.taps().saturating_add(1));
        self.limited.lock().unwrap_or_else(PoisonError::into_inner).push((from, key));
        self.taps.fetch_max(range.first.saturating_sub(1), Ordering::Relaxed);
    }

    /// Signs a payment with the key for its counter: past all of them, with the newest.
    pub fn sign(&self, chip: &mut ChipPayment) {
        let limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = limited.iter().rev().find(|(from, _)| *from <= chip.atc());
        newest.map_or(&self.key, |(_, key)| key).sign(chip);
    }
}

impl PresentedCard {
    /// A token, with the PAN that must never be seen with it.
    #[must_use]
    pub fn token(
        token: Token,
        expiry: Option<Expiry>,
        requestor: Option<TokenRequestorId>,
        behind: Option<Pan>,
    ) -> Self {
        Self { number: CardNumber::Token(token), expiry, requestor, behind, phone: None }
    }

    /// The same in a phone that signs.
    #[must_use]
    pub fn in_phone(self, phone: Phone) -> Self {
        Self { phone: Some(Arc::new(phone)), ..self }
    }

    /// The token, where it is one.
    #[must_use]
    pub fn as_token(&self) -> Option<&Token> {
        match &self.number {
            CardNumber::Token(token) => Some(token),
            CardNumber::Pan(_) => None,
        }
    }

    /// The plain card.
    #[must_use]
    pub fn card(card: &TestCard) -> Self {
        Self { expiry: Some(card.expiry), ..Self::plain(card.pan.clone()) }
    }

    /// A card of which only the number is known.
    #[must_use]
    pub fn plain(pan: Pan) -> Self {
        Self { number: CardNumber::Pan(pan), expiry: None, requestor: None, behind: None, phone: None }
    }

    /// The PAN that an issuer will know this by, where the simulation knows it.
    #[must_use]
    pub fn pan(&self) -> Option<&Pan> {
        match &self.number {
            CardNumber::Pan(pan) => Some(pan),
            CardNumber::Token(_) => self.behind.as_ref(),
        }
    }
}

/// A shop with one terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestMerchant {
    pub terminal: TerminalId,
    pub merchant: MerchantId,
    pub category: MerchantCategory,
    /// Name and place, 40 characters as DE 43 has them.
    pub name: Text<40>,
}

/// `count` different cards of `length` digits (12 to 19), spread over `bins` in turn, with right check digits
/// and expiry dates one to four years after `from`. Fewer when the ranges hold no more.
#[must_use]
pub fn test_cards(seed: u64, bins: &[Bin], length: usize, from: YearMonth, count: usize) -> Vec<TestCard> {
    let mut entropy = Entropy::seeded(seed);
    let starts: Vec<u64> = bins.iter().map(|_| drawn(&mut entropy, u64::MAX)).collect();
    let mut cards = Vec::with_capacity(count.min(1 << 20));
    for round in 0_u64.. {
        let before = cards.len();
        for (bin, start) in bins.iter().zip(&starts) {
            if cards.len() == count {
                return cards;
            }
            let expiry = some_expiry(&mut entropy, from);
            if let Some((pan, expiry)) = card_number(bin, length, *start, round).zip(expiry) {
                cards.push(TestCard { pan, expiry, sequence: PanSequenceNumber::new(1) });
            }
        }
        if cards.len() == before {
            break;
        }
    }
    cards
}

/// The `round`th number of a range; `None` once all of them were drawn, or for a length that cannot be.
fn card_number(bin: &Bin, length: usize, start: u64, round: u64) -> Option<Pan> {
    let free = length.checked_sub(bin.as_bytes().len() + 1)?;
    let range = 10_u64.checked_pow(u32::try_from(free).ok()?)?;
    if round >= range {
        return None;
    }
    let body = start.wrapping_rem(range).wrapping_add(round.wrapping_rem(range).wrapping_mul(STEP)) % range;
    let mut digits = bin.as_bytes().to_vec();
    digits.extend_from_slice(format!("{body:0free$}").get(..free)?.as_bytes());
    digits.push(luhn_check_digit(&digits)?);
    Pan::parse(&digits).ok()
}

/// `None` past the year 2099, which no expiry date can say.
fn some_expiry(entropy: &mut Entropy, from: YearMonth) -> Option<Expiry> {
    let month = u8::try_from(1 + drawn(entropy, 12)).ok()?;
    let years = u16::try_from(1 + drawn(entropy, 4)).ok()?;
    Expiry::of(YearMonth { month, ..from.plus_years(years) })
}

/// `count` shops, each with a terminal of its own.
#[must_use]
pub fn test_merchants(seed: u64, count: usize) -> Vec<TestMerchant> {
    const TRADES: [(&str, u16); 6] = [
        ("Corner Bakery", 5462),
        ("Harbour Books", 5942),
        ("Green Grocer", 5411),
        ("City Cinema", 7832),
        ("North Pharmacy", 5912),
        ("Blue Bicycle", 5940),
    ];
    let mut entropy = Entropy::seeded(seed);
    let shop = |(at, (name, category)): (usize, &(&str, u16))| {
        let (terminal, merchant) = (format!("T{at:07}"), format!("SHOP{at:011}"));
        Some(TestMerchant {
            terminal: TerminalId::parse(terminal.as_bytes()).ok()?,
            merchant: MerchantId::parse(merchant.as_bytes()).ok()?,
            category: MerchantCategory(*category),
            name: Text::parse("merchant name", format!("{name:<25}{:<13}XX", "Testville").as_bytes()).ok()?,
        })
    };
    let first = usize::try_from(drawn(&mut entropy, 6)).unwrap_or_default();
    TRADES.iter().cycle().skip(first).take(count).enumerate().filter_map(shop).collect()
}

/// A number below `bound`. A seeded source never fails.
fn drawn(entropy: &mut Entropy, bound: u64) -> u64 {
    entropy.below(bound).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::maps::Set;
    use crate::vocab::luhn_valid;

    const FROM: YearMonth = YearMonth { year: 2026, month: 11 };

    fn bins(list: &[&str]) -> Vec<Bin> {
        list.iter().map(|bin| Bin::parse(bin.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn cards_lie_in_their_ranges_differ_and_have_check_digits() {
        let bins = bins(&["476173", "622848"]);
        for length in [16, 19] {
            let cards = test_cards(7, &bins, length, FROM, 5_000);
            let numbers: Set<&[u8]> = cards.iter().map(|card| card.pan.expose_digits()).collect();
            assert_eq!(numbers.len(), 5_000);
            for (at, card) in cards.iter().enumerate() {
                let digits = card.pan.expose_digits();
                assert_eq!(digits.len(), length);
                assert!(luhn_valid(digits));
                assert!(bins[at % 2].begins(digits));
                assert!(!card.expiry.is_past(FROM));
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let of = |seed| test_cards(seed, &bins(&["476173"]), 16, FROM, 20);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_eq!(test_merchants(1, 9), test_merchants(1, 9));
    }

    #[test]
    fn a_range_gives_what_it_holds_and_no_more() {
        assert_eq!(test_cards(1, &bins(&["47617390010"]), 13, FROM, 50).len(), 10);
        assert!(
            test_cards(1, &bins(&["476173900101"]), 12, FROM, 50).is_empty(),
            "no room for a check digit"
        );
        assert!(test_cards(1, &[], 16, FROM, 50).is_empty());
    }

    #[test]
    fn a_merchant_has_a_name_of_forty_characters() {
        for merchant in test_merchants(3, 12) {
            assert_eq!(merchant.name.as_bytes().len(), 40);
        }
    }
}

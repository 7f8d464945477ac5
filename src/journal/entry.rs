//! `Entry`, `TransactionEntry`: what is recorded. Words of `vocab` and sealed card data only, so that the TSP, the
//! switch and clearing can all read it. What may never be written down has no place here.

use std::fmt;
use std::sync::Arc;

use crate::crypto::Sealed;
use crate::stdx::clock::Wall;
use crate::vocab::{
    Amount, CounterTaken, Currency, Digits, EnquiryId, Expiry, InstitutionId, LinkId, Mti, Outcome, Par,
    Refusal, ResponseCode, ReversalReason, SentAt, SettlementWindow, ShardId, Stan, Token,
    TokenAssuranceMethod, TokenRequestorId, TransactionId, Verdicts,
};

/// The place of an entry in the journal. The first is 1, none is left out; 0 stands for "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryNumber(pub u64);

impl EntryNumber {
    /// The one that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for EntryNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub number: EntryNumber,
    /// Who wrote it.
    pub shard: ShardId,
    /// When, by the writer's wall clock.
    pub wall_time: Wall,
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Transaction(TransactionEntry),
    /// A token event, in the TSP's own encoding.
    Token(Vec<u8>),
    /// From here on requests are stamped with this window.
    CutOver(SettlementWindow),
    /// Every request that was stamped with this window has an outcome: nothing will be added to it.
    WindowClosed(SettlementWindow),
    /// What a person did, in the console's own encoding.
    Operator(Vec<u8>),
}

/// One step in the life of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionEntry {
    /// Journaled before it is forwarded.
    Request(Box<RequestEntry>),
    /// How it ended, with its reversal in the same durable entry where one is owed.
    Outcome(Box<OutcomeEntry>),
    /// An advice or reversal, acknowledged or owed, that is to be delivered.
    Stored(Box<StoredEntry>),
    /// What came of a stored one.
    Delivered(DeliveredEntry),
    /// A reversal whose original is not known.
    Tombstone(Box<TombstoneEntry>),
    /// An issuer's answer that came too late: it changes nothing.
    Late(LateEntry),
    /// An issuer is about to be asked whether a card may have a token. What it said stands in the token's event.
    Enquiry(EnquiryEntry),
}

/// What names a request on the acquirer's link. Further identifiers stand among its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcquirerLeg {
    pub link: LinkId,
    pub mti: Mti,
    /// DE 7 as received, with its year.
    pub sent_at: SentAt,
    pub stan: Stan,
}

/// What names it on the issuer's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerLeg {
    pub link: LinkId,
    pub mti: Mti,
    pub sent_at: SentAt,
    pub stan: Stan,
    /// DE 33 as sent.
    pub forwarder: Option<InstitutionId>,
}

/// The token of a transaction, as it was when the transaction was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRef {
    pub token: Token,
    /// As the request had it; none if it had none.
    pub expiry: Option<Expiry>,
    pub requestor: TokenRequestorId,
    pub assurance: TokenAssuranceMethod,
    pub par: Option<Par>,
    /// Of the PAN, for the receipt.
    pub last4: Digits<4>,
    /// The vault record's id.
    pub record: u64,
    /// Which of the record's mappings was used: a token may get a successor PAN.
    pub mapping_version: u32,
}

/// The card of a transaction: its PAN, expiry and sequence number, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardRef {
    /// None when the request came with a PAN.
    pub token: Option<TokenRef>,
    /// For a token the vault's own envelope; for a PAN sealed on arrival.
    pub sealed: Sealed,
}

/// A request that is about to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestEntry {
    pub transaction: TransactionId,
    /// The transaction that it refunds, completes or raises.
    pub original: Option<TransactionId>,
    pub acquirer: AcquirerLeg,
    pub issuer: IssuerLeg,
    /// The acquirer's, as received.
    pub elements: Elements,
    pub card: Arc<CardRef>,
    pub verdicts: Verdicts,
    pub counter: Option<CounterTaken>,
    pub window: SettlementWindow,
    /// Whether it can move or hold money, hence must be reversed if no outcome follows.
    pub moves_money: bool,
    /// Whether an approval of it is money owed in its window. A hold (0100) is not, unless its acquirer's capture.
    pub settles: bool,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeEntry {
    pub transaction: TransactionId,
    pub outcome: Outcome,
    /// Why this switch itself said no.
    pub refusal: Option<Refusal>,
    /// What the acquirer is told.
    pub answer: Elements,
    pub approved: Option<Amount>,
    /// Owed to the issuer: durable together with the answer that makes it necessary.
    pub reversal: Option<StoredEntry>,
    /// The payment was approved in the issuer's place: what tells it so, after the reversal of what it may have got.
    pub advice: Option<StoredEntry>,
    /// The vault record and the counter that the issuer found true, where it alone can check the token's cryptograms.
    pub counter: Option<(u64, CounterTaken)>,
}

/// What kind of message is stored and forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredKind {
    Advice,
    /// It tells an issuer what was approved in its place.
    StandIn,
    /// The acquirer asked for it.
    AcquirerReversal,
    /// We owe it.
    OwnReversal(ReversalReason),
}

impl StoredKind {
    /// As the log says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Advice => "advice",
            Self::StandIn => "stand-in",
            Self::AcquirerReversal => "acquirer-reversal",
            Self::OwnReversal(_) => "own-reversal",
        }
    }
}

/// A message that the issuer must get, however long it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its own.
    pub transaction: TransactionId,
    /// The transaction that it completes or reverses.
    pub original: Option<TransactionId>,
    pub kind: StoredKind,
    /// Whose repeat gets the same answer; none when we are the sender.
    pub acquirer: Option<AcquirerLeg>,
    /// With the MTI of a 0120, 0220 or 0420.
    pub issuer: IssuerLeg,
    pub elements: Elements,
    /// DE 90 on the issuer's leg.
    pub original_data: Option<[u8; 42]>,
    pub card: Arc<CardRef>,
    pub verdicts: Verdicts,
    pub window: SettlementWindow,
    /// Whether it is money owed in its window, or takes back what is: as of its original.
    pub settles: bool,
    /// What the acquirer was told: of its reversal, the elements that were its own and not its original's.
    pub answer: Elements,
}

impl StoredEntry {
    /// Whether it takes money back, and is no advice.
    #[must_use]
    pub fn is_reversal(&self) -> bool {
        match self.kind {
            StoredKind::Advice | StoredKind::StandIn => false,
            StoredKind::AcquirerReversal | StoredKind::OwnReversal(_) => true,
        }
    }

    /// Whether it takes back all that its original moved, and not a part of it (DE 95).
    #[must_use]
    pub fn takes_all_back(&self) -> bool {
        self.is_reversal() && self.elements.final_amount().is_none_or(|left| left.minor() == 0)
    }

    /// The transaction that its card is sealed for, if that came with a PAN.
    #[must_use]
    pub fn sealed_for(&self) -> TransactionId {
        self.original.filter(|_| self.kind != StoredKind::Advice).unwrap_or(self.transaction)
    }
}

impl StoredEntry {
    /// DE 11 of what a reversal takes back, on its issuer's link.
    #[must_use]
    pub fn number_taken_back(&self) -> Option<Stan> {
        let data = self.original_data.as_ref().filter(|_| self.is_reversal())?;
        Stan::parse(data.get(4..10)?).ok()
    }

    /// Whether it is a reversal whose DE 90 names that message.
    #[must_use]
    pub fn takes_back(&self, other: &Self) -> bool {
        let IssuerLeg { link, mti, stan, sent_at, .. } = other.issuer;
        let named = self.issuer.link == link && self.number_taken_back() == Some(stan);
        let name = || [&mti.digits()[..], &stan.digits(), &sent_at.transmission_time().digits()].concat();
        named && self.original_data.is_some_and(|data| data.starts_with(&name()))
    }
}

/// How the delivery of a stored message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryEnd {
    Acknowledged(ResponseCode),
    /// Refused for good: on the operator's exception list.
    Parked(ResponseCode),
    /// Neither taken nor refused for so long that it went aside for others: on that list, too. With what its issuer
    /// said last, if anything.
    SetAside(Option<ResponseCode>),
}

/// The end of a stored message's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveredEntry {
    pub stored: TransactionId,
    pub end: DeliveryEnd,
}

/// What a reversal says of its original (DE 90), with the year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginalIdentity {
    pub mti: Mti,
    pub stan: Stan,
    pub sent_at: SentAt,
    pub acquirer: Option<InstitutionId>,
}

/// A reversal whose original is not known: should it come later, it is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TombstoneEntry {
    pub transaction: TransactionId,
    pub acquirer: AcquirerLeg,
    pub original: OriginalIdentity,
    /// The reversal's own elements, which its answer echoes, and by which a repeat of the original is known.
    pub answer: Elements,
}

/// An issuer's answer that came when the transaction was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateEntry {
    pub transaction: TransactionId,
    pub outcome: Outcome,
    pub code: ResponseCode,
}

/// An enquiry that is about to leave. Nothing moves by it, so nothing is owed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnquiryEntry {
    pub transaction: TransactionId,
    pub issuer: IssuerLeg,
    pub requestor: TokenRequestorId,
    /// As the issuer knows it.
    pub enquiry: EnquiryId,
}

/// Data elements that may be written down, and no others: a fixed list decides, so that track data, a PIN block or what
/// a chip said cannot get into the journal by mistake. Of DE 55 only what an issuer says to a chip can, by
/// `keep_word_to_chip`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Elements {
    /// The numbers that are here, a bit each.
    present: u128,
    /// `(number, length, value)` one after the other.
    bytes: Vec<u8>,
}

/// `Elements::KEPT`, a bit each.
#[allow(clippy::indexing_slicing, reason = "a constant: an index out of bounds would not compile")]
const KEPT_BITS: u128 = {
    let (mut bits, mut at) = (0, 0);
    while at < Elements::KEPT.len() {
        bits |= bit(Elements::KEPT[at]);
        at += 1;
    }
    bits
};

/// `KEPT_BITS`, and the element of an issuer's word to a chip.
const READ_BITS: u128 = KEPT_BITS | bit(CHIP);

/// The data element of what chip and issuer say to each other.
const CHIP: u8 = 55;

/// The bit of a data element; 0 for a number that none has.
const fn bit(de: u8) -> u128 {
    if de < 128 { 1 << de } else { 0 }
}

impl Elements {
    /// Every data element that the journal keeps.
    pub const KEPT: [u8; 23] =
        [3, 4, 7, 11, 12, 13, 15, 18, 19, 22, 25, 32, 33, 37, 38, 39, 41, 42, 43, 49, 54, 90, 95];

    /// What the kept elements of a request usually take, and those of an answer; in bytes.
    pub const REQUEST_ROOM: usize = 224;
    pub const ANSWER_ROOM: usize = 48;

    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for elements of `bytes` in all, so that keeping them moves nothing.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        Self { present: 0, bytes: Vec::with_capacity(bytes) }
    }

    /// Keeps `value` under the data element `de`, in place of an earlier one. False, and nothing kept, when the
    /// element is not on the list or the value is longer than 255 bytes (the longest on the list is DE 54 with
    /// 120).
    #[inline]
    pub fn keep(&mut self, de: u8, value: &[u8]) -> bool {
        KEPT_BITS & bit(de) != 0 && self.put(de, value)
    }

    /// Keeps, as DE 55, what an issuer says to a chip: the items of tags 91, 71, 72 and 8A, which name no card. False,
    /// and nothing kept, when it is longer than 255 bytes.
    pub fn keep_word_to_chip(&mut self, items: &[u8]) -> bool {
        self.put(CHIP, items)
    }

    #[inline]
    fn put(&mut self, de: u8, value: &[u8]) -> bool {
        let (Ok(length), bit) = (u8::try_from(value.len()), bit(de)) else { return false };
        if self.present & bit != 0 {
            self.drop_element(de);
        }
        self.present |= bit;
        self.bytes.extend_from_slice(&[de, length]);
        self.bytes.extend_from_slice(value);
        true
    }

    /// Takes over all of `other`, in place of what is here under the same numbers.
    pub fn extend(&mut self, other: &Self) {
        for (de, value) in other.iter() {
            self.put(de, value);
        }
    }

    #[must_use]
    pub fn get(&self, de: u8) -> Option<&[u8]> {
        if self.present & bit(de) == 0 {
            return None;
        }
        self.iter().find(|(number, _)| *number == de).map(|(_, value)| value)
    }

    /// DE 4 in the currency of DE 49.
    #[must_use]
    pub fn amount(&self) -> Option<Amount> {
        Amount::parse(self.get(4)?, self.currency()?).ok()
    }

    /// DE 95, field 1: what is to stand once the reversal is done.
    #[must_use]
    pub fn final_amount(&self) -> Option<Amount> {
        Amount::parse(self.get(95)?.get(..12)?, self.currency()?).ok()
    }

    /// Makes DE 95, where there is one, say that nothing is to stand.
    pub fn leave_nothing(&mut self) {
        if let Some(mut amounts) = self.get(95).map(<[u8]>::to_vec) {
            amounts.iter_mut().take(12).for_each(|digit| *digit = b'0');
            self.keep(95, &amounts);
        }
    }

    fn currency(&self) -> Option<Currency> {
        Currency::parse(self.get(49)?).ok()
    }

    /// The elements in the order they were kept.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (&[de, length], tail) = rest.split_first_chunk()?;
            let (value, tail) = tail.split_at_checked(usize::from(length))?;
            rest = tail;
            Some((de, value))
        })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// As they are written down.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// From what `as_bytes` gave; `None` when it is not that.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut found = Self { present: 0, bytes: bytes.to_vec() };
        let (mut present, mut length) = (0, 0);
        for (de, value) in found.iter() {
            if READ_BITS & bit(de) == 0 {
                return None;
            }
            present |= bit(de);
            length += 2 + value.len();
        }
        found.present = present;
        (length == bytes.len()).then_some(found)
    }

    fn drop_element(&mut self, de: u8) {
        self.present &= !bit(de);
        let mut at = 0;
        let mut found = None;
        for (number, value) in self.iter() {
            if number == de {
                found = Some(at..at + 2 + value.len());
            }
            at += 2 + value.len();
        }
        if let Some(range) = found {
            self.bytes.drain(range);
        }
    }
}

impl fmt::Debug for Elements {
    /// Numbers only: what stands in free text is the peer's, and may be anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(de, _)| de)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_elements_are_kept() {
        let mut elements = Elements::new();
        for de in 0..=u8::MAX {
            assert_eq!(elements.keep(de, b"x"), Elements::KEPT.contains(&de), "DE {de}");
        }
        for never in [2, 14, 23, 34, 35, 36, 45, 48, 52, 53, 55, 62, 63, 64, 120, 128] {
            assert_eq!(elements.get(never), None, "DE {never}");
        }
        assert!(!elements.keep(54, &[b'0'; 256]), "too long to be one");
    }

    #[test]
    fn an_issuer_s_word_to_a_chip_is_kept_when_it_is_called_so() {
        let mut elements = Elements::new();
        assert!(elements.keep(39, b"00") && elements.keep_word_to_chip(&[0x8A, 2, b'0', b'0']));
        let mut taken_over = Elements::new();
        taken_over.extend(&elements);
        assert_eq!(taken_over.get(55), Some(&[0x8A, 2, b'0', b'0'][..]));
        assert_eq!(Elements::from_bytes(taken_over.as_bytes()), Some(taken_over));
        assert!(!elements.keep_word_to_chip(&[0; 256]));
    }

    #[test]
    fn a_later_value_takes_the_place_of_an_earlier_one() {
        let mut elements = Elements::new();
        elements.keep(39, b"00");
        elements.keep(38, b"ABC123");
        elements.keep(39, b"91");
        assert_eq!(elements.get(39), Some(&b"91"[..]));
        assert_eq!(elements.get(38), Some(&b"ABC123"[..]));
        assert_eq!(elements.iter().count(), 2);
        assert_eq!(Elements::from_bytes(elements.as_bytes()), Some(elements));
    }

    #[test]
    fn bytes_that_are_no_elements_are_refused() {
        for bad in [&[39][..], &[39, 3, b'0'], &[35, 1, b'0'], &[39, 1, b'0', 7]] {
            assert_eq!(Elements::from_bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn values_are_not_printed() {
        let mut elements = Elements::new();
        elements.keep(43, b"4761739001010119");
        assert_eq!(format!("{elements:?}"), "{43}");
    }
}

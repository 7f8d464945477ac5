//! The binary layout of an entry, version 5; version 4 is read, too. All numbers are little-endian; a text or byte
//! string has its length in front; an optional value has 0 or 1 in front. Once written, a number or letter here never
//! changes its meaning: what must change gets a new version.

use std::sync::Arc;

use super::entry::{
    AcquirerLeg, Body, CardRef, DeliveredEntry, DeliveryEnd, Elements, EnquiryEntry, Entry, EntryNumber,
    IssuerLeg, LateEntry, OriginalIdentity, OutcomeEntry, RequestEntry, StoredEntry, StoredKind, TokenRef,
    TombstoneEntry, TransactionEntry,
};
use crate::crypto::Sealed;
use crate::stdx::clock::Wall;
use crate::vocab::{
    Amount, BusinessDate, CounterSeries, CounterTaken, Currency, Digits, EnquiryId, Expiry, InstitutionId,
    LinkId, Mti, Outcome, Par, Refusal, ResponseCode, ReversalReason, SentAt, Service, SettlementWindow,
    ShardId, Stan, Token, TokenAssuranceMethod, TokenRequestorId, TransactionId, VerdictResult, Verdicts,
};

/// The layout that this program writes.
const VERSION: u8 = 5;

/// The oldest that it reads. Its answers hold no word to a chip, and its outcomes no counter.
const OLDEST: u8 = 4;

/// Why bytes are no entry. It never repeats them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no valid {what} at byte {at} of the entry")]
pub struct LayoutError {
    pub what: &'static str,
    pub at: usize,
}

impl Entry {
    /// Appends the entry's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_parts(self.number, self.shard, self.wall_time, &self.body, out);
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// `LayoutError` for an unknown version, a value that cannot be, or bytes too few or too many.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Take { bytes, at: 0, version: VERSION };
        from.version = u8::take(&mut from)?;
        if !(OLDEST..=VERSION).contains(&from.version) {
            return Err(LayoutError { what: "layout version", at: 0 });
        }
        let entry = Self {
            number: Field::take(&mut from)?,
            shard: Field::take(&mut from)?,
            wall_time: Field::take(&mut from)?,
            body: Field::take(&mut from)?,
        };
        if from.at == bytes.len() { Ok(entry) } else { Err(from.wrong("end")) }
    }
}

/// As `Entry::encode`, for a body that is not in an `Entry` yet.
pub(super) fn encode_parts(
    number: EntryNumber,
    shard: ShardId,
    wall_time: Wall,
    body: &Body,
    out: &mut Vec<u8>,
) {
    VERSION.put(out);
    number.put(out);
    shard.put(out);
    wall_time.put(out);
    body.put(out);
}

/// Bytes being read.
struct Take<'a> {
    bytes: &'a [u8],
    at: usize,
    version: u8,
}

impl<'a> Take<'a> {
    fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], LayoutError> {
        let end = self.at.checked_add(length);
        let found =
            end.and_then(|end| self.bytes.get(self.at..end)).ok_or(LayoutError { what, at: self.at })?;
        self.at += length;
        Ok(found)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], LayoutError> {
        let at = self.at;
        self.bytes(N, what)?.try_into().map_err(|_| LayoutError { what, at })
    }

    fn short(&mut self, what: &'static str) -> Result<&'a [u8], LayoutError> {
        let length = u8::take(self)?;
        self.bytes(usize::from(length), what)
    }

    fn wrong(&self, what: &'static str) -> LayoutError {
        LayoutError { what, at: self.at }
    }
}

/// A value with a place in the layout.
trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError>;
}

macro_rules! numbers {
    ($($name:ty)*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
                from.array("number").map(Self::from_le_bytes)
            }
        }
    )*};
}

/// Types around one number.
macro_rules! wrapped {
    ($($name:ident)*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }

            fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
                Field::take(from).map(Self)
            }
        }
    )*};
}

/// Texts of changing length, with that length in front.
macro_rules! texts {
    ($($name:ident)*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                put_short(self.as_bytes(), out);
            }

            fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
                let at = from.at;
                let text = from.short(stringify!($name))?;
                Self::parse(text).map_err(|_| LayoutError { what: stringify!($name), at })
            }
        }
    )*};
}

/// Words of a fixed number of digits, as messages write them.
macro_rules! digits {
    ($($name:ident: $length:literal)*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.digits());
            }

            fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
                let at = from.at;
                let digits = from.bytes($length, stringify!($name))?;
                Self::parse(digits).map_err(|_| LayoutError { what: stringify!($name), at })
            }
        }
    )*};
}

/// Enumerations without contents, each variant under its number.
macro_rules! codes {
    ($($name:ident { $($variant:ident = $code:literal)* })*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$variant => $code,)* });
            }

            fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
                let at = from.at;
                match u8::take(from)? {
                    $($code => Ok(Self::$variant),)*
                    _ => Err(LayoutError { what: stringify!($name), at }),
                }
            }
        }
    )*};
}

/// Structures, field after field in the order given here.
macro_rules! structures {
    ($($name:ident { $($field:ident)* })*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
                Ok(Self { $($field: Field::take(from)?,)* })
            }
        }
    )*};
}

/// Enumerations whose variants hold one value, each under its number.
macro_rules! choices {
    ($($name:ident { $($variant:ident = $code:literal)* })*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(value) => {
                        out.push($code);
                        value.put(out);
                    })*
                }
            }

            fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
                let at = from.at;
                match u8::take(from)? {
                    $($code => Field::take(from).map(Self::$variant),)*
                    _ => Err(LayoutError { what: stringify!($name), at }),
                }
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 }
wrapped! { EntryNumber ShardId Wall LinkId SentAt TransactionId EnquiryId }
texts! { InstitutionId Token TokenRequestorId Par ResponseCode }
digits! { Mti: 4 Stan: 6 Expiry: 4 TokenAssuranceMethod: 2 Currency: 3 }

codes! {
    Outcome { Approved = 1 ApprovedPartly = 2 Declined = 3 RetryLater = 4 Unknown = 5 }
    ReversalReason {
        Requested = 1 TimedOut = 2 LinkLost = 3 AnswerInvalid = 4 Undelivered = 5 Recovered = 6
        PartialNotSupported = 7 LeakSuppressed = 8 UnlistedCode = 9 SaidUnknown = 10
    }
}

choices! {
    Body { Transaction = 1 Token = 2 CutOver = 3 Operator = 4 WindowClosed = 5 }
    TransactionEntry { Request = 1 Outcome = 2 Stored = 3 Delivered = 4 Tombstone = 5 Late = 6 Enquiry = 64 }
    DeliveryEnd { Acknowledged = 1 Parked = 2 SetAside = 50 }
}

structures! {
    AcquirerLeg { link mti sent_at stan }
    IssuerLeg { link mti sent_at stan forwarder }
    TokenRef { token expiry requestor assurance par last4 record mapping_version }
    CardRef { token sealed }
    RequestEntry {
        transaction original acquirer issuer elements card verdicts counter window moves_money settles
    }
    StoredEntry {
        transaction original kind acquirer issuer elements original_data card verdicts window settles answer
    }
    DeliveredEntry { stored end }
    OriginalIdentity { mti stan sent_at acquirer }
    TombstoneEntry { transaction acquirer original answer }
    LateEntry { transaction outcome code }
    EnquiryEntry { transaction issuer requestor enquiry }
    SettlementWindow { date sequence }
    BusinessDate { year month day }
}

fn put_short(bytes: &[u8], out: &mut Vec<u8>) {
    // Every word of vocab is far shorter than 255; a longer one could not be read back, so nothing of it is kept.
    let length = u8::try_from(bytes.len()).unwrap_or_default();
    out.push(length);
    out.extend(bytes.iter().take(usize::from(length)));
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        from.array("bytes")
    }
}

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        let at = from.at;
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(LayoutError { what: "yes or no", at }),
        }
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        bool::take(from)?.then(|| T::take(from)).transpose()
    }
}

impl<T: Field> Field for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        T::take(from).map(Self::new)
    }
}

impl<T: Field> Field for Arc<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        T::take(from).map(Self::new)
    }
}

impl Field for OutcomeEntry {
    fn put(&self, out: &mut Vec<u8>) {
        self.transaction.put(out);
        self.outcome.put(out);
        self.refusal.put(out);
        self.answer.put(out);
        self.approved.put(out);
        self.reversal.put(out);
        self.advice.put(out);
        self.counter.put(out);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            transaction: Field::take(from)?,
            outcome: Field::take(from)?,
            refusal: Field::take(from)?,
            answer: Field::take(from)?,
            approved: Field::take(from)?,
            reversal: Field::take(from)?,
            advice: Field::take(from)?,
            counter: if from.version > OLDEST { Field::take(from)? } else { None },
        })
    }
}

impl Field for (u64, CounterTaken) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        Ok((Field::take(from)?, Field::take(from)?))
    }
}

impl Field for Vec<u8> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        let length = usize::try_from(u32::take(from)?).unwrap_or(usize::MAX);
        from.bytes(length, "byte string").map(<[u8]>::to_vec)
    }
}

impl Field for Elements {
    fn put(&self, out: &mut Vec<u8>) {
        // 24 elements of at most 257 bytes.
        u16::try_from(self.as_bytes().len()).unwrap_or_default().put(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        let at = from.at;
        let length = u16::take(from)?;
        let bytes = from.bytes(usize::from(length), "elements")?;
        let elements = Self::from_bytes(bytes);
        let elements = elements.filter(|it| from.version > OLDEST || it.get(55).is_none());
        elements.ok_or(LayoutError { what: "elements", at })
    }
}

impl Field for Sealed {
    fn put(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        let wrong = from.wrong("sealed card data");
        let bytes = from.bytes.get(from.at..).ok_or(wrong)?;
        let (sealed, rest) = Self::decode(bytes).map_err(|_| wrong)?;
        from.at = from.bytes.len() - rest.len();
        Ok(sealed)
    }
}

impl Field for Digits<4> {
    fn put(&self, out: &mut Vec<u8>) {
        put_short(self.as_bytes(), out);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        let at = from.at;
        Self::parse("last four", from.short("last four")?, 0)
            .map_err(|_| LayoutError { what: "last four", at })
    }
}

impl Field for Refusal {
    /// By name: a refusal's place among the others may change, its name may not.
    fn put(&self, out: &mut Vec<u8>) {
        put_short(self.name().as_bytes(), out);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        let at = from.at;
        let name = from.short("refusal")?;
        std::str::from_utf8(name).ok().and_then(Self::from_name).ok_or(LayoutError { what: "refusal", at })
    }
}

impl Field for Amount {
    fn put(&self, out: &mut Vec<u8>) {
        self.minor().put(out);
        self.currency().put(out);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        Ok(Self::new(Field::take(from)?, Field::take(from)?))
    }
}

/// No chip's counter is 0 or FFFF: in front of a number the one says that it is a remote cryptogram's, the other that
/// it was signed with a limited-use key.
const REMOTE: u16 = 0;
const LIMITED: u16 = u16::MAX;

impl Field for CounterTaken {
    fn put(&self, out: &mut Vec<u8>) {
        match self.series {
            CounterSeries::Chip => {}
            CounterSeries::Limited => LIMITED.put(out),
            CounterSeries::Remote => REMOTE.put(out),
        }
        self.atc.put(out);
        self.cryptogram.put(out);
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        let (series, atc) = match u16::take(from)? {
            REMOTE => (CounterSeries::Remote, Field::take(from)?),
            LIMITED => (CounterSeries::Limited, Field::take(from)?),
            atc => (CounterSeries::Chip, atc),
        };
        Ok(Self { series, atc, cryptogram: Field::take(from)? })
    }
}

impl Field for Verdicts {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.iter().count()).unwrap_or_default());
        for verdict in self.iter() {
            out.extend_from_slice(&[verdict.service as u8, verdict.result as u8]);
        }
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        let mut verdicts = Self::default();
        for _ in 0..u8::take(from)? {
            let at = from.at;
            let [service, result] = from.array("verdict")?;
            match (Service::from_letter(service), VerdictResult::from_letter(result)) {
                (Some(service), Some(result)) => verdicts.note(service, result),
                _ => return Err(LayoutError { what: "verdict", at }),
            }
        }
        Ok(verdicts)
    }
}

impl Field for StoredKind {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Advice => out.push(1),
            Self::AcquirerReversal => out.push(2),
            Self::OwnReversal(reason) => {
                out.push(3);
                reason.put(out);
            }
            Self::StandIn => out.push(4),
        }
    }

    fn take(from: &mut Take<'_>) -> Result<Self, LayoutError> {
        let at = from.at;
        match u8::take(from)? {
            1 => Ok(Self::Advice),
            2 => Ok(Self::AcquirerReversal),
            3 => Field::take(from).map(Self::OwnReversal),
            4 => Ok(Self::StandIn),
            _ => Err(LayoutError { what: "kind", at }),
        }
    }
}

#[cfg(test)]
pub(super) mod samples {
    //! Entries made by proptest, of every kind.
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn entry() -> impl Strategy<Value = Entry> {
        (any::<u64>(), any::<u8>(), any::<u64>(), body()).prop_map(|(number, shard, wall, body)| Entry {
            number: EntryNumber(number),
            shard: ShardId(shard),
            wall_time: Wall(wall),
            body,
        })
    }

    pub(crate) fn body() -> impl Strategy<Value = Body> {
        prop_oneof![
            transaction().prop_map(Body::Transaction),
            proptest::collection::vec(any::<u8>(), 0..200).prop_map(Body::Token),
            window().prop_map(Body::CutOver),
            window().prop_map(Body::WindowClosed),
            proptest::collection::vec(any::<u8>(), 0..50).prop_map(Body::Operator),
        ]
    }

    fn transaction() -> impl Strategy<Value = TransactionEntry> {
        prop_oneof![
            request().prop_map(|r| TransactionEntry::Request(Box::new(r))),
            outcome().prop_map(|o| TransactionEntry::Outcome(Box::new(o))),
            stored().prop_map(|s| TransactionEntry::Stored(Box::new(s))),
            (any::<u64>(), 0..4, "[0-9]{2}").prop_map(|(stored, end, code)| {
                let code = ResponseCode::parse(code.as_bytes()).unwrap();
                let end = match end {
                    0 => DeliveryEnd::Acknowledged(code),
                    1 => DeliveryEnd::Parked(code),
                    2 => DeliveryEnd::SetAside(Some(code)),
                    _ => DeliveryEnd::SetAside(None),
                };
                TransactionEntry::Delivered(DeliveredEntry { stored: TransactionId(stored), end })
            }),
            tombstone().prop_map(|t| TransactionEntry::Tombstone(Box::new(t))),
            (any::<u64>(), an_outcome(), "[0-9A-Z]{2,3}").prop_map(|(id, outcome, code)| {
                let code = ResponseCode::parse(code.as_bytes()).unwrap();
                TransactionEntry::Late(LateEntry { transaction: TransactionId(id), outcome, code })
            }),
            (any::<u64>(), issuer(), any::<[u8; 8]>()).prop_map(|(id, issuer, enquiry)| {
                let requestor = TokenRequestorId::parse(b"00000000001").unwrap();
                let (transaction, enquiry) = (TransactionId(id), EnquiryId(enquiry));
                TransactionEntry::Enquiry(EnquiryEntry { transaction, issuer, requestor, enquiry })
            }),
        ]
    }

    fn an_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Approved),
            Just(Outcome::ApprovedPartly),
            Just(Outcome::Declined),
            Just(Outcome::RetryLater),
            Just(Outcome::Unknown),
        ]
    }

    fn mti() -> impl Strategy<Value = Mti> {
        "[0-2][1-8][0-5][0-5]".prop_map(|digits| Mti::parse(digits.as_bytes()).unwrap())
    }

    fn stan() -> impl Strategy<Value = Stan> {
        (0..=Stan::MOST).prop_map(|number| Stan::new(number).unwrap())
    }

    fn institution() -> impl Strategy<Value = InstitutionId> {
        "[0-9]{1,11}".prop_map(|digits| InstitutionId::parse(digits.as_bytes()).unwrap())
    }

    fn window() -> impl Strategy<Value = SettlementWindow> {
        (any::<u16>(), 1_u8..=12, 1_u8..=31, any::<u16>()).prop_map(|(year, month, day, sequence)| {
            SettlementWindow { date: BusinessDate { year, month, day }, sequence }
        })
    }

    pub(crate) fn acquirer() -> impl Strategy<Value = AcquirerLeg> {
        (any::<u16>(), mti(), any::<u64>(), stan()).prop_map(|(link, mti, sent_at, stan)| AcquirerLeg {
            link: LinkId(link),
            mti,
            sent_at: SentAt(sent_at),
            stan,
        })
    }

    fn issuer() -> impl Strategy<Value = IssuerLeg> {
        (acquirer(), proptest::option::of(institution())).prop_map(|(leg, forwarder)| IssuerLeg {
            link: leg.link,
            mti: leg.mti,
            sent_at: leg.sent_at,
            stan: leg.stan,
            forwarder,
        })
    }

    fn elements() -> impl Strategy<Value = Elements> {
        let element = (0..Elements::KEPT.len(), proptest::collection::vec(any::<u8>(), 0..60));
        proptest::collection::vec(element, 0..12).prop_map(|list| {
            let mut elements = Elements::new();
            for (at, value) in list {
                assert!(elements.keep(Elements::KEPT[at], &value));
            }
            elements
        })
    }

    fn card() -> impl Strategy<Value = CardRef> {
        let sealed = (any::<u16>(), any::<[u8; 12]>(), proptest::collection::vec(any::<u8>(), 17..64))
            .prop_map(|(version, nonce, bytes)| Sealed::from_parts(version, nonce, &bytes).unwrap());
        let token = (
            "[1-9][0-9]{11,18}",
            proptest::option::of((0_u16..100, 1_u8..=12)),
            "[0-9]{11}",
            0_u8..100,
            proptest::option::of("[A-Z0-9]{29}"),
            any::<u64>(),
            any::<u32>(),
        );
        let token = token.prop_map(|(digits, expiry, requestor, assurance, par, record, version)| {
            let token = Token::parse(digits.as_bytes()).unwrap();
            TokenRef {
                token,
                expiry: expiry.map(|(y, m)| Expiry::parse(format!("{y:02}{m:02}").as_bytes()).unwrap()),
                requestor: TokenRequestorId::parse(requestor.as_bytes()).unwrap(),
                assurance: TokenAssuranceMethod::parse(format!("{assurance:02}").as_bytes()).unwrap(),
                par: par.map(|par| Par::parse(par.as_bytes()).unwrap()),
                last4: token.last4(),
                record,
                mapping_version: version,
            }
        });
        (proptest::option::of(token), sealed).prop_map(|(token, sealed)| CardRef { token, sealed })
    }

    fn verdicts() -> impl Strategy<Value = Verdicts> {
        let letters = "MESRDCAV".as_bytes().to_vec();
        proptest::collection::vec((0_usize..8, 0_usize..4), 0..10).prop_map(move |list| {
            let mut verdicts = Verdicts::default();
            for (service, result) in list {
                let service = Service::from_letter(letters[service]).unwrap();
                verdicts.note(service, VerdictResult::from_letter(b"VINU"[result]).unwrap());
            }
            verdicts
        })
    }

    pub(crate) fn request() -> impl Strategy<Value = RequestEntry> {
        let counter = proptest::option::of(counter());
        (
            (any::<u64>(), proptest::option::of(any::<u64>()), acquirer(), issuer(), elements()),
            (card(), verdicts(), counter, window(), any::<[bool; 2]>()),
        )
            .prop_map(
                |(
                    (id, original, acquirer, issuer, elements),
                    (card, verdicts, counter, window, [moves_money, settles]),
                )| {
                    RequestEntry {
                        transaction: TransactionId(id),
                        original: original.map(TransactionId),
                        acquirer,
                        issuer,
                        elements,
                        card: card.into(),
                        verdicts,
                        counter,
                        window,
                        moves_money,
                        settles,
                    }
                },
            )
    }

    pub(crate) fn outcome() -> impl Strategy<Value = OutcomeEntry> {
        let refusal = proptest::option::of(0..Refusal::ALL.len());
        let counter = proptest::option::of((any::<u64>(), counter()));
        let approved = (proptest::option::of(any::<u64>()), counter);
        let owed = [0, 1].map(|_| proptest::option::of(stored()));
        (any::<u64>(), an_outcome(), refusal, answer(), approved, owed).prop_map(
            |(id, outcome, refusal, answer, (approved, counter), [reversal, advice])| OutcomeEntry {
                transaction: TransactionId(id),
                outcome,
                refusal: refusal.map(|at| Refusal::ALL[at]),
                answer,
                approved: approved.map(|minor| Amount::new(minor, Currency::from_letters("EUR").unwrap())),
                reversal,
                advice,
                counter,
            },
        )
    }

    fn counter() -> impl Strategy<Value = CounterTaken> {
        (0..3_usize, 1..u16::MAX, any::<[u8; 8]>()).prop_map(|(series, atc, cryptogram)| {
            let series = [CounterSeries::Chip, CounterSeries::Limited, CounterSeries::Remote][series];
            CounterTaken { series, atc, cryptogram }
        })
    }

    fn answer() -> impl Strategy<Value = Elements> {
        let word = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        (elements(), word).prop_map(|(mut elements, word)| {
            assert!(word.is_none_or(|word| elements.keep_word_to_chip(&word)));
            elements
        })
    }

    pub(crate) fn stored() -> impl Strategy<Value = StoredEntry> {
        let kind = prop_oneof![
            Just(StoredKind::Advice),
            Just(StoredKind::AcquirerReversal),
            Just(StoredKind::StandIn),
            Just(StoredKind::OwnReversal(ReversalReason::TimedOut)),
            Just(StoredKind::OwnReversal(ReversalReason::UnlistedCode)),
            Just(StoredKind::OwnReversal(ReversalReason::SaidUnknown)),
        ];
        (
            (any::<u64>(), proptest::option::of(any::<u64>()), kind, proptest::option::of(acquirer())),
            (issuer(), elements(), proptest::option::of(any::<[u8; 42]>()), card()),
            (verdicts(), window(), any::<bool>(), elements()),
        )
            .prop_map(|((id, original, kind, acquirer), (issuer, elements, data, card), rest)| {
                let (verdicts, window, settles, answer) = rest;
                StoredEntry {
                    transaction: TransactionId(id),
                    original: original.map(TransactionId),
                    kind,
                    acquirer,
                    issuer,
                    elements,
                    original_data: data,
                    card: card.into(),
                    verdicts,
                    window,
                    settles,
                    answer,
                }
            })
    }

    fn tombstone() -> impl Strategy<Value = TombstoneEntry> {
        (any::<u64>(), acquirer(), acquirer(), proptest::option::of(institution()), elements()).prop_map(
            |(id, acquirer, original, institution, answer)| TombstoneEntry {
                transaction: TransactionId(id),
                acquirer,
                original: OriginalIdentity {
                    mti: original.mti,
                    stan: original.stan,
                    sent_at: original.sent_at,
                    acquirer: institution,
                },
                answer,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_entry_comes_back_the_same(entry in samples::entry()) {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
        }

        #[test]
        fn shortened_or_lengthened_bytes_are_no_entry(entry in samples::entry()) {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            for length in 0..bytes.len() {
                prop_assert!(Entry::decode(&bytes[..length]).is_err());
            }
            bytes.push(0);
            prop_assert!(Entry::decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_it_fail_badly(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Entry::decode(&bytes);
        }
    }

    #[test]
    fn every_refusal_can_be_written_and_read() {
        for refusal in Refusal::ALL {
            let mut bytes = Vec::new();
            refusal.put(&mut bytes);
            let mut from = Take { bytes: &bytes, at: 0, version: VERSION };
            assert_eq!(Refusal::take(&mut from), Ok(*refusal));
        }
    }

    #[test]
    fn an_outcome_of_version_4_is_read_and_holds_nothing_newer() {
        let mut answer = Elements::new();
        answer.keep(39, b"00");
        let counter = CounterTaken { series: CounterSeries::Chip, atc: 7, cryptogram: [8; 8] };
        let outcome = OutcomeEntry {
            transaction: TransactionId(1),
            outcome: Outcome::Approved,
            refusal: None,
            answer,
            approved: None,
            reversal: None,
            advice: None,
            counter: None,
        };
        let entry = |outcome: &OutcomeEntry| {
            let outcome = TransactionEntry::Outcome(Box::new(outcome.clone()));
            let body = Body::Transaction(outcome);
            Entry { number: EntryNumber(7), shard: ShardId(1), wall_time: Wall(2), body }
        };
        let written = |outcome: &OutcomeEntry| {
            let mut bytes = Vec::new();
            entry(outcome).encode(&mut bytes);
            bytes
        };
        let mut old = written(&outcome);
        old[0] = 4;
        assert_eq!(old.pop(), Some(0), "no counter");
        assert_eq!(Entry::decode(&old), Ok(entry(&outcome)));
        let mut new = written(&OutcomeEntry { counter: Some((3, counter)), ..outcome.clone() });
        new[0] = 4;
        assert!(Entry::decode(&new).is_err());
        let mut worded = outcome;
        worded.answer.keep_word_to_chip(&[0x8A, 2, b'0', b'0']);
        let mut new = written(&worded);
        assert!(Entry::decode(&new).is_ok());
        new.pop();
        new[0] = 4;
        assert_eq!(Entry::decode(&new).unwrap_err().what, "elements");
    }

    #[test]
    fn the_layout_stays_as_it_is() {
        let entry = Entry {
            number: EntryNumber(7),
            shard: ShardId(1),
            wall_time: Wall(2),
            body: Body::CutOver(SettlementWindow {
                date: BusinessDate { year: 2026, month: 11, day: 22 },
                sequence: 3,
            }),
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(hex::encode(&bytes), "050700000000000000010200000000000000".to_owned() + "03ea070b160300");
        bytes[0] = 4;
        assert_eq!(Entry::decode(&bytes), Ok(entry), "as it was before");
        bytes[0] = 3;
        assert_eq!(Entry::decode(&bytes), Err(LayoutError { what: "layout version", at: 0 }));
    }
}

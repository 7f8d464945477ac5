//! `TokenEvent`: everything that can happen to a token, each with its cause, and its encoding in the journal, which
//! nobody else reads or writes.
//!
//! Layout, version 2: numbers little-endian; texts with one byte of length in front; an optional value with 0 or 1
//! in front. Version 1 had no `cryptogram_required`. Once written, a number here never changes its meaning; what must change gets a new version.

use crate::crypto::Sealed;
use crate::stdx::clock::Wall;
use crate::vocab::{
    Amount, Currency, Digits, Expiry, LinkId, MerchantCategory, MerchantId, Par, Text, Token,
    TokenAssuranceMethod, TokenLocation, TokenReferenceId, TokenRequestorId, WordError,
};

use super::controls::{DomainControls, EntryModes, Merchant};
use super::lifecycle::{Lifecycle, Move, Suspenders, TokenStatus};
use super::record::VaultRecord;

const VERSION: u8 = 2;

/// A requestor's own name for one request: 1 to 64 printable characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Text<64>);

impl RequestId {
    /// Takes 1 to 64 printable ASCII characters.
    ///
    /// # Errors
    /// `Length` or `NotPrintable`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "request id";
        if bytes.is_empty() {
            let fault = crate::vocab::WordFault::Length { length: 0, least: 1, most: 64 };
            return Err(WordError { word, fault });
        }
        Text::parse(word, bytes).map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Who asked, with which request, and why: audit, idempotency and notifications are all views of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub actor: Actor,
    pub requestor: TokenRequestorId,
    pub request_id: RequestId,
    /// SHA-256 of the request as it was understood.
    pub body_digest: [u8; 32],
    /// In the caller's words; may be empty.
    pub reason: Text<32>,
}

/// Whose decision it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Actor {
    TokenRequestor = 1,
    /// The token requestor passes on what the cardholder wants.
    Cardholder = 2,
}

/// Something that happened to a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEvent {
    pub cause: Cause,
    pub change: Change,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Issued(Box<VaultRecord>),
    /// A move that was asked for, and where the token stands after it: nowhere else, if it stood there already.
    Moved {
        record: u64,
        asked: Move,
        lifecycle: Lifecycle,
    },
}

impl Change {
    /// The record it is about.
    #[must_use]
    pub fn record(&self) -> u64 {
        match self {
            Self::Issued(record) => record.record,
            Self::Moved { record, .. } => *record,
        }
    }
}

impl TokenEvent {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION]);
        let cause = &self.cause;
        out.byte(cause.actor as u8);
        out.bytes(cause.requestor.as_bytes());
        out.text(cause.request_id.as_str().as_bytes());
        out.bytes(&cause.body_digest);
        out.text(cause.reason.as_bytes());
        match &self.change {
            Change::Issued(record) => {
                out.byte(1);
                put_record(&mut out, record);
            }
            Change::Moved { record, asked, lifecycle } => {
                out.byte(2);
                out.bytes(&record.to_le_bytes());
                let (kind, by) = asked.code();
                out.bytes(&[kind, by]);
                out.bytes(&write_lifecycle(lifecycle));
            }
        }
        out.0
    }

    /// Reads what `encode` wrote; none for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::open(bytes)?;
        let actor = match from.byte()? {
            1 => Actor::TokenRequestor,
            2 => Actor::Cardholder,
            _ => return None,
        };
        let cause = Cause {
            actor,
            requestor: TokenRequestorId::parse(from.take(11)?).ok()?,
            request_id: RequestId::parse(from.text()?).ok()?,
            body_digest: from.array()?,
            reason: Text::parse("reason", from.text()?).ok()?,
        };
        let change = match from.byte()? {
            1 => Change::Issued(Box::new(take_record(&mut from)?)),
            2 => Change::Moved {
                record: u64::from_le_bytes(from.array()?),
                asked: from.array().and_then(|[kind, by]| Move::from_code(kind, by))?,
                lifecycle: from.array().and_then(read_lifecycle)?,
            },
            _ => return None,
        };
        from.bytes.is_empty().then_some(Self { cause, change })
    }
}

/// A record by itself, for the checkpoint.
pub(super) fn encode_record(record: &VaultRecord) -> Vec<u8> {
    let mut out = Writer(vec![VERSION]);
    put_record(&mut out, record);
    out.0
}

pub(super) fn decode_record(bytes: &[u8]) -> Option<VaultRecord> {
    let mut from = Reader::open(bytes)?;
    let record = take_record(&mut from)?;
    from.bytes.is_empty().then_some(record)
}

/// Status, suspenders and version, in six bytes.
pub(super) fn write_lifecycle(lifecycle: &Lifecycle) -> [u8; 6] {
    let [a, b, c, d] = lifecycle.version.to_le_bytes();
    [lifecycle.status.code(), lifecycle.suspenders.bits(), a, b, c, d]
}

pub(super) fn read_lifecycle([status, suspenders, version @ ..]: [u8; 6]) -> Option<Lifecycle> {
    Some(Lifecycle {
        status: TokenStatus::from_code(status)?,
        suspenders: Suspenders::from_bits(suspenders)?,
        version: u32::from_le_bytes(version),
    })
}

fn put_record(out: &mut Writer, record: &VaultRecord) {
    out.bytes(&record.record.to_le_bytes());
    out.text(record.token.as_bytes());
    out.bytes(&record.expiry.digits());
    out.bytes(&record.reference.to_bytes());
    out.optional(record.par.as_ref(), |out, par| out.bytes(par.as_bytes()));
    out.bytes(record.requestor.as_bytes());
    out.bytes(&record.assurance.digits());
    out.byte(record.location.code());
    out.bytes(record.last4.as_bytes());
    record.sealed.encode(&mut out.0);
    out.bytes(&record.blind_index);
    out.bytes(&record.mapping_version.to_le_bytes());
    put_controls(out, &record.controls);
    out.bytes(&write_lifecycle(&record.lifecycle));
    out.bytes(&record.issued_at.0.to_le_bytes());
    out.bytes(&record.changed_at.0.to_le_bytes());
}

fn take_record(from: &mut Reader<'_>) -> Option<VaultRecord> {
    Some(VaultRecord {
        record: u64::from_le_bytes(from.array()?),
        token: Token::parse(from.text()?).ok()?,
        expiry: Expiry::parse(from.take(4)?).ok()?,
        reference: TokenReferenceId::from_bytes(from.array()?),
        par: from.optional(|from| Par::parse(from.take(29)?).ok())?,
        requestor: TokenRequestorId::parse(from.take(11)?).ok()?,
        assurance: TokenAssuranceMethod::parse(from.take(2)?).ok()?,
        location: TokenLocation::ALL.get(usize::from(from.byte()?)).copied()?,
        last4: Digits::parse("last four", from.take(4)?, 4).ok()?,
        sealed: from.sealed()?,
        blind_index: from.array()?,
        mapping_version: u32::from_le_bytes(from.array()?),
        controls: take_controls(from)?,
        lifecycle: from.array().and_then(read_lifecycle)?,
        issued_at: Wall(u64::from_le_bytes(from.array()?)),
        changed_at: Wall(u64::from_le_bytes(from.array()?)),
    })
}

fn put_controls(out: &mut Writer, controls: &DomainControls) {
    out.bytes(&controls.entry_modes.bits().to_le_bytes());
    out.list(&controls.merchants, |out, merchant| {
        out.bytes(&merchant.acquirer.0.to_le_bytes());
        out.text(merchant.id.as_bytes());
    });
    out.list(&controls.categories, |out, category| out.bytes(&category.0.to_le_bytes()));
    out.optional(controls.most_amount.as_ref(), |out, most| {
        out.bytes(&most.minor().to_le_bytes());
        out.bytes(&most.currency().digits());
    });
    for flag in [controls.expiry_optional, controls.chip_amount_binds, controls.cryptogram_required] {
        out.byte(u8::from(flag));
    }
}

fn take_controls(from: &mut Reader<'_>) -> Option<DomainControls> {
    Some(DomainControls {
        entry_modes: EntryModes::from_bits(u128::from_le_bytes(from.array()?)),
        merchants: from.list(|from| {
            Some(Merchant {
                acquirer: LinkId(u16::from_le_bytes(from.array()?)),
                id: MerchantId::parse(from.text()?).ok()?,
            })
        })?,
        categories: from.list(|from| Some(MerchantCategory(u16::from_le_bytes(from.array()?))))?,
        most_amount: from.optional(|from| {
            let minor = u64::from_le_bytes(from.array()?);
            Some(Amount::new(minor, Currency::parse(from.take(3)?).ok()?))
        })?,
        expiry_optional: from.flag()?,
        chip_amount_binds: from.flag()?,
        cryptogram_required: if from.version < 2 { false } else { from.flag()? },
    })
}

struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A word of `vocab`, none of which is longer than 255 bytes.
    fn text(&mut self, text: &[u8]) {
        self.byte(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes(text.get(..usize::from(u8::MAX)).unwrap_or(text));
    }

    fn optional<T>(&mut self, value: Option<&T>, put: impl Fn(&mut Self, &T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }

    /// A list of at most 65,535; the configuration does not come near.
    fn list<T>(&mut self, list: &[T], put: impl Fn(&mut Self, &T)) {
        let count = u16::try_from(list.len()).unwrap_or(u16::MAX);
        self.bytes(&count.to_le_bytes());
        list.iter().take(usize::from(count)).for_each(|value| put(self, value));
    }
}

struct Reader<'a> {
    version: u8,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// None for a version that is not known here.
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let (version, bytes) = bytes.split_first()?;
        (1..=VERSION).contains(version).then_some(Self { version: *version, bytes })
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*taken)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    fn sealed(&mut self) -> Option<Sealed> {
        let (sealed, rest) = Sealed::decode(self.bytes).ok()?;
        self.bytes = rest;
        Some(sealed)
    }

    fn optional<T>(&mut self, take: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { take(self).map(Some) } else { Some(None) }
    }

    fn list<T>(&mut self, take: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = u16::from_le_bytes(self.array()?);
        (0..count).map(|_| take(self)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::lifecycle::Suspender;
    use super::*;

    pub(crate) fn record(number: u64, token: &[u8]) -> VaultRecord {
        let config = super::super::config::sample();
        let bytes = |salt: u8| {
            let mut bytes = [salt; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        VaultRecord {
            record: number,
            token: Token::parse(token).unwrap(),
            expiry: Expiry::parse(b"2911").unwrap(),
            reference: TokenReferenceId::from_bytes(bytes(1)),
            par: Par::parse(b"Q0010013020315513942420893974").ok(),
            requestor: config.requestors[1].id,
            assurance: TokenAssuranceMethod::parse(b"12").unwrap(),
            location: TokenLocation::SharedStorage,
            last4: Digits::parse("last four", b"0119", 4).unwrap(),
            sealed: Sealed::from_parts(3, [9; 12], &[7; 32]).unwrap(),
            blind_index: bytes(2),
            mapping_version: 1,
            controls: config.requestors[1].controls.clone(),
            lifecycle: Lifecycle::issued(TokenStatus::Active),
            issued_at: Wall(1_000),
            changed_at: Wall(2_000),
        }
    }

    fn event(change: Change) -> TokenEvent {
        let cause = Cause {
            actor: Actor::Cardholder,
            requestor: TokenRequestorId::parse(b"00000000002").unwrap(),
            request_id: RequestId::parse(b"r-1").unwrap(),
            body_digest: [5; 32],
            reason: Text::parse("reason", b"device lost").unwrap(),
        };
        TokenEvent { cause, change }
    }

    fn samples() -> Vec<TokenEvent> {
        let mut bare = record(0, b"4895370000000005");
        bare.par = None;
        bare.controls.merchants.clear();
        let mut full = record(7, b"6235290000000000013");
        full.controls.categories = vec![MerchantCategory(5411), MerchantCategory(1)];
        full.controls.most_amount = Some(Amount::new(5, Currency::parse(b"978").unwrap()));
        let held = Lifecycle {
            status: TokenStatus::Suspended,
            suspenders: Suspenders::default().with(Suspender::Issuer),
            version: 9,
        };
        let mut list = vec![event(Change::Issued(Box::new(bare))), event(Change::Issued(Box::new(full)))];
        let suspender = Suspender::Cardholder;
        for asked in [Move::Activate, Move::Suspend(suspender), Move::Resume(suspender), Move::Unlink] {
            list.push(event(Change::Moved { record: 7, asked, lifecycle: held }));
        }
        list
    }

    #[test]
    fn events_come_back_the_same() {
        for event in samples() {
            assert_eq!(TokenEvent::decode(&event.encode()), Some(event));
        }
        let record = record(3, b"4895370000000005");
        assert_eq!(decode_record(&encode_record(&record)), Some(record));
    }

    #[test]
    fn cut_or_lengthened_events_are_refused() {
        for event in samples() {
            let bytes = event.encode();
            for length in 0..bytes.len() {
                assert_eq!(TokenEvent::decode(&bytes[..length]), None, "{length}");
            }
            let longer = [bytes, vec![0]].concat();
            assert_eq!(TokenEvent::decode(&longer), None);
        }
    }

    /// The layout is fixed: journals of years ago must be readable.
    #[test]
    fn versions_stay_as_they_are() {
        let event = &samples()[3];
        let rest = concat!(
            "02",
            "3030303030303030303032",
            "03722d31",
            "0505050505050505050505050505050505050505050505050505050505050505",
            "0b646576696365206c6f7374",
            "02",
            "0700000000000000",
            "0204",
            "0301",
            "09000000",
        );
        assert_eq!(hex::encode(event.encode()), format!("02{rest}"));
        let older = hex::decode(format!("01{rest}")).unwrap();
        assert_eq!(TokenEvent::decode(&older).as_ref(), Some(event));
    }

    #[test]
    fn a_token_of_version_one_needs_a_cryptogram_only_from_a_chip() {
        let mut record = record(7, b"6235290000000000013");
        let mut older = encode_record(&record);
        older[0] = 1;
        // The flag stands before the lifecycle (6 bytes) and two times (8 each).
        older.remove(older.len() - 6 - 16 - 1);
        assert_eq!(decode_record(&older), Some(record.clone()));
        record.controls.cryptogram_required = true;
        assert_eq!(decode_record(&encode_record(&record)), Some(record));
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(event) = TokenEvent::decode(&bytes)
                && bytes.starts_with(&[VERSION])
            {
                prop_assert_eq!(event.encode(), bytes);
            }
        }
    }
}

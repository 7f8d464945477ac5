//! `Writer`, `Reader`: the pieces of the vault's layout: numbers, texts, optional values and lists.

use crate::crypto::Sealed;

/// The version that is written; every older one is read.
pub(super) const VERSION: u8 = 7;

pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    /// Appends the number of what follows.
    pub(super) fn numbered(&mut self, number: u8) -> &mut Self {
        self.byte(number);
        self
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// What kind of change it is, and of which record.
    pub(super) fn kind_of(&mut self, kind: u8, record: u64) {
        self.byte(kind);
        self.bytes(&record.to_le_bytes());
    }

    /// A word of `vocab`, none of which is longer than 255 bytes.
    pub(super) fn text(&mut self, text: &[u8]) {
        self.byte(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes(text.get(..usize::from(u8::MAX)).unwrap_or(text));
    }

    pub(super) fn optional<T>(&mut self, value: Option<&T>, put: impl Fn(&mut Self, &T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }

    /// A list of at most 65,535; the configuration does not come near.
    pub(super) fn list<T>(&mut self, list: &[T], put: impl Fn(&mut Self, &T)) {
        let count = u16::try_from(list.len()).unwrap_or(u16::MAX);
        self.bytes(&count.to_le_bytes());
        list.iter().take(usize::from(count)).for_each(|value| put(self, value));
    }
}

pub(super) struct Reader<'a> {
    pub(super) version: u8,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// None for a version that is not known here.
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        let (version, bytes) = bytes.split_first()?;
        (1..=VERSION).contains(version).then_some(Self { version: *version, bytes })
    }

    /// Bytes that have no version of their own.
    pub(super) fn here(bytes: &'a [u8]) -> Self {
        Self { version: VERSION, bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*taken)
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    pub(super) fn sealed(&mut self) -> Option<Sealed> {
        let (sealed, rest) = Sealed::decode(self.bytes).ok()?;
        self.bytes = rest;
        Some(sealed)
    }

    pub(super) fn optional<T>(&mut self, take: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { take(self).map(Some) } else { Some(None) }
    }

    pub(super) fn list<T>(&mut self, take: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = u16::from_le_bytes(self.array()?);
        (0..count).map(|_| take(self)).collect()
    }
}

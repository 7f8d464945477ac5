//! `Slot`: words that one thread writes and any thread reads without a lock. Here is also how a record's values are
//! laid out in them.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::crypto::Sealed;
use crate::vocab::{Expiry, Par, TokenAssuranceMethod, YearMonth};

use super::lifecycle::TokenStatus;
use super::record::VaultRecord;

/// Looks at a slot that is being written before the reader lets others run: a write takes some ten nanoseconds,
/// unless its thread was put aside in the middle of it.
const SPINS: u32 = 64;

/// A mark in a payment's slot: its token has controls of its own.
pub(super) const NARROWED: u8 = 1;
/// It pays with limited-use keys.
pub(super) const LIMITED: u8 = 2;
/// How far above these marks who set what of it stands, four bits wide.
pub(super) const OWNERS_SHIFT: u8 = 4;

/// Words that are read and written as one. The head's upper half is the sequence number, its lower half data.
#[repr(align(64))]
pub(super) struct Slot<const N: usize> {
    head: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Slot<N> {
    pub(super) fn empty() -> Self {
        Self { head: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; N] }
    }

    /// The head's data and the first `M` words, as they were at one moment.
    pub(super) fn read<const M: usize>(&self) -> (u32, [u64; M]) {
        let mut tries = 0_u32;
        loop {
            let before = self.head.load(Ordering::Acquire);
            if before >> 32 & 1 == 0 {
                let words = std::array::from_fn(|at| {
                    self.words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
                });
                // The words must have been read before the head is looked at again.
                fence(Ordering::Acquire);
                if self.head.load(Ordering::Relaxed) == before {
                    return (low(before), words);
                }
            }
            tries = tries.wrapping_add(1);
            if tries.is_multiple_of(SPINS) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    /// For the one writer.
    pub(super) fn write(&self, data: u32, words: [u64; N]) {
        let sequence = (self.head.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        let head = |sequence: u64, data: u32| sequence << 32 | u64::from(data);
        self.head.store(head(sequence, data), Ordering::Relaxed);
        // The odd number must be seen before any of the words.
        fence(Ordering::Release);
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.head.store(head(sequence.wrapping_add(1), data), Ordering::Release);
    }

    /// Brings the slot's lines near without waiting for them.
    pub(super) fn touch(&self) {
        let last = self.words.last().map(|word| word.load(Ordering::Relaxed));
        std::hint::black_box((self.head.load(Ordering::Relaxed), last));
    }

    pub(super) fn first(&self) -> u64 {
        self.words.first().map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

/// What a payment's slot says of a record.
pub(super) fn payment_words(from: &VaultRecord, domain: u32) -> (u32, [u64; 15]) {
    let assurance = from.assurance.digits();
    let assurance = assurance.iter().fold(0, |sum: u8, digit| sum * 10 + (digit - b'0'));
    let limited = from.keys.as_ref().is_some_and(|keys| keys.limited.is_some());
    let has = (NARROWED * u8::from(from.own.is_some()))
        | (LIMITED * u8::from(limited))
        | from.owners.bits() << OWNERS_SHIFT;
    let marks = [from.lifecycle.suspenders.bits(), assurance, from.location.code(), has];
    let [n0, n1, n2, n3, n4, n5, n6, n7, tail @ ..] = *from.sealed.nonce();
    let nonce = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
    let packed = u64::from(u32::from_le_bytes(tail)) << 32
        | u64::from(from.sealed.key_version()) << 16
        | u64::from(pack_status(from.lifecycle.status, from.expiry));
    let mut card = [0_u64; 4];
    for (word, bytes) in card.iter_mut().zip(from.sealed.ciphertext_and_tag().chunks(8)) {
        *word = bytes.try_into().map_or(0, u64::from_le_bytes);
    }
    let [a, b, c, d] = card;
    let versions = u64::from(from.mapping_version) << 32 | u64::from(domain);
    let [p0, p1, p2, p3] = pack_par(from.par);
    let (token, last4) = (from.token.number(), number(from.last4.as_bytes()));
    let because = u64::from(from.because.code());
    (
        u32::from_le_bytes(marks),
        [token, nonce, packed, a, b, c, d, versions, p0, p1, p2, p3, last4, because, 0],
    )
}

pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn low(word: u64) -> u32 {
    u32::try_from(word & 0xFFFF_FFFF).unwrap_or_default()
}

pub(super) fn high(word: u64) -> u32 {
    u32::try_from(word >> 32).unwrap_or_default()
}

pub(super) fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
}

/// The lowest `N` decimal digits of a number.
pub(super) fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for place in digits.iter_mut().rev() {
        *place += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
    digits
}

pub(super) fn assurance(marks: u32) -> Option<TokenAssuranceMethod> {
    let [_, assurance, _, _] = marks.to_le_bytes();
    TokenAssuranceMethod::parse(&digits::<2>(u64::from(assurance))).ok()
}

/// Three bits of status above eleven of expiry, in months since January 2000.
pub(super) fn pack_status(status: TokenStatus, expiry: Expiry) -> u16 {
    let month = expiry.year_month();
    let months = (month.year.saturating_sub(2000)) * 12 + u16::from(month.month.saturating_sub(1));
    u16::from(status.code()) << 11 | months
}

pub(super) fn unpack_status(packed: u64) -> Option<(TokenStatus, Expiry)> {
    let packed = u16::try_from(packed & 0xFFFF).ok()?;
    let (status, months) = (packed >> 11, packed & 0x7FF);
    let month = u8::try_from(months % 12 + 1).ok()?;
    let expiry = Expiry::of(YearMonth { year: 2000 + months / 12, month })?;
    Some((TokenStatus::from_code(u8::try_from(status).ok()?)?, expiry))
}

pub(super) fn unpack_sealed(nonce: u64, packed: u64, words: [u64; 4]) -> Option<Sealed> {
    let [a, b, c, d, e, f, g, h] = nonce.to_le_bytes();
    let [i, j, k, l] = high(packed).to_le_bytes();
    let version = u16::try_from(packed >> 16 & 0xFFFF).ok()?;
    let mut card = [0_u8; 32];
    for (place, word) in card.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Sealed::from_parts(version, [a, b, c, d, e, f, g, h, i, j, k, l], &card).ok()
}

pub(super) fn pack_par(par: Option<Par>) -> [u64; 4] {
    let mut bytes = [0_u8; 32];
    if let Some(par) = par {
        bytes.iter_mut().zip(par.as_bytes()).for_each(|(place, byte)| *place = *byte);
    }
    let mut words = [0; 4];
    for (word, piece) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = piece.try_into().map_or(0, u64::from_le_bytes);
    }
    words
}

pub(super) fn unpack_par(words: [u64; 4]) -> Option<Par> {
    let mut bytes = [0_u8; 32];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let [par @ .., _, _, _] = bytes;
    if par.starts_with(&[0]) { None } else { Par::kept(&par) }
}

pub(super) fn split(bytes: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(bytes);
    [
        u64::try_from(whole & u128::from(u64::MAX)).unwrap_or_default(),
        u64::try_from(whole >> 64).unwrap_or_default(),
    ]
}

pub(super) fn join([low, high]: [u64; 2]) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

//! `TokenTable`: the whole vault in memory; the only read path of a payment.
//!
//! An index of one word a token leads from the token's number to its record's. A record has two slots: one of two
//! adjacent cache lines with all that a payment needs, and one with the rest. Slots are words that one thread writes
//! and any thread reads without a lock: a sequence number, odd while its words are being changed, tells a reader to
//! look again. Nothing is ever removed, so a search ends at the first empty place of the index.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::crypto::Sealed;
use crate::stdx::clock::Wall;
use crate::stdx::maps::Map;
use crate::vocab::{
    Digits, Expiry, Par, Token, TokenAssuranceMethod, TokenLocation, TokenReferenceId, TokenRequestorId,
    YearMonth,
};

use super::chains::Chains;
use super::controls::DomainControls;
use super::lifecycle::{Lifecycle, Suspenders, TokenStatus};
use super::own_controls::TokenControls;
use super::record::{PastMapping, VaultRecord};

/// How many slots are asked for at once. Four bring most of what there is to gain, sixteen nearly
/// all.
pub(super) const BATCH: usize = 16;

/// Looks at a slot that is being written before the reader lets others run: a write takes some ten nanoseconds,
/// unless its thread was put aside in the middle of it.
const SPINS: u32 = 64;

/// Words that are read and written as one. The head's upper half is the sequence number, its lower half data.
#[repr(align(64))]
struct Slot<const N: usize> {
    head: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Slot<N> {
    fn empty() -> Self {
        Self { head: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; N] }
    }

    /// The head's data and the first `M` words, as they were at one moment.
    fn read<const M: usize>(&self) -> (u32, [u64; M]) {
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
    fn write(&self, data: u32, words: [u64; N]) {
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
    fn touch(&self) {
        let last = self.words.last().map(|word| word.load(Ordering::Relaxed));
        std::hint::black_box((self.head.load(Ordering::Relaxed), last));
    }

    fn first(&self) -> u64 {
        self.words.first().map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

/// Head: suspenders, assurance, location, whether it has controls of its own. Words: token number; nonce; nonce's end, key version, status and expiry;
/// ciphertext and tag (4); mapping version and domain; PAR (4); last four; nothing yet (2).
type PaymentSlot = Slot<15>;
/// How many of its words a payment needs.
const PAYMENT_WORDS: usize = 12;
/// Head: lifecycle's version. Words: reference (2); issued; changed; blind index (2); device.
type RestSlot = Slot<7>;

/// What a payment reads of a token.
pub(super) struct Mapping {
    pub(super) record: u64,
    pub(super) status: TokenStatus,
    pub(super) expiry: Expiry,
    pub(super) sealed: Sealed,
    pub(super) assurance: TokenAssuranceMethod,
    pub(super) par: Option<Par>,
    pub(super) mapping_version: u32,
    /// Whether it has controls of its own.
    pub(super) narrowed: bool,
    domain: u32,
}

/// Whose a token is and where it may be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Domain {
    pub(super) requestor: TokenRequestorId,
    pub(super) controls: DomainControls,
}

/// The table as readers share it.
pub(super) struct TokenTable {
    /// Upper half: a mark of the token. Lower half: its record, counted from 1; 0 where nothing is.
    index: Box<[AtomicU64]>,
    payment: Box<[PaymentSlot]>,
    rest: Box<[RestSlot]>,
    /// Most tokens of a requestor have the same controls: each set is kept once. Only ever added to.
    domains: Box<[OnceLock<Domain>]>,
    /// Controls of their own that few tokens have. Only for these a lock is taken.
    own: Box<[OwnShard]>,
}

type OwnShard = Mutex<Map<u64, Arc<TokenControls>>>;

/// Own controls are spread over so many locks.
const OWN_SHARDS: usize = 64;

impl TokenTable {
    /// Brings what is known of a batch of tokens near: first all places of the index are asked for, then the slots to
    /// which they lead, so that the memory's waits overlap.
    pub(super) fn touch(&self, tokens: &[u64]) {
        for token in tokens {
            let (home, _) = self.home(*token);
            std::hint::black_box(self.index.get(home).map(|word| word.load(Ordering::Relaxed)));
        }
        for token in tokens {
            if let Some((_, slot)) = self.search(*token, |_| true) {
                slot.touch();
            }
        }
    }

    /// What stands in a token's slot, as of one moment; `None` when it is not in the table.
    pub(super) fn mapping(&self, token: u64) -> Option<Mapping> {
        let (record, slot) = self.find(token)?;
        let (marks, words) = slot.read::<PAYMENT_WORDS>();
        let [_, nonce, packed, a, b, c, d, versions, par @ ..] = words;
        let (status, expiry) = unpack_status(packed)?;
        Some(Mapping {
            record: u64::from(record),
            status,
            expiry,
            sealed: unpack_sealed(nonce, packed, [a, b, c, d])?,
            assurance: assurance(marks)?,
            par: unpack_par(par),
            mapping_version: high(versions),
            domain: low(versions),
            narrowed: marks >> 24 != 0,
        })
    }

    /// A token's own controls. None where its mark was seen and they have been lifted since: the mark goes first.
    pub(super) fn own_controls(&self, record: u64) -> Option<Arc<TokenControls>> {
        self.own_shard(record)?.get(&record).cloned()
    }

    fn own_shard(&self, record: u64) -> Option<MutexGuard<'_, Map<u64, Arc<TokenControls>>>> {
        let shard = self.own.get(usize::try_from(record % OWN_SHARDS as u64).unwrap_or_default())?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn domain(&self, mapping: &Mapping) -> Option<&Domain> {
        self.domains.get(index(mapping.domain)).and_then(OnceLock::get)
    }

    /// Where the search for a token begins, and its mark: the number spread over all of 64 bits, of which the upper
    /// ones are scaled to the index and the lower ones are the mark.
    fn home(&self, token: u64) -> (usize, u32) {
        let spread = token.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let scaled = (u128::from(spread) * self.index.len() as u128) >> 64;
        (usize::try_from(scaled).unwrap_or_default(), low(spread))
    }

    pub(super) fn has(&self, token: u64) -> bool {
        self.find(token).is_some()
    }

    fn find(&self, token: u64) -> Option<(u32, &PaymentSlot)> {
        self.search(token, |slot| slot.first() == token)
    }

    /// The first record under the token's mark whose slot `is_it`. Its own is the first, as a rule.
    fn search(&self, token: u64, is_it: impl Fn(&PaymentSlot) -> bool) -> Option<(u32, &PaymentSlot)> {
        let (home, mark) = self.home(token);
        for place in self.places_from(home) {
            let word = place.load(Ordering::Acquire);
            let record = low(word).checked_sub(1)?;
            if high(word) == mark
                && let Some(slot) = self.payment.get(index(record))
                && is_it(slot)
            {
                return Some((record, slot));
            }
        }
        None
    }

    /// The places of the index in the order of search.
    #[inline]
    fn places_from(&self, home: usize) -> impl Iterator<Item = &AtomicU64> {
        let (before, from_home) = self.index.split_at_checked(home).unwrap_or_default();
        from_home.iter().chain(before)
    }
}

impl Domain {
    pub(super) fn of(record: &VaultRecord) -> Self {
        Self { requestor: record.requestor, controls: record.controls.clone() }
    }
}

/// Why a record does not go into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableFault {
    Full,
    /// The token, or the record's number, is in use.
    Taken,
}

/// The writer's side of the table, with the look-ups that no payment needs.
pub(super) struct TableWriter {
    table: Arc<TokenTable>,
    capacity: usize,
    count: usize,
    by_reference: Map<TokenReferenceId, u32>,
    /// Tokens of one PAN; all share one PAR.
    by_pan: Chains<[u8; 16]>,
    by_device: Chains<u64>,
    /// The cards to which few tokens led before.
    past: Map<u64, Vec<PastMapping>>,
    /// How many remote cryptograms were made of those of which any were.
    cryptograms: Map<u64, u16>,
    /// How many tokens have controls of their own.
    narrowed: usize,
    domains: Map<Domain, u32>,
}

impl TableWriter {
    /// Room for `capacity` tokens and `control_sets` different sets of controls, taken at once. A quarter of the
    /// index stays empty, so that a search is short.
    pub(super) fn new(capacity: u32, control_sets: u32) -> Self {
        let capacity = index(capacity);
        let table = TokenTable {
            index: (0..capacity + capacity / 3 + 1).map(|_| AtomicU64::new(0)).collect(),
            payment: (0..capacity).map(|_| Slot::empty()).collect(),
            rest: (0..capacity).map(|_| Slot::empty()).collect(),
            domains: (0..control_sets).map(|_| OnceLock::new()).collect(),
            own: (0..OWN_SHARDS).map(|_| Mutex::default()).collect(),
        };
        Self {
            table: Arc::new(table),
            capacity,
            count: 0,
            by_reference: Map::default(),
            by_pan: Chains::default(),
            by_device: Chains::default(),
            past: Map::default(),
            cryptograms: Map::default(),
            narrowed: 0,
            domains: Map::default(),
        }
    }

    pub(super) fn shared(&self) -> Arc<TokenTable> {
        Arc::clone(&self.table)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Different sets of controls so far.
    pub(super) fn control_sets(&self) -> usize {
        self.domains.len()
    }

    pub(super) fn has_token(&self, token: &Token) -> bool {
        self.table.has(token.number())
    }

    pub(super) fn by_reference(&self, reference: TokenReferenceId) -> Option<u64> {
        self.by_reference.get(&reference).map(|record| u64::from(*record))
    }

    /// The PAR that this PAN's tokens have; none when it has no token or they have none.
    pub(super) fn par_of(&self, blind_index: &[u8; 16]) -> Option<Par> {
        let record = self.by_pan.of(*blind_index).next()?;
        let (_, words) = self.table.payment.get(index(record))?.read::<PAYMENT_WORDS>();
        let [_, _, _, _, _, _, _, _, par @ ..] = words;
        unpack_par(par)
    }

    /// Puts a domain in, if it is not there; none when there is no room for another.
    pub(super) fn intern(&mut self, domain: Domain) -> Option<u32> {
        if let Some(at) = self.domains.get(&domain) {
            return Some(*at);
        }
        let at = u32::try_from(self.domains.len()).ok()?;
        self.table.domains.get(index(at))?.set(domain.clone()).ok()?;
        self.domains.insert(domain, at);
        Some(at)
    }

    /// Adds a token. Its slots are written first: who finds it in the index finds them.
    pub(super) fn insert(&mut self, new: &VaultRecord) -> Result<(), TableFault> {
        let record = u32::try_from(new.record).map_err(|_| TableFault::Full)?;
        if self.count >= self.capacity {
            return Err(TableFault::Full);
        }
        let domain = self.intern(Domain::of(new)).ok_or(TableFault::Full)?;
        let is_next = index(record) == self.count && !self.by_reference.contains_key(&new.reference);
        if !is_next || self.has_token(&new.token) {
            return Err(TableFault::Taken);
        }
        self.narrow(new);
        self.write(record, new, domain);
        let (home, mark) = self.table.home(new.token.number());
        let empty = self.table.places_from(home).find(|place| place.load(Ordering::Relaxed) == 0);
        let word = u64::from(mark) << 32 | (u64::from(record) + 1);
        empty.ok_or(TableFault::Full)?.store(word, Ordering::Release);
        self.by_reference.insert(new.reference, record);
        self.by_pan.link(new.blind_index, record);
        match new.device {
            Some(device) => self.by_device.link(device, record),
            None => self.by_device.leave_out(),
        }
        self.keep_rest(new);
        self.count += 1;
        Ok(())
    }

    /// Writes what a token is from now on. Payments that look after this see it. False when it is no token of here, or
    /// its controls have no room.
    pub(super) fn rewrite(&mut self, new: &VaultRecord) -> bool {
        let (Some(before), Ok(record)) = (self.record(new.record), u32::try_from(new.record)) else {
            return false;
        };
        let Some(domain) = self.intern(Domain::of(new)) else { return false };
        // Put in before the mark is set, taken out after it is gone.
        if new.own.is_some() {
            self.narrow(new);
        }
        self.write(record, new, domain);
        if new.own.is_none() && before.own.is_some() {
            self.narrow(new);
        }
        self.keep_rest(new);
        if before.blind_index != new.blind_index {
            self.by_pan.unlink(before.blind_index, record);
            self.by_pan.link(new.blind_index, record);
        }
        true
    }

    fn narrow(&mut self, new: &VaultRecord) {
        let Some(mut shard) = self.table.own_shard(new.record) else { return };
        match &new.own {
            Some(own) => {
                let before = shard.insert(new.record, Arc::new((**own).clone()));
                self.narrowed += usize::from(before.is_none());
            }
            None => self.narrowed -= usize::from(shard.remove(&new.record).is_some()),
        }
    }

    /// How many tokens have controls of their own.
    pub(super) fn narrowed(&self) -> usize {
        self.narrowed
    }

    fn keep_rest(&mut self, new: &VaultRecord) {
        if !new.past.is_empty() {
            self.past.insert(new.record, new.past.clone());
        }
        if new.cryptograms > 0 {
            self.cryptograms.insert(new.record, new.cryptograms);
        }
    }

    /// The record of a token.
    pub(super) fn by_token(&self, token: &Token) -> Option<u64> {
        self.table.find(token.number()).map(|(record, _)| u64::from(record))
    }

    /// The tokens of a PAN, the newest first.
    pub(super) fn of_pan(&self, blind_index: [u8; 16]) -> impl Iterator<Item = VaultRecord> {
        self.by_pan.of(blind_index).filter_map(|record| self.record(u64::from(record)))
    }

    /// The tokens on a device, the newest first.
    pub(super) fn of_device(&self, device: u64) -> impl Iterator<Item = VaultRecord> {
        self.by_device.of(device).filter_map(|record| self.record(u64::from(record)))
    }

    /// The whole record.
    pub(super) fn record(&self, record: u64) -> Option<VaultRecord> {
        let at = usize::try_from(record).ok().filter(|at| *at < self.count)?;
        let (marks, words) = self.table.payment.get(at)?.read::<15>();
        let [token, .., last4, _, _] = words;
        let (version, [r0, r1, issued, changed, b0, b1, device]) = self.table.rest.get(at)?.read::<7>();
        let token = Token::parse(token.to_string().as_bytes()).ok()?;
        let mapping = self.table.mapping(token.number())?;
        let Domain { requestor, controls } = self.table.domain(&mapping)?.clone();
        let [suspenders, _, location, _] = marks.to_le_bytes();
        Some(VaultRecord {
            record,
            token,
            expiry: mapping.expiry,
            reference: TokenReferenceId::from_bytes(join([r0, r1])),
            par: mapping.par,
            requestor,
            assurance: mapping.assurance,
            location: TokenLocation::ALL.get(usize::from(location)).copied()?,
            last4: Digits::parse("last four", &digits::<4>(last4), 4).ok()?,
            sealed: mapping.sealed,
            blind_index: join([b0, b1]),
            mapping_version: mapping.mapping_version,
            controls,
            lifecycle: Lifecycle {
                status: mapping.status,
                suspenders: Suspenders::from_bits(suspenders)?,
                version,
            },
            issued_at: Wall(issued),
            changed_at: Wall(changed),
            device: (device != 0).then_some(device),
            past: self.past.get(&record).cloned().unwrap_or_default(),
            cryptograms: self.cryptograms.get(&record).copied().unwrap_or_default(),
            own: self.table.own_controls(record).map(|own| Box::new((*own).clone())),
        })
    }

    /// Writes another envelope into a record, as a new mapping would.
    #[cfg(test)]
    pub(super) fn replace_for_test(&mut self, record: u64, sealed: Sealed) {
        let mut found = self.record(record).unwrap();
        found.sealed = sealed;
        let domain = self.intern(Domain::of(&found)).unwrap();
        self.write(u32::try_from(record).unwrap(), &found, domain);
    }

    fn write(&self, record: u32, from: &VaultRecord, domain: u32) {
        let Some(slot) = self.table.rest.get(index(record)) else { return };
        let [r0, r1] = split(from.reference.to_bytes());
        let [b0, b1] = split(from.blind_index);
        let words = [r0, r1, from.issued_at.0, from.changed_at.0, b0, b1, from.device.unwrap_or_default()];
        slot.write(from.lifecycle.version, words);
        let Some(slot) = self.table.payment.get(index(record)) else { return };
        let (marks, words) = payment_words(from, domain);
        slot.write(marks, words);
    }
}

/// What a payment's slot says of a record.
fn payment_words(from: &VaultRecord, domain: u32) -> (u32, [u64; 15]) {
    let assurance = from.assurance.digits();
    let assurance = assurance.iter().fold(0, |sum: u8, digit| sum * 10 + (digit - b'0'));
    let marks =
        [from.lifecycle.suspenders.bits(), assurance, from.location.code(), u8::from(from.own.is_some())];
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
    (u32::from_le_bytes(marks), [token, nonce, packed, a, b, c, d, versions, p0, p1, p2, p3, last4, 0, 0])
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn low(word: u64) -> u32 {
    u32::try_from(word & 0xFFFF_FFFF).unwrap_or_default()
}

fn high(word: u64) -> u32 {
    u32::try_from(word >> 32).unwrap_or_default()
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
}

/// The lowest `N` decimal digits of a number.
fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for place in digits.iter_mut().rev() {
        *place += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
    digits
}

fn assurance(marks: u32) -> Option<TokenAssuranceMethod> {
    let [_, assurance, _, _] = marks.to_le_bytes();
    TokenAssuranceMethod::parse(&digits::<2>(u64::from(assurance))).ok()
}

/// Three bits of status above eleven of expiry, in months since January 2000.
fn pack_status(status: TokenStatus, expiry: Expiry) -> u16 {
    let month = expiry.year_month();
    let months = (month.year.saturating_sub(2000)) * 12 + u16::from(month.month.saturating_sub(1));
    u16::from(status.code()) << 11 | months
}

fn unpack_status(packed: u64) -> Option<(TokenStatus, Expiry)> {
    let packed = u16::try_from(packed & 0xFFFF).ok()?;
    let (status, months) = (packed >> 11, packed & 0x7FF);
    let month = u8::try_from(months % 12 + 1).ok()?;
    let expiry = Expiry::of(YearMonth { year: 2000 + months / 12, month })?;
    Some((TokenStatus::from_code(u8::try_from(status).ok()?)?, expiry))
}

fn unpack_sealed(nonce: u64, packed: u64, words: [u64; 4]) -> Option<Sealed> {
    let [a, b, c, d, e, f, g, h] = nonce.to_le_bytes();
    let [i, j, k, l] = high(packed).to_le_bytes();
    let version = u16::try_from(packed >> 16 & 0xFFFF).ok()?;
    let mut card = [0_u8; 32];
    for (place, word) in card.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Sealed::from_parts(version, [a, b, c, d, e, f, g, h, i, j, k, l], &card).ok()
}

fn pack_par(par: Option<Par>) -> [u64; 4] {
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

fn unpack_par(words: [u64; 4]) -> Option<Par> {
    let mut bytes = [0_u8; 32];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let [par @ .., _, _, _] = bytes;
    if par.starts_with(&[0]) { None } else { Par::kept(&par) }
}

fn split(bytes: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(bytes);
    [
        u64::try_from(whole & u128::from(u64::MAX)).unwrap_or_default(),
        u64::try_from(whole >> 64).unwrap_or_default(),
    ]
}

fn join([low, high]: [u64; 2]) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

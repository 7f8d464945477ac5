//! `TokenTable`: the whole vault in memory; the only read path of a payment.
//!
//! An index of one word a token leads from the token's number to its record's. A record has two slots: one of two
//! adjacent cache lines with all that a payment needs, and one with the rest. Slots are words that one thread writes
//! and any thread reads without a lock: a sequence number, odd while its words are being changed, tells a reader to
//! look again.

use std::sync::{Arc, OnceLock};

use crate::crypto::Sealed;
use crate::stdx::clock::Wall;
use crate::stdx::maps::Map;
use crate::vocab::{
    Digits, Expiry, Par, Token, TokenAssuranceMethod, TokenLocation, TokenReferenceId, TokenRequestorId,
};

use super::beside::Beside;
use super::chains::Chains;
use super::controls::DomainControls;
use super::event::Reason;
use super::given_keys::GivenKeys;
use super::lifecycle::{Lifecycle, Suspenders, TokenStatus};
use super::loading::{Loaded, Loading};
use super::own_controls::TokenControls;
use super::owners::Owners;
use super::record::{PastMapping, VaultRecord};
use super::record_index::{RecordIndex, Unfit};
use super::slot::{
    LIMITED, NARROWED, OWNERS_SHIFT, Slot, assurance, digits, high, index, join, low, payment_words, split,
    unpack_par, unpack_sealed, unpack_status,
};

/// How many slots are asked for at once. Four bring most of what there is to gain, sixteen nearly
/// all.
pub(super) const BATCH: usize = 16;

/// Records of which the places in the index of PANs are asked for at once while chains are made.
const CHAINED_AT_ONCE: u32 = 64;

/// Head: suspenders, assurance, location, marks of what it has besides (`NARROWED`, `LIMITED`) and of who set what.
/// Words: token number; nonce; nonce's end, key version, status and expiry; ciphertext and tag (4); mapping version and
/// domain; PAR (4); last four; nothing yet (2).
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
    /// Whether it pays with limited-use keys.
    pub(super) limited: bool,
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
    index: RecordIndex,
    payment: Box<[PaymentSlot]>,
    rest: Box<[RestSlot]>,
    /// Most tokens of a requestor have the same controls: each set is kept once. Only ever added to.
    domains: Box<[OnceLock<Domain>]>,
    /// Controls of their own.
    own: Beside<TokenControls>,
    /// Which keys their holders were given.
    keys: Beside<GivenKeys>,
}

impl TokenTable {
    /// Brings what is known of a batch of tokens near: first all places of the index are asked for, then the slots to
    /// which they lead, so that the memory's waits overlap.
    pub(super) fn touch(&self, tokens: &[u64]) {
        for token in tokens {
            self.index.touch(*token);
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
        let [_, _, _, has] = marks.to_le_bytes();
        Some(Mapping {
            record: u64::from(record),
            status,
            expiry,
            sealed: unpack_sealed(nonce, packed, [a, b, c, d])?,
            assurance: assurance(marks)?,
            par: unpack_par(par),
            mapping_version: high(versions),
            domain: low(versions),
            narrowed: has & NARROWED != 0,
            limited: has & LIMITED != 0,
        })
    }

    /// How a token stands at this moment; `None` when there is none.
    pub(super) fn status(&self, record: u64) -> Option<TokenStatus> {
        let (_, [_, _, packed, ..]) =
            self.payment.get(index(u32::try_from(record).ok()?))?.read::<PAYMENT_WORDS>();
        unpack_status(packed).map(|(status, _)| status)
    }

    /// A token's own controls.
    pub(super) fn own_controls(&self, record: u64) -> Option<Arc<TokenControls>> {
        self.own.get(record)
    }

    /// Which keys a token's holder was given.
    pub(super) fn given_keys(&self, record: u64) -> Option<Arc<GivenKeys>> {
        self.keys.get(record)
    }

    /// Whether two tokens are the same requestor's, and for the same card.
    pub(super) fn same_holder(&self, one: u64, other: u64) -> bool {
        let holder = |record: u64| {
            let record = u32::try_from(record).ok()?;
            let (_, [token, ..]) = self.payment.get(index(record))?.read::<PAYMENT_WORDS>();
            Some((self.domain(&self.mapping(token)?)?.requestor, self.names(record).card))
        };
        holder(one).is_some_and(|it| holder(other) == Some(it))
    }

    pub(super) fn domain(&self, mapping: &Mapping) -> Option<&Domain> {
        self.domains.get(index(mapping.domain)).and_then(OnceLock::get)
    }

    /// Whether there is a slot for this record.
    pub(super) fn has_room(&self, record: u32) -> bool {
        index(record) < self.payment.len()
    }

    pub(super) fn has(&self, token: u64) -> bool {
        self.find(token).is_some()
    }

    fn find(&self, token: u64) -> Option<(u32, &PaymentSlot)> {
        self.search(token, |slot| slot.first() == token)
    }

    /// The first record under the token's mark whose slot `is_it`. Its own is the first, as a rule.
    #[inline]
    fn search(&self, token: u64, is_it: impl Fn(&PaymentSlot) -> bool) -> Option<(u32, &PaymentSlot)> {
        self.index.find(token, |record| {
            let slot = self.payment.get(index(record))?;
            is_it(slot).then_some((record, slot))
        })
    }

    /// Gives a domain the next number, if it has none; none when there is no room for another.
    pub(super) fn intern(&self, known: &mut Map<Domain, u32>, domain: Domain) -> Option<u32> {
        if let Some(at) = known.get(&domain) {
            return Some(*at);
        }
        let at = u32::try_from(known.len()).ok()?;
        self.domains.get(index(at))?.set(domain.clone()).ok()?;
        known.insert(domain, at);
        Some(at)
    }

    /// Writes a record's slots.
    fn write(&self, record: u32, from: &VaultRecord, domain: u32) {
        let Some(slot) = self.rest.get(index(record)) else { return };
        let [r0, r1] = split(from.reference.to_bytes());
        let [b0, b1] = split(from.blind_index);
        let words = [r0, r1, from.issued_at.0, from.changed_at.0, b0, b1, from.device.unwrap_or_default()];
        slot.write(from.lifecycle.version, words);
        // Before the mark that leads there. Keys that were given are never forgotten, only taken back.
        if let Some(keys) = &from.keys {
            self.keys.put(from.record, (**keys).clone());
        }
        let Some(slot) = self.payment.get(index(record)) else { return };
        let (marks, words) = payment_words(from, domain);
        slot.write(marks, words);
    }

    /// Puts a record where nothing is. Its slots are written first: who finds it in the index finds them.
    pub(super) fn put(
        &self,
        references: &RecordIndex,
        (record, new): (u32, &VaultRecord),
        domain: u32,
    ) -> Result<(), Unfit> {
        self.write(record, new, domain);
        let token = new.token.number();
        let has_token = |other: u32| self.payment.get(index(other)).is_some_and(|slot| slot.first() == token);
        self.index.insert(token, record, has_token)?;
        let reference = split(new.reference.to_bytes());
        references.insert(mixed(reference), record, |other| self.names(other).reference == reference)
    }

    /// Puts the record's own controls in, or takes them out; gives whether that made a difference in their number.
    pub(super) fn narrow(&self, new: &VaultRecord) -> bool {
        match &new.own {
            Some(own) => self.own.put(new.record, (**own).clone()),
            None => self.own.remove(new.record),
        }
    }

    /// By what a record is found; nothing for none.
    fn names(&self, record: u32) -> Names {
        let words = self.rest.get(index(record)).map(|slot| slot.read::<7>().1);
        let [r0, r1, _, _, b0, b1, device] = words.unwrap_or_default();
        Names { reference: [r0, r1], card: [b0, b1], device }
    }
}

/// By what records are found, as the words of their slot.
struct Names {
    reference: [u64; 2],
    card: [u64; 2],
    /// 0 for none.
    device: u64,
}

/// References and blind indices are random: any of their bits do for a hash.
fn mixed([low, high]: [u64; 2]) -> u64 {
    low ^ high
}

impl Domain {
    pub(super) fn is_of(&self, record: &VaultRecord) -> bool {
        self.requestor == record.requestor && self.controls == record.controls
    }

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

impl From<Unfit> for TableFault {
    fn from(fault: Unfit) -> Self {
        match fault {
            Unfit::Full => Self::Full,
            Unfit::Taken => Self::Taken,
        }
    }
}

/// The writer's side of the table, with the look-ups that no payment needs.
pub(super) struct TableWriter {
    table: Arc<TokenTable>,
    capacity: usize,
    count: usize,
    by_reference: RecordIndex,
    /// Tokens of one PAN; all share one PAR.
    by_pan: Chains,
    by_device: Chains,
    /// The cards to which few tokens led before.
    past: Map<u64, Vec<PastMapping>>,
    /// How many remote cryptograms were made of those of which any were.
    cryptograms: Map<u64, u16>,
    /// How many tokens have controls of their own.
    narrowed: usize,
    domains: Map<Domain, u32>,
}

impl TableWriter {
    /// Room for `capacity` tokens and `control_sets` different sets of controls, taken at once.
    pub(super) fn new(capacity: u32, control_sets: u32) -> Self {
        let capacity = index(capacity);
        let table = TokenTable {
            index: RecordIndex::new(capacity),
            payment: (0..capacity).map(|_| Slot::empty()).collect(),
            rest: (0..capacity).map(|_| Slot::empty()).collect(),
            domains: (0..control_sets).map(|_| OnceLock::new()).collect(),
            own: Beside::new(),
            keys: Beside::new(),
        };
        Self {
            table: Arc::new(table),
            capacity,
            count: 0,
            by_reference: RecordIndex::new(capacity),
            by_pan: Chains::new(capacity),
            by_device: Chains::new(capacity),
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
        let reference = split(reference.to_bytes());
        let is_it = |record: u32| (self.table.names(record).reference == reference).then_some(record);
        self.by_reference.find(mixed(reference), is_it).map(u64::from)
    }

    /// The PAR that this PAN's tokens have; none when it has no token or they have none.
    pub(super) fn par_of(&self, blind_index: &[u8; 16]) -> Option<Par> {
        let record = self.records_of_pan(*blind_index).next()?;
        let (_, words) = self.table.payment.get(index(record))?.read::<PAYMENT_WORDS>();
        let [_, _, _, _, _, _, _, _, par @ ..] = words;
        unpack_par(par)
    }

    /// Puts a domain in, if it is not there; none when there is no room for another.
    pub(super) fn intern(&mut self, domain: Domain) -> Option<u32> {
        self.table.intern(&mut self.domains, domain)
    }

    /// Adds a token.
    pub(super) fn insert(&mut self, new: &VaultRecord) -> Result<(), TableFault> {
        let record = u32::try_from(new.record).map_err(|_| TableFault::Full)?;
        if self.count >= self.capacity {
            return Err(TableFault::Full);
        }
        let domain = self.intern(Domain::of(new)).ok_or(TableFault::Full)?;
        let is_next = index(record) == self.count && self.by_reference(new.reference).is_none();
        if !is_next || self.has_token(&new.token) {
            return Err(TableFault::Taken);
        }
        self.narrow(new);
        self.table.put(&self.by_reference, (record, new), domain)?;
        self.chain(record, new.blind_index, new.device);
        self.keep_rest(new);
        self.count += 1;
        Ok(())
    }

    /// What several threads put the records of a checkpoint into the empty table with.
    pub(super) fn loading(&mut self) -> Loading<'_> {
        Loading::new(&self.table, &self.by_reference, &mut self.domains)
    }

    /// Takes over what was loaded: all of it, in whatever order, without a gap.
    pub(super) fn loaded(&mut self, loaded: Vec<Loaded>) -> Result<(), TableFault> {
        let mut next = 0;
        for some in loaded {
            self.count += some.count;
            self.narrowed += some.narrowed;
            next = next.max(some.next);
            self.past.extend(some.past);
            self.cryptograms.extend(some.cryptograms);
        }
        if self.count != index(next) {
            return Err(TableFault::Taken);
        }
        let mut record = 0;
        while record < next {
            let batch = record..next.min(record.saturating_add(CHAINED_AT_ONCE));
            let names: Vec<Names> = batch.clone().map(|record| self.table.names(record)).collect();
            names.iter().for_each(|names| self.by_pan.touch(mixed(names.card)));
            for (record, names) in batch.clone().zip(names) {
                self.chain(record, join(names.card), (names.device != 0).then_some(names.device));
            }
            record = batch.end;
        }
        Ok(())
    }

    /// Puts a new record into the chains that it belongs to.
    fn chain(&mut self, record: u32, blind_index: [u8; 16], device: Option<u64>) {
        let Self { table, by_pan, by_device, .. } = self;
        let card = split(blind_index);
        by_pan.link(mixed(card), record, |other| table.names(other).card == card);
        match device {
            Some(device) => by_device.link(device, record, |other| table.names(other).device == device),
            None => by_device.leave_out(),
        }
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
        let moves = before.blind_index != new.blind_index;
        let (table, by_pan) = (&self.table, &mut self.by_pan);
        let [old_card, card] = [before.blind_index, new.blind_index].map(split);
        if moves {
            by_pan.unlink(mixed(old_card), record, |other| table.names(other).card == old_card);
        }
        table.write(record, new, domain);
        if moves {
            by_pan.link(mixed(card), record, |other| table.names(other).card == card);
        }
        if new.own.is_none() && before.own.is_some() {
            self.narrow(new);
        }
        self.keep_rest(new);
        true
    }

    fn narrow(&mut self, new: &VaultRecord) {
        let changed = usize::from(self.table.narrow(new));
        if new.own.is_some() { self.narrowed += changed } else { self.narrowed -= changed }
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
        self.records_of_pan(blind_index).filter_map(|record| self.record(u64::from(record)))
    }

    fn records_of_pan(&self, blind_index: [u8; 16]) -> impl Iterator<Item = u32> {
        let card = split(blind_index);
        self.by_pan.of(mixed(card), move |record| self.table.names(record).card == card)
    }

    /// The tokens on a device, the newest first.
    pub(super) fn of_device(&self, device: u64) -> impl Iterator<Item = VaultRecord> {
        let on_device = self.by_device.of(device, move |record| self.table.names(record).device == device);
        on_device.filter_map(|record| self.record(u64::from(record)))
    }

    /// The whole record.
    pub(super) fn record(&self, record: u64) -> Option<VaultRecord> {
        let at = usize::try_from(record).ok().filter(|at| *at < self.count)?;
        let (marks, words) = self.table.payment.get(at)?.read::<15>();
        let [token, .., last4, because, _] = words;
        let (version, [r0, r1, issued, changed, b0, b1, device]) = self.table.rest.get(at)?.read::<7>();
        let token = Token::parse(token.to_string().as_bytes()).ok()?;
        let mapping = self.table.mapping(token.number())?;
        let Domain { requestor, controls } = self.table.domain(&mapping)?.clone();
        let [suspenders, _, location, has] = marks.to_le_bytes();
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
            keys: self.table.given_keys(record).map(|keys| Box::new((*keys).clone())),
            owners: Owners::from_bits(has >> OWNERS_SHIFT)?,
            because: u8::try_from(because).ok().and_then(Reason::from_code)?,
        })
    }

    /// Writes another envelope into a record, as a new mapping would.
    #[cfg(test)]
    pub(super) fn replace_for_test(&mut self, record: u64, sealed: Sealed) {
        let mut found = self.record(record).unwrap();
        found.sealed = sealed;
        let domain = self.intern(Domain::of(&found)).unwrap();
        self.table.write(u32::try_from(record).unwrap(), &found, domain);
    }
}

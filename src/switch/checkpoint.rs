//! What the switch keeps in the checkpoint: folded from the journal by `SwitchFold`, read back by
//! `Unfinished::restore`. It only saves time at start; the journal has it all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::journal::{
    Body, CheckpointError, Entry, EntryNumber, Fold, KeyEvent, Pending, Records, RequestEntry, StoredEntry,
    TombstoneEntry, TransactionEntry,
};
use crate::stdx::clock::Wall;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{
    BusinessDate, LinkId, ResponseCode, SentAt, SettlementWindow, ShardId, Stan, TransactionId,
};

use super::config::Limits;
use super::numbers::LastNumbers;
use super::unfinished::{Answers, Milestone, Owed, Parked, Unfinished};

/// The only part: a kind, then an id, big end first; and one record of numbers.
const PART: &str = "switch";
/// The key of the numbers.
const NUMBERS: [u8; 1] = [0];
const OPEN: u8 = 1;
const STORED: u8 = 2;
const PARKED: u8 = 3;
const TOMBSTONE: u8 = 4;
const STOOD_IN: u8 = 5;
const KEY_EVENT: u8 = 6;
/// Of the numbers.
const VERSION: u64 = 3;
/// Knew of no parked message whether it was taken back.
const BEFORE: u64 = 2;

/// A kind and an id.
type Name = (u8, u64);

fn key_of((kind, id): Name) -> Vec<u8> {
    [&[kind][..], &id.to_be_bytes()].concat()
}

impl Unfinished {
    /// What a checkpoint or a base knows; as before the first entry when that is empty.
    ///
    /// # Errors
    /// `Damaged` for what cannot be read, `Store`.
    pub fn restore(limits: Limits, checkpoint: &dyn Records) -> Result<Self, CheckpointError> {
        if checkpoint.entry_number() == EntryNumber(0) {
            return Ok(Self::new(limits));
        }
        let mut records = Vec::new();
        checkpoint.scan_part(PART, &mut |key, value| {
            records.push((key.to_vec(), value.to_vec()));
            Ok(())
        })?;
        Self::from_records(limits, records).ok_or(CheckpointError::Damaged("what the switch left unfinished"))
    }

    /// From what `records` gave, in any order; `None` when it is not that.
    #[must_use]
    pub fn from_records(
        limits: Limits,
        records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Option<Self> {
        let mut read = Self::new(limits);
        let mut numbers = None;
        for (key, value) in records {
            match key.split_first()? {
                (&kind, id) if kind != NUMBERS[0] => {
                    read.put((kind, u64::from_be_bytes(id.try_into().ok()?)), &value)?;
                }
                _ => numbers = Some(value),
            }
        }
        read.put_numbers(&numbers?)?;
        Some(read)
    }

    /// All of it, as keys and values.
    pub fn records(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let named = self.names().filter_map(|name| Some((key_of(name), self.record(name)?)));
        named.chain([(NUMBERS.to_vec(), self.numbers())])
    }

    /// In order.
    fn names(&self) -> impl Iterator<Item = Name> {
        fn of<'a, V>(kind: u8, ids: &'a BTreeMap<TransactionId, V>) -> impl Iterator<Item = Name> + 'a {
            ids.keys().map(move |id| (kind, id.0))
        }
        let numbered = |kind: u8| move |number: &EntryNumber| (kind, number.0);
        let owed = of(STORED, &self.stored).filter(|_| !sabotaged("owed-left-out-of-the-checkpoint"));
        let messages = of(OPEN, &self.open).chain(owed).chain(of(PARKED, &self.parked));
        messages
            .chain(self.tombstones.keys().map(numbered(TOMBSTONE)))
            .chain(self.stood_in.values().flat_map(BTreeMap::keys).map(numbered(STOOD_IN)))
            .chain(self.keys.keys().map(numbered(KEY_EVENT)))
    }

    fn record(&self, (kind, id): Name) -> Option<Vec<u8>> {
        let (transaction, number) = (TransactionId(id), EntryNumber(id));
        let stored = |entry: &StoredEntry| TransactionEntry::Stored(Box::new(entry.clone()));
        let said = |number, at, said| encoded(number, at, Body::Transaction(said));
        Some(match kind {
            OPEN => {
                let (number, at, request) = self.open.get(&transaction)?;
                said(*number, *at, TransactionEntry::Request(request.clone()))
            }
            STORED => {
                let owed = self.stored.get(&transaction)?;
                said(owed.number, owed.since, stored(&owed.message))
            }
            PARKED => {
                let Parked { owed, code, .. } = self.parked.get(&transaction)?;
                let entry = said(owed.number, owed.since, stored(&owed.message));
                let code = code.as_ref().map_or(&[][..], ResponseCode::as_bytes);
                let length = u8::try_from(code.len()).ok()?;
                [&[length], code, &entry].concat()
            }
            TOMBSTONE => {
                let (at, stone) = self.tombstones.get(&number)?;
                said(number, *at, TransactionEntry::Tombstone(Box::new(stone.clone())))
            }
            STOOD_IN => {
                let (at, advice) = self.stood_in.values().find_map(|of_issuer| of_issuer.get(&number))?;
                said(number, *at, stored(advice))
            }
            KEY_EVENT => {
                let (at, event) = self.keys.get(&number)?;
                encoded(number, *at, Body::Operator(event.encode()))
            }
            _ => return None,
        })
    }

    fn put(&mut self, (kind, id): Name, value: &[u8]) -> Option<()> {
        let (transaction, number) = (TransactionId(id), EntryNumber(id));
        match kind {
            OPEN => {
                let (number, at, request) = request(value)?;
                self.open.insert(transaction, (number, at, request));
            }
            STORED => {
                self.stored.insert(transaction, stored(value)?);
            }
            PARKED => {
                let (length, rest) = value.split_first()?;
                let (code, entry) = rest.split_at_checked(usize::from(*length))?;
                let code = if code.is_empty() { None } else { Some(ResponseCode::parse(code).ok()?) };
                let parked = Parked { owed: stored(entry)?, code, taken_back: false };
                self.parked.insert(transaction, parked);
            }
            TOMBSTONE => {
                self.tombstones.insert(number, tombstone(value)?);
            }
            STOOD_IN => {
                let Owed { since, message, .. } = stored(value)?;
                self.stood_in.entry(message.issuer.link).or_default().insert(number, (since, message));
            }
            KEY_EVENT => {
                let Entry { wall_time, body: Body::Operator(bytes), .. } = Entry::decode(value).ok()? else {
                    return None;
                };
                self.keys.insert(number, (wall_time, KeyEvent::decode(&bytes)?));
            }
            _ => return None,
        }
        Some(())
    }

    fn numbers(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.last_transaction, self.ever_parked, self.day, self.answers.count];
        put_all(&mut out, &self.last_numbers, |(link, last)| {
            [u64::from(link.0), u64::from(last.any.get()), last.ours.map_or(0, |stan| u64::from(stan.get()))]
        });
        let taken_back = self.parked.iter().filter(|(_, parked)| parked.taken_back);
        put_all(&mut out, taken_back.map(|(id, _)| [id.0]).collect::<Vec<_>>(), |id| id);
        put_all(&mut out, &self.reversed, |(original, reversal)| [original.0, reversal.0]);
        put_all(&mut out, &self.windows, |window| {
            let SettlementWindow { date: BusinessDate { year, month, day }, sequence } = *window;
            [year, u16::from(month), u16::from(day), sequence].map(u64::from)
        });
        let newest = |(link, sent_at): (&LinkId, &SentAt)| [u64::from(link.0), sent_at.0];
        put_all(&mut out, &self.answers.newest, newest);
        for milestone in &self.answers.milestones {
            out.extend([milestone.from.0, milestone.count]);
            put_all(&mut out, &milestone.newest, newest);
        }
        out.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn put_numbers(&mut self, bytes: &[u8]) -> Option<()> {
        let (numbers, []) = bytes.as_chunks::<8>() else { return None };
        let mut from = numbers.iter().map(|number| u64::from_le_bytes(*number));
        let version = from.next()?;
        if !(BEFORE..=VERSION).contains(&version) {
            return None;
        }
        (self.last_transaction, self.ever_parked, self.day) = (from.next()?, from.next()?, from.next()?);
        let count = from.next()?;
        let link = |number: u64| u16::try_from(number).ok().map(LinkId);
        let answered = |[name, sent_at]: [u64; 2]| Some((link(name)?, SentAt(sent_at)));
        let stan = |number: u64| u32::try_from(number).ok().and_then(Stan::new);
        self.last_numbers = take_all(&mut from, |[name, any, ours]| {
            Some((link(name)?, LastNumbers { any: stan(any)?, ours: stan(ours) }))
        })?;
        let taken_back: Vec<TransactionId> =
            if version > BEFORE { take_all(&mut from, |[id]| Some(TransactionId(id)))? } else { vec![] };
        for id in taken_back {
            self.parked.get_mut(&id)?.taken_back = true;
        }
        self.reversed =
            take_all(&mut from, |[original, by]| Some((TransactionId(original), TransactionId(by))))?;
        self.windows = take_all(&mut from, |[year, month, day, sequence]| {
            let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
            let date = BusinessDate { year: u16::try_from(year).ok()?, month, day };
            Some(SettlementWindow { date, sequence: u16::try_from(sequence).ok()? })
        })?;
        let newest = take_all(&mut from, answered)?;
        let mut milestones = std::collections::VecDeque::new();
        while let Some(entry) = from.next() {
            let (count, newest) = (from.next()?, take_all(&mut from, answered)?);
            milestones.push_back(Milestone { from: EntryNumber(entry), count, newest });
        }
        self.answers = Answers { count, newest, milestones };
        (!self.answers.milestones.is_empty()).then_some(())
    }
}

/// A count, then so many groups of numbers.
fn put_all<T, const N: usize>(
    out: &mut Vec<u64>,
    all: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    numbers: impl Fn(T) -> [u64; N],
) {
    let all = all.into_iter();
    out.push(u64::try_from(all.len()).unwrap_or(u64::MAX));
    all.for_each(|each| out.extend(numbers(each)));
}

fn take_all<T, C: FromIterator<T>, const N: usize>(
    from: &mut impl Iterator<Item = u64>,
    value: impl Fn([u64; N]) -> Option<T>,
) -> Option<C> {
    let count = from.next()?;
    let group = |from: &mut dyn Iterator<Item = u64>| {
        let mut numbers = [0; N];
        for place in &mut numbers {
            *place = from.next()?;
        }
        Some(numbers)
    };
    (0..count).map(|_| value(group(from)?)).collect()
}

fn encoded(number: EntryNumber, wall_time: Wall, body: Body) -> Vec<u8> {
    let mut out = Vec::new();
    Entry { number, shard: ShardId::default(), wall_time, body }.encode(&mut out);
    out
}

fn decoded(value: &[u8]) -> Option<(EntryNumber, Wall, TransactionEntry)> {
    let Entry { number, wall_time, body, .. } = Entry::decode(value).ok()?;
    if let Body::Transaction(entry) = body { Some((number, wall_time, entry)) } else { None }
}

fn request(value: &[u8]) -> Option<(EntryNumber, Wall, Box<RequestEntry>)> {
    let (number, at, entry) = decoded(value)?;
    if let TransactionEntry::Request(request) = entry { Some((number, at, request)) } else { None }
}

fn stored(value: &[u8]) -> Option<Owed> {
    let (number, since, TransactionEntry::Stored(message)) = decoded(value)? else { return None };
    Some(Owed { number, since, message: *message })
}

fn tombstone(value: &[u8]) -> Option<(Wall, TombstoneEntry)> {
    let (_, at, entry) = decoded(value)?;
    if let TransactionEntry::Tombstone(stone) = entry { Some((at, *stone)) } else { None }
}

/// How much the switch remembers, for its fold to remember as much: a reload changes it.
#[derive(Debug, Clone)]
pub struct LimitsInForce(Arc<Mutex<Limits>>);

impl LimitsInForce {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(limits)))
    }

    #[must_use]
    pub fn get(&self) -> Limits {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the next entry on.
    pub fn set(&self, limits: Limits) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }
}

/// Folds what is unfinished. Most requests have their outcome before it is written, and never touch the store.
pub struct SwitchFold {
    limits: LimitsInForce,
    unfinished: Unfinished,
    /// What stands in the checkpoint.
    written: BTreeSet<Name>,
}

impl SwitchFold {
    /// Goes on where the checkpoint stands.
    ///
    /// # Errors
    /// As `Unfinished::restore`.
    pub fn resume(limits: LimitsInForce, checkpoint: &dyn Records) -> Result<Self, CheckpointError> {
        let unfinished = Unfinished::restore(limits.get(), checkpoint)?;
        let written = unfinished.names().collect();
        Ok(Self { limits, unfinished, written })
    }
}

impl Fold for SwitchFold {
    fn fold(&mut self, entry: &Entry, _: &mut Pending<'_>) -> Result<(), CheckpointError> {
        let unread = |_| CheckpointError::Damaged("an operator's decision in the journal cannot be read");
        self.unfinished.limits = self.limits.get();
        self.unfinished.observe(entry).map_err(unread)
    }

    fn settle(&mut self, changes: &mut Pending<'_>) -> Result<(), CheckpointError> {
        let Self { unfinished, written, .. } = self;
        let now: BTreeSet<Name> = unfinished.names().collect();
        for gone in written.difference(&now) {
            changes.remove(PART, &key_of(*gone))?;
        }
        for new in now.difference(written) {
            if let Some(record) = unfinished.record(*new) {
                changes.put(PART, &key_of(*new), record)?;
            }
        }
        self.written = now;
        changes.put(PART, &NUMBERS, self.unfinished.numbers())
    }
}

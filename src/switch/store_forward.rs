//! `StoreForward`: advices and reversals that must arrive. One queue an issuer, in order per card, retried until
//! the issuer acknowledges or a person is needed; parallel between cards and issuers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::journal::StoredEntry;
use crate::stdx::clock::{Moment, Now, Wall};
use crate::stdx::maps::Map;
use crate::vocab::{LinkId, ResponseCode, TransactionId};

use super::config::StoreForwardConfig;
use super::event::CardMark;

/// All issuers' queues.
#[derive(Debug)]
pub struct StoreForward {
    queues: Map<LinkId, Queue>,
    /// Which issuer a stored message belongs to.
    owner: Map<TransactionId, LinkId>,
    /// What issuers will never take: a person must look. In no queue.
    parked: BTreeMap<TransactionId, Item>,
    config: StoreForwardConfig,
    capacity: usize,
}

/// One issuer's.
#[derive(Debug, Default)]
struct Queue {
    items: Map<TransactionId, Item>,
    /// Messages of one card, the first of which may be sent.
    cards: Map<CardMark, VecDeque<TransactionId>>,
    /// Heads of their card's queue by the moment they may be sent.
    due: BTreeSet<(Moment, TransactionId)>,
    /// All of them, the oldest first.
    by_age: BTreeSet<(Wall, TransactionId)>,
    /// How many are parked instead.
    parked: usize,
    unacknowledged: usize,
    /// Places kept for reversals of requests that are in flight.
    reserved: usize,
}

/// A stored message and how often it was tried.
#[derive(Debug)]
pub struct Item {
    pub entry: StoredEntry,
    pub mark: CardMark,
    /// Attempts that a connection took.
    pub attempts: u32,
    /// When the issuer first said that it does not know the original.
    pub unknown_since: Option<Moment>,
    /// Since when it is owed.
    pub since: Wall,
    /// What the issuer said last; none if nothing in this run of the process.
    pub code: Option<ResponseCode>,
    state: ItemState,
}

/// Why a person must look at a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The issuer will never take it.
    Parked,
    /// Owed for longer than the age limit, and tried still.
    OverAge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ItemState {
    /// Its original's outcome is not known yet.
    Held,
    /// Behind another of its card.
    Behind,
    Due(Moment),
    /// Handed over; its acknowledgement is waited for until then.
    Sent(Moment),
}

impl StoreForward {
    #[must_use]
    pub fn new(config: StoreForwardConfig, capacity: usize) -> Self {
        Self { queues: Map::default(), owner: Map::default(), parked: BTreeMap::new(), config, capacity }
    }

    /// Goes on with other limits; what is there stays.
    pub fn reconfigure(&mut self, config: StoreForwardConfig, capacity: usize) {
        self.config = config;
        self.capacity = capacity;
    }

    /// Keeps a place for the reversal of a request that is about to be forwarded. An eighth of all places is kept
    /// from requests: advices find room when requests find none.
    #[must_use]
    pub fn reserve(&mut self, issuer: LinkId) -> bool {
        let most = self.capacity - self.capacity / 8;
        let queue = self.queues.entry(issuer).or_default();
        let room = queue.taken() < most;
        if room {
            queue.reserved += 1;
        }
        room
    }

    /// Gives a kept place back.
    pub fn release(&mut self, issuer: LinkId) {
        if let Some(queue) = self.queues.get_mut(&issuer) {
            queue.reserved = queue.reserved.saturating_sub(1);
        }
    }

    /// Whether there is room for another advice. An acquirer's reversal always has it: it undoes an answer that is
    /// remembered, once, and so there are no more of them than `limits.answered`.
    #[must_use]
    pub fn has_room(&self, issuer: LinkId) -> bool {
        self.taken(issuer) < self.capacity
    }

    /// Places taken at an issuer: what waits, what is parked, and what is kept for requests in flight.
    #[must_use]
    pub fn taken(&self, issuer: LinkId) -> usize {
        self.queues.get(&issuer).map_or(0, Queue::taken)
    }

    /// Takes a message in. `held`: it waits for its original's outcome.
    pub fn push(&mut self, entry: StoredEntry, mark: CardMark, now: Now, held: bool) {
        self.enqueue(Item::new(entry, mark, now.wall, held), now.moment);
    }

    /// Takes a message in that was there before a restart, owed since then: whether the issuer has it is not known,
    /// so it goes out as a repeat.
    pub fn restore(&mut self, entry: StoredEntry, mark: CardMark, since: Wall, now: Moment, held: bool) {
        self.enqueue(Item::new(entry, mark, since, held).sent_before(), now);
    }

    /// Takes a message in that was parked before a restart.
    pub fn restore_parked(&mut self, entry: StoredEntry, mark: CardMark, since: Wall, code: ResponseCode) {
        let (id, issuer) = (entry.transaction, entry.issuer.link);
        self.queues.entry(issuer).or_default().parked += 1;
        self.parked.insert(id, Item { code: Some(code), ..Item::new(entry, mark, since, false) });
    }

    fn enqueue(&mut self, item: Item, now: Moment) {
        let (id, issuer, mark) = (item.entry.transaction, item.entry.issuer.link, item.mark);
        let queue = self.queues.entry(issuer).or_default();
        queue.by_age.insert((item.since, id));
        queue.items.insert(id, item);
        queue.cards.entry(mark).or_default().push_back(id);
        queue.advance(mark, now);
        self.owner.insert(id, issuer);
    }

    /// The issuer will never take it: it leaves the queue, and the next of its card may go.
    pub fn park(&mut self, id: TransactionId, code: ResponseCode, now: Moment) {
        let Some(item) = self.remove(id, now) else { return };
        self.queues.entry(item.entry.issuer.link).or_default().parked += 1;
        self.parked.insert(id, Item { code: Some(code), ..item });
    }

    /// A person wants it tried now, parked or not.
    pub fn retry(&mut self, id: TransactionId, now: Moment) {
        if let Some(item) = self.take_parked(id) {
            return self.enqueue(Item { state: ItemState::Behind, ..item.sent_before() }, now);
        }
        let Some(queue) = self.queue_of(id) else { return };
        if let Some(ItemState::Due(at)) = queue.items.get(&id).map(|item| item.state) {
            queue.due.remove(&(at, id));
            queue.schedule(id, now);
        }
    }

    /// A person has settled it.
    pub fn close(&mut self, id: TransactionId, now: Moment) -> Option<Item> {
        self.take_parked(id).or_else(|| self.remove(id, now))
    }

    fn take_parked(&mut self, id: TransactionId) -> Option<Item> {
        let item = self.parked.remove(&id)?;
        if let Some(queue) = self.queues.get_mut(&item.entry.issuer.link) {
            queue.parked = queue.parked.saturating_sub(1);
        }
        Some(item)
    }

    /// What a person must look at: parked, or owed for longer than the age limit.
    pub fn exceptions(&self, now: Wall) -> impl Iterator<Item = (&Item, Standing)> {
        let parked = self.parked.values().map(|item| (item, Standing::Parked));
        let limit = self.config.age_limit;
        let old = self.queues.values().flat_map(move |queue| {
            let old = queue.by_age.iter().take_while(move |(since, _)| since.plus(limit) < now);
            old.filter_map(|(_, id)| queue.items.get(id)).map(|item| (item, Standing::OverAge))
        });
        parked.chain(old)
    }

    /// Whether a person must look at this one.
    #[must_use]
    pub fn is_exception(&self, id: TransactionId, now: Wall) -> bool {
        self.parked.contains_key(&id)
            || self.get(id).is_some_and(|item| item.since.plus(self.config.age_limit) < now)
    }

    /// The issuer answered it, and not with an acknowledgement. `unknown`: when it said that it does not know the original.
    pub fn answered(&mut self, id: TransactionId, code: ResponseCode, unknown: Option<Moment>) {
        if let Some(item) = self.queue_of(id).and_then(|queue| queue.items.get_mut(&id)) {
            item.code = Some(code);
            item.unknown_since = item.unknown_since.or(unknown);
        }
    }

    /// Its original's outcome is known: it may go as soon as it is first of its card.
    pub fn unhold(&mut self, id: TransactionId, now: Moment) {
        let Some(queue) = self.queue_of(id) else { return };
        let Some(item) = queue.items.get_mut(&id) else { return };
        if item.state == ItemState::Held {
            item.state = ItemState::Behind;
            let mark = item.mark;
            queue.advance(mark, now);
        }
    }

    /// Messages of an issuer that may be sent now, within what may be unacknowledged at once.
    #[must_use]
    pub fn due(&self, issuer: LinkId, now: Moment) -> Vec<TransactionId> {
        let Some(queue) = self.queues.get(&issuer) else { return Vec::new() };
        let room = self.config.at_once.saturating_sub(queue.unacknowledged);
        queue.due.iter().take_while(|(at, _)| *at <= now).take(room).map(|(_, id)| *id).collect()
    }

    /// A connection took it.
    pub fn sent(&mut self, id: TransactionId, now: Moment) {
        let timeout = self.config.timeout;
        let Some(queue) = self.queue_of(id) else { return };
        let Some(item) = queue.items.get_mut(&id) else { return };
        if let ItemState::Due(at) = item.state {
            queue.due.remove(&(at, id));
            queue.unacknowledged += 1;
        }
        item.state = ItemState::Sent(now.plus(timeout));
        item.attempts = item.attempts.saturating_add(1);
    }

    /// It was not acknowledged, or could not be sent: again after a pause that doubles; past the age limit, after
    /// the longest.
    pub fn again(&mut self, id: TransactionId, now: Now) {
        let config = self.config;
        let Some(queue) = self.queue_of(id) else { return };
        let Some(item) = queue.items.get_mut(&id) else { return };
        match item.state {
            ItemState::Sent(_) => queue.unacknowledged = queue.unacknowledged.saturating_sub(1),
            ItemState::Due(at) => {
                queue.due.remove(&(at, id));
            }
            ItemState::Held | ItemState::Behind => {}
        }
        let doublings = item.attempts.saturating_sub(1).min(16);
        let pause = config.pause_least.saturating_mul(1 << doublings).min(config.pause_most);
        let old = item.since.plus(config.age_limit) < now.wall;
        queue.schedule(id, now.moment.plus(if old { config.pause_most } else { pause }));
    }

    /// Nothing of it left the house, so the attempt does not count: the issuer has still not seen it.
    pub fn not_sent(&mut self, id: TransactionId, now: Now) {
        if let Some(item) = self.queue_of(id).and_then(|queue| queue.items.get_mut(&id)) {
            item.attempts = item.attempts.saturating_sub(1);
        }
        self.again(id, now);
    }

    /// It is acknowledged, or parked: the next of its card may go.
    pub fn remove(&mut self, id: TransactionId, now: Moment) -> Option<Item> {
        let issuer = self.owner.remove(&id)?;
        let queue = self.queues.get_mut(&issuer)?;
        let item = queue.items.remove(&id)?;
        queue.by_age.remove(&(item.since, id));
        match item.state {
            ItemState::Sent(_) => queue.unacknowledged = queue.unacknowledged.saturating_sub(1),
            ItemState::Due(at) => {
                queue.due.remove(&(at, id));
            }
            ItemState::Held | ItemState::Behind => {}
        }
        let card = queue.cards.get_mut(&item.mark)?;
        card.retain(|other| *other != id);
        if card.is_empty() {
            queue.cards.remove(&item.mark);
        }
        queue.advance(item.mark, now);
        Some(item)
    }

    /// Everything of an issuer whose acknowledgement did not come in time.
    #[must_use]
    pub fn overdue(&self, now: Moment) -> Vec<TransactionId> {
        let late = |item: &&Item| matches!(item.state, ItemState::Sent(until) if until <= now);
        let queues = self.queues.values().filter(|queue| queue.unacknowledged > 0);
        let mut ids: Vec<TransactionId> = queues
            .flat_map(|queue| queue.items.values().filter(late).map(|item| item.entry.transaction))
            .collect();
        ids.sort_unstable();
        ids
    }

    #[must_use]
    pub fn get(&self, id: TransactionId) -> Option<&Item> {
        self.queues.get(self.owner.get(&id)?)?.items.get(&id)
    }

    /// Whether it was handed to a connection and is not acknowledged.
    #[must_use]
    pub fn is_unacknowledged(&self, id: TransactionId) -> bool {
        self.get(id).is_some_and(|item| matches!(item.state, ItemState::Sent(_)))
    }

    /// The issuers that have something waiting.
    #[must_use]
    pub fn issuers(&self) -> Vec<LinkId> {
        let mut issuers: Vec<LinkId> =
            self.queues.iter().filter(|(_, queue)| !queue.due.is_empty()).map(|(id, _)| *id).collect();
        issuers.sort_unstable();
        issuers
    }

    /// How many wait, over all issuers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owner.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owner.is_empty()
    }

    /// The next moment at which something may be sent.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.queues.values().filter_map(|queue| queue.due.first().map(|(at, _)| *at)).min()
    }

    fn queue_of(&mut self, id: TransactionId) -> Option<&mut Queue> {
        self.queues.get_mut(self.owner.get(&id)?)
    }
}

impl Item {
    fn new(entry: StoredEntry, mark: CardMark, since: Wall, held: bool) -> Self {
        let state = if held { ItemState::Held } else { ItemState::Behind };
        Self { entry, mark, attempts: 0, unknown_since: None, since, code: None, state }
    }

    /// The issuer may have it: from now on it goes out as a repeat.
    fn sent_before(self) -> Self {
        Self { attempts: self.attempts.max(1), ..self }
    }
}

impl Queue {
    fn taken(&self) -> usize {
        self.items.len() + self.parked + self.reserved
    }

    /// Lets the first message of a card go, unless it waits for its original or is on its way.
    fn advance(&mut self, mark: CardMark, now: Moment) {
        let Some(first) = self.cards.get(&mark).and_then(VecDeque::front).copied() else { return };
        if self.items.get(&first).is_some_and(|item| item.state == ItemState::Behind) {
            self.schedule(first, now);
        }
    }

    fn schedule(&mut self, id: TransactionId, at: Moment) {
        if let Some(item) = self.items.get_mut(&id) {
            item.state = ItemState::Due(at);
            self.due.insert((at, id));
        }
    }
}

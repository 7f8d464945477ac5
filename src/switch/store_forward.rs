//! `StoreForward`: advices and reversals that must arrive. One queue an issuer, in order per card, retried until
//! the issuer acknowledges or a person is needed; parallel between cards and issuers.

use std::collections::{BTreeSet, VecDeque};

use crate::journal::StoredEntry;
use crate::stdx::clock::Moment;
use crate::stdx::maps::Map;
use crate::vocab::{LinkId, TransactionId};

use super::config::StoreForwardConfig;
use super::event::CardMark;

/// All issuers' queues.
#[derive(Debug)]
pub struct StoreForward {
    queues: Map<LinkId, Queue>,
    /// Which issuer a stored message belongs to.
    owner: Map<TransactionId, LinkId>,
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
    /// When the first attempt was sent.
    pub first_sent: Option<Moment>,
    state: ItemState,
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
        Self { queues: Map::default(), owner: Map::default(), config, capacity }
    }

    /// Keeps a place for the reversal of a request that is about to be forwarded. An eighth of all places is kept
    /// from requests: advices find room when requests find none.
    #[must_use]
    pub fn reserve(&mut self, issuer: LinkId) -> bool {
        let most = self.capacity - self.capacity / 8;
        let queue = self.queues.entry(issuer).or_default();
        let room = queue.items.len() + queue.reserved < most;
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

    /// Places taken at an issuer: what waits, and what is kept for requests in flight.
    #[must_use]
    pub fn taken(&self, issuer: LinkId) -> usize {
        self.queues.get(&issuer).map_or(0, |queue| queue.items.len() + queue.reserved)
    }

    /// Takes a message in. `held`: it waits for its original's outcome.
    pub fn push(&mut self, entry: StoredEntry, mark: CardMark, now: Moment, held: bool) {
        let (id, issuer) = (entry.transaction, entry.issuer.link);
        let queue = self.queues.entry(issuer).or_default();
        let state = if held { ItemState::Held } else { ItemState::Behind };
        queue.items.insert(id, Item { entry, mark, attempts: 0, first_sent: None, state });
        queue.cards.entry(mark).or_default().push_back(id);
        queue.advance(mark, now);
        self.owner.insert(id, issuer);
    }

    /// Takes a message in that was there before a restart: whether the issuer has it is not known, so it goes out
    /// as a repeat.
    pub fn restore(&mut self, entry: StoredEntry, mark: CardMark, now: Moment, held: bool) {
        let id = entry.transaction;
        self.push(entry, mark, now, held);
        if let Some(item) = self.queue_of(id).and_then(|queue| queue.items.get_mut(&id)) {
            item.attempts = 1;
            item.first_sent = Some(now);
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
        item.first_sent.get_or_insert(now);
    }

    /// It was not acknowledged, or could not be sent: again after a pause that doubles.
    pub fn again(&mut self, id: TransactionId, now: Moment) {
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
        queue.schedule(id, now.plus(pause));
    }

    /// Nothing of it left the house, so the attempt does not count: the issuer has still not seen it.
    pub fn not_sent(&mut self, id: TransactionId, now: Moment) {
        if let Some(item) = self.queue_of(id).and_then(|queue| queue.items.get_mut(&id)) {
            item.attempts = item.attempts.saturating_sub(1);
            if item.attempts == 0 {
                item.first_sent = None;
            }
        }
        self.again(id, now);
    }

    /// It is acknowledged, or parked: the next of its card may go.
    pub fn remove(&mut self, id: TransactionId, now: Moment) -> Option<Item> {
        let issuer = self.owner.remove(&id)?;
        let queue = self.queues.get_mut(&issuer)?;
        let item = queue.items.remove(&id)?;
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

impl Queue {
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

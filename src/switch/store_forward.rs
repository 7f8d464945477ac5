//! `StoreForward`: advices and reversals that must arrive. One queue an issuer, in order per card, retried until
//! the issuer acknowledges or a person is needed; parallel between cards and issuers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::journal::StoredEntry;
use crate::stdx::clock::{Moment, Now, Wall};
use crate::stdx::maps::Map;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{LinkId, ResponseCode, TransactionId};

use super::config::StoreForwardConfig;
use super::event::CardMark;

/// Attempts of this run after which a message past the age limit need not be waited for by others of its card.
const FAIR: u32 = 10;

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
    /// Handed over and not acknowledged, by the moment until which that is waited for.
    sent: BTreeSet<(Moment, TransactionId)>,
    /// How many are parked instead.
    parked: usize,
    /// Places kept for reversals of requests that are in flight, and for what is on its way to the disk.
    reserved: usize,
    rest: Rest,
    /// Answers of the issuer to any of its messages, in this run of the process.
    heard: u64,
}

/// While an issuer cannot be reached nothing of its queue is tried: until when, and how often in a row that was found.
#[derive(Debug, Default)]
struct Rest {
    until: Moment,
    times: u32,
}

/// A stored message and how often it was tried.
#[derive(Debug)]
pub struct Item {
    pub entry: StoredEntry,
    pub mark: CardMark,
    /// Attempts that a connection took.
    pub attempts: u32,
    /// A connection of this run took it: only then can it have an answer.
    pub sent: bool,
    /// When the issuer first said that it does not know the original.
    pub unknown_since: Option<Moment>,
    /// Since when it is owed.
    pub since: Wall,
    /// What the issuer said last; none if nothing in this run of the process.
    pub code: Option<ResponseCode>,
    /// A reversal of it was taken over: sent behind that it would stay.
    pub taken_back: bool,
    /// It is parked since this switch cannot say it to its issuer; as far as the journal knows it is owed still.
    unsayable: bool,
    /// What its queue had heard when it was sent last.
    heard_before: u64,
    state: ItemState,
}

/// Why a person must look at a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The issuer will never take it.
    Parked,
    /// Its issuer is not in the configuration: nothing is tried before it is again.
    NoIssuer,
    /// Owed for longer than the age limit, and tried still.
    OverAge,
}

impl Standing {
    pub const ALL: [Self; 3] = [Self::Parked, Self::NoIssuer, Self::OverAge];

    /// As lists and metrics say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::NoIssuer => "no-issuer",
            Self::OverAge => "over-age",
        }
    }
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

    /// Keeps a place for an advice or reversal that is on its way to the disk: the next one must not find it free.
    pub fn keep_place(&mut self, issuer: LinkId) {
        self.queues.entry(issuer).or_default().reserved += 1;
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

    /// Places taken at an issuer: what waits, what is parked, and what is kept.
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
    pub fn restore_parked(
        &mut self,
        entry: StoredEntry,
        (mark, since): (CardMark, Wall),
        code: Option<ResponseCode>,
        taken_back: bool,
    ) {
        let (id, issuer) = (entry.transaction, entry.issuer.link);
        self.queues.entry(issuer).or_default().parked += 1;
        self.parked.insert(id, Item { code, taken_back, ..Item::new(entry, mark, since, false) });
    }

    fn enqueue(&mut self, item: Item, now: Moment) {
        let (id, issuer, mark) = (item.entry.transaction, item.entry.issuer.link, item.mark);
        let queue = self.queues.entry(issuer).or_default();
        queue.by_age.insert((item.since, id));
        queue.items.insert(id, item);
        let card = queue.cards.entry(mark).or_default();
        if sabotaged("card-order-not-kept") {
            card.push_front(id);
        } else {
            card.push_back(id);
        }
        queue.advance(mark, now);
        self.owner.insert(id, issuer);
    }

    /// A person must look at it: it leaves the queue, and the next of its card may go. `code`: what its issuer said;
    /// none if it cannot be said to the issuer. Gives the issuer.
    pub fn park(&mut self, id: TransactionId, code: Option<ResponseCode>, now: Moment) -> Option<LinkId> {
        let item = self.remove(id, now)?;
        let issuer = item.entry.issuer.link;
        self.queues.entry(issuer).or_default().parked += 1;
        self.parked.insert(id, Item { code: code.or(item.code), ..item });
        Some(issuer)
    }

    /// It cannot be said to its issuer.
    pub fn note_unsayable(&mut self, id: TransactionId) {
        if let Some(item) = self.queue_of(id).and_then(|queue| queue.items.get_mut(&id)) {
            item.unsayable = true;
        }
    }

    /// Its reversal was taken over. Gives whether that is new of one that is parked and in the journal still owed.
    pub fn note_taken_back(&mut self, id: TransactionId) -> bool {
        if let Some(item) = self.queue_of(id).and_then(|queue| queue.items.get_mut(&id)) {
            item.taken_back = true;
            return false;
        }
        self.parked
            .get_mut(&id)
            .is_some_and(|item| !std::mem::replace(&mut item.taken_back, true) && item.unsayable)
    }

    /// Whether it holds up others of its card though its issuer had its chance: it is past the age limit, was tried
    /// often enough, something of the issuer was answered since it was sent last, and something waits behind it.
    #[must_use]
    pub fn holds_up(&self, id: TransactionId, now: Wall) -> bool {
        let Some(queue) = self.owner.get(&id).and_then(|issuer| self.queues.get(issuer)) else {
            return false;
        };
        let Some(item) = queue.items.get(&id) else { return false };
        let old = item.since.plus(self.config.age_limit) < now;
        old && item.attempts >= FAIR
            && queue.heard > item.heard_before
            && queue.cards.get(&item.mark).is_some_and(|card| card.len() > 1)
    }

    /// The issuer answered one of its messages.
    pub fn hear(&mut self, issuer: LinkId) {
        if let Some(queue) = self.queues.get_mut(&issuer) {
            queue.heard += 1;
        }
        self.wake(issuer);
    }

    /// Whether it waits for a person, and is not sent by itself.
    #[must_use]
    pub fn is_parked(&self, id: TransactionId) -> bool {
        self.parked.contains_key(&id)
    }

    /// A person wants it tried now, parked or not.
    pub fn retry(&mut self, id: TransactionId, now: Moment) {
        if let Some(item) = self.take_parked(id) {
            let tried = Item { state: ItemState::Behind, unsayable: false, ..item.sent_before() };
            return self.enqueue(tried, now);
        }
        let Some(queue) = self.queue_of(id) else { return };
        if let Some(ItemState::Due(_)) = queue.items.get(&id).map(|item| item.state) {
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

    /// What a person must look at: parked, owed for longer than the age limit, or owed to an issuer that is not there.
    pub fn exceptions(
        &self,
        now: Wall,
        is_there: impl Fn(LinkId) -> bool,
    ) -> impl Iterator<Item = (&Item, Standing)> {
        let parked = self.parked.values().map(|item| (item, Standing::Parked));
        let limit = self.config.age_limit;
        let owed = self.queues.iter().flat_map(move |(issuer, queue)| {
            let is_there = is_there(*issuer);
            let standing = if is_there { Standing::OverAge } else { Standing::NoIssuer };
            let listed = move |(since, _): &&(Wall, TransactionId)| !is_there || since.plus(limit) < now;
            let listed = queue.by_age.iter().take_while(listed);
            listed.filter_map(|(_, id)| queue.items.get(id)).map(move |item| (item, standing))
        });
        parked.chain(owed)
    }

    /// Whether a person must look at this one.
    #[must_use]
    pub fn is_exception(&self, id: TransactionId, now: Wall, is_there: impl Fn(LinkId) -> bool) -> bool {
        let listed =
            |item: &Item| item.since.plus(self.config.age_limit) < now || !is_there(item.entry.issuer.link);
        self.parked.contains_key(&id) || self.get(id).is_some_and(listed)
    }

    /// Every issuer that is owed something, and how many messages wait for it or for a person.
    #[must_use]
    pub fn owed(&self) -> BTreeMap<LinkId, usize> {
        let places = self.queues.iter().map(|(issuer, queue)| (*issuer, queue.items.len() + queue.parked));
        places.filter(|(_, places)| *places > 0).collect()
    }

    /// The issuer answered it, and not with an acknowledgement. `unknown`: when it said that it does not know the
    /// original.
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
        if queue.rest.until > now {
            return Vec::new();
        }
        let room = self.config.at_once.saturating_sub(queue.sent.len());
        queue.due.iter().take_while(|(at, _)| *at <= now).take(room).map(|(_, id)| *id).collect()
    }

    /// A connection took it.
    pub fn sent(&mut self, id: TransactionId, now: Moment) {
        let until = now.plus(self.config.timeout);
        let Some(queue) = self.queue_of(id) else { return };
        let Some(item) = queue.items.get_mut(&id) else { return };
        let before = std::mem::replace(&mut item.state, ItemState::Sent(until));
        item.attempts = item.attempts.saturating_add(1);
        item.sent = true;
        item.heard_before = queue.heard;
        queue.leave(id, before);
        queue.sent.insert((until, id));
    }

    /// It was not acknowledged, or could not be sent: again after a pause that doubles; past the age limit, after
    /// the longest.
    pub fn again(&mut self, id: TransactionId, now: Now) {
        let config = self.config;
        let Some(queue) = self.queue_of(id) else { return };
        let Some(item) = queue.items.get(&id) else { return };
        let pause = config.pause(item.attempts.saturating_sub(1));
        let old = item.since.plus(config.age_limit) < now.wall;
        queue.schedule(id, now.moment.plus(if old { config.pause_most } else { pause }));
    }

    /// Nothing of it left the house, so the attempt does not count: the issuer has still not seen it.
    pub fn not_sent(&mut self, id: TransactionId, now: Now) {
        self.take_attempt_back(id);
        self.again(id, now);
    }

    /// Nothing of it left, since no connection of its issuer is up: it keeps its place, and the whole queue rests for a
    /// pause that doubles. The pauses need no jitter: at its end so many as may be under way at once look again.
    pub fn unreachable(&mut self, id: TransactionId, now: Moment) {
        self.take_attempt_back(id);
        let config = self.config;
        let Some(queue) = self.queue_of(id) else { return };
        queue.schedule(id, now);
        if queue.rest.until <= now {
            let Rest { times, .. } = queue.rest;
            queue.rest = Rest { until: now.plus(config.pause(times)), times: times.saturating_add(1) };
        }
    }

    /// The issuer can be reached: its queue rests no longer.
    pub fn wake(&mut self, issuer: LinkId) {
        if let Some(queue) = self.queues.get_mut(&issuer) {
            queue.rest = Rest::default();
        }
    }

    fn take_attempt_back(&mut self, id: TransactionId) {
        if let Some(item) = self.queue_of(id).and_then(|queue| queue.items.get_mut(&id)) {
            item.attempts = item.attempts.saturating_sub(1);
        }
    }

    /// It is acknowledged, or parked: the next of its card may go.
    pub fn remove(&mut self, id: TransactionId, now: Moment) -> Option<Item> {
        let issuer = self.owner.remove(&id)?;
        let queue = self.queues.get_mut(&issuer)?;
        let item = queue.items.remove(&id)?;
        queue.by_age.remove(&(item.since, id));
        queue.leave(id, item.state);
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
        let late =
            self.queues.values().flat_map(|queue| queue.sent.iter().take_while(|(until, _)| *until <= now));
        let mut ids: Vec<TransactionId> = late.map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// What has become older than the age limit from one moment to another.
    pub fn came_of_age(&self, from: Wall, to: Wall) -> impl Iterator<Item = &Item> {
        let limit = self.config.age_limit;
        self.queues.values().flat_map(move |queue| {
            let old = queue.by_age.iter().take_while(move |(since, _)| since.plus(limit) < to);
            let new = old.skip_while(move |(since, _)| since.plus(limit) < from);
            new.filter_map(|(_, id)| queue.items.get(id))
        })
    }

    /// A message in a queue, or parked.
    #[must_use]
    pub fn find(&self, id: TransactionId) -> Option<&Item> {
        self.get(id).or_else(|| self.parked.get(&id))
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
        let next = |queue: &Queue| queue.due.first().map(|(at, _)| queue.rest.until.max(*at));
        self.queues.values().filter_map(next).min()
    }

    fn queue_of(&mut self, id: TransactionId) -> Option<&mut Queue> {
        self.queues.get_mut(self.owner.get(&id)?)
    }
}

impl Item {
    fn new(entry: StoredEntry, mark: CardMark, since: Wall, held: bool) -> Self {
        let state = if held { ItemState::Held } else { ItemState::Behind };
        Self {
            entry,
            mark,
            attempts: 0,
            sent: false,
            unknown_since: None,
            since,
            code: None,
            taken_back: false,
            unsayable: false,
            heard_before: 0,
            state,
        }
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

    /// From now on it may be sent at that moment, and not when it was to be before.
    fn schedule(&mut self, id: TransactionId, at: Moment) {
        if let Some(item) = self.items.get_mut(&id) {
            let before = std::mem::replace(&mut item.state, ItemState::Due(at));
            self.leave(id, before);
            self.due.insert((at, id));
        }
    }

    /// Takes a message out of the order that its state had it in.
    fn leave(&mut self, id: TransactionId, state: ItemState) {
        match state {
            ItemState::Sent(until) => self.sent.remove(&(until, id)),
            ItemState::Due(at) => self.due.remove(&(at, id)),
            ItemState::Held | ItemState::Behind => false,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::crypto::Sealed;
    use crate::journal::{CardRef, Elements, IssuerLeg, StoredKind};
    use crate::vocab::{BusinessDate, Mti, ReversalReason, SentAt, SettlementWindow, Stan, Verdicts};

    use super::*;

    const NORTH: LinkId = LinkId(8);
    const SOUTH: LinkId = LinkId(9);
    const CONFIG: StoreForwardConfig = StoreForwardConfig {
        timeout: Duration::from_secs(10),
        pause_least: Duration::from_secs(1),
        pause_most: Duration::from_secs(30),
        at_once: 2,
        age_limit: Duration::from_secs(3_600),
    };

    fn entry(id: u64, link: LinkId) -> StoredEntry {
        let date = BusinessDate { year: 2026, month: 11, day: 23 };
        StoredEntry {
            transaction: TransactionId(id),
            original: None,
            kind: StoredKind::OwnReversal(ReversalReason::TimedOut),
            acquirer: None,
            issuer: IssuerLeg {
                link,
                mti: Mti::parse(b"0420").unwrap(),
                sent_at: SentAt(1_000),
                stan: Stan::new(7).unwrap(),
                forwarder: None,
            },
            elements: Elements::new(),
            original_data: None,
            card: CardRef { token: None, sealed: Sealed::from_parts(1, [2; 12], &[3; 40]).unwrap() }.into(),
            verdicts: Verdicts::default(),
            window: SettlementWindow { date, sequence: 1 },
            settles: true,
            answer: Elements::new(),
        }
    }

    fn declined() -> ResponseCode {
        ResponseCode::parse(b"05").unwrap()
    }

    /// So many seconds after the first.
    fn at(seconds: u64) -> Now {
        let passed = Duration::from_secs(seconds);
        Now { moment: Moment(0).plus(passed), wall: Wall(0).plus(passed) }
    }

    /// Messages with these numbers, issuers and cards, stored in this order at the beginning.
    fn stored(messages: &[(u64, LinkId, u64)]) -> StoreForward {
        let mut stored = StoreForward::new(CONFIG, 16);
        for (id, issuer, card) in messages {
            stored.push(entry(*id, *issuer), CardMark(*card), at(0), false);
        }
        stored
    }

    /// Sends what is due at an issuer; says what that was.
    fn send(stored: &mut StoreForward, issuer: LinkId, seconds: u64) -> Vec<u64> {
        let due = stored.due(issuer, at(seconds).moment);
        for id in &due {
            stored.sent(*id, at(seconds).moment);
        }
        due.iter().map(|id| id.0).collect()
    }

    fn late(stored: &StoreForward, seconds: u64) -> Vec<u64> {
        stored.overdue(at(seconds).moment).iter().map(|id| id.0).collect()
    }

    #[test]
    fn one_of_a_card_at_a_time_and_cards_and_issuers_beside_each_other() {
        let mut stored = stored(&[(1, NORTH, 1), (2, NORTH, 1), (3, NORTH, 2), (4, SOUTH, 1)]);
        assert_eq!(send(&mut stored, NORTH, 0), [1, 3]);
        assert_eq!(send(&mut stored, SOUTH, 0), [4]);
        assert!(stored.remove(TransactionId(3), at(1).moment).is_some());
        assert_eq!(send(&mut stored, NORTH, 1), Vec::<u64>::new(), "the second waits for the first");
        assert!(stored.remove(TransactionId(1), at(1).moment).is_some());
        assert_eq!(send(&mut stored, NORTH, 1), [2]);
    }

    #[test]
    fn no_more_are_under_way_at_once_than_may_be() {
        let mut stored = stored(&[(1, NORTH, 1), (2, NORTH, 2), (3, NORTH, 3)]);
        assert_eq!(send(&mut stored, NORTH, 0), [1, 2]);
        assert_eq!(send(&mut stored, NORTH, 1), Vec::<u64>::new());
        stored.again(TransactionId(2), at(1));
        assert_eq!(send(&mut stored, NORTH, 1), [3]);
    }

    #[test]
    fn what_is_not_acknowledged_in_time_is_overdue_until_it_is_tried_again() {
        let mut stored = stored(&[(1, NORTH, 1), (2, SOUTH, 2), (3, SOUTH, 3)]);
        send(&mut stored, NORTH, 0);
        send(&mut stored, SOUTH, 5);
        assert_eq!(late(&stored, 9), Vec::<u64>::new());
        assert_eq!(late(&stored, 10), [1]);
        assert_eq!(late(&stored, 15), [1, 2, 3]);
        stored.again(TransactionId(1), at(15));
        stored.park(TransactionId(2), Some(declined()), at(15).moment);
        assert_eq!(late(&stored, 15), [3]);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_past_the_age_limit_are_the_longest() {
        let mut stored = stored(&[(1, NORTH, 1)]);
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(send(&mut stored, NORTH, now), [1], "at {now}");
            stored.again(TransactionId(1), at(now));
            assert_eq!(stored.due(NORTH, at(now + pause - 1).moment), [], "at {now}");
            now += pause;
        }
        let mut old = self::stored(&[(1, NORTH, 1)]);
        assert_eq!(send(&mut old, NORTH, 3_601), [1]);
        old.again(TransactionId(1), at(3_601));
        assert_eq!(old.next_due(), Some(at(3_631).moment));
        assert_eq!(
            old.exceptions(at(3_601).wall, |_| true).map(|(_, why)| why).collect::<Vec<_>>(),
            [Standing::OverAge]
        );
    }

    #[test]
    fn what_a_person_must_settle_holds_up_nothing_and_keeps_its_place() {
        let mut stored = stored(&[(1, NORTH, 1), (2, NORTH, 1)]);
        send(&mut stored, NORTH, 0);
        stored.park(TransactionId(1), Some(declined()), at(1).moment);
        assert_eq!((stored.len(), stored.taken(NORTH)), (1, 2));
        assert!(stored.is_exception(TransactionId(1), at(1).wall, |_| true));
        assert_eq!(send(&mut stored, NORTH, 1), [2]);
        stored.retry(TransactionId(1), at(2).moment);
        assert_eq!(send(&mut stored, NORTH, 2), Vec::<u64>::new(), "behind what has gone before");
        stored.remove(TransactionId(2), at(3).moment);
        assert_eq!(send(&mut stored, NORTH, 3), [1]);
        assert_eq!(stored.get(TransactionId(1)).map(|item| item.attempts), Some(2), "a repeat");
        assert!(stored.close(TransactionId(1), at(4).moment).is_some());
        assert_eq!((stored.is_empty(), stored.taken(NORTH)), (true, 0));
    }

    #[test]
    fn what_waits_for_its_original_goes_after_it_and_what_follows_waits_too() {
        let mut stored = StoreForward::new(CONFIG, 16);
        stored.push(entry(1, NORTH), CardMark(1), at(0), true);
        stored.push(entry(2, NORTH), CardMark(1), at(0), false);
        assert_eq!(send(&mut stored, NORTH, 1), Vec::<u64>::new());
        stored.unhold(TransactionId(1), at(2).moment);
        assert_eq!(send(&mut stored, NORTH, 2), [1]);
    }

    #[test]
    fn requests_have_seven_eighths_of_the_places() {
        let mut stored = stored(&[]);
        let kept = (0..16).filter(|_| stored.reserve(NORTH)).count();
        assert_eq!((kept, stored.has_room(NORTH)), (14, true));
        stored.push(entry(1, NORTH), CardMark(1), at(0), false);
        stored.push(entry(2, NORTH), CardMark(2), at(0), false);
        assert!(!stored.has_room(NORTH) && stored.has_room(SOUTH));
        stored.release(NORTH);
        assert!(stored.has_room(NORTH) && !stored.reserve(NORTH));
    }

    #[test]
    fn an_issuer_that_cannot_be_reached_is_tried_after_pauses_that_double_and_at_once_when_it_is_up() {
        let mut stored = stored(&[(1, NORTH, 1), (2, NORTH, 2), (3, NORTH, 3), (4, SOUTH, 1)]);
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(stored.next_due(), Some(at(0).moment), "the other issuer's");
            let tried = send(&mut stored, NORTH, now);
            assert_eq!(tried.len(), CONFIG.at_once, "at {now}");
            for id in tried {
                stored.unreachable(TransactionId(id), at(now).moment);
            }
            for second in now..now + pause {
                assert_eq!(stored.due(NORTH, at(second).moment), [], "at {second}: all of it rests");
            }
            now += pause;
        }
        assert_eq!(send(&mut stored, SOUTH, now), [4]);
        assert_eq!(stored.next_due(), Some(at(now).moment));
        for id in send(&mut stored, NORTH, now) {
            stored.unreachable(TransactionId(id), at(now).moment);
        }
        stored.wake(NORTH);
        assert_eq!(send(&mut stored, NORTH, now).len(), CONFIG.at_once);
        assert!((1..4).all(|id| stored.get(TransactionId(id)).is_some_and(|item| item.attempts <= 1)));
    }

    #[test]
    fn an_attempt_that_left_nothing_behind_does_not_count() {
        let mut stored = stored(&[(1, NORTH, 1)]);
        send(&mut stored, NORTH, 0);
        stored.not_sent(TransactionId(1), at(0));
        assert_eq!(stored.get(TransactionId(1)).map(|item| item.attempts), Some(0));
        assert!(!stored.is_unacknowledged(TransactionId(1)));
    }
}

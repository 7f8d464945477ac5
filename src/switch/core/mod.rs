//! `SwitchCore::apply`: the whole life of a transaction as decisions, without I/O, clock, key or runtime.
//!
//! One authorization, step by step; each handler is one file, in this order:
//!
//! | event                | handler                       | what it asks for                                |
//! |----------------------|-------------------------------|-------------------------------------------------|
//! | `Received`           | `request::received`           | a repeat: its answer; a token: `Detokenize`     |
//! | `Detokenized`        | `request::detokenized`        | routed: `Append` the request; or a refusal      |
//! | `Durable`            | `request::forward`            | `Forward`, and nothing before                   |
//! | `NotSent`            | `network::not_sent`           | refused, or approved by `stand_in`              |
//! | `Withdrawn`          | `network::withdrawn`          | refused                                         |
//! | `Answered`           | `answer::answered`            | `Append` the outcome                            |
//! | `Durable`            | `answer::give`                | `Answer`, and nothing before                    |
//! | `Tick`: silence      | `deadline::timed_out`         | `Append` the outcome with its reversal          |
//! | `IssuerLost`         | `network::issuer_lost`        | the same, or forwards what never left           |
//! | `Received` 0400/0420 | `reversal::received`          | `Append` it, or a tombstone                     |
//! | `Received` 0120/0220 | `advice::received`            | `Append` it                                     |
//! | its original is old  | `look_up::look_up`            | `LookUp`; `LookedUp` goes on with it            |
//! | `Tick`: stored       | `advice::deliver_due`         | `Deliver`, until the issuer acknowledges        |
//! | `Operator`           | `operator::operate`           | `AppendAct`, and nothing before                 |
//! | `Ending`             | `ending::end`                 | `Append` what is in flight as unknown, reversed |
//! | `Enquire`            | `enquiry::enquire`            | `Append` it; `Enquire` once durable; `Enquired` |

mod advice;
mod answer;
mod deadline;
mod decided;
mod ending;
mod enquiry;
mod look_up;
mod network;
mod operator;
mod original;
mod recall;
mod request;
mod reversal;
mod stand_in;
mod window;

pub use enquiry::EnquiryOrder;
pub use operator::{Exception, ListedException};

use std::collections::{BTreeSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;

use crate::codec::DataElement;
use crate::journal::{
    Elements, HistoryQuestion, OutcomeEntry, StoredEntry, TombstoneEntry, TransactionEntry,
};
use crate::link::ConnectionId;
use crate::stdx::clock::{Moment, Now};
use crate::stdx::maps::Map;
use crate::vocab::{LinkId, SettlementWindow, Stan, TransactionId};

use self::deadline::{Deadlines, Graces};
use self::decided::Decided;
use self::enquiry::PendingEnquiry;
use super::answered::{AnsweredTable, RequestIndex};
use super::config::{AcquirerConfig, Identifiers, IssuerConfig, SwitchConfig};
use super::event::{Action, Answer, AnswerKind, CardMark, Event, Ticket};
use super::numbers::Numbers;
use super::operator::Decision;
use super::request::{CardSource, Request, RequestKind};
use super::stand_in::StoodIn;
use super::status::Counts;
use super::store_forward::StoreForward;
use super::tombstones::Tombstones;
use super::transaction::Transaction;
use look_up::Looking;
use window::Windows;

/// All transactions, and what is to be done about them.
#[derive(Debug)]
pub struct SwitchCore {
    config: SwitchConfig,
    windows: Windows,
    next_transaction: u64,
    next_ticket: u64,
    draining: bool,
    /// Nothing waits any longer.
    ended: bool,
    /// Payments between receipt and answer.
    in_flight: Map<TransactionId, Box<Transaction>>,
    answered: AnsweredTable,
    /// Finds both again.
    index: RequestIndex,
    tombstones: Tombstones,
    /// Who waits for an answer on an issuer's link, by DE 11.
    outstanding: Map<(LinkId, Stan), Outstanding>,
    numbers: Map<LinkId, Numbers>,
    stored: StoreForward,
    /// Approvals in issuers' places.
    stood_in: Map<LinkId, StoodIn>,
    /// Questions to issuers about tokens for their cards.
    enquiries: Map<TransactionId, PendingEnquiry>,
    /// When each issuer's requests run out.
    deadlines: Map<LinkId, Deadlines>,
    /// What to do once an entry is durable, in order of appending.
    waiting: VecDeque<(Ticket, Then)>,
    /// Approvals that could not be given, until a repeat collects them or the grace is over.
    undelivered: Graces,
    /// Messages that wait for the history, and until when.
    looking: Map<TransactionId, Box<Looking>>,
    look_ups_end: BTreeSet<(Moment, TransactionId)>,
    /// While any do: what was decided about earlier transactions.
    decided: Decided,
    /// Numbers on which late answers are listened for, and until when.
    late: BTreeSet<(Moment, (LinkId, Stan), TransactionId)>,
    counts: Counts,
}

/// Whose answer a number on an issuer's link stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outstanding {
    /// A payment in flight.
    Payment(TransactionId),
    /// A payment that was answered without the issuer; a late answer is only noted.
    Late(TransactionId),
    /// A stored advice or reversal.
    Stored(TransactionId),
    /// A question about a token for a card.
    Enquiry(TransactionId),
}

/// A message as it came in: how its card is found, and on which connection it asks.
#[derive(Debug)]
struct Asked {
    request: Arc<Request>,
    card: CardSource,
    from: ConnectionId,
    received: Moment,
}

/// What an appended entry holds back.
#[derive(Debug)]
enum Then {
    Forward(TransactionId),
    /// Send an enquiry.
    Enquire(TransactionId),
    Give(TransactionId),
    /// Acknowledge an advice or reversal, and let it be delivered.
    Acknowledge(Box<Acknowledgement>),
    /// An answer that rests on this entry or one before it.
    Answer(Box<Answer>),
    /// A reversal of our own may be delivered.
    Release {
        stored: Box<StoredEntry>,
        mark: CardMark,
    },
    /// Ask the history, which knows what is durable.
    LookUp(HistoryQuestion),
    /// Do what a person decided about a stored message, and say so.
    Operated {
        call: u64,
        stored: TransactionId,
        decision: Decision,
    },
    Nothing,
}

/// A message taken over, to be acknowledged and delivered once durable.
#[derive(Debug)]
struct Acknowledgement {
    answer: Answer,
    /// What is delivered, if anything is.
    stored: Option<(StoredEntry, CardMark)>,
    /// The payment in flight whose outcome it waits for.
    behind: Option<TransactionId>,
}

impl SwitchCore {
    /// An empty core; `recovery` fills it.
    #[must_use]
    pub fn new(config: SwitchConfig, window: SettlementWindow) -> Self {
        let limits = config.limits;
        let stored = StoreForward::new(config.store_forward, limits.stored);
        Self {
            windows: Windows::new(window),
            next_transaction: 1,
            next_ticket: 0,
            draining: false,
            ended: false,
            in_flight: Map::default(),
            answered: AnsweredTable::with_capacity(limits.answered, limits.look_ups),
            index: RequestIndex::with_capacity(limits.answered + limits.in_flight),
            tombstones: Tombstones::with_capacity(limits.tombstones),
            outstanding: Map::default(),
            numbers: Map::default(),
            stored,
            stood_in: Map::default(),
            enquiries: Map::default(),
            deadlines: Map::default(),
            waiting: VecDeque::new(),
            undelivered: Graces::default(),
            looking: Map::default(),
            look_ups_end: BTreeSet::new(),
            decided: Decided::default(),
            late: BTreeSet::new(),
            counts: Counts::default(),
            config,
        }
    }

    /// Goes on under another configuration: what is in flight keeps its deadline, what is remembered is remembered.
    pub fn reconfigure(&mut self, config: SwitchConfig) {
        self.answered.set_capacity(config.limits.answered);
        self.tombstones.set_capacity(config.limits.tombstones);
        self.stored.reconfigure(config.store_forward, config.limits.stored);
        self.config = config;
    }

    /// The number of the message that came in just now.
    pub fn next_transaction(&mut self) -> TransactionId {
        let id = TransactionId(self.next_transaction);
        self.next_transaction += 1;
        id
    }

    /// Takes one event and says what is to be done about it, in order.
    pub fn apply(&mut self, event: Event, now: Now, actions: &mut Vec<Action>) {
        match event {
            Event::Received { request, card, from, signed_on } => {
                let asked = Asked { request, card, from, received: now.moment };
                self.received(asked, signed_on, now, actions);
            }
            Event::Detokenized { transaction, result } => self.detokenized(transaction, result, now, actions),
            Event::Durable(ticket) => self.durable(ticket, now, actions),
            Event::Answered(answer) => self.issuer_answered(*answer, now, actions),
            Event::NotSent { transaction, why } => self.not_sent((transaction, why), now, actions),
            Event::Withdrawn { transaction, refusal } => self.withdrawn(transaction, refusal, now, actions),
            Event::IssuerLost { transaction, written } => {
                self.issuer_lost(transaction, written, now, actions);
            }
            Event::Undelivered { transaction } => self.answer_undelivered(transaction, now, actions),
            Event::Given { transaction } => self.answer_given(transaction),
            Event::Leaked { transaction, asked_by } => self.leaked(transaction, asked_by, now, actions),
            Event::IssuerUp(issuer) => {
                self.stored.wake(issuer);
                self.deliver_due(issuer, now, actions);
            }
            Event::LookedUp { asked, found } => self.looked_up(asked, found, now, actions),
            Event::Operator { call, act } => self.operate(call, *act, now, actions),
            Event::Enquire(order) => self.enquire(order, now, actions),
            Event::Ending => self.end(now, actions),
            Event::Tick => self.tick(now, actions),
        }
    }

    /// Brings what these events will ask for into the processor's cache: one kind of place after the other, so that
    /// none is waited for by itself. It changes nothing.
    pub fn look_ahead<'a>(&self, events: impl Iterator<Item = &'a Event> + Clone) {
        let answered = events.clone().filter_map(|event| self.in_flight_for(event));
        let mut answers = 0;
        for transaction in answered.clone() {
            black_box(transaction.state);
            answers += 1;
        }
        for transaction in answered.clone() {
            black_box(transaction.request.transaction);
        }
        for transaction in answered {
            black_box(transaction.request.elements.get(DataElement::RRN.number()));
        }
        for event in events {
            if let Event::Received { request, .. } = event {
                self.index.touch(request);
            }
        }
        self.answered.touch_leaving(answers, &self.index);
    }

    /// The request in flight that an issuer's answer names.
    fn in_flight_for(&self, event: &Event) -> Option<&Transaction> {
        let Event::Answered(answer) = event else { return None };
        match self.outstanding.get(&(answer.link, answer.stan)) {
            Some(Outstanding::Payment(id)) => self.in_flight.get(id).map(Box::as_ref),
            _ => None,
        }
    }

    /// An advice or reversal had no room, and was not looked at.
    pub fn leave_unanswered(&mut self) {
        self.counts.unanswered += 1;
    }

    /// Payments and enquiries without an answer, and answers not yet durable.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.in_flight.len() + self.enquiries.len() + self.waiting.len() + self.looking.len()
    }

    /// Whether it was approved, is not given yet, and stands: then it must be, or be taken back.
    #[must_use]
    pub fn must_arrive(&self, id: TransactionId) -> bool {
        self.answered.get(id).is_some_and(|answered| answered.must_arrive())
    }

    /// Approvals that could not be given and are not reversed yet.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.undelivered.len()
    }

    /// Windows that are over and not closed: some request of each has no outcome.
    #[must_use]
    pub fn windows_waiting(&self) -> usize {
        self.windows.waiting()
    }

    /// Approvals in issuers' places that are remembered.
    #[must_use]
    pub fn stood_in(&self) -> usize {
        self.stood_in.values().map(StoodIn::len).sum()
    }

    /// Messages that wait for the history.
    #[must_use]
    pub fn looking(&self) -> usize {
        self.looking.len()
    }

    /// Advices and reversals not yet acknowledged by their issuers.
    #[must_use]
    pub fn stored(&self) -> &StoreForward {
        &self.stored
    }

    /// Answers remembered for repeats and reversals.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered.len()
    }

    /// Reversals of unknown originals remembered.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    #[must_use]
    pub fn window(&self) -> SettlementWindow {
        self.windows.current()
    }

    /// A payment in flight, for whoever has to encode it.
    #[must_use]
    pub fn transaction(&self, id: TransactionId) -> Option<&Transaction> {
        self.in_flight.get(&id).map(Box::as_ref)
    }

    /// How many payments are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The next moment at which `Tick` has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let timeouts = self.deadlines.values().filter_map(|deadlines| deadlines.first().map(|(at, _)| at));
        let grace = self.undelivered.first();
        let look_ups = self.look_ups_end.first().map(|(at, _)| *at);
        let others = [grace, look_ups, self.enquiry_deadline(), self.stored.next_due()];
        timeouts.chain(others.into_iter().flatten()).min()
    }

    /// Everything up to `ticket` is on disk.
    fn durable(&mut self, ticket: Ticket, now: Now, actions: &mut Vec<Action>) {
        while self.waiting.front().is_some_and(|(waiting, _)| *waiting <= ticket) {
            let Some((_, then)) = self.waiting.pop_front() else { break };
            match then {
                Then::Forward(transaction) => self.forward(transaction, now, actions),
                Then::Enquire(transaction) => self.send_enquiry(transaction, now, actions),
                Then::Give(transaction) => self.give(transaction, now, actions),
                Then::Acknowledge(acknowledgement) => self.acknowledge(*acknowledgement, now, actions),
                Then::Answer(answer) => self.answer_now(answer, actions),
                Then::Release { stored, mark } => self.store(*stored, mark, false, now, actions),
                Then::LookUp(question) => actions.push(Action::LookUp(question)),
                Then::Operated { call, stored, decision } => {
                    self.operated(call, (stored, decision), now, actions);
                }
                Then::Nothing => {}
            }
        }
    }

    fn append(&mut self, entry: TransactionEntry, then: Then, actions: &mut Vec<Action>) {
        if let TransactionEntry::Stored(stored) = &entry {
            self.note_taken_back(stored, actions);
        }
        let ticket = self.ticket(then);
        actions.push(Action::Append { ticket, entry });
    }

    /// The name of an entry that holds `then` back.
    fn ticket(&mut self, then: Then) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.push_back((ticket, then));
        ticket
    }

    /// Gives an answer that rests on what was decided before: it leaves once all of that is durable.
    fn answer_in_turn(&mut self, answer: Answer, actions: &mut Vec<Action>) {
        match self.waiting.back() {
            Some((ticket, _)) => self.waiting.push_back((*ticket, Then::Answer(Box::new(answer)))),
            None => actions.push(Action::Answer(Box::new(answer))),
        }
    }

    /// Its turn has come. An approval that was reversed while it waited is not given any more, nor one that was
    /// forgotten meanwhile, of which nobody can say: its repeat is looked for.
    fn answer_now(&mut self, answer: Box<Answer>, actions: &mut Vec<Action>) {
        let approves = matches!(answer.kind, AnswerKind::Passed | AnswerKind::Accepted);
        match self.answered.get(answer.transaction) {
            Some(answered) if approves && answered.is_withheld() => {
                self.answer_in_turn(answer.withheld(), actions);
            }
            None if approves && answer.request.kind == RequestKind::Payment => {
                self.counts.unanswered += 1;
                actions.push(Action::Forget { transaction: answer.asked_by });
            }
            Some(_) | None => actions.push(Action::Answer(answer)),
        }
    }

    fn append_outcome(&mut self, entry: OutcomeEntry, then: Then, actions: &mut Vec<Action>) {
        self.append(TransactionEntry::Outcome(Box::new(entry)), then, actions);
    }

    fn append_tombstone(&mut self, entry: TombstoneEntry, then: Then, actions: &mut Vec<Action>) {
        self.append(TransactionEntry::Tombstone(Box::new(entry)), then, actions);
    }

    fn acquirer(&self, link: LinkId) -> Option<&AcquirerConfig> {
        self.config.acquirers.get(&link)
    }

    fn issuer(&self, link: LinkId) -> Option<&IssuerConfig> {
        self.config.issuers.get(&link)
    }

    /// A number for DE 11 on an issuer's link.
    fn take_number(&mut self, issuer: LinkId, now: Moment) -> Option<Stan> {
        let rest = self.config.longest_timeout().saturating_mul(2);
        let Self { numbers, outstanding, .. } = self;
        let numbers = numbers.entry(issuer).or_insert_with(|| Numbers::after(None, rest));
        loop {
            let stan = numbers.take(now)?;
            // Where acquirers' identifiers pass, one of them may have the number.
            if !outstanding.contains_key(&(issuer, stan)) {
                return Some(stan);
            }
            numbers.give_back(stan, now);
        }
    }

    /// Whether acquirers' identifiers go to the issuer as they are.
    fn passes(&self, issuer: LinkId) -> bool {
        self.issuer(issuer).is_some_and(|config| config.identifiers == Identifiers::Pass)
    }

    /// The end of a number under which an acquirer's message went out. One that passed is not this switch's to rest.
    fn acquirers_number_ends(&mut self, issuer: LinkId, stan: Stan, now: Moment) {
        if !self.passes(issuer) {
            self.give_number_back(issuer, stan, now);
        }
    }

    fn give_number_back(&mut self, issuer: LinkId, stan: Stan, now: Moment) {
        if let Some(numbers) = self.numbers.get_mut(&issuer) {
            numbers.give_back(stan, now);
        }
    }

    /// The elements that every answer has of its own: the day on which it counts.
    fn settlement_elements(window: SettlementWindow) -> Elements {
        let mut elements = Elements::with_room(Elements::ANSWER_ROOM);
        elements.keep(crate::codec::DataElement::SETTLEMENT_DATE.number(), &window.date.month_day());
        elements
    }
}

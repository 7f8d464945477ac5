//! `Node::step`: the core with everything it asks for at its side — dialects, sessions, pools, the vault's read
//! handle, keys and the journal's front. No sockets, no clock, no thread: the driver and the simulation run it.
//!
//! A step takes a batch of what happened and gives a batch of what to send. Within it all frames are decoded and
//! entered first, then all their tokens are looked up together, then all their entries are appended: one wake-up,
//! one look at the vault, one group on the disk. What takes long in the vault is done behind the step (`slow.rs`).

mod acquirer_side;
mod connections;
mod enquiry;
mod issuer_side;
mod links;
mod picture;
mod reload;
mod slow;
mod spares;
mod story;
mod suspense;

use std::collections::VecDeque;
use std::mem::take;
use std::sync::Arc;

use crate::codec::{Dialect, FrameFormat, Message};
use crate::crypto::CryptogramKeys;
use crate::journal::{
    Body, CardRef, EntryNumber, Families, Family, HistoryAnswer, HistoryQuestion, TokenRef, TransactionEntry,
};
use crate::link::{
    Answerable, CloseReason, ConnectionId, Inbox, LinkCommand, Outbox, Pool, PoolAction, PoolConfig,
    SessionAction, SessionConfig,
};
use crate::stdx::clock::{Moment, Now};
use crate::stdx::maps::Map;
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::{sabotaged, step};
use crate::tsp::{CardData, DetokenizeRequest, Detokenized, Detokenizer};
use crate::vocab::{LinkId, Refusal, ShardId, TransactionId};

pub use self::reload::Reload;

use self::connections::Connection;
use self::enquiry::HeldEnquiry;
use self::slow::Waiting;
use self::spares::Spares;
use self::story::Story;
use self::suspense::Sums;
use super::cards::Cards;
use super::checkpoint::LimitsInForce;
use super::config::SwitchConfig;
use super::core::SwitchCore;
use super::event::{Action, Event, LookedUp, Mapped, OperatedEnd, Ticket};
use super::operator::OperatorAct;
use super::recovery::{RecoveryError, past};
use super::status::NodeCounts;

/// Where entries go: the journal, or the simulation's.
pub trait EntryLog: Send {
    /// Takes entries, all or none, and gives the number of the first; the others follow without a gap. Each is
    /// durable once the watermark reaches its number.
    ///
    /// # Errors
    /// `Full` for now, or nothing more can be written: then the node must stop.
    fn append(&mut self, shard: ShardId, now: Now, bodies: &[Body]) -> Result<EntryNumber, LogFault>;

    /// Whether a new request may be taken in; answers and reversals have room of their own.
    fn has_room(&self) -> bool;
}

/// Where earlier transactions are looked up. It waits for nothing.
pub trait History: Send {
    /// Puts a question; false when too many wait, and then there is no answer.
    fn ask(&mut self, question: HistoryQuestion) -> bool;

    /// The next answer, if there is one by now.
    fn answer(&mut self) -> Option<HistoryAnswer>;
}

/// Why the journal takes no entry.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    /// Too much waits for the disk.
    #[error("the journal has no room for these entries now")]
    Full,
    /// It takes nothing more.
    #[error("the journal takes no entry: {0}")]
    Closed(String),
}

/// How messages lie on a link's wire.
#[derive(Debug, Clone)]
pub struct Wire {
    pub dialect: Arc<Dialect>,
    pub format: FrameFormat,
    pub session: SessionConfig,
}

/// An acquirer's side of the node.
#[derive(Debug)]
struct AcquirerSide {
    wire: Arc<Wire>,
}

/// An issuer's side of the node.
#[derive(Debug)]
struct IssuerSide {
    wire: Arc<Wire>,
    pool: Pool,
}

/// What a node is built from.
pub struct NodeParts {
    pub config: SwitchConfig,
    pub core: SwitchCore,
    pub acquirers: Vec<(LinkId, Wire)>,
    pub issuers: Vec<(LinkId, Wire, PoolConfig)>,
    pub detokenizer: Detokenizer,
    pub cards: Cards,
    /// The chip keys of issuers that want cryptograms of their own cards.
    pub card_keys: Vec<(LinkId, CryptogramKeys)>,
    pub log: Box<dyn EntryLog>,
    pub history: Box<dyn History>,
    pub entropy: Entropy,
    /// What the checkpoint's fold goes by.
    pub limits: LimitsInForce,
    /// What the core wants done first: `Recovery::finish` says.
    pub first: Vec<Action>,
}

/// What has happened since the last step.
#[derive(Debug, Default, Clone, Copy)]
pub struct Happened<'a> {
    pub inbox: Option<&'a Inbox>,
    /// The journal's watermark.
    pub durable: Option<EntryNumber>,
}

/// The switch without sockets.
pub struct Node {
    shard: ShardId,
    config: SwitchConfig,
    core: SwitchCore,
    acquirers: Map<LinkId, AcquirerSide>,
    issuers: Map<LinkId, IssuerSide>,
    connections: Map<ConnectionId, Connection>,
    detokenizer: Detokenizer,
    card_keys: Map<LinkId, CryptogramKeys>,
    cards: Cards,
    log: Box<dyn EntryLog>,
    history: Box<dyn History>,
    entropy: Entropy,
    story: Story,
    /// Messages whose answer is owed, with their clear card while it is needed; wiped when let go.
    held: Map<TransactionId, Held>,
    enquiries: Map<TransactionId, HeldEnquiry>,
    /// On which issuer connection a message went out, and where in its stream it begins.
    sent: Map<TransactionId, Sent>,
    /// Appended entries that are not durable yet.
    tickets: VecDeque<(EntryNumber, Ticket)>,
    counts: NodeCounts,
    /// What this step wants written, and what the core knows it by.
    to_append: Vec<Body>,
    to_await: VecDeque<Option<Ticket>>,
    /// Whether the journal had no room for some of it: outcomes wait, and nothing else is taken on.
    held_back: bool,
    limits: LimitsInForce,
    /// What recovery left to do, until the first step.
    first: Vec<Action>,
    /// Calls of operators, and what became of each.
    operated: Vec<(u64, OperatedEnd)>,
    suspense: Sums,
    /// In the order in which they were asked.
    slow: VecDeque<Waiting>,
    // Kept from step to step for their memory.
    spares: Spares,
    events: VecDeque<Event>,
    actions: Vec<Action>,
    asked: Vec<TransactionId>,
    questions: Vec<DetokenizeRequest>,
    found: Vec<Result<Detokenized, Refusal>>,
    session_actions: Vec<SessionAction>,
    pool_actions: Vec<PoolAction>,
}

/// A message between receipt and answer.
struct Held {
    message: Box<Message>,
    header: Vec<u8>,
    /// The card, once the vault has named it or the message did.
    card: Option<CardData>,
}

/// A message that an issuer's connection took.
#[derive(Debug, Clone, Copy)]
struct Sent {
    link: LinkId,
    connection: ConnectionId,
    start: u64,
}

impl Node {
    /// A node with all links down; the first `step` dials.
    #[must_use]
    pub fn new(parts: NodeParts) -> Self {
        let acquirer = |(id, wire)| (id, AcquirerSide { wire: Arc::new(wire) });
        let acquirers = parts.acquirers.into_iter().map(acquirer).collect();
        let issuers = parts
            .issuers
            .into_iter()
            .map(|(id, wire, pool)| (id, IssuerSide { wire: Arc::new(wire), pool: Pool::new(pool) }))
            .collect();
        let node = Self {
            shard: ShardId::default(),
            config: parts.config,
            core: parts.core,
            acquirers,
            issuers,
            connections: Map::default(),
            detokenizer: parts.detokenizer,
            card_keys: parts.card_keys.into_iter().collect(),
            cards: parts.cards,
            log: parts.log,
            history: parts.history,
            entropy: parts.entropy,
            story: Story::new(),
            held: Map::default(),
            enquiries: Map::default(),
            sent: Map::default(),
            tickets: VecDeque::new(),
            counts: NodeCounts::default(),
            to_append: Vec::new(),
            to_await: VecDeque::new(),
            held_back: false,
            spares: Spares::default(),
            events: VecDeque::new(),
            limits: parts.limits,
            first: parts.first,
            operated: Vec::new(),
            suspense: Sums::default(),
            slow: VecDeque::new(),
            actions: Vec::new(),
            asked: Vec::new(),
            questions: Vec::new(),
            found: Vec::new(),
            session_actions: Vec::new(),
            pool_actions: Vec::new(),
        };
        node.tell_of_absent_issuers();
        node
    }

    /// What is owed to an issuer that is not in the configuration is kept, and goes nowhere.
    fn tell_of_absent_issuers(&self) {
        for (issuer, messages) in self.core.owed_elsewhere() {
            tracing::warn!(
                %issuer,
                messages,
                "an issuer that is not in the configuration is owed messages; they are delivered once it is there again"
            );
        }
    }

    /// Takes what happened and says what to do, in `out`.
    ///
    /// # Errors
    /// The journal takes nothing more: nothing that was asked may be answered from here on.
    pub fn step(&mut self, happened: Happened<'_>, now: Now, out: &mut Outbox) -> Result<(), LogFault> {
        for action in take(&mut self.first) {
            self.act(action, now, out);
        }
        if let Some(watermark) = happened.durable {
            self.made_durable(watermark, now, out);
        }
        self.hear_history();
        if let Some(inbox) = happened.inbox {
            self.links_moved(inbox, now, out);
        }
        self.settle(now, out);
        self.flush_entries(now)
    }

    /// Does what is due: time-outs, echoes, dials, retries.
    ///
    /// # Errors
    /// As `step`.
    pub fn tick(&mut self, now: Now, out: &mut Outbox) -> Result<(), LogFault> {
        self.tick_links(now, out);
        self.suspense.look(&self.core, &mut self.story, now);
        self.pass_over(now);
        self.events.push_back(Event::Tick);
        self.settle(now, out);
        self.flush_entries(now)
    }

    /// No new payments from here on; what is in flight is finished or reversed.
    pub fn drain(&mut self) {
        self.core.drain();
    }

    /// Ends what is in flight, as unknown where its issuer has it: `is_idle` once that is durable and told. Gives how
    /// many payments that were.
    ///
    /// # Errors
    /// As `step`.
    pub fn end(&mut self, now: Now, out: &mut Outbox) -> Result<usize, LogFault> {
        let open = self.core.open();
        self.events.push_back(Event::Ending);
        self.settle(now, out);
        self.flush_entries(now)?;
        Ok(open)
    }

    /// A person decided about a stored message. With the next steps it is done, and `operated` says so.
    pub fn operate(&mut self, call: u64, act: OperatorAct) {
        self.events.push_back(Event::Operator { call, act: Box::new(act) });
    }

    /// Operators' calls that have their end.
    pub fn operated(&mut self) -> Vec<(u64, OperatedEnd)> {
        take(&mut self.operated)
    }

    /// Whether everything that was asked has its durable answer.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.core.unfinished() == 0 && self.to_append.is_empty()
    }

    /// Connections with approvals in their output that their acquirers have not taken, there or elsewhere.
    #[must_use]
    pub fn owing(&self) -> Vec<ConnectionId> {
        let must_arrive = |id| self.core.must_arrive(id) && !sabotaged("ends-with-answers-not-given");
        let owes = |it: &Connection| it.not_given().any(must_arrive);
        let mut owing: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, it)| owes(it)).map(|(id, _)| *id).collect();
        owing.sort_unstable();
        owing
    }

    /// Takes no more time for acquirers that do not take what they were approved, of those that were `owing` before all
    /// was heard that sockets took: once their connections are gone, it is reversed. To be called behind `end`.
    pub fn give_up(&self, owing: &[ConnectionId], out: &mut Outbox) {
        for connection in self.owing().into_iter().filter(|it| owing.contains(it)) {
            tracing::warn!(%connection, "its acquirer does not take its answers: they are reversed");
            out.commands.push(LinkCommand::Abort { connection, reason: CloseReason::ShuttingDown });
        }
    }

    #[must_use]
    pub fn core(&self) -> &SwitchCore {
        &self.core
    }

    #[must_use]
    pub fn counts(&self) -> &NodeCounts {
        &self.counts
    }

    /// When `tick` has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let sessions = self.connections.values().filter_map(|connection| connection.session.deadline());
        let pools = self.issuers.values().filter_map(|issuer| issuer.pool.deadline());
        sessions.chain(pools).chain(self.core.deadline()).min()
    }

    fn made_durable(&mut self, watermark: EntryNumber, now: Now, out: &mut Outbox) {
        let mut last = None;
        let is_durable = |number: EntryNumber| number <= watermark || sabotaged("durable-too-early");
        while self.tickets.front().is_some_and(|(number, _)| is_durable(*number)) {
            last = self.tickets.pop_front().map(|(_, ticket)| ticket);
        }
        if let Some(ticket) = last {
            step("durable");
            self.events.push_back(Event::Durable(ticket));
            self.settle(now, out);
        }
    }

    /// What the history found, as the core knows transactions.
    fn hear_history(&mut self) {
        while let Some(HistoryAnswer { asked, found }) = self.history.answer() {
            let past = |family: &Family| past(family, &self.cards).transpose();
            let found = found.map(|Families { found, more }| {
                let past = found.iter().filter_map(past).collect::<Result<_, _>>()?;
                Ok(LookedUp { past, more })
            });
            let found = found.transpose().unwrap_or_else(|error: RecoveryError| {
                tracing::error!(%error, "a transaction of the history cannot be used");
                None
            });
            self.events.push_back(Event::LookedUp { asked, found });
        }
    }

    /// Lets the core see every event, does what it asks, and goes on until nothing is left to do.
    fn settle(&mut self, now: Now, out: &mut Outbox) {
        self.story.begin();
        loop {
            self.core.look_ahead(self.events.iter());
            while let Some(event) = self.events.pop_front() {
                self.story.hear(&event);
                let mut actions = take(&mut self.actions);
                self.core.apply(event, now, &mut actions);
                for action in actions.drain(..) {
                    self.act(action, now, out);
                }
                self.actions = actions;
            }
            if self.asked.is_empty() {
                return;
            }
            self.detokenize(now);
        }
    }

    fn act(&mut self, action: Action, now: Now, out: &mut Outbox) {
        self.story.tell(&action, &self.core);
        match action {
            Action::Detokenize { transaction, request } if self.detokenizer.takes_long(&request) => {
                self.slow.push_back((transaction, request));
            }
            Action::Detokenize { transaction, request } => {
                self.asked.push(transaction);
                self.questions.push(*request);
            }
            Action::ReleaseCounter { record, counter, by } => {
                self.detokenizer.release(record, counter, by, now);
            }
            Action::GiveBack { record, transaction } => self.detokenizer.give_back(record, transaction),
            Action::Append { ticket, entry } => {
                if !matches!(entry, TransactionEntry::Request(_)) {
                    self.detokenizer.observe(&entry, now);
                }
                self.append(ticket, entry, now);
            }
            Action::CutOver(window) => {
                self.to_append.push(Body::CutOver(window));
                self.to_await.push_back(None);
                self.announce_cut_over(now, out);
            }
            Action::CloseWindow(window) => {
                self.to_append.push(Body::WindowClosed(window));
                self.to_await.push_back(None);
            }
            Action::AppendAct { ticket, act } => {
                self.to_append.push(Body::Operator(act.encode()));
                self.to_await.push_back(Some(ticket));
            }
            Action::LookUp(question) => {
                if !self.history.ask(question) {
                    self.events.push_back(Event::LookedUp { asked: question.asked, found: None });
                }
            }
            // Only the story wants it.
            Action::Concerns { .. } => {}
            Action::Operated { call, end } => self.operated.push((call, end)),
            Action::Forward { transaction, repeat } => self.forward(transaction, repeat, out),
            Action::Deliver(delivery) => self.deliver(&delivery, out),
            Action::Answer(answer) => self.answer(&answer, out),
            Action::Silent { transaction, what } => self.issuer_silent(transaction, what, now),
            Action::Heard { transaction } => self.issuer_done(transaction, Answerable::Stored),
            Action::LetGo { transaction } => self.issuer_let_go(transaction),
            Action::Enquire { transaction, leg } => self.send_enquiry(transaction, leg, out),
            Action::Enquired { transaction, answer } => self.enquired(transaction, answer.as_deref(), now),
            Action::Forget { transaction } => {
                if let Some(held) = self.held.remove(&transaction) {
                    self.spares.give_back(held.message);
                }
            }
        }
    }

    fn append(&mut self, ticket: Ticket, entry: TransactionEntry, now: Now) {
        if let TransactionEntry::Outcome(outcome) = &entry {
            match outcome.refusal {
                // Who talks nonsense is no better than who says nothing.
                Some(Refusal::IssuerAnswerInvalid) => {
                    self.issuer_silent(outcome.transaction, Answerable::Request, now);
                }
                _ => self.issuer_done(outcome.transaction, Answerable::Request),
            }
        }
        if let TransactionEntry::Delivered(delivered) = &entry {
            step("acknowledged");
            self.issuer_done(delivered.stored, Answerable::Stored);
        }
        if let TransactionEntry::Stored(_) = &entry {
            step("stored");
        }
        self.to_append.push(Body::Transaction(entry));
        self.to_await.push_back(Some(ticket));
    }

    /// Everything that this step wants written, as one batch. Where the journal has no room for all of it, the
    /// batch is halved; what is left waits, in its order, for the next step.
    fn flush_entries(&mut self, now: Now) -> Result<(), LogFault> {
        self.held_back = false;
        let (mut done, mut most) = (0, self.to_append.len());
        while done < self.to_append.len() {
            let rest = self.to_append.get(done..).unwrap_or_default();
            let batch = rest.get(..most).unwrap_or(rest);
            let mut number = match self.log.append(self.shard, now, batch) {
                Ok(first) => first,
                Err(LogFault::Full) if most > 1 => {
                    most /= 2;
                    continue;
                }
                Err(LogFault::Full) => {
                    self.held_back = true;
                    break;
                }
                Err(closed) => return Err(closed),
            };
            done += batch.len();
            for ticket in self.to_await.drain(..batch.len()) {
                self.tickets.extend(ticket.map(|ticket| (number, ticket)));
                number = number.next();
            }
        }
        self.to_append.drain(..done);
        Ok(())
    }

    /// All tokens of this batch, in one look at the vault.
    fn detokenize(&mut self, now: Now) {
        let (mut asked, mut questions) = (take(&mut self.asked), take(&mut self.questions));
        let mut found = take(&mut self.found);
        self.detokenizer.detokenize_batch(now, &questions, &mut found);
        for ((transaction, question), found) in asked.drain(..).zip(&questions).zip(found.drain(..)) {
            let result = found.map(|found| Box::new(self.mapped(transaction, question, found)));
            self.events.push_back(Event::Detokenized { transaction, result });
        }
        questions.clear();
        (self.asked, self.questions, self.found) = (asked, questions, found);
    }

    /// What the core needs of a token's card; the card itself stays here.
    fn mapped(&mut self, id: TransactionId, request: &DetokenizeRequest, found: Detokenized) -> Mapped {
        let token = TokenRef {
            token: request.token,
            expiry: request.expiry,
            requestor: found.requestor,
            assurance: found.assurance,
            par: found.par,
            last4: found.card.pan.last4(),
            record: found.record,
            mapping_version: found.mapping_version,
        };
        let mapped = Mapped {
            card: Arc::new(CardRef { token: Some(token), sealed: found.sealed }),
            mark: self.cards.mark(&found.card.pan),
            issuer: self.config.routes.issuer(found.card.pan.expose_digits()),
            verdicts: found.verdicts,
            counter: found.counter,
        };
        if let Some(held) = self.held.get_mut(&id) {
            held.card = Some(found.card);
        }
        mapped
    }

    /// The card behind a journaled reference. Without it nothing can be sent for it.
    fn open(&mut self, card: &CardRef, sealed_for: TransactionId) -> Option<CardData> {
        let opened = self.cards.open(card, sealed_for);
        if opened.is_err() {
            self.counts.unopened += 1;
            tracing::error!(transaction = %sealed_for, "a journaled card envelope does not open");
        }
        opened.ok()
    }

    fn close(&mut self, connection: ConnectionId, reason: crate::link::CloseReason, out: &mut Outbox) {
        out.commands.push(LinkCommand::Close { connection, reason });
    }

    fn refused_for_room(&self) -> Option<Refusal> {
        (self.held_back || !self.log.has_room()).then_some(Refusal::Overloaded)
    }
}

//! Everything that can happen to the core and everything it can ask for: reading `Event` and `Action` is reading
//! the switch.

use std::sync::Arc;

use crate::journal::{CardRef, Elements, HistoryQuestion, IssuerLeg, TransactionEntry};
use crate::link::{Answerable, ConnectionId};
use crate::tsp::{CardWord, DetokenizeRequest, Presentation};
use crate::vocab::{
    Amount, CounterTaken, LinkId, Mti, Outcome, Refusal, ResponseCode, Rrn, SentAt, SettlementWindow, Stan,
    TerminalId, TransactionId, Verdicts,
};

use super::answered::Answered;
use super::core::EnquiryOrder;
use super::operator::OperatorAct;
use super::request::{CardSource, Request};

/// Names an appended entry until the journal has made it durable. Tickets are given in the order of appending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What can happen to the core.
#[derive(Debug)]
pub enum Event {
    /// An acquirer's request, advice or reversal, parsed. `signed_on` says whether its session may ask.
    Received { request: Arc<Request>, card: CardSource, from: ConnectionId, signed_on: bool },
    /// The TSP has looked at the token, or need not any more: `SwitchCore::still_asks` said why.
    Detokenized { transaction: TransactionId, result: Result<Box<Mapped>, Refusal> },
    /// All entries up to this ticket are on disk.
    Durable(Ticket),
    /// An issuer's answer, parsed.
    Answered(Box<IssuerAnswer>),
    /// Nothing of it left the house.
    NotSent { transaction: TransactionId, why: Unsent },
    /// Its token may not pay any more, and nothing of it has left.
    Withdrawn { transaction: TransactionId, refusal: Refusal },
    /// The connection it was on is gone. `written` says whether a byte of it may have left.
    IssuerLost { transaction: TransactionId, written: bool },
    /// An answer's connection went down before the answer's last byte was handed to the socket.
    Undelivered { transaction: TransactionId },
    /// The last byte of an answer that must arrive was handed to the socket.
    Given { transaction: TransactionId },
    /// The answer could not be built without the PAN.
    Leaked { transaction: TransactionId, asked_by: TransactionId },
    /// An issuer has a connection that takes messages again.
    IssuerUp(LinkId),
    /// The history has looked; `None`: it cannot be read.
    LookedUp { asked: TransactionId, found: Option<LookedUp> },
    /// A person decided about a stored message; `Operated` with this number follows.
    Operator { call: u64, act: Box<OperatorAct> },
    /// The TSP wants an issuer asked whether its card may have a token; `Enquired` follows.
    Enquire(EnquiryOrder),
    /// The process is about to end: nothing that is in flight waits any longer.
    Ending,
    /// Time has passed.
    Tick,
}

/// Why a message did not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// No connection of its issuer is up and trusted to answer.
    Unreachable,
    /// Each of them has as many unanswered as it may.
    Full,
    /// This switch cannot say it: the issuer's dialect has no place for some of it, or its card's envelope does not
    /// open.
    Unsayable,
}

/// What the core can ask the node to do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Look the token up; answered by `Event::Detokenized`, perhaps some steps later.
    Detokenize { transaction: TransactionId, request: Box<DetokenizeRequest> },
    /// This counter's request was not forwarded: it may be presented once more in the same way.
    ReleaseCounter { record: u64, counter: CounterTaken, by: Presentation },
    /// This payment counted with its token and was not journaled: it came to nothing.
    GiveBack { record: u64, transaction: TransactionId },
    /// Put an entry in the journal; `Event::Durable` with this ticket follows.
    Append { ticket: Ticket, entry: TransactionEntry },
    /// Put what a person decided in the journal; `Event::Durable` with this ticket follows.
    AppendAct { ticket: Ticket, act: Box<OperatorAct> },
    /// What became of a person's decision.
    Operated { call: u64, end: OperatedEnd },
    /// Send the request to its issuer; `NotSent` or `Withdrawn` when it does not leave. `repeat`: as xxx1, since a byte
    /// of it may have left before.
    Forward { transaction: TransactionId, repeat: bool },
    /// Send a stored advice or reversal; `NotSent` when it does not leave.
    Deliver(Box<Delivery>),
    /// Answer an acquirer.
    Answer(Box<Answer>),
    /// The issuer left it unanswered: its connection may be dead.
    Silent { transaction: TransactionId, what: Answerable },
    /// The issuer answered a stored message, which must be sent again nevertheless.
    Heard { transaction: TransactionId },
    /// Nobody waits for the issuer's answer any longer, and nothing was learned about its connection.
    LetGo { transaction: TransactionId },
    /// Ask an issuer whether its card may have a token; `NotSent` when it does not leave.
    Enquire { transaction: TransactionId, leg: IssuerLeg },
    /// An enquiry is over, with the issuer's answer or without one.
    Enquired { transaction: TransactionId, answer: Option<Box<IssuerAnswer>> },
    /// Look up earlier transactions; answered by `Event::LookedUp`.
    LookUp(HistoryQuestion),
    /// The next settlement window begins.
    CutOver(SettlementWindow),
    /// All requests of a window that is over have their outcome.
    CloseWindow(SettlementWindow),
    /// This message gets no answer of its own: wipe what is held for it.
    Forget { transaction: TransactionId },
    /// A message that came in belongs to a transaction that is known.
    Concerns { message: TransactionId, known: TransactionId, concern: Concern },
}

/// What becomes of a person's decision about a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatedEnd {
    /// It is durable and done.
    Done,
    /// Nothing: that message waits for nobody.
    NotListed,
    /// Nothing: it was to be sent again, and a reversal of it was taken over since it was parked. Behind that it would
    /// charge the card once more, with nobody left to undo it.
    TakenBack,
}

/// What a message is to the one that it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The same again.
    Repeat,
    Reversal,
}

/// An account as requests are compared and cards kept in order: a token as sent, or a mark of a PAN that means
/// nothing outside this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    Token(crate::vocab::Token),
    Pan(CardMark),
}

/// A number that stands for a PAN within one run of this process: keyed at random, never written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CardMark(pub u64);

/// The transactions of one name.
#[derive(Debug)]
pub struct LookedUp {
    pub past: Vec<Past>,
    /// Whether older ones were left out: so many have the name.
    pub more: bool,
}

/// A finished transaction out of the history.
#[derive(Debug, Clone)]
pub struct Past {
    pub transaction: TransactionId,
    pub answered: Box<Answered>,
}

/// A token mapped to its card.
#[derive(Debug, Clone)]
pub struct Mapped {
    pub card: Arc<CardRef>,
    pub mark: CardMark,
    /// The issuer that the PAN routes to.
    pub issuer: Option<LinkId>,
    pub verdicts: Verdicts,
    pub counter: Option<CounterTaken>,
}

/// What an issuer answered, with the fields by which it is matched to what was asked.
#[derive(Debug, Clone)]
pub struct IssuerAnswer {
    pub link: LinkId,
    pub mti: Mti,
    pub sent_at: SentAt,
    pub stan: Stan,
    pub acquirer: Option<crate::vocab::InstitutionId>,
    pub rrn: Option<Rrn>,
    pub terminal: Option<TerminalId>,
    pub amount: Option<Amount>,
    /// `None`: the code is in no table.
    pub outcome: Option<Outcome>,
    pub code: ResponseCode,
    /// The issuer's elements that may go back to an acquirer.
    pub elements: Elements,
    /// What it says of the card, in the answer to an enquiry.
    pub card: Option<Box<CardWord>>,
    /// Whether it could be read without a fault; a faulty one is an unknown outcome.
    pub believable: bool,
}

/// A stored message to be sent now.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub entry: crate::journal::StoredEntry,
    /// Sent before: as 0421, 0121 or 0221.
    pub repeat: bool,
}

/// How an answer turns out: this switch says no, or the issuer's word is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    Refused(Refusal),
    /// The issuer's own DE 39 stands among the elements.
    Passed,
    /// An advice or reversal is taken over: the dialect's code for approved.
    Accepted,
}

/// An answer to an acquirer, dialect-free and without the account number.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What is answered.
    pub transaction: TransactionId,
    /// The message that asks: `transaction` itself, or a repeat of it.
    pub asked_by: TransactionId,
    pub to: ConnectionId,
    /// What was asked: its link, its MTI, the elements to be echoed.
    pub request: Arc<Request>,
    pub card: Option<Arc<CardRef>>,
    pub kind: AnswerKind,
    /// The answer's own elements.
    pub elements: Elements,
    /// Whether money would stay moved if this answer were lost.
    pub must_arrive: bool,
}

impl Answer {
    /// An answer to a message as it was received, with nothing of its own yet.
    #[must_use]
    pub fn to(request: &Arc<Request>, connection: ConnectionId, kind: AnswerKind) -> Self {
        Self {
            transaction: request.transaction,
            asked_by: request.transaction,
            to: connection,
            request: Arc::clone(request),
            card: None,
            kind,
            elements: Elements::default(),
            must_arrive: false,
        }
    }

    /// What is said instead of an approval that was reversed before it could leave.
    #[must_use]
    pub fn withheld(self) -> Self {
        Self {
            kind: AnswerKind::Refused(Refusal::AnswerWithheld),
            elements: Elements::default(),
            must_arrive: false,
            ..self
        }
    }
}

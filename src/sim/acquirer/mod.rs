//! `AcquirerSimulator`: asks, waits, repeats, reverses, checks every answer, and keeps a book of all of it.
//!
//! A brain without sockets: connections that open and close, messages that come in and time go into it, bytes
//! to send come out. Under load a payment costs no allocation: its message is a template with other digits in
//! it (`template.rs`), and a second's DE 7 is made once.

mod answer;
mod load;
mod sending;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use answer::{Heard, Mismatch};
pub use load::{Load, Pace};

use super::book::{Book, Payment, PaymentNumber, PaymentState, ReversalNumber};
use super::cards::{PresentedCard, TestMerchant};
use super::faults::FaultPlan;
use super::outbox::{Outbox, Wire};
use super::payment::Shape;
use super::reconcile::Record;
use super::report::Report;
use super::template::{Template, TemplateError};
use crate::codec::{Dialect, EncodeError, FrameFormat, Message, WriteError};
use crate::stdx::clock::{Moment, Now};
use crate::stdx::maps::Map;
use crate::stdx::random::Entropy;
use crate::vocab::{
    InstitutionId, MessageClass, MessageFunction, Mti, NetworkCode, Stan, TransmissionTime, WordError,
};
use load::LoadState;

/// What keeps a simulator from sending.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    #[error("card {0} is not in the configuration")]
    NoSuchCard(usize),
    #[error("merchant {0} is not in the configuration")]
    NoSuchMerchant(usize),
    #[error("payment {0} is not in the book")]
    NoSuchPayment(usize),
    #[error("no connection is signed on")]
    NoConnection,
    #[error("a message cannot be written: {0}")]
    Write(#[from] WriteError<EncodeError>),
    #[error("a message cannot be made a template: {0}")]
    Template(#[from] TemplateError<WriteError<EncodeError>>),
    #[error(transparent)]
    Word(#[from] WordError),
    #[error("a latency histogram cannot be made")]
    Histogram(#[from] hdrhistogram::CreationError),
}

/// What an acquirer does when no answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long it waits for any answer.
    pub answer: Duration,
    /// How often it then sends the request again (xxx1).
    pub repeats: u16,
    /// Whether it reverses what stays unanswered, or leaves it at that.
    pub reverses: bool,
    /// Whether its reversals are advices (0420) or requests (0400).
    pub reversal_advice: bool,
    /// How often it sends a reversal again (0401, 0421) that is not acknowledged.
    pub reversal_repeats: u16,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(15),
            repeats: 0,
            reverses: true,
            reversal_advice: false,
            reversal_repeats: 10,
        }
    }
}

/// Things done now and then to answered payments; one in so many, by the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Habits {
    /// Approvals taken back by a reversal.
    pub reverse_one_in: Option<u64>,
    /// Answered requests sent again all the same: the answer must be the same.
    pub repeat_one_in: Option<u64>,
}

/// Who the acquirer is and how it behaves.
pub struct AcquirerConfig {
    pub dialect: Arc<Dialect>,
    pub framing: FrameFormat,
    /// The fixed header of its messages, as long as the framing says.
    pub header: Vec<u8>,
    pub institution: InstitutionId,
    pub merchants: Vec<TestMerchant>,
    pub cards: Vec<PresentedCard>,
    pub patience: Patience,
    pub habits: Habits,
    pub faults: FaultPlan,
    pub seed: u64,
    /// Where DE 11 and DE 37 begin to count, so that two runs do not use the same.
    pub first_number: u64,
}

/// One connection as the brain sees it.
#[derive(Debug, Clone, Copy)]
struct Connection {
    number: usize,
    signed_on: bool,
    /// Payments of the load in flight on it.
    outstanding: usize,
}

/// Who waits for the answer with a given DE 11.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Payment(PaymentNumber),
    Reversal(ReversalNumber),
    Network(usize, NetworkCode),
}

/// When patience ends, for the sending that it began with.
#[derive(Debug, Clone, Copy)]
struct Timer {
    at: Moment,
    of: Waiting,
    repeats: u16,
}

/// An acquirer's host.
pub struct AcquirerSimulator {
    dialect: Arc<Dialect>,
    header: Vec<u8>,
    institution: InstitutionId,
    merchants: Vec<TestMerchant>,
    cards: Vec<PresentedCard>,
    /// Taps so far of each card that is in no phone.
    taps: Vec<u16>,
    patience: Patience,
    habits: Habits,
    seed: u64,
    entropy: Entropy,
    wire: Wire,
    book: Book,
    report: Report,
    connections: Vec<Connection>,
    /// Takes turns among connections.
    turn: usize,
    waiting: Map<Stan, Waiting>,
    /// All patience is equally long, so the first in ends first.
    timers: VecDeque<Timer>,
    load: Option<LoadState>,
    numbers: u64,
    stan: u32,
    clock: (u64, TransmissionTime),
    shapes: Map<Shape, usize>,
    templates: Vec<Template>,
    message: Message,
    /// Where answers are decoded into; lent out while one is looked at.
    answer: Option<Box<Message>>,
}

impl AcquirerSimulator {
    /// An acquirer without connections.
    ///
    /// # Errors
    /// `Histogram` when the report cannot be made.
    pub fn new(config: AcquirerConfig) -> Result<Self, SimError> {
        let request = Mti::of(MessageClass::NetworkManagement, MessageFunction::Request);
        let span = u64::from(Stan::MOST) + 1;
        Ok(Self {
            dialect: config.dialect,
            header: config.header,
            institution: config.institution,
            merchants: config.merchants,
            taps: vec![0; config.cards.len()],
            cards: config.cards,
            patience: config.patience,
            habits: config.habits,
            seed: config.seed,
            entropy: Entropy::seeded(config.seed),
            wire: Wire::new(config.framing, config.faults),
            book: Book::new(config.institution),
            report: Report::new()?,
            connections: Vec::new(),
            turn: 0,
            waiting: Map::default(),
            timers: VecDeque::new(),
            load: None,
            numbers: config.first_number,
            stan: u32::try_from(config.first_number % span).unwrap_or_default(),
            clock: (u64::MAX, TransmissionTime::of(crate::stdx::clock::Wall(0))),
            shapes: Map::default(),
            templates: Vec::new(),
            message: Message::new(request),
            answer: Some(Box::new(Message::new(request))),
        })
    }

    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    #[must_use]
    pub fn cards(&self) -> &[PresentedCard] {
        &self.cards
    }

    /// What its book says for reconciliation.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.book.records(&self.cards)
    }

    /// How many connections are signed on.
    #[must_use]
    pub fn signed_on(&self) -> usize {
        self.connections.iter().filter(|connection| connection.signed_on).count()
    }

    /// How many answers it waits for.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.waiting.len()
    }

    /// A connection is there: signs on, again and again until it is answered.
    ///
    /// # Errors
    /// `Write` when the dialect has no place for a sign-on.
    pub fn opened(&mut self, connection: usize, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        self.connections.push(Connection { number: connection, signed_on: false, outstanding: 0 });
        self.manage(connection, NetworkCode::SIGN_ON, now, out)
    }

    /// A connection is gone. What was asked on it stays unanswered until patience ends.
    pub fn closed(&mut self, connection: usize, out: &mut Outbox) {
        self.wire.closed(connection);
        out.closed(connection);
        self.connections.retain(|known| known.number != connection);
        self.waiting.retain(|_, of| !matches!(of, Waiting::Network(on, _) if *on == connection));
        self.report.connections_lost += 1;
    }

    /// Does what is due: late frames, repeats, reversals, and the load's next payments.
    ///
    /// # Errors
    /// `Write` or `Template` when a message of the load cannot be written; the load has then ended.
    pub fn next(&mut self, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        self.wire.due(now.moment, out);
        while let Some(timer) = self.timers.front().copied().filter(|timer| timer.at <= now.moment) {
            self.timers.pop_front();
            self.patience_ended(timer, now, out)?;
        }
        self.go_on(now, out)
    }

    /// When `next` should be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let timer = self.timers.front().map(|timer| timer.at);
        [timer, self.wire.deadline(), self.load_due()].into_iter().flatten().min()
    }

    /// Sends one payment on the next connection in turn that is signed on.
    ///
    /// # Errors
    /// `NoConnection`, `NoSuchCard`, `NoSuchMerchant`, or `Write` and `Template` when it cannot be written.
    pub fn pay(&mut self, payment: Payment, now: Now, out: &mut Outbox) -> Result<PaymentNumber, SimError> {
        let connection = self.next_connection().ok_or(SimError::NoConnection)?;
        self.pay_on(connection, payment, now.moment, false, now, out)
    }

    /// Sends a payment again, as xxx1, with the same DE 7, 11 and 37.
    ///
    /// # Errors
    /// As `pay`, and `NoSuchPayment`.
    pub fn repeat(&mut self, number: PaymentNumber, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        let connection = self.next_connection().ok_or(SimError::NoConnection)?;
        let entry = self.book.payment_mut(number).ok_or(SimError::NoSuchPayment(number.0))?;
        entry.repeats += 1;
        let (stan, repeats) = (entry.stan, entry.repeats);
        self.report.repeats += 1;
        self.wait_for(stan, Waiting::Payment(number), repeats, now);
        self.transmit(connection, number, true, now, out)
    }

    /// Takes a payment back: whole, or down to `keep` minor units.
    ///
    /// # Errors
    /// As `pay`, and `NoSuchPayment`.
    pub fn reverse(
        &mut self,
        number: PaymentNumber,
        keep: Option<u64>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<ReversalNumber, SimError> {
        let connection = Some(self.next_connection().ok_or(SimError::NoConnection)?);
        self.start_reversal(connection, number, keep, now, out)
    }

    /// Sends a network management request: sign-on, sign-off, echo.
    ///
    /// # Errors
    /// `Write` when the dialect has no place for it.
    pub fn manage(
        &mut self,
        connection: usize,
        code: NetworkCode,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let stan = self.next_stan();
        self.wait_for(stan, Waiting::Network(connection, code), 0, now);
        self.write_network(connection, code, stan, now, out)
    }

    /// The next connection in turn that is signed on.
    fn next_connection(&mut self) -> Option<usize> {
        let count = self.connections.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            if let Some(found) = self.connections.get(at).filter(|connection| connection.signed_on) {
                self.turn = at + 1;
                return Some(found.number);
            }
        }
        None
    }

    /// The next DE 11 that nobody waits for.
    fn next_stan(&mut self) -> Stan {
        loop {
            self.stan = if self.stan >= Stan::MOST { 1 } else { self.stan + 1 };
            if let Some(stan) = Stan::new(self.stan).filter(|stan| !self.waiting.contains_key(stan)) {
                return stan;
            }
        }
    }

    fn wait_for(&mut self, stan: Stan, of: Waiting, repeats: u16, now: Now) {
        self.waiting.insert(stan, of);
        self.timers.push_back(Timer { at: now.moment.plus(self.patience.answer), of, repeats });
    }

    /// Waits no more, unless the number is in use again by now.
    fn forget(&mut self, stan: Stan, of: Waiting) {
        if self.waiting.get(&stan) == Some(&of) {
            self.waiting.remove(&stan);
        }
    }

    /// DE 7 of now; made once a second.
    fn sent_at(&mut self, now: Now) -> TransmissionTime {
        if self.clock.0 != now.wall.seconds() {
            self.clock = (now.wall.seconds(), TransmissionTime::of(now.wall));
        }
        self.clock.1
    }

    fn patience_ended(&mut self, timer: Timer, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        let patience = self.patience;
        match timer.of {
            Waiting::Payment(number) => {
                let Some(entry) = self.book.payment_mut(number) else { return Ok(()) };
                if entry.repeats != timer.repeats {
                    return Ok(());
                }
                let stan = entry.stan;
                if entry.state != PaymentState::Waiting {
                    self.forget(stan, timer.of);
                    return Ok(());
                }
                let connection = self.next_connection();
                if timer.repeats < patience.repeats {
                    match connection {
                        Some(_) => return self.repeat(number, now, out),
                        None => self.wait_for(stan, timer.of, timer.repeats, now),
                    }
                    return Ok(());
                }
                self.forget(stan, timer.of);
                self.report.unanswered += 1;
                self.release(number);
                if patience.reverses {
                    self.start_reversal(connection, number, None, now, out)?;
                } else {
                    self.settle(number, PaymentState::Silent);
                }
            }
            Waiting::Reversal(number) => self.insist(number, timer.repeats, now, out)?,
            Waiting::Network(connection, code) => {
                self.waiting.retain(|_, of| *of != timer.of);
                let open = self.connections.iter().any(|c| c.number == connection && !c.signed_on);
                if open && code == NetworkCode::SIGN_ON {
                    self.manage(connection, code, now, out)?;
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, number: PaymentNumber, state: PaymentState) {
        if let Some(entry) = self.book.payment_mut(number) {
            entry.state = state;
        }
    }
}

//! The only async file of the switch: moves bytes between the sockets and `Node`, wakes it when entries are durable
//! or time has passed, and drains it at the end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{LocalSet, yield_now};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::journal::{
    Appender, Body, Durability, EntryNumber, HistoryAnswer, HistoryDesk, HistoryQuestion, JournalError,
};
use crate::link::{Inbox, LinkError, Links, LinksConfig, Outbox};
use crate::stdx::clock::{Clock, Moment, Now};
use crate::stdx::maps::Map;
use crate::vocab::ShardId;

use super::core::ListedException;
use super::enquiry::Enquiries;
use super::event::OperatedEnd;
use super::metrics::Metrics;
use super::node::{EntryLog, Happened, History, LogFault, Node, NodeParts, Reload};
use super::operator::OperatorAct;
use super::status::SwitchStatus;

/// How often time-outs, echoes and retries are looked at.
const TICK: Duration = Duration::from_millis(10);
/// Ticks between two pictures for the console and the metrics.
const TICKS_PER_STATUS: u32 = 10;

/// How long the end waits for the disk. What is not durable by then is closed by the next start.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// How long acquirers have at the end to take what was approved last.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Calls that may wait for the switch.
const CALLS: usize = 16;

/// Why the switch stopped by itself, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error("{}", list(.0))]
    Links(Vec<LinkError>),
    #[error(transparent)]
    Log(#[from] LogFault),
    #[error("the journal's disk failed, so nothing more can be promised: {0}")]
    Disk(String),
    #[error("the switch's thread cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("the switch's thread ended early")]
    Ended,
    #[error(
        "the drain's limit was over: {0} requests in flight were closed without their issuers' answers; the journal has \
         the reversals of what could have moved money, and the next start delivers them"
    )]
    DrainCutShort(usize),
}

fn list(errors: &[LinkError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The journal's word to the switch: given on the journal's thread, heard on the switch's.
#[derive(Debug, Default)]
pub struct DurableSignal {
    watermark: AtomicU64,
    failed: OnceLock<String>,
    changed: Notify,
}

impl DurableSignal {
    /// Notes what the journal says; waits for nothing.
    pub fn tell(&self, durability: Durability) {
        match durability {
            Durability::Durable(number) => self.watermark.store(number.0, Ordering::Release),
            Durability::Failed(reason) => {
                let _ = self.failed.set(reason);
            }
        }
        self.changed.notify_one();
    }

    /// Lets the switch look for what else there is.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    fn watermark(&self) -> Result<EntryNumber, SwitchError> {
        match self.failed.get() {
            Some(reason) => Err(SwitchError::Disk(reason.clone())),
            None => Ok(EntryNumber(self.watermark.load(Ordering::Acquire))),
        }
    }
}

impl EntryLog for Appender {
    fn append(&mut self, shard: ShardId, now: Now, bodies: &[Body]) -> Result<EntryNumber, LogFault> {
        self.append_batch(shard, now.wall, bodies).map_err(|error| match error {
            JournalError::Full => LogFault::Full,
            other => LogFault::Closed(other.to_string()),
        })
    }

    fn has_room(&self) -> bool {
        Self::has_room(self)
    }
}

/// The switch's end of the line to the history: its thread, and where the thread leaves its answers.
pub struct HistoryLine {
    pub desk: HistoryDesk,
    pub answers: std::sync::mpsc::Receiver<HistoryAnswer>,
}

impl History for HistoryLine {
    fn ask(&mut self, question: HistoryQuestion) -> bool {
        self.desk.ask(question)
    }

    fn answer(&mut self) -> Option<HistoryAnswer> {
        self.answers.try_recv().ok()
    }
}

/// What is asked of the switch. Who asked and went away is told nothing.
enum OperatorCall {
    List(oneshot::Sender<Vec<ListedException>>),
    Decide(Box<OperatorAct>, oneshot::Sender<OperatedEnd>),
    Reload(Box<(Reload, LinksConfig)>, oneshot::Sender<Result<(), Vec<String>>>),
}

/// A line to the switch's thread.
#[derive(Debug, Clone)]
pub struct Operators(mpsc::Sender<OperatorCall>);

impl Operators {
    fn line() -> (Self, mpsc::Receiver<OperatorCall>) {
        let (sender, receiver) = mpsc::channel(CALLS);
        (Self(sender), receiver)
    }

    /// What a person must look at, the oldest first. The receiver fails when the switch has ended or is overrun.
    #[must_use]
    pub fn list(&self) -> oneshot::Receiver<Vec<ListedException>> {
        let (answer, receiver) = oneshot::channel();
        // An answer that is dropped unsent says that nobody took the call.
        let _ = self.0.try_send(OperatorCall::List(answer));
        receiver
    }

    /// Has the switch go on under another configuration, or says all that stands in the way; then nothing changed. The
    /// receiver fails as in `list`.
    #[must_use]
    pub fn reload(&self, reload: Reload, links: LinksConfig) -> oneshot::Receiver<Result<(), Vec<String>>> {
        let (answer, receiver) = oneshot::channel();
        let _ = self.0.try_send(OperatorCall::Reload(Box::new((reload, links)), answer));
        receiver
    }

    /// Tells a decision, and what became of it: once it is durable where it is done. The receiver fails as in `list`;
    /// then it is not known whether it was done.
    #[must_use]
    pub fn decide(&self, act: OperatorAct) -> oneshot::Receiver<OperatedEnd> {
        let (answer, receiver) = oneshot::channel();
        let _ = self.0.try_send(OperatorCall::Decide(Box::new(act), answer));
        receiver
    }
}

/// What a switch is started with.
pub struct SwitchParts {
    pub node: NodeParts,
    pub links: LinksConfig,
    pub durable: Arc<DurableSignal>,
    pub clock: Clock,
    pub registry: Arc<Mutex<Registry>>,
    /// What the TSP asks issuers.
    pub enquiries: Enquiries,
    /// How long a stop may wait for requests in flight.
    pub drain_limit: Duration,
}

/// Whether the switch is to end, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stopping {
    No,
    /// Once what is in flight has ended, or the limit is over.
    Drain,
    AtOnce,
}

/// A running switch.
pub struct Switch {
    addresses: Vec<(String, SocketAddr)>,
    status: SwitchStatus,
    operators: Operators,
    stop: watch::Sender<Stopping>,
    ended: watch::Receiver<bool>,
    thread: Option<JoinHandle<Result<(), SwitchError>>>,
}

impl Switch {
    /// Starts the switch on a thread of its own; it listens when this returns.
    ///
    /// # Errors
    /// Every listener that cannot be bound.
    pub fn start(parts: SwitchParts) -> Result<Self, SwitchError> {
        let (stop, stopping) = watch::channel(Stopping::No);
        let (ending, ended) = watch::channel(false);
        let (started, listening) = std::sync::mpsc::channel();
        let status = SwitchStatus::default();
        let board = status.clone();
        let (operators, calls) = Operators::line();
        let run = move || {
            let result = run(parts, &board, calls, stopping, &started);
            let _ = ending.send(true);
            result
        };
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(run);
        let thread = thread.map_err(SwitchError::Thread)?;
        match listening.recv() {
            Ok(addresses) => Ok(Self { addresses, status, operators, stop, ended, thread: Some(thread) }),
            Err(_) => {
                Err(thread.join().map_or(SwitchError::Ended, |r| r.err().unwrap_or(SwitchError::Ended)))
            }
        }
    }

    /// Where each listener listens, by name.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    #[must_use]
    pub fn status(&self) -> SwitchStatus {
        self.status.clone()
    }

    /// A line to it for operators.
    #[must_use]
    pub fn operators(&self) -> Operators {
        self.operators.clone()
    }

    /// Waits until the switch has ended: by itself, as it does when the disk fails, or drained.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Has it refuse new requests, finish what is in flight, reverse what is left of it at the limit, and end.
    pub fn drain(&self) {
        self.stop.send_modify(|stopping| *stopping = Stopping::Drain.max(*stopping));
    }

    /// The drain's limit is over now.
    pub fn hurry(&self) {
        self.stop.send_replace(Stopping::AtOnce);
    }

    /// Drains, and waits for the end.
    ///
    /// # Errors
    /// What made it end by itself, if it did; `DrainCutShort`.
    pub fn stop(mut self) -> Result<(), SwitchError> {
        self.drain();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or(Err(SwitchError::Ended))
    }
}

fn run(
    parts: SwitchParts,
    status: &SwitchStatus,
    calls: mpsc::Receiver<OperatorCall>,
    stopping: watch::Receiver<Stopping>,
    started: &std::sync::mpsc::Sender<Vec<(String, SocketAddr)>>,
) -> Result<(), SwitchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(SwitchError::Thread)?;
    LocalSet::new().block_on(&runtime, async move {
        let (links, metrics) = {
            let mut registry = parts.registry.lock().unwrap_or_else(PoisonError::into_inner);
            let links = Links::start(parts.links, parts.clock.clone(), &mut registry);
            (links.map_err(SwitchError::Links)?, Metrics::register(&mut registry))
        };
        let addresses = links.addresses().map(|(name, address)| (name.to_owned(), address)).collect();
        let mut driver = Driver {
            node: Node::new(parts.node),
            links,
            durable: parts.durable,
            clock: parts.clock,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            status: status.clone(),
            metrics,
            enquiries: parts.enquiries,
            calls,
            deciding: Map::default(),
            decided: 0,
        };
        driver.publish(driver.clock.now());
        let _ = started.send(addresses);
        driver.drive(stopping, parts.drain_limit).await
    })
}

/// What happens in one turn of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Work,
    Tick,
    Stop,
}

struct Driver {
    node: Node,
    links: Links,
    durable: Arc<DurableSignal>,
    clock: Clock,
    inbox: Inbox,
    outbox: Outbox,
    status: SwitchStatus,
    metrics: Metrics,
    /// What the TSP asks issuers.
    enquiries: Enquiries,
    /// What operators ask.
    calls: mpsc::Receiver<OperatorCall>,
    /// Who waits for the end of a decision, by its number; and how many there were.
    deciding: Map<u64, oneshot::Sender<OperatedEnd>>,
    decided: u64,
}

impl Driver {
    async fn drive(
        mut self,
        mut stopping: watch::Receiver<Stopping>,
        drain_limit: Duration,
    ) -> Result<(), SwitchError> {
        let mut beat = interval(TICK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Stopping::No;
        let mut until: Option<Moment> = None;
        let mut ticks = 0_u32;
        loop {
            let woken = tokio::select! {
                () = self.links.ready() => Woken::Work,
                () = self.durable.changed.notified() => Woken::Work,
                _ = beat.tick() => Woken::Tick,
                // At once, and yet behind whatever the sockets have by now.
                () = yield_now(), if self.node.unchecked() > 0 => Woken::Work,
                said = stopping.wait_for(|stopping| *stopping > told), if told < Stopping::AtOnce => {
                    // Whoever could say more is gone.
                    told = said.map_or(Stopping::AtOnce, |said| *said);
                    Woken::Stop
                }
            };
            let now = self.turn(woken)?;
            self.answer_operators(now);
            while let Some(asked) = self.enquiries.next() {
                self.node.enquire(asked);
            }
            match woken {
                Woken::Work => {}
                Woken::Tick => {
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(TICKS_PER_STATUS) {
                        self.publish(now);
                    }
                }
                Woken::Stop => {
                    self.links.stop_accepting();
                    self.node.drain();
                    let limit = if told == Stopping::AtOnce { Duration::ZERO } else { drain_limit };
                    until = Some(now.moment.plus(limit));
                }
            }
            let is_over = |until: Moment| self.all_given() || until <= now.moment;
            if until.is_some_and(is_over) {
                return self.end(&mut beat).await;
            }
        }
    }

    /// Takes what operators ask, and tells them what is done. A decision is looked at with the next turn.
    fn answer_operators(&mut self, now: Now) {
        for (call, end) in self.node.operated() {
            if let Some(answer) = self.deciding.remove(&call) {
                let _ = answer.send(end);
            }
        }
        while let Ok(call) = self.calls.try_recv() {
            match call {
                OperatorCall::List(answer) => {
                    let _ = answer.send(self.node.exceptions(now));
                }
                OperatorCall::Reload(parts, answer) => {
                    let _ = answer.send(self.reload(*parts));
                }
                OperatorCall::Decide(act, answer) => {
                    self.decided += 1;
                    self.deciding.insert(self.decided, answer);
                    self.node.operate(self.decided, *act);
                }
            }
        }
    }

    /// Sockets first, since only they can fail; then the node, whose next turn dials and closes.
    fn reload(&mut self, (reload, links): (Reload, LinksConfig)) -> Result<(), Vec<String>> {
        let objections = self.node.objections(&reload);
        if !objections.is_empty() {
            return Err(objections);
        }
        let bound = self.links.reload(links);
        bound.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        self.node.reload(reload, &mut self.outbox);
        self.links.apply(&mut self.outbox);
        Ok(())
    }

    /// Takes the picture for whoever looks: console, metrics, demo.
    fn publish(&mut self, now: Now) {
        let picture = self.node.picture(now);
        self.metrics.show(&picture);
        self.status.publish(picture);
    }

    /// One step of the node over everything that came, and one write to each connection that has output; then what
    /// takes long.
    fn turn(&mut self, woken: Woken) -> Result<Now, SwitchError> {
        self.links.take(&mut self.inbox);
        let now = self.clock.now();
        let durable = Some(self.durable.watermark()?);
        self.node.step(Happened { inbox: Some(&self.inbox), durable }, now, &mut self.outbox)?;
        if woken == Woken::Tick {
            self.node.tick(now, &mut self.outbox)?;
        }
        self.links.apply(&mut self.outbox);
        if self.node.unchecked() > 0 {
            self.node.check(now, &mut self.outbox)?;
            self.links.apply(&mut self.outbox);
        }
        Ok(now)
    }

    /// Whether all that was asked has its durable answer, and every approval is with its acquirer.
    fn all_given(&self) -> bool {
        self.node.is_idle() && self.node.owing().is_empty()
    }

    /// Closes what is left in flight; once that is durable and told, signs off. Approvals that are not taken are taken
    /// back.
    async fn end(mut self, beat: &mut Interval) -> Result<(), SwitchError> {
        let open = self.node.end(self.clock.now(), &mut self.outbox)?;
        self.wait(beat, LAST_WRITE, false, |it| it.node.is_idle()).await?;
        self.wait(beat, LAST_ANSWERS, false, Self::all_given).await?;
        let now = self.wait(beat, LAST_WRITE, true, Self::all_given).await?;
        if !self.all_given() {
            tracing::error!("the disk was waited for in vain: the next start ends what is not durable");
        }
        self.node.sign_off(now, &mut self.outbox);
        self.links.apply(&mut self.outbox);
        if open > 0 { Err(SwitchError::DrainCutShort(open)) } else { Ok(()) }
    }

    /// Goes on without acquirers that owed approvals before what their sockets took was heard, and behind it.
    fn give_up(&mut self) -> Result<Now, SwitchError> {
        let owing = self.node.owing();
        let now = self.turn(Woken::Work)?;
        self.node.give_up(&owing, &mut self.outbox);
        self.links.apply(&mut self.outbox);
        Ok(now)
    }

    /// Goes on until it is `done` or the limit is over; where it `gives_up`, without acquirers that do not take what
    /// they were approved.
    async fn wait(
        &mut self,
        beat: &mut Interval,
        limit: Duration,
        gives_up: bool,
        done: impl Fn(&Self) -> bool,
    ) -> Result<Now, SwitchError> {
        let mut now = self.turn(Woken::Work)?;
        let until = now.moment.plus(limit);
        while !done(self) && now.moment < until {
            if gives_up {
                now = self.give_up()?;
            }
            tokio::select! {
                () = self.links.ready() => {}
                () = self.durable.changed.notified() => {}
                _ = beat.tick() => self.publish(now),
            }
            now = self.turn(Woken::Work)?;
        }
        self.publish(now);
        Ok(now)
    }
}

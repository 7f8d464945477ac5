//! Sockets for the simulators' brains: one task a connection, on one thread. All frames that a socket gives are
//! handled together, and what they lead to leaves in one write.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::codec::{FrameFormat, FrameReader};
use crate::sim::{AcquirerSimulator, IssuerSimulator, Outbox, SimError};
use crate::stdx::clock::{Clock, Moment, Now};
use crate::stdx::maps::Map;

/// How finely time is told to a brain that has something due: an open-loop load sends what is due by then in
/// one go, and its latencies count the wait.
const TICK: Duration = Duration::from_micros(200);
/// How long a brain without anything due is left alone.
const IDLE: Duration = Duration::from_millis(20);
/// The most bytes that may wait for a peer that reads nothing.
const MOST_WAITING: usize = 64 * 1024 * 1024;

/// What the sockets need of a simulator.
pub trait Brain {
    fn opened(&mut self, connection: usize, now: Now, out: &mut Outbox) -> Result<(), SimError>;
    fn closed(&mut self, connection: usize, out: &mut Outbox);
    fn received(
        &mut self,
        connection: usize,
        header: &[u8],
        message: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError>;
    fn next(&mut self, now: Now, out: &mut Outbox) -> Result<(), SimError>;
    fn deadline(&self) -> Option<Moment>;
}

impl Brain for IssuerSimulator {
    fn opened(&mut self, connection: usize, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        Self::opened(self, connection, now, out);
        Ok(())
    }

    fn closed(&mut self, connection: usize, out: &mut Outbox) {
        Self::closed(self, connection, out);
    }

    fn received(
        &mut self,
        connection: usize,
        header: &[u8],
        message: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        Self::received(self, connection, header, message, now, out);
        Ok(())
    }

    fn next(&mut self, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        Self::next(self, now, out);
        Ok(())
    }

    fn deadline(&self) -> Option<Moment> {
        Self::deadline(self)
    }
}

impl Brain for AcquirerSimulator {
    fn opened(&mut self, connection: usize, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        Self::opened(self, connection, now, out)
    }

    fn closed(&mut self, connection: usize, out: &mut Outbox) {
        Self::closed(self, connection, out);
    }

    fn received(
        &mut self,
        connection: usize,
        _header: &[u8],
        message: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        Self::received(self, connection, message, now, out).map(|_| ())
    }

    fn next(&mut self, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        Self::next(self, now, out)
    }

    fn deadline(&self) -> Option<Moment> {
        Self::deadline(self)
    }
}

/// A brain, its outbox and its connections. Everything runs on one thread, in a `LocalSet`.
struct Host<B> {
    brain: B,
    out: Outbox,
    clock: Clock,
    framing: FrameFormat,
    connections: usize,
    writers: Map<usize, Rc<Notify>>,
    fault: Option<SimError>,
    /// Copies of what came in, for whoever wants to show them.
    kept: Option<Vec<Vec<u8>>>,
}

/// A `Host` as its tasks share it.
pub struct Shared<B>(Rc<RefCell<Host<B>>>);

impl<B> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<B: Brain + 'static> Shared<B> {
    pub fn new(brain: B, framing: FrameFormat, clock: Clock) -> Self {
        Self(Rc::new(RefCell::new(Host {
            brain,
            out: Outbox::new(),
            clock,
            framing,
            connections: 0,
            writers: Map::default(),
            fault: None,
            kept: None,
        })))
    }

    /// Does something with the brain, then sends what it wants sent.
    pub fn with<T>(&self, act: impl FnOnce(&mut B, Now, &mut Outbox) -> T) -> T {
        let mut host = self.0.borrow_mut();
        let now = host.clock.now();
        let Host { brain, out, .. } = &mut *host;
        let result = act(brain, now, out);
        host.wake(None);
        result
    }

    /// Looks at the brain.
    pub fn look<T>(&self, at: impl FnOnce(&B) -> T) -> T {
        at(&self.0.borrow().brain)
    }

    /// Whether there ever was a connection.
    pub fn was_connected(&self) -> bool {
        self.0.borrow().connections > 0
    }

    /// Keeps copies of all messages that come in from here on.
    pub fn keep_messages(&self) {
        self.0.borrow_mut().kept = Some(Vec::new());
    }

    /// The messages kept so far; no more are kept.
    pub fn kept_messages(&self) -> Vec<Vec<u8>> {
        self.0.borrow_mut().kept.take().unwrap_or_default()
    }

    /// What stopped the brain, once.
    pub fn take_fault(&self) -> Option<SimError> {
        self.0.borrow_mut().fault.take()
    }

    /// Dials `address` and keeps the connection until it is lost or the brain hangs up; then dials again.
    pub async fn keep_dialled(self, address: SocketAddr) {
        loop {
            if let Ok(stream) = TcpStream::connect(address).await {
                self.clone().serve(stream).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Accepts connections for as long as it is polled.
    ///
    /// # Errors
    /// What the listener says.
    pub async fn accept(self, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(self.clone().serve(stream));
        }
    }

    /// Tells the brain the time, for as long as it is polled.
    pub async fn tick(self) {
        let tick = Arc::new(Notify::new());
        let pace = Arc::new(std::sync::atomic::AtomicBool::new(false));
        start_ticking(&tick, &pace);
        loop {
            let now = self.0.borrow().clock.now();
            let due = self.0.borrow().brain.deadline();
            let soon = due.is_some_and(|due| due.since(now.moment) < IDLE);
            pace.store(soon, std::sync::atomic::Ordering::Relaxed);
            tick.notified().await;
            let mut host = self.0.borrow_mut();
            let now = host.clock.now();
            let Host { brain, out, .. } = &mut *host;
            let done = brain.next(now, out);
            host.note(done);
            host.wake(None);
        }
    }

    async fn serve(self, stream: TcpStream) {
        let writer = Rc::new(Notify::new());
        let (connection, framing) = self.0.borrow_mut().open(&writer);
        // An error here is the end of the connection, as an end of stream is.
        let _ = self.converse(connection, &stream, framing, &writer).await;
        self.0.borrow_mut().close(connection);
    }

    async fn converse(
        &self,
        connection: usize,
        stream: &TcpStream,
        framing: FrameFormat,
        writer: &Notify,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = FrameReader::new(framing);
        let mut pending: Vec<u8> = Vec::new();
        let mut written = 0;
        loop {
            if written == pending.len() {
                pending.clear();
                written = 0;
                let mut host = self.0.borrow_mut();
                std::mem::swap(&mut pending, host.out.bytes(connection));
                if pending.is_empty() && host.out.take_hang_up(connection) {
                    return Ok(());
                }
            }
            if written < pending.len() {
                match stream.try_write(pending.get(written..).unwrap_or_default()) {
                    Ok(count) => {
                        written += count;
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                if self.0.borrow_mut().out.bytes(connection).len() > MOST_WAITING {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
            }
            let interest = if written < pending.len() {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            let ready = tokio::select! {
                ready = stream.ready(interest) => ready?,
                () = writer.notified() => continue,
            };
            if ready.is_readable() && !self.read(connection, stream, &mut reader)? {
                return Ok(());
            }
        }
    }

    /// Reads once and handles all whole frames; false at the end of the stream.
    fn read(&self, connection: usize, stream: &TcpStream, reader: &mut FrameReader) -> io::Result<bool> {
        match stream.try_read(reader.spare()) {
            Ok(0) => return Ok(false),
            Ok(count) => reader.filled(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        let mut host = self.0.borrow_mut();
        let now = host.clock.now();
        while let Some(frame) = reader.next().map_err(|_| io::ErrorKind::InvalidData)? {
            let Host { brain, out, kept, .. } = &mut *host;
            if let Some(kept) = kept {
                kept.push(frame.message.to_vec());
            }
            let done = brain.received(connection, frame.header, frame.message, now, out);
            host.note(done);
        }
        host.wake(Some(connection));
        Ok(true)
    }
}

impl<B: Brain> Host<B> {
    fn open(&mut self, writer: &Rc<Notify>) -> (usize, FrameFormat) {
        let connection = self.connections;
        self.connections += 1;
        self.writers.insert(connection, Rc::clone(writer));
        let now = self.clock.now();
        let done = self.brain.opened(connection, now, &mut self.out);
        self.note(done);
        (connection, self.framing)
    }

    fn close(&mut self, connection: usize) {
        self.writers.remove(&connection);
        self.brain.closed(connection, &mut self.out);
    }

    /// Wakes the connections that have something to write, except the one that is awake.
    fn wake(&self, awake: Option<usize>) {
        for connection in self.out.waiting().filter(|connection| Some(*connection) != awake) {
            if let Some(writer) = self.writers.get(&connection) {
                writer.notify_one();
            }
        }
    }

    fn note(&mut self, done: Result<(), SimError>) {
        if let Err(error) = done {
            self.fault.get_or_insert(error);
        }
    }
}

/// A thread that wakes the brain: tokio's timers count in milliseconds, which an open loop would show in every
/// percentile. It ends when nobody holds the other end any more.
fn start_ticking(tick: &Arc<Notify>, pace: &Arc<std::sync::atomic::AtomicBool>) {
    let (tick, pace) = (Arc::downgrade(tick), Arc::clone(pace));
    std::thread::spawn(move || {
        loop {
            let soon = pace.load(std::sync::atomic::Ordering::Relaxed);
            std::thread::sleep(if soon { TICK } else { IDLE });
            let Some(tick) = tick.upgrade() else { return };
            tick.notify_one();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Dialect, shipped_dialects};
    use crate::sim::{
        AcquirerConfig, Fault, FaultPlan, FaultRule, Habits, IssuerConfig, Load, Pace, Patience,
        PresentedCard, reconcile, test_cards, test_merchants,
    };
    use crate::vocab::{Bin, Currency, InstitutionId, Mti, PosEntryMode, ProcessingCode, YearMonth};

    fn brains(framing: FrameFormat) -> (AcquirerSimulator, IssuerSimulator) {
        let (name, toml) = shipped_dialects()[0];
        let dialect = Arc::new(Dialect::from_toml(name, toml).unwrap());
        let cards =
            test_cards(1, &[Bin::parse(b"476173").unwrap()], 16, YearMonth { year: 2026, month: 11 }, 5);
        let rule = |when: &str, fault| FaultRule { when: when.parse().unwrap(), fault };
        let rules = vec![rule("mti=0200,odds=1/40", Fault::HangUp), rule("mti=0200,odds=1/40", Fault::Drop)];
        let issuer = IssuerSimulator::new(IssuerConfig {
            dialect: Arc::clone(&dialect),
            framing,
            header: Vec::new(),
            signs_on: false,
            rules: Vec::new(),
            enquiries: Vec::new(),
            faults: FaultPlan::new(1, rules),
            think: Duration::ZERO,
            seed: 1,
        });
        let acquirer = AcquirerSimulator::new(AcquirerConfig {
            dialect,
            framing,
            header: Vec::new(),
            institution: InstitutionId::parse(b"1").unwrap(),
            merchants: test_merchants(1, 1),
            cards: cards.iter().map(PresentedCard::card).collect(),
            patience: Patience { answer: Duration::from_millis(300), repeats: 3, ..Patience::default() },
            habits: Habits::default(),
            faults: FaultPlan::none(),
            seed: 1,
            first_number: 0,
        });
        (acquirer.unwrap(), issuer)
    }

    async fn both_to_the_end(framing: FrameFormat) -> (Shared<AcquirerSimulator>, Shared<IssuerSimulator>) {
        let (acquirer, issuer) = brains(framing);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = Clock::system();
        let issuer = Shared::new(issuer, framing, clock.clone());
        let acquirer = Shared::new(acquirer, framing, clock);
        tokio::task::spawn_local(issuer.clone().accept(listener));
        tokio::task::spawn_local(issuer.clone().tick());
        tokio::task::spawn_local(acquirer.clone().tick());
        for _ in 0..3 {
            tokio::task::spawn_local(acquirer.clone().keep_dialled(address));
        }
        let load = Load {
            pace: Pace::Closed { outstanding: 4 },
            total: Some(400),
            mti: Mti::parse(b"0200").unwrap(),
            processing: ProcessingCode::parse(b"000000").unwrap(),
            entry_mode: PosEntryMode::parse(b"101").unwrap(),
            amounts: 100..=999,
            currency: Currency::from_letters("EUR").unwrap(),
        };
        acquirer.with(|brain, now, _| brain.start_load(load, now));
        // The harness ends a run that hangs; until then nothing here is decided by time.
        while !acquirer.look(|brain| brain.load_is_over() && brain.outstanding() == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (acquirer, issuer)
    }

    #[test]
    fn a_load_over_sockets_that_hang_up_ends_even() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let framing = FrameFormat::parse("binary-2", 0, 4_000).unwrap();
        let (acquirer, issuer) = tokio::task::LocalSet::new().block_on(&runtime, both_to_the_end(framing));
        assert!(acquirer.take_fault().is_none());
        let differences =
            acquirer.look(|book| issuer.look(|ledger| reconcile(book.records(), ledger.ledger().records())));
        assert_eq!(differences, []);
        let report = acquirer.look(|brain| brain.report().clone());
        assert_eq!((report.sent, report.mismatches()), (400, 0));
        assert!(report.repeats > 0 && report.connections_lost > 0, "{report}");
    }
}

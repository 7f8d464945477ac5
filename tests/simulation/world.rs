//! `World`: one seed, one run — acquirers, issuers, network, disk and clock around the real switch, everything drawn
//! from the seed and done in one order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokenswitch::codec::{DataElement, FrameReader, decode};
use tokenswitch::journal::MemoryDisk;
use tokenswitch::link::{CloseReason, ConnectionId, Inbox, LinkCommand, LinkEvent, Outbox};
use tokenswitch::sim::{
    self, AcquirerConfig, AcquirerSimulator, AnswerRule, Fault, FaultPlan, FaultRule, Habits, IssuerConfig,
    IssuerSimulator, Patience, Payment, PresentedCard, RuledAnswer, reconcile,
};
use tokenswitch::stdx::clock::{Moment, Now};
use tokenswitch::tsp::{
    Actor, Asker, CallId, Command, Move, MoveRequest, ProvisionRequest, RequestId, Suspender,
};
use tokenswitch::vocab::{
    Amount, Currency, LinkId, Mti, PosEntryMode, ProcessingCode, ResponseCode, Text, TokenReferenceId,
    TransactionId,
};

use crate::audit::{Audit, Broken};
use crate::house::{Crash, House};
use crate::line::Line;
use crate::setting::{
    ACQUIRERS, ISSUERS, START, cards, dialect_of, framing_of, institution_of, is_issuer, merchants,
    requestor_id,
};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
/// No run needs longer to come to rest.
const LATEST: Moment = Moment(1_500 * SECOND);

/// How rough a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) payments: u32,
    /// Crashes at random moments.
    pub(crate) crashes: u32,
    /// A crash as soon as so many entries were appended, in this way.
    pub(crate) crash_at: Option<(u64, Crash)>,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) hash: u64,
    pub(crate) entries: usize,
    pub(crate) requests: usize,
    pub(crate) reversals: usize,
    pub(crate) approved: u64,
    pub(crate) answers: u64,
    pub(crate) crashes: u32,
}

/// A promise broken, and how it came to it.
pub(crate) struct Failure {
    pub(crate) what: Broken,
    pub(crate) trace: String,
}

#[derive(Debug)]
enum Happening {
    /// An acquirer connects to its listener.
    Connect(usize),
    Dialled {
        link: LinkId,
        connection: ConnectionId,
    },
    ToSwitch {
        line: usize,
        bytes: Vec<u8>,
    },
    ToPeer {
        line: usize,
        bytes: Vec<u8>,
    },
    /// The socket takes output.
    Pump(usize),
    ClosedAtSwitch {
        line: usize,
        begun: usize,
        reason: CloseReason,
    },
    ClosedAtPeer(usize),
    Step,
    Tick,
    Sync,
    Pay,
    /// The network cuts a connection.
    Cut,
    Crash(Crash),
    Restart,
    /// A token is suspended or resumed.
    Vault,
}

/// What was done, as a hash and, when wanted, in words.
struct Trace {
    hash: u64,
    words: Option<String>,
}

impl Trace {
    fn note(&mut self, now: Moment, line: &str) {
        for byte in line.bytes().chain(now.0.to_le_bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if let Some(words) = &mut self.words {
            let _ = writeln!(words, "{:>12.6} {line}", now.0 as f64 / SECOND as f64);
        }
    }
}

struct Acquirer {
    brain: AcquirerSimulator,
    out: sim::Outbox,
    first_payment: u64,
}

struct Issuer {
    brain: IssuerSimulator,
    out: sim::Outbox,
    /// Dials fail until then.
    away_until: Moment,
}

pub(crate) struct World {
    plan: Plan,
    random: fastrand::Rng,
    now: Moment,
    queue: BTreeMap<(Moment, u64), Happening>,
    queued: u64,
    disk: MemoryDisk,
    house: Option<House>,
    generation: u64,
    inbox: Inbox,
    outbox: Outbox,
    stepping: bool,
    syncing: bool,
    lines: Vec<Line>,
    by_connection: BTreeMap<ConnectionId, usize>,
    accepted: u64,
    acquirers: Vec<Acquirer>,
    issuers: Vec<Issuer>,
    tokens: Vec<TokenReferenceId>,
    calls: u64,
    audit: Audit,
    trace: Trace,
    payments_left: u32,
    crashes: u32,
    crash_at: Option<(u64, Crash)>,
    broken: Option<Broken>,
}

type Step = Result<(), Broken>;

/// Runs one plan to its end.
pub(crate) fn run(plan: Plan, in_words: bool) -> Result<Summary, Failure> {
    let mut world = World::new(plan, in_words);
    let result = world.live();
    match result {
        Ok(()) => Ok(world.summary()),
        Err(what) => Err(Failure { what, trace: world.trace.words.take().unwrap_or_default() }),
    }
}

impl World {
    fn new(plan: Plan, in_words: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let disk = MemoryDisk::new();
        let started = Now { moment: Moment(0), wall: START };
        let mut house = House::start(&disk, plan.seed, started);
        let all = cards(plan.seed, 12);
        let (plain, behind) = all.split_at(6);
        let (mut tokens, mut presented, mut secrets) = (Vec::new(), Vec::<PresentedCard>::new(), Vec::new());
        presented.extend(plain.iter().map(PresentedCard::card));
        for (at, card) in behind.iter().enumerate() {
            let request = ProvisionRequest {
                asker: asker(&format!("p{at}")),
                pan: card.pan.clone(),
                pan_expiry: card.expiry,
                sequence: card.sequence,
                assurance: None,
                location: None,
                par: None,
            };
            let call = CallId(at as u64);
            house.ask_vault(Command::Provision { call, request: Box::new(request) }, started);
            house.sync();
            let (_, answer) = house.vault_durable(started).pop().expect("it is durable");
            let view = answer.expect("there is room");
            tokens.push(view.reference);
            secrets.push(card.pan.clone());
            let requestor = random.bool().then(requestor_id);
            let token =
                PresentedCard::token(view.token, Some(view.expiry), requestor, Some(card.pan.clone()));
            presented.push(token);
        }
        let mut audit = Audit::new(&secrets);
        let entries = tokenswitch::journal::Reader::offline(
            Box::new(disk.clone()),
            tokenswitch::crypto::SecurityModule::sample().expect("the sample keys").journal_keys(),
            "transactions",
        );
        let entries: Vec<_> = entries.expect("it reads").0.map(|entry| entry.expect("it reads")).collect();
        audit.read_back(&entries).expect("nothing was there before");
        let acquirers =
            (0..ACQUIRERS.len()).map(|at| acquirer(at, plan.seed, &presented, &mut random)).collect();
        let issuers = (0..ISSUERS.len()).map(|at| issuer(at, plan.seed, &mut random)).collect();
        Self {
            random,
            now: Moment(0),
            queue: BTreeMap::new(),
            queued: 0,
            disk,
            house: Some(house),
            generation: 0,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            stepping: false,
            syncing: false,
            lines: Vec::new(),
            by_connection: BTreeMap::new(),
            accepted: 0,
            acquirers,
            issuers,
            tokens,
            calls: 1_000,
            audit,
            trace: Trace { hash: 0xCBF2_9CE4_8422_2325, words: in_words.then(String::new) },
            payments_left: plan.payments,
            crashes: 0,
            crash_at: plan.crash_at,
            broken: None,
            plan,
        }
    }

    fn now(&self) -> Now {
        Now { moment: self.now, wall: START.plus(self.now.since(Moment(0))) }
    }

    fn summary(&self) -> Summary {
        Summary {
            hash: self.trace.hash,
            entries: self.audit.durable_entries(),
            requests: self.audit.requests(),
            reversals: self.audit.reversals(),
            approved: self.acquirers.iter().map(|acquirer| acquirer.brain.report().approved).sum(),
            answers: self.audit.answers,
            crashes: self.crashes,
        }
    }

    fn later(&mut self, nanos: u64, what: Happening) {
        self.at(Moment(self.now.0 + nanos), what);
    }

    fn at(&mut self, moment: Moment, what: Happening) {
        self.queued += 1;
        self.queue.insert((moment, self.queued), what);
    }

    fn note(&mut self, line: &str) {
        let now = self.now;
        self.trace.note(now, line);
    }

    /// One in so many.
    fn chance(&mut self, one_in: u64) -> bool {
        self.random.u64(0..one_in) == 0
    }

    fn live(&mut self) -> Step {
        for acquirer in 0..self.acquirers.len() {
            for _ in 0..2 {
                let wait = self.random.u64(0..50 * MILLI);
                self.later(wait, Happening::Connect(acquirer));
            }
        }
        self.later(0, Happening::Tick);
        self.later(400 * MILLI, Happening::Pay);
        let span = u64::from(self.plan.payments) * 400 * MILLI;
        for _ in 0..self.plan.crashes {
            let (wait, kind) = (self.random.u64(0..span.max(1)), Crash::of(self.random.u64(..)));
            self.later(wait, Happening::Crash(kind));
        }
        for _ in 0..self.random.u32(0..6) {
            let wait = self.random.u64(0..span.max(1));
            self.later(wait, Happening::Cut);
        }
        for _ in 0..self.random.u32(0..4) {
            let wait = self.random.u64(0..span.max(1));
            self.later(wait, Happening::Vault);
        }
        while !self.is_at_rest() {
            self.advance()?;
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            if self.now > LATEST {
                return Err(format!("P3: the queues never empty: {}", self.what_waits()));
            }
        }
        self.judge()
    }

    fn is_at_rest(&self) -> bool {
        let idle = self.house.as_ref().is_some_and(|house| {
            house.node.is_idle() && house.node.core().stored().is_empty() && !house.has_unsynced()
        });
        let waits = self.acquirers.iter().any(|acquirer| acquirer.brain.outstanding() > 0);
        let crash_waits = self.queue.values().any(|what| {
            matches!(what, Happening::Crash(_) | Happening::Restart | Happening::Cut | Happening::Vault)
        });
        idle && self.payments_left == 0 && !waits && !crash_waits && self.grace_is_over()
    }

    /// Approvals that were not given are reversed only after their grace.
    fn grace_is_over(&self) -> bool {
        self.house.as_ref().is_some_and(|house| house.node.core().undelivered() == 0)
    }

    fn what_waits(&self) -> String {
        let house = self.house.as_ref().map(|house| {
            (house.node.core().unfinished(), house.node.core().stored().len(), house.has_unsynced())
        });
        let acquirers: Vec<usize> = self.acquirers.iter().map(|a| a.brain.outstanding()).collect();
        format!("unfinished, stored, unsynced {house:?}, acquirers wait for {acquirers:?}")
    }

    /// The end of the run: book against ledger, and what the journal says.
    fn judge(&mut self) -> Step {
        self.note("at rest");
        self.audit.at_rest()?;
        let book = self.acquirers.iter().flat_map(|acquirer| acquirer.brain.records());
        let ledger = self.issuers.iter().flat_map(|issuer| issuer.brain.ledger().records());
        let differences = reconcile(book, ledger);
        if let Some(first) = differences.first() {
            return Err(format!("P3: book and ledger differ, {} in all: {first}", differences.len()));
        }
        for acquirer in &self.acquirers {
            let mismatches: Vec<_> = acquirer
                .brain
                .report()
                .mismatches_by_name()
                .iter()
                // An answer that crossed its repeat, or the acknowledgement of a reversal sent twice, is no fault.
                .filter(|(name, _)| !matches!(*name, "answered twice" | "nobody asked"))
                .collect();
            if !mismatches.is_empty() {
                return Err(format!("P2: an acquirer found {mismatches:?}"));
            }
        }
        Ok(())
    }

    /// To the next thing that happens.
    fn advance(&mut self) -> Step {
        let due = self.queue.first_key_value().map(|((moment, _), _)| *moment);
        let brains = self.acquirers.iter().filter_map(|acquirer| acquirer.brain.deadline());
        let brains = brains.chain(self.issuers.iter().filter_map(|issuer| issuer.brain.deadline())).min();
        let due = due.expect("the next tick is always there");
        if let Some(brain) = brains.filter(|brain| *brain < due) {
            self.now = self.now.max(brain);
            return self.brains_move();
        }
        self.now = self.now.max(due);
        if let Some((_, what)) = self.queue.pop_first() {
            self.happen(what)?;
        }
        self.brains_move()
    }

    fn happen(&mut self, what: Happening) -> Step {
        match what {
            Happening::Connect(acquirer) => self.connect(acquirer),
            Happening::Dialled { link, connection } => self.dialled(link, connection),
            Happening::ToSwitch { line, bytes } => self.to_switch(line, &bytes),
            Happening::ToPeer { line, bytes } => self.to_peer(line, &bytes)?,
            Happening::Pump(line) => self.pump(line)?,
            Happening::ClosedAtSwitch { line, begun, reason } => self.closed_at_switch(line, begun, reason),
            Happening::ClosedAtPeer(line) => self.closed_at_peer(line),
            Happening::Step => self.step()?,
            Happening::Tick => self.tick()?,
            Happening::Sync => self.sync()?,
            Happening::Pay => self.pay(),
            Happening::Cut => self.cut(),
            Happening::Crash(how) => self.crash(how),
            Happening::Restart => self.restart()?,
            Happening::Vault => self.move_token(),
        }
        Ok(())
    }

    // ---- the switch -------------------------------------------------------------------------------------------

    fn wake(&mut self) {
        if !self.stepping && self.house.is_some() {
            self.stepping = true;
            let wait = self.random.u64(0..300_000);
            self.later(wait, Happening::Step);
        }
    }

    fn step(&mut self) -> Step {
        self.stepping = false;
        let now = self.now();
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        let inbox = std::mem::take(&mut self.inbox);
        house.vault_durable(now);
        house.step(&inbox, now, &mut self.outbox);
        self.after_step()
    }

    fn tick(&mut self) -> Step {
        self.later(100 * MILLI, Happening::Tick);
        let now = self.now();
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        house.tick(now, &mut self.outbox);
        self.after_step()
    }

    fn after_step(&mut self) -> Step {
        let Some(house) = self.house.as_ref() else { return Ok(()) };
        let unsynced = house.has_unsynced();
        if let Some((entry, how)) = self.crash_at
            && house.appended() >= entry
        {
            self.crash_at = None;
            self.later(0, Happening::Crash(how));
        }
        self.carry_out()?;
        if unsynced && !self.syncing {
            self.syncing = true;
            let wait = match self.random.u32(0..200) {
                0 => self.random.u64(0..5 * SECOND),
                1..10 => self.random.u64(0..300 * MILLI),
                _ => self.random.u64(50_000..3 * MILLI),
            };
            self.later(wait, Happening::Sync);
        }
        Ok(())
    }

    fn sync(&mut self) -> Step {
        self.syncing = false;
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        let entries = house.sync();
        let (watermark, more) = (house.watermark, house.has_unsynced());
        for entry in &entries {
            self.audit.durable(entry)?;
        }
        self.note(&format!("durable up to {}", watermark.0));
        if more {
            self.syncing = true;
            self.later(MILLI, Happening::Sync);
        }
        self.wake();
        Ok(())
    }

    /// Does what the node asks of the sockets.
    fn carry_out(&mut self) -> Step {
        let outbox = std::mem::take(&mut self.outbox);
        for command in &outbox.commands {
            match command {
                LinkCommand::Dial { link, connection, .. } => {
                    let wait = self.random.u64(MILLI..20 * MILLI);
                    self.later(wait, Happening::Dialled { link: *link, connection: *connection });
                }
                LinkCommand::Write { connection, bytes } => self.write(*connection, outbox.written(bytes))?,
                LinkCommand::Close { connection, reason } => self.close(*connection, *reason)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, connection: ConnectionId, frame: &[u8]) -> Step {
        let Some(at) = self.by_connection.get(&connection).copied() else { return Ok(()) };
        let link = self.lines[at].link;
        let mut reader = FrameReader::new(framing_of(link));
        reader.spare()[..frame.len()].copy_from_slice(frame);
        reader.filled(frame.len());
        let message = reader.next().ok().flatten().ok_or("P10: half a frame")?.message.to_vec();
        let decoded = decode(&dialect_of(link), &message);
        let decoded = decoded.map_err(|failure| format!("P10: unreadable to {link}: {}", failure.error))?;
        let code =
            String::from_utf8_lossy(decoded.get(DataElement::RESPONSE_CODE).unwrap_or_default()).into_owned();
        let stan = decoded.stan().ok().flatten();
        self.note(&format!("switch -> {link}/{connection} {} {stan:?} {code}", decoded.mti()));
        let start = self.lines[at].output.len();
        if is_issuer(link) {
            if let Some(id) = self.audit.leaves_for_issuer(link, &decoded)? {
                self.lines[at].originals.push((start, id));
            }
        } else {
            self.audit.leaves_for_acquirer(link, frame, &decoded)?;
        }
        self.lines[at].output.extend_from_slice(frame);
        self.start_pump(at);
        Ok(())
    }

    fn start_pump(&mut self, at: usize) {
        if !self.lines[at].pumping {
            self.lines[at].pumping = true;
            // Now and then a socket is full for a while.
            let wait =
                if self.chance(60) { self.random.u64(0..2 * SECOND) } else { self.random.u64(0..200_000) };
            self.later(wait, Happening::Pump(at));
        }
    }

    /// The socket takes some or all of the output.
    fn pump(&mut self, at: usize) -> Step {
        let partial = self.chance(8);
        let line = &mut self.lines[at];
        line.pumping = false;
        let waiting = line.output.len() - line.taken;
        if !line.at_switch || waiting == 0 {
            return Ok(());
        }
        let taken = if partial { self.random.usize(1..=waiting) } else { waiting };
        self.take_output(at, taken)?;
        if taken < waiting {
            self.start_pump(at);
        }
        Ok(())
    }

    fn take_output(&mut self, at: usize, count: usize) -> Step {
        let line = &mut self.lines[at];
        let bytes = line.output[line.taken..line.taken + count].to_vec();
        line.taken += count;
        let (connection, total) = (line.connection, line.taken as u64);
        self.inbox.events.push(LinkEvent::Written { connection, total });
        self.began(at, self.lines[at].taken)?;
        if !self.lines[at].broken {
            self.send_to_peer(at, Happening::ToPeer { line: at, bytes });
        }
        self.wake();
        Ok(())
    }

    /// Bytes up to `end` may have left.
    fn began(&mut self, at: usize, end: usize) -> Step {
        let line = &mut self.lines[at];
        let left: Vec<TransactionId> =
            line.originals.iter().filter(|(start, _)| *start < end).map(|(_, id)| *id).collect();
        line.originals.retain(|(start, _)| *start >= end);
        left.into_iter().try_for_each(|id| self.audit.original_began(id))
    }

    fn latency(&mut self) -> u64 {
        match self.random.u32(0..100) {
            0 => self.random.u64(0..4 * SECOND),
            1..5 => self.random.u64(0..200 * MILLI),
            _ => self.random.u64(100_000..5 * MILLI),
        }
    }

    fn send_to_peer(&mut self, at: usize, what: Happening) {
        let arrival = Moment(self.now.0 + self.latency()).max(self.lines[at].last_to_peer);
        self.lines[at].last_to_peer = arrival;
        self.at(arrival, what);
    }

    fn send_to_switch(&mut self, at: usize, what: Happening) {
        let arrival = Moment(self.now.0 + self.latency()).max(self.lines[at].last_to_switch);
        self.lines[at].last_to_switch = arrival;
        self.at(arrival, what);
    }

    /// The switch closes: what waits is sent first.
    fn close(&mut self, connection: ConnectionId, reason: CloseReason) -> Step {
        let Some(at) = self.by_connection.get(&connection).copied() else { return Ok(()) };
        self.note(&format!("switch closes {connection}: {reason}"));
        let waiting = self.lines[at].output.len() - self.lines[at].taken;
        if waiting > 0 {
            self.take_output(at, waiting)?;
        }
        let begun = self.lines[at].taken;
        self.send_to_peer(at, Happening::ClosedAtPeer(at));
        self.closed_at_switch(at, begun, reason);
        Ok(())
    }

    // ---- connections ------------------------------------------------------------------------------------------

    fn connect(&mut self, acquirer: usize) {
        let dice = self.random.u64(50 * MILLI..500 * MILLI);
        if self.house.is_none() {
            return self.later(dice, Happening::Connect(acquirer));
        }
        self.accepted += 1;
        let connection = ConnectionId::accepted(self.accepted);
        self.open(connection, ACQUIRERS[acquirer]);
        let (now, at) = (self.now(), self.lines.len() - 1);
        let Acquirer { brain, out, .. } = &mut self.acquirers[acquirer];
        brain.opened(at, now, out).expect("the dialect has a sign-on");
    }

    fn dialled(&mut self, link: LinkId, connection: ConnectionId) {
        if self.house.is_none() {
            return;
        }
        let issuer = ISSUERS.iter().position(|issuer| *issuer == link).expect("only issuers are dialled");
        if self.issuers[issuer].away_until > self.now {
            let reason = CloseReason::DialRefused;
            self.inbox.events.push(LinkEvent::DialFailed { connection, link, reason });
            return self.wake();
        }
        self.open(connection, link);
        let (now, at) = (self.now(), self.lines.len() - 1);
        let Issuer { brain, out, .. } = &mut self.issuers[issuer];
        brain.opened(at, now, out);
    }

    fn open(&mut self, connection: ConnectionId, link: LinkId) {
        self.note(&format!("{link} opens {connection}"));
        self.lines.push(Line::new(connection, link));
        self.by_connection.insert(connection, self.lines.len() - 1);
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1_000);
        self.inbox.events.push(LinkEvent::Opened { connection, link, peer });
        self.wake();
    }

    fn to_switch(&mut self, at: usize, bytes: &[u8]) {
        let line = &mut self.lines[at];
        if !line.at_switch || self.house.is_none() {
            return;
        }
        let (connection, link) = (line.connection, line.link);
        let Some(frames) = line.frames_to_switch(bytes) else {
            let begun = line.taken;
            return self.lose(at, begun, CloseReason::FrameTooLong);
        };
        for (header, message) in frames {
            let what = decode(&dialect_of(link), &message).map_or("garbage".to_owned(), |message| {
                let stan = message.stan().ok().flatten();
                let code = message.get(DataElement::RESPONSE_CODE).unwrap_or_default();
                format!("{} {stan:?} {}", message.mti(), String::from_utf8_lossy(code))
            });
            self.note(&format!("{link}/{connection} -> switch {what}"));
            self.inbox.push_frame(connection, &header, &message);
        }
        self.wake();
    }

    fn to_peer(&mut self, at: usize, bytes: &[u8]) -> Step {
        if !self.lines[at].at_peer {
            return Ok(());
        }
        let now = self.now();
        let frames = self.lines[at].frames_to_peer(bytes);
        match peer_of(self.lines[at].link) {
            Peer::Acquirer(acquirer) => {
                let Acquirer { brain, out, .. } = &mut self.acquirers[acquirer];
                for (_, message) in frames {
                    brain.received(at, &message, now, out).map_err(|error| format!("sim: {error}"))?;
                }
            }
            Peer::Issuer(issuer) => {
                let Issuer { brain, out, .. } = &mut self.issuers[issuer];
                for (header, message) in frames {
                    brain.received(at, &header, &message, now, out);
                }
            }
        }
        Ok(())
    }

    fn closed_at_switch(&mut self, at: usize, begun: usize, reason: CloseReason) {
        let line = &mut self.lines[at];
        if !line.at_switch {
            return;
        }
        line.at_switch = false;
        let (connection, begun) = (line.connection, begun.max(line.taken));
        self.by_connection.remove(&connection);
        if self.house.is_some() {
            self.note(&format!("{connection} is closed: {reason}"));
            self.inbox.events.push(LinkEvent::Closed { connection, reason, begun: begun as u64 });
            self.wake();
        }
    }

    fn closed_at_peer(&mut self, at: usize) {
        if !std::mem::replace(&mut self.lines[at].at_peer, false) {
            return;
        }
        match peer_of(self.lines[at].link) {
            Peer::Acquirer(acquirer) => {
                let Acquirer { brain, out, .. } = &mut self.acquirers[acquirer];
                brain.closed(at, out);
                let wait = self.random.u64(10 * MILLI..2 * SECOND);
                self.later(wait, Happening::Connect(acquirer));
            }
            Peer::Issuer(issuer) => {
                let Issuer { brain, out, .. } = &mut self.issuers[issuer];
                brain.closed(at, out);
            }
        }
    }

    /// The connection breaks now, on both sides; of what was on its way some arrives.
    fn lose(&mut self, at: usize, begun: usize, reason: CloseReason) {
        self.lines[at].broken = true;
        let drop_flying = self.random.bool();
        if drop_flying {
            self.queue.retain(|_, what| {
                !matches!(what, Happening::ToPeer { line, .. } | Happening::ToSwitch { line, .. } if *line == at)
            });
        }
        self.send_to_peer(at, Happening::ClosedAtPeer(at));
        if self.random.bool() {
            self.closed_at_switch(at, begun, reason);
        } else {
            self.send_to_switch(at, Happening::ClosedAtSwitch { line: at, begun, reason });
        }
    }

    fn cut(&mut self) {
        let open: Vec<usize> = (0..self.lines.len()).filter(|at| self.lines[*at].at_switch).collect();
        if open.is_empty() {
            return;
        }
        let at = open[self.random.usize(..open.len())];
        self.cut_line(at);
        if let Peer::Issuer(issuer) = peer_of(self.lines[at].link)
            && self.chance(2)
        {
            // The issuer goes away as a whole.
            let away = self.random.u64(0..8 * SECOND);
            self.issuers[issuer].away_until = Moment(self.now.0 + away);
            let link = ISSUERS[issuer];
            for other in open {
                if other != at && self.lines[other].link == link {
                    self.cut_line(other);
                }
            }
        }
    }

    fn cut_line(&mut self, at: usize) {
        self.note(&format!("the network cuts {}", self.lines[at].connection));
        let (taken, end) = (self.lines[at].taken, self.lines[at].output.len());
        let mut begun = taken;
        // Towards issuers a write may have begun of which nobody knows how far it came.
        if is_issuer(self.lines[at].link) && end > taken && self.random.bool() {
            begun = self.random.usize(taken + 1..=end);
            if let Err(broken) = self.began(at, begun) {
                self.broken = Some(broken);
            }
            if self.random.bool() {
                let bytes = self.lines[at].output[taken..begun].to_vec();
                self.send_to_peer(at, Happening::ToPeer { line: at, bytes });
            }
        }
        self.lose(at, begun, CloseReason::ConnectionLost);
    }

    // ---- peers ------------------------------------------------------------------------------------------------

    /// Lets the peers act, and puts what they say on the wire.
    fn brains_move(&mut self) -> Step {
        let now = self.now();
        for acquirer in &mut self.acquirers {
            acquirer.brain.next(now, &mut acquirer.out).map_err(|error| format!("sim: {error}"))?;
        }
        for issuer in &mut self.issuers {
            issuer.brain.next(now, &mut issuer.out);
        }
        for peer in [Peer::Acquirer(0), Peer::Acquirer(1), Peer::Issuer(0), Peer::Issuer(1)] {
            let out = self.out_of(peer);
            let waiting: Vec<usize> = out.waiting().collect();
            for at in waiting {
                let bytes = std::mem::take(self.out_of(peer).bytes(at));
                let hang_up = self.out_of(peer).take_hang_up(at);
                if !self.lines[at].at_peer {
                    continue;
                }
                if !bytes.is_empty() {
                    let bytes = self.mangled(at, bytes);
                    self.send_to_switch(at, Happening::ToSwitch { line: at, bytes });
                }
                if hang_up {
                    let begun = self.lines[at].taken;
                    let reason = CloseReason::PeerClosed;
                    self.lines[at].broken = true;
                    self.closed_at_peer(at);
                    self.send_to_switch(at, Happening::ClosedAtSwitch { line: at, begun, reason });
                }
            }
        }
        Ok(())
    }

    fn out_of(&mut self, peer: Peer) -> &mut sim::Outbox {
        match peer {
            Peer::Acquirer(at) => &mut self.acquirers[at].out,
            Peer::Issuer(at) => &mut self.issuers[at].out,
        }
    }

    /// What an issuer's frame may become on the way: cut short within its frame, or the name of another request in
    /// it.
    fn mangled(&mut self, at: usize, bytes: Vec<u8>) -> Vec<u8> {
        let link = self.lines[at].link;
        if !is_issuer(link) || !self.chance(25) {
            return bytes;
        }
        let mut reader = FrameReader::new(framing_of(link));
        reader.spare()[..bytes.len()].copy_from_slice(&bytes);
        reader.filled(bytes.len());
        let mut out = Vec::new();
        while let Ok(Some(frame)) = reader.next() {
            let (header, message) = (frame.header.to_vec(), frame.message.to_vec());
            let Ok(mut answer) = decode(&dialect_of(link), &message) else { return bytes };
            if answer.mti().class == tokenswitch::vocab::MessageClass::NetworkManagement {
                return bytes;
            }
            let kind = self.random.u32(0..4);
            self.note(&format!("mangles {} in way {kind}", answer.mti()));
            let mangled = match kind {
                0 => message[..self.random.usize(message.len() / 2..message.len())].to_vec(),
                1 => {
                    let _ = answer.set(DataElement::SENT_AT, b"0101000000");
                    encoded(link, &answer)
                }
                2 => {
                    let _ = answer.set(DataElement::RRN, b"000000000000");
                    encoded(link, &answer)
                }
                _ => {
                    answer.remove(DataElement::RESPONSE_CODE);
                    encoded(link, &answer)
                }
            };
            let write = |out: &mut Vec<u8>| -> Result<(), ()> {
                out.extend_from_slice(&mangled);
                Ok(())
            };
            framing_of(link).write(&header, write, &mut out).expect("it is no longer than before");
        }
        out
    }

    fn pay(&mut self) {
        if self.payments_left == 0 {
            return;
        }
        let wait = self.random.u64(MILLI..800 * MILLI);
        let at_once = self.chance(4);
        self.later(if at_once { 0 } else { wait }, Happening::Pay);
        self.payments_left -= 1;
        let now = self.now();
        let at = self.random.usize(..self.acquirers.len());
        let mti = *self.random.choice(&["0100", "0200", "0200", "0200", "0120", "0220"]).expect("some");
        let card = self.random.usize(0..12);
        let modes: &[&str] =
            if card < 6 { &["071", "051", "021", "101"] } else { &["071", "071", "051", "101"] };
        let mode = *self.random.choice(modes).expect("some");
        let processing = *self.random.choice(&["000000", "000000", "000000", "310000"]).expect("some");
        let payment = Payment {
            mti: Mti::parse(mti.as_bytes()).expect("digits"),
            card,
            merchant: self.random.usize(0..3),
            processing: ProcessingCode::parse(processing.as_bytes()).expect("digits"),
            amount: Amount::new(self.random.u64(100..100_000), Currency::from_letters("EUR").expect("known")),
            entry_mode: PosEntryMode::parse(mode.as_bytes()).expect("digits"),
            original: None,
        };
        let Acquirer { brain, out, first_payment } = &mut self.acquirers[at];
        match brain.pay(payment, now, out) {
            Ok(number) => {
                let line = format!("acquirer {at} pays {mti} as {} with card {card}", number.0);
                *first_payment += 1;
                self.note(&line);
            }
            Err(error) => self.note(&format!("acquirer {at} cannot pay: {error}")),
        }
        self.meddle(at);
    }

    /// Repeats and reversals of earlier payments, in whatever state they are.
    fn meddle(&mut self, at: usize) {
        let now = self.now();
        let (repeats, reverses) = (self.chance(6), self.chance(8));
        let paid = self.acquirers[at].brain.book().payments().len();
        if paid == 0 {
            return;
        }
        let recent = paid - 1 - self.random.usize(0..paid.min(3));
        let number = tokenswitch::sim::PaymentNumber(recent);
        let Acquirer { brain, out, .. } = &mut self.acquirers[at];
        let state = brain.book().payments()[recent].state;
        let usable = matches!(
            state,
            tokenswitch::sim::PaymentState::Waiting | tokenswitch::sim::PaymentState::Answered
        );
        let mut said = String::new();
        if repeats && usable && brain.repeat(number, now, out).is_ok() {
            let _ = write!(said, "acquirer {at} repeats {recent} ");
        }
        if reverses && usable && brain.reverse(number, None, now, out).is_ok() {
            let _ = write!(said, "acquirer {at} reverses {recent}");
        }
        if !said.is_empty() {
            self.note(&said);
        }
    }

    fn move_token(&mut self) {
        let now = self.now();
        self.calls += 1;
        let call = CallId(self.calls);
        let reference = self.tokens[self.random.usize(..self.tokens.len())];
        let asked = if self.random.bool() {
            Move::Suspend(Suspender::Cardholder)
        } else {
            Move::Resume(Suspender::Cardholder)
        };
        let request = MoveRequest { asker: asker(&format!("m{call:?}")), reference, asked };
        let Some(house) = self.house.as_mut() else { return };
        house.ask_vault(Command::Move { call, request }, now);
        self.note(&format!("vault: {asked:?}"));
        if !self.syncing {
            self.syncing = true;
            self.later(MILLI, Happening::Sync);
        }
    }

    // ---- the end of a process and the next --------------------------------------------------------------------

    fn crash(&mut self, how: Crash) {
        let Some(house) = self.house.take() else { return };
        self.note(&format!("crash {how:?}"));
        self.crashes += 1;
        self.disk = house.crash(&self.disk, how);
        self.inbox = Inbox::default();
        self.outbox = Outbox::default();
        (self.stepping, self.syncing) = (false, false);
        self.queue.retain(|_, what| {
            !matches!(
                what,
                Happening::Step
                    | Happening::Sync
                    | Happening::Pump(_)
                    | Happening::Dialled { .. }
                    | Happening::ClosedAtSwitch { .. }
            )
        });
        for at in 0..self.lines.len() {
            if std::mem::replace(&mut self.lines[at].at_switch, false) {
                let begun = self.lines[at].taken;
                self.lose(at, begun, CloseReason::ConnectionLost);
            }
        }
        self.by_connection.clear();
        let down = self.random.u64(10 * MILLI..3 * SECOND);
        self.later(down, Happening::Restart);
    }

    fn restart(&mut self) -> Step {
        self.generation += 1;
        let now = self.now();
        let seed = self.plan.seed ^ (self.generation << 32);
        let mut house = House::start(&self.disk, seed, now);
        let entries = house.read_new();
        self.audit.read_back(&entries)?;
        self.note(&format!("restart: {:?}", house.recovered));
        self.house = Some(house);
        self.wake();
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Peer {
    Acquirer(usize),
    Issuer(usize),
}

fn peer_of(link: LinkId) -> Peer {
    match ACQUIRERS.iter().position(|acquirer| *acquirer == link) {
        Some(at) => Peer::Acquirer(at),
        None => {
            Peer::Issuer(ISSUERS.iter().position(|issuer| *issuer == link).expect("a link of the setting"))
        }
    }
}

fn encoded(link: LinkId, message: &tokenswitch::codec::Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenswitch::codec::encode(&dialect_of(link), message, &mut bytes).expect("it was decoded");
    bytes
}

fn asker(id: &str) -> Asker {
    Asker {
        actor: Actor::TokenRequestor,
        requestor: requestor_id(),
        request_id: RequestId::parse(id.as_bytes()).expect("short"),
        reason: Text::default(),
    }
}

fn plan_of(seed: u64, rules: &[(&str, Fault)]) -> FaultPlan {
    let rule =
        |(when, fault): &(&str, Fault)| FaultRule { when: when.parse().expect("a condition"), fault: *fault };
    FaultPlan::new(seed, rules.iter().map(rule).collect())
}

fn acquirer(at: usize, seed: u64, cards: &[PresentedCard], random: &mut fastrand::Rng) -> Acquirer {
    let link = ACQUIRERS[at];
    let faults: &[(&str, Fault)] = match random.u32(0..3) {
        0 => &[],
        1 => &[("odds=1/25", Fault::Drop), ("odds=1/40", Fault::Duplicate), ("odds=1/60", Fault::HangUp)],
        _ => &[("odds=1/20", Fault::Delay(Duration::from_secs(2))), ("odds=1/20", Fault::Duplicate)],
    };
    let patience = Patience {
        answer: Duration::from_millis(random.u64(1_000..9_000)),
        repeats: random.u16(0..3),
        reverses: true,
        reversal_advice: random.bool(),
        reversal_repeats: 300,
    };
    let habits = Habits {
        reverse_one_in: random.bool().then(|| random.u64(3..12)),
        repeat_one_in: random.bool().then(|| random.u64(2..8)),
    };
    let brain = AcquirerSimulator::new(AcquirerConfig {
        dialect: dialect_of(link),
        framing: framing_of(link),
        header: vec![0x60; framing_of(link).header_length()],
        institution: institution_of(at),
        merchants: merchants(seed),
        cards: cards.to_vec(),
        patience,
        habits,
        faults: plan_of(random.u64(..), faults),
        seed: random.u64(..),
        first_number: 999_990 + 500_000_000 * at as u64,
    });
    Acquirer { brain: brain.expect("a report"), out: sim::Outbox::new(), first_payment: 0 }
}

fn issuer(at: usize, seed: u64, random: &mut fastrand::Rng) -> Issuer {
    let link = ISSUERS[at];
    let faults: &[(&str, Fault)] = match random.u32(0..4) {
        0 => &[],
        1 => &[("odds=1/15", Fault::Drop), ("odds=1/15", Fault::Ignore), ("odds=1/30", Fault::HangUp)],
        2 => &[
            ("odds=1/10", Fault::Delay(Duration::from_millis(3_500))),
            ("odds=1/10", Fault::Duplicate),
            ("odds=1/20", Fault::Drop),
        ],
        _ => &[
            ("odds=1/12", Fault::Ignore),
            ("odds=1/12", Fault::Delay(Duration::from_millis(2_900))),
            ("odds=1/12", Fault::Drop),
            ("odds=1/40", Fault::HangUp),
        ],
    };
    let rule = |(when, code): (&str, &str)| {
        let code = ResponseCode::parse(code.as_bytes()).expect("two characters");
        let answer =
            if code.as_str() == "10" { RuledAnswer::Partly(code, 50) } else { RuledAnswer::Decline(code) };
        AnswerRule { when: when.parse().expect("a condition"), answer }
    };
    let brain = IssuerSimulator::new(IssuerConfig {
        dialect: dialect_of(link),
        framing: framing_of(link),
        header: vec![0x60; framing_of(link).header_length()],
        signs_on: false,
        rules: [("ends=1", "51"), ("ends=12", "10"), ("ends=13", "Z9"), ("ends=3", "91")].map(rule).to_vec(),
        faults: plan_of(random.u64(..), faults),
        think: Duration::from_millis(random.u64(0..50)),
        seed: seed ^ random.u64(..),
    });
    Issuer { brain, out: sim::Outbox::new(), away_until: Moment(0) }
}

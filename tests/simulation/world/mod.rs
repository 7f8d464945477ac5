//! `World`: one seed, one run — acquirers, issuers, network, disk and clock around the real switch, everything drawn
//! from the seed and done in one order.

mod endings;
mod network;
mod parties;
mod peers;
mod starts;
mod trouble;
mod vault;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokenswitch::codec::{DataElement, FrameReader, decode};
use tokenswitch::journal::{BasesConfig, EntryNumber, MemoryDisk, MemoryStore};
use tokenswitch::link::{CloseReason, ConnectionId, Inbox, LinkCommand, Outbox};
use tokenswitch::sim::{self, AcquirerSimulator, IssuerSimulator, Phone, PresentedCard, Record, reconcile};
use tokenswitch::stdx::clock::{Moment, Now, Wall};
use tokenswitch::switch::{Cryptograms, LogFault, SwitchConfig};
use tokenswitch::vocab::{LinkId, NetworkCode, Pan, TransactionId};

use self::endings::Ending;
use self::peers::{acquirer, issuer};
pub(crate) use self::starts::{Start, Starts};
use self::vault::{adopt, issue};
use crate::audit::{Audit, Broken};
use crate::house::{Crash, House, Keep, Storage};
use crate::line::Line;
use crate::setting::{
    ACQUIRERS, ISSUERS, STAND_IN_COUNT, START, START_AT_MONTH_END, card_key, cards, dialect_of, framing_of,
    is_issuer, keyless, passing_config, requestor_id, stand_in_terms, switch_config, vault_cards,
};
use crate::shares::{ledger_agrees, nothing_good_is_refused};
use crate::trouble::{Met, Trouble, Troubles};
use crate::vault::{Asked, VaultBook};

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
    pub(crate) troubles: Troubles,
    /// Whether acquirers' identifiers pass to issuers.
    pub(crate) pass: bool,
    /// Whether the first issuer alone can check its tokens' cryptograms.
    pub(crate) issuer_checks: bool,
    /// Whether the switch may approve in the issuers' place.
    pub(crate) stand_in: bool,
    /// Whether it remembers few answers: what later messages name is in the history soon.
    pub(crate) forgets: bool,
    /// How the journal is kept: how long its segments are, and how soon old ones go.
    pub(crate) journal: Journaling,
}

impl Plan {
    /// Shortly before a day ends, and with every fourth a month.
    fn start(self) -> Wall {
        if self.seed % 4 == 1 { START_AT_MONTH_END } else { START }
    }
}

/// How a run keeps its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journaling {
    /// One long segment for each start.
    Long,
    /// Short segments, and bases of them.
    Short,
    /// Old ones go besides, and hours pass in which nobody pays.
    Folded,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) hash: u64,
    pub(crate) entries: usize,
    pub(crate) requests: usize,
    pub(crate) reversals: usize,
    pub(crate) stood_in: usize,
    pub(crate) approved: u64,
    pub(crate) answers: u64,
    pub(crate) met: Met,
    pub(crate) starts: Starts,
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.requests += other.requests;
        self.reversals += other.reversals;
        self.stood_in += other.stood_in;
        self.approved += other.approved;
        self.answers += other.answers;
        self.met.add(&other.met);
        self.starts.add(&other.starts);
    }
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
    /// Taps that wait for their check get it.
    Check,
    Tick,
    Sync,
    Pay,
    /// The network cuts a connection.
    Cut,
    Crash(Crash),
    /// The process is told to end.
    Drain,
    Restart,
    /// Something is asked of the vault.
    Vault,
    /// Requestors have to do with each other.
    Parties,
    /// A receiver is told of tokens.
    Tell,
    DiskFull,
    DiskFreed,
    DiskStuck,
    DiskBreaks,
    DiskLies,
    HalfOpen,
    /// An issuer stops.
    Sleep,
    Awake,
    Stranger,
    ClockJump,
    SignsOff,
    SignsOn(usize),
    /// The keepers of history and checkpoint have their round.
    Fold,
}

impl Happening {
    /// Whether a run may end before it.
    fn may_be_missed(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::Dialled { .. }
                | Self::ToSwitch { .. }
                | Self::ToPeer { .. }
                | Self::Pump(_)
                | Self::ClosedAtSwitch { .. }
                | Self::ClosedAtPeer(_)
                | Self::Step
                | Self::Check
                | Self::Tick
                | Self::Sync
                | Self::Pay
        )
    }
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
}

struct Issuer {
    brain: IssuerSimulator,
    out: sim::Outbox,
    /// Dials fail until then.
    away_until: Moment,
    /// Nothing is read or said until then.
    asleep_until: Moment,
}

pub(crate) struct World {
    plan: Plan,
    random: fastrand::Rng,
    now: Moment,
    queue: BTreeMap<(Moment, u64), Happening>,
    queued: u64,
    storage: Storage,
    house: Option<House>,
    generation: u64,
    /// For what becomes of checkpoint and bases.
    fold_random: fastrand::Rng,
    /// For when and how the process is told to end, and how far that has come.
    end_random: fastrand::Rng,
    ending: Option<Ending>,
    /// A checkpoint that somebody kept aside.
    backup: Option<MemoryStore>,
    /// Where the newest checkpoint stood at the last round of its keeper.
    checkpointed: EntryNumber,
    starts: Starts,
    inbox: Inbox,
    outbox: Outbox,
    stepping: bool,
    checking: bool,
    syncing: bool,
    lines: Vec<Line>,
    by_connection: BTreeMap<ConnectionId, usize>,
    accepted: u64,
    acquirers: Vec<Acquirer>,
    issuers: Vec<Issuer>,
    /// For what is asked of the vault.
    vault_random: fastrand::Rng,
    /// For what requestors have to do with each other.
    party_random: fastrand::Rng,
    /// For what is done so that tokens stay good, or go.
    care_random: fastrand::Rng,
    /// Cards that pay with their tokens may come to have other numbers. Nobody then completes holds by DE 37 alone:
    /// what cannot be found goes to the card of the day.
    renumbers: bool,
    /// Those of the tokens that pay, each with the first counter of its newest limited-use key.
    phones: Vec<(Arc<Phone>, u16)>,
    book: VaultBook,
    /// Everything that was asked of it.
    asked: Vec<(String, Asked)>,
    calls: u64,
    audit: Audit,
    trace: Trace,
    payments_left: u32,
    met: Met,
    crash_at: Option<(u64, Crash)>,
    /// The newest request of an earlier process: what was approved of these stands, given or not.
    before: Option<TransactionId>,
    disk_stuck_until: Moment,
    /// Syncs are promised and not done.
    lied: bool,
    /// The power went on a disk that had lied: nothing more can be asked of this run.
    over: bool,
    /// By how many seconds the switch's wall clock is ahead.
    clock_off: i64,
    /// The request that each acquirer sent last. Not an advice or a reversal: those are believed before sign-on, too,
    /// so an altered one is one more transaction of which the acquirer's book knows nothing.
    overheard: BTreeMap<LinkId, Vec<u8>>,
    broken: Option<Broken>,
}

type Step = Result<(), Broken>;

/// How many answers are remembered in the runs in which those are few.
const ANSWERED_FEW: usize = 12;
/// How many bytes may wait for the disk.
const QUEUE_BYTES: usize = 4 << 20;
/// How old a segment is before it goes, in the runs in which it does: by then acquirers repeat nothing that is in it.
const RETENTION: Duration = Duration::from_secs(60);

fn keep_of(plan: Plan) -> Keep {
    let (segment_bytes, retention) = match plan.journal {
        Journaling::Long => return Keep::all(QUEUE_BYTES),
        Journaling::Short => (16 << 10, Duration::MAX),
        Journaling::Folded => (8 << 10, RETENTION),
    };
    Keep { segment_bytes, bases: BasesConfig { fold_every: 1, retention }, ..Keep::all(QUEUE_BYTES) }
}

fn config_of(plan: Plan) -> SwitchConfig {
    let mut config = if plan.pass { passing_config() } else { switch_config() };
    if plan.stand_in {
        config.issuers.values_mut().for_each(|issuer| issuer.stand_in = Some(stand_in_terms()));
    }
    if plan.forgets {
        config.limits.answered = ANSWERED_FEW;
    }
    if plan.issuer_checks {
        // Whose tokens' cryptograms nobody else can check.
        config.issuers.get_mut(&ISSUERS[0]).expect("it is there").cryptograms = Cryptograms::Passed;
    }
    config
}

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
        let mut vault_random = fastrand::Rng::with_seed(plan.seed ^ 0x7A_17);
        let renumbers = vault_random.u32(0..4) == 0;
        let (disk, started) = (MemoryDisk::new(), Now { moment: Moment(0), wall: plan.start() });
        let storage = Storage::journal_alone(disk.clone());
        let house = House::open(&storage, &[], plan.seed, started, config_of(plan), keep_of(plan));
        let mut house = house.expect("an empty disk");
        let all = cards(plan.seed, 12);
        let (plain, behind) = all.split_at(6);
        let mut presented: Vec<PresentedCard> = plain.iter().map(PresentedCard::card).collect();
        let mut book = VaultBook::new(vault_cards(plan.seed, behind), keyless(&config_of(plan)));
        let mut phones = Vec::new();
        adopt(&mut house, &mut book, started).expect("there is room");
        for (at, card) in behind.iter().enumerate() {
            let view = issue(&mut house, &mut book, at, started).expect("there is room");
            let requestor = random.bool().then(requestor_id);
            let token =
                PresentedCard::token(view.token, Some(view.expiry), requestor, Some(card.pan.clone()));
            let token = token.in_phone(Phone::new(card_key(&view.token), 0));
            phones.extend(token.phone.clone().map(|phone| (phone, 0)));
            presented.push(token);
        }
        let secrets: Vec<Pan> = book.cards().iter().map(|card| card.card.pan.clone()).collect();
        // Over a day that the clock jumps each card begins anew.
        let jumps = plan.troubles.has(Trouble::ClockJump);
        let mut audit = Audit::new(&secrets, if jumps { usize::MAX } else { STAND_IN_COUNT }, plan.forgets);
        let entries = tokenswitch::journal::Reader::offline(
            Box::new(disk.clone()),
            tokenswitch::crypto::SecurityModule::sample().expect("the sample keys").journal_keys(),
            "transactions",
        );
        let entries: Vec<_> = entries.expect("it reads").0.map(|entry| entry.expect("it reads")).collect();
        audit.read_back(&entries).expect("nothing was there before");
        book.read_back(&entries).expect("nobody has paid");
        let acquirers =
            (0..ACQUIRERS.len()).map(|at| acquirer(at, plan.seed, &presented, &mut random)).collect();
        let issuers = (0..ISSUERS.len()).map(|at| issuer(at, plan.seed, &mut random)).collect();
        Self {
            random,
            now: Moment(0),
            queue: BTreeMap::new(),
            queued: 0,
            storage,
            house: Some(house),
            generation: 0,
            fold_random: fastrand::Rng::with_seed(plan.seed ^ 0xF0_1D),
            end_random: fastrand::Rng::with_seed(plan.seed ^ 0xE4_D5),
            ending: None,
            backup: None,
            checkpointed: EntryNumber(0),
            starts: Starts::default(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            stepping: false,
            checking: false,
            syncing: false,
            lines: Vec::new(),
            by_connection: BTreeMap::new(),
            accepted: 0,
            acquirers,
            issuers,
            vault_random,
            party_random: fastrand::Rng::with_seed(plan.seed ^ 0x9A_27),
            care_random: fastrand::Rng::with_seed(plan.seed ^ 0xCA_2E),
            renumbers,
            phones,
            book,
            asked: Vec::new(),
            calls: 1_000,
            audit,
            trace: Trace { hash: 0xCBF2_9CE4_8422_2325, words: in_words.then(String::new) },
            payments_left: plan.payments,
            met: Met::default(),
            crash_at: plan.crash_at,
            disk_stuck_until: Moment(0),
            lied: false,
            over: false,
            before: None,
            clock_off: 0,
            overheard: BTreeMap::new(),
            broken: None,
            plan,
        }
    }

    fn now(&self) -> Now {
        Now { moment: self.now, wall: self.plan.start().plus(self.now.since(Moment(0))) }
    }

    fn summary(&self) -> Summary {
        Summary {
            hash: self.trace.hash,
            entries: self.audit.durable_entries(),
            requests: self.audit.requests(),
            reversals: self.audit.reversals(),
            stood_in: self.audit.stood_in(),
            approved: self.acquirers.iter().map(|acquirer| acquirer.brain.report().approved).sum(),
            answers: self.audit.answers,
            met: self.met,
            starts: self.starts,
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
        for _ in 0..self.vault_random.u32(0..12) {
            let wait = self.vault_random.u64(0..span.max(1));
            self.later(wait, Happening::Vault);
        }
        self.schedule_parties(span);
        self.schedule_troubles(span);
        self.schedule_folds(span);
        self.schedule_end(span);
        while !(self.is_at_rest() && self.holds_are_settled()) {
            self.advance()?;
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            if self.over {
                return self.judge_lies();
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
        let to_come = self.queue.values().any(|what| !what.may_be_missed());
        idle && self.book.is_idle() && self.payments_left == 0 && !waits && !to_come && self.grace_is_over()
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
        let now = self.house_now();
        if let Some(house) = &mut self.house {
            vault::compare(house, &mut self.book, now)?;
        }
        self.audit.at_rest()?;
        let book = self.acquirers.iter().flat_map(|acquirer| acquirer.brain.records());
        let ledger = || {
            let all = self.issuers.iter().flat_map(|issuer| issuer.brain.ledger().records());
            all.map(|record| Record { pan: record.pan.map(|pan| self.book.account(pan)), ..record })
        };
        let differences = reconcile(book, ledger());
        if let Some(first) = differences.first() {
            return Err(format!("P3: book and ledger differ, {} in all: {first}", differences.len()));
        }
        let differences = reconcile(self.audit.book().records(), ledger());
        if let Some(first) = differences.first() {
            return Err(format!("P3: journal and ledger differ, {} in all: {first}", differences.len()));
        }
        let books = ACQUIRERS.iter().zip(&self.acquirers);
        let books =
            books.flat_map(|(link, it)| it.brain.book().payments().iter().map(|entry| (*link, entry)));
        let ledgers = self.issuers.iter().flat_map(|issuer| issuer.brain.ledger().entries());
        self.audit.settlement().compare(books, ledgers)?;
        let books: Vec<_> = self.acquirers.iter().map(|acquirer| acquirer.brain.book()).collect();
        self.issuers.iter().try_for_each(|issuer| ledger_agrees(issuer.brain.ledger(), &books))?;
        let mut books = ACQUIRERS.into_iter().zip(books);
        books.try_for_each(|(link, book)| nothing_good_is_refused(link, book))?;
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
        let awake = self.issuers.iter().filter(|issuer| issuer.asleep_until <= self.now);
        let brains = brains.chain(awake.filter_map(|issuer| issuer.brain.deadline())).min();
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
            Happening::ToSwitch { line, bytes } => self.reach_switch(line, &bytes),
            Happening::ToPeer { line, bytes } => self.reach_peer(line, &bytes)?,
            Happening::Pump(line) => self.pump(line)?,
            Happening::ClosedAtSwitch { line, begun, reason } => self.closed_at_switch(line, begun, reason),
            Happening::ClosedAtPeer(line) => self.closed_at_peer(line),
            Happening::Step => self.step()?,
            Happening::Check => self.check()?,
            Happening::Tick => self.tick()?,
            Happening::Sync => self.sync()?,
            Happening::Pay => self.pay(),
            Happening::Cut => self.cut(),
            Happening::Crash(how) => self.crash(how),
            Happening::Drain => self.drain(),
            Happening::Restart => self.restart()?,
            Happening::Vault => self.ask_something()?,
            Happening::Parties => self.parties_ask()?,
            Happening::Tell => self.tell()?,
            Happening::DiskFull => self.disk_full(),
            Happening::DiskFreed => self.disk_freed(),
            Happening::DiskStuck => self.disk_stuck(),
            Happening::DiskBreaks => self.disk_breaks(),
            Happening::DiskLies => self.disk_lies(),
            Happening::HalfOpen => self.half_open(),
            Happening::Sleep => self.sleep(),
            Happening::Awake => {}
            Happening::Stranger => self.stranger(),
            Happening::ClockJump => self.clock_jumps(),
            Happening::SignsOff => self.signs_off()?,
            Happening::SignsOn(line) => self.manage(line, NetworkCode::SIGN_ON)?,
            Happening::Fold => self.fold(),
        }
        Ok(())
    }

    fn wake(&mut self) {
        if !self.stepping && self.house.is_some() {
            self.stepping = true;
            let wait = self.random.u64(0..300_000);
            self.later(wait, Happening::Step);
        }
    }

    fn step(&mut self) -> Step {
        self.stepping = false;
        self.hear_vault()?;
        let now = self.house_now();
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        let inbox = std::mem::take(&mut self.inbox);
        let stepped = house.step(&inbox, now, &mut self.outbox);
        self.after_step(stepped)
    }

    /// Behind a step, and at times long behind it: others' checks come first.
    fn check(&mut self) -> Step {
        self.checking = false;
        let now = self.house_now();
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        let checked = house.check(now, &mut self.outbox);
        self.after_step(checked)
    }

    fn tick(&mut self) -> Step {
        self.later(100 * MILLI, Happening::Tick);
        let now = self.house_now();
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        // As the driver does: what came is looked at first.
        let inbox = std::mem::take(&mut self.inbox);
        let stepped = house.step(&inbox, now, &mut self.outbox);
        // What is closed for the end waits for nothing but the disk.
        let ticked = match self.ending {
            Some(Ending::Closing(_)) => stepped,
            _ => stepped.and_then(|()| house.tick(now, &mut self.outbox)),
        };
        self.after_step(ticked)
    }

    fn after_step(&mut self, result: Result<(), LogFault>) -> Step {
        if let Err(fault) = result {
            self.disk_failed(&fault.to_string());
            return Ok(());
        }
        let Some(house) = self.house.as_ref() else { return Ok(()) };
        let (unsynced, unchecked) = (house.has_unsynced(), house.node.unchecked() > 0);
        if let Some((entry, how)) = self.crash_at
            && house.appended() >= entry
        {
            self.crash_at = None;
            self.later(0, Happening::Crash(how));
        }
        self.carry_out()?;
        self.hear_issuers()?;
        if unchecked && !self.checking {
            self.checking = true;
            let wait = match self.random.u32(0..100) {
                0 => self.random.u64(0..5 * SECOND),
                1..10 => self.random.u64(0..300 * MILLI),
                _ => self.random.u64(0..300_000),
            };
            self.later(wait, Happening::Check);
        }
        if unsynced {
            self.sync_later();
        }
        self.end_if_due()
    }

    fn sync_later(&mut self) {
        if !self.syncing {
            self.syncing = true;
            let wait = match self.random.u32(0..200) {
                0 => self.random.u64(0..5 * SECOND),
                1..10 => self.random.u64(0..300 * MILLI),
                _ => self.random.u64(50_000..3 * MILLI),
            };
            self.later(wait, Happening::Sync);
        }
    }

    fn sync(&mut self) -> Step {
        self.syncing = false;
        if self.disk_stuck_until > self.now {
            self.syncing = true;
            self.at(self.disk_stuck_until, Happening::Sync);
            return Ok(());
        }
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        let entries = match house.sync() {
            Ok(entries) => entries,
            Err(reason) => {
                self.disk_failed(&reason);
                return Ok(());
            }
        };
        let (watermark, more) = (house.watermark, house.has_unsynced());
        self.audit.group(&entries)?;
        self.book.durable(&entries)?;
        self.note(&format!("durable up to {}", watermark.0));
        if more {
            self.syncing = true;
            // A disk that has no room is not asked all the time.
            let pause = if entries.is_empty() { 100 * MILLI } else { MILLI };
            self.later(pause, Happening::Sync);
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
                LinkCommand::Abort { connection, reason } => self.abort(*connection, *reason),
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
                self.audit.request_of(id).map_or(Ok(()), |request| self.book.leaves(request))?;
                self.lines[at].originals.push((start, id));
            }
        } else if self.lines[at].stranger {
            self.audit.leaves_for_stranger(frame)?;
        } else {
            self.audit.leaves_for_acquirer(link, frame, &decoded)?;
            if let Some(id) = self.audit.approved_by(link, &decoded).filter(|id| Some(*id) > self.before) {
                self.lines[at].approvals.push((start + frame.len(), id));
            }
        }
        self.lines[at].output.extend_from_slice(frame);
        self.start_pump(at);
        Ok(())
    }

    fn crash(&mut self, how: Crash) {
        if self.house.is_some() {
            self.meet(Trouble::Crash, &format!("crash {how:?}"));
            self.process_ends(how);
        }
    }

    fn process_ends(&mut self, how: Crash) {
        let Some(house) = self.house.take() else { return };
        self.storage.disk = house.crash(&self.storage.disk, how);
        self.ending = None;
        self.over = self.lied;
        self.inbox = Inbox::default();
        self.outbox = Outbox::default();
        (self.stepping, self.checking, self.syncing) = (false, false, false);
        self.queue.retain(|_, what| {
            !matches!(
                what,
                Happening::Step
                    | Happening::Check
                    | Happening::Sync
                    | Happening::Pump(_)
                    | Happening::Dialled { .. }
                    | Happening::ClosedAtSwitch { .. }
            )
        });
        for at in 0..self.lines.len() {
            self.lines[at].approvals.clear();
            if std::mem::replace(&mut self.lines[at].at_switch, false) {
                let begun = self.lines[at].taken;
                self.lose(at, begun, CloseReason::ConnectionLost);
            }
        }
        self.by_connection.clear();
        let down = self.random.u64(10 * MILLI..3 * SECOND);
        self.later(down, Happening::Restart);
    }
}

//! The switch under test: what it keeps on its disks, and what dies with the process — journal, vault, node.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenswitch::app::{AppError, CheckpointPlace, Recall};
use tokenswitch::crypto::JournalKeys;
use tokenswitch::journal::{
    Appender, BasesConfig, Body, Checkpoint, CheckpointError, Durability, Entry, EntryNumber, HistoryAnswer,
    HistoryFold, HistoryQuestion, Journal, JournalConfig, JournalError, JournalSetup, Keeping, MemoryDisk,
    MemoryStore, OlderHistory, OpenedCheckpoint, Reader, Writer,
};
use tokenswitch::link::{Inbox, Outbox};
use tokenswitch::stdx::clock::Now;
use tokenswitch::stdx::random::Entropy;
use tokenswitch::switch::{
    AskedEnquiry, Cards, Cryptograms, EntryLog, Happened, History, Limits, LimitsInForce, LogFault, Node,
    NodeParts, Recovered, Recovery, SwitchConfig, SwitchCore, Unfinished,
};
use tokenswitch::tsp::{
    Action, Answer, CallId, CodeDelivery, Command, Detokenizer, EnquiryReply, IssuerWord, Tsp, TspError,
};
use tokenswitch::vocab::{SettlementWindow, ShardId};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::setting::{ACQUIRERS, ISSUERS, issuer_keys, pool_of, security, tsp_config_beside, wire_of};

/// So many enquiries may be outstanding.
const ENQUIRIES: usize = 256;

/// How long the history keeps a transaction: longer than any run, and than a clock may jump.
const HISTORY: Duration = Duration::from_secs(30 * 86_400);

/// What outlives the process: the journal's disk, and the views of it that a start may find.
#[derive(Clone)]
pub(crate) struct Storage {
    pub(crate) disk: MemoryDisk,
    pub(crate) checkpoint: MemoryStore,
    pub(crate) history: MemoryStore,
}

impl Storage {
    /// A journal without checkpoint and history.
    pub(crate) fn journal_alone(disk: MemoryDisk) -> Self {
        Self { disk, checkpoint: MemoryStore::new(), history: MemoryStore::new() }
    }
}

/// How the journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) queue_bytes: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) bases: BasesConfig,
}

impl Keep {
    /// Without bases.
    pub(crate) fn all(queue_bytes: usize) -> Self {
        let bases = BasesConfig { fold_every: u64::MAX, retention: Duration::MAX };
        Self { queue_bytes, segment_bytes: 32 << 10, bases }
    }
}

/// Where a start found what it knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// The first entry that the journal has.
    pub(crate) first: EntryNumber,
    /// Up to this entry a base was read.
    pub(crate) base: Option<EntryNumber>,
    /// Up to this one the checkpoint, or the base.
    pub(crate) known: EntryNumber,
    /// The checkpoint was damaged.
    pub(crate) damaged: bool,
}

/// The checkpoint in memory.
struct InMemory<'a>(&'a MemoryStore, &'a JournalKeys);

impl CheckpointPlace for InMemory<'_> {
    fn anew(&self) -> Result<Checkpoint, CheckpointError> {
        self.0.clear();
        Checkpoint::in_memory(self.0, self.1)
    }

    fn set_aside(&self, _: CheckpointError) -> Result<OpenedCheckpoint, CheckpointError> {
        Ok(OpenedCheckpoint { checkpoint: self.anew()?, quarantined: None })
    }
}

/// What is wrong with the journal, when that is what keeps a start from being one.
fn of_journal(error: AppError) -> JournalError {
    match error {
        AppError::Journal(error)
        | AppError::Checkpoint(CheckpointError::Journal(error))
        | AppError::Tsp(TspError::Store(CheckpointError::Journal(error))) => error,
        other => panic!("P8: what is on the disk does not lead to a state: {other}"),
    }
}

/// A running switch, without threads, sockets or clock.
pub(crate) struct House {
    journal: Journal,
    writer: Writer,
    reader: Reader,
    pub(crate) node: Node,
    /// What the history knows and was asked.
    pub(crate) history: Remembered,
    tsp: Tsp,
    entropy: Entropy,
    /// Keeps the checkpoint, and makes bases of it.
    keeping: Keeping,
    /// Whether the checkpoint has what the newest base has.
    begun: bool,
    /// Numbers of the vault's entries that are not durable yet.
    vault_waits: Vec<EntryNumber>,
    /// What issuers say about cards that are to have tokens, on its way to the vault.
    words_to: Sender<(CallId, IssuerWord)>,
    words: Receiver<(CallId, IssuerWord)>,
    /// Codes on their way to cardholders.
    pub(crate) codes: Vec<CodeDelivery>,
    appended: Arc<AtomicU64>,
    pub(crate) watermark: EntryNumber,
    pub(crate) recovered: Recovered,
    pub(crate) found: Found,
}

/// The journal's front, with the number of what was appended last.
struct CountedLog {
    appender: Appender,
    appended: Arc<AtomicU64>,
}

impl EntryLog for CountedLog {
    fn append(&mut self, shard: ShardId, now: Now, bodies: &[Body]) -> Result<EntryNumber, LogFault> {
        let first = EntryLog::append(&mut self.appender, shard, now, bodies)?;
        self.appended.store(first.0 + bodies.len() as u64 - 1, Ordering::Relaxed);
        Ok(first)
    }

    fn has_room(&self) -> bool {
        EntryLog::has_room(&self.appender)
    }
}

/// The history, which is brought up to date whenever it is asked.
#[derive(Clone)]
pub(crate) struct Remembered(Arc<Mutex<Memory>>);

struct Memory {
    keeping: Keeping,
    history: OlderHistory,
    most: usize,
    asked: VecDeque<HistoryQuestion>,
    how: Remembering,
}

/// How the history answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remembering {
    AtOnce,
    /// It cannot be read.
    Broken,
    /// It is asked and says nothing.
    Silent,
}

impl Remembered {
    fn new(journal: &Journal, past: Arc<Checkpoint>, most: usize) -> Result<Self, JournalError> {
        let reader = journal.reader(past.entry_number().next())?;
        let fold = HistoryFold::keeping(HISTORY);
        let keeping = Keeping::new(Arc::clone(&past), reader, vec![Box::new(fold)], None);
        let (history, how) = (OlderHistory::of(past), Remembering::AtOnce);
        Ok(Self(Arc::new(Mutex::new(Memory { keeping, history, most, asked: VecDeque::new(), how }))))
    }

    fn fold(&self) -> Result<EntryNumber, CheckpointError> {
        self.0.lock().expect("nobody failed with it").keeping.fold(None)
    }

    /// Whether it was asked and will say something.
    pub(crate) fn has_answers(&self) -> bool {
        let memory = self.0.lock().expect("nobody failed with it");
        memory.how != Remembering::Silent && !memory.asked.is_empty()
    }

    pub(crate) fn answers(&self, how: Remembering) {
        self.0.lock().expect("nobody failed with it").how = how;
    }
}

impl History for Remembered {
    fn ask(&mut self, question: HistoryQuestion) -> bool {
        self.0.lock().expect("nobody failed with it").asked.push_back(question);
        true
    }

    fn answer(&mut self) -> Option<HistoryAnswer> {
        let mut memory = self.0.lock().expect("nobody failed with it");
        if memory.how == Remembering::Silent {
            return None;
        }
        let HistoryQuestion { asked, name } = memory.asked.pop_front()?;
        let found = if memory.how == Remembering::AtOnce {
            memory.keeping.fold(None).expect("what was written reads back");
            Some(memory.history.families(&name, memory.most).expect("what was folded reads back"))
        } else {
            None
        };
        Some(HistoryAnswer { asked, found })
    }
}

/// The switch's state as of all `entries`: out of a checkpoint at `checkpointed`, and of the entries that it leaves to
/// be read, of which those before `first` are gone.
fn recovery<'a>(
    config: &SwitchConfig,
    (window, first): (SettlementWindow, EntryNumber),
    cards: &'a Cards,
    entries: &[Entry],
    checkpointed: EntryNumber,
) -> Recovery<'a> {
    let mut folded = Unfinished::new(config.limits);
    for entry in entries.iter().filter(|entry| entry.number <= checkpointed) {
        folded.observe(entry).expect("the checkpoint takes the switch's entries");
    }
    let mut kept =
        Unfinished::from_records(config.limits, folded.records()).expect("a checkpoint reads back");
    kept.forget_before(first);
    let from = kept.answers_from().min(checkpointed.next());
    let mut recovery = Recovery::resume(config.clone(), window, cards, (checkpointed, kept));
    for entry in entries.iter().filter(|entry| entry.number >= from) {
        recovery.observe(entry).expect("the switch takes its own entries");
    }
    recovery
}

/// All that a core knows and does first, a line each, in an order that does not tell how it came to know it.
fn state(recovery: Recovery<'_>, now: Now) -> Vec<String> {
    let mut first = Vec::new();
    let (core, recovered) = recovery.finish(now, &mut first).expect("what was open opens");
    lines(&core, recovered, &first)
}

fn lines(core: &SwitchCore, recovered: Recovered, first: &[tokenswitch::switch::Action]) -> Vec<String> {
    let mut lines: Vec<_> =
        format!("{core:#?}\n{recovered:#?}\n{first:#?}").lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// What was not synced is gone.
    Unsynced,
    /// The block was being written: some of its sectors are there.
    Torn(u64),
    /// The block is on disk, and nobody was told.
    Untold,
    /// As `Torn`, after the disk failed: nothing is tried any more.
    Failed(u64),
}

impl Crash {
    pub(crate) const KINDS: u64 = 3;

    pub(crate) fn of(drawn: u64) -> Self {
        match drawn % Self::KINDS {
            0 => Self::Unsynced,
            1 => Self::Torn(drawn / Self::KINDS),
            _ => Self::Untold,
        }
    }
}

impl House {
    /// Starts from the journal alone. `queue_bytes` may wait for the disk.
    pub(crate) fn bounded(
        disk: &MemoryDisk,
        seed: u64,
        now: Now,
        config: SwitchConfig,
        queue_bytes: usize,
    ) -> Self {
        let storage = Storage::journal_alone(disk.clone());
        Self::open(&storage, &[], seed, now, config, Keep::all(queue_bytes)).expect("the journal opens")
    }

    /// Starts as the daemon does, from what is there; a journal that cannot be opened, or read to its end, is refused
    /// with the reason. `past` has all entries that were ever durable, encoded: where the journal begins later by now,
    /// the start is held against them.
    pub(crate) fn open(
        storage: &Storage,
        past: &[Vec<u8>],
        seed: u64,
        now: Now,
        config: SwitchConfig,
        keep: Keep,
    ) -> Result<Self, JournalError> {
        let module = security();
        let keys = module.journal_keys();
        let (checkpoint, damaged) = match Checkpoint::in_memory(&storage.checkpoint, &keys) {
            Ok(checkpoint) => (checkpoint, false),
            Err(_) => (InMemory(&storage.checkpoint, &keys).anew().expect("an empty one"), true),
        };
        let (before, checkpoint) = (checkpoint.entry_number(), Arc::new(checkpoint));
        let past_store = Checkpoint::history_in_memory(&storage.history, &keys).expect("it is sound");
        let past_store = Arc::new(past_store);
        let setup = JournalSetup {
            disk: Box::new(storage.disk.clone()),
            keys: keys.clone(),
            config: JournalConfig {
                segment_bytes: keep.segment_bytes,
                min_free_bytes: 0,
                queue_bytes: keep.queue_bytes,
                ..JournalConfig::default()
            },
            at_least: before.max(past_store.entry_number()),
            entropy: Entropy::seeded(seed ^ 1),
        };
        let (journal, writer, found) = Journal::stepped(setup)?;
        let bases = journal.bases(keep.bases, Arc::clone(&past_store))?;
        let cards = Cards::new(module.data_sealer(), seed ^ 2);
        let recall = Recall {
            tsp: &tsp_config_beside(&config),
            security: &module,
            switch: config.clone(),
            limits: LimitsInForce::new(config.limits),
            progress: &mut |_| {},
        };
        let known = recall.known(checkpoint, &bases, &InMemory(&storage.checkpoint, &keys));
        let known = known.map_err(of_journal)?;
        let first = journal.first_entry();
        let base = known.base().map(tokenswitch::journal::Records::entry_number);
        let damaged = damaged || known.entry_number() < before;
        let began = Found { first, base, known: known.entry_number(), damaged };
        let keeping =
            recall.keeping(&known, &journal, bases, Entropy::seeded(seed ^ 6)).map_err(of_journal)?;
        let recalled = recall.recall(&journal, known, &cards, now).map_err(of_journal)?;
        let (core, tsp, recovered) = (recalled.core, recalled.tsp, recalled.found.switch);
        let gone = past.iter().take(usize::try_from(first.0 - 1).expect("they fit memory"));
        let gone = gone.map(|bytes| Ok(Entry::decode(bytes).expect("it was encoded")));
        let entries = gone.chain(journal.reader(first)?).collect::<Result<Vec<_>, JournalError>>()?;
        agrees(&config, (began, &lines(&core, recovered, &recalled.first)), &cards, &entries, (seed, now));
        let appended = Arc::new(AtomicU64::new(found.last.0));
        let second_checks = config.issuers[&ISSUERS[1]].cryptograms == Cryptograms::Passed;
        let card_keys = if second_checks { vec![] } else { vec![(ISSUERS[1], issuer_keys())] };
        let history = Remembered::new(&journal, past_store, config.limits.namesakes())?;
        let node = Node::new(NodeParts {
            config,
            core,
            acquirers: ACQUIRERS.iter().map(|link| (*link, wire_of(*link))).collect(),
            issuers: ISSUERS.iter().map(|link| (*link, wire_of(*link), pool_of(*link))).collect(),
            detokenizer: tsp.detokenizer(),
            cards,
            card_keys,
            log: Box::new(CountedLog { appender: journal.appender(), appended: Arc::clone(&appended) }),
            history: Box::new(history.clone()),
            entropy: Entropy::seeded(seed ^ 3),
            limits: recalled.limits,
            first: recalled.first,
        });
        let (words_to, words) = channel(ENQUIRIES);
        Ok(Self {
            reader: journal.reader(first)?,
            journal,
            writer,
            node,
            history,
            tsp,
            entropy: Entropy::seeded(seed ^ 4),
            keeping,
            begun: false,
            vault_waits: Vec::new(),
            words_to,
            words,
            codes: Vec::new(),
            appended,
            watermark: found.last,
            recovered,
            found: began,
        })
    }

    /// One round of the thread that keeps the checkpoint and makes bases, and before it of the history's. The entry
    /// where the checkpoint then stands.
    pub(crate) fn fold(&mut self, now: Now, with_history: bool) -> Result<EntryNumber, CheckpointError> {
        if with_history {
            self.history.fold()?;
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.keeping.begin()?;
        }
        let number = self.keeping.fold(None)?;
        self.keeping.after_round(now.wall);
        Ok(number)
    }

    /// One step of the node over what came in, under the watermark that it has heard of. An error ends the process.
    pub(crate) fn step(&mut self, inbox: &Inbox, now: Now, out: &mut Outbox) -> Result<(), LogFault> {
        let happened = Happened { inbox: Some(inbox), durable: Some(self.watermark) };
        self.node.step(happened, now, out)
    }

    /// The next few of those that wait for a check.
    pub(crate) fn check(&mut self, now: Now, out: &mut Outbox) -> Result<(), LogFault> {
        self.node.check(now, out)
    }

    pub(crate) fn tick(&mut self, now: Now, out: &mut Outbox) -> Result<(), LogFault> {
        self.node.tick(now, out)
    }

    /// Whether something waits for the disk.
    pub(crate) fn has_unsynced(&self) -> bool {
        self.appended.load(Ordering::Relaxed) > self.watermark.0
    }

    /// Writes and syncs what waits; entries that became durable thereby, in order. After an error of the disk the
    /// process must end; the reason is given.
    pub(crate) fn sync(&mut self) -> Result<Vec<Entry>, String> {
        match self.writer.step() {
            Some(Durability::Durable(number)) => self.watermark = number,
            Some(Durability::Failed(reason)) => return Err(reason),
            None => {}
        }
        Ok(self.read_new())
    }

    /// Durable entries that were not read yet.
    pub(crate) fn read_new(&mut self) -> Vec<Entry> {
        self.reader.by_ref().map(|entry| entry.expect("what was written reads back")).collect()
    }

    /// The number of the entry appended last.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    /// Asks the vault; the answers of what became durable come from `vault_durable`.
    pub(crate) fn ask_vault(&mut self, command: Command, now: Now) -> Vec<(CallId, Answer)> {
        let mut actions = Vec::new();
        self.tsp.apply(command, now, &mut self.entropy, &mut actions);
        let mut answers = Vec::new();
        for action in actions {
            match action {
                Action::Append { at, event } => {
                    let body = Body::Token(event);
                    let number = self.journal.appender().append(ShardId(0), at, &body).expect("it has room");
                    self.appended.store(number.0, Ordering::Relaxed);
                    self.vault_waits.push(number);
                }
                Action::Answer { call, answer } => answers.push((call, answer)),
                Action::AskIssuer { call, enquiry } => {
                    let reply = EnquiryReply::new(call, self.words_to.clone());
                    self.node.enquire(AskedEnquiry { enquiry: *enquiry, reply });
                }
                Action::SendCode(code) => self.codes.push(*code),
            }
        }
        answers
    }

    /// What an issuer said, if one did.
    pub(crate) fn issuers_word(&mut self) -> Option<(CallId, IssuerWord)> {
        self.words.try_recv().ok()
    }

    /// How many tokens there are.
    pub(crate) fn tokens(&self) -> usize {
        self.tsp.tokens()
    }

    /// What receivers are still to be told.
    pub(crate) fn notices(&self) -> tokenswitch::tsp::Outbox {
        self.tsp.outbox()
    }

    pub(crate) fn detokenizer(&self) -> Detokenizer {
        self.tsp.detokenizer()
    }

    /// Applies and answers what is durable of the vault's.
    pub(crate) fn vault_durable(&mut self, now: Now) -> Vec<(CallId, Answer)> {
        let watermark = self.watermark;
        let events = self.vault_waits.iter().take_while(|number| **number <= watermark).count();
        self.vault_waits.drain(..events);
        if events == 0 { Vec::new() } else { self.ask_vault(Command::Durable { events }, now) }
    }

    /// Ends the process; gives the disk that the next one finds.
    pub(crate) fn crash(mut self, disk: &MemoryDisk, how: Crash) -> MemoryDisk {
        match how {
            Crash::Unsynced | Crash::Failed(_) => {}
            Crash::Torn(_) => {
                disk.fail_sync_after(0);
                let _ = self.writer.step();
            }
            Crash::Untold => {
                let _ = self.writer.step();
            }
        }
        let seed = if let Crash::Torn(seed) | Crash::Failed(seed) = how { seed } else { 0 };
        disk.after_power_loss(seed)
    }
}

/// A start that knew much beforehand leads to the state of one that reads all `entries`; so does one from a checkpoint
/// at any of them, and where few answers are remembered. With none that are gone that is the state from the journal
/// alone.
fn agrees(
    config: &SwitchConfig,
    (found, is): (Found, &[String]),
    cards: &Cards,
    entries: &[Entry],
    (seed, now): (u64, Now),
) {
    let window = (config.window(now.wall), found.first);
    let last = entries.last().map_or(0, |entry| entry.number.0);
    let mut drawn = Entropy::seeded(seed ^ 5);
    let checkpointed = EntryNumber(drawn.below(last + 1).expect("it is seeded"));
    let few = Limits { answered: drawn.below(8).expect("it is seeded") as usize + 1, ..config.limits };
    let from_all =
        |config: &SwitchConfig, window, at| state(recovery(config, window, cards, entries, at), now);
    let whole = found.first == EntryNumber(1);
    let known = if whole { EntryNumber(0) } else { found.known };
    assert_eq!(*is, from_all(config, window, known), "as it started, {found:?}");
    let (config, window) = (SwitchConfig { limits: few, ..config.clone() }, (window.0, EntryNumber(1)));
    let alone = from_all(&config, window, EntryNumber(0));
    assert_eq!(from_all(&config, window, checkpointed), alone, "from a checkpoint at {checkpointed}");
}

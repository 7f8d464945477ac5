//! The switch under test: its disk, and what dies with the process — journal, vault, node.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokenswitch::crypto::SecurityModule;
use tokenswitch::journal::{
    Appender, Body, Durability, Entry, EntryNumber, HistoryAnswer, HistoryQuestion, Journal, JournalConfig,
    JournalError, JournalSetup, MemoryDisk, Reader, RecentHistory, Writer,
};
use tokenswitch::link::{Inbox, Outbox};
use tokenswitch::stdx::clock::Now;
use tokenswitch::stdx::random::Entropy;
use tokenswitch::switch::{
    AskedEnquiry, Cards, Cryptograms, EntryLog, Happened, History, Limits, LogFault, Node, NodeParts,
    Recovered, Recovery, SwitchConfig, Unfinished,
};
use tokenswitch::tsp::{
    Action, Answer, CallId, CodeDelivery, Command, Detokenizer, EnquiryReply, IssuerWord, Tsp,
};
use tokenswitch::vocab::{BusinessDate, SettlementWindow, ShardId};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::setting::{ACQUIRERS, ISSUERS, issuer_keys, pool_of, tsp_config_beside, wire_of};

/// So many enquiries may be outstanding.
const ENQUIRIES: usize = 256;

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

/// The history: all that is durable, in memory.
#[derive(Clone)]
pub(crate) struct Remembered(Arc<Mutex<Memory>>);

struct Memory {
    history: RecentHistory,
    last: EntryNumber,
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
    fn new() -> Self {
        let history = RecentHistory::with_capacity(100_000);
        let how = Remembering::AtOnce;
        Self(Arc::new(Mutex::new(Memory { history, last: EntryNumber(0), asked: VecDeque::new(), how })))
    }

    fn note(&self, entry: &Entry) {
        let mut memory = self.0.lock().expect("nobody failed with it");
        if let Body::Transaction(said) = &entry.body
            && entry.number > memory.last
        {
            memory.history.note(entry.number, said);
        }
        memory.last = memory.last.max(entry.number);
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
        let found = (memory.how == Remembering::AtOnce).then(|| memory.history.families(&name));
        Some(HistoryAnswer { asked, found })
    }
}

/// The switch's state as of all `entries`: out of a checkpoint at `checkpointed`, and of the entries that it leaves to be
/// read.
pub(crate) fn recovery<'a>(
    config: &SwitchConfig,
    window: SettlementWindow,
    cards: &'a Cards,
    entries: &[Entry],
    checkpointed: EntryNumber,
) -> Recovery<'a> {
    let mut folded = Unfinished::new(config.limits);
    for entry in entries.iter().filter(|entry| entry.number <= checkpointed) {
        folded.observe(entry).expect("the checkpoint takes the switch's entries");
    }
    let kept = Unfinished::from_records(config.limits, folded.records()).expect("a checkpoint reads back");
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
    let known = recovery.finish(now, &mut first).expect("what was open opens");
    let mut lines: Vec<_> = format!("{known:#?}\n{first:#?}").lines().map(str::to_owned).collect();
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
    /// Starts from what is on the disk. `queue_bytes` may wait for it.
    pub(crate) fn bounded(
        disk: &MemoryDisk,
        seed: u64,
        now: Now,
        config: SwitchConfig,
        queue_bytes: usize,
    ) -> Self {
        Self::open(disk, seed, now, config, queue_bytes).expect("the journal opens")
    }

    /// As `bounded`; a journal that cannot be opened, or read to its end, is refused with the reason.
    pub(crate) fn open(
        disk: &MemoryDisk,
        seed: u64,
        now: Now,
        config: SwitchConfig,
        queue_bytes: usize,
    ) -> Result<Self, JournalError> {
        let module = SecurityModule::sample().expect("the sample keys");
        let setup = JournalSetup {
            disk: Box::new(disk.clone()),
            keys: module.journal_keys(),
            config: JournalConfig {
                segment_bytes: 32 << 10,
                min_free_bytes: 0,
                queue_bytes,
                ..JournalConfig::default()
            },
            at_least: EntryNumber(0),
            entropy: Entropy::seeded(seed ^ 1),
        };
        let (journal, writer, found) = Journal::stepped(setup)?;
        let mut tsp = Tsp::new(tsp_config_beside(&config), &module).expect("a good configuration");
        let cards = Cards::new(module.data_sealer(), seed ^ 2);
        let window = SettlementWindow { date: BusinessDate::of(now.wall), sequence: 1 };
        let history = Remembered::new();
        let entries = journal.reader(EntryNumber(1))?.collect::<Result<Vec<_>, _>>()?;
        for entry in &entries {
            history.note(entry);
            tsp.replay(entry).expect("the vault takes its own events");
        }
        let mut drawn = Entropy::seeded(seed ^ 5);
        let checkpointed = EntryNumber(drawn.below(found.last.0 + 1).expect("it is seeded"));
        let few = Limits { answered: drawn.below(8).expect("it is seeded") as usize + 1, ..config.limits };
        for limits in [config.limits, few] {
            let config = SwitchConfig { limits, ..config.clone() };
            let state = |checkpointed| state(recovery(&config, window, &cards, &entries, checkpointed), now);
            assert_eq!(state(checkpointed), state(EntryNumber(0)), "from a checkpoint at {checkpointed}");
        }
        let recovery = recovery(&config, window, &cards, &entries, checkpointed);
        let mut first = Vec::new();
        let (core, recovered) = recovery.finish(now, &mut first).expect("what was open opens");
        let appended = Arc::new(AtomicU64::new(found.last.0));
        let second_checks = config.issuers[&ISSUERS[1]].cryptograms == Cryptograms::Passed;
        let card_keys = if second_checks { vec![] } else { vec![(ISSUERS[1], issuer_keys())] };
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
            first,
        });
        let (words_to, words) = channel(ENQUIRIES);
        Ok(Self {
            reader: journal.reader(EntryNumber(1))?,
            journal,
            writer,
            node,
            history,
            tsp,
            entropy: Entropy::seeded(seed ^ 4),
            vault_waits: Vec::new(),
            words_to,
            words,
            codes: Vec::new(),
            appended,
            watermark: found.last,
            recovered,
        })
    }

    /// One step of the node over what came in, under the watermark that it has heard of. An error ends the process.
    pub(crate) fn step(&mut self, inbox: &Inbox, now: Now, out: &mut Outbox) -> Result<(), LogFault> {
        let happened = Happened { inbox: Some(inbox), durable: Some(self.watermark) };
        self.node.step(happened, now, out)
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
        let Self { reader, history, .. } = self;
        let read = reader.map(|entry| entry.expect("what was written reads back"));
        read.inspect(|entry| history.note(entry)).collect()
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

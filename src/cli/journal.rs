//! `journal`: verify the chain from the first entry to the last, list entries, explain a transaction. None of it
//! changes anything.

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;

use super::explain::{Explain, explain};
use super::{Failure, say};
use crate::config::Config;
use crate::crypto::KeyUsage;
use crate::journal::{
    AcquirerLeg, Base, Body, CardRef, Checkpoint, CheckpointError, DeliveryEnd, Entry, EntryNumber,
    Examination, IssuerLeg, JournalError, KeyEvent, Reader, RealDisk, Records, Recovered, StoredKind,
    TransactionEntry,
};
use crate::stdx::clock::Wall;
use crate::switch::OperatorAct;
use crate::vocab::{BusinessDate, ResponseCode, TransmissionTime};

/// Reads the journal.
#[derive(Debug, clap::Args)]
pub(super) struct JournalCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Read everything, checking each seal and the chain; name the place of any damage.
    Verify {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Tell one transaction's whole story, also while the daemon runs; account numbers masked.
    Explain(Explain),
    /// Print entries, one a line, account numbers masked.
    List {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The first entry to print.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many to print at most.
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        count: u64,
    },
}

pub(super) fn run(arguments: &JournalCommand) -> Result<(), Failure> {
    match &arguments.what {
        What::Verify { config } => verify(&Config::load(config)?),
        What::Explain(arguments) => explain(arguments),
        What::List { config, from, count } => list(&Config::load(config)?, *from, *count),
    }
}

fn open(config: &Config) -> Result<(Reader, Recovered), Failure> {
    let disk = RealDisk::lock(directory(config)?).map_err(|error| match error {
        JournalError::InUse => Failure::new(format!("{error}: stop the daemon first")),
        _ => failed(error),
    })?;
    read(config, disk)
}

/// As far as it is on disk now, whether a daemon writes it or not.
pub(super) fn watch(config: &Config) -> Result<Reader, Failure> {
    let disk = RealDisk::watch(directory(config)?);
    read(config, disk).map(|(reader, _)| reader)
}

/// What was done to a journal that is not whole, or ends before what its checkpoint has taken in.
pub(super) fn examined(config: &Config) -> Result<Examination, Failure> {
    let disk = Box::new(RealDisk::watch(directory(config)?));
    let keys = config.security.journal_keys();
    let (kind, place) = (config.journal.checkpoint, config.node.checkpoint_directory());
    let newest = Checkpoint::newest_entry(kind, &place, &keys).ok().flatten();
    let at_least = newest.unwrap_or(EntryNumber(0));
    Examination::of(disk, keys, &config.journal.journal.stream, at_least).map_err(failed)
}

fn directory(config: &Config) -> Result<File, Failure> {
    let directory = config.node.journal_directory();
    File::open(&directory).map_err(|error| Failure::file(&directory, "cannot be opened", &error))
}

fn read(config: &Config, disk: RealDisk) -> Result<(Reader, Recovered), Failure> {
    let keys = config.security.journal_keys();
    Reader::offline(Box::new(disk), keys, &config.journal.journal.stream).map_err(failed)
}

fn verify(config: &Config) -> Result<(), Failure> {
    let (reader, recovered) = open(config)?;
    if let Some(base) = reader.base() {
        base.verify().map_err(|error| Failure::new(error.to_string()))?;
        say(&format!(
            "Base {} is whole: {} records, as of entry {}. The journal begins with entry {}.",
            base.number(),
            base.records(),
            base.entry_number(),
            base.first_entry(),
        ));
    }
    let mut counts = Counts::default();
    for entry in reader {
        counts.add(&entry.map_err(failed)?);
    }
    say(&format!("The journal is whole: {} entries, the last is number {}.", counts.all, recovered.last));
    say(&counts.to_string());
    if let Some(torn) = recovered.torn {
        let (segment, offset) = (torn.segment, torn.offset);
        say(&format!(
            "Segment {segment} ends at byte {offset} with a block that is not whole: so it looks when the power goes \
             while one is written."
        ));
    }
    say(&witnessed(config, recovered.last)?);
    Ok(())
}

/// What says how far the journal went, besides itself: without that its end could be cut off and nobody would see.
///
/// # Errors
/// When the checkpoint or the history has entries that the journal lacks.
pub(super) fn witnessed(config: &Config, last: EntryNumber) -> Result<String, Failure> {
    let (kind, place) = (config.journal.checkpoint, config.node.checkpoint_directory());
    Ok(match Checkpoint::newest_entry(kind, &place, &config.security.journal_keys()) {
        Ok(Some(newest)) if newest > last => {
            return Err(Failure::new(format!(
                "the journal's end is missing: its last entry is number {last}, and {} has taken in all up to {newest}",
                place.display()
            )));
        }
        Ok(Some(newest)) => format!("The checkpoint goes with it: it has taken in all up to entry {newest}."),
        Ok(None) => {
            "There is no checkpoint: only the mark of an orderly stop would show that later entries are missing."
                .to_owned()
        }
        Err(CheckpointError::InUse) => {
            "The daemon runs: how far it has written shows once it is stopped.".to_owned()
        }
        Err(error) => format!("The checkpoint cannot say whether later entries are missing: {error}."),
    })
}

fn list(config: &Config, from: u64, count: u64) -> Result<(), Failure> {
    let (reader, _) = open(config)?;
    if let Some(folded) = reader.base().filter(|base| from < base.first_entry().0).map(folded) {
        say(&format!("Entries {folded}."));
    }
    let mut left = count;
    for entry in reader {
        let entry = entry.map_err(failed)?;
        if entry.number.0 < from {
            continue;
        }
        if left == 0 {
            break;
        }
        left -= 1;
        say(&line(&entry));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    requests: u64,
    outcomes: u64,
    stored: u64,
    tokens: u64,
}

impl Counts {
    fn add(&mut self, entry: &Entry) {
        self.all += 1;
        match &entry.body {
            Body::Transaction(TransactionEntry::Request(_)) => self.requests += 1,
            Body::Transaction(TransactionEntry::Outcome(outcome)) => {
                self.outcomes += 1;
                self.stored += u64::from(outcome.reversal.is_some()) + u64::from(outcome.advice.is_some());
            }
            Body::Transaction(TransactionEntry::Stored(_)) => self.stored += 1,
            Body::Token(_) => self.tokens += 1,
            Body::Transaction(_) | Body::CutOver(_) | Body::WindowClosed(_) | Body::Operator(_) => {}
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, outcomes, stored, tokens, .. } = self;
        write!(f, "{requests} requests, {outcomes} outcomes, {stored} stored messages, {tokens} token events")
    }
}

/// One entry as a person reads it. Cards are sealed in it, and tokens print masked.
fn line(entry: &Entry) -> String {
    let mut line = format!("{:>10} {} shard {} ", entry.number.0, timestamp(entry.wall_time), entry.shard.0);
    let text = match &entry.body {
        Body::Transaction(transaction) => transaction_text(transaction),
        Body::Token(bytes) => format!("token event, {} bytes", bytes.len()),
        Body::CutOver(window) => format!("cut-over to {window}"),
        Body::WindowClosed(window) => format!("window {window} is closed"),
        Body::Operator(bytes) => operator_text(bytes),
    };
    line.push_str(&text);
    line
}

fn transaction_text(entry: &TransactionEntry) -> String {
    match entry {
        TransactionEntry::Request(request) => format!(
            "request {} {} -> {} {} window {}{}",
            request.transaction,
            asked(&request.acquirer),
            forwarded(&request.issuer),
            card(&request.card),
            request.window,
            if request.settles { ", settles" } else { "" },
        ),
        TransactionEntry::Outcome(outcome) => {
            let mut text = format!("outcome {} {}", outcome.transaction, outcome.outcome.name());
            // Writing to a `String` cannot fail.
            if let Some(refusal) = outcome.refusal {
                let _ = write!(text, ", {refusal}");
            }
            if let Some(reversal) = &outcome.reversal {
                let _ = write!(text, ", with reversal {}", reversal.transaction);
            }
            if let Some(advice) = &outcome.advice {
                let _ = write!(text, ", stood in for, with advice {}", advice.transaction);
            }
            text
        }
        TransactionEntry::Stored(stored) => {
            let kind = match stored.kind {
                StoredKind::Advice => "advice",
                StoredKind::StandIn => "stand-in advice",
                StoredKind::AcquirerReversal => "acquirer's reversal",
                StoredKind::OwnReversal(reason) => reason.name(),
            };
            format!(
                "stored {} ({kind}) -> {} {}",
                stored.transaction,
                forwarded(&stored.issuer),
                card(&stored.card)
            )
        }
        TransactionEntry::Delivered(delivered) => match delivered.end {
            DeliveryEnd::Acknowledged(code) => format!("delivered {}, answered {code}", delivered.stored),
            DeliveryEnd::Parked(code) => {
                format!("parked {} for the operator, answered {code}", delivered.stored)
            }
            DeliveryEnd::SetAside(code) => {
                let code = code.as_ref().map_or("nothing", ResponseCode::as_str);
                format!("set aside {} for the operator, answered {code}", delivered.stored)
            }
        },
        TransactionEntry::Tombstone(tombstone) => {
            format!("tombstone {} {}", tombstone.transaction, asked(&tombstone.acquirer))
        }
        TransactionEntry::Late(late) => format!("late answer {} to {}", late.code, late.transaction),
        TransactionEntry::Enquiry(enquiry) => format!(
            "enquiry {} for requestor {} -> {}",
            enquiry.transaction,
            enquiry.requestor.as_str(),
            forwarded(&enquiry.issuer)
        ),
    }
}

fn operator_text(bytes: &[u8]) -> String {
    if let Some(KeyEvent { key, .. }) = KeyEvent::decode(bytes) {
        let is_handed = key.usage == KeyUsage::ReceiverSigning;
        let what = if is_handed { "was handed out" } else { "comes into use" };
        return format!("key {} version {}, check value {}, {what}", key.label, key.version, key.check);
    }
    OperatorAct::decode(bytes).map_or_else(
        || format!("operator, {} bytes", bytes.len()),
        |act| format!("operator {} decides {:?} of {}: {}", act.who, act.decision, act.stored, act.reason),
    )
}

fn asked(leg: &AcquirerLeg) -> String {
    format!("link {} {} {}", leg.link, leg.mti, leg.stan)
}

fn forwarded(leg: &IssuerLeg) -> String {
    format!("link {} {} {}", leg.link, leg.mti, leg.stan)
}

fn card(card: &CardRef) -> String {
    card.token.map_or_else(|| "card".to_owned(), |token| format!("token {}", token.token.masked()))
}

/// As RFC 3339 writes it, in UTC.
pub(super) fn timestamp(wall: Wall) -> String {
    let BusinessDate { year, month, day } = BusinessDate::of(wall);
    let digits = TransmissionTime::of(wall).digits();
    let part = |from: usize| {
        digits.get(from..from + 2).and_then(|two| std::str::from_utf8(two).ok()).unwrap_or("??")
    };
    format!("{year:04}-{month:02}-{day:02}T{}:{}:{}.{:03}Z", part(4), part(6), part(8), wall.0 % 1_000)
}

/// What became of entries that are no longer there; goes on after the word "entries".
pub(super) fn folded(base: &Base) -> String {
    let (first, number, entry) = (base.first_entry(), base.number(), base.entry_number());
    format!("before {first} are folded into base {number}, as of entry {entry}")
}

pub(super) fn failed(error: JournalError) -> Failure {
    Failure::new(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::cli::init;
    use crate::journal::{Changes, CheckpointKind, Elements, Journal, JournalSetup, OutcomeEntry};
    use crate::stdx::random::Entropy;
    use crate::vocab::{Outcome, Refusal, SettlementWindow, ShardId, TransactionId};

    /// A directory as `init` makes it, with a journal of a few entries.
    fn written(directory: &Path) -> Config {
        let any = "127.0.0.1:0".parse().unwrap();
        let issuer = "127.0.0.1:1".parse().unwrap();
        let addresses =
            init::Addresses { acquirer: any, issuer_1: issuer, issuer_2: issuer, api: any, admin: any };
        init::write(directory, addresses, &mut Entropy::system()).unwrap();
        let file = directory.join(init::CONFIG_FILE);
        let text = fs::read_to_string(&file).unwrap();
        let small =
            text.replace("[journal]", "[journal]\nsegment_bytes = \"64 KiB\"\nqueue_bytes = \"1 MiB\"");
        let small = small.replace("256 MiB", "1 KiB");
        fs::write(&file, small).unwrap();
        let config = Config::load(&file).unwrap();
        let journal_directory = config.node.journal_directory();
        fs::create_dir(&journal_directory).unwrap();
        let disk = RealDisk::lock(File::open(&journal_directory).unwrap()).unwrap();
        let setup = JournalSetup {
            disk: Box::new(disk),
            keys: config.security.journal_keys(),
            config: config.journal.journal.clone(),
            at_least: EntryNumber(0),
            entropy: Entropy::system(),
        };
        let (journal, _) = Journal::start(setup, |_| {}).unwrap();
        for number in 0..20 {
            journal.appender().append(ShardId(0), Wall(number), &Body::Token(vec![7; 50])).unwrap();
        }
        journal.close().unwrap();
        config
    }

    #[test]
    fn a_whole_journal_is_verified_and_a_flipped_byte_is_named() {
        let kept = tempfile::tempdir().unwrap();
        let config = written(kept.path());
        verify(&config).unwrap();
        list(&config, 5, 3).unwrap();
        let segment = fs::read_dir(config.node.journal_directory()).unwrap().map(|it| it.unwrap().path());
        let segment = segment.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        let at = bytes.windows(1).rposition(|byte| byte != [0]).unwrap() / 2;
        bytes[at] ^= 1;
        fs::write(&segment, bytes).unwrap();
        let told = verify(&config).unwrap_err().to_string();
        assert!(told.contains("segment 1 is damaged at byte"), "{told}");
    }

    #[test]
    fn a_journal_that_ends_before_its_checkpoint_is_not_whole() {
        for kind in [CheckpointKind::Redb, CheckpointKind::Sled] {
            let kept = tempfile::tempdir().unwrap();
            let mut config = written(kept.path());
            config.journal.checkpoint = kind;
            let witness = |last| witnessed(&config, EntryNumber(last)).map_err(|failure| failure.to_string());
            assert!(witness(20).unwrap().starts_with("There is no checkpoint"));
            let (place, keys) = (config.node.checkpoint_directory(), config.security.journal_keys());
            fs::create_dir_all(&place).unwrap();
            let checkpoint = Checkpoint::open(kind, &place, &keys).unwrap().checkpoint;
            assert!(witness(20).unwrap().starts_with("The daemon runs"));
            checkpoint.write(Changes::default(), EntryNumber(20)).unwrap();
            drop(checkpoint);
            assert!(witness(20).unwrap().starts_with("The checkpoint goes with it"));
            verify(&config).unwrap();
            let told = witness(19).unwrap_err();
            assert!(told.contains("its last entry is number 19") && told.contains("up to 20"), "{told}");
        }
    }

    #[test]
    fn a_journal_in_use_is_left_alone() {
        let kept = tempfile::tempdir().unwrap();
        let config = written(kept.path());
        let _daemon = RealDisk::lock(File::open(config.node.journal_directory()).unwrap()).unwrap();
        let told = verify(&config).unwrap_err().to_string();
        assert!(told.contains("stop the daemon first"), "{told}");
    }

    #[test]
    fn an_entry_is_one_line() {
        let window = SettlementWindow { date: BusinessDate { year: 2025, month: 11, day: 22 }, sequence: 1 };
        let outcome = OutcomeEntry {
            transaction: TransactionId(3),
            outcome: Outcome::ApprovedPartly,
            refusal: Some(Refusal::PartialNotSupported),
            answer: Elements::default(),
            approved: None,
            reversal: None,
            advice: None,
            counter: None,
        };
        let outcome = TransactionEntry::Outcome(Box::new(outcome));
        for (body, told) in [
            (Body::Token(vec![0; 40]), "token event, 40 bytes"),
            (Body::CutOver(window), "cut-over to 2025-11-22/001"),
            (Body::WindowClosed(window), "window 2025-11-22/001 is closed"),
            (Body::Transaction(outcome), "outcome 3 approved-partly, partial-not-supported"),
        ] {
            let wall_time = Wall(1_763_800_000_123);
            let entry = Entry { number: EntryNumber(7), shard: ShardId(0), wall_time, body };
            assert_eq!(line(&entry), format!("         7 2025-11-22T08:26:40.123Z shard 0 {told}"));
        }
    }
}

//! The journal as a whole: crash at every byte, power lost after every operation, damage at every place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::crypto::SecurityModule;
use crate::stdx::clock::Wall;
use crate::vocab::ShardId;

const SEGMENT: u64 = 16 << 10;

/// A journal whose entry `n` always says `body(n)`.
struct Run {
    journal: Journal,
    writer: Writer,
    recovered: Recovered,
    next: u64,
}

fn keys() -> JournalKeys {
    SecurityModule::sample().unwrap().journal_keys()
}

fn setup(disk: &MemoryDisk, at_least: u64) -> JournalSetup {
    JournalSetup {
        disk: Box::new(disk.clone()),
        keys: keys(),
        config: JournalConfig { segment_bytes: SEGMENT, min_free_bytes: 0, ..JournalConfig::default() },
        at_least: EntryNumber(at_least),
        entropy: Entropy::seeded(disk.operations()),
    }
}

fn body(number: u64) -> Body {
    let length = usize::try_from(number * 37 % 300).unwrap();
    Body::Token([&number.to_le_bytes()[..], &vec![0xA5; length]].concat())
}

impl Run {
    fn try_open(disk: &MemoryDisk, at_least: u64) -> Result<Self, JournalError> {
        let (journal, writer, recovered) = Journal::stepped(setup(disk, at_least))?;
        Ok(Self { journal, writer, recovered, next: recovered.last.0 + 1 })
    }

    fn open(disk: &MemoryDisk) -> Self {
        Self::try_open(disk, 0).unwrap()
    }

    fn append(&mut self, count: u64) {
        let bodies: Vec<Body> = (self.next..self.next + count).map(body).collect();
        let first = self.journal.appender().append_batch(ShardId(1), Wall(9), &bodies).unwrap();
        assert_eq!(first.0, self.next);
        self.next += count;
    }

    /// Until nothing waits, or the disk fails; the durable watermark.
    fn write(&mut self) -> u64 {
        while let Some(Durability::Durable(number)) = self.writer.step() {
            assert_eq!(self.journal.appender().durable(), number);
        }
        self.journal.appender().durable().0
    }

    /// The entries from `from` to the watermark, each seen to be what was appended.
    fn read(&self, from: u64) -> Vec<u64> {
        self.journal.reader(EntryNumber(from)).unwrap().map(|entry| checked(entry.unwrap())).collect()
    }
}

fn checked(entry: Entry) -> u64 {
    assert_eq!(entry.body, body(entry.number.0));
    assert_eq!((entry.shard, entry.wall_time), (ShardId(1), Wall(9)));
    entry.number.0
}

fn segments(disk: &MemoryDisk) -> Vec<String> {
    disk.list().unwrap().into_iter().filter(|name| name.starts_with("segment-")).collect()
}

/// Groups of these sizes, one after the other, over several segments.
fn filled(groups: &[u64]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut run = Run::open(&disk);
    for group in groups {
        run.append(*group);
        run.write();
    }
    disk
}

#[test]
fn entries_come_back_from_any_number_on() {
    let disk = filled(&[1, 3, 40, 2, 60, 60, 1]);
    assert!(segments(&disk).len() > 2, "{:?}", segments(&disk));
    let run = Run::open(&disk);
    assert_eq!(run.recovered, Recovered { last: EntryNumber(167), torn: None });
    for from in 1..=168 {
        assert_eq!(run.read(from), (from..=167).collect::<Vec<_>>(), "from {from}");
    }
}

#[test]
fn a_reader_goes_on_as_entries_become_durable() {
    let disk = MemoryDisk::new();
    let mut run = Run::open(&disk);
    let mut reader = run.journal.reader(EntryNumber(1)).unwrap();
    let mut seen = 0;
    for group in (1..80).map(|n| n % 17 + 1) {
        run.append(group);
        assert!(reader.next().is_none(), "appended, not durable");
        let durable = run.write();
        let read = reader.by_ref().map(|entry| checked(entry.unwrap())).collect::<Vec<_>>();
        assert_eq!(read, (seen + 1..=durable).collect::<Vec<_>>());
        seen = durable;
        assert_eq!(reader.position(), EntryNumber(durable + 1));
    }
    assert!(segments(&disk).len() > 5);
}

#[test]
fn every_start_begins_a_segment_and_numbers_go_on() {
    let disk = MemoryDisk::new();
    for start in 1..=10_u64 {
        let mut run = Run::open(&disk);
        run.append(3);
        assert_eq!(run.write(), start * 3);
        assert_eq!(segments(&disk).len() as u64, start);
        assert_eq!(run.read(1).len() as u64, start * 3);
    }
}

#[test]
fn what_was_cut_off_by_a_crash_at_any_byte_was_never_acknowledged() {
    // Every prefix of the last segment, byte by byte, as a crash that stopped writing right there leaves it.
    let disk = MemoryDisk::new();
    let mut run = Run::open(&disk);
    let mut ends = Vec::new();
    for group in [1, 4, 1, 9, 2, 6] {
        run.append(group);
        let durable = run.write();
        let bytes = disk.bytes("segment-00000000000000000001").unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        ends.push((end, durable));
    }
    let whole = disk.bytes("segment-00000000000000000001").unwrap();
    let last = ends.last().unwrap().0;
    for cut in 512..=last {
        let crashed = disk.copy();
        let mut bytes = whole[..cut].to_vec();
        bytes.resize(whole.len(), 0);
        crashed.put("segment-00000000000000000001", bytes);
        let mut run = Run::open(&crashed);
        // Zeros at the end of a block look like the file's own: a block is whole from its last other byte on.
        let expected = ends.iter().rfind(|(end, _)| *end <= cut).map_or(0, |(_, durable)| *durable);
        assert_eq!(run.recovered.last.0, expected, "cut at {cut}");
        run.append(2);
        assert_eq!(run.write(), expected + 2);
        assert_eq!(run.read(1), (1..=expected + 2).collect::<Vec<_>>(), "cut at {cut}");
    }
}

#[test]
fn power_lost_after_any_operation_loses_nothing_durable() {
    // Two lives of a journal; in the second the power goes after each operation in turn, each time with several
    // choices of what of the unsynced bytes survives.
    let before = filled(&[5, 30, 12]);
    let mut states = 0;
    for operations in 0.. {
        let disk = before.copy();
        disk.fail_after(operations);
        let opened = Run::try_open(&disk, 47);
        let failed_at_open = opened.is_err();
        let mut durable = 47;
        let mut appended = 47;
        if let Ok(mut run) = opened {
            for group in [1, 20, 3, 50, 1, 1, 40] {
                if run.writer.step().is_some_and(|said| matches!(said, Durability::Failed(_))) {
                    break;
                }
                run.append(group);
                appended = run.next - 1;
                durable = run.write();
            }
            assert_eq!(run.journal.appender().durable().0, durable);
        }
        for seed in 0..60 {
            let survivor = disk.after_power_loss(seed);
            let mut run = Run::try_open(&survivor, durable)
                .unwrap_or_else(|error| panic!("operation {operations}, seed {seed}: {error}"));
            let last = run.recovered.last.0;
            assert!((durable..=appended).contains(&last), "operation {operations}, seed {seed}: {last}");
            run.append(1);
            run.write();
            assert_eq!(run.read(1), (1..=last + 1).collect::<Vec<_>>());
            states += 1;
        }
        if !failed_at_open && durable == 47 + 116 {
            break;
        }
    }
    assert!(states > 1_500, "{states} states");
}

#[test]
fn a_flipped_byte_before_the_last_block_is_refused_with_its_place() {
    let disk = filled(&[4, 4, 4]);
    let name = segments(&disk).remove(0);
    let bytes = disk.bytes(&name).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let starts: Vec<usize> = (512..end).step_by(512).filter(|at| bytes[*at..].starts_with(b"TSBK")).collect();
    assert_eq!(starts.len(), 3);
    for at in 0..starts[2] {
        let bad = disk.copy();
        assert!(bad.flip(&name, at, 0x10));
        let begin = starts.iter().rfind(|start| **start <= at).copied().unwrap_or(0) as u64;
        match Run::try_open(&bad, 0).map(|_| ()) {
            Err(JournalError::Damaged { segment: 1, offset, .. }) => assert_eq!(offset, begin, "byte {at}"),
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(bad.list().unwrap(), disk.list().unwrap(), "nothing was changed");
    }
}

#[test]
fn a_flipped_byte_in_a_closed_segment_is_found_by_reading() {
    let disk = filled(&[40, 40, 40, 40]);
    let name = segments(&disk).remove(0);
    let end = disk.bytes(&name).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    for at in (512..end).step_by(97) {
        let bad = disk.copy();
        bad.flip(&name, at, 1);
        let run = Run::open(&bad);
        let error = run.journal.reader(EntryNumber(1)).unwrap().find_map(Result::err);
        match error {
            Some(JournalError::Damaged { segment: 1, offset, .. }) => {
                assert!(offset <= at as u64, "byte {at}: {offset}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        let mut reader = run.journal.reader(EntryNumber(1)).unwrap();
        while reader.next().is_some_and(|entry| entry.is_ok()) {}
        assert!(reader.next().is_none(), "nothing comes after an error");
    }
}

#[test]
fn a_segment_missing_or_cut_short_is_damage() {
    let disk = filled(&[40, 40, 40, 40]);
    let names = segments(&disk);
    assert!(names.len() > 2);
    for (missing, name) in names.iter().enumerate().take(names.len() - 1) {
        let bad = disk.copy();
        bad.remove(name).unwrap();
        let opened = Run::try_open(&bad, 0).map(|_| ());
        assert!(
            matches!(opened, Err(JournalError::Damaged { segment, reason: Damage::Missing, .. }) if segment == missing as u64 + 1),
            "{opened:?}"
        );
    }
    let bad = disk.copy();
    bad.truncate(&names[0], 2048).unwrap();
    let run = Run::open(&bad);
    assert!(run.journal.reader(EntryNumber(1)).unwrap().any(|entry| entry.is_err()));
}

#[test]
fn a_tail_cut_below_what_is_known_to_be_durable_is_damage() {
    let disk = filled(&[4, 4]);
    let name = segments(&disk).remove(0);
    let cut = |disk: &MemoryDisk| {
        let bytes = disk.bytes(&name).unwrap();
        let last = (512..bytes.len()).step_by(512).rfind(|at| bytes[*at..].starts_with(b"TSBK")).unwrap();
        let mut shorter = bytes[..last].to_vec();
        shorter.resize(bytes.len(), 0);
        disk.put(&name, shorter);
    };
    let undecidable = disk.copy();
    cut(&undecidable);
    assert_eq!(Run::open(&undecidable).recovered.last, EntryNumber(4), "the last block, without a witness");
    for witness in [5, 8] {
        let bad = disk.copy();
        cut(&bad);
        let Err(error) = Run::try_open(&bad, witness) else { panic!("a checkpoint knew better") };
        let JournalError::Damaged { reason: Damage::Cut { last, at_least }, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((last.0, at_least.0), (4, witness));
    }
    let marked = disk.copy();
    let run = Run::open(&marked);
    run.writer.close().unwrap();
    assert!(Run::try_open(&marked.copy(), 0).is_ok());
    for name in segments(&marked).iter().skip(1) {
        marked.remove(name).unwrap();
    }
    cut(&marked);
    assert!(
        matches!(
            Run::try_open(&marked, 0).map(|_| ()),
            Err(JournalError::Damaged { reason: Damage::Cut { .. }, .. })
        ),
        "the mark of a clean end knew better"
    );
}

#[test]
fn another_journals_segments_and_keys_are_refused() {
    let disk = filled(&[4]);
    let mut other = setup(&disk, 0);
    other.config.stream = "other".to_owned();
    let opened = Journal::stepped(other).map(|_| ());
    assert!(matches!(opened, Err(JournalError::Damaged { reason: Damage::OtherStream, .. })), "{opened:?}");
    let master = crate::crypto::MasterKey::generate(&mut Entropy::seeded(4)).unwrap();
    let store = SecurityModule::create_store(
        &mut Entropy::seeded(3),
        &master,
        crate::crypto::StorePurpose::Development,
    )
    .unwrap();
    let foreign = SecurityModule::open(&store, &master, crate::crypto::KeyPolicy::TESTS).unwrap();
    let other = JournalSetup { keys: foreign.journal_keys(), ..setup(&disk, 0) };
    let opened = Journal::stepped(other).map(|_| ());
    assert!(matches!(opened, Err(JournalError::Damaged { reason: Damage::Chain, .. })), "{opened:?}");
}

#[test]
fn after_a_failed_sync_nothing_more_is_acknowledged() {
    let disk = MemoryDisk::new();
    let mut run = Run::open(&disk);
    run.append(3);
    assert_eq!(run.write(), 3);
    disk.fail_sync_after(0);
    run.append(2);
    assert!(matches!(run.writer.step(), Some(Durability::Failed(_))));
    disk.fail_sync_after(100);
    assert!(matches!(run.writer.step(), Some(Durability::Failed(_))), "not even when the disk works again");
    let appender = run.journal.appender();
    assert_eq!(appender.durable(), EntryNumber(3));
    assert!(!appender.has_room());
    let refused = appender.append(ShardId(1), Wall(9), &body(6));
    assert!(matches!(refused, Err(JournalError::Failed { .. })));
    assert!(run.writer.close().is_err(), "no mark of a good end");
}

#[test]
fn a_full_disk_refuses_new_requests_and_loses_nothing() {
    let disk = MemoryDisk::new();
    let mut run = Run::open(&disk);
    let appender = run.journal.appender();
    disk.set_capacity(Some(SEGMENT + 1000));
    let mut durable = 0;
    for _ in 0..200 {
        run.append(1);
        durable = run.write();
        if durable < run.next - 1 {
            break;
        }
    }
    let waiting = run.next - 1;
    assert!(durable < waiting, "the segment is full and there is no room for another");
    assert!(!appender.has_room());
    run.append(1);
    assert_eq!(run.write(), durable, "what waits stays");
    disk.set_capacity(None);
    assert_eq!(run.write(), waiting + 1, "and goes on without a restart");
    run.append(1);
    run.write();
    run.writer.step();
    assert!(appender.has_room());
    assert_eq!(run.read(1), (1..=waiting + 2).collect::<Vec<_>>());
}

#[test]
fn little_free_space_and_a_half_full_queue_leave_room_for_answers_only() {
    let disk = MemoryDisk::new();
    let mut config = setup(&disk, 0);
    config.config.min_free_bytes = 50_000;
    config.config.queue_bytes = 2 * config.config.entry_most();
    let most = config.config.queue_bytes;
    let (journal, mut writer, _) = Journal::stepped(config).unwrap();
    let appender = journal.appender();
    assert!(appender.has_room());
    disk.set_capacity(Some(40_000));
    writer.step();
    assert!(!appender.has_room(), "below the least free space");
    disk.set_capacity(None);
    writer.step();
    assert!(appender.has_room());
    let answer = Body::Token(vec![0; 1000]);
    let mut accepted = 0;
    while appender.append(ShardId(0), Wall(0), &answer).is_ok() {
        accepted += 1;
        assert_eq!(appender.has_room(), accepted * 1027 <= most / 2, "after {accepted}");
    }
    assert_eq!(accepted, most / 1027);
    assert!(matches!(appender.append(ShardId(0), Wall(0), &answer), Err(JournalError::Full)));
    let too_long = appender.append(ShardId(0), Wall(0), &Body::Token(vec![0; most]));
    assert!(matches!(too_long, Err(JournalError::TooLong { .. })));
    writer.step();
    assert!(appender.has_room());
}

#[test]
fn the_thread_makes_everything_durable_in_order_and_leaves_a_mark() {
    let directory = tempfile::tempdir().unwrap();
    let real = || {
        let disk = RealDisk::lock(std::fs::File::open(directory.path()).unwrap()).unwrap();
        JournalSetup { disk: Box::new(disk), ..setup(&MemoryDisk::new(), 0) }
    };
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let (journal, _) =
        Journal::start(real(), move |durability| heard.lock().unwrap().push(durability)).unwrap();
    let sum = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4)
        .map(|shard| {
            let (appender, sum) = (journal.appender(), Arc::clone(&sum));
            std::thread::spawn(move || {
                for n in 0..200_u64 {
                    let bodies = vec![Body::Operator(vec![shard; 50]); usize::try_from(n % 4).unwrap()];
                    appender.append_batch(ShardId(shard), Wall(n), &bodies).unwrap();
                    sum.fetch_add(n % 4, Ordering::Relaxed);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let total = sum.load(Ordering::Relaxed);
    assert!(matches!(
        RealDisk::lock(std::fs::File::open(directory.path()).unwrap()),
        Err(JournalError::InUse)
    ));
    journal.close().unwrap();
    let said = said.lock().unwrap();
    let numbers: Vec<u64> = said
        .iter()
        .map(|durability| match durability {
            Durability::Durable(number) => number.0,
            Durability::Failed(reason) => panic!("{reason}"),
        })
        .collect();
    assert!(numbers.is_sorted(), "the watermark only rises");
    assert_eq!(numbers.last(), Some(&total));
    let disk = RealDisk::lock(std::fs::File::open(directory.path()).unwrap()).unwrap();
    assert!(disk.list().unwrap().contains(&"mark".to_owned()));
    let (reader, recovered) = Reader::offline(Box::new(disk), keys(), "transactions").unwrap();
    assert_eq!(recovered, Recovered { last: EntryNumber(total), torn: None });
    let entries: Vec<Entry> = reader.map(Result::unwrap).collect();
    assert!(entries.iter().map(|entry| entry.number.0).eq(1..=total));
    for shard in 0..4 {
        let times: Vec<u64> =
            entries.iter().filter(|e| e.shard == ShardId(shard)).map(|e| e.wall_time.0).collect();
        assert!(times.is_sorted(), "each appender's entries keep their order");
    }
}

#[test]
fn the_thread_says_once_that_the_disk_failed() {
    let disk = MemoryDisk::new();
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let (journal, _) =
        Journal::start(setup(&disk, 0), move |durability| heard.lock().unwrap().push(durability)).unwrap();
    disk.fail_after(0);
    journal.appender().append(ShardId(0), Wall(0), &body(1)).unwrap();
    assert!(matches!(journal.close(), Err(JournalError::Failed { .. })));
    let said = said.lock().unwrap();
    assert!(matches!(said.as_slice(), [Durability::Failed(_)]), "{said:?}");
}

/// Remembers how many entries there were, and which was the last.
struct Tally;

impl Fold for Tally {
    fn fold(&mut self, entry: &Entry, pending: &mut Pending<'_>) -> Result<(), CheckpointError> {
        let place = entry.number.0 % 40;
        pending.put("tally", &place.to_be_bytes(), entry.number.0.to_be_bytes().to_vec())?;
        pending.put("last", &[], entry.number.0.to_be_bytes().to_vec())
    }
}

fn records(from: &dyn Records) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for part in ["last", "nothing", "tally"] {
        from.scan_part(part, &mut |key, value| {
            all.push((key.to_vec(), value.to_vec()));
            Ok(())
        })
        .unwrap();
    }
    all
}

/// Several segments, and a checkpoint of all of them.
fn folded(directory: &std::path::Path) -> (MemoryDisk, Arc<Checkpoint>) {
    let disk = filled(&[60; 10]);
    let checkpoint = Checkpoint::open(CheckpointKind::Redb, directory, &keys()).unwrap().checkpoint;
    let run = Run::open(&disk);
    let mut reader = run.journal.reader(EntryNumber(1)).unwrap();
    catch_up(&checkpoint, &mut reader, &mut [Box::new(Tally)]).unwrap();
    assert_eq!(checkpoint.entry_number(), EntryNumber(600));
    drop(run);
    (disk, Arc::new(checkpoint))
}

/// Writes a base when `fold_every` segments are new, `age` milliseconds after every entry was written. They stay for 5.
fn fold(run: &mut Run, checkpoint: &Arc<Checkpoint>, fold_every: u64, age: u64) {
    let config = BasesConfig { fold_every, retention: std::time::Duration::from_millis(5) };
    let mut bases = run.journal.bases(config, Arc::clone(checkpoint)).unwrap();
    bases.after_round(checkpoint, &mut [], Wall(9 + age));
}

#[test]
fn a_base_stands_for_segments_that_are_gone_whenever_the_power_goes() {
    let directory = tempfile::tempdir().unwrap();
    let (before, checkpoint) = folded(directory.path());
    let (mut whole, mut with_base) = (0, 0);
    for operations in 0.. {
        let disk = before.copy();
        let mut run = Run::open(&disk);
        let start = disk.operations();
        disk.fail_after(operations);
        fold(&mut run, &checkpoint, 4, 5);
        let done = disk.operations() - start <= operations;
        drop(run);
        let disk = disk.after_power_loss(operations);
        let again = Run::open(&disk);
        let first = again.journal.first_entry().0;
        assert_eq!(again.read(1), (first..=600).collect::<Vec<_>>(), "after {operations} operations");
        let (reader, _) = Reader::offline(Box::new(disk.copy()), keys(), "transactions").unwrap();
        match reader.base() {
            None => {
                assert_eq!(first, 1);
                whole += 1;
            }
            Some(base) => {
                base.verify().unwrap();
                assert_eq!((base.number(), base.entry_number()), (1, EntryNumber(600)));
                assert_eq!(records(base), records(checkpoint.as_ref()));
                assert!(first > 1);
                with_base += 1;
            }
        }
        if done {
            break;
        }
    }
    assert!(whole > 3 && with_base > 3, "{whole} {with_base}");
}

#[test]
fn a_checkpoint_is_filled_from_a_base_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, checkpoint) = folded(directory.path());
    let mut run = Run::open(&disk);
    fold(&mut run, &checkpoint, 1, 5);
    run.append(30);
    run.write();
    let mut run = Run::open(&disk);
    let config = BasesConfig { fold_every: 1, retention: std::time::Duration::ZERO };
    let bases = run.journal.bases(config, Arc::clone(&checkpoint)).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let filled = Checkpoint::open(CheckpointKind::Redb, fresh.path(), &keys()).unwrap().checkpoint;
    assert!(filled.is_blank());
    bases.fill(&filled).unwrap();
    assert!(!filled.is_blank());
    filled.verify().unwrap();
    assert_eq!(records(&filled), records(checkpoint.as_ref()));
    let mut reader = run.journal.reader(filled.entry_number().next()).unwrap();
    assert_eq!(catch_up(&filled, &mut reader, &mut [Box::new(Tally)]).unwrap(), EntryNumber(630));
    // The next base takes the first one's place, and the one after that removes it.
    let filled = Arc::new(filled);
    for number in 2..=4_u64 {
        run.append(60);
        run.write();
        run = Run::open(&disk);
        let mut reader = run.journal.reader(filled.entry_number().next()).unwrap();
        catch_up(&filled, &mut reader, &mut [Box::new(Tally)]).unwrap();
        fold(&mut run, &filled, 1, 5);
        let bases: Vec<_> =
            disk.list().unwrap().into_iter().filter(|name| name.starts_with("base-")).collect();
        assert_eq!(bases, [number - 1, number].map(|number| format!("base-{number:020}")));
    }
    assert_eq!(Run::open(&disk).read(1).last(), Some(&810));
}

#[test]
fn what_is_young_or_not_folded_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, checkpoint) = folded(directory.path());
    for (age, is_gone) in [(4, false), (5, true)] {
        let disk = disk.copy();
        let mut run = Run::open(&disk);
        fold(&mut run, &checkpoint, 1, age);
        drop(run);
        assert_eq!(Run::open(&disk).journal.first_entry() > EntryNumber(1), is_gone, "{age}");
    }
    let behind = tempfile::tempdir().unwrap();
    let behind = Checkpoint::open(CheckpointKind::Redb, behind.path(), &keys()).unwrap().checkpoint;
    let run = Run::open(&disk);
    let config = BasesConfig { fold_every: 1, retention: std::time::Duration::ZERO };
    let mut bases = run.journal.bases(config, Arc::new(behind)).unwrap();
    bases.after_round(&checkpoint, &mut [], Wall(1_000));
    assert_eq!(
        bases.newest().map(Base::first_entry),
        Some(EntryNumber(1)),
        "the history has nothing of it yet"
    );
}

#[test]
fn a_base_that_is_damaged_or_gone_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, checkpoint) = folded(directory.path());
    let mut run = Run::open(&disk);
    fold(&mut run, &checkpoint, 1, 5);
    drop(run);
    let base = "base-00000000000000000001";
    let length = disk.bytes(base).unwrap().len();
    for at in (0..length).step_by(61) {
        let bad = disk.copy();
        assert!(bad.flip(base, at, 4));
        match Reader::offline(Box::new(bad), keys(), "transactions") {
            Err(JournalError::BaseDamaged { offset: 0, .. }) => assert!(at < 4_096, "byte {at}"),
            Ok((reader, _)) => {
                let found = reader.base().unwrap().verify();
                assert!(matches!(found, Err(CheckpointError::Journal(_))), "byte {at}: {found:?}");
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    let cut = disk.copy();
    cut.truncate(base, length as u64 - 1).unwrap();
    assert!(matches!(Run::try_open(&cut, 0).map(|_| ()), Err(JournalError::BaseDamaged { .. })));
    let without = disk.copy();
    without.remove(base).unwrap();
    let missing = |found: Result<Run, _>| {
        matches!(found.map(|_| ()), Err(JournalError::Damaged { reason: Damage::Missing, .. }))
    };
    assert!(missing(Run::try_open(&without, 0)), "segments are gone, and nothing stands for them");
    let shortened = disk.copy();
    shortened.remove(&segments(&disk)[0]).unwrap();
    assert!(missing(Run::try_open(&shortened, 0)), "the base says with which segment the journal begins");
}

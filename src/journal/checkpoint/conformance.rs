//! What every kind of checkpoint must do, run on each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::crypto::{JournalKeys, SecurityModule};
use crate::journal::metrics::View;
use crate::journal::{
    Body, Durability, Entry, Journal, JournalConfig, JournalSetup, MemoryDisk, Reader, Writer,
};
use crate::stdx::clock::{SystemClock, Wall};
use crate::stdx::random::Entropy;
use crate::vocab::ShardId;

macro_rules! conformance {
    ($($name:ident)*) => {
        mod redb {
            $(#[test] fn $name() { super::$name(super::CheckpointKind::Redb); })*
        }
        mod sled {
            $(#[test] fn $name() { super::$name(super::CheckpointKind::Sled); })*
        }
    };
}

conformance! {
    records_are_found_by_part_and_key
    everything_is_there_after_reopening
    a_write_is_all_or_nothing_and_never_goes_back
    records_added_or_removed_behind_its_back_are_noticed
    packed_records_are_found_changed_and_shared
    a_damaged_pack_is_noticed_by_whoever_scans_its_part
    a_missing_or_empty_store_begins_anew
    one_in_use_is_not_taken_for_a_damaged_one
    flipped_bytes_never_give_a_wrong_value
    folding_lags_and_never_leads
    the_keeper_catches_up_and_stops
    what_is_young_is_folded_when_somebody_asks
    a_lost_checkpoint_is_folded_again_to_the_same_records
}

type Found = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn keys() -> JournalKeys {
    SecurityModule::sample().unwrap().journal_keys()
}

fn opened(kind: CheckpointKind, directory: &Path) -> OpenedCheckpoint {
    Checkpoint::open(kind, directory, &keys()).unwrap()
}

fn sound(kind: CheckpointKind, directory: &Path) -> Checkpoint {
    let OpenedCheckpoint { checkpoint, quarantined } = opened(kind, directory);
    assert!(quarantined.is_none(), "{quarantined:?}");
    checkpoint
}

fn put(checkpoint: &Checkpoint, records: &[(&str, &[u8], &[u8])], number: u64) {
    let mut changes = Changes::new();
    for (part, key, value) in records {
        changes.put(part, key, value.to_vec()).unwrap();
    }
    checkpoint.write(changes, EntryNumber(number)).unwrap();
}

fn records(checkpoint: &Checkpoint, parts: &[&str]) -> Found {
    let mut found = Found::new();
    for part in parts {
        checkpoint
            .scan(part, &[], |key, value| {
                found.insert(((*part).to_owned(), key.to_vec()), value.to_vec());
                Ok(())
            })
            .unwrap();
        let count = found.keys().filter(|(name, _)| name == part).count();
        assert_eq!(checkpoint.count(part), count as u64);
    }
    found
}

fn records_are_found_by_part_and_key(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = sound(kind, directory.path());
    assert_eq!(checkpoint.entry_number(), EntryNumber(0));
    assert_eq!(checkpoint.get("a", b"k").unwrap(), None);
    put(&checkpoint, &[("a", b"k", b"1"), ("a", b"kk", b""), ("ab", b"k", b"2"), ("b", b"", b"3")], 4);
    for (part, key, value) in [
        ("a", &b"k"[..], Some(&b"1"[..])),
        ("a", b"kk", Some(b"")),
        ("ab", b"k", Some(b"2")),
        ("b", b"", Some(b"3")),
        ("a", b"bk", None),
        ("b", b"k", None),
    ] {
        assert_eq!(checkpoint.get(part, key).unwrap().as_deref(), value, "{part} {key:?}");
    }
    let mut seen = Vec::new();
    let mut see = |prefix: &[u8]| {
        seen.clear();
        let note = |key: &[u8], _: &[u8]| {
            seen.push(key.to_vec());
            Ok(())
        };
        checkpoint.scan("a", prefix, note).unwrap();
        seen.len()
    };
    assert_eq!((see(b""), see(b"k"), see(b"kk"), see(b"x")), (2, 2, 1, 0));
    assert!(matches!(checkpoint.get("", b"k"), Err(CheckpointError::PartName)));
}

fn everything_is_there_after_reopening(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = Found::new();
    let mut random = fastrand::Rng::with_seed(1);
    for round in 1..=8 {
        let checkpoint = sound(kind, directory.path());
        assert_eq!(checkpoint.entry_number(), EntryNumber((round - 1) * 10));
        assert_eq!(records(&checkpoint, &["p", "q"]), expected);
        let mut changes = Changes::new();
        for _ in 0..200 {
            let part = if random.bool() { "p" } else { "q" };
            let key = vec![random.u8(0..100), 7];
            if random.u8(0..4) == 0 {
                changes.remove(part, &key).unwrap();
                expected.remove(&(part.to_owned(), key));
            } else {
                let value: Vec<u8> = (0..random.usize(0..50)).map(|_| random.u8(..)).collect();
                changes.put(part, &key, value.clone()).unwrap();
                expected.insert((part.to_owned(), key), value);
            }
        }
        checkpoint.write(changes, EntryNumber(round * 10)).unwrap();
        assert_eq!(records(&checkpoint, &["p", "q"]), expected);
        checkpoint.verify().unwrap();
    }
}

fn a_write_is_all_or_nothing_and_never_goes_back(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = sound(kind, directory.path());
    put(&checkpoint, &[("a", b"k", b"1")], 5);
    let mut changes = Changes::new();
    changes.put("a", b"k", b"2".to_vec()).unwrap();
    let refused = checkpoint.write(changes, EntryNumber(4));
    assert!(matches!(refused, Err(CheckpointError::Backwards { .. })));
    assert_eq!(checkpoint.get("a", b"k").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(checkpoint.entry_number(), EntryNumber(5));
    put(&checkpoint, &[], 9);
    assert_eq!(checkpoint.entry_number(), EntryNumber(9), "entries that change nothing count, too");
}

fn records_added_or_removed_behind_its_back_are_noticed(kind: CheckpointKind) {
    type Tamper = fn(&Checkpoint) -> Vec<super::Change>;
    let cases: [(&str, Tamper); 4] = [
        ("removed", |_| vec![(full_key("a", b"1").unwrap(), None)]),
        ("copied under another key", |checkpoint| {
            let record = checkpoint.store.get(&full_key("a", b"1").unwrap()).unwrap();
            vec![(full_key("a", b"3").unwrap(), record)]
        }),
        ("an older value put back", |checkpoint| {
            let old = checkpoint.sealed(&full_key("a", b"1").unwrap(), b"old").0;
            vec![(full_key("a", b"1").unwrap(), Some(old))]
        }),
        ("the state removed", |_| vec![(STATE_KEY.to_vec(), None)]),
    ];
    for (case, tamper) in cases {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = sound(kind, directory.path());
        put(&checkpoint, &[("a", b"1", b"x"), ("a", b"2", b"y")], 1);
        checkpoint.store.apply(tamper(&checkpoint)).unwrap();
        drop(checkpoint);
        let OpenedCheckpoint { checkpoint, quarantined } = opened(kind, directory.path());
        assert!(quarantined.is_some_and(|(aside, _)| aside.exists()), "{case}");
        assert_eq!(checkpoint.entry_number(), EntryNumber(0), "{case}");
        assert_eq!(checkpoint.count("a"), 0, "{case}");
    }
}

/// A part with so many packs that several threads read it.
const PACKED: u64 = 16 * 300;

fn scanned(checkpoint: &Checkpoint, threads: usize) -> Result<Vec<(u64, Vec<u8>)>, CheckpointError> {
    let mut found = vec![Vec::new(); threads.max(1)];
    let read = |key: &[u8], value: &[u8]| (u64::from_be_bytes(key.try_into().unwrap()), value.to_vec());
    match (threads, &mut found[..]) {
        (0, [found, ..]) => checkpoint.scan_part("n[]", &mut |key, value| {
            found.push(read(key, value));
            Ok(())
        })?,
        (_, found) => {
            let mut visitors: Vec<Visitor<'_>> = Vec::new();
            for found in found {
                visitors.push(Box::new(move |key, value| {
                    found.push(read(key, value));
                    Ok(())
                }));
            }
            checkpoint.share_part("n[]", &mut visitors)?;
        }
    }
    let mut found = found.concat();
    found.sort();
    Ok(found)
}

fn packed_records_are_found_changed_and_shared(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = BTreeMap::new();
    let mut random = fastrand::Rng::with_seed(3);
    for round in 1..=6 {
        let checkpoint = sound(kind, directory.path());
        let mut pending = Pending::on(&checkpoint);
        for _ in 0..2_000 {
            let number = random.u64(0..PACKED);
            if round == 6 || random.u8(0..4) == 0 {
                pending.remove("n[]", &number.to_be_bytes()).unwrap();
                expected.remove(&number);
            } else {
                let value: Vec<u8> = (0..random.usize(0..50)).map(|_| random.u8(..)).collect();
                pending.put("n[]", &number.to_be_bytes(), value.clone()).unwrap();
                expected.insert(number, value);
            }
            let found = pending.get("n[]", &number.to_be_bytes()).unwrap();
            assert_eq!(found.as_ref(), expected.get(&number));
        }
        pending.write(EntryNumber(round)).unwrap();
        checkpoint.verify().unwrap();
        let all: Vec<(u64, Vec<u8>)> = expected.clone().into_iter().collect();
        for threads in [0, 1, 3] {
            assert_eq!(scanned(&checkpoint, threads).unwrap(), all, "{threads} threads");
        }
        for number in 0..PACKED {
            let found = checkpoint.get("n[]", &number.to_be_bytes()).unwrap();
            assert_eq!(found.as_ref(), expected.get(&number), "{number}");
        }
    }
    let checkpoint = sound(kind, directory.path());
    let mut pending = Pending::on(&checkpoint);
    (0..PACKED).for_each(|number| pending.remove("n[]", &number.to_be_bytes()).unwrap());
    pending.write(EntryNumber(7)).unwrap();
    assert_eq!(checkpoint.count("n[]"), 0, "no empty pack is left");
}

fn a_damaged_pack_is_noticed_by_whoever_scans_its_part(kind: CheckpointKind) {
    type Tamper = fn(&Checkpoint, Vec<u8>) -> Vec<super::Change>;
    let cases: [(&str, Tamper); 4] = [
        ("removed", |_, pack| vec![(pack, None)]),
        ("altered", |checkpoint, pack| {
            let mut record = checkpoint.store.get(&pack).unwrap().unwrap();
            record[SEAL + 7] ^= 1;
            vec![(pack, Some(record))]
        }),
        ("an older one put back", |checkpoint, pack| {
            let old = checkpoint.sealed(&pack, b"").0;
            vec![(pack, Some(old))]
        }),
        ("one too many", |checkpoint, _| {
            let pack = packed::place_of(&full_key("n[]", &(PACKED * 2).to_be_bytes()).unwrap()).0;
            let new = checkpoint.sealed(&pack, b"").0;
            vec![(pack, Some(new))]
        }),
    ];
    for (case, tamper) in cases {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = sound(kind, directory.path());
        let mut changes = Changes::new();
        (0..PACKED).for_each(|number| changes.put("n[]", &number.to_be_bytes(), vec![1; 9]).unwrap());
        checkpoint.write(changes, EntryNumber(1)).unwrap();
        let pack = packed::place_of(&full_key("n[]", &(PACKED / 2).to_be_bytes()).unwrap()).0;
        checkpoint.store.apply(tamper(&checkpoint, pack)).unwrap();
        for threads in [0, 1, 3] {
            let found = scanned(&checkpoint, threads);
            assert!(matches!(found, Err(CheckpointError::Damaged(_))), "{case}, {threads} threads");
        }
        drop(checkpoint);
        let checkpoint = sound(kind, directory.path());
        let error = scanned(&checkpoint, 2).unwrap_err();
        drop(checkpoint);
        let OpenedCheckpoint { checkpoint, quarantined } =
            Checkpoint::set_aside(kind, directory.path(), &keys(), error).unwrap();
        assert!(quarantined.is_some_and(|(aside, _)| aside.exists()), "{case}");
        assert!(checkpoint.is_blank() && scanned(&checkpoint, 2).unwrap().is_empty(), "{case}");
    }
}

fn a_missing_or_empty_store_begins_anew(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    drop(sound(kind, directory.path()));
    let path = directory.path().join(format!("checkpoint.{}", kind.name()));
    assert!(path.exists());
    let remove = |path: &Path| if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    remove(&path).unwrap();
    assert_eq!(sound(kind, directory.path()).entry_number(), EntryNumber(0));
    remove(&path).unwrap();
    drop(kind.open(&path).unwrap());
    let reopened = opened(kind, directory.path());
    assert!(
        reopened.quarantined.is_some(),
        "a store without its state is what sled leaves after a power cut"
    );
}

fn one_in_use_is_not_taken_for_a_damaged_one(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    let first = sound(kind, directory.path());
    put(&first, &[("a", b"k", b"1")], 5);
    let second = Checkpoint::open(kind, directory.path(), &keys());
    assert!(matches!(second.map(|_| ()), Err(CheckpointError::InUse)));
    drop(first);
    assert_eq!(sound(kind, directory.path()).entry_number(), EntryNumber(5));
}

fn files_under(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(path).unwrap().flat_map(|found| files_under(&found.unwrap().path())).collect();
    files.sort();
    files
}

fn flipped_bytes_never_give_a_wrong_value(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = sound(kind, directory.path());
    let mut changes = Changes::new();
    for number in 0..400_u32 {
        changes.put("a", &number.to_be_bytes(), vec![7; 80]).unwrap();
    }
    checkpoint.write(changes, EntryNumber(400)).unwrap();
    let expected = records(&checkpoint, &["a"]);
    drop(checkpoint);
    let path = directory.path().join(format!("checkpoint.{}", kind.name()));
    let originals: Vec<(PathBuf, Vec<u8>)> =
        files_under(&path).into_iter().map(|file| (file.clone(), fs::read(&file).unwrap())).collect();
    let mut random = fastrand::Rng::with_seed(5);
    let mut rebuilt = 0;
    for round in 0..80 {
        let damaged = tempfile::tempdir().unwrap();
        let victim = random.usize(0..originals.len());
        for (at, (file, bytes)) in originals.iter().enumerate() {
            let to = damaged.path().join(file.strip_prefix(directory.path()).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            let mut bytes = bytes.clone();
            // Half of the flips hit where something stands: most of the file may be empty.
            let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            if at == victim && !used.is_empty() {
                let whole = random.bool();
                let place =
                    if whole { random.usize(0..bytes.len()) } else { used[random.usize(0..used.len())] };
                bytes[place] ^= 1 << random.u8(0..8);
            }
            fs::write(to, bytes).unwrap();
        }
        let OpenedCheckpoint { checkpoint, quarantined } = opened(kind, damaged.path());
        if quarantined.is_some() {
            rebuilt += 1;
            assert_eq!(checkpoint.entry_number(), EntryNumber(0), "round {round}");
        } else if checkpoint.entry_number() == EntryNumber(400) {
            assert_eq!(records(&checkpoint, &["a"]), expected, "round {round}");
        } else {
            // An older state that is whole is a lag, which the journal makes up for.
            assert_eq!(checkpoint.entry_number(), EntryNumber(0), "round {round}");
            assert!(records(&checkpoint, &["a"]).is_empty(), "round {round}");
        }
    }
    assert!(rebuilt > 0, "none of the flips was noticed");
}

/// Counts the entries of each shard, and remembers each entry.
struct Count;

impl Fold for Count {
    fn fold(&mut self, entry: &Entry, pending: &mut Pending<'_>) -> Result<(), CheckpointError> {
        let before = pending.get("count", &[entry.shard.0])?.map_or(0, |bytes| bytes[0]);
        pending.put("count", &[entry.shard.0], vec![before.wrapping_add(1)])?;
        pending.put("entries", &entry.number.0.to_be_bytes(), vec![entry.shard.0])?;
        if let Some(odd) = entry.number.0.checked_sub(10) {
            pending.remove("entries", &odd.to_be_bytes())?;
        }
        assert!(pending.keys("entries", &[], usize::MAX)?.len() <= 10);
        Ok(())
    }
}

fn journal(disk: &MemoryDisk, at_least: EntryNumber) -> Result<(Journal, Writer), JournalError> {
    let config = JournalConfig { segment_bytes: 8192, min_free_bytes: 0, ..JournalConfig::default() };
    let (keys, entropy) = (keys(), Entropy::seeded(1));
    let setup = JournalSetup { disk: Box::new(disk.clone()), keys, config, at_least, entropy };
    Journal::stepped(setup).map(|(journal, writer, _)| (journal, writer))
}

fn append(journal: &Journal, writer: &mut Writer, shards: &[u8]) {
    for shard in shards {
        let body = Body::Token(vec![1; 30]);
        journal.appender().append(ShardId(*shard), Wall(0), &body).unwrap();
    }
    while matches!(writer.step(), Some(Durability::Durable(_))) {}
}

fn folds() -> Vec<Box<dyn Fold>> {
    vec![Box::new(Count)]
}

fn keeping(checkpoint: &Arc<Checkpoint>, reader: Reader) -> Keeping {
    Keeping::new(Arc::clone(checkpoint), reader, folds(), None)
}

fn reader(journal: &Journal, checkpoint: &Checkpoint) -> Reader {
    journal.reader(checkpoint.entry_number().next()).unwrap()
}

fn folding_lags_and_never_leads(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = sound(kind, directory.path());
    let disk = MemoryDisk::new();
    let (journal_one, mut writer) = journal(&disk, EntryNumber(0)).unwrap();
    append(&journal_one, &mut writer, &[1, 1, 2]);
    journal_one.appender().append(ShardId(3), Wall(0), &Body::Token(vec![])).unwrap();
    let mut from = reader(&journal_one, &checkpoint);
    assert_eq!(
        catch_up(&checkpoint, &mut from, &mut folds()).unwrap(),
        EntryNumber(3),
        "not what only waits"
    );
    assert_eq!(checkpoint.get("count", &[1]).unwrap(), Some(vec![2]));
    assert_eq!(checkpoint.get("count", &[3]).unwrap(), None);
    while writer.step().is_some() {}
    assert_eq!(catch_up(&checkpoint, &mut from, &mut folds()).unwrap(), EntryNumber(4));
    // A checkpoint that is ahead of its journal shows that the journal was cut.
    let older = MemoryDisk::new();
    let (journal_two, mut writer) = journal(&older, EntryNumber(0)).unwrap();
    append(&journal_two, &mut writer, &[1]);
    drop((journal_two, writer));
    let refused = journal(&older, checkpoint.entry_number());
    assert!(matches!(refused.map(|_| ()), Err(JournalError::Damaged { .. })));
}

fn the_keeper_catches_up_and_stops(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Arc::new(sound(kind, directory.path()));
    let disk = MemoryDisk::new();
    let (journal, mut writer) = journal(&disk, EntryNumber(0)).unwrap();
    append(&journal, &mut writer, &[1; 100]);
    let from = reader(&journal, &checkpoint);
    let pace = Pace { every: Duration::from_millis(1), behind: Duration::ZERO };
    let keeper = CheckpointKeeper::start(keeping(&checkpoint, from), pace, View::default()).unwrap();
    append(&journal, &mut writer, &[2; 100]);
    assert!(!keeper.has_failed());
    assert_eq!(keeper.stop().unwrap(), EntryNumber(200));
    assert_eq!(checkpoint.get("count", &[2]).unwrap(), Some(vec![100]));
    assert_eq!(checkpoint.count("entries"), 10);
    assert!(disk.flip("segment-00000000000000000001", 600, 1));
    let broken = journal.reader(EntryNumber(1)).unwrap();
    let keeper = CheckpointKeeper::start(keeping(&checkpoint, broken), pace, View::default()).unwrap();
    assert!(matches!(keeper.stop(), Err(CheckpointError::Journal(_))));
}

fn what_is_young_is_folded_when_somebody_asks(kind: CheckpointKind) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Arc::new(sound(kind, directory.path()));
    let disk = MemoryDisk::new();
    let (journal, mut writer) = journal(&disk, EntryNumber(0)).unwrap();
    append(&journal, &mut writer, &[1; 100]);
    let tomorrow = SystemClock::start().now().wall.plus(Duration::from_secs(86_400));
    journal.appender().append(ShardId(2), tomorrow, &Body::Token(vec![1; 30])).unwrap();
    append(&journal, &mut writer, &[3; 10]);
    let keep = |from| {
        let pace = Pace { every: Duration::from_secs(3_600), behind: Duration::from_secs(60) };
        CheckpointKeeper::start(keeping(&checkpoint, from), pace, View::default()).unwrap()
    };
    let keeper = keep(reader(&journal, &checkpoint));
    assert_eq!(keeper.stop().unwrap(), EntryNumber(100), "up to the first young one");
    let keeper = keep(reader(&journal, &checkpoint));
    assert!(keeper.catch_up().wait(Duration::from_secs(600)));
    assert_eq!(checkpoint.entry_number(), EntryNumber(111));
    assert_eq!(keeper.stop().unwrap(), EntryNumber(111));
}

fn a_lost_checkpoint_is_folded_again_to_the_same_records(kind: CheckpointKind) {
    let disk = MemoryDisk::new();
    let (journal, mut writer) = journal(&disk, EntryNumber(0)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = sound(kind, directory.path());
    let mut from = reader(&journal, &checkpoint);
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..20 {
        let shards: Vec<u8> = (0..random.usize(0..30)).map(|_| random.u8(0..5)).collect();
        append(&journal, &mut writer, &shards);
        catch_up(&checkpoint, &mut from, &mut folds()).unwrap();
    }
    let fresh = tempfile::tempdir().unwrap();
    let again = sound(kind, fresh.path());
    catch_up(&again, &mut reader(&journal, &again), &mut folds()).unwrap();
    assert_eq!(again.entry_number(), checkpoint.entry_number());
    let parts = ["count", "entries"];
    assert_eq!(records(&again, &parts), records(&checkpoint, &parts));
    assert_eq!(*again.lock(), *checkpoint.lock(), "counts and sums");
}

//! A vault restored from a checkpoint at any entry, and replayed from there, is the vault that never went down.

use super::idv::{receivers, telling, waiting};
use super::model::snapshot;
use super::service::{request_entry, setup};
use super::*;
use crate::crypto::SecurityModule;
use crate::journal::{
    Body, Changes, Checkpoint, CheckpointError, CheckpointKind, Entry, EntryNumber, Fold, Journal,
    MemoryDisk, MemoryStore, catch_up,
};
use crate::vocab::{Refusal, ShardId, YearMonth};

/// A log with everything in it: tokens, moves, one that changes nothing, counters.
fn eventful() -> (Bench, Vec<Entry>) {
    let mut bench = Bench::new();
    let mut tokens = Vec::new();
    for (id, requestor) in [(0, FIRST), (1, SECOND), (2, FIRST)] {
        tokens.push(bench.provision(wanted(requestor, &format!("p{id}"), b"4761739001010119")).unwrap());
        bench.now.wall.0 += 1_000;
    }
    let by = Suspender::Cardholder;
    for (id, asked) in
        [Move::Suspend(by), Move::Suspend(by), Move::Resume(by), Move::Unlink].into_iter().enumerate()
    {
        bench.now.wall.0 += 1_000;
        bench.move_to(FIRST, &format!("m{id}"), tokens[0].reference, asked).unwrap();
    }
    let mut entries = token_entries(&bench);
    for atc in 1..=12 {
        let mut out = Vec::new();
        bench.tsp.detokenizer().detokenize_batch(bench.now, &[tap(&tokens[1], atc)], &mut out);
        let mut request = request_entry(&tokens[1], &out.remove(0).unwrap());
        request.number = EntryNumber(entries.len() as u64 + 1);
        entries.push(request);
    }
    (bench, entries)
}

pub(super) fn token_entries(bench: &Bench) -> Vec<Entry> {
    let entry = |(at, (wall_time, bytes)): (usize, &(Wall, Vec<u8>))| Entry {
        number: EntryNumber(at as u64 + 1),
        shard: ShardId(0),
        wall_time: *wall_time,
        body: Body::Token(bytes.clone()),
    };
    bench.log.iter().enumerate().map(entry).collect()
}

/// The checkpoint of a journal that has these entries.
pub(super) fn folded(
    config: &TspConfig,
    entries: &[Entry],
    kind: CheckpointKind,
) -> (tempfile::TempDir, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let keys = SecurityModule::sample().unwrap().journal_keys();
    let checkpoint = Checkpoint::open(kind, directory.path(), &keys).unwrap().checkpoint;
    let (journal, mut writer, _) = Journal::stepped(setup(&MemoryDisk::new())).unwrap();
    let mut reader = journal.reader(EntryNumber(1)).unwrap();
    let mut folds: Vec<Box<dyn Fold>> = vec![Box::new(TspFold::new(config))];
    for entry in entries {
        journal.appender().append(entry.shard, entry.wall_time, &entry.body).unwrap();
        while writer.step().is_some() {}
        catch_up(&checkpoint, &mut reader, &mut folds).unwrap();
    }
    assert_eq!(checkpoint.entry_number(), EntryNumber(entries.len() as u64));
    (directory, checkpoint)
}

pub(super) fn restored(bench: &Bench, entries: &[Entry], kept: usize, kind: CheckpointKind) -> Tsp {
    let (_directory, checkpoint) = folded(&bench.config, &entries[..kept], kind);
    let mut tsp = empty(&bench.config);
    tsp.restore(&checkpoint).unwrap();
    entries[kept..].iter().for_each(|entry| tsp.replay(entry).unwrap());
    tsp
}

/// A receiver said that it heard up to an event, and after that, late, that it heard up to an older one: after a start
/// from any checkpoint it is told no more of what it has heard than before it (seed 5780 of the simulation).
#[test]
fn an_older_word_of_a_receiver_that_comes_late_takes_nothing_back() {
    let mut bench = telling();
    let token = bench.yellow("p");
    bench.move_to(FIRST, "u", token.reference, Move::Unlink).unwrap();
    let of_both: Vec<Vec<u64>> =
        waiting(&bench.tsp).iter().map(|told| told.iter().map(|it| it.sequence).collect()).collect();
    for (receiver, heard) in receivers().into_iter().zip(of_both) {
        let [issued, ended] = heard[..] else { panic!("two changes: {heard:?}") };
        for up_to in [ended, issued] {
            let call = bench.call();
            bench.apply(Command::Notified { call, receiver, up_to });
            bench.sync();
        }
    }
    assert_eq!(waiting(&bench.tsp), [vec![], vec![]]);
    let entries = token_entries(&bench);
    for kind in CheckpointKind::ALL {
        for kept in 0..=entries.len() {
            let tsp = restored(&bench, &entries, kept, kind);
            assert_eq!(waiting(&tsp), [vec![], vec![]], "{kind:?} of {kept} entries");
        }
    }
}

#[test]
fn restore_and_replay_from_every_entry_come_to_the_same() {
    let (mut bench, entries) = eventful();
    let never_down = snapshot(&bench.tsp);
    let unlinked = never_down.0[0].clone();
    assert_eq!(unlinked.lifecycle.status, TokenStatus::Deactivated);
    for kind in CheckpointKind::ALL {
        for kept in 0..=entries.len() {
            bench.tsp = restored(&bench, &entries, kept, kind);
            assert_eq!(snapshot(&bench.tsp), never_down, "{kept}");
            let token = TokenView::of(&never_down.0[1], YearMonth::of(TODAY));
            let mut out = Vec::new();
            let taps: Vec<DetokenizeRequest> = (1..=13).map(|atc| tap(&token, atc)).collect();
            bench.tsp.detokenizer().detokenize_batch(bench.now, &taps, &mut out);
            let used = |answer: &Result<Detokenized, Refusal>| match answer {
                Err(refusal) => matches!(refusal, Refusal::CryptogramReplayed | Refusal::CounterOutOfRange),
                Ok(_) => false,
            };
            assert_eq!(out.iter().map(used).collect::<Vec<_>>(), [vec![true; 12], vec![false]].concat());
        }
    }
}

#[test]
fn a_start_notices_damage_in_any_record() {
    let (bench, entries) = eventful();
    let keys = SecurityModule::sample().unwrap().journal_keys();
    let (journal, mut writer, _) = Journal::stepped(setup(&MemoryDisk::new())).unwrap();
    for entry in &entries {
        journal.appender().append(entry.shard, entry.wall_time, &entry.body).unwrap();
    }
    while writer.step().is_some() {}
    let store = MemoryStore::new();
    let checkpoint = Checkpoint::in_memory(&store, &keys).unwrap();
    let mut folds: Vec<Box<dyn Fold>> = vec![Box::new(TspFold::new(&bench.config))];
    catch_up(&checkpoint, &mut journal.reader(EntryNumber(1)).unwrap(), &mut folds).unwrap();
    assert!(store.len() > 5, "{}", store.len());
    for record in 0..store.len() {
        let bad = store.copy();
        assert!(bad.flip(record));
        let read = Checkpoint::in_memory(&bad, &keys).map_err(TspError::Store);
        let read = read.and_then(|checkpoint| empty(&bench.config).restore(&checkpoint));
        assert!(matches!(read, Err(TspError::Store(CheckpointError::Damaged(_)))), "{record}: {read:?}");
    }
}

#[test]
fn the_oldest_requests_are_forgotten_in_the_checkpoint_too() {
    let mut bench = Bench::with(|config| config.limits.remembered_requests = 8);
    for id in 0..20 {
        bench.provision(wanted(FIRST, &format!("p{id}"), b"4761739001010119")).unwrap();
    }
    let entries = token_entries(&bench);
    let (_directory, checkpoint) = folded(&bench.config, &entries, CheckpointKind::Redb);
    assert_eq!(checkpoint.count("token-request[]"), 1);
    let mut tsp = empty(&bench.config);
    tsp.restore(&checkpoint).unwrap();
    assert_eq!(snapshot(&tsp), snapshot(&bench.tsp));
}

#[test]
fn a_checkpoint_of_another_configuration_is_refused() {
    let (bench, entries) = eventful();
    let (_directory, checkpoint) = folded(&bench.config, &entries, CheckpointKind::Redb);
    let mut other = bench.config.clone();
    other.token_ranges[0].length = 15;
    let refused = empty(&other).restore(&checkpoint);
    assert!(matches!(refused, Err(TspError::Checkpoint { part: "token[]", .. })), "{refused:?}");
}

/// So many that several threads read them.
const MANY: u64 = 5_000;

fn one_of_many(number: u64) -> VaultRecord {
    let body = format!("489537{number:09}");
    let check = crate::vocab::luhn_check_digit(body.as_bytes()).unwrap();
    let mut record = super::super::layout::tests::record(number, &[body.as_bytes(), &[check]].concat());
    record.reference = TokenReferenceId::from_bytes((u128::from(number) + 1).to_le_bytes());
    // Three tokens a card, and some on a device that others are on.
    record.blind_index = (u128::from(number / 3) << 40).to_be_bytes();
    record.device = number.is_multiple_of(7).then_some(1 + number % 11);
    record
}

/// A checkpoint of these records, each under its own number or another.
fn kept_as(records: &[(u64, VaultRecord)]) -> (tempfile::TempDir, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let keys = SecurityModule::sample().unwrap().journal_keys();
    let checkpoint = Checkpoint::open(CheckpointKind::Redb, directory.path(), &keys).unwrap().checkpoint;
    let mut changes = Changes::new();
    for (number, record) in records {
        let value = super::super::record_layout::encode_record(record);
        changes.put("token[]", &number.to_be_bytes(), value).unwrap();
    }
    checkpoint.write(changes, EntryNumber(1)).unwrap();
    (directory, checkpoint)
}

#[test]
fn many_threads_read_the_vault_that_one_would_and_no_other() {
    let config = Bench::with(|config| config.limits.capacity = 6_000).config;
    let records: Vec<(u64, VaultRecord)> = (0..MANY).map(|number| (number, one_of_many(number))).collect();
    let mut by_one = empty(&config);
    records.iter().for_each(|(_, record)| by_one.add(record).unwrap());
    let (_directory, checkpoint) = kept_as(&records);
    let mut tsp = empty(&config);
    tsp.restore(&checkpoint).unwrap();
    assert_eq!(snapshot(&tsp), snapshot(&by_one));
    assert_eq!((&tsp.issued, &tsp.live), (&by_one.issued, &by_one.live));
    for (number, record) in &records {
        assert_eq!(tsp.table.by_reference(record.reference), Some(*number));
        assert_eq!(tsp.table.by_token(&record.token), Some(*number));
        let chain = |tsp: &Tsp| tsp.table.of_pan(record.blind_index).map(|it| it.record).collect::<Vec<_>>();
        assert_eq!(chain(&tsp), chain(&by_one));
    }
    for device in 0..12 {
        let chain = |tsp: &Tsp| tsp.table.of_device(device).map(|it| it.record).collect::<Vec<_>>();
        assert_eq!(chain(&tsp), chain(&by_one));
    }
    type Harm = fn(&mut Vec<(u64, VaultRecord)>);
    let cases: [(&str, Harm); 5] = [
        ("a gap", |records| drop(records.remove(77))),
        ("a token twice", |records| records[4_000].1.token = records[9].1.token),
        ("a reference twice", |records| records[4_000].1.reference = records[9].1.reference),
        ("another's number", |records| records[4_000].1.record = 9),
        ("no room", |records| records.push((6_000, one_of_many(6_000)))),
    ];
    for (case, harm) in cases {
        let mut records = records.clone();
        harm(&mut records);
        let (_directory, checkpoint) = kept_as(&records);
        let refused = empty(&config).restore(&checkpoint);
        assert!(matches!(refused, Err(TspError::Checkpoint { part: "token[]", .. })), "{case}: {refused:?}");
    }
}

#[test]
fn once_cards_are_sealed_anew_the_older_key_can_go() {
    let (bench, entries) = eventful();
    let [both, newer] = SecurityModule::sample_rotated().unwrap();
    for kind in CheckpointKind::ALL {
        let (_directory, checkpoint) = folded(&bench.config, &entries, kind);
        let paid = |keys: &SecurityModule| {
            let mut tsp = Tsp::new(bench.config.clone(), keys).unwrap();
            tsp.restore(&checkpoint).unwrap();
            let mut out = Vec::new();
            let token = TokenView::of(&tsp.table.record(1).unwrap(), YearMonth::of(TODAY));
            tsp.detokenizer().detokenize_batch(bench.now, &[tap(&token, 13)], &mut out);
            let paid = out.remove(0).map(|paid| paid.card);
            (snapshot(&tsp).0, paid)
        };
        let (before, card) = paid(&both);
        assert!(card.is_ok());
        assert_eq!(paid(&newer).1, Err(Refusal::VaultUnavailable), "nothing was sealed anew yet");
        let mut fold = TspFold::new(&bench.config).renewing(both.data_sealer(), Entropy::seeded(3));
        fold.renew(&checkpoint).unwrap();
        checkpoint.verify().unwrap();
        let (after, card_then) = paid(&newer);
        assert_eq!(card_then, card);
        for (before, mut after) in before.into_iter().zip(after.clone()) {
            assert_eq!(after.sealed.key_version(), 2);
            after.sealed = before.sealed;
            assert_eq!(after, before, "nothing else changed");
        }
        fold.renew(&checkpoint).unwrap();
        assert_eq!(paid(&newer).0, after, "once is enough");
    }
}

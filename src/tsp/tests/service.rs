//! The vault's thread: over a log that does as the test says, and over the real journal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::journal::{EntryNumber, Journal, JournalConfig, JournalSetup, MemoryDisk};
use crate::stdx::clock::{Clock, ManualClock};
use crate::vocab::ShardId;

const CREDIT: &[u8] = b"4761739001010119";

/// A log in memory that is durable when the test says so.
#[derive(Clone)]
struct TestLog {
    events: Arc<Mutex<Vec<Vec<u8>>>>,
    room: usize,
    /// Whether new tokens are taken on.
    open: Arc<AtomicBool>,
    watch: LogWatch,
}

impl TokenLog for TestLog {
    fn submit(&mut self, _: Wall, new: Vec<Vec<u8>>) -> Result<Vec<LogPosition>, LogRefusal> {
        let mut events = self.events.lock().unwrap();
        if events.len() + new.len() > self.room {
            return Err(LogRefusal::Full);
        }
        let first = events.len() as u64 + 1;
        let count = new.len() as u64;
        events.extend(new);
        Ok((first..first + count).map(LogPosition).collect())
    }

    fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    fn watch(&self) -> LogWatch {
        self.watch.clone()
    }
}

fn start(config: &TspConfig, room: usize) -> (TokenService, WriterThread, TestLog, LogNotifier, Detokenizer) {
    let tsp = empty(config);
    let detokenizer = tsp.detokenizer();
    let (notifier, watch) = log_watch();
    let log = TestLog { events: Arc::default(), room, open: Arc::new(AtomicBool::new(true)), watch };
    let clock = Clock::Manual(ManualClock::at(TODAY));
    let (service, thread) = TokenService::start(
        tsp,
        log.clone(),
        clock,
        Entropy::seeded(1),
        Ports::none(&SecurityModule::sample().unwrap()),
    )
    .unwrap();
    (service, thread, log, notifier, detokenizer)
}

/// Waits until the log has so many events.
async fn submitted(log: &TestLog, count: usize) {
    while log.events.lock().unwrap().len() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_waits_for_the_disk() {
    let (service, thread, log, notifier, detokenizer) = start(&config::sample(), 100);
    let asking = tokio::spawn({
        let service = service.clone();
        async move { service.provision(wanted(FIRST, "1", CREDIT)).await }
    });
    submitted(&log, 1).await;
    let reference = TokenReferenceId::from_bytes([0; 16]);
    let requestor = TokenRequestorId::parse(FIRST).unwrap();
    assert_eq!(
        service.get(Principal::Requestor(requestor), reference).await,
        Err(ProvisioningRefusal::UnknownToken)
    );
    assert!(!asking.is_finished(), "the writer goes on, and the answer still waits");
    notifier.durable(LogPosition(1));
    let token = asking.await.unwrap().unwrap();
    let mut out = Vec::new();
    detokenizer.detokenize_batch(Now { wall: TODAY, ..Now::default() }, &[tap(&token, 1)], &mut out);
    assert!(out[0].is_ok(), "applied before it was answered");
    drop(service);
    thread.join();
}

#[tokio::test]
async fn a_full_log_refuses_and_a_failed_one_stops() {
    let (service, thread, log, notifier, _) = start(&config::sample(), 1);
    let first = service.provision(wanted(FIRST, "1", CREDIT));
    let rest = async {
        submitted(&log, 1).await;
        let refused = service.provision(wanted(FIRST, "2", CREDIT)).await;
        assert_eq!(refused, Err(ProvisioningRefusal::Overloaded));
        notifier.failed();
    };
    let (first, ()) = tokio::join!(first, rest);
    assert_eq!(first, Err(ProvisioningRefusal::Unavailable), "nobody knows whether it is on disk");
    let after = service.provision(wanted(FIRST, "3", CREDIT)).await;
    assert_eq!(after, Err(ProvisioningRefusal::Unavailable));
    drop(service);
    thread.join();
}

#[tokio::test]
async fn a_disk_without_room_refuses_new_tokens_and_takes_changes_of_status() {
    let (service, thread, log, notifier, _) = start(&config::sample(), 100);
    let first = async {
        submitted(&log, 1).await;
        notifier.durable(LogPosition(1));
    };
    let (token, ()) = tokio::join!(service.provision(wanted(FIRST, "1", CREDIT)), first);
    log.open.store(false, Ordering::Relaxed);
    let refused = service.provision(wanted(FIRST, "2", CREDIT)).await;
    assert_eq!(refused, Err(ProvisioningRefusal::Overloaded));
    let asked = Move::Suspend(Suspender::TokenRequestor);
    let request =
        MoveRequest { asker: asker(FIRST, "3"), reference: token.unwrap().reference, asked, version: None };
    let second = async {
        submitted(&log, 2).await;
        notifier.durable(LogPosition(2));
    };
    let (suspended, ()) = tokio::join!(service.change(request), second);
    assert_eq!(suspended.unwrap().lifecycle.status, TokenStatus::Suspended);
    log.open.store(true, Ordering::Relaxed);
    let third = async {
        submitted(&log, 3).await;
        notifier.durable(LogPosition(3));
    };
    let (token, ()) = tokio::join!(service.provision(wanted(FIRST, "2", CREDIT)), third);
    assert!(token.is_ok(), "the same request, asked again: {token:?}");
    drop(service);
    thread.join();
}

#[tokio::test]
async fn calls_past_the_limit_are_refused_at_once() {
    let mut config = config::sample();
    config.limits.waiting_calls = 2;
    let (service, thread, log, notifier, _) = start(&config, 100);
    let asking: Vec<_> = (0..20)
        .map(|id| {
            let service = service.clone();
            tokio::spawn(async move { service.provision(wanted(FIRST, &id.to_string(), CREDIT)).await })
        })
        .collect();
    submitted(&log, 2).await;
    // Two wait for the disk and two in the channel; the writer takes no more before the disk answers.
    let probe = loop {
        let answer = service.provision(wanted(FIRST, "probe", CREDIT));
        let answer = tokio::select! {
            biased;
            answer = answer => Some(answer),
            () = tokio::task::yield_now() => None,
        };
        if answer.is_some() {
            break answer;
        }
    };
    assert_eq!(probe, Some(Err(ProvisioningRefusal::Overloaded)));
    let keep_up = async {
        loop {
            notifier.durable(LogPosition(log.events.lock().unwrap().len() as u64));
            tokio::task::yield_now().await;
        }
    };
    let all = async {
        let mut good = 0;
        for asking in asking {
            match asking.await.unwrap() {
                Ok(_) => good += 1,
                Err(refusal) => assert_eq!(refusal, ProvisioningRefusal::Overloaded),
            }
        }
        assert!((2..20).contains(&good), "{good}");
    };
    tokio::select! { () = all => (), () = keep_up => () }
    // The probes that did get in wait for a disk that will not answer any more.
    drop((service, notifier));
    thread.join();
}

pub(super) fn setup(disk: &MemoryDisk) -> JournalSetup {
    JournalSetup {
        disk: Box::new(disk.clone()),
        keys: crate::crypto::SecurityModule::sample().unwrap().journal_keys(),
        config: JournalConfig { segment_bytes: 1 << 20, min_free_bytes: 0, ..JournalConfig::default() },
        at_least: EntryNumber(0),
        entropy: Entropy::seeded(3),
    }
}

#[tokio::test]
async fn a_vault_on_the_journal_is_there_again_after_a_restart() {
    let disk = MemoryDisk::new();
    let clock = Clock::Manual(ManualClock::at(TODAY));
    let requestor = TokenRequestorId::parse(FIRST).unwrap();
    let mut told: Vec<TokenView> = Vec::new();
    for round in 0..3 {
        let (notifier, watch) = log_watch();
        let (journal, _) =
            Journal::start(setup(&disk), move |durability| notifier.journal(&durability)).unwrap();
        let mut tsp = empty(&config::sample());
        for entry in journal.reader(EntryNumber(1)).unwrap() {
            tsp.replay(&entry.unwrap()).unwrap();
        }
        assert_eq!(tsp.tokens(), told.len());
        let log = JournalLog::new(journal.appender(), ShardId(0), watch);
        let (service, thread) = TokenService::start(
            tsp,
            log,
            clock.clone(),
            Entropy::seeded(10 + round),
            Ports::none(&SecurityModule::sample().unwrap()),
        )
        .unwrap();
        for token in &mut told {
            assert_eq!(
                service.get(Principal::Requestor(requestor), token.reference).await.map(|seen| seen.token),
                Ok(*token)
            );
            let asker = asker(FIRST, &format!("{round}-{}", token.reference));
            let asked = Move::Suspend(Suspender::Cardholder);
            let request = MoveRequest { asker, reference: token.reference, asked, version: None };
            *token = service.change(request).await.unwrap();
        }
        told.push(service.provision(wanted(FIRST, &format!("p{round}"), CREDIT)).await.unwrap());
        drop(service);
        thread.join();
        journal.close().unwrap();
    }
}

#[test]
fn counters_come_back_from_the_requests_that_took_them() {
    let mut bench = Bench::new();
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let detokenizer = bench.tsp.detokenizer();
    let mut out = Vec::new();
    detokenizer.detokenize_batch(bench.now, &[tap(&token, 1), tap(&token, 2)], &mut out);
    let forwarded = out.remove(0).unwrap();
    let mut recovered = bench.recovered(bench.log.len());
    recovered.replay(&request_entry(&token, &forwarded)).unwrap();
    out.clear();
    let detokenizer = recovered.detokenizer();
    detokenizer.detokenize_batch(bench.now, &[tap(&token, 1), tap(&token, 2)], &mut out);
    assert_eq!(out[0].as_ref().map(|_| ()), Err(&crate::vocab::Refusal::CryptogramReplayed));
    assert!(out[1].is_ok(), "what was never journaled was never forwarded");
}

pub(super) fn request_entry(token: &TokenView, found: &Detokenized) -> crate::journal::Entry {
    use crate::journal::*;
    use crate::vocab::*;
    let mti = Mti::parse(b"0100").unwrap();
    let stan = Stan::new(1).unwrap();
    let sent_at = SentAt(1);
    let token = TokenRef {
        token: token.token,
        expiry: Some(token.expiry),
        requestor: token.requestor,
        assurance: token.assurance,
        par: token.par,
        last4: token.last4,
        record: found.record,
        mapping_version: found.mapping_version,
    };
    let request = RequestEntry {
        original: None,
        transaction: TransactionId(1),
        acquirer: AcquirerLeg { link: LinkId(1), mti, sent_at, stan },
        issuer: IssuerLeg { link: LinkId(2), mti, sent_at, stan, forwarder: None },
        elements: Elements::new(),
        card: CardRef { token: Some(token), sealed: found.sealed }.into(),
        verdicts: found.verdicts,
        counter: found.counter,
        window: SettlementWindow { date: BusinessDate::of(TODAY), sequence: 1 },
        moves_money: true,
        settles: true,
    };
    Entry {
        number: EntryNumber(9),
        shard: ShardId(0),
        wall_time: TODAY,
        body: Body::Transaction(TransactionEntry::Request(Box::new(request))),
    }
}

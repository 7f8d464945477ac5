//! Tokens provisioned through `TokenService` and a journal on the disk of the target folder, each answered once it is
//! durable: one at a time, and with 64 and 512 callers at once. The figure is the time for one token; HTTP is not in
//! it.

mod configuration;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokenswitch::config::Config;
use tokenswitch::journal::{EntryNumber, Journal, JournalConfig, JournalSetup, RealDisk};
use tokenswitch::stdx::clock::{Clock, SystemClock};
use tokenswitch::stdx::random::Entropy;
use tokenswitch::tsp::{
    Asker, JournalLog, Ports, ProvisionRequest, RequestId, TokenService, Tsp, WriterThread, log_watch,
};
use tokenswitch::vocab::{Expiry, Pan, ShardId, TokenRequestorId, luhn_check_digit};
use tokio::runtime::{Builder, Runtime};

/// Tokens after which a vault begins anew.
const CAPACITY: u32 = 2_000_000;

/// A vault that runs, its journal, and how many tokens were asked of it.
struct Vault {
    service: Option<TokenService>,
    thread: Option<WriterThread>,
    journal: Option<Journal>,
    asked: Arc<AtomicU64>,
    requestor: TokenRequestorId,
    _directory: TempDir,
}

impl Vault {
    fn start(config: &Config) -> Self {
        // Beside the program, and not where temporary files go: that is often memory.
        let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        let (notifier, watch) = log_watch();
        let setup = JournalSetup {
            disk: Box::new(RealDisk::lock(File::open(directory.path()).unwrap()).unwrap()),
            keys: config.security.journal_keys(),
            config: JournalConfig { min_free_bytes: 0, ..JournalConfig::default() },
            at_least: EntryNumber(0),
            entropy: Entropy::system(),
        };
        let (journal, _) = Journal::start(setup, move |durability| notifier.journal(&durability)).unwrap();
        let mut tsp_config = config.tsp.clone();
        tsp_config.limits.capacity = CAPACITY;
        // No issuer is there to be asked, and nobody to be told.
        tsp_config.approvals.clear();
        tsp_config.receivers.clear();
        let requestor = tsp_config.requestors[0].id;
        let tsp = Tsp::new(tsp_config, &config.security).unwrap();
        let log = JournalLog::new(journal.appender(), ShardId::default(), watch);
        let ports = Ports::none(&config.security);
        let (service, thread) =
            TokenService::start(tsp, log, Clock::system(), Entropy::system(), ports).unwrap();
        Self {
            service: Some(service),
            thread: Some(thread),
            journal: Some(journal),
            asked: Arc::default(),
            requestor,
            _directory: directory,
        }
    }

    fn has_room(&self, more: u64) -> bool {
        self.asked.load(Ordering::Relaxed) + more < u64::from(CAPACITY)
    }

    /// Has so many tokens provisioned by so many callers at once.
    fn provision(&self, runtime: &Runtime, count: u64, callers: u64, bin: &[u8]) {
        let first = self.asked.fetch_add(count, Ordering::Relaxed);
        let next = Arc::new(AtomicU64::new(first));
        let end = first + count;
        let service = self.service.as_ref().unwrap();
        runtime.block_on(async {
            let callers: Vec<_> = (0..callers.min(count))
                .map(|_| {
                    let (service, next, bin) = (service.clone(), Arc::clone(&next), bin.to_vec());
                    let requestor = self.requestor;
                    tokio::spawn(async move {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= end {
                                return;
                            }
                            service.provision(request(requestor, number, &bin)).await.unwrap();
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.await.unwrap();
            }
        });
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.service.take();
        self.thread.take().unwrap().join();
        self.journal.take().unwrap().close().unwrap();
    }
}

/// A card of its own for each.
fn request(requestor: TokenRequestorId, number: u64, bin: &[u8]) -> ProvisionRequest {
    let width = 15 - bin.len();
    let mut digits = [bin, format!("{number:0width$}").as_bytes()].concat();
    digits.push(luhn_check_digit(&digits).unwrap());
    let asker = Asker::requestor(requestor, RequestId::parse(format!("r{number}").as_bytes()).unwrap());
    ProvisionRequest::of(asker, Pan::parse(&digits).unwrap(), Expiry::parse(b"4912").unwrap())
}

fn provisioning(c: &mut Criterion) {
    let (_directory, config) = configuration::made();
    let bin = config.tsp.pan_ranges[0].bin.as_bytes().to_vec();
    let runtime = Builder::new_current_thread().build().unwrap();
    let clock = SystemClock::start();
    let mut group = c.benchmark_group("provisioning");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(4));
    for callers in [1, 64, 512] {
        let mut vault = Vault::start(&config);
        group.bench_function(format!("durable_{callers}_at_once"), |b| {
            b.iter_custom(|count| {
                if !vault.has_room(count) {
                    vault = Vault::start(&config);
                }
                let start = clock.now().moment;
                vault.provision(&runtime, count, callers, &bin);
                clock.now().moment.since(start)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, provisioning);
criterion_main!(benches);

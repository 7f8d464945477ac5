//! Ten seconds of load: tokens tapped as fast as answers come, a progress bar, and a summary that adds up.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::LoadPlan;
use super::page::Page;
use super::stage::Stage;
use crate::cli::Failure;
use crate::cli::simulate::Shared;
use crate::sim::{AcquirerSimulator, IssuerSimulator, Load, Pace, PresentedCard, Record, reconcile};
use crate::vocab::{Currency, Mti, PosEntryMode, ProcessingCode};

/// Calls of the API under way at once while tokens are made.
const AT_ONCE: usize = 64;
/// Where the simulators run: the thread that the program began with.
const MAIN_THREAD: &str = "tokenswitch";
/// Syncs of the probe that tells how fast this disk is.
const PROBES: usize = 50;

pub(super) async fn run(
    stage: &mut Stage,
    plan: LoadPlan,
    tokens: usize,
    page: &Page,
) -> Result<(), Failure> {
    let connections = stage.connections();
    page.step(
        8,
        &format!("Load: {tokens} tokens, {connections} connections, {} unanswered on each", plan.outstanding),
    );
    let cards = provision_all(stage, tokens, page).await?;
    let sync = sync_time(stage)?;
    let acquirer = stage.connect_acquirer(cards, connections).await?;
    let before = Cpu::of_threads();
    drive(stage, &acquirer, plan, page).await?;
    let spent = Cpu::of_threads().since(&before);
    stage.until("the last answers", || acquirer.look(AcquirerSimulator::load_is_over)).await?;
    stage.until("the queues to empty", || stage.app.status().picture().stored == 0).await?;
    summary(stage, &acquirer, &spent, sync, page);
    Ok(())
}

/// Tokens for the load, many calls at once.
async fn provision_all(stage: &mut Stage, tokens: usize, page: &Page) -> Result<Vec<PresentedCard>, Failure> {
    let bar = bar(page, u64::try_from(tokens).unwrap_or_default(), "tokens");
    let ids: Vec<(usize, String)> = (1..=tokens).map(|number| (number, stage.request_id())).collect();
    let start = stage.clock.now().moment;
    let mut cards = Vec::with_capacity(tokens);
    for batch in ids.chunks(AT_ONCE) {
        let calls = batch.iter().map(|(number, id)| stage.present(*number, id));
        for card in futures_of(calls).await {
            cards.push(card?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let elapsed = stage.clock.now().moment.since(start);
    page.say(&format!(
        "{tokens} tokens provisioned over HTTP, each on disk before its answer, in {elapsed:.1?}."
    ));
    Ok(cards)
}

/// All of them at once; results in order.
async fn futures_of<T>(calls: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut calls: Vec<_> = calls.map(|call| (Box::pin(call), None)).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (call, result) in &mut calls {
            if result.is_none() {
                match call.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    calls.into_iter().filter_map(|(_, result)| result).collect()
}

async fn drive(
    stage: &Stage,
    acquirer: &Shared<AcquirerSimulator>,
    plan: LoadPlan,
    page: &Page,
) -> Result<(), Failure> {
    let currency = Currency::from_letters("EUR").ok_or_else(|| Failure::new("no euro"))?;
    let load = Load {
        pace: Pace::Closed { outstanding: plan.outstanding },
        total: None,
        mti: Mti::parse(b"0200")?,
        processing: ProcessingCode::parse(b"000000")?,
        entry_mode: PosEntryMode::parse(b"071")?,
        // Cents of 00 only: the demo's silent amounts end in 13.
        amounts: 100..=100,
        currency,
    };
    let bar = bar(page, plan.lasts.as_secs(), "s");
    let start = stage.clock.now().moment;
    acquirer
        .with(|brain, now, out| {
            brain.start_load(load, now);
            brain.next(now, out)
        })
        .map_err(|error| Failure::new(error.to_string()))?;
    loop {
        let elapsed = stage.clock.now().moment.since(start);
        bar.set_position(elapsed.as_secs());
        bar.set_message(format!("{} a second", acquirer.look(|brain| brain.report().rate())));
        if elapsed >= plan.lasts {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    acquirer.with(|brain, _, _| brain.stop_load());
    bar.finish_and_clear();
    Ok(())
}

fn bar(page: &Page, length: u64, unit: &str) -> ProgressBar {
    let bar = if page.has_colour() { ProgressBar::new(length) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template(&format!("   {{bar:40.cyan}} {{pos}}/{{len}} {unit}  {{msg}}"));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn summary(stage: &Stage, acquirer: &Shared<AcquirerSimulator>, spent: &Cpu, sync: Duration, page: &Page) {
    let (rate, p50, p99, most, answered, mismatches) = acquirer.look(|brain| {
        let report = brain.report();
        let answered: u64 = report.codes().iter().map(|(_, count)| count).sum();
        let at = |quantile| report.latency_at(quantile);
        (report.rate(), at(0.5), at(0.99), report.latency_most(), answered, report.mismatches())
    });
    let codes = acquirer.look(|brain| {
        let codes = brain.report().codes().iter();
        codes.map(|(code, count)| format!("{code}: {count}")).collect::<Vec<_>>().join(", ")
    });
    page.line("");
    page.line(&format!("   {:<26}{rate}", "transactions a second"));
    page.line(&format!("   {:<26}p50 {p50:.1?}, p99 {p99:.1?}, longest {most:.1?}", "answered within"));
    let [daemon, peers] = spent.per_transaction(answered);
    page.line(&format!("   {:<26}{daemon}", "CPU per transaction"));
    page.line(&format!("   {:<26}{peers}", ""));
    page.line(&format!("   {:<26}{sync:.0?} (p50 of {PROBES} here, before the load)", "fsync"));
    page.line(&format!("   {:<26}{codes}", "answers by DE 39"));
    page.line("");
    page.check(answered > 0, &format!("{answered} transactions answered"));
    page.check(mismatches == 0, "no answer differs from its request in any identifier, amount or token");
    let differences = differences(stage.issuers(), acquirer);
    page.check(differences.is_empty(), "the acquirer's book and the issuers' ledgers agree to the cent");
    for difference in differences.iter().take(5) {
        page.say(difference);
    }
}

fn differences(issuers: &[Shared<IssuerSimulator>], acquirer: &Shared<AcquirerSimulator>) -> Vec<String> {
    let book: Vec<Record> = acquirer.look(|brain| brain.records().collect());
    let first: Option<_> = book.iter().map(|record| record.rrn).min();
    let ledger: Vec<Record> = issuers
        .iter()
        .flat_map(|issuer| issuer.look(|brain| brain.ledger().records().collect::<Vec<_>>()))
        // The story's taps are in the ledgers too; they were another acquirer's.
        .filter(|record| first.is_some_and(|first| record.rrn >= first))
        .collect();
    reconcile(book, ledger).iter().map(ToString::to_string).collect()
}

/// CPU time of this process's threads, by name.
struct Cpu(Vec<(String, Duration)>);

impl Cpu {
    /// From `/proc/self/task/*/schedstat`: nanoseconds on a processor.
    fn of_threads() -> Self {
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Self(Vec::new()) };
        let read = |task: std::fs::DirEntry| {
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let nanos = stat.split_whitespace().next()?.parse().ok()?;
            Some((name.trim().to_owned(), Duration::from_nanos(nanos)))
        };
        Self(tasks.filter_map(Result::ok).filter_map(read).collect())
    }

    fn since(&self, before: &Self) -> Self {
        let earlier = |name: &str| before.0.iter().find(|(other, _)| other == name).map(|(_, time)| *time);
        let spent = self
            .0
            .iter()
            .map(|(name, time)| (name.clone(), time.saturating_sub(earlier(name).unwrap_or_default())));
        Self(spent.collect())
    }

    /// The daemon's threads, and the one on which acquirer and issuers are simulated.
    fn per_transaction(&self, transactions: u64) -> [String; 2] {
        let of = |name: &str| {
            let time = self
                .0
                .iter()
                .filter(|(thread, _)| thread == name)
                .map(|(_, time)| time.as_nanos())
                .sum::<u128>();
            let each = time / u128::from(transactions.max(1));
            Duration::from_nanos(u64::try_from(each).unwrap_or_default())
        };
        let (switch, journal, checkpoint) = (of("switch"), of("journal"), of("checkpoint"));
        let daemon = format!("switch {switch:.1?}, journal {journal:.1?}, checkpoint {checkpoint:.1?}");
        [daemon, format!("acquirer and issuers, simulated, {:.1?}", of(MAIN_THREAD))]
    }
}

/// The median of some syncs beside the journal.
fn sync_time(stage: &Stage) -> Result<Duration, Failure> {
    use std::io::Write;
    let path = stage.directory().join("data").join("sync-probe");
    let failed = |error: &std::io::Error| Failure::file(&path, "cannot be written", error);
    let mut file = std::fs::File::create(&path).map_err(|error| failed(&error))?;
    let mut times = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let start = stage.clock.now().moment;
        file.write_all(&[0; 4_096]).and_then(|()| file.sync_data()).map_err(|error| failed(&error))?;
        times.push(stage.clock.now().moment.since(start));
    }
    times.sort_unstable();
    let _ = std::fs::remove_file(&path);
    Ok(times.get(PROBES / 2).copied().unwrap_or_default())
}

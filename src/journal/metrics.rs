//! What the journal shows of itself: what waits for the disk, what is on it, and how long a group takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::entry::EntryNumber;

/// The journal's metrics. They count from the start, whether or not anybody has registered them.
#[derive(Debug)]
pub(super) struct Metrics {
    queued: Gauge,
    queue_limit: Gauge,
    room: Gauge,
    durable: Gauge<u64, AtomicU64>,
    groups: Counter,
    group_seconds: Histogram,
    base_entry: Gauge<u64, AtomicU64>,
    segments: Gauge,
    base_failures: Counter,
    view_entry: Family<ViewLabel, Gauge<u64, AtomicU64>>,
    view_kept: Family<ViewLabel, Gauge>,
}

impl Metrics {
    pub(super) fn new(queue_most: usize) -> Self {
        let queue_limit = Gauge::default();
        queue_limit.set(wide(queue_most));
        Self {
            queued: Gauge::default(),
            queue_limit,
            room: Gauge::default(),
            durable: Gauge::default(),
            groups: Counter::default(),
            base_entry: Gauge::default(),
            segments: Gauge::default(),
            base_failures: Counter::default(),
            view_entry: Family::default(),
            view_kept: Family::default(),
            // 50 µs to 1.6 s: from a disk with its own memory to one that is ill.
            group_seconds: Histogram::new(exponential_buckets(50e-6, 2.0, 16)),
        }
    }

    /// Registers them under `journal_`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("journal");
        registry.register("queued_bytes", "Entries that wait for the disk", self.queued.clone());
        registry.register("queue_limit_bytes", "How much may wait", self.queue_limit.clone());
        registry.register("disk_has_room", "1 when the disk has room for new work", self.room.clone());
        registry.register("durable_entry", "The last entry that is on disk", self.durable.clone());
        let base_entry = self.base_entry.clone();
        registry.register("base_entry", "The last entry that is in the newest base", base_entry);
        registry.register(
            "segments",
            "Segments that there were when that was written",
            self.segments.clone(),
        );
        registry.register("base_failures", "Bases that could not be written", self.base_failures.clone());
        registry.register("checkpoint_entry", "The last entry that is in it", self.view_entry.clone());
        registry.register(
            "checkpoint_kept",
            "1 while a thread keeps it up with the journal",
            self.view_kept.clone(),
        );
        registry.register("groups", "Groups of entries written and synced", self.groups.clone());
        registry.register(
            "group_seconds",
            "How long writing and syncing a group took",
            self.group_seconds.clone(),
        );
    }

    /// Of a view with that name.
    pub(super) fn view(&self, name: &'static str) -> View {
        let label = ViewLabel { view: name };
        let (entry, kept) = (&self.view_entry, &self.view_kept);
        View { entry: entry.get_or_create_owned(&label), kept: kept.get_or_create_owned(&label) }
    }

    pub(super) fn queued(&self, bytes: usize) {
        self.queued.set(wide(bytes));
    }

    pub(super) fn room(&self, room: bool) {
        self.room.set(i64::from(room));
    }

    pub(super) fn durable(&self, last: EntryNumber) {
        self.durable.inner().store(last.0, Ordering::Relaxed);
        self.groups.inc();
    }

    pub(super) fn base(&self, entry: EntryNumber, segments: usize) {
        self.base_entry.inner().store(entry.0, Ordering::Relaxed);
        self.segments.set(wide(segments));
    }

    pub(super) fn base_failed(&self) {
        self.base_failures.inc();
    }

    pub(super) fn wrote(&self, took: Duration) {
        self.group_seconds.observe(took.as_secs_f64());
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ViewLabel {
    view: &'static str,
}

/// How far a view of the journal is, and whether anybody keeps it up with it.
#[derive(Debug, Clone, Default)]
pub struct View {
    entry: Gauge<u64, AtomicU64>,
    kept: Gauge,
}

impl View {
    pub(super) fn stands_at(&self, entry: EntryNumber) {
        self.entry.inner().store(entry.0, Ordering::Relaxed);
    }

    pub(super) fn kept(&self, kept: bool) {
        self.kept.set(i64::from(kept));
    }
}

fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

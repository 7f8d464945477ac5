//! What the journal shows of itself: what waits for the disk, what is on it, and how long a group takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
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
        registry.register("groups", "Groups of entries written and synced", self.groups.clone());
        registry.register(
            "group_seconds",
            "How long writing and syncing a group took",
            self.group_seconds.clone(),
        );
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

fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

//! What the TSP counts: how full the vault is, what waits for its writer, and how calls were answered. Payments touch
//! none of it; their refusals are the switch's to count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::command::Answer;
use super::config::TspLimits;
use super::error::ProvisioningRefusal;

/// How full the vault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    /// Tokens, deactivated ones included.
    pub(super) tokens: usize,
    /// Different sets of domain controls among them.
    pub(super) control_sets: usize,
    /// Answered requests that are remembered.
    pub(super) remembered: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabel {
    answer: &'static str,
}

/// The TSP's metrics; clones are the same ones.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    tokens: Gauge,
    control_sets: Gauge,
    remembered: Gauge,
    waiting: Gauge,
    undurable: Gauge,
    calls: Family<AnswerLabel, Counter>,
    limits: TspLimits,
}

impl Metrics {
    pub(super) fn new(limits: TspLimits) -> Self {
        let calls = Family::default();
        for answer in ProvisioningRefusal::ALL.iter().map(|refusal| refusal.code()).chain([DONE]) {
            // From zero on, so that the first of a kind is an increase.
            let _: Counter = calls.get_or_create_owned(&AnswerLabel { answer });
        }
        let gauge = Gauge::default;
        Self {
            tokens: gauge(),
            control_sets: gauge(),
            remembered: gauge(),
            waiting: gauge(),
            undurable: gauge(),
            calls,
            limits,
        }
    }

    /// Registers them under `tsp_`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("tsp");
        registry.register("calls", "Calls that were answered, by answer", self.calls.clone());
        let capacity = usize::try_from(self.limits.capacity).unwrap_or(usize::MAX);
        let control_sets = usize::try_from(self.limits.control_sets).unwrap_or(usize::MAX);
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("tokens", "Tokens in the vault, deactivated ones included", &self.tokens);
        gauge("tokens_limit", "How many there may be", &fixed(capacity));
        gauge("control_sets", "Different sets of domain controls", &self.control_sets);
        gauge("control_sets_limit", "How many there may be", &fixed(control_sets));
        gauge("remembered_requests", "Answered requests remembered", &self.remembered);
        gauge("remembered_requests_limit", "How many are", &fixed(self.limits.remembered_requests));
        gauge("waiting_calls", "Calls that wait for the vault's writer", &self.waiting);
        gauge("waiting_calls_limit", "How many may", &fixed(self.limits.waiting_calls));
        gauge("undurable_calls", "Calls decided that wait for the disk", &self.undurable);
    }

    pub(super) fn filled(&self, fill: Fill) {
        self.tokens.set(wide(fill.tokens));
        self.control_sets.set(wide(fill.control_sets));
        self.remembered.set(wide(fill.remembered));
    }

    pub(super) fn waiting(&self, calls: usize) {
        self.waiting.set(wide(calls));
    }

    pub(super) fn undurable(&self, calls: usize) {
        self.undurable.set(wide(calls));
    }

    pub(super) fn answered(&self, answer: &Answer) {
        let answer = answer.as_ref().map_or_else(|refusal| refusal.code(), |_| DONE);
        self.calls.get_or_create(&AnswerLabel { answer }).inc();
    }
}

/// The answer to a call that was done.
const DONE: &str = "done";

fn fixed(limit: usize) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(wide(limit));
    gauge
}

fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

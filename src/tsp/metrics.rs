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
use super::idv::DifferingPars;

/// How full the vault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    /// Tokens, deactivated ones included.
    pub(super) tokens: usize,
    /// Different sets of domain controls among them.
    pub(super) control_sets: usize,
    /// Of the tokens, those with controls of their own.
    pub(super) narrowed: usize,
    /// Of the tokens, those that wait for their cardholders' proof.
    pub(super) step_ups: usize,
    /// Answered requests that are remembered.
    pub(super) remembered: usize,
    /// Requests that wait for their cards' issuers.
    pub(super) enquiries: usize,
    /// Consents that were not presented.
    pub(super) consents: usize,
    /// Token requestors in the registry.
    pub(super) requestors: usize,
    pub(super) pars: DifferingPars,
}

/// Something that is bounded: its metric, what it says, how much of it there is, and how much there may be.
type Bound = (&'static str, &'static str, fn(&Fill) -> usize, fn(&TspLimits) -> usize);

const BOUNDS: [Bound; 8] = [
    ("tokens", "Tokens in the vault, deactivated ones included", |f| f.tokens, |l| count(l.capacity)),
    ("control_sets", "Different sets of domain controls", |f| f.control_sets, |l| count(l.control_sets)),
    ("narrowed_tokens", "Tokens with controls of their own", |f| f.narrowed, |l| count(l.narrowed_tokens)),
    ("step_ups", "Tokens that wait for their cardholders' proof", |f| f.step_ups, |l| l.step_ups),
    ("remembered_requests", "Answered requests remembered", |f| f.remembered, |l| l.remembered_requests),
    ("waiting_enquiries", "Requests that wait for issuers", |f| f.enquiries, |l| l.waiting_enquiries),
    ("consents", "Consents that were not presented", |f| f.consents, |l| l.consents),
    ("requestors", "Token requestors in the registry", |f| f.requestors, |l| count(l.requestors)),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabel {
    answer: &'static str,
}

/// The TSP's metrics; clones are the same ones.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    /// As `BOUNDS`.
    filled: [Gauge; BOUNDS.len()],
    waiting: Gauge,
    undurable: Gauge,
    differing_pars: Counter,
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
        let (filled, waiting, undurable) = (BOUNDS.map(|_| gauge()), gauge(), gauge());
        Self { filled, waiting, undurable, differing_pars: Counter::default(), calls, limits }
    }

    /// Registers them under `tsp_`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("tsp");
        registry.register("calls", "Calls that were answered, by answer", self.calls.clone());
        let help = "Payment account references that issuers said of cards which have others";
        registry.register("differing_pars", help, self.differing_pars.clone());
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        for ((name, help, _, most), filled) in BOUNDS.iter().zip(&self.filled) {
            gauge(name, help, filled);
            gauge(&format!("{name}_limit"), "How many there may be", &fixed(most(&self.limits)));
        }
        gauge("waiting_calls", "Calls that wait for the vault's writer", &self.waiting);
        gauge("waiting_calls_limit", "How many may", &fixed(self.limits.waiting_calls));
        gauge("undurable_calls", "Calls decided that wait for the disk", &self.undurable);
    }

    pub(super) fn filled(&self, fill: Fill) {
        for ((_, _, filled, _), gauge) in BOUNDS.iter().zip(&self.filled) {
            gauge.set(wide(filled(&fill)));
        }
        let more = fill.pars.count.saturating_sub(self.differing_pars.get());
        if let Some(reference) = fill.pars.last.filter(|_| more > 0) {
            tracing::warn!(%reference, "its issuer says another payment account reference than the card has");
            self.differing_pars.inc_by(more);
        }
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

fn count(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

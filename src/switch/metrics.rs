//! What the switch shows of itself in `/metrics`: the picture, set a few times a second by the switch's own thread. No
//! payment touches a metric.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::vocab::{LinkId, Refusal};

use super::status::{LinkStatus, Picture, Suspense};
use super::store_forward::Standing;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkLabel {
    link: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    refusal: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StandingLabel {
    link: String,
    standing: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct SuspenseLabel {
    link: String,
    currency: &'static str,
}

/// A metric with how it is read from the picture.
type Read<M, N> = (M, fn(&Picture) -> N);
/// Each issuer's, with how it is read from what is known of its link.
type ReadLink = (Family<LinkLabel, Gauge>, fn(&LinkStatus) -> usize);

/// The switch's metrics, as registered.
pub(super) struct Metrics {
    counters: Vec<Read<Counter, u64>>,
    gauges: Vec<Read<Gauge, usize>>,
    /// By `Refusal::ALL`'s order.
    refused: Vec<Counter>,
    signed_on: Family<LinkLabel, Gauge>,
    /// Of issuers, also of those that are not in the configuration.
    stored: Family<LinkLabel, Gauge>,
    /// Of issuers.
    issuers: Vec<ReadLink>,
    exceptions: Family<StandingLabel, Gauge>,
    suspense: Family<SuspenseLabel, Gauge>,
    /// Issuers that were shown as not in the configuration: once they are there, or owed nothing, their rows are zero.
    absent: BTreeSet<(LinkId, String)>,
    /// Sums that were shown: once nothing stands there they are zero.
    shown: BTreeSet<SuspenseLabel>,
}

impl Metrics {
    /// Registers them under `switch_`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("switch");
        let refused = Family::<RefusalLabel, Counter>::default();
        registry.register("refused", "Requests that this switch refused, by refusal", refused.clone());
        let of = |refusal: &Refusal| refused.get_or_create_owned(&RefusalLabel { refusal: refusal.name() });
        let signed_on = Family::default();
        registry.register("signed_on", "Connections that are signed on, by link", signed_on.clone());
        let stored = Family::default();
        registry.register("stored", "Places taken by advices and reversals, by issuer", stored.clone());
        let exceptions = Family::default();
        registry.register("exceptions", "Stored messages for a person, by issuer", exceptions.clone());
        let suspense = Family::default();
        registry.register("suspense", "What they come to in minor units, by issuer", suspense.clone());
        Self {
            counters: counters(registry),
            gauges: gauges(registry),
            refused: Refusal::ALL.iter().map(of).collect(),
            signed_on,
            stored,
            issuers: issuers(registry),
            exceptions,
            suspense,
            absent: BTreeSet::new(),
            shown: BTreeSet::new(),
        }
    }

    /// Shows this picture.
    pub(super) fn show(&mut self, picture: &Picture) {
        for (counter, read) in &self.counters {
            counter.inner().store(read(picture), Ordering::Relaxed);
        }
        for (gauge, read) in &self.gauges {
            gauge.set(wide(read(picture)));
        }
        for (counter, count) in self.refused.iter().zip(picture.counts.all_refusals()) {
            counter.inner().store(count, Ordering::Relaxed);
        }
        for link in &picture.links {
            let label = LinkLabel { link: link.name.clone() };
            self.signed_on.get_or_create(&label).set(wide(link.up));
            if link.is_issuer {
                self.stored.get_or_create(&label).set(wide(link.stored));
                for (family, read) in &self.issuers {
                    family.get_or_create(&label).set(wide(read(link)));
                }
                self.show_exceptions((link.link, &link.name), &picture.suspense);
            }
        }
        self.show_absent(picture);
        self.show_suspense(picture);
    }

    fn show_absent(&mut self, picture: &Picture) {
        self.absent.extend(picture.absent.iter().map(|issuer| (issuer.link, issuer.name.clone())));
        for (issuer, name) in &self.absent {
            let is_now = picture.absent.iter().find(|absent| absent.link == *issuer);
            let label = LinkLabel { link: name.clone() };
            self.stored.get_or_create(&label).set(wide(is_now.map_or(0, |absent| absent.stored)));
            let suspense = if is_now.is_some() { &picture.suspense[..] } else { &[] };
            self.show_exceptions((*issuer, name), suspense);
        }
    }

    fn show_exceptions(&self, (issuer, name): (LinkId, &str), suspense: &[Suspense]) {
        for standing in Standing::ALL {
            let of = suspense.iter().filter(|sum| sum.issuer == issuer && sum.standing == standing);
            let label = StandingLabel { link: name.to_owned(), standing: standing.name() };
            self.exceptions.get_or_create(&label).set(wide(of.map(|sum| sum.count).sum()));
        }
    }

    fn show_suspense(&mut self, picture: &Picture) {
        let mut sums: BTreeMap<SuspenseLabel, u64> = BTreeMap::new();
        for sum in &picture.suspense {
            let issuer = picture.links.iter().find(|link| link.link == sum.issuer);
            let absent = || picture.absent.iter().find(|issuer| issuer.link == sum.issuer);
            let name = issuer.map(|link| &link.name).or_else(|| Some(&absent()?.name));
            if let (Some(name), Some(currency)) = (name, sum.currency) {
                let label = SuspenseLabel { link: name.clone(), currency: currency.letters() };
                let minor = sums.entry(label).or_default();
                *minor = minor.saturating_add(sum.minor);
            }
        }
        for gone in self.shown.iter().filter(|label| !sums.contains_key(*label)) {
            self.suspense.get_or_create(gone).set(0);
        }
        for (label, minor) in sums {
            self.suspense.get_or_create(&label).set(i64::try_from(minor).unwrap_or(i64::MAX));
            self.shown.insert(label);
        }
    }
}

fn issuers(registry: &mut Registry) -> Vec<ReadLink> {
    let mut rows: Vec<ReadLink> = Vec::new();
    let mut gauge = |name: &str, help: &str, read: fn(&LinkStatus) -> usize| {
        let family = Family::<LinkLabel, Gauge>::default();
        registry.register(name, help, family.clone());
        rows.push((family, read));
    };
    gauge("at_issuer", "Requests unanswered on an issuer's connections", |link| narrow(link.pool.in_flight));
    gauge("at_issuer_room", "How many there may be on those that take any", |link| narrow(link.pool.room));
    gauge("set_aside", "Connections that are given none until an echo is answered", |link| link.pool.aside);
    rows
}

fn counters(registry: &mut Registry) -> Vec<Read<Counter, u64>> {
    let mut rows: Vec<Read<Counter, u64>> = Vec::new();
    let mut counter = |name: &str, help: &str, read: fn(&Picture) -> u64| {
        let counter = Counter::default();
        registry.register(name, help, counter.clone());
        rows.push((counter, read));
    };
    counter("received", "Requests, advices and reversals from acquirers", |p| p.counts.received);
    counter("repeats", "Messages that repeat an earlier one", |p| p.counts.repeats);
    counter("advices", "Advices from acquirers", |p| p.counts.advices);
    counter("reversals", "Reversals from acquirers", |p| p.counts.reversals);
    counter("own_reversals", "Reversals that this switch owed", |p| p.counts.own_reversals);
    counter("approved", "Payments that their issuers approved", |p| p.counts.approved);
    counter("declined", "Payments that their issuers declined", |p| p.counts.declined);
    counter("late_answers", "Answers that came after the time-out", |p| p.counts.late);
    counter("unmatched_answers", "Answers that matched nothing", |p| p.counts.unmatched);
    counter("stood_in", "Payments approved in their issuer's place", |p| p.counts.stood_in);
    counter("stand_in_refused", "Payments past the terms of a stand-in", |p| p.counts.stand_in_refused);
    counter("stand_in_disputed", "Approvals that their issuer denies", |p| p.counts.stand_in_disputed);
    counter("look_ups", "Messages whose original was looked up", |p| p.counts.look_ups);
    counter("look_ups_failed", "Of these, how many in vain", |p| p.counts.look_ups_failed);
    counter("undelivered_answers", "Approvals that could not be given", |p| p.counts.undelivered);
    counter("unanswered", "Advices and reversals left for want of room", |p| p.counts.unanswered);
    counter("delivered", "Stored messages that issuers acknowledged", |p| p.counts.delivered);
    counter("parked", "Stored messages to which issuers said no", |p| p.counts.parked);
    counter("enquiries", "Issuers asked whether a card may have a token", |p| p.counts.enquiries);
    counter("enquiries_unanswered", "Of these, unanswered", |p| p.counts.enquiries_unanswered);
    counter("frames", "Messages that came in, of every kind", |p| p.node.frames);
    counter("malformed", "Messages that could not be read", |p| p.node.malformed);
    counter("unexpected", "Answers from acquirers, requests from issuers, network answers with a MAC", |p| {
        p.node.unexpected
    });
    counter("unmatched_network", "Answers to network messages not asked", |p| p.node.unmatched_network);
    counter("unencodable", "Messages that a dialect could not say", |p| p.node.unencodable);
    counter("unopened_envelopes", "Card envelopes that did not open", |p| p.node.unopened);
    counter("leaks_suppressed", "Answers in which the last scan found the PAN", |p| p.node.leaks);
    rows
}

fn gauges(registry: &mut Registry) -> Vec<Read<Gauge, usize>> {
    let mut rows: Vec<Read<Gauge, usize>> = Vec::new();
    let mut gauge = |name: &str, help: &str, read: fn(&Picture) -> usize| {
        let gauge = Gauge::default();
        registry.register(name, help, gauge.clone());
        rows.push((gauge, read));
    };
    gauge("in_flight", "Requests between receipt and answer", |p| p.in_flight);
    gauge("in_flight_limit", "How many there may be", |p| p.limits.in_flight);
    gauge("stored_limit", "Places for advices and reversals per issuer", |p| p.limits.stored);
    gauge("answered", "Answers remembered", |p| p.answered);
    gauge("answered_limit", "How many are remembered", |p| p.limits.answered);
    gauge("tombstones", "Reversals of unknown originals remembered", |p| p.tombstones);
    gauge("tombstones_limit", "How many are remembered", |p| p.limits.tombstones);
    gauge("undelivered", "Approvals that wait for a repeat", |p| p.undelivered);
    gauge("stand_in_remembered", "Approvals in issuers' places", |p| p.stood_in);
    gauge("stand_in_limit", "How many are remembered per issuer", |p| p.limits.stand_in);
    gauge("windows_waiting", "Windows that are over and not closed", |p| p.windows_waiting);
    gauge("looking_up", "Messages that wait for the history", |p| p.looking);
    gauge("looking_up_limit", "How many may wait", |p| p.limits.look_ups);
    gauge("followers_limit", "Later messages about one transaction", |p| p.limits.followers);
    gauge("unchecked", "Taps that wait until their cryptogram is checked", |p| p.unchecked);
    gauge("held_back", "Entries that wait for room in the journal", |p| p.held_back);
    gauge("takes_requests", "1 when new requests are taken on", |p| usize::from(p.takes_requests));
    rows
}

fn narrow(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

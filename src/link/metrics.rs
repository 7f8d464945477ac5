//! What the links count. A link's counters are looked up once, when it starts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::event::CloseReason;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkLabel {
    link: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkReasonLabel {
    link: String,
    reason: CloseReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerReasonLabel {
    listener: String,
    reason: CloseReason,
}

type ByLink<M> = Family<LinkLabel, M>;
type ByListener<M> = Family<ListenerLabel, M>;

/// All links' metrics, as registered.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    connections: ByLink<Gauge>,
    opened: ByLink<Counter>,
    closed: Family<LinkReasonLabel, Counter>,
    dials_failed: Family<LinkReasonLabel, Counter>,
    frames: ByLink<Counter>,
    bytes_received: ByLink<Counter>,
    bytes_sent: ByLink<Counter>,
    keepalives: ByLink<Counter>,
    output_waiting: ByLink<Gauge>,
    output_limit: ByLink<Gauge>,
    listener_connections: ByListener<Gauge>,
    listener_limit: ByListener<Gauge>,
    listener_full: ByListener<Counter>,
    listener_refused: Family<ListenerReasonLabel, Counter>,
    pub(super) inbox_full: Counter,
}

impl Metrics {
    /// Registers them under `link_`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("link");
        let m = &metrics;
        registry.register("connections", "Connections that stand", m.connections.clone());
        registry.register("opened", "Connections that were opened", m.opened.clone());
        registry.register("closed", "Connections that ended, by reason", m.closed.clone());
        registry.register("dials_failed", "Connections that could not be dialled", m.dials_failed.clone());
        registry.register("frames_received", "Frames that came in", m.frames.clone());
        registry.register("received_bytes", "Bytes that came in", m.bytes_received.clone());
        registry.register("sent_bytes", "Bytes handed to sockets", m.bytes_sent.clone());
        registry.register("keepalives_received", "Empty frames that came in", m.keepalives.clone());
        registry.register("output_waiting_bytes", "Output that waits for the peer", m.output_waiting.clone());
        registry.register(
            "output_limit_bytes",
            "Output that may wait per connection",
            m.output_limit.clone(),
        );
        registry.register(
            "listener_connections",
            "Connections that a listener took",
            m.listener_connections.clone(),
        );
        registry.register(
            "listener_connections_limit",
            "Connections that a listener may have",
            m.listener_limit.clone(),
        );
        registry.register(
            "listener_full",
            "Times that a listener had no room to accept",
            m.listener_full.clone(),
        );
        registry.register(
            "listener_refused",
            "Connections that were no link's, by reason",
            m.listener_refused.clone(),
        );
        registry.register("inbox_full", "Times that reading waited for the switch", m.inbox_full.clone());
        metrics
    }

    /// The counters of the link named `link`, whose connections may each have `output_limit` bytes waiting.
    pub(super) fn link(&self, link: &str, output_limit: usize) -> LinkMetrics {
        let label = LinkLabel { link: link.to_owned() };
        self.output_limit.get_or_create(&label).set(gauge(output_limit));
        LinkMetrics {
            connections: self.connections.get_or_create_owned(&label),
            opened: self.opened.get_or_create_owned(&label),
            frames: self.frames.get_or_create_owned(&label),
            bytes_received: self.bytes_received.get_or_create_owned(&label),
            bytes_sent: self.bytes_sent.get_or_create_owned(&label),
            keepalives: self.keepalives.get_or_create_owned(&label),
            output_waiting: self.output_waiting.get_or_create_owned(&label),
            closed: self.closed.clone(),
            dials_failed: self.dials_failed.clone(),
            name: label.link,
        }
    }

    /// The counters of the listener named `listener`, which may have `limit` connections.
    pub(super) fn listener(&self, listener: &str, limit: usize) -> ListenerMetrics {
        let label = ListenerLabel { listener: listener.to_owned() };
        self.listener_limit.get_or_create(&label).set(gauge(limit));
        ListenerMetrics {
            connections: self.listener_connections.get_or_create_owned(&label),
            full: self.listener_full.get_or_create_owned(&label),
            refused: self.listener_refused.clone(),
            name: label.listener,
        }
    }
}

/// One link's counters.
#[derive(Debug)]
pub(super) struct LinkMetrics {
    pub(super) name: String,
    pub(super) connections: Gauge,
    pub(super) opened: Counter,
    pub(super) frames: Counter,
    pub(super) bytes_received: Counter,
    pub(super) bytes_sent: Counter,
    pub(super) keepalives: Counter,
    pub(super) output_waiting: Gauge,
    closed: Family<LinkReasonLabel, Counter>,
    dials_failed: Family<LinkReasonLabel, Counter>,
}

impl LinkMetrics {
    pub(super) fn closed(&self, reason: CloseReason) {
        self.closed.get_or_create(&LinkReasonLabel { link: self.name.clone(), reason }).inc();
    }

    pub(super) fn dial_failed(&self, reason: CloseReason) {
        self.dials_failed.get_or_create(&LinkReasonLabel { link: self.name.clone(), reason }).inc();
    }
}

/// One listener's counters.
#[derive(Debug)]
pub(super) struct ListenerMetrics {
    pub(super) name: String,
    pub(super) connections: Gauge,
    pub(super) full: Counter,
    refused: Family<ListenerReasonLabel, Counter>,
}

impl ListenerMetrics {
    pub(super) fn refused(&self, reason: CloseReason) {
        self.refused.get_or_create(&ListenerReasonLabel { listener: self.name.clone(), reason }).inc();
    }
}

/// A size as a gauge takes it.
pub(super) fn gauge(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

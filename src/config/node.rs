//! `[node]`, `[journal]`, `[keys]`, `[limits]`, `[store_forward]`, `[admin]`, `[settlement]`: what there is
//! one of.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{
    Section, address, boolean, bytes, choice, count, duration, number, size, text, time_of_day, word,
};
use crate::api::{AdminConfig, Endpoint, NotifierConfig};
use crate::codec::MOST_FRAME;
use crate::journal::{BasesConfig, CheckpointKind, JournalConfig};
use crate::link::InboxLimits;
use crate::switch::{Limits, StoreForwardConfig};
use crate::tsp::Receiver;
use crate::vocab::InstitutionId;

/// The daemon itself.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// For logs, metrics and the console.
    pub name: String,
    /// This switch's own institution id, DE 33 towards issuers.
    pub institution: InstitutionId,
    /// Where journal and checkpoint live.
    pub data_directory: PathBuf,
    /// How long shutting down waits for what is in flight.
    pub drain_limit: Duration,
    /// How much earlier than the acquirer an issuer's time-out must come.
    pub timeout_margin: Duration,
    pub undelivered_grace: Duration,
    pub repeat_window: Duration,
}

impl NodeConfig {
    /// The journal's own directory; nothing else is in it.
    #[must_use]
    pub fn journal_directory(&self) -> PathBuf {
        self.data_directory.join("journal")
    }

    /// The checkpoint's own directory. It may be deleted while the daemon is down.
    #[must_use]
    pub fn checkpoint_directory(&self) -> PathBuf {
        self.data_directory.join("checkpoint")
    }
}

/// The journal and its checkpoint.
#[derive(Debug, Clone)]
pub struct JournalSection {
    pub journal: JournalConfig,
    pub checkpoint: CheckpointKind,
    /// For how long finished transactions can be looked up.
    pub history: Duration,
    pub bases: BasesConfig,
}

/// Where the keys are, and whether they may be development keys.
#[derive(Debug, Clone)]
pub struct KeysSection {
    pub store: PathBuf,
    pub master_key: PathBuf,
    pub development: bool,
    /// For how long a replaced key still opens what was encrypted for it.
    pub message_overlap: Duration,
}

/// When a settlement window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettlementSection {
    /// Since midnight, UTC.
    pub cut_over: Duration,
}

/// `[node]`, as far as it could be read.
pub(super) struct NodeDraft {
    name: Option<String>,
    institution: Option<InstitutionId>,
    data_directory: Option<PathBuf>,
    drain_limit: Duration,
    pub(super) timeout_margin: Duration,
    undelivered_grace: Duration,
    pub(super) repeat_window: Duration,
}

impl NodeDraft {
    /// The whole, when nothing of it is missing.
    pub(super) fn whole(self) -> Option<NodeConfig> {
        Some(NodeConfig {
            name: self.name?,
            institution: self.institution?,
            data_directory: self.data_directory?,
            drain_limit: self.drain_limit,
            timeout_margin: self.timeout_margin,
            undelivered_grace: self.undelivered_grace,
            repeat_window: self.repeat_window,
        })
    }
}

pub(super) fn node(mut section: Section<'_>, base: &Path) -> NodeDraft {
    let draft = NodeDraft {
        name: section.need("name", text),
        institution: section.need("institution", word(InstitutionId::parse)),
        data_directory: section.need("data_directory", text).map(|directory| base.join(directory)),
        drain_limit: section.or("drain_limit", Duration::from_secs(30), duration),
        timeout_margin: section.or("timeout_margin", Duration::from_secs(1), duration),
        undelivered_grace: section.or("undelivered_grace", Duration::from_secs(10), duration),
        repeat_window: section.or("repeat_window", Duration::from_secs(86_400), duration),
    };
    section.finish();
    draft
}

pub(super) fn journal(mut section: Section<'_>) -> JournalSection {
    let usual = JournalConfig::default();
    let journal = JournalConfig {
        segment_bytes: section.or("segment_bytes", usual.segment_bytes, bytes),
        queue_bytes: section.or("queue_bytes", usual.queue_bytes, size),
        min_free_bytes: section.or("min_free_bytes", usual.min_free_bytes, bytes),
        ..usual
    };
    let kinds = choice(&[("redb", CheckpointKind::Redb), ("sled", CheckpointKind::Sled)]);
    let checkpoint = section.or("checkpoint", CheckpointKind::Redb, kinds);
    let history = section.or("history", Duration::from_secs(180 * 86_400), duration);
    let bases = BasesConfig {
        fold_every: section.or("fold_every", 64, number(1, 1_000_000)),
        retention: section.or("retention", Duration::from_secs(400 * 86_400), duration),
    };
    section.finish();
    JournalSection { journal, checkpoint, history, bases }
}

pub(super) fn keys(mut section: Section<'_>, base: &Path) -> Option<KeysSection> {
    let store = section.need("store", text);
    let master_key = section.need("master_key", text);
    let development = section.or("development", false, boolean);
    let message_overlap = section.or("message_overlap", Duration::from_secs(30 * 86_400), duration);
    section.finish();
    let (store, master_key) = (base.join(store?), base.join(master_key?));
    Some(KeysSection { store, master_key, development, message_overlap })
}

pub(super) fn limits(mut section: Section<'_>) -> (Limits, InboxLimits) {
    let (usual, usual_inbox) = (Limits::default(), InboxLimits::default());
    let limits = Limits {
        in_flight: section.or("in_flight", usual.in_flight, count(1, 10_000_000)),
        answered: section.or("answered", usual.answered, count(1, 100_000_000)),
        tombstones: section.or("tombstones", usual.tombstones, count(1, 100_000_000)),
        stored: section.or("stored", usual.stored, count(1, 100_000_000)),
        look_ups: section.or("look_ups", usual.look_ups, count(1, 100_000)),
        stand_in: section.or("stand_in", usual.stand_in, count(1, 10_000_000)),
        followers: section.or("followers", usual.followers, count(1, 10_000)),
    };
    let inbox = InboxLimits {
        bytes: section.or("inbox_bytes", usual_inbox.bytes, size),
        events: section.or("inbox_events", usual_inbox.events, count(1, 100_000_000)),
    };
    if inbox.bytes < MOST_FRAME {
        section.fault("inbox_bytes", format!("must hold the longest frame there may be, {MOST_FRAME} bytes"));
    }
    section.finish();
    (limits, inbox)
}

pub(super) fn store_forward(mut section: Section<'_>) -> StoreForwardConfig {
    let usual = StoreForwardConfig::default();
    let store_forward = StoreForwardConfig {
        timeout: section.or("timeout", usual.timeout, duration),
        pause_least: section.or("pause_least", usual.pause_least, duration),
        pause_most: section.or("pause_most", usual.pause_most, duration),
        at_once: section.or("at_once", usual.at_once, count(1, 100_000)),
        age_limit: section.or("age_limit", usual.age_limit, duration),
    };
    if store_forward.pause_least > store_forward.pause_most {
        section.fault("pause_least", "is longer than pause_most");
    }
    section.finish();
    store_forward
}

/// How receivers of notifications are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationsSection {
    pub config: NotifierConfig,
    /// Certificates (PEM) that those of receivers must come from; none: no receiver over `https`.
    pub trust: Option<PathBuf>,
    /// Who is told, and where: each says it in its own section.
    pub receivers: Vec<(Receiver, Endpoint)>,
}

pub(super) fn notifications(mut section: Section<'_>, base: &Path) -> NotificationsSection {
    let config = NotifierConfig {
        timeout: section.or("timeout", Duration::from_secs(10), duration),
        pause_least: section.or("pause_least", Duration::from_secs(1), duration),
        pause_most: section.or("pause_most", Duration::from_secs(300), duration),
    };
    if config.pause_least > config.pause_most {
        section.fault("pause_least", "is longer than pause_most");
    }
    let trust = section.may("trust", text).map(|file| base.join(file));
    section.finish();
    NotificationsSection { config, trust, receivers: Vec::new() }
}

/// Where monitors find it when the file does not say.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9_002);

pub(super) fn admin(mut section: Section<'_>) -> AdminConfig {
    let listen = section.or("listen", ADMIN, address);
    let connections = section.or("connections", 16, count(1, 1_000));
    section.finish();
    AdminConfig { listen, connections }
}

pub(super) fn settlement(mut section: Section<'_>) -> Option<SettlementSection> {
    let cut_over = section.need("cut_over", time_of_day);
    section.finish();
    Some(SettlementSection { cut_over: cut_over? })
}

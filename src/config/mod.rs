//! `Config`: one TOML file, its dialects and its keys, resolved to what the daemon is started with. All that is
//! wrong is told at once, each fault with file, line, key and reason, before anything is opened.

mod api;
mod check;
mod dialects;
mod file;
mod links;
mod node;
mod reload;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;
use std::fs;
use std::path::Path;
use std::rc::Rc;

pub use api::{TlsFiles, TlsMaterial};
pub use file::Fault;
pub use links::{AcquirerSection, IssuerSection, ListenSection, PartyConfig, Reach, RouteSection};
pub use node::{JournalSection, KeysSection, NodeConfig, NotificationsSection, SettlementSection};

use crate::api::{AdminConfig, ApiConfig, Surroundings};
use crate::crypto::SecurityModule;
use crate::link::{InboxLimits, IssuerLinkConfig, LinksConfig, ListenerConfig, Party};
use crate::switch::{Limits, RouteTable, StoreForwardConfig, SwitchConfig};
use crate::tsp::{ApprovalRule, IssuerRule, PartyName, Receiver, TspConfig};
use api::ApiDraft;
use dialects::Dialects;
use file::{Notes, Section};
use links::{AcquirerDraft, IssuerDraft, RouteDraft};
use node::NodeDraft;
use tokens::TspDraft;

/// Every key there is, with its default and what it means.
pub const REFERENCE: &str = include_str!("../../docs/reference.toml");

/// The whole configuration, resolved and checked.
#[derive(Debug)]
pub struct Config {
    pub node: NodeConfig,
    pub journal: JournalSection,
    pub keys: KeysSection,
    /// The keys themselves, unwrapped.
    pub security: SecurityModule,
    pub acquirers: Vec<AcquirerSection>,
    pub issuers: Vec<IssuerSection>,
    pub routes: Vec<RouteSection>,
    pub tsp: TspConfig,
    pub api: ApiConfig,
    /// With it the API is served over TLS.
    pub api_tls: Option<TlsFiles>,
    pub admin: AdminConfig,
    pub notifications: NotificationsSection,
    pub settlement: SettlementSection,
    pub limits: Limits,
    /// What may wait between the sockets and the switch.
    pub inbox: InboxLimits,
    pub store_forward: StoreForwardConfig,
}

/// Why a configuration cannot be used: at least one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if number > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// What the tables say, as far as it could be read.
struct Sections {
    node: NodeDraft,
    journal: JournalSection,
    keys: Option<KeysSection>,
    acquirers: Vec<AcquirerDraft>,
    issuers: Vec<IssuerDraft>,
    routes: Vec<RouteDraft>,
    tsp: TspDraft,
    api: ApiDraft,
    admin: AdminConfig,
    notifications: NotificationsSection,
    settlement: Option<SettlementSection>,
    limits: (Limits, InboxLimits),
    store_forward: StoreForwardConfig,
}

impl Config {
    /// Reads a configuration file and what it names: dialect files, key store and master key. Paths in it count
    /// from its own directory.
    ///
    /// # Errors
    /// All faults, in the order of the file.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| {
            let reason = format!("cannot be read: {error}");
            Faults(vec![Fault { file: file.clone(), line: None, key: String::new(), reason }])
        })?;
        Self::parse(&file, path.parent().unwrap_or(Path::new(".")), &text)
    }

    /// As `load`, from a text that stands in `base`; `file` is its name in faults.
    ///
    /// # Errors
    /// As `load`.
    pub fn parse(file: &str, base: &Path, text: &str) -> Result<Self, Faults> {
        let notes = Notes::new(file, text);
        let mut dialects = Dialects::new(base);
        let sections = sections(text, &notes, base, &mut dialects);
        check::across(&sections, &notes);
        let security = sections.keys.as_ref().and_then(|keys| check::open_keys(keys, &notes));
        check::tls(&sections, &notes);
        check::cryptograms(&sections, security.as_ref(), &notes);
        let mut faults = notes.faults();
        faults.extend(dialects.into_faults());
        let whole = sections.whole(security);
        whole.filter(|_| faults.is_empty()).ok_or(Faults(faults))
    }

    /// The links as `link` starts them. Parties that listen on one address share one listener.
    #[must_use]
    pub fn links(&self) -> LinksConfig {
        let acquirers = self.acquirers.iter().map(|acquirer| (&acquirer.party, &acquirer.listen));
        let dial_in = self.issuers.iter().filter_map(|issuer| match &issuer.reach {
            Reach::Listen(listen) => Some((&issuer.party, listen)),
            Reach::Dial { .. } => None,
        });
        let mut listeners: Vec<ListenerConfig> = Vec::new();
        for (party, listen) in acquirers.chain(dial_in) {
            let shared = listeners.iter_mut().find(|l| l.address == listen.address && l.address.port() != 0);
            match shared {
                Some(listener) => {
                    listener.connections += listen.connections;
                    listener.parties.push(party_of(party, listen));
                }
                None => listeners.push(listener_of(party, listen)),
            }
        }
        let issuers = self.issuers.iter().filter_map(dialled).collect();
        LinksConfig { inbox: self.inbox, ..LinksConfig::new(listeners, issuers) }
    }

    /// What the switch is started with.
    #[must_use]
    pub fn switch(&self) -> SwitchConfig {
        let routes: Vec<_> = self.routes.iter().map(|route| (route.bin, route.issuer)).collect();
        SwitchConfig {
            institution: self.node.institution,
            acquirers: self.acquirers.iter().map(|it| (it.party.link, it.switch.clone())).collect(),
            issuers: self.issuers.iter().map(|it| (it.party.link, it.switch.clone())).collect(),
            routes: RouteTable::new(&routes),
            limits: self.limits,
            store_forward: self.store_forward,
            undelivered_grace: self.node.undelivered_grace,
            repeat_window: self.node.repeat_window,
            cut_over: self.settlement.cut_over,
        }
    }
}

fn sections(text: &str, notes: &Rc<Notes>, base: &Path, dialects: &mut Dialects) -> Sections {
    let table = file::parse(text, notes);
    let mut top = Section::top(&table, notes);
    let acquirers =
        top.tables("acquirer").into_iter().map(|section| links::acquirer(section, dialects)).collect();
    let issuers = top.tables("issuer").into_iter().map(|section| links::issuer(section, dialects)).collect();
    let requestors = top.tables("requestor");
    let sections = Sections {
        node: node::node(top.table("node"), base),
        journal: node::journal(top.table("journal")),
        keys: node::keys(top.table("keys"), base),
        acquirers,
        issuers,
        routes: top.tables("route").into_iter().map(links::route).collect(),
        tsp: tokens::tsp(top.table("tsp"), requestors),
        api: api::api(top.table("api"), base),
        admin: node::admin(top.table("admin")),
        notifications: node::notifications(top.table("notifications"), base),
        settlement: node::settlement(top.table("settlement")),
        limits: node::limits(top.table("limits")),
        store_forward: node::store_forward(top.table("store_forward")),
    };
    top.finish();
    sections
}

impl Sections {
    /// Everything, when nothing is missing.
    fn whole(self, security: Option<SecurityModule>) -> Option<Config> {
        let passed = check::products_of_passing_issuers(&self);
        let issuers: Vec<_> = self.issuers.into_iter().map(IssuerDraft::whole).collect::<Option<_>>()?;
        let mut tsp = self.tsp.config;
        for range in &mut tsp.token_ranges {
            range.checked_by_issuer = passed.contains(&range.product);
        }
        let mut notifications = self.notifications;
        notifications.receivers = self.tsp.receivers;
        for issuer in &issuers {
            // Checked: who is asked or told has a name of that length.
            let Ok(name) = PartyName::parse("issuer", issuer.party.name.as_bytes()) else { continue };
            // One of whom nothing is agreed may come and go while the daemon runs.
            if issuer.approval != ApprovalRule::Off {
                let (approval, doubts) = (issuer.approval, issuer.doubts.clone());
                tsp.approvals.push(IssuerRule { issuer: name, approval, doubts });
            }
            let told = issuer.notify.clone().map(|endpoint| (Receiver::Issuer(name), endpoint));
            notifications.receivers.extend(told);
        }
        tsp.receivers = notifications.receivers.iter().map(|(receiver, _)| *receiver).collect();
        let surroundings = Surroundings {
            acquirers: self.acquirers.iter().filter_map(|acquirer| acquirer.party.link).collect(),
            trusts_receivers: notifications.trust.is_some(),
        };
        Some(Config {
            node: self.node.whole()?,
            journal: self.journal,
            keys: self.keys?,
            security: security?,
            acquirers: self.acquirers.into_iter().map(AcquirerDraft::whole).collect::<Option<_>>()?,
            issuers,
            routes: self.routes.into_iter().map(RouteDraft::whole).collect::<Option<_>>()?,
            tsp,
            notifications,
            api: ApiConfig { surroundings, ..self.api.config? },
            api_tls: self.api.tls,
            admin: self.admin,
            settlement: self.settlement?,
            limits: self.limits.0,
            inbox: self.limits.1,
            store_forward: self.store_forward,
        })
    }
}

fn listener_of(party: &PartyConfig, listen: &ListenSection) -> ListenerConfig {
    ListenerConfig {
        name: party.name.clone(),
        address: listen.address,
        parties: vec![party_of(party, listen)],
        connections: listen.connections,
        backlog: 1_024,
        framing: party.framing,
        limits: party.limits,
        tls: None,
    }
}

fn party_of(party: &PartyConfig, listen: &ListenSection) -> Party {
    Party {
        link: party.link,
        name: party.name.clone(),
        peers: listen.peers.clone(),
        certificates: Vec::new(),
        connections: listen.connections,
    }
}

fn dialled(issuer: &IssuerSection) -> Option<IssuerLinkConfig> {
    let Reach::Dial { addresses, timeout } = &issuer.reach else { return None };
    Some(IssuerLinkConfig {
        link: issuer.party.link,
        name: issuer.party.name.clone(),
        addresses: addresses.clone(),
        dial_timeout: *timeout,
        framing: issuer.party.framing,
        limits: issuer.party.limits,
        tls: None,
    })
}

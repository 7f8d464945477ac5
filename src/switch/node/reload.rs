//! A node that goes on under another configuration: links that did not change keep their connections.

use std::sync::Arc;

use crate::crypto::CryptogramKeys;
use crate::link::{CloseReason, ConnectionId, Outbox, Pool, PoolConfig};
use crate::vocab::LinkId;

use super::super::config::SwitchConfig;
use super::{AcquirerSide, IssuerSide, Node, Wire};

/// What a node goes on with.
pub struct Reload {
    pub config: SwitchConfig,
    pub acquirers: Vec<(LinkId, Wire)>,
    pub issuers: Vec<(LinkId, Wire, PoolConfig)>,
    pub card_keys: Vec<(LinkId, CryptogramKeys)>,
    /// Links that are gone, or whose connections cannot go on as they are.
    pub changed: Vec<LinkId>,
}

impl Node {
    /// Why it cannot go on so, each reason: an issuer must not go while it is owed something.
    #[must_use]
    pub fn objections(&self, reload: &Reload) -> Vec<String> {
        let stays = |link: &LinkId| reload.issuers.iter().any(|(id, ..)| id == link);
        let owed = self.config.issuers.iter().filter(|(link, _)| !stays(link));
        let owed = owed.map(|(link, issuer)| (issuer, self.core.stored().taken(*link)));
        let owed = owed.filter(|(_, places)| *places > 0);
        let mut objections: Vec<String> = owed
            .map(|(issuer, places)| {
                format!("issuer `{}` cannot go: it is owed {places} messages", issuer.name)
            })
            .collect();
        objections.sort_unstable();
        objections
    }

    /// Goes on under another configuration. Connections of links that changed are closed; what was on them is settled
    /// as with any connection that is lost.
    pub fn reload(&mut self, reload: Reload, out: &mut Outbox) {
        let Reload { config, acquirers, issuers, card_keys, changed } = reload;
        let begins_anew = |connection: &ConnectionId| {
            self.connections.get(connection).is_some_and(|it| changed.contains(&it.link))
        };
        let mut closing: Vec<ConnectionId> =
            self.connections.keys().copied().filter(|id| begins_anew(id)).collect();
        closing.sort_unstable();
        for connection in closing {
            self.close(connection, CloseReason::Reconfigured, out);
        }
        self.acquirers.retain(|link, _| acquirers.iter().any(|(id, _)| id == link));
        for (link, wire) in acquirers {
            if changed.contains(&link) || !self.acquirers.contains_key(&link) {
                self.acquirers.insert(link, AcquirerSide { wire: Arc::new(wire) });
            }
        }
        self.issuers.retain(|link, _| issuers.iter().any(|(id, ..)| id == link));
        for (link, wire, pool) in issuers {
            let known = self.issuers.get(&link);
            if changed.contains(&link) || known.is_none() {
                let pool = known.map_or_else(|| Pool::new(pool), |known| known.pool.renewed(pool));
                self.issuers.insert(link, IssuerSide { wire: Arc::new(wire), pool });
            }
        }
        self.card_keys = card_keys.into_iter().collect();
        self.limits.set(config.limits);
        self.core.reconfigure(config.clone());
        self.config = config;
        self.tell_of_absent_issuers();
    }
}

//! How the node stands: its links, what a person must look at, and the picture that metrics show.

use crate::stdx::clock::Now;

use super::super::core::{Exception, ListedException};
use super::super::status::{AbsentIssuer, LinkStatus, Picture};
use super::Node;

impl Node {
    /// What a person must look at, with names and masked accounts.
    #[must_use]
    pub fn exceptions(&self, now: Now) -> Vec<ListedException> {
        let listed = |exception: Exception| {
            let issuer = self.config.issuers.get(&exception.issuer);
            let absent = || AbsentIssuer::name_of(exception.issuer);
            let issuer = issuer.map_or_else(absent, |issuer| issuer.name.clone());
            let account = match &exception.card.token {
                Some(token) => Some(token.token.masked()),
                None => {
                    let opened = self.cards.open(&exception.card, exception.sealed_for);
                    opened.ok().map(|card| card.pan.masked())
                }
            };
            ListedException { exception, issuer, account }
        };
        self.core.exceptions(now.wall).into_iter().map(listed).collect()
    }

    /// Each link's connections, and how many of them are signed on.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        let acquirers = self.config.acquirers.iter().map(|(id, config)| (*id, config.name.as_str(), false));
        let issuers = self.config.issuers.iter().map(|(id, config)| (*id, config.name.as_str(), true));
        let mut links: Vec<LinkStatus> = acquirers
            .chain(issuers)
            .map(|(link, name, is_issuer)| {
                let of_link = self.connections.values().filter(|connection| connection.link == link);
                let (connections, up) = of_link.fold((0, 0), |(all, up), connection| {
                    (all + 1, up + usize::from(connection.session.is_up()))
                });
                let stored = self.core.stored().taken(link);
                let pool = self.issuers.get(&link).map(|issuer| issuer.pool.fill()).unwrap_or_default();
                LinkStatus { link, name: name.to_owned(), is_issuer, connections, up, stored, pool }
            })
            .collect();
        links.sort_unstable_by_key(|status| status.link);
        links
    }

    /// How the switch stands.
    #[must_use]
    pub fn picture(&self, now: Now) -> Picture {
        let core = &self.core;
        Picture {
            taken: now.moment,
            counts: core.counts().clone(),
            node: self.counts.clone(),
            links: self.links(),
            absent: core.owed_elsewhere().into_iter().map(AbsentIssuer::new).collect(),
            in_flight: core.in_flight(),
            stored: core.stored().len(),
            answered: core.answered(),
            tombstones: core.tombstones(),
            undelivered: core.undelivered(),
            windows_waiting: core.windows_waiting(),
            looking: core.looking(),
            unchecked: self.unchecked(),
            stood_in: core.stood_in(),
            held_back: self.to_append.len(),
            suspense: self.suspense.sums.clone(),
            limits: self.config.limits,
            takes_requests: !core.is_draining() && self.refused_for_room().is_none(),
        }
    }
}

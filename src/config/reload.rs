//! What of a configuration may change while the daemon runs, and which links begin anew for it.

use std::fmt::Debug;

use super::{AcquirerSection, Config, IssuerSection, PartyConfig};
use crate::api::{ApiConfig, Surroundings};
use crate::vocab::LinkId;

impl Config {
    /// The sections in which `new` differs and that only a restart can change.
    #[must_use]
    pub fn fixed_differences(&self, new: &Self) -> Vec<&'static str> {
        let sections = [
            ("node", differ(&self.node, &new.node)),
            ("journal", differ(&self.journal, &new.journal)),
            ("keys", differ(&self.keys, &new.keys)),
            ("tsp, requestor", differ(&self.tsp, &new.tsp)),
            ("api", differ(&self.fixed_api(), &new.fixed_api())),
            ("admin", differ(&self.admin, &new.admin)),
            ("limits.inbox_bytes, limits.inbox_events", self.inbox != new.inbox),
            ("limits.look_ups", self.limits.look_ups != new.limits.look_ups),
        ];
        sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// The API without its clients.
    fn fixed_api(&self) -> impl Debug {
        let (clients, surroundings) = (Vec::new(), Surroundings::default());
        (ApiConfig { clients, surroundings, ..self.api.clone() }, self.api_tls.clone())
    }

    /// Links whose connections cannot go on under `new`: they are gone, or reached or spoken to in another way.
    #[must_use]
    pub fn changed_links(&self, new: &Self) -> Vec<LinkId> {
        let acquirers =
            self.acquirers.iter().filter(|old| !new.acquirers.iter().any(|it| as_before(old, it)));
        let issuers =
            self.issuers.iter().filter(|old| !new.issuers.iter().any(|it| as_reached_before(old, it)));
        let acquirers = acquirers.map(|acquirer| acquirer.party.link);
        acquirers.chain(issuers.map(|issuer| issuer.party.link)).collect()
    }
}

fn as_before(old: &AcquirerSection, new: &AcquirerSection) -> bool {
    same_party(&old.party, &new.party) && old.listen == new.listen
}

fn as_reached_before(old: &IssuerSection, new: &IssuerSection) -> bool {
    same_party(&old.party, &new.party) && old.reach == new.reach && old.pool == new.pool
}

fn same_party(old: &PartyConfig, new: &PartyConfig) -> bool {
    (old.link, &old.name, old.framing, old.session, old.limits)
        == (new.link, &new.name, new.framing, new.session, new.limits)
        && !differ(&old.dialect, &new.dialect)
}

/// Whether two values of a kind that is never compared otherwise show themselves differently.
fn differ<T: Debug>(old: &T, new: &T) -> bool {
    format!("{old:?}") != format!("{new:?}")
}

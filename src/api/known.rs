//! `Known`: what a registration or a token's controls may name that stands in the configuration only. What nobody could
//! ever keep to is refused where it is said, by its field.

use std::sync::{Arc, Mutex};

use super::error::Problem;
use super::notifier::Endpoint;
use crate::stdx::lock::Lock;
use crate::tsp::{Merchant, TokenControls};
use crate::vocab::LinkId;

/// As the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// At which merchants can be.
    pub acquirers: Vec<LinkId>,
    /// Whether there are certificates that receivers' must come from.
    pub trusts_receivers: bool,
}

/// The same for handlers. Clones share it.
#[derive(Clone)]
pub(super) struct Known(Arc<Mutex<Surroundings>>);

impl Known {
    pub(super) fn new(surroundings: Surroundings) -> Self {
        Self(Arc::new(Lock::new(surroundings)))
    }

    /// From the next request on it is this.
    pub(super) fn become_this(&self, surroundings: Surroundings) {
        self.0.with(|known| *known = surroundings);
    }

    /// # Errors
    /// `invalid-field`, `merchants[0].acquirer`.
    pub(super) fn merchants(&self, merchants: &[Merchant]) -> Result<(), Problem> {
        let is_unknown =
            |known: &Surroundings| merchants.iter().position(|it| !known.acquirers.contains(&it.acquirer));
        match self.0.with(|known| is_unknown(known)) {
            None => Ok(()),
            Some(at) => {
                let problem = Problem::wrong("no acquirer has this number").at("acquirer").well_formed();
                Err(problem.within(&format!("merchants[{at}]")))
            }
        }
    }

    /// # Errors
    /// As `merchants`, within `controls`.
    pub(super) fn controls(&self, controls: Option<&TokenControls>) -> Result<(), Problem> {
        let merchants = controls.map_or(&[][..], |controls| controls.merchants.as_slice());
        self.merchants(merchants).map_err(|problem| problem.within("controls"))
    }

    /// # Errors
    /// `invalid-field`, `notificationUrl`.
    pub(super) fn receiver(&self, endpoint: &Endpoint) -> Result<(), Problem> {
        let trusted = !endpoint.is_tls() || self.0.with(|known| known.trusts_receivers);
        let reason =
            "https needs notifications.trust in the configuration: whose certificates are to be trusted";
        if trusted { Ok(()) } else { Err(Problem::invalid("notificationUrl", reason).well_formed()) }
    }
}

//! The registry of token requestors: what operators register, change and close, in the journal. A requestor of the
//! configuration stands as it is written there until the registry has one of its id; from then on the registry counts.

use std::collections::BTreeSet;

use crate::stdx::clock::{Now, Wall};
use crate::stdx::maps::Map;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Text, TokenRequestorId, YearMonth};

use super::command::{Answer, RegistryChange, RegistryRequest, Told};
use super::error::ProvisioningRefusal;
use super::event::{CannotFollow, Change, Principal, TokenEvent};
use super::outbox::Receiver;
use super::remembered::Recalled;
use super::requestor::TokenRequestor;
use super::tsp::{Decision, Tsp};

/// A requestor as it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub requestor: TokenRequestor,
    /// Rises by one with each change; 0 in the configuration.
    pub version: u32,
    /// It gets no more tokens, for good. Those that it has stay as they are.
    pub closed: bool,
    /// None: in the configuration.
    pub changed_at: Option<Wall>,
}

impl Registration {
    /// Who is told of its tokens.
    pub(super) fn receiver(&self) -> Receiver {
        Receiver::Requestor(self.requestor.id)
    }

    /// Where; empty: nowhere, or where the configuration says.
    pub(super) fn url(&self) -> Text<128> {
        self.requestor.notification_url
    }
}

/// All requestors, by id.
#[derive(Debug)]
pub(super) struct Requestors {
    configured: Map<TokenRequestorId, TokenRequestor>,
    registered: Map<TokenRequestorId, Registration>,
}

impl Requestors {
    pub(super) fn new(configured: &[TokenRequestor]) -> Self {
        let configured = configured.iter().map(|requestor| (requestor.id, requestor.clone())).collect();
        Self { configured, registered: Map::default() }
    }

    /// A requestor that may have tokens.
    pub(super) fn get(&self, id: TokenRequestorId) -> Option<&TokenRequestor> {
        match self.registered.get(&id) {
            Some(registration) => {
                let open = !registration.closed || sabotaged("closed-requestor-gets-tokens");
                Some(&registration.requestor).filter(|_| open)
            }
            None => self.configured.get(&id),
        }
    }

    /// A requestor, closed or not.
    pub(super) fn registration(&self, id: TokenRequestorId) -> Option<Registration> {
        let configured = || {
            let requestor = self.configured.get(&id)?.clone();
            Some(Registration { requestor, version: 0, closed: false, changed_at: None })
        };
        self.registered.get(&id).cloned().or_else(configured)
    }

    /// The first `most` after an id, in order of ids.
    fn after(&self, id: Option<TokenRequestorId>, most: usize) -> Vec<Registration> {
        let known = self.registered.keys().chain(self.configured.keys()).copied();
        let ids: BTreeSet<_> = known.filter(|known| id.is_none_or(|id| *known > id)).collect();
        ids.into_iter().take(most).filter_map(|id| self.registration(id)).collect()
    }

    pub(super) fn registered(&self) -> usize {
        self.registered.len()
    }

    /// Requestors of the configuration that the registry knows otherwise: the registry counts.
    pub(super) fn differing(&self) -> Vec<TokenRequestorId> {
        let differs = |id: &&TokenRequestorId| {
            let registered = self.registered.get(*id);
            registered.is_some_and(|it| it.closed || Some(&it.requestor) != self.configured.get(*id))
        };
        let mut ids: Vec<TokenRequestorId> = self.configured.keys().filter(differs).copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn put(&mut self, registration: Registration) {
        self.registered.insert(registration.requestor.id, registration);
    }

    /// Applies what was journaled.
    pub(super) fn note(&mut self, registration: &Registration, at: Wall) -> Result<(), CannotFollow> {
        let before = self.registration(registration.requestor.id).map_or(0, |before| before.version);
        if before.checked_add(1) != Some(registration.version) {
            return Err("a change of the requestor is missing before it");
        }
        self.put(Registration { changed_at: Some(at), ..registration.clone() });
        Ok(())
    }
}

impl Tsp {
    /// What becomes of a requestor. One change of it at a time is on its way.
    pub(super) fn decide_registry(
        &self,
        request: &RegistryRequest,
        now: Now,
    ) -> Result<Decision, ProvisioningRefusal> {
        let (id, cause) = (request.change.id(), request.cause());
        if let Some(told) = self.came_before(&cause)? {
            return self.registered_then(told, request, now).map(Decision::Told);
        }
        if !matches!(request.asker.principal, Principal::Operator(_) | Principal::Service) {
            return Err(ProvisioningRefusal::NotYours);
        }
        if self.ahead.requestors.contains(&id) {
            return Err(ProvisioningRefusal::RequestInFlight);
        }
        let before = self.requestors.registration(id);
        let version = before.as_ref().map_or(0, |before| before.version);
        if request.version.is_some_and(|seen| seen != version) {
            return Err(ProvisioningRefusal::VersionDiffers);
        }
        if before.as_ref().is_some_and(|before| before.closed) {
            return Err(ProvisioningRefusal::StatusDoesNotAllow);
        }
        let (requestor, closed) = match (&request.change, before) {
            (RegistryChange::Set(requestor), _) => ((**requestor).clone(), false),
            (RegistryChange::Close(_), Some(before)) => (before.requestor, true),
            (RegistryChange::Close(_), None) => return Err(ProvisioningRefusal::UnknownRequestor),
        };
        if version == 0 && !self.config.is_ours(id) {
            return Err(ProvisioningRefusal::RequestorNotOurs);
        }
        if !requestor.valid() {
            return Err(ProvisioningRefusal::ControlsNotValid);
        }
        let most = usize::try_from(self.config.limits.requestors).unwrap_or(usize::MAX);
        if version == 0 && self.requestors.registered() >= most {
            return Err(ProvisioningRefusal::VaultFull);
        }
        let registration = Registration { requestor, version: version + 1, closed, changed_at: None };
        let change = Change::Registered(Box::new(registration));
        let cause = super::event::Cause { requestor: Some(id), ..cause };
        Ok(Decision::New(Box::new(TokenEvent { cause, change })))
    }

    /// The answer to a request that came before. What it registered it says again itself; a closed one stays as it is.
    fn registered_then(&self, told: Recalled, request: &RegistryRequest, now: Now) -> Answer {
        match (&told, &request.change) {
            (Recalled::Requestor(_, Some((version, at))), RegistryChange::Set(requestor)) => {
                let requestor = (**requestor).clone();
                let (version, changed_at) = (*version, Some(*at));
                let then = Registration { requestor, version, closed: false, changed_at };
                Ok(Told::Requestor(Box::new(then)))
            }
            _ => self.recall(told, YearMonth::of(now.wall)),
        }
    }

    /// A requestor, for operators and for itself.
    pub(super) fn registration(
        &self,
        principal: Principal,
        id: TokenRequestorId,
    ) -> Result<Registration, ProvisioningRefusal> {
        let may = match principal {
            Principal::Operator(_) | Principal::Service => true,
            Principal::Requestor(own) => own == id,
            Principal::Issuer(_) => false,
        };
        let found = self.requestors.registration(id).filter(|_| may);
        found.ok_or(ProvisioningRefusal::UnknownRequestor)
    }

    /// So many requestors after an id, in order of ids, closed ones included; for operators.
    pub(super) fn registrations(
        &self,
        principal: Principal,
        after: Option<TokenRequestorId>,
        most: usize,
    ) -> Result<Vec<Registration>, ProvisioningRefusal> {
        match principal {
            Principal::Operator(_) | Principal::Service => Ok(self.requestors.after(after, most)),
            Principal::Requestor(_) | Principal::Issuer(_) => Err(ProvisioningRefusal::NotYours),
        }
    }

    /// Requestors of the configuration that the registry knows otherwise.
    #[must_use]
    pub fn differing_requestors(&self) -> Vec<TokenRequestorId> {
        self.requestors.differing()
    }
}

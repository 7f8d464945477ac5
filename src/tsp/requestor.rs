//! `TokenRequestor` registry: who may ask for what. Until there is a registry of its own, it stands in the
//! configuration.

use crate::stdx::maps::Map;
use crate::vocab::{Text, TokenAssuranceMethod, TokenLocation, TokenRequestorId};

use super::controls::DomainControls;
use super::error::ProvisioningRefusal;

/// A registered requestor in one token domain (EMVCo 5.2: an id a requestor and domain).
#[derive(Debug, Clone)]
pub struct TokenRequestor {
    pub id: TokenRequestorId,
    pub name: Text<16>,
    /// SHA-256 of its credential for the API, if it has one. The credential itself is nowhere kept.
    pub credential: Option<[u8; 32]>,
    /// What each of its tokens gets on the day of issue.
    pub controls: DomainControls,
    /// Where it keeps tokens, when a request does not say.
    pub location: TokenLocation,
    /// The assurance methods that it may claim; "not performed" always may be.
    pub assurances: Vec<TokenAssuranceMethod>,
    pub activation: Activation,
}

/// When a token begins to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    AtIssue,
    /// Only once the requestor has confirmed that it arrived.
    Confirmed,
}

impl TokenRequestor {
    /// The assurance method that a token gets.
    ///
    /// # Errors
    /// `AssuranceNotAllowed` for a method that this requestor may not claim.
    pub fn assurance(
        &self,
        claimed: Option<TokenAssuranceMethod>,
    ) -> Result<TokenAssuranceMethod, ProvisioningRefusal> {
        let method = claimed.unwrap_or(TokenAssuranceMethod::NOT_PERFORMED);
        let allowed = method == TokenAssuranceMethod::NOT_PERFORMED || self.assurances.contains(&method);
        allowed.then_some(method).ok_or(ProvisioningRefusal::AssuranceNotAllowed)
    }
}

/// All requestors, by id.
#[derive(Debug)]
pub struct Requestors {
    by_id: Map<TokenRequestorId, TokenRequestor>,
}

impl Requestors {
    #[must_use]
    pub fn new(list: &[TokenRequestor]) -> Self {
        Self { by_id: list.iter().map(|requestor| (requestor.id, requestor.clone())).collect() }
    }

    #[must_use]
    pub fn get(&self, id: TokenRequestorId) -> Option<&TokenRequestor> {
        self.by_id.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requestor_claims_only_what_it_may() {
        let requestor = super::super::config::sample().requestors[0].clone();
        let method = |digits: &[u8]| TokenAssuranceMethod::parse(digits).unwrap();
        let refused = Err(ProvisioningRefusal::AssuranceNotAllowed);
        for (claimed, expected) in [
            (None, Ok(method(b"00"))),
            (Some(method(b"00")), Ok(method(b"00"))),
            (Some(method(b"01")), Ok(method(b"01"))),
            (Some(method(b"12")), refused),
        ] {
            assert_eq!(requestor.assurance(claimed), expected);
        }
    }
}

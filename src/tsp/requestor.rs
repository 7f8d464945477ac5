//! `TokenRequestor`: who may ask for what.

use crate::vocab::{Text, TokenAssuranceMethod, TokenLocation, TokenRequestorId, WordError, WordFault};

use super::controls::DomainControls;
use super::error::ProvisioningRefusal;

/// A registered requestor in one token domain (EMVCo 5.2: an id a requestor and domain).
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Where it may keep tokens; empty: anywhere.
    pub locations: Vec<TokenLocation>,
    /// Where it wants to hear what becomes of its tokens; empty: nowhere.
    pub notification_url: Text<128>,
    pub limits: RequestorLimits,
    /// Requestors that may have tokens made for the cards behind its tokens.
    pub shares_with: Vec<TokenRequestorId>,
    /// Keys for which alone its tokens' keys leave; empty: for that of each token's first device.
    pub wrapping_keys: Vec<Thumbprint>,
}

/// A public key by its thumbprint (RFC 7638), in base64url: 43 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbprint(Text<43>);

impl Thumbprint {
    /// Takes 32 bytes in base64url without padding.
    ///
    /// # Errors
    /// `Length` or `NotAllowed`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "thumbprint";
        if bytes.len() != 43 {
            return Err(WordError {
                word,
                fault: WordFault::Length { length: bytes.len(), least: 43, most: 43 },
            });
        }
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if let Some(at) = bytes.iter().position(|byte| !fits(byte)) {
            return Err(WordError { word, fault: WordFault::NotAllowed { at } });
        }
        Text::parse(word, bytes).map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// What a requestor's tokens may come to in number, deactivated ones apart; none: as everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestorLimits {
    /// In all.
    pub tokens: Option<u32>,
    pub tokens_per_pan: Option<u32>,
    pub tokens_per_device: Option<u32>,
    /// How many of their cards' numbers may be told in a day (UTC) outside of payments; none: not one.
    pub detokenizations_per_day: Option<u32>,
}

/// When a token begins to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    AtIssue,
    /// Only once the requestor has confirmed that it arrived.
    Confirmed,
}

impl TokenRequestor {
    /// The most items of each list.
    const LIST_MOST: usize = 256;

    /// Whether it can be registered: an entry mode at least (EMVCo demands the control), domains that are theirs, no
    /// list too long, its location among those it may use, and a URL that is one, as far as can be told without going
    /// there.
    #[must_use]
    pub fn valid(&self) -> bool {
        let DomainControls { entry_modes, merchants, categories, .. } = &self.controls;
        let (shared, keys) = (self.shares_with.len(), self.wrapping_keys.len());
        let own = [self.assurances.len(), self.locations.len(), shared, keys];
        let mut lists = own.into_iter().chain([merchants.len(), categories.len()]);
        let url = self.notification_url.as_bytes();
        !entry_modes.is_empty()
            && self.controls.domains_agree()
            && lists.all(|length| length <= Self::LIST_MOST)
            && self.may_keep_in(self.location)
            && (url.is_empty() || url.starts_with(b"https://") || url.starts_with(b"http://"))
    }

    /// Whether it may keep tokens there.
    #[must_use]
    pub fn may_keep_in(&self, location: TokenLocation) -> bool {
        self.locations.is_empty() || self.locations.contains(&location)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requestor_s_domains_are_those_of_its_entry_modes() {
        use crate::vocab::TokenDomain::{CardOnFile, Contact, InApp, Proximity, QrCode};
        // Entered by 07 and 10.
        let requestor = super::super::config::sample().requestors[0].clone();
        for (domains, expected) in [
            (&[][..], true),
            (&[Proximity, CardOnFile], true),
            (&[Proximity, InApp, CardOnFile], true),
            (&[Proximity], false),
            (&[Proximity, InApp, QrCode], false),
            (&[Contact], false),
        ] {
            let mut requestor = requestor.clone();
            requestor.controls.domains = domains.iter().copied().collect();
            assert_eq!(requestor.valid(), expected, "{domains:?}");
        }
    }

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

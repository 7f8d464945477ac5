//! Token requests that name a token in a card's place (EMVCo 8.1.1.2): one of the same requestor, or of another one
//! whose registration shares its tokens with this one, or that has consented to this request. The new token is for the
//! card behind it, which is identified and verified as if its number had been sent.

use crate::stdx::clock::Now;
use crate::stdx::random::Entropy;
use crate::vocab::{
    Expiry, RiskHints, Text, Token, TokenAssuranceMethod, TokenLocation, TokenReferenceId, TokenRequestorId,
    YearMonth,
};

use super::command::{Action, Asker, CallId, ProvisionRequest};
use super::consent::ConsentId;
use super::error::ProvisioningRefusal;
use super::moves::good;
use super::own_controls::TokenControls;
use super::record::{CardAad, VaultRecord, open_card};
use super::tsp::Tsp;
use super::wanted::WantedToken;

/// The token that is named in a card's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceToken {
    Reference(TokenReferenceId),
    /// With the token's own expiry.
    Token(Token, Expiry),
}

/// A token is wanted for the card behind another one.
#[derive(Debug, Clone)]
pub struct SourcedRequest {
    pub asker: Asker,
    pub source: SourceToken,
    /// The others are as in `ProvisionRequest`.
    pub assurance: Option<TokenAssuranceMethod>,
    pub location: Option<TokenLocation>,
    pub device: Option<Text<64>>,
    pub hints: RiskHints,
    pub controls: Option<Box<TokenControls>>,
    /// What the token's requestor consented by; none of one's own token, and of one that is shared.
    pub consent: Option<ConsentId>,
}

/// A mark of a card, the same for its number and for every token that leads to it. The number does not follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CardMark(pub(super) [u8; 16]);

#[cfg(test)]
impl CardMark {
    pub(crate) fn sample(byte: u8) -> Self {
        Self([byte; 16])
    }
}

/// The token that a request named, as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    pub named: SourceToken,
    pub record: u64,
    pub consent: Option<ConsentId>,
}

impl SourceToken {
    /// For a request's digest.
    pub(super) fn said(&self) -> Vec<u8> {
        match self {
            Self::Reference(reference) => [&[1], reference.to_bytes().as_slice()].concat(),
            Self::Token(token, expiry) => [&[2], token.as_bytes(), &expiry.digits()].concat(),
        }
    }
}

impl Tsp {
    /// Decides about a request once the card that it means is known.
    pub(super) fn begin_from(
        &mut self,
        call: CallId,
        request: SourcedRequest,
        now: Now,
        entropy: &mut Entropy,
        actions: &mut Vec<Action>,
    ) {
        match self.with_card(request, now) {
            Ok(wanted) => self.begin(call, Box::new(wanted), now, entropy, actions),
            Err(refusal) => actions.push(Action::Answer { call, answer: Err(refusal) }),
        }
    }

    /// The same request, of the card behind the token. Whether that token may be used so is not asked again of a
    /// request that was decided before: it gets its answer.
    fn with_card(&self, request: SourcedRequest, now: Now) -> Result<WantedToken, ProvisioningRefusal> {
        let SourcedRequest { asker, source: named, assurance, location, device, hints, controls, consent } =
            request;
        let record = self.whatever_expiry(named).ok_or(ProvisioningRefusal::UnknownToken)?;
        let aad = CardAad::vault(&record.token, record.record, record.mapping_version);
        let card =
            open_card(&self.sealer, &aad, &record.sealed).map_err(|_| ProvisioningRefusal::Unavailable)?;
        let pan_expiry = card.expiry.ok_or(ProvisioningRefusal::CardNotValid)?;
        let request = ProvisionRequest {
            asker,
            pan: card.pan,
            pan_expiry,
            sequence: card.sequence,
            assurance,
            location,
            par: None,
            device,
            hints,
            controls,
            source: Some(Source { named, record: record.record, consent }),
        };
        let (wanted, today) = (WantedToken::of(request, &self.indexer), YearMonth::of(now.wall));
        if self.repeated(&wanted.cause, today)?.is_none() {
            self.source(named).ok_or(ProvisioningRefusal::UnknownToken)?;
            let asking = asker.for_requestor().ok_or(ProvisioningRefusal::UnknownRequestor)?;
            self.may_be_source(asking, &record, consent, now)?;
            good(&record, today)?;
        }
        Ok(wanted)
    }

    /// The card behind a token, to a requestor that may have another one made for it; none for any other.
    pub(super) fn card_behind(
        &self,
        asking: TokenRequestorId,
        (named, consent): (SourceToken, Option<ConsentId>),
        now: Now,
    ) -> Option<CardMark> {
        let record = self.source(named)?;
        let may = self.may_be_source(asking, &record, consent, now);
        may.is_ok().then_some(CardMark(record.blind_index))
    }

    /// The token as it will be. It may have had another expiry date when the same request named it first.
    fn whatever_expiry(&self, named: SourceToken) -> Option<VaultRecord> {
        let record = match named {
            SourceToken::Reference(reference) => self.table.by_reference(reference)?,
            SourceToken::Token(token, _) => self.table.by_token(&token)?,
        };
        self.record_ahead(record)
    }

    fn source(&self, named: SourceToken) -> Option<VaultRecord> {
        self.whatever_expiry(named).filter(|record| match named {
            SourceToken::Reference(_) => true,
            SourceToken::Token(_, expiry) => record.expiry == expiry,
        })
    }

    /// Somebody else's token that is not shared is as unknown as none, whatever its status; so is any with a consent
    /// that is not good.
    fn may_be_source(
        &self,
        asking: TokenRequestorId,
        record: &VaultRecord,
        presented: Option<ConsentId>,
        now: Now,
    ) -> Result<(), ProvisioningRefusal> {
        if presented.is_some_and(|presented| self.is_consented(record.record, asking, presented, now)) {
            return Ok(());
        }
        let owner = self.requestors.registration(record.requestor);
        let shared = owner.is_some_and(|owner| owner.requestor.shares_with.contains(&asking));
        let may = presented.is_none() && (record.requestor == asking || shared);
        may.then_some(()).ok_or(ProvisioningRefusal::UnknownToken)
    }
}

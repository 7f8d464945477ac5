//! `WantedToken`: a request for a token with what is made of it before anything is decided.

use crate::crypto::BlindIndexer;
use crate::vocab::{
    PanSequenceNumber, PanSource, Recommendation, RiskHints, TokenAssuranceMethod, TokenLocation, TrustScore,
};

use super::command::ProvisionRequest;
use super::controls_layout::encode_controls;
use super::event::Cause;

/// As many bytes a request says as a rule, at most.
const ROOM: usize = 128;

/// A request for a token, the cause of what follows from it, and the blind index of its card. Both depend on nothing
/// but the request, so that callers' threads make them: all that is decided is decided on one.
#[derive(Debug)]
pub struct WantedToken {
    pub(super) request: ProvisionRequest,
    pub(super) cause: Cause,
    pub(super) card: [u8; 16],
}

impl WantedToken {
    #[must_use]
    pub(super) fn of(request: ProvisionRequest, indexer: &BlindIndexer) -> Self {
        let card = indexer.index(&request.pan);
        let cause = cause(&request, &card);
        Self { request, cause, card }
    }
}

/// The PAN goes into the digest as its blind index: a plain hash of a request would tell the PAN to whoever tries them
/// all.
fn cause(request: &ProvisionRequest, card: &[u8; 16]) -> Cause {
    let mut said = Vec::with_capacity(ROOM);
    // The card behind a token may have another number by the time the request comes again.
    match &request.source {
        Some(source) => {
            said.push(9);
            said.extend(source.named.said());
            said.extend(source.consent.iter().flat_map(|consent| consent.0));
        }
        None => {
            said.push(1);
            said.extend_from_slice(card);
            said.extend_from_slice(&request.pan_expiry.digits());
            said.push(request.sequence.map_or(u8::MAX, PanSequenceNumber::get));
        }
    }
    said.extend_from_slice(&request.assurance.map_or(*b"--", TokenAssuranceMethod::digits));
    said.push(request.location.map_or(u8::MAX, TokenLocation::code));
    said.extend(request.par.iter().flat_map(|par| par.as_bytes().to_vec()));
    if let Some(device) = &request.device {
        said.push(b'd');
        said.extend_from_slice(device.as_bytes());
    }
    if request.hints != RiskHints::default() {
        let RiskHints { recommendation, device_score, account_score, source } = request.hints;
        let code = |code: Option<u8>| code.unwrap_or_default();
        said.extend_from_slice(&[
            b'h',
            code(recommendation.map(Recommendation::code)),
            code(device_score.map(TrustScore::get)),
            code(account_score.map(TrustScore::get)),
            code(source.map(PanSource::code)),
        ]);
    }
    if let Some(controls) = &request.controls {
        said.push(b'c');
        said.extend_from_slice(&encode_controls(controls));
    }
    let source = request.source.map(|source| source.record);
    let consent = request.source.and_then(|source| source.consent);
    Cause { source, consent, ..request.asker.cause(&said) }
}

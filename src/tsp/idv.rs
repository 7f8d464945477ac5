//! Identification and verification (EMVCo 6): whether a request for a token is green, yellow or red, by the issuer's
//! rule, the issuer's own answer and the requestor's hints.
//!
//! An issuer that is to be asked is asked before anything is written. A crash meanwhile leaves nothing behind: the
//! same request may come again, and asks again. What was decided is one event; only that makes a token.

use crate::stdx::clock::Now;
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{
    EnquiryId, PanSource, Recommendation, RiskHints, TokenAssuranceMethod, TokenLocation, TokenReferenceId,
    TrustScore, YearMonth,
};

use super::approval::{CardWord, Enquiry, IssuerWord};
use super::command::{Action, CallId};
use super::error::ProvisioningRefusal;
use super::event::{Cause, Change, Decline, DeclinedBy, PartyName, TokenEvent};
use super::lifecycle::{Lifecycle, TokenStatus};
use super::owners::{Owners, Setter};
use super::record::{CardData, VaultRecord};
use super::step_up::StepUp;
use super::tsp::{Decision, Tsp};
use super::wanted::WantedToken;

/// What an issuer has agreed for its cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApprovalRule {
    /// No identification and verification: a token is issued as its requestor is registered, unless that advises
    /// against it itself. Of doubts nobody is asked.
    #[default]
    Off,
    /// It is asked each time.
    Ask,
    /// Its standing yes, whatever the hints are.
    AlwaysGreen,
    /// It is asked, and even its yes waits for the cardholder's proof.
    AlwaysStepUp,
}

/// An issuer's rule, by the issuer's name in the PAN ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerRule {
    pub issuer: PartyName,
    pub approval: ApprovalRule,
    pub doubts: Doubts,
}

/// What a requestor says for which even an issuer's yes waits for the cardholder's proof, besides its own
/// recommendation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubts {
    /// A score of the device or the account that is less than this.
    pub trust_least: TrustScore,
    /// The card number comes from there.
    pub sources: Vec<PanSource>,
    /// The token is to be kept there.
    pub locations: Vec<TokenLocation>,
}

impl Default for Doubts {
    /// Only of the least score.
    fn default() -> Self {
        Self { trust_least: TrustScore::SECOND, sources: Vec::new(), locations: Vec::new() }
    }
}

impl Doubts {
    fn are_about(&self, hints: &RiskHints, location: TokenLocation) -> bool {
        let scores = [hints.device_score, hints.account_score];
        hints.recommendation == Some(Recommendation::StepUp)
            || scores.into_iter().flatten().any(|score| score < self.trust_least)
            || hints.source.is_some_and(|source| self.sources.contains(&source))
            || self.locations.contains(&location)
    }
}

/// A request for which an issuer is being asked.
#[derive(Debug)]
pub(super) struct AskedFor {
    wanted: Box<WantedToken>,
    issuer: Option<PartyName>,
    enquiry: EnquiryId,
    rule: ApprovalRule,
}

impl AskedFor {
    /// The cause of what will follow.
    pub(super) fn cause(&self) -> &Cause {
        &self.wanted.cause
    }
}

/// Payment account references that issuers said of cards which have others: those that they have count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DifferingPars {
    /// Since the start.
    pub(super) count: u64,
    /// The token at whose issue the last one was said.
    pub(super) last: Option<TokenReferenceId>,
}

impl DifferingPars {
    fn compare(&mut self, card: &CardWord, record: &VaultRecord) {
        if card.par.is_some() && card.par != record.par {
            *self = Self { count: self.count.saturating_add(1), last: Some(record.reference) };
        }
    }
}

/// What is decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Green(CardWord),
    /// The cardholder must prove itself.
    Yellow(CardWord),
    Red(DeclinedBy),
}

/// Approved after the issuer looked at the account, and nothing else: EMVCo 6, method 10.
const ACCOUNT_VERIFIED: &[u8] = b"10";

/// Whether the requestor itself would give no token.
pub(super) fn advises_against(hints: &RiskHints) -> bool {
    hints.recommendation == Some(Recommendation::Decline)
}

/// The table of the decision; none where the issuer has not answered. `wary`: there are doubts about the request.
fn verdict(rule: ApprovalRule, (hints, wary): (RiskHints, bool), word: IssuerWord) -> Option<Verdict> {
    Some(match word {
        IssuerWord::Silent if sabotaged("silence-is-yes") => Verdict::Green(CardWord::default()),
        IssuerWord::Silent => return None,
        IssuerWord::Declined => Verdict::Red(DeclinedBy::Issuer),
        _ if advises_against(&hints) => Verdict::Red(DeclinedBy::Requestor),
        IssuerWord::StepUp(card) => Verdict::Yellow(card),
        IssuerWord::Approved(card) if wary || rule == ApprovalRule::AlwaysStepUp => Verdict::Yellow(card),
        IssuerWord::Approved(card) => Verdict::Green(card),
    })
}

impl Tsp {
    /// The rule for cards of this issuer.
    pub(super) fn approval_rule(&self, issuer: Option<PartyName>) -> ApprovalRule {
        let rule = self.config.approvals.iter().find(|rule| Some(rule.issuer) == issuer);
        rule.map(|rule| rule.approval).unwrap_or_default()
    }

    /// Whether this issuer's rule has doubts about a request.
    fn is_wary(&self, issuer: PartyName, hints: &RiskHints, location: TokenLocation) -> bool {
        let rule = self.config.approvals.iter().find(|rule| rule.issuer == issuer);
        rule.is_some_and(|rule| rule.doubts.are_about(hints, location))
    }

    /// Decides about a request, or has the card's issuer asked first.
    pub(super) fn begin(
        &mut self,
        call: CallId,
        wanted: Box<WantedToken>,
        now: Now,
        entropy: &mut Entropy,
        actions: &mut Vec<Action>,
    ) {
        let decided = match self.provision(&wanted, now, entropy) {
            Ok(Decision::Ask(rule)) => match self.ask_issuer(call, wanted, rule, entropy, actions) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            decided => decided,
        };
        self.carry_out(call, decided, now, actions);
    }

    /// Has the issuer asked; the request waits for what it says. One issuer has half of the places, so that a silent
    /// one leaves the others some.
    fn ask_issuer(
        &mut self,
        call: CallId,
        wanted: Box<WantedToken>,
        rule: ApprovalRule,
        entropy: &mut Entropy,
        actions: &mut Vec<Action>,
    ) -> Result<(), ProvisioningRefusal> {
        let WantedToken { request, cause, .. } = &*wanted;
        let issuer = self.config.pan_range(&request.pan).and_then(|range| range.issuer);
        let of_issuer = self.asked_for.values().filter(|asked| asked.issuer == issuer).count();
        let most = self.config.limits.waiting_enquiries;
        if self.asked_for.len() >= most || of_issuer >= most.div_ceil(2) {
            return Err(ProvisioningRefusal::Overloaded);
        }
        let requestor = cause.requestor.and_then(|id| self.requestors.get(id));
        let requestor = requestor.ok_or(ProvisioningRefusal::UnknownRequestor)?;
        let id = EnquiryId(entropy.bytes().map_err(|_| ProvisioningRefusal::Unavailable)?);
        let card = CardData {
            pan: request.pan.clone(),
            expiry: Some(request.pan_expiry),
            sequence: request.sequence,
        };
        let (requestor, location) = (requestor.id, request.location.unwrap_or(requestor.location));
        let enquiry = Enquiry { id, card, requestor, location, hints: request.hints };
        self.ahead.claim(cause);
        self.asked_for.insert(call, AskedFor { wanted, issuer, enquiry: id, rule });
        actions.push(Action::AskIssuer { call, enquiry: Box::new(enquiry) });
        Ok(())
    }

    /// What the issuer said leads to a token, to a refusal that is remembered, or to one that is not.
    pub(super) fn issuer_answered(
        &mut self,
        call: CallId,
        word: IssuerWord,
        now: Now,
        entropy: &mut Entropy,
    ) -> Option<Result<Decision, ProvisioningRefusal>> {
        let AskedFor { wanted, enquiry, rule, .. } = self.asked_for.remove(&call)?;
        self.ahead.release(&wanted.cause);
        Some(self.decide_on(&wanted, (rule, enquiry), word, now, entropy))
    }

    fn decide_on(
        &mut self,
        wanted: &WantedToken,
        (rule, enquiry): (ApprovalRule, EnquiryId),
        word: IssuerWord,
        now: Now,
        entropy: &mut Entropy,
    ) -> Result<Decision, ProvisioningRefusal> {
        let WantedToken { request, cause, .. } = wanted;
        // The vault may have failed or filled up meanwhile.
        if let Some(decided) = self.repeated(cause, YearMonth::of(now.wall))? {
            return Ok(decided);
        }
        let mut admitted = self.admit(wanted, YearMonth::of(now.wall))?;
        let issuer = admitted.pans.issuer.ok_or(ProvisioningRefusal::CardNotEligible)?;
        let location = request.location.unwrap_or(admitted.requestor.location);
        let wary = self.is_wary(issuer, &request.hints, location);
        let verdict = verdict(rule, (request.hints, wary), word);
        let verdict = verdict.ok_or(ProvisioningRefusal::NoAnswerFromIssuer)?;
        let change = match verdict {
            Verdict::Red(by) => Change::Declined(Some(Decline { by, last4: request.pan.last4() })),
            Verdict::Green(card) => {
                admitted.par = card.par.or(admitted.par);
                let record = approved(self.issue(wanted, &admitted, now, entropy)?);
                self.pars.compare(&card, &record);
                Change::Issued(Box::new(record))
            }
            Verdict::Yellow(_) if self.step_ups_ahead() >= self.config.limits.step_ups => {
                return Err(ProvisioningRefusal::Overloaded);
            }
            Verdict::Yellow(card) => {
                admitted.par = card.par.or(admitted.par);
                let record = self.issue(wanted, &admitted, now, entropy)?;
                let lifecycle = Lifecycle::issued(TokenStatus::Inactive);
                self.pars.compare(&card, &record);
                let step_up = StepUp::opened(issuer, enquiry, card.contacts);
                let record = Box::new(VaultRecord { lifecycle, ..record });
                Change::IssuedForProof { record, step_up: Box::new(step_up) }
            }
        };
        Ok(Decision::New(Box::new(TokenEvent { cause: cause.clone(), change })))
    }
}

/// A token that the issuer has approved. A requestor's own claim says more than that the issuer looked at the account;
/// where there is none, the method is the issuer's word.
fn approved(record: VaultRecord) -> VaultRecord {
    if record.assurance != TokenAssuranceMethod::NOT_PERFORMED {
        return record;
    }
    let assurance = TokenAssuranceMethod::parse(ACCOUNT_VERIFIED).unwrap_or(record.assurance);
    let owners = Owners { assurance: Setter::Issuer, ..record.owners };
    VaultRecord { assurance, owners, ..record }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path() {
        use ApprovalRule::{AlwaysStepUp, Ask};
        use IssuerWord::{Approved, Declined, Silent, StepUp};
        let none = CardWord::default();
        let (green, yellow) = (Some(Verdict::Green(none)), Some(Verdict::Yellow(none)));
        let said =
            |recommendation| RiskHints { recommendation: Some(recommendation), ..RiskHints::default() };
        let scored = |score| RiskHints { device_score: TrustScore::new(score), ..RiskHints::default() };
        let account = RiskHints { account_score: TrustScore::new(1), ..RiskHints::default() };
        let nothing = RiskHints::default();
        let (by_issuer, by_requestor) =
            (Some(Verdict::Red(DeclinedBy::Issuer)), Some(Verdict::Red(DeclinedBy::Requestor)));
        for (rule, hints, word, path) in [
            (Ask, nothing, Approved(none), green),
            (Ask, nothing, StepUp(none), yellow),
            (Ask, nothing, Declined, by_issuer),
            (Ask, nothing, Silent, None),
            (Ask, said(Recommendation::Approve), Approved(none), green),
            (Ask, said(Recommendation::Approve), StepUp(none), yellow),
            (Ask, said(Recommendation::StepUp), Approved(none), yellow),
            (Ask, said(Recommendation::Decline), Approved(none), by_requestor),
            (Ask, said(Recommendation::Decline), StepUp(none), by_requestor),
            (Ask, said(Recommendation::Decline), Declined, by_issuer),
            (Ask, said(Recommendation::Decline), Silent, None),
            (Ask, scored(1), Approved(none), yellow),
            (Ask, scored(2), Approved(none), green),
            (Ask, account, Approved(none), yellow),
            (AlwaysStepUp, nothing, Approved(none), yellow),
            (AlwaysStepUp, nothing, Declined, by_issuer),
            (AlwaysStepUp, said(Recommendation::Decline), Approved(none), by_requestor),
            (AlwaysStepUp, nothing, Silent, None),
        ] {
            let wary = Doubts::default().are_about(&hints, TokenLocation::SharedStorage);
            assert_eq!(verdict(rule, (hints, wary), word), path, "{rule:?} {hints:?} {word:?}");
        }
    }

    /// What an issuer agreed to have doubts about, and of nothing else.
    #[test]
    fn doubts_are_as_the_issuer_agreed() {
        let nothing = RiskHints::default();
        let (low, middle) = (TrustScore::new(1), TrustScore::new(3));
        let device = |device_score| RiskHints { device_score, ..nothing };
        let account = |account_score| RiskHints { account_score, ..nothing };
        let from = |source| RiskHints { source: Some(source), ..nothing };
        let never = Doubts { trust_least: TrustScore::new(1).unwrap(), ..Doubts::default() };
        let careful = Doubts {
            trust_least: TrustScore::new(4).unwrap(),
            sources: vec![PanSource::Entered],
            locations: vec![TokenLocation::SharedStorage],
        };
        let (shared, device_storage) = (TokenLocation::SharedStorage, TokenLocation::DeviceStorage);
        for (doubts, hints, location, expected) in [
            (&Doubts::default(), nothing, shared, false),
            (&Doubts::default(), device(low), shared, true),
            (&Doubts::default(), account(low), shared, true),
            (&Doubts::default(), device(middle), shared, false),
            (&Doubts::default(), from(PanSource::Entered), shared, false),
            (&never, device(low), shared, false),
            (&never, RiskHints { recommendation: Some(Recommendation::StepUp), ..nothing }, shared, true),
            (&careful, nothing, device_storage, false),
            (&careful, nothing, shared, true),
            (&careful, device(middle), device_storage, true),
            (&careful, account(middle), device_storage, true),
            (&careful, device(TrustScore::new(4)), device_storage, false),
            (&careful, from(PanSource::Entered), device_storage, true),
            (&careful, from(PanSource::Pushed), device_storage, false),
        ] {
            assert_eq!(doubts.are_about(&hints, location), expected, "{doubts:?} {hints:?} {location:?}");
        }
    }
}

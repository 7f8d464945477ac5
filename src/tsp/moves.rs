//! Which change of a token's status is made: the vault's decision about a move.

use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{TokenReferenceId, YearMonth};

use super::command::{ControlRequest, MoveRequest, UpdateRequest};
use super::controls::DomainControls;
use super::error::ProvisioningRefusal;
use super::event::{Cause, Change, Principal, TokenEvent};
use super::generate::expiry;
use super::lifecycle::{Move, Moved, Suspender, TokenStatus};
use super::own_controls::TokenControls;
use super::owners::Setter;
use super::record::{CardAad, VaultRecord, open_card};
use super::tsp::{Decision, Tsp};

impl Tsp {
    /// Where a move leads. Of versions: a request that names one is carried out on that very version only, so that
    /// of two that were sent in one order and came in another, the later one tells that it is late.
    pub(super) fn decide_move(
        &self,
        request: &MoveRequest,
        now: Now,
    ) -> Result<Decision, ProvisioningRefusal> {
        let (cause, today) = (request.cause(), YearMonth::of(now.wall));
        if let Some(decided) = self.repeated(&cause, today)? {
            return Ok(decided);
        }
        let found = self.to_be_changed(cause.principal, request.reference, request.version)?;
        if !may(cause.principal, request.asked) {
            return Err(ProvisioningRefusal::NotYours);
        }
        // What its cardholder has to prove to its issuer, nobody but that can say.
        let must_prove = self.step_up_ahead(found.record).is_some();
        let may_say = matches!(cause.principal, Principal::Issuer(_));
        if request.asked == Move::Activate && must_prove && !may_say {
            // Proven, and not on disk yet: soon there is nothing left to prove.
            let is_proven = found.lifecycle.status == TokenStatus::Active;
            let in_flight = ProvisioningRefusal::ProofInFlight;
            return Err(if is_proven { in_flight } else { ProvisioningRefusal::StatusDoesNotAllow });
        }
        let before = found.lifecycle;
        if request.asked == Move::Activate && self.standing(&found.blind_index).is_some() {
            return Err(ProvisioningRefusal::CardBlocked);
        }
        let lifecycle = match before.after(request.asked) {
            Moved::To(_) if found.expiry.is_past(today) && request.asked != Move::Unlink => {
                return Err(ProvisioningRefusal::TokenExpired);
            }
            Moved::To(lifecycle) => lifecycle,
            Moved::Already => before,
            Moved::Illegal => return Err(ProvisioningRefusal::StatusDoesNotAllow),
        };
        let change =
            Change::Moved { record: found.record, asked: request.asked, before: Some(before), lifecycle };
        let cause = Cause { requestor: Some(found.requestor), ..cause };
        Ok(Decision::New(Box::new(TokenEvent { cause, change })))
    }

    /// What a token's attributes become. A requestor claims only assurance methods that it may, and in the place of its
    /// own only; issuers and operators know for themselves.
    pub(super) fn decide_update(
        &self,
        request: &UpdateRequest,
        now: Now,
    ) -> Result<Decision, ProvisioningRefusal> {
        let cause = request.cause();
        let principal = cause.principal;
        self.decide_change(cause, (request.reference, request.version), now, |found, today| {
            if let (Principal::Requestor(id), Some(method)) = (principal, request.assurance) {
                let requestor = self.requestors.get(id).ok_or(ProvisioningRefusal::UnknownRequestor)?;
                requestor.assurance(Some(method))?;
            }
            let another = request.assurance.is_some_and(|method| method != found.assurance);
            if another && Setter::from(principal) < found.owners.assurance {
                return Err(ProvisioningRefusal::AssuranceNotYours);
            }
            let range = self.config.token_ranges.iter().find(|range| range.covers(found.token.as_bytes()));
            let renewed = range.filter(|_| request.renew).and_then(|range| expiry(range, today));
            let expiry = renewed.unwrap_or(found.expiry);
            let assurance = request.assurance.unwrap_or(found.assurance);
            let (record, before) = (found.record, found.lifecycle);
            let lifecycle = before.touched_if((expiry, assurance) != (found.expiry, found.assurance));
            Ok(Change::Updated { record, before, lifecycle, expiry, assurance })
        })
    }

    /// A token's own controls, in place of those it has. Its issuer and the operator may narrow it, too: what they set
    /// stays until they, or who stands above them, set something else.
    pub(super) fn decide_controls(
        &self,
        request: &ControlRequest,
        now: Now,
    ) -> Result<Decision, ProvisioningRefusal> {
        let by = Setter::from(request.asker.principal);
        self.decide_change(request.cause(), (request.reference, request.version), now, |found, _| {
            if request.controls != found.own && by < found.owners.controls {
                return Err(ProvisioningRefusal::ControlsNotYours);
            }
            self.check_own_controls(request.controls.as_deref(), &found.controls, found.own.is_some())?;
            let (record, before, controls) = (found.record, found.lifecycle, request.controls.clone());
            let lifecycle = before.touched_if(controls != found.own);
            Ok(Change::Controlled { record, before, lifecycle, controls })
        })
    }

    /// A change of what a token is, not of its status: of one that is still there, for one who may change it.
    fn decide_change(
        &self,
        cause: Cause,
        (reference, version): (TokenReferenceId, Option<u32>),
        now: Now,
        change: impl FnOnce(&VaultRecord, YearMonth) -> Result<Change, ProvisioningRefusal>,
    ) -> Result<Decision, ProvisioningRefusal> {
        let today = YearMonth::of(now.wall);
        if let Some(decided) = self.repeated(&cause, today)? {
            return Ok(decided);
        }
        let found = self.to_be_changed(cause.principal, reference, version)?;
        if found.lifecycle.status == TokenStatus::Deactivated {
            return Err(ProvisioningRefusal::StatusDoesNotAllow);
        }
        let change = change(&found, today)?;
        let cause = Cause { requestor: Some(found.requestor), ..cause };
        Ok(Decision::New(Box::new(TokenEvent { cause, change })))
    }

    /// Whether a token may have these controls of its own. `had`: whether it has some already.
    pub(super) fn check_own_controls(
        &self,
        controls: Option<&TokenControls>,
        requestors: &DomainControls,
        had: bool,
    ) -> Result<(), ProvisioningRefusal> {
        let Some(controls) = controls else { return Ok(()) };
        if !requestors.domains.cover(controls.domains) {
            return Err(ProvisioningRefusal::DomainNotAllowed);
        }
        if !controls.valid() {
            return Err(ProvisioningRefusal::ControlsNotValid);
        }
        if controls.amount_tolerance.is_some_and(|own| own > self.config.amount_tolerance) {
            return Err(ProvisioningRefusal::ToleranceTooLarge);
        }
        let most = usize::try_from(self.config.limits.narrowed_tokens).unwrap_or(usize::MAX);
        let room = had || self.table.narrowed() < most;
        room.then_some(()).ok_or(ProvisioningRefusal::VaultFull)
    }

    /// A token as it will be, for one who may change it and has seen this version of it.
    pub(super) fn to_be_changed(
        &self,
        principal: Principal,
        reference: TokenReferenceId,
        version: Option<u32>,
    ) -> Result<VaultRecord, ProvisioningRefusal> {
        let record = self.owned(principal, reference).ok_or(ProvisioningRefusal::UnknownToken)?;
        let found = self.record_ahead(record).ok_or(ProvisioningRefusal::UnknownToken)?;
        if version.is_some_and(|seen| seen != found.lifecycle.version) {
            return Err(ProvisioningRefusal::VersionDiffers);
        }
        Ok(found)
    }

    /// The record of a token that this principal may know of. Somebody else's is as unknown as none.
    pub(super) fn owned(&self, principal: Principal, reference: TokenReferenceId) -> Option<u64> {
        let record = self.table.by_reference(reference)?;
        let found = self.table.record(record)?;
        let theirs = match principal {
            Principal::Requestor(id) => found.requestor == id,
            Principal::Issuer(_) if sabotaged("any-issuer-moves") => true,
            Principal::Issuer(name) => self.issuer_of(&found) == Some(name),
            Principal::Operator(_) | Principal::Service => true,
        };
        theirs.then_some(record)
    }

    /// The issuer of the card behind a token.
    pub(super) fn issuer_of(&self, found: &VaultRecord) -> Option<super::event::PartyName> {
        let aad = CardAad::vault(&found.token, found.record, found.mapping_version);
        let card = open_card(&self.sealer, &aad, &found.sealed).ok()?;
        self.config.pan_range(&card.pan)?.issuer
    }
}

/// Whether a token is good: active, and its expiry is to come.
pub(super) fn good(record: &VaultRecord, today: YearMonth) -> Result<(), ProvisioningRefusal> {
    unexpired(record, today)?;
    let is_active = record.lifecycle.status == TokenStatus::Active;
    is_active.then_some(()).ok_or(ProvisioningRefusal::StatusDoesNotAllow)
}

/// Whether a token's expiry is to come.
pub(super) fn unexpired(record: &VaultRecord, today: YearMonth) -> Result<(), ProvisioningRefusal> {
    let is_past = record.expiry.is_past(today);
    if is_past { Err(ProvisioningRefusal::TokenExpired) } else { Ok(()) }
}

/// Who may ask for which move: each suspends in its own name, and lifts only that.
fn may(principal: Principal, asked: Move) -> bool {
    let by = match asked {
        Move::Activate | Move::Unlink => return true,
        Move::Suspend(by) | Move::Resume(by) => by,
    };
    match principal {
        Principal::Requestor(_) => {
            matches!(by, Suspender::TokenRequestor | Suspender::Cardholder | Suspender::MobilePinLocked)
        }
        Principal::Issuer(_) => by == Suspender::Issuer,
        Principal::Operator(_) => by == Suspender::Operator,
        // What it does, it does in the name of whoever it works for.
        Principal::Service => true,
    }
}

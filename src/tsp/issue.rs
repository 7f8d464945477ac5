//! Which card gets a token, and which token: the vault's decision about a provisioning.

use std::sync::Arc;

use crate::stdx::clock::Now;
use crate::stdx::random::Entropy;
use crate::vocab::{Par, Text, Token, TokenRequestorId, YearMonth, luhn_valid};

use super::command::ProvisionRequest;
use super::config::{PanRange, TokenRange, TspConfig};
use super::error::ProvisioningRefusal;
use super::event::{Change, Decline, DeclinedBy, Reason, TokenEvent};
use super::generate::{DrawError, draw_par, draw_reference, draw_token, expiry, is_full};
use super::idv::{ApprovalRule, advises_against};
use super::lifecycle::{Lifecycle, TokenStatus};
use super::own_controls::TokenControls;
use super::owners::{Owners, Setter};
use super::record::{CardAad, CardData, VaultRecord, seal_card};
use super::requestor::{Activation, TokenRequestor};
use super::table::Domain;
use super::tsp::{Decision, Tsp};
use super::wanted::WantedToken;

/// A card that may have a token, at a requestor.
pub(super) struct Admitted {
    pub(super) requestor: TokenRequestor,
    pub(super) pans: PanRange,
    /// The card's payment account reference, as it was supplied.
    pub(super) par: Option<Par>,
}

impl Tsp {
    /// Whether a card gets a token, and which.
    pub(super) fn provision(
        &mut self,
        wanted: &WantedToken,
        now: Now,
        entropy: &mut Entropy,
    ) -> Result<Decision, ProvisioningRefusal> {
        let WantedToken { request, cause, .. } = wanted;
        let today = YearMonth::of(now.wall);
        if let Some(decided) = self.repeated(cause, today)? {
            return Ok(decided);
        }
        let admitted = self.admit(wanted, today)?;
        match self.approval_rule(admitted.pans.issuer) {
            ApprovalRule::Off if advises_against(&request.hints) => {
                let decline = Decline { by: DeclinedBy::Requestor, last4: request.pan.last4() };
                let change = Change::Declined(Some(decline));
                return Ok(Decision::New(Box::new(TokenEvent { cause: cause.clone(), change })));
            }
            ApprovalRule::Off | ApprovalRule::AlwaysGreen => {}
            rule @ (ApprovalRule::Ask | ApprovalRule::AlwaysStepUp) => return Ok(Decision::Ask(rule)),
        }
        let issued = self.issue(wanted, &admitted, now, entropy)?;
        let change = Change::Issued(Box::new(issued));
        Ok(Decision::New(Box::new(TokenEvent { cause: cause.clone(), change })))
    }

    /// Whether the card may have a token at all, and there is room for it.
    pub(super) fn admit(
        &mut self,
        wanted: &WantedToken,
        today: YearMonth,
    ) -> Result<Admitted, ProvisioningRefusal> {
        let (config, request) = (Arc::clone(&self.config), &wanted.request);
        let requestor = request.asker.for_requestor().and_then(|id| self.requestors.get(id)).cloned();
        let requestor = requestor.ok_or(ProvisioningRefusal::UnknownRequestor)?;
        let pans = *eligible(&config, request, today)?;
        if self.standing(&wanted.card).is_some() {
            return Err(ProvisioningRefusal::CardBlocked);
        }
        requestor.assurance(request.assurance)?;
        if !requestor.may_keep_in(request.location.unwrap_or(requestor.location)) {
            return Err(ProvisioningRefusal::LocationNotAllowed);
        }
        let (own, _) = self.first_controls(request)?;
        self.check_own_controls(own.as_deref(), &requestor.controls, false)?;
        self.check_room(&requestor)?;
        self.check_share(wanted, &requestor)?;
        self.range_for(&config, &pans)?;
        Ok(Admitted { requestor, pans, par: request.par })
    }

    /// What the token is narrowed to from its first day, and who did so. What an issuer or an operator narrowed the
    /// token to that it is made from, they narrowed for the card: nobody is rid of it by having another token made.
    fn first_controls(
        &self,
        request: &ProvisionRequest,
    ) -> Result<(Option<Box<TokenControls>>, Setter), ProvisioningRefusal> {
        let source = request.source.and_then(|source| self.record_ahead(source.record));
        match source.filter(|source| source.own.is_some() && source.owners.controls > Setter::Requestor) {
            None => Ok((request.controls.clone(), Setter::Requestor)),
            Some(source) if request.controls.is_none() || request.controls == source.own => {
                Ok((source.own, source.owners.controls))
            }
            Some(_) => Err(ProvisioningRefusal::ControlsNotYours),
        }
    }

    fn check_room(&mut self, requestor: &TokenRequestor) -> Result<(), ProvisioningRefusal> {
        let next = self.next_record();
        let within = usize::try_from(next).is_ok_and(|next| next < self.table.capacity());
        let domain = Domain { requestor: requestor.id, controls: requestor.controls.clone() };
        let domain = self.table.intern(domain);
        (within && domain.is_some()).then_some(()).ok_or(ProvisioningRefusal::VaultFull)
    }

    /// Whether the card may have another token, and the device hold one.
    fn check_share(
        &self,
        WantedToken { request, card, .. }: &WantedToken,
        requestor: &TokenRequestor,
    ) -> Result<(), ProvisioningRefusal> {
        let (everybodys, own) = (self.config.limits, requestor.limits);
        if own.tokens.is_some_and(|most| self.live_of(requestor.id) >= most) {
            return Err(ProvisioningRefusal::RequestorFull);
        }
        let least = |everybodys: u32, own: Option<u32>| own.map_or(everybodys, |own| own.min(everybodys));
        let per_pan = everybodys.tokens_per_pan;
        let per_device = least(everybodys.tokens_per_device, own.tokens_per_device);
        let live = |record: &VaultRecord| record.lifecycle.status != TokenStatus::Deactivated;
        let room = |count: usize, most: u32| u32::try_from(count).is_ok_and(|count| count < most);
        let of_card = self.of_card(card);
        let live_of_card = of_card.iter().filter(|record| live(record));
        let theirs = live_of_card.clone().filter(|record| record.requestor == requestor.id).count();
        let own_room = own.tokens_per_pan.is_none_or(|most| room(theirs, most));
        if !own_room || !room(live_of_card.count(), per_pan) {
            return Err(ProvisioningRefusal::TooManyTokensOfCard);
        }
        let Some(device) = &request.device else { return Ok(()) };
        let on_device = self.on_device(self.device_mark(requestor.id, device)).filter(live).count();
        room(on_device, per_device).then_some(()).ok_or(ProvisioningRefusal::TooManyTokensOnDevice)
    }

    fn next_record(&self) -> u64 {
        u64::try_from(self.table.len()).unwrap_or(u64::MAX).saturating_add(self.ahead.new)
    }

    /// The first range of the card's product that is not full.
    fn range_for<'a>(
        &self,
        config: &'a TspConfig,
        pans: &PanRange,
    ) -> Result<&'a TokenRange, ProvisioningRefusal> {
        let mut ranges = config.token_ranges.iter().enumerate();
        ranges
            .find(|(at, range)| range.product == pans.product && !is_full(range, self.issued_ahead(*at)))
            .map(|(_, range)| range)
            .ok_or(ProvisioningRefusal::TokenRangeFull)
    }

    fn issued_ahead(&self, range: usize) -> u64 {
        let waiting = self.ahead.issued.get(&range).copied().unwrap_or_default();
        self.issued.get(range).copied().unwrap_or_default().saturating_add(waiting)
    }

    fn new_token(
        &self,
        config: &TspConfig,
        range: &TokenRange,
        entropy: &mut Entropy,
    ) -> Result<Token, ProvisioningRefusal> {
        let taken =
            |token: &Token| self.ahead.tokens.contains(&token.number()) || self.table.has_token(token);
        draw_token(config, range, entropy, taken).map_err(|fault| match fault {
            DrawError::RangeFull => ProvisioningRefusal::TokenRangeFull,
            DrawError::Entropy(_) => ProvisioningRefusal::Unavailable,
        })
    }

    /// The PAR of the PAN's other tokens; else a new one, if we are its BIN controller; else the one supplied.
    fn par_for(
        &self,
        card: &[u8; 16],
        (pans, supplied): (&PanRange, Option<Par>),
        entropy: &mut Entropy,
    ) -> Result<Option<Par>, ProvisioningRefusal> {
        let waiting = self.ahead.of_pan.get(card).and_then(|list| list.last().copied());
        let waiting = waiting.and_then(|record| self.record_ahead(record)).and_then(|record| record.par);
        let known = waiting.or_else(|| self.table.par_of(card));
        match (known, &self.config.bin_controller) {
            (Some(par), _) => Ok(Some(par)),
            (None, Some(controller)) if pans.controlled => {
                draw_par(controller, entropy).map_err(|_| ProvisioningRefusal::Unavailable)
            }
            (None, _) => Ok(supplied),
        }
    }

    /// The record of a token for an admitted card.
    pub(super) fn issue(
        &self,
        WantedToken { request, card: blind_index, .. }: &WantedToken,
        Admitted { requestor, pans, par }: &Admitted,
        now: Now,
        entropy: &mut Entropy,
    ) -> Result<VaultRecord, ProvisioningRefusal> {
        let config = Arc::clone(&self.config);
        let range = self.range_for(&config, pans)?;
        let token = self.new_token(&config, range, entropy)?;
        let expiry = expiry(range, YearMonth::of(now.wall)).ok_or(ProvisioningRefusal::Unavailable)?;
        let par = self.par_for(blind_index, (pans, *par), entropy)?;
        let (own, narrowed_by) = self.first_controls(request)?;
        let unavailable = ProvisioningRefusal::Unavailable;
        let (record, mapping_version) = (self.next_record(), 1);
        let card = CardData {
            pan: request.pan.clone(),
            expiry: Some(request.pan_expiry),
            sequence: request.sequence,
        };
        let aad = CardAad::vault(&token, record, mapping_version);
        let sealed = seal_card(&self.sealer, entropy, &aad, &card).map_err(|_| unavailable)?;
        let status = match requestor.activation {
            Activation::AtIssue => TokenStatus::Active,
            Activation::Confirmed => TokenStatus::Inactive,
        };
        Ok(VaultRecord {
            record,
            token,
            expiry,
            reference: draw_reference(entropy).map_err(|_| unavailable)?,
            par,
            requestor: requestor.id,
            assurance: requestor.assurance(request.assurance)?,
            location: request.location.unwrap_or(requestor.location),
            last4: request.pan.last4(),
            sealed,
            blind_index: *blind_index,
            mapping_version,
            controls: requestor.controls.clone(),
            lifecycle: Lifecycle::issued(status),
            issued_at: now.wall,
            changed_at: now.wall,
            past: Vec::new(),
            cryptograms: 0,
            keys: None,
            owners: Owners { controls: narrowed_by, ..Owners::default() },
            own,
            because: Reason::Unstated,
            device: request.device.map(|device| self.device_mark(requestor.id, &device)),
        })
    }

    /// What is kept of a device's name: keyed, so that nobody can try names; never 0, which stands for none.
    pub(super) fn device_mark(&self, requestor: TokenRequestorId, device: &Text<64>) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] =
            self.indexer.mark(&[b"device", requestor.as_bytes(), device.as_bytes()]);
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
    }

    /// How many tokens of a requestor are not deactivated, those that wait included.
    pub(super) fn live_of(&self, id: TokenRequestorId) -> u32 {
        let new = self.table.len();
        let is_new = |record: &VaultRecord| usize::try_from(record.record).is_ok_and(|record| record >= new);
        let waiting = self.ahead.records.values().map(|(_, record)| record);
        let waiting = waiting.filter(|record| record.requestor == id && is_new(record)).count();
        let known = self.live.get(&id).copied().unwrap_or_default();
        known.saturating_add(u32::try_from(waiting).unwrap_or(u32::MAX))
    }

    /// The tokens on a device, as they will be.
    pub(super) fn on_device(&self, device: u64) -> impl Iterator<Item = VaultRecord> {
        let new = self.table.len();
        let new =
            move |record: &&VaultRecord| usize::try_from(record.record).is_ok_and(|record| record >= new);
        let waiting = self.ahead.records.values().map(|(_, record)| record).filter(new);
        let waiting = waiting.filter(move |record| record.device == Some(device)).cloned();
        waiting.chain(self.table.of_device(device))
    }
}

/// The range of a card that may have a token now.
fn eligible<'a>(
    config: &'a TspConfig,
    request: &ProvisionRequest,
    today: YearMonth,
) -> Result<&'a PanRange, ProvisioningRefusal> {
    if !luhn_valid(request.pan.expose_digits()) {
        return Err(ProvisioningRefusal::CardNotValid);
    }
    let pans = config.pan_range(&request.pan).ok_or(ProvisioningRefusal::CardNotEligible)?;
    if request.pan_expiry.is_past(today) {
        return Err(ProvisioningRefusal::CardExpired);
    }
    Ok(pans)
}

//! Step-up: a token waits until its cardholder has proven itself with a code that went to a contact its issuer knows.
//! Of a code only a keyed digest is kept, bound to token, requestor and device; tries and codes are few, and its time
//! is short.

use crate::crypto::{BlindIndexer, same};
use crate::stdx::clock::{Now, Wall};
use crate::stdx::random::{Entropy, NoEntropy};
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{
    Contact, ContactKind, Contacts, Digits, EnquiryId, Text, TokenAssuranceMethod, TokenReferenceId,
    TokenRequestorId, WordError, YearMonth,
};
use zeroize::Zeroize;

use super::command::{Action, Asker, CallId};
use super::error::ProvisioningRefusal;
use super::event::{Cause, Change, PartyName, TokenEvent};
use super::lifecycle::{Move, Moved, TokenStatus};
use super::record::VaultRecord;
use super::token_view::StepUpView;
use super::tsp::{Decision, Tsp};

/// How long codes are good, how many there are, and how often one may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepUpLimits {
    pub code_lifetime: std::time::Duration,
    /// Codes for one token, the first included.
    pub codes: u8,
    /// Wrong codes, of all codes together, after which the token is deactivated.
    pub tries: u8,
    /// How long codes of one card's tokens count against the card, from the first of them on.
    pub card_window: std::time::Duration,
    /// Codes for all tokens of one card in that time.
    pub card_codes: u8,
    /// Wrong codes for all tokens of one card in that time; then no code is tried.
    pub card_tries: u8,
    /// How long after its issue a token may wait for its cardholder's proof; then it is deactivated.
    pub proof_within: std::time::Duration,
}

impl StepUpLimits {
    /// As long as the configuration says nothing else.
    pub const DEFAULT: Self = Self {
        code_lifetime: std::time::Duration::from_secs(600),
        codes: 3,
        tries: 3,
        card_window: std::time::Duration::from_secs(86_400),
        card_codes: 12,
        card_tries: 9,
        proof_within: std::time::Duration::from_secs(86_400),
    };
}

/// What a token waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepUp {
    /// Who knows the contacts.
    pub issuer: PartyName,
    /// By which it knows the cardholder.
    pub enquiry: EnquiryId,
    pub contacts: Contacts,
    /// How many codes were sent.
    pub sent: u8,
    /// How many wrong ones came back.
    pub wrong: u8,
    /// The last one sent; the only one that is good.
    pub code: Option<SentCode>,
}

/// A code that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentCode {
    /// The contact's number.
    pub contact: u8,
    pub digest: [u8; 16],
    pub until: Wall,
}

/// Six digits that only their cardholder should see. Wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct StepUpCode([u8; 6]);

impl StepUpCode {
    /// Takes exactly six digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let digits = Digits::<6>::parse("code", bytes, 6)?;
        let mut code = [0; 6];
        code.iter_mut().zip(digits.as_bytes()).for_each(|(place, digit)| *place = *digit);
        Ok(Self(code))
    }

    fn draw(entropy: &mut Entropy) -> Result<Self, NoEntropy> {
        // Of 2^64 numbers some codes have one more than others: that helps nobody.
        let mut number = u64::from_le_bytes(entropy.bytes()?);
        let mut code = [0; 6];
        for place in &mut code {
            *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
        Ok(Self(code))
    }

    /// The digits, for the one message that brings them to the issuer.
    #[must_use]
    pub fn expose_code(&self) -> &[u8; 6] {
        &self.0
    }
}

impl Drop for StepUpCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for StepUpCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[code]")
    }
}

/// A code on its way to the cardholder, by its issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeDelivery {
    pub issuer: PartyName,
    pub enquiry: EnquiryId,
    pub reference: TokenReferenceId,
    pub requestor: TokenRequestorId,
    /// Of the PAN.
    pub last4: Digits<4>,
    pub contact: Contact,
    pub code: StepUpCode,
    pub until: Wall,
}

/// Brings codes to issuers, who bring them to cardholders. It waits for nothing.
pub trait CodeDelivering: Send {
    /// Takes a code. One that it has no room for is lost, and counted: the cardholder asks for another.
    fn deliver(&self, delivery: CodeDelivery);
}

/// For a TSP that nobody takes codes from.
#[derive(Debug, Clone, Copy)]
pub struct NoCodes;

impl CodeDelivering for NoCodes {
    fn deliver(&self, _: CodeDelivery) {}
}

/// A code is wanted.
#[derive(Debug, Clone, Copy)]
pub struct CodeRequest {
    pub asker: Asker,
    pub reference: TokenReferenceId,
    /// A contact's number.
    pub contact: u8,
}

/// A code comes back.
#[derive(Debug, Clone)]
pub struct CodeSubmission {
    pub asker: Asker,
    pub reference: TokenReferenceId,
    pub code: StepUpCode,
    /// The device where it was typed, by the name that it had in the request for the token.
    pub device: Option<Text<64>>,
}

impl CodeRequest {
    pub(super) fn cause(&self) -> Cause {
        self.asker.cause(&[&[64, self.contact], self.reference.to_bytes().as_slice()].concat())
    }
}

impl CodeSubmission {
    /// The code goes into the digest keyed: of a plain hash a million codes are soon tried.
    pub(super) fn cause(&self, indexer: &BlindIndexer) -> Cause {
        let device = self.device.as_ref().map_or(&[][..], |device| device.as_bytes());
        let said = indexer.mark(&[b"submission", &self.reference.to_bytes(), &self.code.0, device]);
        self.asker.cause(&[&[65], said.as_slice()].concat())
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "every other change leaves a step-up as it is")]
impl StepUp {
    pub(super) fn opened(issuer: PartyName, enquiry: EnquiryId, contacts: Contacts) -> Self {
        Self { issuer, enquiry, contacts, sent: 0, wrong: 0, code: None }
    }

    /// As it is after a change of its token; other changes leave it.
    pub(super) fn after(mut self, change: &Change) -> Self {
        match change {
            Change::CodeSent { code, .. } => {
                self.sent = self.sent.saturating_add(1);
                self.code = Some(*code);
            }
            Change::CodeWrong { .. } if sabotaged("wrong-codes-free") => {}
            Change::CodeWrong { .. } => self.wrong = self.wrong.saturating_add(1),
            _ => {}
        }
        self
    }

    /// What its requestor is told.
    pub(super) fn view(&self, limits: &StepUpLimits) -> StepUpView {
        StepUpView {
            contacts: self.contacts,
            codes_left: limits.codes.saturating_sub(self.sent),
            tries_left: limits.tries.saturating_sub(self.wrong),
            code_until: self.code.map(|code| code.until),
        }
    }
}

/// What is kept of a code.
fn digest(indexer: &BlindIndexer, code: &StepUpCode, record: &VaultRecord, device: Option<u64>) -> [u8; 16] {
    let device = device.map(u64::to_le_bytes).unwrap_or_default();
    indexer.mark(&[b"code", &code.0, &record.reference.to_bytes(), record.requestor.as_bytes(), &device])
}

/// One factor, received over a telephone or by mail; an issuer's own app asks for a second.
fn proven_by(kind: Option<ContactKind>) -> TokenAssuranceMethod {
    let method: &[u8] = if kind == Some(ContactKind::App) { b"12" } else { b"11" };
    TokenAssuranceMethod::parse(method).unwrap_or(TokenAssuranceMethod::NOT_PERFORMED)
}

impl Tsp {
    /// What a token waits for, as it will be.
    pub(super) fn step_up_ahead(&self, record: u64) -> Option<StepUp> {
        self.ahead.step_ups.get(&record).or_else(|| self.step_ups.get(&record)).copied()
    }

    /// How many tokens wait for proof, or may once all that is asked is answered.
    pub(super) fn step_ups_ahead(&self) -> usize {
        let new = self.ahead.step_ups.keys().filter(|record| !self.step_ups.contains_key(record));
        self.step_ups.len() + new.count()
    }

    /// How many codes that were sent are good.
    #[must_use]
    pub fn good_codes(&self, at: Wall) -> usize {
        self.step_ups.values().filter(|it| it.code.is_some_and(|code| at < code.until)).count()
    }

    /// A code is wanted: it leaves once it is durable that it was sent.
    pub(super) fn code_wanted(
        &mut self,
        call: CallId,
        request: &CodeRequest,
        now: Now,
        entropy: &mut Entropy,
        actions: &mut Vec<Action>,
    ) {
        let (decided, code) = match self.decide_code(request, now, entropy) {
            Ok((decided, code)) => (Ok(decided), code),
            Err(refusal) => (Err(refusal), None),
        };
        self.carry_out(call, decided, now, actions);
        if let (Some(code), Some(waiting)) = (code, self.waiting.back_mut()) {
            waiting.code = Some(Box::new(code));
        }
    }

    /// Whether another code is sent, and to whom.
    fn decide_code(
        &mut self,
        request: &CodeRequest,
        now: Now,
        entropy: &mut Entropy,
    ) -> Result<(Decision, Option<CodeDelivery>), ProvisioningRefusal> {
        let cause = request.cause();
        if let Some(decided) = self.repeated(&cause, YearMonth::of(now.wall))? {
            return Ok((decided, None));
        }
        let (found, step_up) = self.to_be_proven(&cause, request.reference)?;
        let contact = step_up.contacts.get(request.contact).ok_or(ProvisioningRefusal::UnknownContact)?;
        let limits = self.config.step_up;
        if step_up.sent >= limits.codes {
            return Err(ProvisioningRefusal::CodesExhausted);
        }
        self.card_codes_ahead(&found.blind_index).may_send(now.wall, &limits)?;
        let code = StepUpCode::draw(entropy).map_err(|_| ProvisioningRefusal::Unavailable)?;
        let until = now.wall.plus(limits.code_lifetime);
        let digest = digest(&self.indexer, &code, &found, found.device);
        let delivery = CodeDelivery {
            issuer: step_up.issuer,
            enquiry: step_up.enquiry,
            reference: found.reference,
            requestor: found.requestor,
            last4: found.last4,
            contact: *contact,
            code,
            until,
        };
        let code = SentCode { contact: request.contact, digest, until };
        let change = Change::CodeSent { record: found.record, code };
        let cause = Cause { requestor: Some(found.requestor), ..cause };
        Ok((Decision::New(Box::new(TokenEvent { cause, change })), Some(delivery)))
    }

    /// Whether the code is the one that was sent: then the token is good; else a try is gone, or the token with the
    /// last one.
    pub(super) fn decide_submission(
        &mut self,
        request: &CodeSubmission,
        now: Now,
    ) -> Result<Decision, ProvisioningRefusal> {
        let cause = request.cause(&self.indexer);
        if let Some(decided) = self.repeated(&cause, YearMonth::of(now.wall))? {
            return Ok(decided);
        }
        let (found, step_up) = self.to_be_proven(&cause, request.reference)?;
        let code = step_up.code.filter(|code| now.wall < code.until).ok_or(ProvisioningRefusal::NoCode)?;
        self.card_codes_ahead(&found.blind_index).may_try(now.wall, &self.config.step_up)?;
        let device = request.device.map(|device| self.device_mark(found.requestor, &device));
        // A token that was asked for without a device takes a code from any.
        let device = if found.device.is_some() { device } else { None };
        let record = found.record;
        let change = if same(&digest(&self.indexer, &request.code, &found, device), &code.digest) {
            let Moved::To(lifecycle) = found.lifecycle.after(Move::Activate) else {
                return Err(ProvisioningRefusal::StatusDoesNotAllow);
            };
            let kind = step_up.contacts.get(code.contact).map(|contact| contact.kind);
            Change::Proven { record, lifecycle, assurance: proven_by(kind) }
        } else if step_up.wrong.saturating_add(1) < self.config.step_up.tries {
            Change::CodeWrong { record, lifecycle: found.lifecycle }
        } else {
            let Moved::To(lifecycle) = found.lifecycle.after(Move::Unlink) else {
                return Err(ProvisioningRefusal::StatusDoesNotAllow);
            };
            Change::CodeWrong { record, lifecycle }
        };
        let cause = Cause { requestor: Some(found.requestor), ..cause };
        Ok(Decision::New(Box::new(TokenEvent { cause, change })))
    }

    /// A token of this principal that waits for its cardholder's proof, as it will be. Who holds a lost card may hold
    /// its contacts, too: nothing is sent or proven until it is found.
    fn to_be_proven(
        &self,
        cause: &Cause,
        reference: TokenReferenceId,
    ) -> Result<(VaultRecord, StepUp), ProvisioningRefusal> {
        let found = self.to_be_changed(cause.principal, reference, None)?;
        let step_up =
            self.step_up_ahead(found.record).filter(|_| found.lifecycle.status == TokenStatus::Inactive);
        let step_up = step_up.ok_or(ProvisioningRefusal::NothingToProve)?;
        if self.standing(&found.blind_index).is_some() && !sabotaged("lost-card-proven") {
            return Err(ProvisioningRefusal::CardBlocked);
        }
        Ok((found, step_up))
    }
}

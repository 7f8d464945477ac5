//! What a token event means to somebody who audits: what was done, and each token's status before and after.

use super::event::{Change, DisclosurePurpose, TokenAfter, TokenEvent};
use super::lifecycle::{Lifecycle, Move};
use super::record::VaultRecord;
use crate::vocab::TokenReferenceId;

/// What was done, in a word, and to which tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    pub what: &'static str,
    pub steps: Vec<AuditedStep>,
}

/// What became of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditedStep {
    pub record: u64,
    /// Told with the token's first event only.
    pub reference: Option<TokenReferenceId>,
    /// None for a new token, and where the event does not say.
    pub before: Option<Lifecycle>,
    /// None: as it was.
    pub after: Option<Lifecycle>,
}

impl AuditedStep {
    fn issued(record: &VaultRecord) -> Self {
        let (number, reference) = (record.record, Some(record.reference));
        Self { record: number, reference, before: None, after: Some(record.lifecycle) }
    }

    fn of(record: u64, before: Option<Lifecycle>, after: Option<Lifecycle>) -> Self {
        Self { record, reference: None, before, after }
    }
}

impl TokenEvent {
    #[must_use]
    pub fn audited(&self) -> Audited {
        let one = |what, step| Audited { what, steps: vec![step] };
        let none = |what| Audited { what, steps: Vec::new() };
        match &self.change {
            Change::Issued(record) => one("issue", AuditedStep::issued(record)),
            Change::IssuedForProof { record, .. } => one("issue-for-proof", AuditedStep::issued(record)),
            Change::Moved { record, asked, before, lifecycle } => {
                let what = match asked {
                    Move::Activate => "activate",
                    Move::Suspend(_) => "suspend",
                    Move::Resume(_) => "resume",
                    Move::Unlink => "unlink",
                };
                one(what, AuditedStep::of(*record, *before, Some(*lifecycle)))
            }
            Change::Controlled { record, before, lifecycle, .. } => {
                one("control", AuditedStep::of(*record, Some(*before), Some(*lifecycle)))
            }
            Change::Disclosed(disclosure) => {
                let what = match disclosure.purpose {
                    DisclosurePurpose::Dispute => "detokenize-for-dispute",
                    DisclosurePurpose::Refund => "detokenize-for-refund",
                    DisclosurePurpose::FraudInvestigation => "detokenize-for-fraud-investigation",
                    DisclosurePurpose::LegalOrder => "detokenize-for-legal-order",
                    DisclosurePurpose::CardholderService => "detokenize-for-cardholder-service",
                    DisclosurePurpose::Migration => "detokenize-for-migration",
                };
                one(what, AuditedStep::of(disclosure.record, None, None))
            }
            Change::CryptogramMade(made) => one("make-cryptogram", AuditedStep::of(made.record, None, None)),
            Change::Consented(consent) => one("consent", AuditedStep::of(consent.record, None, None)),
            Change::KeyGiven(given) => {
                let what = if given.key.limited.is_some() { "issue-limited-key" } else { "personalise" };
                one(what, AuditedStep::of(given.key.record, None, None))
            }
            Change::Registered(_) => none("register-requestor"),
            Change::Updated { record, before, lifecycle, .. } => {
                one("update", AuditedStep::of(*record, Some(*before), Some(*lifecycle)))
            }
            Change::Card(change) => {
                let step = |token: &TokenAfter| {
                    AuditedStep::of(token.record, Some(token.before), Some(token.lifecycle))
                };
                Audited { what: change.event.name(), steps: change.tokens.iter().map(step).collect() }
            }
            Change::Declined => none("decline"),
            Change::CodeSent { record, .. } => one("send-code", AuditedStep::of(*record, None, None)),
            Change::CodeWrong { record, lifecycle } => {
                one("wrong-code", AuditedStep::of(*record, None, Some(*lifecycle)))
            }
            Change::Proven { record, lifecycle, .. } => {
                one("prove", AuditedStep::of(*record, None, Some(*lifecycle)))
            }
            Change::Notified { .. } => none("notify"),
        }
    }
}

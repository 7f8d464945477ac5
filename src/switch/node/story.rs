//! One transaction's story in the log, by its number: each thing that the core asks for is a line with the same key.
//! Numbers, links and names of refusals only; what was received never stands there.

use crate::journal::TransactionEntry;
use crate::vocab::TransactionId;

use super::super::event::{Action, AnswerKind};

/// The journal's kinds of entries, and whose story each belongs to.
fn journaled(entry: &TransactionEntry) -> (&'static str, TransactionId) {
    match entry {
        TransactionEntry::Request(request) => ("request", request.transaction),
        TransactionEntry::Outcome(outcome) => ("outcome", outcome.transaction),
        TransactionEntry::Stored(stored) => ("stored", stored.original.unwrap_or(stored.transaction)),
        TransactionEntry::Delivered(delivered) => ("delivered", delivered.stored),
        TransactionEntry::Tombstone(tombstone) => ("tombstone", tombstone.transaction),
        TransactionEntry::Late(late) => ("late", late.transaction),
        TransactionEntry::Enquiry(enquiry) => ("enquiry", enquiry.transaction),
    }
}

/// Tells what is done next, to whoever asked for it with the log's level `debug`.
pub(super) fn tell(action: &Action) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    match action {
        Action::Detokenize { transaction, .. } => tracing::debug!(%transaction, "its token is looked up"),
        Action::Append { entry, .. } => {
            let (entry, transaction) = journaled(entry);
            tracing::debug!(%transaction, entry, "journaled");
        }
        Action::Forward { transaction, repeat } => tracing::debug!(%transaction, repeat, "forwarded"),
        Action::Deliver(delivery) => {
            let transaction = delivery.entry.transaction;
            let original = delivery.entry.original.unwrap_or(transaction);
            tracing::debug!(transaction = %original, message = %transaction, repeat = delivery.repeat, "delivered");
        }
        Action::Answer(answer) => {
            let refusal = match answer.kind {
                AnswerKind::Refused(refusal) => refusal.name(),
                AnswerKind::Passed | AnswerKind::Accepted => "none",
            };
            tracing::debug!(transaction = %answer.transaction, refusal, "answered");
        }
        Action::LookUp(question) => {
            tracing::debug!(transaction = %question.asked, "its original is looked for")
        }
        Action::Silent { transaction } => tracing::debug!(%transaction, "its issuer is silent"),
        Action::Enquire { transaction, .. } => {
            tracing::debug!(%transaction, "its issuer is asked about a token")
        }
        Action::Enquired { transaction, answer } => {
            tracing::debug!(%transaction, answered = answer.is_some(), "the enquiry is over");
        }
        Action::ReleaseCounter { .. }
        | Action::AppendAct { .. }
        | Action::Heard { .. }
        | Action::LetGo { .. }
        | Action::Operated { .. }
        | Action::CutOver(_)
        | Action::CloseWindow(_)
        | Action::GiveBack { .. }
        | Action::Forget { .. } => {}
    }
}

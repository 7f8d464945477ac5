//! One transaction's story in the log, by its number: each thing that happens to it or is done about it is a line with
//! the key `transaction`, and what is told of a message about it (its reversal, its advice, its repeat) has that
//! message's own number as `own`. Numbers, links and names of refusals only; what was received never stands there.

use crate::journal::{DeliveryEnd, StoredEntry, TransactionEntry};
use crate::stdx::bounded::BoundedMap;
use crate::vocab::TransactionId;

use super::super::core::SwitchCore;
use super::super::event::{Action, Answer, AnswerKind, Concern, Event};
use super::super::operator::OperatorAct;

/// Messages of which it is known to whose story they belong. One that was forgotten is told under its own number.
const REMEMBERED: usize = 65_536;

/// What is told under which number.
pub(super) struct Story {
    /// Whether anybody wants to read it, as the step began.
    told: bool,
    /// The payment that a message is about.
    about: BoundedMap<TransactionId, TransactionId>,
}

/// Writes a line of the story that `$place` says.
macro_rules! line {
    ($place:expr, $($rest:tt)+) => {{
        let Place { transaction, own } = $place;
        tracing::debug!(%transaction, own, $($rest)+);
    }};
}

/// A line's two numbers.
struct Place {
    transaction: TransactionId,
    /// Of the message itself, where it is not the transaction's first.
    own: Option<u64>,
}

impl Story {
    pub(super) fn new() -> Self {
        Self { told: false, about: BoundedMap::with_capacity(REMEMBERED) }
    }

    /// A step begins.
    pub(super) fn begin(&mut self) {
        self.told = tracing::enabled!(tracing::Level::DEBUG);
    }

    /// Whose story a message stands in.
    fn of(&self, message: TransactionId) -> Place {
        match self.about.get(&message) {
            Some(payment) => Place { transaction: *payment, own: Some(message.0) },
            None => Place { transaction: message, own: None },
        }
    }

    /// A message is about another, or about what that is about.
    fn belongs(&mut self, message: TransactionId, to: TransactionId) -> Place {
        let payment = self.of(to).transaction;
        if payment != message {
            self.about.insert(message, payment);
        }
        self.of(message)
    }

    fn of_stored(&mut self, stored: &StoredEntry) -> Place {
        match stored.original {
            Some(original) => self.belongs(stored.transaction, original),
            None => self.of(stored.transaction),
        }
    }

    /// Tells what has happened.
    pub(super) fn hear(&self, event: &Event) {
        if !self.told {
            return;
        }
        match event {
            Event::Received { request, .. } => {
                let (transaction, link, mti) = (request.transaction, request.leg.link, request.leg.mti);
                tracing::debug!(%transaction, %link, %mti, "received");
            }
            Event::Detokenized { transaction, result } => {
                let refusal = result.as_ref().err().map(|refusal| refusal.name());
                line!(self.of(*transaction), refusal, "its token was looked up");
            }
            Event::NotSent { transaction, why } => {
                line!(self.of(*transaction), ?why, "not sent");
            }
            Event::Withdrawn { transaction, refusal } => {
                line!(
                    self.of(*transaction),
                    refusal = refusal.name(),
                    "withdrawn: its token may not pay any more"
                );
            }
            Event::IssuerLost { transaction, written } => {
                line!(self.of(*transaction), written, "its issuer's connection was lost");
            }
            Event::Undelivered { transaction } => {
                line!(self.of(*transaction), "its acquirer's connection was lost before the answer had left");
            }
            Event::Given { transaction } => {
                line!(self.of(*transaction), "its acquirer's connection has the answer");
            }
            Event::Leaked { transaction, .. } => {
                line!(self.of(*transaction), "its answer held the card's number");
            }
            Event::LookedUp { asked, found } => {
                let place = self.of(*asked);
                let found = found.as_ref().map(|found| found.past.len());
                line!(place, found, "its original was looked for");
            }
            // What they lead to is told.
            Event::Answered(_)
            | Event::Durable(_)
            | Event::IssuerUp(_)
            | Event::Operator { .. }
            | Event::Enquire(_)
            | Event::Ending
            | Event::Tick => {}
        }
    }

    /// Tells what is done next.
    pub(super) fn tell(&mut self, action: &Action, core: &SwitchCore) {
        match action {
            Action::AppendAct { act, .. } => self.decided(act, core),
            Action::Append { entry: TransactionEntry::Delivered(delivered), .. } => {
                self.ended(delivered.stored, &delivered.end, core);
            }
            _ if self.told => self.tell_action(action),
            _ => {}
        }
    }

    /// A person's word is rare, and told at the usual level.
    fn decided(&mut self, act: &OperatorAct, core: &SwitchCore) {
        let Place { transaction, own } = self.of_kept(act.stored, core);
        let decision = act.decision.name();
        tracing::info!(%transaction, own, decision, "an operator decides about a stored message");
    }

    /// So is what waits for a person from now on.
    fn ended(&mut self, message: TransactionId, end: &DeliveryEnd, core: &SwitchCore) {
        match end {
            DeliveryEnd::Acknowledged(_) => line!(self.of(message), "delivered"),
            DeliveryEnd::Parked(_) | DeliveryEnd::SetAside(_) => {
                let Place { transaction, own } = self.of_kept(message, core);
                tracing::warn!(%transaction, own, "parked: its issuer does not take it, a person must look");
            }
        }
    }

    /// Of a message that is still owed: it says what it is about, whoever listened when it came.
    fn of_kept(&mut self, message: TransactionId, core: &SwitchCore) -> Place {
        match core.stored().find(message) {
            Some(item) => self.of_stored(&item.entry),
            None => self.of(message),
        }
    }

    /// An issuer is owed it for longer than the age limit.
    pub(super) fn came_of_age(&mut self, stored: &StoredEntry) {
        if self.told {
            line!(self.of_stored(stored), "over age: a person must look");
        }
    }

    fn tell_action(&mut self, action: &Action) {
        match action {
            Action::Detokenize { transaction, .. } => {
                line!(self.of(*transaction), "its token is looked up");
            }
            Action::Concerns { message, known, concern } => {
                let place = self.belongs(*message, *known);
                let concern = match concern {
                    Concern::Repeat => "repeat",
                    Concern::Reversal => "reversal",
                };
                line!(place, concern, "a message about it");
            }
            Action::Append { entry, .. } => self.journaled(entry),
            Action::Forward { transaction, repeat } => {
                tracing::debug!(%transaction, repeat, "forwarded");
            }
            Action::Deliver(delivery) => {
                let place = self.of_stored(&delivery.entry);
                let (link, mti, repeat) =
                    (delivery.entry.issuer.link, delivery.entry.issuer.mti, delivery.repeat);
                line!(place, %link, %mti, repeat, "sent to be delivered");
            }
            Action::Answer(answer) => self.answered(answer),
            Action::LookUp(question) => {
                line!(self.of(question.asked), "its original is looked for");
            }
            Action::Silent { transaction, .. } => {
                line!(self.of(*transaction), "its issuer is silent");
            }
            Action::Heard { transaction } => {
                line!(self.of(*transaction), "its issuer answered, and gets it again");
            }
            Action::Enquire { transaction, .. } => {
                tracing::debug!(%transaction, "its issuer is asked about a token");
            }
            Action::Enquired { transaction, answer } => {
                tracing::debug!(%transaction, answered = answer.is_some(), "the enquiry is over");
            }
            Action::LetGo { transaction } => {
                line!(self.of(*transaction), "its issuer's answer is waited for no longer");
            }
            Action::AppendAct { .. }
            | Action::ReleaseCounter { .. }
            | Action::Operated { .. }
            | Action::CutOver(_)
            | Action::CloseWindow(_)
            | Action::GiveBack { .. }
            | Action::Forget { .. } => {}
        }
    }

    fn journaled(&mut self, entry: &TransactionEntry) {
        match entry {
            TransactionEntry::Request(request) => {
                let (transaction, link) = (request.transaction, request.issuer.link);
                let of = request.original.map(|original| original.0);
                tracing::debug!(%transaction, %link, of, entry = "request", "journaled");
            }
            TransactionEntry::Outcome(outcome) => {
                let transaction = outcome.transaction;
                let refusal = outcome.refusal.map(|refusal| refusal.name());
                let decided = outcome.outcome;
                tracing::debug!(%transaction, outcome = ?decided, refusal, entry = "outcome", "journaled");
                for owed in outcome.reversal.iter().chain(&outcome.advice) {
                    self.stored(owed);
                }
            }
            TransactionEntry::Stored(stored) => self.stored(stored),
            TransactionEntry::Tombstone(tombstone) => {
                line!(self.of(tombstone.transaction), entry = "tombstone", "journaled");
            }
            TransactionEntry::Late(late) => {
                let (transaction, said) = (late.transaction, late.outcome);
                tracing::debug!(%transaction, outcome = ?said, entry = "late", "journaled");
            }
            TransactionEntry::Enquiry(enquiry) => {
                let transaction = enquiry.transaction;
                tracing::debug!(%transaction, entry = "enquiry", "journaled");
            }
            TransactionEntry::Delivered(_) => {}
        }
    }

    fn stored(&mut self, stored: &StoredEntry) {
        let place = self.of_stored(stored);
        let kind = stored.kind.name();
        line!(place, kind, entry = "stored", "journaled");
    }

    fn answered(&mut self, answer: &Answer) {
        let asked_by = Some(answer.asked_by).filter(|by| *by != answer.transaction);
        let place = self.of(answer.transaction);
        let refusal = match answer.kind {
            AnswerKind::Refused(refusal) => Some(refusal.name()),
            AnswerKind::Passed | AnswerKind::Accepted => None,
        };
        line!(place, asked_by = asked_by.map(|by| by.0), refusal, "answered");
    }
}

//! What has been answered, for repeats and reversals; and the index by which requests, in flight or answered, are
//! found again.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use crate::codec::{DataElement, OriginalData, same_institution};
use crate::journal::{AcquirerLeg, Elements};
use crate::link::ConnectionId;
use crate::stdx::index::HashIndex;
use crate::stdx::maps::{Guard, Map};
use crate::stdx::series::Series;
use crate::vocab::{
    Amount, InstitutionId, LinkId, MessageClass, Outcome, Refusal, SentAt, Stan, TransactionId,
};

use super::event::{Answer, AnswerKind};
use super::request::{Request, RequestKey, RequestKind};
use super::transaction::Routed;

/// A request that has its answer.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub request: Arc<Request>,
    /// The connection that asked last.
    pub asked_on: ConnectionId,
    /// Card and issuer's leg; `None` when it was refused before it was routed.
    pub routed: Option<Routed>,
    pub outcome: Outcome,
    pub answer: AnswerKind,
    pub elements: Elements,
    pub approved: Option<Amount>,
    /// A reversal of it is stored or delivered: a repeat must not get an approval any more.
    pub reversed: bool,
    /// The acquirer's socket took the whole answer, or may have before a restart: only the acquirer undoes it.
    pub given: bool,
}

impl Answered {
    fn is_approved(&self) -> bool {
        matches!(self.outcome, Outcome::Approved | Outcome::ApprovedPartly)
    }

    /// Refused before its elements could be read: nothing to compare a repeat with.
    #[must_use]
    pub(super) fn was_illegible(&self) -> bool {
        self.answer == AnswerKind::Refused(Refusal::FormatError)
    }

    /// An approval that must not be given any more, or an outcome that is not known.
    #[must_use]
    pub(super) fn is_withheld(&self) -> bool {
        let undone = self.reversed && self.is_approved() && self.request.kind == RequestKind::Payment;
        undone || self.answer == AnswerKind::Refused(Refusal::AnswerWithheld)
    }

    /// Whether money stays moved at the issuer, so that a reversal has something to undo.
    #[must_use]
    pub(super) fn stands(&self) -> bool {
        let undoes = self.request.kind == RequestKind::Reversal;
        !undoes && self.is_approved() && self.request.moves_money && !self.reversed
    }

    /// Whether an approval must be undone unless its acquirer gets it.
    #[must_use]
    pub(super) fn must_arrive(&self) -> bool {
        self.request.kind == RequestKind::Payment && self.stands() && !self.given
    }

    /// The very same answer, for the message that asks for it now.
    #[must_use]
    pub(super) fn again(&self, transaction: TransactionId, asked_by: TransactionId) -> Answer {
        let mut elements = self.elements.clone();
        if let Some(amount) = self.approved.filter(|_| self.outcome == Outcome::ApprovedPartly) {
            elements.keep(DataElement::AMOUNT.number(), &amount.digits());
        }
        Answer {
            transaction,
            asked_by,
            to: self.asked_on,
            request: Arc::clone(&self.request),
            card: self.routed.as_ref().map(|routed| Arc::clone(&routed.card)),
            kind: self.answer,
            elements,
            must_arrive: self.must_arrive(),
        }
    }
}

/// Answers by transaction, bounded: past the capacity the oldest go, and `forgotten` remembers how far.
#[derive(Debug)]
pub(super) struct AnsweredTable {
    answers: Series<Box<Answered>>,
    /// Past the capacity, and approved and not given: forgotten once they are given or undone, or nobody would undo
    /// them. No more than wait in acquirers' output and for the end of their grace.
    owed: Map<TransactionId, Box<Answered>>,
    forgotten: Map<LinkId, SentAt>,
}

impl AnsweredTable {
    #[must_use]
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let answers = Series::with_capacity(capacity);
        Self { answers, owed: Map::default(), forgotten: Map::default() }
    }

    /// Remembers an answer, and takes what had to go for it out of `index`.
    pub(super) fn insert(
        &mut self,
        transaction: TransactionId,
        answered: Answered,
        index: &mut RequestIndex,
    ) {
        self.answers.insert(transaction.0, Box::new(answered));
        while let Some((id, old)) = self.answers.pop_excess() {
            let id = TransactionId(id);
            if old.must_arrive() {
                self.owed.insert(id, old);
            } else {
                self.forget(id, &old, index);
            }
        }
    }

    /// An approval was given or undone: it is forgotten if it only stayed for that.
    pub(super) fn settled(&mut self, transaction: TransactionId, index: &mut RequestIndex) {
        if self.owed.get(&transaction).is_some_and(|answered| !answered.must_arrive())
            && let Some(old) = self.owed.remove(&transaction)
        {
            self.forget(transaction, &old, index);
        }
    }

    fn forget(&mut self, id: TransactionId, old: &Answered, index: &mut RequestIndex) {
        let AcquirerLeg { link, sent_at, .. } = old.request.leg;
        index.remove(&old.request, id);
        let forgotten = self.forgotten.entry(link).or_insert(sent_at);
        *forgotten = (*forgotten).max(sent_at);
    }

    #[must_use]
    pub(super) fn get(&self, transaction: TransactionId) -> Option<&Answered> {
        self.answers.get(transaction.0).or_else(|| self.owed.get(&transaction)).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, transaction: TransactionId) -> Option<&mut Answered> {
        let answered = self.answers.get_mut(transaction.0);
        answered.or_else(|| self.owed.get_mut(&transaction)).map(Box::as_mut)
    }

    /// Whether a request sent then may have been answered and forgotten since.
    #[must_use]
    pub(super) fn may_have_forgotten(&self, link: LinkId, sent_at: SentAt) -> bool {
        self.forgotten.get(&link).is_some_and(|forgotten| sent_at <= *forgotten)
    }

    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.answers.len() + self.owed.len()
    }
}

/// What DE 90 says of an original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct OriginalKey {
    pub link: LinkId,
    pub class: MessageClass,
    pub stan: Stan,
    pub sent_at: SentAt,
}

/// Requests by what names them. Several may share a place here, by name or by chance: who asks compares. Peers choose
/// the names, so nobody outside can know the places.
#[derive(Debug)]
pub(super) struct RequestIndex {
    guard: Guard,
    by_key: HashIndex,
    by_original: HashIndex,
}

impl RequestIndex {
    /// For so many requests; more find room too.
    #[must_use]
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let index = || HashIndex::with_capacity(capacity);
        Self { guard: Guard::default(), by_key: index(), by_original: index() }
    }

    pub(super) fn insert(&mut self, request: &Request, transaction: TransactionId) {
        self.by_key.insert(self.place(&request.key), transaction.0);
        self.by_original.insert(self.place(&OriginalKey::of(&request.leg)), transaction.0);
    }

    pub(super) fn remove(&mut self, request: &Request, transaction: TransactionId) {
        self.by_key.remove(self.place(&request.key), transaction.0);
        self.by_original.remove(self.place(&OriginalKey::of(&request.leg)), transaction.0);
    }

    /// Requests that may have this name, the newest first.
    pub(super) fn named(&self, key: &RequestKey) -> impl Iterator<Item = TransactionId> {
        self.by_key.get(self.place(key)).map(TransactionId)
    }

    /// Requests that DE 90 may mean.
    pub(super) fn originals(&self, key: &OriginalKey) -> impl Iterator<Item = TransactionId> {
        self.by_original.get(self.place(key)).map(TransactionId)
    }

    /// Where a name stands: a tenth of its length, and never written down.
    fn place(&self, name: &impl Hash) -> u64 {
        self.guard.hash_one(name)
    }
}

impl OriginalKey {
    #[must_use]
    pub(super) fn of(leg: &AcquirerLeg) -> Self {
        Self { link: leg.link, class: leg.mti.class, stan: leg.stan, sent_at: leg.sent_at }
    }

    /// DE 90 of a message on `link`, its year resolved.
    #[must_use]
    pub(super) fn from_data(link: LinkId, data: &OriginalData, received: crate::stdx::clock::Wall) -> Self {
        let sent_at = data.sent_at.resolve(received);
        Self { link, class: data.mti.class, stan: data.stan, sent_at }
    }
}

/// Whether two institutions may be the same: an absent one contradicts nothing, nor do leading zeros, which DE 90
/// cannot keep apart from its filling.
#[must_use]
pub(super) fn agrees(left: Option<InstitutionId>, right: Option<InstitutionId>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => same_institution(&left, &right),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn institutions_agree_but_for_leading_zeros() {
        let of = |digits: &[u8]| Some(InstitutionId::parse(digits).unwrap());
        for (left, right, same) in [
            (of(b"00000000042"), of(b"42"), true),
            (of(b"42"), of(b"42"), true),
            (of(b"42"), of(b"420"), false),
            (of(b"42"), None, true),
            (None, None, true),
        ] {
            assert_eq!(agrees(left, right), same, "{left:?} {right:?}");
        }
    }
}

//! What has been answered, for repeats and reversals; and the index by which requests, in flight or answered, are
//! found again.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use crate::codec::{DataElement, OriginalData, same_institution};
use crate::journal::{AcquirerLeg, Elements};
use crate::link::ConnectionId;
use crate::stdx::bounded::BoundedMap;
use crate::stdx::maps::{Guard, Map};
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
    answers: BoundedMap<TransactionId, Box<Answered>>,
    /// Past the capacity, and approved and not given: forgotten once they are given or undone, or nobody would undo
    /// them. No more than wait in acquirers' output and for the end of their grace.
    owed: Map<TransactionId, Box<Answered>>,
    forgotten: Map<LinkId, SentAt>,
}

impl AnsweredTable {
    #[must_use]
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let answers = BoundedMap::with_capacity(capacity);
        Self { answers, owed: Map::default(), forgotten: Map::default() }
    }

    /// Remembers an answer, and takes what had to go for it out of `index`.
    pub(super) fn insert(
        &mut self,
        transaction: TransactionId,
        answered: Answered,
        index: &mut RequestIndex,
    ) {
        match self.answers.insert(transaction, Box::new(answered)) {
            Some((id, old)) if old.must_arrive() => {
                self.owed.insert(id, old);
            }
            Some((id, old)) => self.forget(id, &old, index),
            None => {}
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
        self.answers.get(&transaction).or_else(|| self.owed.get(&transaction)).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, transaction: TransactionId) -> Option<&mut Answered> {
        let answered = self.answers.get_mut(&transaction);
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
#[derive(Debug, Default)]
pub(super) struct RequestIndex {
    guard: Guard,
    by_key: Named,
    by_original: Named,
}

impl RequestIndex {
    pub(super) fn insert(&mut self, request: &Request, transaction: TransactionId) {
        self.by_key.insert(self.place(&request.key), transaction);
        self.by_original.insert(self.place(&OriginalKey::of(&request.leg)), transaction);
    }

    pub(super) fn remove(&mut self, request: &Request, transaction: TransactionId) {
        self.by_key.remove(self.place(&request.key), transaction);
        self.by_original.remove(self.place(&OriginalKey::of(&request.leg)), transaction);
    }

    /// Requests that may have this name, the newest first.
    pub(super) fn named(&self, key: &RequestKey) -> impl Iterator<Item = TransactionId> {
        self.by_key.get(self.place(key))
    }

    /// Requests that DE 90 may mean.
    pub(super) fn originals(&self, key: &OriginalKey) -> impl Iterator<Item = TransactionId> {
        self.by_original.get(self.place(key))
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

/// Transactions by place: one as a rule, more at times.
#[derive(Debug, Default)]
struct Named {
    first: Map<u64, TransactionId>,
    more: Map<u64, Vec<TransactionId>>,
}

impl Named {
    fn insert(&mut self, place: u64, transaction: TransactionId) {
        if let Some(older) = self.first.insert(place, transaction) {
            self.more.entry(place).or_default().push(older);
        }
    }

    fn remove(&mut self, place: u64, transaction: TransactionId) {
        let older = if self.more.is_empty() { None } else { self.more.get_mut(&place) };
        if self.first.get(&place) != Some(&transaction) {
            if let Some(older) = older {
                older.retain(|id| *id != transaction);
            }
        } else if let Some(next) = older.and_then(Vec::pop) {
            self.first.insert(place, next);
        } else {
            self.first.remove(&place);
        }
        if self.more.get(&place).is_some_and(Vec::is_empty) {
            self.more.remove(&place);
        }
    }

    fn get(&self, place: u64) -> impl Iterator<Item = TransactionId> {
        let older = if self.more.is_empty() { None } else { self.more.get(&place) };
        self.first.get(&place).copied().into_iter().chain(older.into_iter().flatten().rev().copied())
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

    #[test]
    fn names_may_be_shared_and_the_newest_comes_first() {
        let mut named = Named::default();
        for id in 1..=3 {
            named.insert(7, TransactionId(id));
        }
        let ids = |named: &Named| named.get(7).map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(ids(&named), [3, 2, 1]);
        named.remove(7, TransactionId(2));
        assert_eq!(ids(&named), [3, 1]);
        named.remove(7, TransactionId(3));
        assert_eq!(ids(&named), [1]);
        named.remove(7, TransactionId(1));
        assert!(ids(&named).is_empty() && named.more.is_empty() && named.first.is_empty());
    }
}

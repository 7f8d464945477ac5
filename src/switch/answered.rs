//! What has been answered, for repeats and reversals; and the index by which requests, in flight or answered, are
//! found again.

use std::hash::Hash;

use crate::codec::{DataElement, OriginalData, same_institution};
use crate::journal::{AcquirerLeg, Elements};
use crate::link::ConnectionId;
use crate::stdx::bounded::BoundedMap;
use crate::stdx::maps::Map;
use crate::vocab::{
    Amount, InstitutionId, LinkId, MessageClass, Outcome, Refusal, SentAt, Stan, TransactionId,
};

use super::event::{Answer, AnswerKind};
use super::request::{Compared, RequestKey, RequestKind};
use super::transaction::Routed;

/// A request that has its answer.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub kind: RequestKind,
    pub leg: AcquirerLeg,
    pub key: RequestKey,
    /// The connection that asked last.
    pub asked_on: ConnectionId,
    pub compared: Compared,
    pub request: Elements,
    pub moves_money: bool,
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
        let undone = self.reversed && self.is_approved() && self.kind == RequestKind::Payment;
        undone || self.answer == AnswerKind::Refused(Refusal::AnswerWithheld)
    }

    /// Whether money stays moved at the issuer, so that a reversal has something to undo.
    #[must_use]
    pub(super) fn stands(&self) -> bool {
        self.kind != RequestKind::Reversal && self.is_approved() && self.moves_money && !self.reversed
    }

    /// Whether an approval must be undone unless its acquirer gets it.
    #[must_use]
    pub(super) fn must_arrive(&self) -> bool {
        self.kind == RequestKind::Payment && self.stands() && !self.given
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
            link: self.leg.link,
            to: self.asked_on,
            asked: self.leg.mti,
            request: self.request.clone(),
            card: self.routed.as_ref().map(|routed| routed.card.clone()),
            account: self.compared.account,
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
        index.remove(&old.key, &old.leg, id);
        let forgotten = self.forgotten.entry(old.leg.link).or_insert(old.leg.sent_at);
        *forgotten = (*forgotten).max(old.leg.sent_at);
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

/// Requests by what names them. Several may share a name; who asks compares the rest.
#[derive(Debug, Default)]
pub(super) struct RequestIndex {
    by_key: Named<RequestKey>,
    by_original: Named<OriginalKey>,
}

impl RequestIndex {
    pub(super) fn insert(&mut self, key: &RequestKey, leg: &AcquirerLeg, transaction: TransactionId) {
        self.by_key.insert(*key, transaction);
        self.by_original.insert(OriginalKey::of(leg), transaction);
    }

    pub(super) fn remove(&mut self, key: &RequestKey, leg: &AcquirerLeg, transaction: TransactionId) {
        self.by_key.remove(key, transaction);
        self.by_original.remove(&OriginalKey::of(leg), transaction);
    }

    /// Requests with this name, the newest first.
    pub(super) fn named(&self, key: &RequestKey) -> impl Iterator<Item = TransactionId> {
        self.by_key.get(key)
    }

    /// Requests that DE 90 may mean.
    pub(super) fn originals(&self, key: &OriginalKey) -> impl Iterator<Item = TransactionId> {
        self.by_original.get(key)
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

/// Transactions by name: one as a rule, more at times.
#[derive(Debug)]
struct Named<K> {
    first: Map<K, TransactionId>,
    more: Map<K, Vec<TransactionId>>,
}

impl<K> Default for Named<K> {
    fn default() -> Self {
        Self { first: Map::default(), more: Map::default() }
    }
}

impl<K: Hash + Eq + Copy> Named<K> {
    fn insert(&mut self, key: K, transaction: TransactionId) {
        if let Some(older) = self.first.insert(key, transaction) {
            self.more.entry(key).or_default().push(older);
        }
    }

    fn remove(&mut self, key: &K, transaction: TransactionId) {
        let older = if self.more.is_empty() { None } else { self.more.get_mut(key) };
        if self.first.get(key) != Some(&transaction) {
            if let Some(older) = older {
                older.retain(|id| *id != transaction);
            }
        } else if let Some(next) = older.and_then(Vec::pop) {
            self.first.insert(*key, next);
        } else {
            self.first.remove(key);
        }
        if self.more.get(key).is_some_and(Vec::is_empty) {
            self.more.remove(key);
        }
    }

    fn get(&self, key: &K) -> impl Iterator<Item = TransactionId> {
        let older = if self.more.is_empty() { None } else { self.more.get(key) };
        self.first.get(key).copied().into_iter().chain(older.into_iter().flatten().rev().copied())
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
        let mut named: Named<u8> = Named::default();
        for id in 1..=3 {
            named.insert(7, TransactionId(id));
        }
        let ids = |named: &Named<u8>| named.get(&7).map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(ids(&named), [3, 2, 1]);
        named.remove(&7, TransactionId(2));
        assert_eq!(ids(&named), [3, 1]);
        named.remove(&7, TransactionId(3));
        assert_eq!(ids(&named), [1]);
        named.remove(&7, TransactionId(1));
        assert!(ids(&named).is_empty() && named.more.is_empty() && named.first.is_empty());
    }
}

//! What has been answered, for repeats and reversals; and the index by which requests, in flight or answered, are
//! found again.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use crate::codec::{DataElement, OriginalData, same_institution};
use crate::journal::{AcquirerLeg, Elements, IssuerLeg, StoredEntry};
use crate::link::ConnectionId;
use crate::stdx::bounded::BoundedMap;
use crate::stdx::index::HashIndex;
use crate::stdx::maps::{Guard, Map};
use crate::stdx::sabotage::sabotaged;
use crate::stdx::series::Series;
use crate::vocab::{
    Amount, InstitutionId, LinkId, MessageClass, Outcome, Refusal, SentAt, Stan, TransactionId,
    TransactionKind,
};

use super::event::{Answer, AnswerKind};
use super::request::{Request, RequestKey, RequestKind};
use super::transaction::Routed;

/// A request that has its answer.
#[derive(Debug, Clone)]
pub struct Answered {
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
    /// Copies of the approval that are on their way to it: of each it is heard that it was given, or that it was not.
    pub leaving: u32,
    /// It was approved in the issuer's place: the advice by which the issuer knows it.
    pub stood_in: Option<IssuerLeg>,
    /// What later messages made of it.
    pub shares: Vec<Share>,
}

/// What a later message adds to a transaction or takes from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub kind: ShareKind,
    pub by: TransactionId,
    /// In minor units of the transaction's currency.
    pub minor: u64,
    /// Whether its outcome is known. What is only asked for takes from its original, and adds nothing to it.
    pub settled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareKind {
    /// A part was taken back by a reversal (DE 95).
    TakenBack,
    /// Money went back to the card.
    Refund,
    /// A hold became a debit.
    Completion,
    /// A hold was raised.
    Raise,
}

impl ShareKind {
    /// What a message with an original is to it.
    #[must_use]
    pub(super) fn of(class: MessageClass, processing: TransactionKind) -> Option<Self> {
        match (processing, class) {
            (TransactionKind::Credit, _) => Some(Self::Refund),
            (TransactionKind::Debit, MessageClass::Authorization) => Some(Self::Raise),
            (TransactionKind::Debit, MessageClass::Financial) => Some(Self::Completion),
            _ => None,
        }
    }
}

impl Share {
    /// A reversal took back so much.
    #[must_use]
    pub(super) fn taken_back(by: TransactionId, minor: u64) -> Self {
        Self { kind: ShareKind::TakenBack, by, minor, settled: true }
    }
}

/// What a reversal finds to take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakingBack {
    /// All of it.
    Whole,
    /// So much of it.
    Part(u64),
    /// What it asks for is so already.
    Nothing,
    /// It cannot be of this transaction.
    Misfit,
}

impl Answered {
    /// Card and leg by which the issuer knows it.
    #[must_use]
    pub(super) fn at_issuer(&self) -> Option<Routed> {
        let routed = self.routed.clone()?;
        Some(Routed { leg: self.stood_in.unwrap_or(routed.leg), ..routed })
    }

    /// The name of the advice that told its issuer, where that is none of its acquirer's.
    #[must_use]
    pub(super) fn own_name(&self) -> Option<OriginalKey> {
        let (leg, acquirers) = (self.routed.as_ref()?.leg, self.request.leg);
        let renamed = (leg.stan, leg.sent_at) != (acquirers.stan, acquirers.sent_at);
        let renamed = Some(leg).filter(|_| renamed && self.request.kind == RequestKind::Advice);
        self.stood_in.or(renamed).map(|leg| OriginalKey::at_issuer(&leg))
    }

    /// What it completes or raises.
    #[must_use]
    pub(super) fn hold(&self) -> Option<TransactionId> {
        let original = self.routed.as_ref()?.original.as_ref()?;
        matches!(original.kind, ShareKind::Completion | ShareKind::Raise).then_some(original.transaction)
    }

    /// Whether it holds money for a completion.
    #[must_use]
    pub(super) fn is_hold(&self) -> bool {
        self.routed.as_ref().is_some_and(|routed| !routed.settles)
    }

    /// What stands of it, in minor units: what was approved, with what was added and without what was taken back.
    #[must_use]
    pub(super) fn standing(&self) -> u64 {
        if !self.stands() {
            return 0;
        }
        self.own().saturating_add(self.settled(ShareKind::Raise))
    }

    /// What its own approval comes to, without what was taken back. What raised it has reversals of its own.
    fn own(&self) -> u64 {
        let approved = self.approved.or(self.request.compared.amount).map_or(0, Amount::minor);
        approved.saturating_sub(self.sum(ShareKind::TakenBack))
    }

    /// What may still be completed, where completions may come to so many percent of what is held.
    #[must_use]
    pub(super) fn completable(&self, percent: u64) -> u64 {
        self.most_completed(percent).saturating_sub(self.sum(ShareKind::Completion))
    }

    fn most_completed(&self, percent: u64) -> u64 {
        let most = u128::from(self.standing()) * u128::from(percent) / 100;
        u64::try_from(most).unwrap_or(u64::MAX)
    }

    /// What may still be refunded: what was captured, without what was refunded or is being.
    #[must_use]
    pub(super) fn refundable(&self) -> u64 {
        self.captured().saturating_sub(self.sum(ShareKind::Refund))
    }

    fn captured(&self) -> u64 {
        if self.is_hold() { self.settled(ShareKind::Completion) } else { self.standing() }
    }

    /// Whether its shares of that kind are more than it has room for, since something of it was taken back.
    #[must_use]
    pub(super) fn is_overdrawn(&self, kind: ShareKind, percent: u64) -> bool {
        match kind {
            ShareKind::Refund => self.sum(kind) > self.captured(),
            ShareKind::Completion => self.sum(kind) > self.most_completed(percent),
            ShareKind::Raise | ShareKind::TakenBack => !self.stands(),
        }
    }

    /// What a reversal that is to leave `left` takes back.
    #[must_use]
    pub(super) fn taking_back(&self, left: u64) -> TakingBack {
        let own = if self.stands() { self.own() } else { 0 };
        if own == 0 || left == own {
            TakingBack::Nothing
        } else if left > own || self.sum(ShareKind::TakenBack) > 0 {
            // One reversal is delivered for a request, and no second one.
            TakingBack::Misfit
        } else if left == 0 {
            TakingBack::Whole
        } else {
            TakingBack::Part(own - left)
        }
    }

    /// A reversal of it was stored.
    pub(super) fn taken_back(&mut self, reversal: &StoredEntry) {
        let left = reversal.elements.final_amount().map_or(0, Amount::minor);
        match self.taking_back(left) {
            TakingBack::Part(minor) => self.set_share(Share::taken_back(reversal.transaction, minor)),
            TakingBack::Whole => self.reversed = true,
            TakingBack::Nothing | TakingBack::Misfit => {}
        }
    }

    /// All of a kind, asked for or done.
    fn sum(&self, kind: ShareKind) -> u64 {
        self.sum_where(|share| share.kind == kind)
    }

    /// All of a kind that is done.
    fn settled(&self, kind: ShareKind) -> u64 {
        self.sum_where(|share| share.kind == kind && share.settled)
    }

    fn sum_where(&self, counts: impl Fn(&Share) -> bool) -> u64 {
        let counted = self.shares.iter().filter(|share| counts(share));
        counted.fold(0, |sum, share| sum.saturating_add(share.minor))
    }

    /// Whether another message may have a share in it.
    #[must_use]
    pub(super) fn has_room_for_shares(&self, most: usize) -> bool {
        self.shares.len() < most
    }

    /// From now on its message has this share.
    pub(super) fn set_share(&mut self, share: Share) {
        self.shares.retain(|had| had.by != share.by);
        if share.minor > 0 {
            self.shares.push(share);
        }
    }

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
        undone && !sabotaged("undone-and-given")
            || self.answer == AnswerKind::Refused(Refusal::AnswerWithheld)
    }

    /// Whether money stays moved at the issuer, so that a reversal has something to undo.
    #[must_use]
    pub(super) fn stands(&self) -> bool {
        let undoes = self.request.kind == RequestKind::Reversal;
        !undoes && self.is_approved() && self.request.moves_money && !self.reversed
    }

    /// Whether its customer agreed by it to what its merchant initiates later: a payment that was approved, and be it
    /// of nothing, and that was not taken back.
    #[must_use]
    pub(super) fn is_agreement(&self) -> bool {
        let processing = self.request.compared.processing.as_ref().map(|processing| processing.kind());
        let pays = !matches!(processing, None | Some(TransactionKind::Credit));
        self.request.kind == RequestKind::Payment && pays && self.is_approved() && !self.reversed
    }

    /// Whether an approval must be undone unless its acquirer gets it.
    #[must_use]
    pub(super) fn must_arrive(&self) -> bool {
        self.request.kind == RequestKind::Payment && self.stands() && !self.given
    }

    /// One of its copies did not reach its acquirer. Whether nobody has it then, nor is to get it.
    pub(super) fn came_back(&mut self) -> bool {
        self.leaving = self.leaving.saturating_sub(1);
        self.leaving == 0 && self.must_arrive()
    }

    /// The very same answer, for the message that asks for it now.
    #[must_use]
    pub(super) fn again(&mut self, transaction: TransactionId, asked_by: TransactionId) -> Answer {
        let mut elements = self.elements.clone();
        if let Some(amount) = self.approved.filter(|_| self.outcome == Outcome::ApprovedPartly) {
            elements.keep(DataElement::AMOUNT.number(), &amount.digits());
        }
        let must_arrive = self.must_arrive();
        self.leaving = self.leaving.saturating_add(u32::from(must_arrive));
        Answer {
            transaction,
            asked_by,
            to: self.asked_on,
            request: Arc::clone(&self.request),
            card: self.routed.as_ref().map(|routed| Arc::clone(&routed.card)),
            kind: self.answer,
            elements,
            must_arrive,
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
    /// Out of the history, since something is about them; as many as look-ups may wait.
    recalled: BoundedMap<TransactionId, Box<Answered>>,
    forgotten: Map<LinkId, SentAt>,
}

impl AnsweredTable {
    #[must_use]
    pub(super) fn with_capacity(capacity: usize, recalled: usize) -> Self {
        let answers = Series::with_capacity(capacity);
        let recalled = BoundedMap::with_capacity(recalled);
        Self { answers, owed: Map::default(), recalled, forgotten: Map::default() }
    }

    /// Remembers an answer, and takes what had to go for it out of `index`.
    pub(super) fn insert(
        &mut self,
        transaction: TransactionId,
        answered: Answered,
        index: &mut RequestIndex,
    ) {
        if let Some(name) = answered.own_name() {
            index.insert_name(&name, transaction);
        }
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

    /// Brings what leaves when `more` come in into the processor's cache: it was last seen long ago. One kind of place
    /// after the other, so that nothing is waited for by itself.
    pub(super) fn touch_leaving(&self, more: usize, index: &RequestIndex) {
        for answered in self.answers.leaving(more) {
            std::hint::black_box(answered.given);
        }
        for answered in self.answers.leaving(more) {
            std::hint::black_box(answered.request.leg.stan);
        }
        for answered in self.answers.leaving(more) {
            index.touch(&answered.request);
        }
    }

    /// Remembers at most so many from the next answer on.
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.answers.set_capacity(capacity);
    }

    /// Remembers an answer out of the history for a while.
    pub(super) fn recall(&mut self, id: TransactionId, answered: Box<Answered>, index: &mut RequestIndex) {
        if let Some((id, old)) = self.recalled.insert(id, answered) {
            index.remove(&old.request, id);
        }
    }

    /// What was forgotten before a restart: the newest DE 7 of it on each link.
    pub(super) fn recall_forgotten(&mut self, newest: &BTreeMap<LinkId, SentAt>) {
        self.forgotten.extend(newest);
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
        if let Some(name) = old.own_name() {
            index.remove_name(&name, id);
        }
        let forgotten = self.forgotten.entry(link).or_insert(sent_at);
        *forgotten = (*forgotten).max(sent_at);
    }

    #[must_use]
    pub(super) fn get(&self, transaction: TransactionId) -> Option<&Answered> {
        let answered = self.answers.get(transaction.0).or_else(|| self.owed.get(&transaction));
        answered.or_else(|| self.recalled.get(&transaction)).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, transaction: TransactionId) -> Option<&mut Answered> {
        let answered = self.answers.get_mut(transaction.0);
        let answered = answered.or_else(|| self.owed.get_mut(&transaction));
        answered.or_else(|| self.recalled.get_mut(&transaction)).map(Box::as_mut)
    }

    /// Whether a request sent then may have been answered and forgotten since.
    #[must_use]
    pub(super) fn may_have_forgotten(&self, link: LinkId, sent_at: SentAt) -> bool {
        self.forgotten.get(&link).is_some_and(|forgotten| sent_at <= *forgotten)
    }

    /// Whether anything was answered and forgotten since.
    #[must_use]
    pub(super) fn has_forgotten(&self, link: LinkId) -> bool {
        self.forgotten.contains_key(&link)
    }

    /// Whether something that was forgotten is dated ahead of the clock: being older than that says little.
    #[must_use]
    pub(super) fn forgot_ahead(&self, link: LinkId, now: SentAt) -> bool {
        self.forgotten.get(&link).is_some_and(|forgotten| *forgotten > now)
    }

    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.answers.len() + self.owed.len() + self.recalled.len()
    }
}

/// What DE 90 says of an original, or would at the issuer to which `link` leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct OriginalKey {
    pub link: LinkId,
    pub class: MessageClass,
    pub stan: Stan,
    pub sent_at: SentAt,
}

/// How many requests of one key are looked at, which differ in their DE 7 only: peers number their requests, and one
/// that does not must not hold up the others.
const NAMESAKES: usize = 1_000;

/// Requests by what names them. Several may share a place here, by name or by chance: who asks compares. Peers choose
/// the names, so nobody outside can know the places.
pub(super) struct RequestIndex {
    guard: Guard,
    by_key: HashIndex,
    by_original: HashIndex,
}

impl fmt::Debug for RequestIndex {
    /// Its places are another run's chance.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestIndex").finish_non_exhaustive()
    }
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

    /// By the name of an advice at its issuer.
    fn insert_name(&mut self, name: &OriginalKey, transaction: TransactionId) {
        self.by_original.insert(self.place(name), transaction.0);
    }

    fn remove_name(&mut self, name: &OriginalKey, transaction: TransactionId) {
        self.by_original.remove(self.place(name), transaction.0);
    }

    /// Brings a request's places into the processor's cache.
    pub(super) fn touch(&self, request: &Request) {
        self.by_key.touch(self.place(&request.key));
        self.by_original.touch(self.place(&OriginalKey::of(&request.leg)));
    }

    /// Requests that may have this name, the newest of them first.
    pub(super) fn named(&self, key: &RequestKey) -> impl Iterator<Item = TransactionId> {
        self.by_key.get(self.place(key)).map(TransactionId).take(NAMESAKES)
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

    /// Where its identifiers pass to that issuer.
    #[must_use]
    pub(super) fn passed(leg: &AcquirerLeg, issuer: LinkId) -> Self {
        Self { link: issuer, ..Self::of(leg) }
    }

    #[must_use]
    pub(super) fn at_issuer(leg: &IssuerLeg) -> Self {
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

//! The core's state put back from the journal, entry by entry, before the first event.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::journal::{OriginalIdentity, RequestEntry, StoredEntry, TombstoneEntry};
use crate::stdx::clock::{Now, Wall};
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Amount, LinkId, Outcome, ResponseCode, ReversalReason, SentAt, TransactionId};

use super::super::answered::{Answered, OriginalKey};
use super::super::event::{Action, CardMark};
use super::super::numbers::{LastNumbers, Numbers};
use super::super::recovery::{self, NOBODY, WITHHELD, payment};
use super::super::request::{Compared, RequestKey};
use super::super::transaction::{Conclusion, Routed, Transaction, TransactionState};
use super::{Outstanding, SwitchCore};

impl SwitchCore {
    /// So many messages were ever parked.
    pub(in super::super) fn recall_parked(&mut self, ever: u64) {
        self.counts.parked = ever;
    }

    /// Answers up to these were forgotten before.
    pub(in super::super) fn recall_forgotten(&mut self, newest: &BTreeMap<LinkId, SentAt>) {
        self.answered.recall_forgotten(newest);
    }

    /// Something that was answered before.
    pub(in super::super) fn recall(&mut self, id: TransactionId, answered: Answered) {
        self.index.insert(&answered.request, id);
        self.answered.insert(id, answered, &mut self.index);
        self.share_again(id);
    }

    /// A request is about an earlier one, and has no answer yet.
    pub(in super::super) fn recall_asked(&mut self, request: &RequestEntry) {
        let minor = request.elements.amount().map_or(0, Amount::minor);
        self.share(recovery::original(request).as_ref(), request.transaction, minor, false);
    }

    /// It was approved in the issuer's place.
    pub(in super::super) fn recall_stood_in(&mut self, advice: &StoredEntry, mark: CardMark, at: Wall) {
        self.stood_in.entry(advice.issuer.link).or_default().note(mark, at);
    }

    /// A reversal of it was stored.
    pub(in super::super) fn recall_reversed(&mut self, original: TransactionId, reversal: &StoredEntry) {
        if let Some(answered) = self.answered.get_mut(original) {
            answered.taken_back(reversal);
            self.share_again(original);
        }
    }

    pub(in super::super) fn recall_tombstone(&mut self, tombstone: &TombstoneEntry) {
        let OriginalIdentity { mti, stan, sent_at, .. } = tombstone.original;
        let name = OriginalKey { link: tombstone.acquirer.link, class: mti.class, stan, sent_at };
        let key = RequestKey::recalled(&tombstone.acquirer, &tombstone.answer).of_original(mti.class, stan);
        self.tombstones.insert(name, key, mti);
    }

    /// Numbers go on where the journal ends. Where acquirers' identifiers pass, most of those in it are theirs.
    pub(in super::super) fn continue_after(
        &mut self,
        last: TransactionId,
        numbers: &BTreeMap<LinkId, LastNumbers>,
    ) {
        self.next_transaction = last.0 + 1;
        let rest = self.config.longest_timeout().saturating_mul(2);
        for (link, last) in numbers {
            let last = if self.passes(*link) { last.ours } else { Some(last.any) };
            self.numbers.insert(*link, Numbers::after(last, rest));
        }
    }

    /// A stored message that its issuer has not acknowledged.
    /// `held`: its original has no outcome yet.
    pub(in super::super) fn restore_stored(
        &mut self,
        entry: StoredEntry,
        (mark, since): (CardMark, Wall),
        held: bool,
        now: Now,
    ) {
        let place = (entry.issuer.link, entry.issuer.stan);
        self.outstanding.insert(place, Outstanding::Stored(entry.transaction));
        let named = entry.number_taken_back().and_then(|stan| self.outstanding.get(&(place.0, stan)));
        if let Some(Outstanding::Stored(id)) = named.copied()
            && self.stored.find(id).is_some_and(|item| entry.takes_back(&item.entry))
        {
            self.stored.note_taken_back(id);
        }
        self.stored.restore(entry, mark, since, now.moment, held);
    }

    /// A stored message that its issuer will never take.
    pub(in super::super) fn restore_parked(
        &mut self,
        entry: StoredEntry,
        (mark, since): (CardMark, Wall),
        code: Option<ResponseCode>,
        taken_back: bool,
    ) {
        let place = (entry.issuer.link, entry.issuer.stan);
        self.outstanding.insert(place, Outstanding::Stored(entry.transaction));
        self.stored.restore_parked(entry, (mark, since), code, taken_back);
    }

    /// A request without an outcome: nobody waits for its answer any more, and what it may have moved is undone, by
    /// `reversal` if its acquirer asked for that before.
    pub(in super::super) fn close_unfinished(
        &mut self,
        entry: &RequestEntry,
        routed: Routed,
        compared: Compared,
        reversal: Option<TransactionId>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let id = entry.transaction;
        let request = Arc::new(payment(entry, compared));
        self.index.insert(&request, id);
        let _ = self.stored.reserve(routed.leg.link);
        let mut transaction = Transaction::new(request, NOBODY, now.moment);
        transaction.state = TransactionState::Forwarded;
        transaction.routed = Some(routed);
        transaction.reversal = reversal;
        self.in_flight.insert(id, Box::new(transaction));
        let owed = entry.moves_money && reversal.is_none() && !sabotaged("left-open-at-restart");
        let reason = owed.then_some(ReversalReason::Recovered);
        self.conclude(id, Conclusion::refused(WITHHELD, Outcome::Unknown), reason, now, actions);
    }
}

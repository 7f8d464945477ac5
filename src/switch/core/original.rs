//! The earlier transaction that a message names, found in memory once `look_up` has brought it back, and what later
//! messages made of it.

use std::sync::Arc;

use crate::codec::{DataElement, OriginalData};
use crate::stdx::clock::Now;
use crate::tsp::{DetokenizeRequest, Initiation, NamedOriginal, Purpose};
use crate::vocab::{Amount, Initiator, Mti, Refusal, SentAt, TransactionId, TransactionKind};

use super::super::answered::{Answered, OriginalKey, Share, ShareKind, agrees};
use super::super::event::Action;
use super::super::request::{CardSource, Compared, Request, RequestKey, RequestKind};
use super::super::transaction::{Original, Parent, Transaction};
use super::reversal::original_data;
use super::{Asked, SwitchCore};

impl SwitchCore {
    /// What a message names is known, or cannot be: `found` are the transactions of its name in the history.
    pub(super) fn proceed(
        &mut self,
        mut asked: Asked,
        found: &[TransactionId],
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let parent = match asked.request.kind {
            RequestKind::Reversal => {
                return self.reversal_received(asked.request, asked.from, now, actions);
            }
            RequestKind::Advice if self.is_about_advice_in_flight(&asked.request, now) => {
                return self.leave_for_later(&asked.request, actions);
            }
            RequestKind::Payment | RequestKind::Advice => self.parent(&asked.request, found, now),
        };
        if let Err(refusal) = self.permit_refund(&asked.request, parent.as_ref()) {
            // Remembered: its original may come later, and its repeat hears the same.
            let id = asked.request.transaction;
            let transaction = Transaction::new(asked.request, asked.from, asked.received);
            self.in_flight.insert(id, Box::new(transaction));
            return self.refuse(id, refusal, actions);
        }
        if asked.request.kind == RequestKind::Advice {
            return self.advice_received(asked, parent, now, actions);
        }
        if let CardSource::Token(question) = &mut asked.card {
            if parent.is_some() {
                // It is decided by its original: its token need not be good any more.
                question.purpose = Purpose::PastEvent;
            } else {
                self.find_agreement(&asked.request, question, found);
            }
        }
        self.look_up_card(asked, parent, now, actions);
    }

    /// Whether it tells of something about an advice that waits for its card: it would come to the issuer before that.
    fn is_about_advice_in_flight(&self, request: &Request, now: Now) -> bool {
        let waits = |id: &TransactionId| {
            self.in_flight.get(id).is_some_and(|original| original.request.kind == RequestKind::Advice)
        };
        request.original.as_deref().is_some_and(|data| self.originals(request, data, now).iter().any(waits))
    }

    /// Money goes back by what was captured and not refunded yet, or by permission: asked for, or told as done.
    fn permit_refund(&self, request: &Request, parent: Option<&Parent>) -> Result<(), Refusal> {
        if !is_refund(&request.compared) {
            return Ok(());
        }
        let asked = request.compared.amount.ok_or(Refusal::FormatError)?;
        let permitted = match parent {
            Some(parent) => {
                let original = self.answered.get(parent.original.transaction);
                original.is_some_and(|original| asked.minor() <= original.refundable())
            }
            None => self
                .acquirer(request.leg.link)
                .and_then(|acquirer| acquirer.refunds)
                .is_some_and(|most| asked.currency() == most.currency() && asked.minor() <= most.minor()),
        };
        if permitted { Ok(()) } else { Err(Refusal::RefundNotPermitted) }
    }

    /// The one transaction that a payment or advice refunds, completes or raises.
    fn parent(&self, request: &Request, found: &[TransactionId], now: Now) -> Option<Parent> {
        let named: Vec<TransactionId> = match request.original.as_deref() {
            Some(data) => self.originals(request, data, now),
            None if found.is_empty() => return None,
            None => found.iter().copied().filter(|id| self.has_approval_of(*id, request)).collect(),
        };
        let parents = named.into_iter().filter_map(|id| {
            let answered = self.answered.get(id)?;
            let kind = follows(request, answered)?;
            // What is about a completion or a raise is about their hold: by either name no more is completed than was
            // held, and no more goes back than was captured.
            let hold = answered.hold().filter(|hold| self.answered.get(*hold).is_some());
            let bearer = hold.unwrap_or(id);
            let has_room = self.has_room(self.answered.get(bearer)?, request, kind);
            has_room.then_some((id, bearer, kind))
        });
        let parents: Vec<_> = parents.collect();
        let (named, transaction, kind) = match request.original.as_deref() {
            Some(data) => self.only(parents, data, |parent| parent.0)?,
            None => one(parents)?,
        };
        let named = self.answered.get(named)?;
        let (routed, institution) = (named.at_issuer()?, named.request.key.institution);
        let data = Some(original_data(&routed, institution));
        Some(Parent {
            original: Original { transaction, kind, data },
            mark: routed.mark,
            issuer: routed.leg.link,
            card: routed.card,
        })
    }

    /// Whether it completes something that memory does not hold.
    pub(super) fn is_of_forgotten_hold(&self, id: TransactionId) -> bool {
        let hold = self.answered.get(id).and_then(Answered::hold);
        hold.is_some_and(|hold| self.known(hold).is_none())
    }

    /// Whether one more message may be of that transaction: of so many, and for a completion that is asked for of so
    /// much. One too many stands for itself. What has happened is no less a completion for being large.
    fn has_room(&self, original: &Answered, request: &Request, kind: ShareKind) -> bool {
        let link = request.leg.link;
        let percent = self.acquirer(link).map_or(100, |acquirer| acquirer.completions_percent);
        let asked = request.compared.amount.map_or(0, Amount::minor);
        let asks_too_much = kind == ShareKind::Completion
            && request.kind == RequestKind::Payment
            && asked > original.completable(percent);
        original.has_room_for_shares(self.config.limits.followers) && !asks_too_much
    }

    /// Whether its original was taken back, or forgotten, while it waited for its card. What has happened is no less a
    /// completion for that.
    pub(super) fn has_lost_its_original(&self, transaction: &Transaction) -> bool {
        let Transaction { request, parent, .. } = transaction;
        let Some(Original { transaction: original, kind, .. }) = parent.as_deref().map(|it| &it.original)
        else {
            return false;
        };
        let percent = self.acquirer(request.leg.link).map_or(100, |acquirer| acquirer.completions_percent);
        let is_bounded = request.kind == RequestKind::Payment || *kind == ShareKind::Refund;
        is_bounded && self.answered.get(*original).is_none_or(|it| it.is_overdrawn(*kind, percent))
    }

    /// A merchant's payment names the one by which its customer agreed: a payment at the same merchant that was
    /// approved, and was not taken back since. Of several with one DE 37, the one with the same token is meant.
    fn find_agreement(&self, request: &Request, question: &mut DetokenizeRequest, found: &[TransactionId]) {
        let Some(Initiation { by: Initiator::Merchant, original }) = &mut question.initiation else { return };
        let NamedOriginal::Named(rrn) = *original else { return };
        let named = |answered: &Answered| {
            answered.request.elements.get(DataElement::RRN.number()) == Some(rrn.as_bytes())
        };
        let paid_here = |it: &&Answered| it.is_agreement() && named(it) && same_merchant(request, it);
        let agreed = found.iter().filter_map(|id| self.answered.get(*id)).filter(paid_here);
        let meant = agreed.min_by_key(|it| it.request.compared.account != request.compared.account);
        let token = meant.and_then(|it| it.routed.as_ref()?.card.token.as_ref());
        *original =
            token.map_or(NamedOriginal::NotFound, |token| NamedOriginal::Approved { record: token.record });
    }

    /// DE 37 and DE 38 together name an approval; what raised it has the same DE 37, and is not meant.
    fn has_approval_of(&self, id: TransactionId, request: &Request) -> bool {
        let element = DataElement::APPROVAL_CODE.number();
        self.answered.get(id).is_some_and(|answered| {
            let given = answered.elements.get(element);
            let first = answered.routed.as_ref().is_some_and(|routed| routed.original.is_none());
            first && given.is_some() && given == request.elements.get(element)
        })
    }

    /// Requests that have this name, in flight or answered.
    pub(super) fn named(&self, key: &OriginalKey) -> impl Iterator<Item = TransactionId> {
        let named = |id: &TransactionId| self.known(*id).is_some_and(|it| OriginalKey::of(&it.leg) == *key);
        self.index.originals(key).filter(named)
    }

    /// Those that DE 90 of a message may mean: of that name or, where there is none, but for its DE 7 the request that
    /// this names. A repeat may have had another one than its first sending, and DE 90 has either.
    pub(super) fn originals(&self, request: &Request, data: &OriginalData, now: Now) -> Vec<TransactionId> {
        let name = OriginalKey::from_data(request.leg.link, data, now.wall);
        let fits = |id: &TransactionId| self.fits(*id, request, data);
        let named: Vec<_> = self.named(&name).filter(fits).collect();
        match request.key.of_original(data.mti.class, data.stan).filter(|_| named.is_empty()) {
            Some(key) => self.redated(&key, name.sent_at, data.mti).filter(fits).collect(),
            None => named,
        }
    }

    /// Whether DE 90 may mean it. One that may be a repeat is no original: what it repeats is.
    fn fits(&self, id: TransactionId, request: &Request, data: &OriginalData) -> bool {
        let may_be_repeat = self.looking.get(&id).is_some_and(|looking| looking.may_be_repeat);
        !may_be_repeat && self.known(id).is_some_and(|known| may_be_of(request, data, known))
    }

    /// Requests with that key of which one or the other sending is a repeat, sent at another time of the days in which
    /// repeats are known.
    fn redated(&self, key: &RequestKey, sent_at: SentAt, mti: Mti) -> impl Iterator<Item = TransactionId> {
        let window = self.config.repeat_window;
        let same = move |known: &Arc<Request>| {
            let leg = &known.leg;
            known.key == *key
                && leg.mti.function == mti.function
                && (leg.mti.is_repeat() || mti.is_repeat())
                && leg.sent_at.is_within(sent_at, window)
        };
        self.index.named(key).filter(move |id| self.known(*id).is_some_and(same))
    }

    /// The one that DE 90 means. A request and an advice may have one name: then its MTI decides.
    pub(super) fn only<T>(
        &self,
        mut found: Vec<T>,
        data: &OriginalData,
        id: impl Fn(&T) -> TransactionId,
    ) -> Option<T> {
        if found.len() > 1 {
            let same = |known: &Arc<Request>| known.leg.mti.function == data.mti.function;
            found.retain(|it| self.known(id(it)).is_some_and(same));
        }
        one(found)
    }

    /// What a later message makes of its original: the amount that is its share now, in minor units, and whether that
    /// is
    /// `settled` or only asked for.
    pub(super) fn share(
        &mut self,
        original: Option<&Original>,
        by: TransactionId,
        minor: u64,
        settled: bool,
    ) {
        let Some(original) = original else { return };
        self.note_decided(original.transaction);
        if let Some(answered) = self.answered.get_mut(original.transaction) {
            answered.set_share(Share { kind: original.kind, by, minor, settled });
        }
    }

    /// As `share`, of something that has its answer: what still stands of it.
    pub(super) fn share_again(&mut self, by: TransactionId) {
        let Some(answered) = self.answered.get(by) else { return };
        let minor = answered.standing();
        let original = answered.routed.as_ref().and_then(|routed| routed.original.clone());
        self.share(original.as_deref(), by, minor, true);
    }
}

/// Whether a message may be about that original, by card, currency and institution: another terminal's may have the
/// same name.
pub(super) fn may_be_of(request: &Request, data: &OriginalData, original: &Request) -> bool {
    let (asks, of) = (&request.compared, &original.compared);
    let currencies = asks.amount.zip(of.amount).map(|(asks, of)| (asks.currency(), of.currency()));
    asks.account == of.account
        && currencies.is_some_and(|(asks, of)| asks == of)
        && agrees(data.acquirer, original.key.institution)
}

/// Whether something is to stand of what a reversal takes back (DE 95).
pub(super) fn leaves_part(reversal: &Request) -> bool {
    reversal.elements.final_amount().is_some_and(|left| left.minor() > 0)
}

/// The only one of them.
fn one<T>(found: Vec<T>) -> Option<T> {
    let mut found = found.into_iter();
    found.next().filter(|_| found.next().is_none())
}

/// DE 42, which is unique only within an acquirer: names are looked up by their link.
fn merchant(request: &Request) -> Option<&[u8]> {
    request.elements.get(DataElement::MERCHANT.number()).map(<[u8]>::trim_ascii_end)
}

fn same_merchant(request: &Request, original: &Answered) -> bool {
    merchant(request).is_some_and(|id| merchant(&original.request) == Some(id))
}

/// A merchant that is not named contradicts nothing.
fn other_merchant(request: &Request, original: &Answered) -> bool {
    merchant(request).zip(merchant(&original.request)).is_some_and(|(asks, had)| asks != had)
}

/// What a message makes of a transaction whose approval stands, if it may be of it: same card and currency.
fn follows(request: &Request, original: &Answered) -> Option<ShareKind> {
    let (asked, done) = (&request.compared, &original.request.compared);
    let same = asked.account == done.account
        && asked.amount.zip(done.amount).is_some_and(|(asked, done)| asked.currency() == done.currency());
    let debited = done.processing.as_ref()?.kind() == TransactionKind::Debit;
    if !same || !debited || !original.stands() {
        return None;
    }
    let kind = ShareKind::of(request.leg.mti.class, asked.processing.as_ref()?.kind())?;
    // Only a hold can be raised or completed, and by the merchant that has it.
    let of_hold = original.is_hold() && !other_merchant(request, original);
    (kind == ShareKind::Refund || of_hold).then_some(kind)
}

/// Whether money is to go back to the card (DE 3 = 2x).
pub(super) fn is_refund(compared: &Compared) -> bool {
    compared.processing.as_ref().is_some_and(|processing| processing.kind() == TransactionKind::Credit)
}

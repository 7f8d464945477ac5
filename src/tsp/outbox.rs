//! `Outbox`: what requestors and issuers are still to be told of their tokens. A view of the token log: every event has
//! its ordinal there, each receiver a place up to which it was told, and what lies between waits here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::stdx::clock::{Now, Wall};
use crate::stdx::maps::Map;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Digits, Text, TokenAssuranceMethod, TokenReferenceId, TokenRequestorId};

use super::command::{Action, Asker, CallId};
use super::error::ProvisioningRefusal;
use super::event::{Actor, Cause, Change, PartyName, Principal, Reason, RequestId, TokenEvent};
use super::lifecycle::{Lifecycle, TokenStatus};
use super::record::{CardAad, VaultRecord, open_card};
use super::tsp::{Decision, Tsp};

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Receiver {
    Requestor(TokenRequestorId),
    /// By its name in the configuration.
    Issuer(PartyName),
}

impl Receiver {
    /// Its name in metrics, logs and key derivation: no two have the same.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Requestor(id) => format!("requestor-{}", id.as_str()),
            Self::Issuer(name) => format!("issuer-{name}"),
        }
    }
}

macro_rules! happenings {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal;)*) => {
        /// What happened to a token, in the words of a notification.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Happening { $($(#[$doc])* $name = $code,)* }

        impl Happening {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(super) fn code(self) -> u8 {
                self as u8
            }

            pub(super) fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.code() == code)
            }
        }
    };
}

happenings! {
    Issued = 1 "issued";
    Activated = 2 "activated";
    /// By one suspender more.
    Suspended = 3 "suspended";
    /// One suspender less; the status says whether it is active again.
    Resumed = 4 "resumed";
    /// For good.
    Deactivated = 5 "deactivated";
    /// Something else of it: its expiry, its card, its assurance.
    Updated = 6 "updated";
}

/// What an event means for one token's receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    /// Of the event among all token events, from 1.
    pub(super) ordinal: u64,
    pub(super) record: u64,
    pub(super) at: Wall,
    pub(super) what: Happening,
    pub(super) actor: Actor,
    pub(super) reason: Reason,
    pub(super) lifecycle: Lifecycle,
    pub(super) assurance: TokenAssuranceMethod,
}

/// One thing that a receiver is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Rises from one notification of a receiver to the next, and stays the same when one is sent again; several
    /// tokens that changed at once share it.
    pub sequence: u64,
    pub at: Wall,
    pub what: Happening,
    pub actor: Actor,
    pub reason: Reason,
    pub reference: TokenReferenceId,
    pub requestor: TokenRequestorId,
    /// Of the PAN.
    pub last4: Digits<4>,
    pub lifecycle: Lifecycle,
    pub assurance: TokenAssuranceMethod,
}

impl Noted {
    /// What there is to tell of a change that made `after` of a record; nothing where nothing of it shows.
    pub(super) fn of(
        ordinal: u64,
        at: Wall,
        (cause, change): (&Cause, &Change),
        before: Option<&VaultRecord>,
        after: &VaultRecord,
    ) -> Option<Self> {
        // A requestor hears of its cryptogram or its key as it gets it, and nobody else need.
        if before == Some(after) || matches!(change, Change::CryptogramMade(_) | Change::KeyGiven(_)) {
            return None;
        }
        let what = before.map_or(Happening::Issued, |before| between(before.lifecycle, after.lifecycle));
        Some(Self {
            ordinal,
            record: after.record,
            at,
            what,
            actor: cause.actor,
            reason: cause.reason_code,
            lifecycle: after.lifecycle,
            assurance: after.assurance,
        })
    }

    /// As it is told, with what never changes of its token.
    pub(super) fn notification(&self, of: &VaultRecord) -> Notification {
        Notification {
            sequence: self.ordinal,
            at: self.at,
            what: self.what,
            actor: self.actor,
            reason: self.reason,
            reference: of.reference,
            requestor: of.requestor,
            last4: of.last4,
            lifecycle: self.lifecycle,
            assurance: self.assurance,
        }
    }
}

/// What is different, and not how it stands: a token that stays suspended may have lost a suspender, or been updated.
fn between(before: Lifecycle, after: Lifecycle) -> Happening {
    let (had, has) = (before.suspenders, after.suspenders);
    match (before.status, after.status) {
        (TokenStatus::Deactivated, TokenStatus::Deactivated) => Happening::Updated,
        (_, TokenStatus::Deactivated) => Happening::Deactivated,
        (TokenStatus::Inactive, TokenStatus::Active) => Happening::Activated,
        _ if had.iter().any(|by| !has.contains(by)) => Happening::Resumed,
        _ if has.iter().any(|by| !had.contains(by)) => Happening::Suspended,
        _ => Happening::Updated,
    }
}

/// One receiver's.
#[derive(Debug, Default)]
struct Queue {
    /// Told up to here; none before the first place was written down: then it hears of what comes from now on.
    told: Option<u64>,
    waiting: VecDeque<Notification>,
    /// Given up since the start, the oldest first, for want of room.
    given_up: u64,
    /// It stands in the configuration, and so has an endpoint there.
    configured: bool,
    /// Where it is told by its registration, which goes before the configuration; empty: it says nothing.
    url: Text<128>,
}

/// What waits for each receiver. Clones are the same outbox: the vault's writer fills it, whoever delivers looks.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Arc<Mutex<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    queues: Map<Receiver, Queue>,
    most: usize,
    /// Rises with each change of where receivers are told by their registrations.
    registrations: u64,
}

/// How one receiver stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxStanding {
    pub waiting: usize,
    pub given_up: u64,
}

impl Outbox {
    /// For these receivers, at most so many notifications each.
    #[must_use]
    pub(super) fn new(receivers: &[Receiver], most: usize) -> Self {
        let configured = || Queue { configured: true, ..Queue::default() };
        let queues = receivers.iter().map(|receiver| (*receiver, configured())).collect();
        Self(Arc::new(Mutex::new(Queues { queues, most, registrations: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody is told of anything.
    pub(super) fn is_needed(&self) -> bool {
        !self.lock().queues.is_empty()
    }

    /// One more thing to tell, unless the receiver is not told anything or knows it. With too many waiting the oldest
    /// is given up: the token itself can be asked for.
    pub(super) fn note(&self, receiver: Receiver, notification: Notification) {
        let mut queues = self.lock();
        let most = queues.most;
        let Some(queue) = queues.queues.get_mut(&receiver) else { return };
        if queue.told.is_none_or(|told| notification.sequence <= told) {
            return;
        }
        if queue.waiting.len() >= most {
            queue.waiting.pop_front();
            queue.given_up += 1;
        }
        let mut place = queue.waiting.len();
        if let Some(last) = queue.waiting.back().filter(|_| sabotaged("notices-out-of-order"))
            && last.reference == notification.reference
        {
            place = place.saturating_sub(1);
        }
        queue.waiting.insert(place, notification);
    }

    /// A receiver was told everything up to here.
    pub(super) fn told(&self, receiver: Receiver, up_to: u64) {
        let mut queues = self.lock();
        let Some(queue) = queues.queues.get_mut(&receiver) else { return };
        let up_to = queue.told.map_or(up_to, |told| told.max(up_to));
        queue.told = Some(up_to);
        while queue.waiting.front().is_some_and(|waiting| waiting.sequence <= up_to) {
            queue.waiting.pop_front();
        }
    }

    /// A registration says where a receiver is told, or that it is not any more (empty). One that is new hears of what
    /// comes after the event `from`; without that, of what comes once its place is written down.
    pub(super) fn register(&self, receiver: Receiver, url: Text<128>, from: Option<u64>) {
        let mut queues = self.lock();
        queues.registrations += 1;
        if !url.as_bytes().is_empty() {
            let new = || Queue { told: from, ..Queue::default() };
            queues.queues.entry(receiver).or_insert_with(new).url = url;
        } else if let Some(queue) = queues.queues.get_mut(&receiver).filter(|queue| queue.configured) {
            queue.url = url;
        } else {
            queues.queues.remove(&receiver);
        }
    }

    /// Rises with each change of `registered`.
    #[must_use]
    pub fn registrations(&self) -> u64 {
        self.lock().registrations
    }

    /// Where receivers are told by their registrations.
    #[must_use]
    pub fn registered(&self) -> Vec<(Receiver, Text<128>)> {
        let queues = self.lock();
        let there = queues.queues.iter().filter(|(_, queue)| !queue.url.as_bytes().is_empty());
        let mut there: Vec<_> = there.map(|(receiver, queue)| (*receiver, queue.url)).collect();
        there.sort_unstable();
        there
    }

    /// Receivers of whom it is not known what they were told.
    pub(super) fn newcomers(&self) -> Vec<Receiver> {
        let queues = self.lock();
        let new = queues.queues.iter().filter(|(_, queue)| queue.told.is_none());
        let mut new: Vec<Receiver> = new.map(|(receiver, _)| *receiver).collect();
        new.sort_unstable();
        new
    }

    /// The oldest that wait, `most` or a few more: those of one event stay together.
    #[must_use]
    pub fn first(&self, receiver: Receiver, most: usize) -> Vec<Notification> {
        let queues = self.lock();
        let Some(queue) = queues.queues.get(&receiver) else { return Vec::new() };
        let last = queue.waiting.get(most.saturating_sub(1)).map_or(u64::MAX, |it| it.sequence);
        queue.waiting.iter().take_while(|it| it.sequence <= last).copied().collect()
    }

    #[must_use]
    pub fn standing(&self, receiver: Receiver) -> OutboxStanding {
        let queues = self.lock();
        let queue = queues.queues.get(&receiver);
        OutboxStanding {
            waiting: queue.map_or(0, |queue| queue.waiting.len()),
            given_up: queue.map_or(0, |queue| queue.given_up),
        }
    }
}

impl Tsp {
    /// How many token events there ever were.
    #[must_use]
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// What waits for receivers.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Puts what happened to a record before those who are told of it.
    pub(super) fn note(
        &self,
        event: &TokenEvent,
        before: Option<&VaultRecord>,
        after: &VaultRecord,
        at: Wall,
    ) {
        if self.outbox.is_needed()
            && let Some(noted) = Noted::of(self.events, at, (&event.cause, &event.change), before, after)
        {
            self.notify(&noted, after);
        }
    }

    /// Puts what was noted before those who are told of it: whose token it is, and whose card.
    pub(super) fn notify(&self, noted: &Noted, record: &VaultRecord) {
        let notification = noted.notification(record);
        self.outbox.note(Receiver::Requestor(record.requestor), notification);
        if let Some(issuer) = self.issuer_of(record) {
            self.outbox.note(Receiver::Issuer(issuer), notification);
        }
    }

    /// As `notify`, of what was noted before its token came to lead to another card: by the card of then.
    pub(super) fn notify_late(&self, noted: &Noted, record: &VaultRecord) {
        let past = record.past.iter().find(|past| noted.at < past.until);
        let then = past.and_then(|past| {
            let (mapping_version, sealed) = (past.mapping_version, past.sealed);
            let aad = CardAad::vault(&record.token, record.record, mapping_version);
            let last4 = open_card(&self.sealer, &aad, &sealed).ok()?.pan.last4();
            Some(VaultRecord { mapping_version, sealed, last4, ..record.clone() })
        });
        self.notify(noted, then.as_ref().unwrap_or(record));
    }

    /// Receivers that are new begin to hear from here on.
    pub(super) fn adopt(&mut self, call: CallId, now: Now, actions: &mut Vec<Action>) {
        for receiver in self.outbox.newcomers() {
            self.was_told(call, (receiver, self.events), now, actions);
        }
    }

    /// A receiver was told everything up to an event.
    pub(super) fn was_told(
        &mut self,
        call: CallId,
        (receiver, up_to): (Receiver, u64),
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let told = self.decide_told(receiver, up_to);
        self.carry_out(call, told, now, actions);
    }

    /// That a receiver was told is written down as an event like any other.
    fn decide_told(&self, receiver: Receiver, up_to: u64) -> Result<Decision, ProvisioningRefusal> {
        if self.failed {
            return Err(ProvisioningRefusal::Unavailable);
        }
        let request_id = RequestId::parse(receiver.name().as_bytes());
        let request_id = request_id.map_err(|_| ProvisioningRefusal::Unavailable)?;
        let cause = Asker::new(Principal::Service, Actor::Service, request_id).cause(&up_to.to_le_bytes());
        Ok(Decision::New(Box::new(TokenEvent { cause, change: Change::Notified { receiver, up_to } })))
    }
}

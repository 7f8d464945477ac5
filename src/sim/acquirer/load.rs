//! `Load`: payments at a set rate, or so many at a time.

use std::ops::RangeInclusive;

use super::{AcquirerSimulator, SimError};
use crate::sim::book::{Payment, PaymentNumber};
use crate::sim::outbox::Outbox;
use crate::stdx::clock::{Moment, Now};
use crate::vocab::{Amount, Currency, Mti, PosEntryMode, ProcessingCode};

/// How many payments of an open-loop load may be unanswered. Past it they go out late, and their latency counts
/// from when they should have gone.
const MOST_OUTSTANDING: usize = 200_000;
/// How many payments of an open-loop load one step sends at most, so that what is written gets to the wire.
const MOST_AT_ONCE: usize = 4_096;

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// So many a second, whether answers come or not.
    Open { per_second: u64 },
    /// So many unanswered on each connection; an answer makes room for the next.
    Closed { outstanding: usize },
}

/// A stream of payments with cards and amounts drawn from the seed.
#[derive(Debug, Clone)]
pub struct Load {
    pub pace: Pace,
    /// After how many it ends by itself.
    pub total: Option<u64>,
    pub mti: Mti,
    pub processing: ProcessingCode,
    pub entry_mode: PosEntryMode,
    /// In minor units.
    pub amounts: RangeInclusive<u64>,
    pub currency: Currency,
}

#[derive(Debug)]
pub(super) struct LoadState {
    load: Load,
    started: Moment,
    sent: u64,
    outstanding: usize,
    ended: bool,
}

impl LoadState {
    /// When the next payment should leave.
    fn intended(&self, per_second: u64) -> Moment {
        let nanos = u128::from(self.sent) * 1_000_000_000 / u128::from(per_second.max(1));
        Moment(self.started.0.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

impl AcquirerSimulator {
    /// Begins a load in place of any other.
    pub fn start_load(&mut self, load: Load, now: Now) {
        let expected = load.total.and_then(|total| usize::try_from(total).ok());
        self.book.reserve(expected.unwrap_or_default().min(1 << 24));
        let started = now.moment;
        self.load = Some(LoadState { load, started, sent: 0, outstanding: 0, ended: false });
    }

    /// Sends no more of the load; what is in flight stays in flight.
    pub fn stop_load(&mut self) {
        if let Some(state) = &mut self.load {
            state.ended = true;
        }
    }

    /// Whether the load has ended and all of it is answered or given up.
    #[must_use]
    pub fn load_is_over(&self) -> bool {
        self.load.as_ref().is_none_or(|state| state.ended && state.outstanding == 0)
    }

    /// Sends what the load owes by now.
    pub(super) fn go_on(&mut self, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        match self.load.as_ref().filter(|state| !state.ended).map(|state| state.load.pace) {
            None => Ok(()),
            Some(Pace::Open { per_second }) => self.keep_pace(per_second, now, out),
            Some(Pace::Closed { .. }) => {
                for at in 0..self.connections.len() {
                    self.top_up(at, now, out)?;
                }
                Ok(())
            }
        }
    }

    fn keep_pace(&mut self, per_second: u64, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        for _ in 0..MOST_AT_ONCE {
            let Some(state) = self.load.as_ref().filter(|state| !state.ended) else { break };
            let intended = state.intended(per_second);
            if intended > now.moment || state.outstanding >= MOST_OUTSTANDING {
                break;
            }
            let Some(connection) = self.next_connection() else { break };
            self.pay_next(connection, intended, now, out)?;
        }
        Ok(())
    }

    /// Fills up the share of the `at`th connection in a closed-loop load.
    pub(super) fn top_up(&mut self, at: usize, now: Now, out: &mut Outbox) -> Result<(), SimError> {
        loop {
            let state = self.load.as_ref().filter(|state| !state.ended);
            let Some(Pace::Closed { outstanding }) = state.map(|state| state.load.pace) else {
                return Ok(());
            };
            let room = |c: &&super::Connection| c.signed_on && c.outstanding < outstanding;
            let Some(connection) = self.connections.get(at).filter(room) else { return Ok(()) };
            self.pay_next(connection.number, now.moment, now, out)?;
        }
    }

    /// Draws the next payment of the load and sends it.
    fn pay_next(
        &mut self,
        connection: usize,
        intended: Moment,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let cards = u64::try_from(self.cards.len()).unwrap_or_default();
        let card = usize::try_from(self.entropy.below(cards).unwrap_or_default()).unwrap_or_default();
        let merchant = card % self.merchants.len().max(1);
        let Some(state) = &mut self.load else { return Ok(()) };
        let (least, most) = (*state.load.amounts.start(), *state.load.amounts.end());
        let over = self.entropy.below(most.saturating_sub(least).saturating_add(1)).unwrap_or_default();
        let payment = Payment {
            mti: state.load.mti,
            card,
            merchant,
            processing: state.load.processing,
            amount: Amount::new(least.saturating_add(over), state.load.currency),
            entry_mode: state.load.entry_mode,
            original: None,
            remote: None,
        };
        state.sent += 1;
        state.ended = state.load.total.is_some_and(|total| state.sent >= total);
        state.outstanding += 1;
        let place = self.connections.iter_mut().find(|known| known.number == connection);
        if let Some(place) = place {
            place.outstanding += 1;
        }
        let sent = self.pay_on(connection, payment, intended, true, now, out);
        if sent.is_err() {
            self.stop_load();
        }
        sent.map(|_| ())
    }

    /// Takes a payment out of the load's count; the place of the connection that it makes room on.
    pub(super) fn release(&mut self, number: PaymentNumber) -> Option<usize> {
        let connection = self.book.payment_mut(number)?.load_on.take()?;
        if let Some(state) = &mut self.load {
            state.outstanding = state.outstanding.saturating_sub(1);
        }
        let at = self.connections.iter().position(|known| known.number == connection)?;
        let place = self.connections.get_mut(at)?;
        place.outstanding = place.outstanding.saturating_sub(1);
        Some(at)
    }

    /// When the load wants to send next.
    pub(super) fn load_due(&self) -> Option<Moment> {
        let state = self.load.as_ref().filter(|state| !state.ended)?;
        match state.load.pace {
            Pace::Open { per_second } if state.outstanding < MOST_OUTSTANDING && self.signed_on() > 0 => {
                Some(state.intended(per_second))
            }
            Pace::Open { .. } | Pace::Closed { .. } => None,
        }
    }
}

//! What parties ask in a run of each other's tokens: tokens from them, consents to that, their cards' numbers, and
//! moves; how requestors are registered meanwhile, and what receivers are told.

use tokenswitch::tsp::{Move, Suspender};

use super::vault::receiver;
use super::{Happening, Step, World};
use crate::parties::{Party, Registering, Sourced, Telling, Terms};
use crate::setting::PARTIES;
use crate::vault::Asked;

impl World {
    /// Spreads what they ask over the run's time.
    pub(super) fn schedule_parties(&mut self, span: u64) {
        for _ in 0..self.party_random.u32(0..8) {
            let wait = self.party_random.u64(0..span.max(1));
            self.later(wait, Happening::Parties);
        }
        for _ in 0..self.party_random.u32(0..8) {
            let wait = self.party_random.u64(0..span.max(1));
            self.later(wait, Happening::Tell);
        }
    }

    /// One of them asks something, for the first time or again.
    pub(super) fn parties_ask(&mut self) -> Step {
        for _ in 0..self.party_random.u32(1..4) {
            let again = self.party_random.u32(0..4) == 0;
            let theirs = |(_, asked): &&(String, Asked)| {
                matches!(
                    asked,
                    Asked::From(_)
                        | Asked::Consent { .. }
                        | Asked::Tell(_)
                        | Asked::TellDenied { .. }
                        | Asked::Register(_)
                        | Asked::MoveBy { .. }
                )
            };
            let before: Vec<&(String, Asked)> = self.asked.iter().filter(theirs).collect();
            let before = self.party_random.choice(before).filter(|_| again).cloned();
            let (id, asked) = match before {
                Some(before) => before,
                None => {
                    let Some(asked) = self.party_wish() else { continue };
                    (format!("v{}", self.asked.len()), asked)
                }
            };
            let of_holder = match &asked {
                Asked::Tell(telling) => Some(self.book.owner(telling.token)),
                _ => None,
            };
            self.ask(id, asked)?;
            of_holder.map_or(Ok(()), |holder| self.want_told(holder))?;
        }
        Ok(())
    }

    /// A requestor wants the cards' numbers of some of its tokens, which soon are more than it is told in a day.
    fn want_told(&mut self, holder: usize) -> Step {
        let theirs: Vec<usize> =
            self.book.known().filter(|(.., it)| it.owner == holder).map(|(at, ..)| at).collect();
        for _ in 0..self.party_random.u32(0..4) {
            let Some(token) = self.party_random.choice(&theirs).copied() else { return Ok(()) };
            let (by_number, by) = (self.party_random.bool(), Party::Requestor(holder));
            let by_number = by_number.then(|| self.book.expiry(token));
            let asked = Asked::Tell(Telling { token, by_number, by });
            self.ask(format!("v{}", self.asked.len()), asked)?;
        }
        Ok(())
    }

    /// After a restart, who was told numbers before may want more.
    pub(super) fn want_more_told(&mut self) -> Step {
        let holders: Vec<usize> = self.book.were_told().collect();
        let holder = self.party_random.choice(holders);
        holder.map_or(Ok(()), |holder| self.want_told(holder))
    }

    /// Something new to ask; none when there is nothing of the kind.
    fn party_wish(&mut self) -> Option<Asked> {
        let random = &mut self.party_random;
        let (kind, by, by_number) = (random.u32(0..18), random.usize(0..PARTIES), random.bool());
        let known: Vec<usize> = self.book.known().map(|(at, ..)| at).collect();
        let token = *random.choice(&known)?;
        let expiry_of = |token: usize| by_number.then(|| self.book.expiry(token));
        if kind >= 14 {
            return self.move_by(token, by);
        }
        if kind >= 10 {
            return Some(Asked::Register(self.registering()));
        }
        if kind >= 6 {
            let holder = Party::Requestor(self.book.owner(token));
            let by = *random.choice(&[holder, holder, Party::Desk, Party::Issuer, Party::Requestor(by)])?;
            return Some(Asked::Tell(Telling { token, by_number: expiry_of(token), by }));
        }
        if random.u32(0..10) == 0 {
            return Some(Asked::TellDenied { by });
        }
        // The newest few: one that is good, was used, or was replaced.
        let given: Vec<_> = self.book.consents().all().rev().take(3).collect();
        match random.choice(given) {
            Some(given) if kind < 3 => {
                let by = if random.u32(0..8) == 0 { by } else { given.to };
                let (source, consent) = (given.token, Some(given.number));
                Some(Asked::From(Sourced { source, by_number: expiry_of(source), by, consent }))
            }
            _ if kind < 5 => Some(Asked::Consent { token, to: by }),
            _ => {
                let by_number = expiry_of(token);
                Some(Asked::From(Sourced { source: token, by_number, by, consent: None }))
            }
        }
    }

    /// A call to a receiver with the oldest that waits for it, which may be lost, as may the word that it came.
    pub(super) fn tell(&mut self) -> Step {
        let Some(house) = &self.house else { return Ok(()) };
        let hearers = self.book.notices().hearers();
        let random = &mut self.party_random;
        let Some(hearer) = random.choice(hearers) else { return Ok(()) };
        let (most, fate) = (random.usize(1..6), random.u32(0..6));
        let batch = house.notices().first(receiver(hearer), most);
        let Some(last) = batch.last().filter(|_| fate > 0) else { return Ok(()) };
        self.note(&format!("{hearer:?} is told up to event {}", last.sequence));
        batch.iter().try_for_each(|told| self.book.hears_of(hearer, told))?;
        if fate == 1 {
            return Ok(());
        }
        self.ask(format!("n{}", self.calls), Asked::Confirm { hearer, up_to: last.sequence })
    }

    /// Somebody moves a token: its holder, another requestor, an issuer that is asked about its cards, or the desk.
    fn move_by(&mut self, token: usize, other: usize) -> Option<Asked> {
        use Suspender::{Cardholder, Issuer, MobilePinLocked, Operator, TokenRequestor};
        let random = &mut self.party_random;
        let holder = Party::Requestor(self.book.owner(token));
        let by =
            *random.choice(&[holder, Party::Requestor(other), Party::Issuer, Party::Issuer, Party::Desk])?;
        // Of its own cards as often as not.
        let own: Vec<usize> = self.book.of_asked_cards().collect();
        let token = random.choice(own).filter(|_| by == Party::Issuer && random.bool()).unwrap_or(token);
        let name = *random.choice(&[Cardholder, TokenRequestor, MobilePinLocked, Operator, Issuer])?;
        let to = match random.u32(0..8) {
            0 => Move::Unlink,
            1 | 2 => Move::Activate,
            3..5 => Move::Resume(name),
            _ => Move::Suspend(name),
        };
        Some(Asked::MoveBy { token, to, by })
    }

    /// A requestor is changed, or closed now and then; that whose tokens pay seldom, since so much hangs on it.
    fn registering(&mut self) -> Registering {
        let random = &mut self.party_random;
        let place = random.usize(0..PARTIES).max(random.usize(0..2));
        let closes = random.u32(0..if place == 0 { 20 } else { 5 }) == 0;
        let some = |random: &mut fastrand::Rng, most: u32| random.bool().then(|| random.u32(0..most));
        let terms = Terms {
            tokens: some(random, 12),
            per_card: some(random, 4),
            told_a_day: some(random, 4),
            taps_only: random.u32(0..4) == 0,
            shares: random.bool(),
            listens: random.bool(),
        };
        let seen = random.bool().then(|| random.u32(0..3));
        let by_desk = random.u32(0..10) > 0;
        Registering { place, terms: (!closes).then_some(terms), seen, by_desk }
    }
}

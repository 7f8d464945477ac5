//! What parties ask in a run of each other's tokens: tokens from them, consents to that, and their cards' numbers.

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
            self.ask(id, asked)?;
        }
        Ok(())
    }

    /// Something new to ask; none when there is nothing of the kind.
    fn party_wish(&mut self) -> Option<Asked> {
        let random = &mut self.party_random;
        let (kind, by, by_number) = (random.u32(0..14), random.usize(0..PARTIES), random.bool());
        let known: Vec<usize> = self.book.known().map(|(at, ..)| at).collect();
        let token = *random.choice(&known)?;
        if kind >= 10 {
            return Some(Asked::Register(self.registering()));
        }
        if kind >= 6 {
            let holder = Party::Requestor(self.book.owner(token));
            let by = *random.choice(&[holder, holder, Party::Desk, Party::Issuer, Party::Requestor(by)])?;
            return Some(Asked::Tell(Telling { token, by_number, by }));
        }
        if random.u32(0..10) == 0 {
            return Some(Asked::TellDenied { by });
        }
        // The newest few: one that is good, was used, or was replaced.
        let given: Vec<_> = self.book.consents().all().rev().take(3).collect();
        match random.choice(given) {
            Some(given) if kind < 3 => {
                let by = if random.u32(0..8) == 0 { by } else { given.to };
                Some(Asked::From(Sourced { source: given.token, by_number, by, consent: Some(given.number) }))
            }
            _ if kind < 5 => Some(Asked::Consent { token, to: by }),
            _ => Some(Asked::From(Sourced { source: token, by_number, by, consent: None })),
        }
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
        };
        let seen = random.bool().then(|| random.u32(0..3));
        let by_desk = random.u32(0..10) > 0;
        Registering { place, terms: (!closes).then_some(terms), seen, by_desk }
    }
}

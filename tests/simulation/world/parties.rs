//! What requestors ask in a run that concerns others: tokens from each other's tokens, and consents to that.

use super::{Happening, Step, World};
use crate::parties::Sourced;
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
            let theirs =
                |(_, asked): &&(String, Asked)| matches!(asked, Asked::From(_) | Asked::Consent { .. });
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
        let (kind, by, by_number) = (random.u32(0..6), random.usize(0..PARTIES), random.bool());
        let known: Vec<usize> = self.book.known().map(|(at, ..)| at).collect();
        let token = *random.choice(&known)?;
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
}

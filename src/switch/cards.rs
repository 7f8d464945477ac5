//! `Cards`: opens the journal's card references, and marks PANs so that requests of one card are known as such.

use std::hash::{BuildHasher, Hasher};

use crate::crypto::{CryptoError, DataSealer, Sealed};
use crate::journal::CardRef;
use crate::stdx::random::Entropy;
use crate::tsp::{CardAad, CardData, open_card, seal_card};
use crate::vocab::{Pan, TransactionId};

use super::event::CardMark;

/// The keys to cards, and the seed of this run's marks.
pub struct Cards {
    sealer: DataSealer,
    marks: foldhash::fast::FixedState,
}

impl Cards {
    /// `mark_seed` is drawn anew for every run, and fixed in a simulation.
    #[must_use]
    pub fn new(sealer: DataSealer, mark_seed: u64) -> Self {
        Self { sealer, marks: foldhash::fast::FixedState::with_seed(mark_seed) }
    }

    /// A number for a PAN that only this run can make.
    #[must_use]
    pub fn mark(&self, pan: &Pan) -> CardMark {
        let mut hasher = self.marks.build_hasher();
        hasher.write(pan.expose_digits());
        CardMark(hasher.finish())
    }

    /// Seals the card of a transaction that came with a PAN.
    ///
    /// # Errors
    /// Without randomness nothing is sealed.
    pub fn seal(
        &self,
        entropy: &mut Entropy,
        id: TransactionId,
        card: &CardData,
    ) -> Result<Sealed, CryptoError> {
        seal_card(&self.sealer, entropy, &CardAad::transaction(id), card)
    }

    /// The card behind a journaled reference; `sealed_for` is the transaction that brought it.
    ///
    /// # Errors
    /// The envelope was altered, stands in the wrong place, or its key is gone.
    pub fn open(&self, card: &CardRef, sealed_for: TransactionId) -> Result<CardData, CryptoError> {
        let aad = match &card.token {
            Some(token) => CardAad::vault(&token.token, token.record, token.mapping_version),
            None => CardAad::transaction(sealed_for),
        };
        open_card(&self.sealer, &aad, &card.sealed)
    }
}

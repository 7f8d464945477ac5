//! `Renewal`: the cards of tokens sealed anew by the newest key, so that the one before it can be given up.

use std::fmt;

use crate::crypto::{CryptoError, DataSealer, Sealed};
use crate::journal::CheckpointError;
use crate::stdx::random::Entropy;
use crate::vocab::Token;

use super::record::{CardAad, open_card, seal_card};
use super::record_layout::{decode_record, encode_record};

pub(super) struct Renewal {
    sealer: DataSealer,
    entropy: Entropy,
}

impl Renewal {
    pub(super) fn new(sealer: DataSealer, entropy: Entropy) -> Self {
        Self { sealer, entropy }
    }

    /// The version of the key that seals now.
    pub(super) fn newest(&self) -> u16 {
        self.sealer.newest_version()
    }

    /// A record with its cards sealed by the newest key; none when they are.
    ///
    /// # Errors
    /// `Damaged` for a record that cannot be read, `Keys` without randomness.
    pub(super) fn renewed(&mut self, record: &[u8]) -> Result<Option<Vec<u8>>, CheckpointError> {
        let unread = CheckpointError::Damaged("a token's record cannot be read");
        let mut record = decode_record(record).ok_or(unread)?;
        let (token, number) = (record.token, record.record);
        let mut changed = self.seal_anew((&token, number, record.mapping_version), &mut record.sealed)?;
        for past in &mut record.past {
            changed |= self.seal_anew((&token, number, past.mapping_version), &mut past.sealed)?;
        }
        Ok(changed.then(|| encode_record(&record)))
    }

    /// An envelope that opens with no key is left as it is: what it leads to is lost already, and its token declined.
    fn seal_anew(
        &mut self,
        (token, record, mapping_version): (&Token, u64, u32),
        sealed: &mut Sealed,
    ) -> Result<bool, CryptoError> {
        if sealed.key_version() == self.newest() {
            return Ok(false);
        }
        let place = CardAad::vault(token, record, mapping_version);
        let Ok(card) = open_card(&self.sealer, &place, sealed) else { return Ok(false) };
        *sealed = seal_card(&self.sealer, &mut self.entropy, &place, &card)?;
        Ok(true)
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Renewal by version {}", self.newest())
    }
}

//! Looks at what the chip said: the counter, the cryptogram under the token's own keys, and the amount it signed.

use std::sync::Arc;

use crate::crypto::{CardKey, CryptoError, CryptogramKeys, RemoteKeys, SecurityModule};
use crate::vocab::{Amount, AtcRange, ChipPayment, PanSequenceNumber, Refusal, Token, VerdictResult};

use super::config::{TokenRange, TspConfig};
use super::controls::DomainControls;
use super::counters::Standing;
use super::detokenize::{DetokenizeRequest, Purpose};

/// Token ranges with the keys of their chip cryptograms, and the key of remote ones. Clones share the keys.
#[derive(Debug, Clone)]
pub struct TokenKeys {
    ranges: Arc<[(TokenRange, Option<CryptogramKeys>)]>,
    pub(super) remote: RemoteKeys,
}

impl TokenKeys {
    /// A token's own sequence number, whatever the card's is: it only takes part in deriving the token's key.
    pub const SEQUENCE: PanSequenceNumber = PanSequenceNumber::ZERO;

    /// Resolves each range's key once.
    ///
    /// # Errors
    /// `NoSuchKey` for a label that the store has not, or not for the profile's cipher.
    pub fn resolve(config: &TspConfig, security: &SecurityModule) -> Result<Self, CryptoError> {
        let mut ranges = Vec::with_capacity(config.token_ranges.len());
        for range in &config.token_ranges {
            let keys = range.cryptograms.map(|chosen| security.token_keys(chosen.key, chosen.profile));
            ranges.push((*range, keys.transpose()?));
        }
        Ok(Self { ranges: ranges.into(), remote: security.remote_keys() })
    }

    /// The range of an account number; `None` for what is no token's.
    pub(super) fn range(&self, account: &[u8]) -> Option<&(TokenRange, Option<CryptogramKeys>)> {
        self.ranges.iter().find(|(range, _)| range.covers(account))
    }

    /// The key of a token's card, for whoever personalises it; `None` for a range without cryptograms.
    #[must_use]
    pub fn card_key(&self, token: &Token) -> Option<CardKey> {
        let (_, keys) = self.range(token.as_bytes())?;
        keys.as_ref()?.card_key(token.as_bytes(), Self::SEQUENCE)
    }
}

/// The counter first, which costs least, then the cryptogram: a verdict for the issuer, or the reason to refuse.
/// `limited` is the range of the limited-use key that signed; none: the card's own did.
pub(super) fn check_cryptogram(
    request: &DetokenizeRequest,
    required: bool,
    (range, keys, limited): (&TokenRange, Option<&CryptogramKeys>, Option<AtcRange>),
    standing: impl FnOnce(&ChipPayment) -> Standing,
) -> Result<VerdictResult, Refusal> {
    let Some(chip) = &request.chip else {
        let chip_entry = request.entry_mode.is_some_and(|mode| mode.has_chip_data());
        let needed = request.purpose == Purpose::Purchase && (chip_entry || required);
        return if needed { Err(Refusal::CryptogramMissing) } else { Ok(VerdictResult::Absent) };
    };
    if range.checked_by_issuer {
        // What the issuer once found true leads to no second approval; what it will say of a new one is its own.
        let used = refuse_used(standing(chip)).map(|()| VerdictResult::NotVerified);
        return if request.purpose == Purpose::PastEvent { Ok(VerdictResult::NotVerified) } else { used };
    }
    let Some(keys) = keys else {
        let needed = request.purpose == Purpose::Purchase;
        return if needed { Err(Refusal::CryptogramUnverifiable) } else { Ok(VerdictResult::NotVerified) };
    };
    let standing = standing(chip);
    if request.purpose != Purpose::PastEvent {
        refuse_used(standing)?;
    }
    let account = request.token.as_bytes();
    keys.verify_limited(account, TokenKeys::SEQUENCE, limited, chip).map_err(|_| Refusal::CryptogramWrong)?;
    Ok(verdict_of(standing))
}

/// What a true cryptogram is worth.
pub(super) fn verdict_of(standing: Standing) -> VerdictResult {
    match standing {
        Standing::Free => VerdictResult::Good,
        Standing::Used => VerdictResult::Replayed,
        Standing::OutOfRange => VerdictResult::OutOfRange,
    }
}

pub(super) fn refuse_used(standing: Standing) -> Result<(), Refusal> {
    match standing {
        Standing::Free => Ok(()),
        Standing::Used => Err(Refusal::CryptogramReplayed),
        Standing::OutOfRange => Err(Refusal::CounterOutOfRange),
    }
}

/// DE 4 against 9F02, DE 49 against 5F2A. `tolerance` is by how many minor units DE 4 may be more.
pub(super) fn check_amount(
    amount: Amount,
    chip: &ChipPayment,
    controls: &DomainControls,
    tolerance: u64,
) -> Result<VerdictResult, Refusal> {
    let same_currency = chip.currency_number() == Some(amount.currency().number());
    let within = |signed: u64| amount.minor() <= signed.saturating_add(tolerance);
    match same_currency && chip.minor_amount().is_some_and(within) {
        true => Ok(VerdictResult::Good),
        false if controls.chip_amount_binds => Err(Refusal::ChipAmountDiffers),
        false => Ok(VerdictResult::Bad),
    }
}

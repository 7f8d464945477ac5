//! Keys that leave: a token's card key for a device that keeps it, or limited-use keys for one that cannot, a few at a
//! time. Both leave wrapped for the device's own key only. What is decided, journaled and remembered here is which keys
//! were given for whom, never a key.

use std::time::Duration;

use crate::crypto::MessageKey;
use crate::stdx::clock::{Now, Wall};
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{
    AtcRange, Expiry, Refusal, Token, TokenReferenceId, TokenRequestorId, VerdictResult, YearMonth,
};

use super::command::{Asker, Told};
use super::error::ProvisioningRefusal;
use super::event::{CannotFollow, Cause, Change, TokenEvent};
use super::lifecycle::TokenStatus;
use super::moves::unexpired;
use super::record::VaultRecord;
use super::requestor::Thumbprint;
use super::tsp::{Decision, Tsp};

/// A device's public key: the two coordinates of a point of P-256, 32 bytes each.
pub type DevicePoint = [u8; 64];

/// Which keys are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The key of the token's card, for as long as the token lives: for a device with hardware that keeps it.
    Card,
    /// A key for the next few payments, for a device without.
    Limited,
}

/// Keys are wanted for a device.
#[derive(Debug, Clone, Copy)]
pub struct KeyRequest {
    pub asker: Asker,
    pub reference: TokenReferenceId,
    pub kind: KeyKind,
    /// For whom they are wrapped. A token's first device stays its only one.
    pub device: DevicePoint,
}

/// How limited-use keys are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitedKeyTerms {
    /// For how many payments one is.
    pub payments: u16,
    /// How long one is good.
    pub lifetime: Duration,
}

/// A key for some values of a phone's counter, and for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitedKey {
    pub range: AtcRange,
    /// From when on it is good no more.
    pub until: Wall,
}

/// Enough to derive a token's key again, with the issuer master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedKey {
    pub record: u64,
    /// Of the issuer master key that it comes from.
    pub index: u8,
    /// None: the card's own.
    pub limited: Option<LimitedKey>,
}

/// A key was given to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGiven {
    pub key: NamedKey,
    pub device: DevicePoint,
}

/// What a token's holder was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenKeys {
    pub device: DevicePoint,
    /// None: the card's own.
    pub limited: Option<LimitedKeys>,
}

/// The limited-use keys of a token that are good, and up to where any were.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitedKeys {
    /// The highest counter for which a key was ever given.
    pub last: u16,
    /// The oldest first.
    pub good: Vec<LimitedKey>,
}

/// What a requestor is told, all but the key: that is derived where it is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyView {
    pub reference: TokenReferenceId,
    pub token: Token,
    pub expiry: Expiry,
    pub key: NamedKey,
    pub device: DevicePoint,
}

impl LimitedKeys {
    /// The most that are good at once: with another one the oldest is taken back.
    pub const GOOD_MOST: usize = 4;
    /// At FFFF a counter stops for good (EMV Book 3, 6.5.5).
    const ATC_MOST: u16 = u16::MAX - 1;

    /// The key after all that were given; none when the counter is used up.
    fn next(&self, terms: LimitedKeyTerms, now: Wall) -> Option<LimitedKey> {
        let first = self.last.checked_add(1)?;
        let last = self.last.checked_add(terms.payments).filter(|last| *last <= Self::ATC_MOST)?;
        Some(LimitedKey { range: AtcRange { first, last }, until: now.plus(terms.lifetime) })
    }

    fn add(&mut self, key: LimitedKey) -> Result<(), CannotFollow> {
        if self.last.checked_add(1) != Some(key.range.first) || key.range.last < key.range.first {
            return Err("a limited-use key is missing before it");
        }
        if self.good.len() >= Self::GOOD_MOST {
            self.good.remove(0);
        }
        self.good.push(key);
        self.last = key.range.last;
        Ok(())
    }

    /// The key for a counter, if it was not taken back.
    pub(super) fn key_of(&self, atc: u16) -> Option<LimitedKey> {
        self.good.iter().copied().find(|key| key.range.contains(atc))
    }

    /// What the key of a payment with this counter is worth; `binding`: whether a bad one refuses.
    pub(super) fn check(&self, atc: u16, now: Wall, binding: bool) -> Result<VerdictResult, Refusal> {
        match self.key_of(atc) {
            None if atc > self.last => Err(Refusal::LimitedKeyUnknown),
            None => Err(Refusal::LimitedKeyRevoked),
            Some(key) if now < key.until => Ok(VerdictResult::Good),
            Some(_) if binding => Err(Refusal::LimitedKeyExpired),
            Some(_) => Ok(VerdictResult::Late),
        }
    }
}

impl GivenKeys {
    /// A token that is not active has no limited-use key that is good, now or later.
    pub(super) fn revoke(&mut self) {
        if let Some(limited) = self.limited.as_mut()
            && !sabotaged("limited-keys-outlive-suspension")
        {
            limited.good.clear();
        }
    }
}

impl KeyGiven {
    /// Keys of one kind for one device, and limited ones in order.
    pub(super) fn alter(&self, record: &mut VaultRecord) -> Result<(), CannotFollow> {
        let limited = self.key.limited;
        let new = || GivenKeys { device: self.device, limited: limited.map(|_| LimitedKeys::default()) };
        let mut given = record.keys.take().unwrap_or_else(|| Box::new(new()));
        if given.device != self.device {
            return Err("its keys are another device's");
        }
        match (given.limited.as_mut(), limited) {
            (None, None) => {}
            (Some(limited), Some(key)) => limited.add(key)?,
            (None, Some(_)) | (Some(_), None) => return Err("its keys are of the other kind"),
        }
        record.keys = Some(given);
        Ok(())
    }
}

impl KeyRequest {
    /// A device by the coordinates of its public key, as a JWK has them (RFC 7518, 6.2.1), and the key's thumbprint
    /// (RFC 7638). None where they are no point of P-256.
    #[must_use]
    pub fn device_of(x: &str, y: &str) -> Option<(DevicePoint, String)> {
        let key = MessageKey::from_coordinates(x, y)?;
        Some((key.point(), key.id().to_owned()))
    }

    pub(super) fn cause(&self) -> Cause {
        let kind = match self.kind {
            KeyKind::Card => 1,
            KeyKind::Limited => 2,
        };
        let mut said = vec![10, kind];
        said.extend_from_slice(&self.reference.to_bytes());
        said.extend_from_slice(&self.device);
        self.asker.cause(&said)
    }
}

impl Tsp {
    /// Which keys are given, if any. The card's own already to a token that only waits for its requestor's word that it
    /// arrived, since that comes after; never to one whose cardholder has not proven itself, or whose card is lost. A
    /// repeat hears the same as long as a new request would get a key.
    pub(super) fn decide_keys(
        &self,
        request: &KeyRequest,
        now: Now,
    ) -> Result<Decision, ProvisioningRefusal> {
        let (cause, today) = (request.cause(), YearMonth::of(now.wall));
        let before = self.repeated(&cause, today)?;
        let found = self.to_be_changed(cause.principal, request.reference, None)?;
        unexpired(&found, today)?;
        let arriving = found.lifecycle.status == TokenStatus::Inactive
            && request.kind == KeyKind::Card
            && self.step_up_ahead(found.record).is_none();
        if found.lifecycle.status != TokenStatus::Active && !arriving {
            return Err(ProvisioningRefusal::StatusDoesNotAllow);
        }
        if arriving && self.standing(&found.blind_index).is_some() {
            return Err(ProvisioningRefusal::CardBlocked);
        }
        self.requestors.get(found.requestor).ok_or(ProvisioningRefusal::UnknownRequestor)?;
        let (range, keys) =
            self.keys.range(found.token.as_bytes()).ok_or(ProvisioningRefusal::Unavailable)?;
        // Where the issuer checks, the keys are its own, too.
        let keys = keys.as_ref().filter(|_| !range.checked_by_issuer);
        let index = keys.and_then(|keys| keys.newest());
        let index = index.ok_or(ProvisioningRefusal::NoKeysToGive)?;
        self.check_wrapping(found.requestor, &request.device)?;
        if let Some(decided) = before {
            return Ok(decided);
        }
        if found.keys.as_ref().is_some_and(|given| given.device != request.device) {
            return Err(ProvisioningRefusal::DeviceDiffers);
        }
        let none = LimitedKeys::default();
        let limited = match (request.kind, found.keys.as_ref().map(|given| given.limited.as_ref())) {
            (KeyKind::Card, None | Some(None)) => None,
            (KeyKind::Limited, None) => Some(&none),
            (KeyKind::Limited, Some(Some(limited))) => Some(limited),
            (KeyKind::Card, Some(Some(_))) | (KeyKind::Limited, Some(None)) => {
                return Err(ProvisioningRefusal::OtherKeysGiven);
            }
        };
        let next = |limited: &LimitedKeys| limited.next(self.config.limited_keys, now.wall);
        let limited = limited.map(|limited| next(limited).ok_or(ProvisioningRefusal::LimitedKeysExhausted));
        let key = NamedKey { record: found.record, index, limited: limited.transpose()? };
        let given = KeyGiven { key, device: request.device };
        let cause = Cause { requestor: Some(found.requestor), ..cause };
        Ok(Decision::New(Box::new(TokenEvent { cause, change: Change::KeyGiven(Box::new(given)) })))
    }

    /// Where a requestor has registered keys, nothing leaves for another one: who only has its credential for the API
    /// opens nothing with a key of his own.
    fn check_wrapping(&self, of: TokenRequestorId, to: &DevicePoint) -> Result<(), ProvisioningRefusal> {
        let registered = self.requestors.registration(of).map(|found| found.requestor.wrapping_keys);
        let registered = registered.unwrap_or_default();
        let key = MessageKey::from_point(to);
        let is_it = |known: &Thumbprint| key.as_ref().is_some_and(|key| key.id() == known.as_str());
        let known = registered.is_empty() || registered.iter().any(is_it);
        known.then_some(()).ok_or(ProvisioningRefusal::KeyNotRegistered)
    }

    /// What is told of a key that was given, with its token's expiry of then, also when it is asked again.
    pub(super) fn told_key(
        &self,
        key: &NamedKey,
        expiry: Option<Expiry>,
    ) -> Result<Told, ProvisioningRefusal> {
        let record = self.table.record(key.record).ok_or(ProvisioningRefusal::Unavailable)?;
        let device = record.keys.as_ref().ok_or(ProvisioningRefusal::Unavailable)?.device;
        let (reference, token, expiry) = (record.reference, record.token, expiry.unwrap_or(record.expiry));
        Ok(Told::Key(Box::new(KeyView { reference, token, expiry, key: *key, device })))
    }
}

//! `Device`: the device of a wallet, as far as keys go: a key pair of its own, and what is wrapped for it.

use serde_json::Value;
use zeroize::Zeroizing;

use super::provisioner::ProvisioningFailure;
use crate::crypto::{CardKey, CryptogramProfile, MessageKey, MessageKeys};
use crate::stdx::clock::Wall;
use crate::vocab::{AtcRange, Expiry, IssuerData, Token};

/// A device's key pair.
#[derive(Debug)]
pub struct Device {
    keys: MessageKeys,
}

/// A key that came wrapped: with it the device pays.
#[derive(Debug)]
pub struct DeviceKey {
    pub token: Token,
    pub expiry: Expiry,
    pub key: CardKey,
    /// Which values of its counter it is for, and from when on it is good no more; none: the token's card key.
    pub limited: Option<(AtcRange, Wall)>,
}

impl Device {
    /// With this private key, a P-256 scalar; none for a number that is no key, as one in 2^32 is not.
    #[must_use]
    pub fn new(scalar: &[u8; 32]) -> Option<Self> {
        MessageKeys::of_device(scalar).map(|keys| Self { keys })
    }

    /// For which others wrap.
    #[must_use]
    pub fn public(&self) -> Option<&MessageKey> {
        self.keys.newest()
    }

    /// Opens a wrapped key.
    ///
    /// # Errors
    /// `Member` for what is not for this device, or holds no key.
    pub fn open(&self, wrapped: &str) -> Result<DeviceKey, ProvisioningFailure> {
        // A device's key is not replaced, so that no time is too late.
        let clear = self.keys.open(wrapped, Wall(0)).ok();
        clear.and_then(|clear| read(&clear)).ok_or(ProvisioningFailure::Member("wrappedKey"))
    }
}

impl DeviceKey {
    /// Whether it signs a payment with this counter at this time.
    #[must_use]
    pub fn signs(&self, atc: u16, now: Wall) -> bool {
        self.limited.is_none_or(|(range, until)| range.contains(atc) && now < until)
    }
}

fn read(clear: &[u8]) -> Option<DeviceKey> {
    let told: Value = serde_json::from_slice(clear).ok()?;
    let text = |name: &str| told.get(name).and_then(Value::as_str);
    let count = |name: &str| told.get(name).and_then(Value::as_u64);
    let profile = CryptogramProfile::named(text("profile")?)?;
    let issuer_data = IssuerData::parse(&hex::decode(text("issuerApplicationData")?).ok()?).ok()?;
    let mut key = Zeroizing::new([0; 16]);
    hex::decode_to_slice(text("key")?, key.as_mut()).ok()?;
    let limited = match (count("firstCounter"), count("lastCounter"), count("until")) {
        (None, None, None) => None,
        (first, last, until) => {
            let range = AtcRange { first: u16::try_from(first?).ok()?, last: u16::try_from(last?).ok()? };
            Some((range, Wall(until?.checked_mul(1_000)?)))
        }
    };
    Some(DeviceKey {
        token: Token::parse(text("token")?.as_bytes()).ok()?,
        expiry: Expiry::parse(text("tokenExpiry")?.as_bytes()).ok()?,
        key: CardKey::personalised(profile, issuer_data, &key),
        limited,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::random::Entropy;

    const CLEAR: &str = r#"{"version":1,"tokenReference":"00112233445566778899aabbccddeeff","token":"4895370000000005",
        "tokenExpiry":"2911","sequenceNumber":"00","profile":"visa-cvn-18","issuerApplicationData":"06011203a00000",
        "key":"000102030405060708090a0b0c0d0e0f","firstCounter":11,"lastCounter":20,"until":1795000000}"#;

    #[test]
    fn what_is_wrapped_for_a_device_is_its_own_to_open() {
        let [own, other] = [1, 2].map(|byte| Device::new(&[byte; 32]).unwrap());
        let wrapped = own.public().unwrap().wrap(CLEAR.as_bytes(), &mut Entropy::seeded(1)).unwrap();
        let key = own.open(&wrapped).unwrap();
        assert_eq!((key.token.as_str(), key.expiry), ("4895370000000005", Expiry::parse(b"2911").unwrap()));
        let until = Wall(1_795_000_000_000);
        assert_eq!(key.limited, Some((AtcRange { first: 11, last: 20 }, until)));
        let soon = Wall(until.0 - 1);
        assert!(key.signs(11, soon) && key.signs(20, soon));
        assert!(!key.signs(10, soon) && !key.signs(21, soon) && !key.signs(11, until));
        assert!(other.open(&wrapped).is_err());
        for broken in [CLEAR.replace("visa", "vista"), CLEAR.replace(r#","until":1795000000"#, "")] {
            let wrapped = own.public().unwrap().wrap(broken.as_bytes(), &mut Entropy::seeded(1)).unwrap();
            assert!(own.open(&wrapped).is_err(), "{broken}");
        }
        assert!(Device::new(&[0; 32]).is_none());
    }
}

//! `PhoneState`: what a phone remembers in its directory, from one run to the next.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::sim::Device;
use crate::stdx::random::Entropy;
use crate::vocab::{Expiry, Token, TokenReferenceId, TokenRequestorId};

/// The one file of a phone.
const STATE_FILE: &str = "phone.json";

/// A phone, with a token or about to have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PhoneState {
    /// Drawn when it was new: no two phones name their requests alike.
    pub(super) device: String,
    /// How many requests it has made.
    pub(super) requests: u64,
    /// How often it has tapped: the counter of its chip.
    pub(super) taps: u16,
    pub(super) held: Option<HeldToken>,
    /// Of its key pair.
    secret: DeviceSecret,
    /// Whether it pays with limited-use keys.
    pub(super) cloud: bool,
    /// The key that it pays with, as it came, which only its own key opens.
    pub(super) wrapped: Option<String>,
}

/// A private key. A phone in software keeps it as software can: in its file, for its owner alone.
#[derive(Clone, PartialEq, Eq)]
struct DeviceSecret(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for DeviceSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// What it pays with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeldToken {
    pub(super) reference: TokenReferenceId,
    pub(super) token: Token,
    pub(super) expiry: Expiry,
    pub(super) requestor: TokenRequestorId,
}

/// A phone and the directory that it lives in. What changes is written before anybody else hears of it.
pub(super) struct Phone {
    file: PathBuf,
    pub(super) state: PhoneState,
}

impl Phone {
    /// A new phone, or the one that was begun here and has no token yet.
    pub(super) fn set_up(directory: &Path, cloud: bool, entropy: &mut Entropy) -> Result<Self, Failure> {
        let file = directory.join(STATE_FILE);
        if file.exists() {
            let phone = Self::open(directory)?;
            return match phone.state.held {
                None => Ok(phone),
                Some(_) => Err(Failure::new(format!("{} has a token already", directory.display()))),
            };
        }
        let made = fs::create_dir_all(directory);
        made.map_err(|error| Failure::file(directory, "cannot be made", &error))?;
        let drawn = entropy.bytes::<8>().map_err(|error| Failure::new(error.to_string()))?;
        let secret = entropy.bytes::<32>().map_err(|error| Failure::new(error.to_string()))?;
        let state = PhoneState {
            device: hex::encode(drawn),
            requests: 0,
            taps: 0,
            held: None,
            secret: DeviceSecret(Zeroizing::new(secret)),
            cloud,
            wrapped: None,
        };
        let phone = Self { file, state };
        phone.keep()?;
        Ok(phone)
    }

    /// The phone in this directory.
    pub(super) fn open(directory: &Path) -> Result<Self, Failure> {
        let file = directory.join(STATE_FILE);
        let text =
            fs::read_to_string(&file).map_err(|error| Failure::file(&file, "cannot be read", &error))?;
        let state = serde_json::from_str(&text).ok().as_ref().and_then(PhoneState::from_json);
        let state = state.ok_or_else(|| Failure::new(format!("{}: not as written", file.display())))?;
        Ok(Self { file, state })
    }

    /// With its key pair.
    pub(super) fn device(&self) -> Result<Device, Failure> {
        Device::new(&self.state.secret.0).ok_or_else(|| Failure::new("the phone's key is none"))
    }

    /// The token that it holds.
    pub(super) fn held(&self) -> Result<HeldToken, Failure> {
        self.state
            .held
            .ok_or_else(|| Failure::new("the phone has no token; `tokenswitch wallet add` gets one"))
    }

    /// A name for one request that no other request has.
    pub(super) fn request_id(&mut self) -> Result<String, Failure> {
        self.state.requests += 1;
        self.keep()?;
        Ok(format!("phone-{}-{}", self.state.device, self.state.requests))
    }

    /// Another tap: how often it had tapped before.
    pub(super) fn tap(&mut self) -> Result<u16, Failure> {
        let before = self.state.taps;
        self.state.taps = before.checked_add(1).ok_or_else(|| Failure::new("this token taps no more"))?;
        self.keep()?;
        Ok(before)
    }

    pub(super) fn keep(&self) -> Result<(), Failure> {
        // A phone is never left half written.
        let next = self.file.with_extension("next");
        let written = write_privately(&next, &format!("{:#}\n", self.state.to_json()));
        let kept = written.and_then(|()| fs::rename(&next, &self.file));
        kept.map_err(|error| Failure::file(&self.file, "cannot be written", &error))
    }
}

/// Into a file that is its owner's alone.
fn write_privately(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    open.write_all(text.as_bytes())
}

impl PhoneState {
    fn to_json(&self) -> Value {
        let held = self.held.map(|held| {
            json!({
                "tokenReference": held.reference.to_string(),
                "token": held.token.as_str(),
                "tokenExpiry": String::from_utf8_lossy(&held.expiry.digits()),
                "tokenRequestorId": held.requestor.as_str(),
            })
        });
        json!({
            "device": self.device,
            "requests": self.requests,
            "taps": self.taps,
            "held": held,
            "secret": hex::encode(self.secret.0.as_slice()),
            "cloud": self.cloud,
            "wrapped": self.wrapped,
        })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let held = match json.get("held")? {
            Value::Null => None,
            held => {
                let text = |name: &str| held.get(name).and_then(Value::as_str);
                Some(HeldToken {
                    reference: TokenReferenceId::parse(text("tokenReference")?).ok()?,
                    token: Token::parse(text("token")?.as_bytes()).ok()?,
                    expiry: Expiry::parse(text("tokenExpiry")?.as_bytes()).ok()?,
                    requestor: TokenRequestorId::parse(text("tokenRequestorId")?.as_bytes()).ok()?,
                })
            }
        };
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(json.get("secret")?.as_str()?, secret.as_mut()).ok()?;
        Some(Self {
            secret: DeviceSecret(secret),
            cloud: json.get("cloud")?.as_bool()?,
            wrapped: json.get("wrapped")?.as_str().map(str::to_owned),
            device: json.get("device")?.as_str()?.to_owned(),
            requests: json.get("requests")?.as_u64()?,
            taps: json.get("taps")?.as_u64().and_then(|taps| u16::try_from(taps).ok())?,
            held,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_comes_back_as_it_was_and_counts_on() {
        let kept = tempfile::tempdir().unwrap();
        let directory = kept.path().join("phone");
        assert!(Phone::open(&directory).is_err());
        let mut phone = Phone::set_up(&directory, true, &mut Entropy::seeded(1)).unwrap();
        assert!(phone.held().is_err());
        let first = phone.request_id().unwrap();
        let mut again = Phone::set_up(&directory, true, &mut Entropy::seeded(2)).unwrap();
        assert_eq!(again.state, phone.state, "begun, and not yet given a token");
        assert_ne!(again.request_id().unwrap(), first);
        again.state.held = Some(HeldToken {
            reference: TokenReferenceId::from_bytes([1; 16]),
            token: Token::parse(b"4895370000000005").unwrap(),
            expiry: Expiry::parse(b"2911").unwrap(),
            requestor: TokenRequestorId::parse(b"00000000001").unwrap(),
        });
        assert_eq!((again.tap().unwrap(), again.tap().unwrap()), (0, 1));
        let (own, kept_key) = (phone.device().unwrap(), again.device().unwrap());
        assert_eq!(own.public(), kept_key.public());
        assert!(!format!("{:?}", again.state).contains(&hex::encode(again.state.secret.0.as_slice())));
        again.state.wrapped = Some("a.b.c.d.e".to_owned());
        again.keep().unwrap();
        assert_eq!(Phone::open(&directory).unwrap().state, again.state);
        assert!(
            Phone::set_up(&directory, true, &mut Entropy::seeded(3)).is_err(),
            "a token is never lost to another"
        );
        fs::write(directory.join(STATE_FILE), "{}").unwrap();
        assert!(Phone::open(&directory).is_err());
    }
}

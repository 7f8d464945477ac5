//! Encrypted messages: what is wrapped for one receiver's public key, and opened with ours. JWE in its compact form
//! (RFC 7516) with ECDH-ES in direct agreement on P-256 (RFC 7518, 4.6) and A256GCM, and nothing else: no RSA, whose
//! padding has been an oracle too often.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use p256::{PublicKey, SecretKey};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::aead::TAG_LENGTH;
use super::error::CryptoError;
use super::key::Key;
use super::key_store::KeyMade;
use crate::stdx::clock::Wall;
use crate::stdx::random::Entropy;

/// More is no message of ours: personalisation data takes about a kilobyte.
const CLEAR_MOST: usize = 4096;
/// Of the protected header, in base64url: a header with long party names takes about 600 characters.
const HEADER_MOST: usize = 2048;

const COORDINATE: usize = 32;
const ALGORITHM: &str = "ECDH-ES";
const ENCRYPTION: &str = "A256GCM";

/// Why a message was not opened. All but the last can be told from what everybody sees of it; whatever depends on a
/// secret has one and the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    #[error("is no JWE in compact form")]
    Form,
    #[error("has a protected header that cannot be read")]
    Header,
    #[error("must be encrypted by ECDH-ES on P-256 and A256GCM")]
    Algorithm,
    #[error("names a key that is not, or is no longer, in use")]
    UnknownKey,
    #[error("cannot be opened")]
    NotOpened,
}

/// A receiver's public key, by which messages are wrapped for it alone.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageKey {
    point: PublicKey,
    x: String,
    y: String,
    id: String,
}

impl MessageKey {
    /// Takes the coordinates of a point of P-256 as a JWK has them: 32 bytes each, in base64url without padding.
    #[must_use]
    pub fn from_coordinates(x: &str, y: &str) -> Option<Self> {
        let coordinate =
            |text: &str| -> Option<[u8; COORDINATE]> { BASE64.decode(text).ok()?.try_into().ok() };
        let sec1 = [[4].as_slice(), &coordinate(x)?, &coordinate(y)?].concat();
        // Refuses what is no point of the curve.
        let point = PublicKey::from_sec1_bytes(&sec1).ok()?;
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = BASE64.encode(digest::digest(&digest::SHA256, members.as_bytes()));
        Some(Self { point, x: x.to_owned(), y: y.to_owned(), id })
    }

    /// The point's two coordinates, 32 bytes each.
    #[must_use]
    pub fn point(&self) -> [u8; 2 * COORDINATE] {
        let sec1 = self.point.to_sec1_bytes();
        let mut coordinates = [0; 2 * COORDINATE];
        coordinates.iter_mut().zip(sec1.iter().skip(1)).for_each(|(place, byte)| *place = *byte);
        coordinates
    }

    /// The key with these coordinates, as `point` gives them; none where that is no point of the curve.
    #[must_use]
    pub fn from_point(coordinates: &[u8; 2 * COORDINATE]) -> Option<Self> {
        let (x, y) = coordinates.split_at(COORDINATE);
        Self::from_coordinates(&BASE64.encode(x), &BASE64.encode(y))
    }

    fn of(point: &PublicKey) -> Option<Self> {
        let sec1 = point.to_sec1_bytes();
        let (_, coordinates) = sec1.split_first()?;
        let (x, y) = coordinates.split_at_checked(COORDINATE)?;
        Self::from_coordinates(&BASE64.encode(x), &BASE64.encode(y))
    }

    /// Its `kid`: the thumbprint of RFC 7638.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The first coordinate, in base64url.
    #[must_use]
    pub fn x(&self) -> &str {
        &self.x
    }

    /// The second coordinate, in base64url.
    #[must_use]
    pub fn y(&self) -> &str {
        &self.y
    }

    /// Wraps a message for the key's owner: a JWE in compact form, under a key that is drawn for it alone.
    ///
    /// # Errors
    /// `TooLong` for more than 4096 bytes, `NoEntropy`.
    pub fn wrap(&self, clear: &[u8], entropy: &mut Entropy) -> Result<String, CryptoError> {
        let too_long = CryptoError::TooLong { length: clear.len() };
        if clear.len() > CLEAR_MOST {
            return Err(too_long);
        }
        let (once, own) = pair(entropy)?;
        let (id, x, y) = (&self.id, &own.x, &own.y);
        let header = format!(
            r#"{{"alg":"{ALGORITHM}","enc":"{ENCRYPTION}","kid":"{id}","epk":{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}}}"#
        );
        let head = BASE64.encode(header);
        let key = content_key(&agree(&once, &self.point, &[], &[]))?;
        let nonce: [u8; NONCE_LEN] = entropy.bytes()?;
        // The buffer has room for the tag, so that growing leaves no copy of the clear text behind.
        let mut sealed = Zeroizing::new(Vec::with_capacity(clear.len() + TAG_LENGTH));
        sealed.extend_from_slice(clear);
        let (unique, bound) = (Nonce::assume_unique_for_key(nonce), Aad::from(head.as_bytes()));
        key.seal_in_place_append_tag(unique, bound, &mut *sealed).map_err(|_| too_long)?;
        let (text, tag) = sealed.split_at_checked(clear.len()).ok_or(too_long)?;
        let [nonce, text, tag] = [nonce.as_slice(), text, tag].map(|part| BASE64.encode(part));
        Ok(format!("{head}..{nonce}.{text}.{tag}"))
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageKey({})", self.id)
    }
}

/// A fresh private key, and its public half.
fn pair(entropy: &mut Entropy) -> Result<(SecretKey, MessageKey), CryptoError> {
    loop {
        let scalar = Zeroizing::new(entropy.bytes::<COORDINATE>()?);
        let made = SecretKey::from_slice(scalar.as_slice()).ok();
        let made = made.and_then(|secret| MessageKey::of(&secret.public_key()).map(|own| (secret, own)));
        // All but one in 2^32 numbers are keys.
        if let Some(made) = made {
            return Ok(made);
        }
    }
}

/// Whether the bytes are a private key.
pub(super) fn is_private_key(bytes: &[u8]) -> bool {
    SecretKey::from_slice(bytes).is_ok()
}

/// The key that both ends come to (RFC 7518, 4.6.2), of 256 bits for A256GCM.
fn agree(secret: &SecretKey, point: &PublicKey, from: &[u8], to: &[u8]) -> Zeroizing<[u8; 32]> {
    let shared = secret.diffie_hellman(point);
    derive(shared.raw_secret_bytes(), ENCRYPTION, 256, from, to)
}

/// The Concat KDF (NIST SP 800-56A, 5.8.1) in one round of SHA-256; `bits` is told to it, and at most 256.
fn derive(shared: &[u8], algorithm: &str, bits: u32, from: &[u8], to: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&1_u32.to_be_bytes());
    context.update(shared);
    for part in [algorithm.as_bytes(), from, to] {
        // The parts come out of a header of bounded length.
        context.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        context.update(part);
    }
    context.update(&bits.to_be_bytes());
    let mut key = Zeroizing::new([0; 32]);
    key.iter_mut().zip(context.finish().as_ref()).for_each(|(place, byte)| *place = *byte);
    key
}

fn content_key(key: &[u8; 32]) -> Result<LessSafeKey, CryptoError> {
    let unbound = UnboundKey::new(&AES_256_GCM, key);
    unbound.map(LessSafeKey::new).map_err(|_| CryptoError::NotAuthentic)
}

/// Our own keys, each version with its public half: messages that were wrapped for one of them are opened.
#[derive(Clone)]
pub struct MessageKeys {
    /// The newest last.
    pairs: Arc<[Pair]>,
    /// For how many milliseconds a key is good after another one took its place.
    overlap: u64,
}

struct Pair {
    secret: SecretKey,
    public: MessageKey,
    /// When the next version was made.
    replaced: Option<Wall>,
}

impl MessageKeys {
    /// # Errors
    /// `NoPrivateKey` for a key that is none of P-256.
    pub(super) fn new<'a>(
        keys: impl Iterator<Item = &'a Key>,
        made: &[KeyMade],
    ) -> Result<Self, CryptoError> {
        let mut keys: Vec<&Key> = keys.collect();
        keys.sort_by_key(|key| key.description().version);
        let pair = |key: &&Key| {
            let about = key.description();
            let wrong = CryptoError::NoPrivateKey { label: about.label, version: about.version };
            let next =
                |it: &&KeyMade| it.label == about.label && Some(it.version) == about.version.checked_add(1);
            let secret = SecretKey::from_slice(key.material()).map_err(|_| wrong)?;
            let public = MessageKey::of(&secret.public_key()).ok_or(wrong)?;
            Ok(Pair { secret, public, replaced: made.iter().find(next).map(|it| it.at) })
        };
        let pairs = keys.iter().map(pair).collect::<Result<Vec<Pair>, CryptoError>>()?;
        Ok(Self { pairs: pairs.into(), overlap: 0 })
    }

    /// A device's own key: a P-256 scalar, 32 bytes, big end first. None for a number that is none.
    #[must_use]
    pub fn of_device(scalar: &[u8; COORDINATE]) -> Option<Self> {
        let secret = SecretKey::from_slice(scalar).ok()?;
        let public = MessageKey::of(&secret.public_key())?;
        Some(Self { pairs: [Pair { secret, public, replaced: None }].into(), overlap: 0 })
    }

    /// The same keys, of which an older one is good for so long after its successor was made.
    #[must_use]
    pub fn overlapping(self, overlap: std::time::Duration) -> Self {
        Self { overlap: u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX), ..self }
    }

    /// The key by which messages for us are wrapped from now on; none where the key store has none.
    #[must_use]
    pub fn newest(&self) -> Option<&MessageKey> {
        self.pairs.last().map(|pair| &pair.public)
    }

    /// Opens a message in compact form.
    ///
    /// # Errors
    /// Every `MessageFault`.
    pub fn open(&self, message: &str, now: Wall) -> Result<Zeroizing<Vec<u8>>, MessageFault> {
        let mut parts = message.split('.');
        let mut part = || parts.next().ok_or(MessageFault::Form);
        let (head, wrapped, nonce, text, tag) = (part()?, part()?, part()?, part()?, part()?);
        // Two direct parties agree on the content's key itself: none is wrapped.
        let fits = wrapped.is_empty() && head.len() <= HEADER_MOST && text.len() <= CLEAR_MOST / 3 * 4 + 4;
        if !fits || parts.next().is_some() {
            return Err(MessageFault::Form);
        }
        let bytes = |text: &str| BASE64.decode(text).map_err(|_| MessageFault::Form);
        let nonce: [u8; NONCE_LEN] = bytes(nonce)?.try_into().map_err(|_| MessageFault::Form)?;
        let tag: [u8; TAG_LENGTH] = bytes(tag)?.try_into().map_err(|_| MessageFault::Form)?;
        let mut sealed = Zeroizing::new(bytes(text)?);
        sealed.extend_from_slice(&tag);
        let header = Header::read(&bytes(head)?)?;
        let pair = self.named(&header.kid, now).ok_or(MessageFault::UnknownKey)?;
        let Header { epk, apu, apv, .. } = header;
        let sender = MessageKey::from_coordinates(&epk.x, &epk.y).ok_or(MessageFault::NotOpened)?;
        let key = content_key(&agree(&pair.secret, &sender.point, &apu, &apv));
        let key = key.map_err(|_| MessageFault::NotOpened)?;
        let (nonce, bound) = (Nonce::assume_unique_for_key(nonce), Aad::from(head.as_bytes()));
        let clear = key.open_in_place(nonce, bound, &mut sealed).map_err(|_| MessageFault::NotOpened)?;
        let length = clear.len();
        sealed.truncate(length);
        Ok(sealed)
    }

    fn named(&self, id: &str, now: Wall) -> Option<&Pair> {
        let good = |pair: &&Pair| {
            pair.replaced.is_none_or(|replaced| now.0 < replaced.0.saturating_add(self.overlap))
        };
        self.pairs.iter().find(|pair| pair.public.id == id).filter(good)
    }
}

impl fmt::Debug for MessageKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|pair| &pair.public)).finish()
    }
}

/// What of a protected header counts here. Members that are not known are passed over, as RFC 7516 4 demands, but
/// `crit` names some that must not be, and `zip` would have the length of a text tell of what is in it.
#[derive(Deserialize)]
struct Written<'a> {
    alg: &'a str,
    enc: &'a str,
    kid: String,
    epk: Epk,
    apu: Option<String>,
    apv: Option<String>,
    #[serde(default)]
    crit: Refused,
    #[serde(default)]
    zip: Refused,
}

/// The sender's key, made for this message alone.
#[derive(Deserialize)]
struct Epk {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

/// A member that must not be there.
#[derive(Default)]
struct Refused(bool);

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(from).map(|_| Self(true))
    }
}

struct Header {
    kid: String,
    epk: Epk,
    apu: Vec<u8>,
    apv: Vec<u8>,
}

impl Header {
    fn read(json: &[u8]) -> Result<Self, MessageFault> {
        // A member that stands there twice is refused, too (RFC 7516, 4).
        let written: Written<'_> = serde_json::from_slice(json).map_err(|_| MessageFault::Header)?;
        if written.crit.0 || written.zip.0 {
            return Err(MessageFault::Header);
        }
        let Written { alg, enc, kid, epk, apu, apv, .. } = written;
        if (alg, enc, epk.kty.as_str(), epk.crv.as_str()) != (ALGORITHM, ENCRYPTION, "EC", "P-256") {
            return Err(MessageFault::Algorithm);
        }
        let party = |name: Option<String>| {
            name.map_or(Ok(Vec::new()), |name| BASE64.decode(name).map_err(|_| MessageFault::Header))
        };
        Ok(Self { kid, epk, apu: party(apu)?, apv: party(apv)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{KeyLabel, KeyUsage};
    use crate::stdx::secret::Secret;
    use crate::vocab::Text;

    fn keys(versions: u16) -> MessageKeys {
        let label = KeyLabel::parse("messages").unwrap();
        let made =
            |version| KeyMade { label, version, at: Wall(u64::from(version) * 1_000), by: Text::default() };
        let key = |version: u16| {
            let material = Secret::new(vec![u8::try_from(version).unwrap(); 32]);
            Key::new(label, KeyUsage::MessageEncryption, version, material).unwrap()
        };
        let keys: Vec<Key> = (1..=versions).map(key).collect();
        let made: Vec<KeyMade> = (2..=versions).map(made).collect();
        MessageKeys::new(keys.iter(), &made).unwrap().overlapping(std::time::Duration::from_millis(500))
    }

    #[test]
    fn keys_are_agreed_on_as_rfc_7518_shows() {
        let alice = BASE64.decode("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo").unwrap();
        let bob = BASE64.decode("VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw").unwrap();
        let [alice, bob] = [alice, bob].map(|scalar| SecretKey::from_slice(&scalar).unwrap());
        let public = MessageKey::of(&bob.public_key()).unwrap();
        assert_eq!(public.x(), "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ");
        assert_eq!(public.y(), "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck");
        for shared in [alice.diffie_hellman(&bob.public_key()), bob.diffie_hellman(&alice.public_key())] {
            let key = derive(shared.raw_secret_bytes(), "A128GCM", 128, b"Alice", b"Bob");
            assert_eq!(BASE64.encode(&key[..16]), "VqqN6vgjbSBcIijNcacQGg");
        }
    }

    #[test]
    fn what_is_wrapped_for_a_key_is_opened_by_it_alone() {
        let (keys, mut entropy) = (keys(1), Entropy::seeded(1));
        let key = keys.newest().unwrap();
        assert_eq!(MessageKey::from_coordinates(key.x(), key.y()).as_ref(), Some(key));
        for clear in [b"".as_slice(), b"4761730000000011", &[7; CLEAR_MOST]] {
            let message = key.wrap(clear, &mut entropy).unwrap();
            assert_eq!(keys.open(&message, Wall(0)).unwrap().as_slice(), clear);
            assert_ne!(message, key.wrap(clear, &mut entropy).unwrap(), "each under a key of its own");
        }
        assert!(key.wrap(&[0; CLEAR_MOST + 1], &mut entropy).is_err());
        let (_, other) = pair(&mut entropy).unwrap();
        let theirs = other.wrap(b"x", &mut entropy).unwrap();
        assert_eq!(keys.open(&theirs, Wall(0)), Err(MessageFault::UnknownKey));
    }

    #[test]
    fn an_older_key_is_good_for_a_while() {
        let (before, after, mut entropy) = (keys(1), keys(2), Entropy::seeded(2));
        let message = before.newest().unwrap().wrap(b"x", &mut entropy).unwrap();
        assert_ne!(before.newest(), after.newest());
        assert!(after.open(&message, Wall(2_499)).is_ok());
        assert_eq!(after.open(&message, Wall(2_500)), Err(MessageFault::UnknownKey));
        let message = after.newest().unwrap().wrap(b"x", &mut entropy).unwrap();
        assert!(after.open(&message, Wall(u64::MAX)).is_ok(), "the newest is good for ever");
    }

    #[test]
    fn a_changed_message_does_not_open_and_every_secret_fault_is_the_same() {
        let (keys, mut entropy) = (keys(1), Entropy::seeded(3));
        let message = keys.newest().unwrap().wrap(b"4761730000000011", &mut entropy).unwrap();
        for at in 0..message.len() {
            let mut bytes = message.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(keys.open(&String::from_utf8(bytes).unwrap(), Wall(0)).is_err(), "at {at}");
            assert!(keys.open(&message[..at], Wall(0)).is_err(), "cut at {at}");
        }
        let parts: Vec<&str> = message.split('.').collect();
        let flipped = |part: usize| {
            let mut bytes = BASE64.decode(parts[part]).unwrap();
            bytes[0] ^= 1;
            let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            parts[part] = BASE64.encode(bytes);
            keys.open(&parts.join("."), Wall(0))
        };
        for part in [2, 3, 4] {
            assert_eq!(flipped(part), Err(MessageFault::NotOpened), "{part}");
        }
    }

    #[test]
    fn headers_are_strict() {
        let (keys, mut entropy) = (keys(1), Entropy::seeded(4));
        let message = keys.newest().unwrap().wrap(b"x", &mut entropy).unwrap();
        let (head, rest) = message.split_once('.').unwrap();
        let header = String::from_utf8(BASE64.decode(head).unwrap()).unwrap();
        let y = header.rsplit('"').nth(1).unwrap();
        for (from, to, fault) in [
            ("ECDH-ES", "ECDH-ES+A256KW", MessageFault::Algorithm),
            ("ECDH-ES", "RSA-OAEP", MessageFault::Algorithm),
            ("ECDH-ES", "dir", MessageFault::Algorithm),
            ("A256GCM", "A128GCM", MessageFault::Algorithm),
            ("P-256", "P-384", MessageFault::Algorithm),
            (r#""kid":""#, r#""kid":"A"#, MessageFault::UnknownKey),
            (r#""alg""#, r#""zip":"DEF","alg""#, MessageFault::Header),
            (r#""alg""#, r#""crit":["exp"],"alg""#, MessageFault::Header),
            (r#""alg""#, r#""alg":"ECDH-ES","alg""#, MessageFault::Header),
            (r#""alg""#, r#""apu":"=","alg""#, MessageFault::Header),
            (r#""enc":"A256GCM","#, "", MessageFault::Header),
            ("{", "[", MessageFault::Header),
            // Passed over, and yet under the seal.
            (r#""alg""#, r#""iat":1,"alg""#, MessageFault::NotOpened),
            (r#""alg""#, r#""apu":"QQ","alg""#, MessageFault::NotOpened),
            // No point of the curve.
            (y, "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck", MessageFault::NotOpened),
        ] {
            let changed = header.replacen(from, to, 1);
            assert_ne!(changed, header);
            let message = format!("{}.{rest}", BASE64.encode(changed));
            assert_eq!(keys.open(&message, Wall(0)), Err(fault), "{to}");
        }
        for bad in ["", ".", "....", &format!("{message}."), &message.replacen("..", ".QQ.", 1)] {
            assert_eq!(keys.open(bad, Wall(0)).map(|_| ()), Err(MessageFault::Form), "{bad}");
        }
    }
}

//! `WrappedKey`: the message in which a token's key leaves. It is derived, written and wrapped here in one go, and
//! stands in clear nowhere else.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use crate::crypto::{CardKey, CryptoError, MessageKey};
use crate::stdx::random::Entropy;
use crate::vocab::TokenReferenceId;

use super::given_keys::{KeyView, LimitedKey};
use super::verify::TokenKeys;

/// Room for the longest message, so that none is copied as it grows.
const MESSAGE_MOST: usize = 640;

/// A key in a message that only its device can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    pub reference: TokenReferenceId,
    /// A JWE in compact form (RFC 7516); in it a JSON object as `docs/TSP.md` describes it.
    pub message: String,
    /// None: it is the card's own.
    pub limited: Option<LimitedKey>,
}

impl TokenKeys {
    /// The key that a view names, wrapped for its device.
    ///
    /// # Errors
    /// `NotAuthentic` for a key or a device that is not, or no longer, there; `NoEntropy`.
    pub(super) fn wrapped(&self, view: &KeyView, entropy: &mut Entropy) -> Result<WrappedKey, CryptoError> {
        let limited = view.key.limited;
        let key = self.key_of(view).ok_or(CryptoError::NotAuthentic)?;
        let device = MessageKey::from_point(&view.device).ok_or(CryptoError::NotAuthentic)?;
        let message = device.wrap(clear(view, &key).as_bytes(), entropy)?;
        Ok(WrappedKey { reference: view.reference, message, limited })
    }

    fn key_of(&self, view: &KeyView) -> Option<CardKey> {
        let (_, keys) = self.range(view.token.as_bytes())?;
        let own = keys.as_ref()?.card_key_of(view.key.index, view.token.as_bytes(), Self::SEQUENCE)?;
        Some(match view.key.limited {
            None => own,
            Some(limited) => own.limited(limited.range),
        })
    }
}

/// All that a device signs with. Written by hand: nothing in it needs an escape, and no library keeps a copy.
fn clear(view: &KeyView, key: &CardKey) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(MESSAGE_MOST));
    let [a, b, c, d] = view.expiry.digits().map(char::from);
    // Writing to a `String` cannot fail.
    let _ = write!(
        out,
        r#"{{"version":1,"tokenReference":"{}","token":"{}","tokenExpiry":"{a}{b}{c}{d}","sequenceNumber":"{:02}","profile":"{}","issuerApplicationData":""#,
        view.reference,
        view.token.as_str(),
        TokenKeys::SEQUENCE.get(),
        key.profile().name(),
    );
    hex_digits(&mut out, key.issuer_data().as_bytes());
    out.push_str(r#"","key":""#);
    hex_digits(&mut out, key.expose_key());
    out.push('"');
    if let Some(LimitedKey { range, until }) = view.key.limited {
        let (first, last, seconds) = (range.first, range.last, until.seconds());
        let _ = write!(out, r#","firstCounter":{first},"lastCounter":{last},"until":{seconds}"#);
    }
    out.push('}');
    out
}

fn hex_digits(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

//! `KeyEvent`: a version of a key that the daemon began to use, as the journal remembers it. Who had it made and when
//! comes from the key store, under its seal.

use crate::crypto::{KeyCheckValue, KeyDescription, KeyLabel, KeyUsage};
use crate::stdx::clock::Wall;
use crate::vocab::Text;

/// The first byte among those of `Body::Operator`; decisions about stored messages begin with another.
const KIND: u8 = b'K';
/// The layout that this program writes. Numbers are little-endian; a text has its length in front, in one byte.
const VERSION: u8 = 1;

/// A key version that was not in use before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEvent {
    pub key: KeyDescription,
    /// Who had it made, and when; none for the keys that a store begins with.
    pub made: Option<(Text<32>, Wall)>,
}

impl KeyEvent {
    /// As `Body::Operator` has it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let KeyDescription { label, usage, version, check } = &self.key;
        let mut out = vec![KIND, VERSION];
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&check.bytes());
        let (by, at) = self.made.unwrap_or_default();
        out.push(u8::from(self.made.is_some()));
        out.extend_from_slice(&at.0.to_le_bytes());
        for text in [label.as_str(), usage.name(), by.as_str()] {
            out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    /// Reads what `encode` wrote; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[kind, layout], rest) = bytes.split_first_chunk()?;
        if (kind, layout) != (KIND, VERSION) {
            return None;
        }
        let (version, rest) = rest.split_first_chunk()?;
        let (check, rest) = rest.split_first_chunk()?;
        let (made, rest) = rest.split_first()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (label, rest) = text(rest)?;
        let (usage, rest) = text(rest)?;
        let (by, rest) = text(rest)?;
        let by = Text::parse("who", by.as_bytes()).ok()?;
        let key = KeyDescription {
            label: KeyLabel::parse(label).ok()?,
            usage: KeyUsage::from_name(usage)?,
            version: u16::from_le_bytes(*version),
            check: KeyCheckValue::from_bytes(*check),
        };
        let made = (*made == 1).then_some((by, Wall(u64::from_le_bytes(*at))));
        rest.is_empty().then_some(Self { key, made })
    }
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_and_nothing_else_does() {
        let key = KeyDescription {
            label: KeyLabel::parse("token-master").unwrap(),
            usage: KeyUsage::from_name("token-cryptogram-aes").unwrap(),
            version: 2,
            check: KeyCheckValue::from_bytes([1, 2, 3]),
        };
        let by = Text::parse("who", b"alice").unwrap();
        for made in [None, Some((by, Wall(1_700_000_000_000)))] {
            let event = KeyEvent { key, made };
            let bytes = event.encode();
            assert_eq!(KeyEvent::decode(&bytes), Some(event));
            assert_eq!(KeyEvent::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(KeyEvent::decode(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(KeyEvent::decode(&[&[1][..], &bytes[1..]].concat()), None, "a decision's first byte");
        }
    }
}

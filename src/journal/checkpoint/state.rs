//! `State`: where a checkpoint stands, and what each of its parts must come to.

use std::collections::BTreeMap;

use crate::journal::entry::EntryNumber;

/// With version 3 the switch's part came, with version 4 the history's records of many transactions, with version 5
/// packed parts.
const STATE_VERSION: u8 = 5;

/// How many records a part has, and the sum of their seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) digest: u128,
}

impl Summary {
    pub(super) fn add(&mut self, seal: u128) {
        self.count = self.count.wrapping_add(1);
        self.digest = self.digest.wrapping_add(seal);
    }

    pub(super) fn remove(&mut self, seal: u128) {
        self.count = self.count.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(seal);
    }

    pub(super) fn join(&mut self, other: Self) {
        self.count = self.count.wrapping_add(other.count);
        self.digest = self.digest.wrapping_add(other.digest);
    }
}

/// Where the whole stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) number: EntryNumber,
    pub(super) parts: BTreeMap<Vec<u8>, Summary>,
}

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![STATE_VERSION];
        out.extend_from_slice(&self.number.0.to_le_bytes());
        for (part, summary) in &self.parts {
            out.push(u8::try_from(part.len()).unwrap_or_default());
            out.extend_from_slice(part);
            out.extend_from_slice(&summary.count.to_le_bytes());
            out.extend_from_slice(&summary.digest.to_le_bytes());
        }
        out
    }

    /// None for what is of another version, or cannot be read.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[STATE_VERSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (number, mut rest) = rest.split_first_chunk()?;
        let mut parts = BTreeMap::new();
        while let Some((length, tail)) = rest.split_first() {
            let (part, tail) = tail.split_at_checked(usize::from(*length))?;
            let (count, tail) = tail.split_first_chunk()?;
            let (digest, tail) = tail.split_first_chunk()?;
            let summary = Summary { count: u64::from_le_bytes(*count), digest: u128::from_le_bytes(*digest) };
            parts.insert(part.to_vec(), summary);
            rest = tail;
        }
        Some(Self { number: EntryNumber(u64::from_le_bytes(*number)), parts })
    }
}

//! `OperatorAct`: what a person decided about a stored message, as the journal remembers it.

use crate::stdx::clock::Wall;
use crate::vocab::{Text, TransactionId, WordError, may_hold_account};

/// What is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Decision {
    /// It is tried again, as a repeat.
    Retry = 1,
    /// It was settled with the issuer in another way, and is tried no more.
    Close = 2,
}

impl Decision {
    /// As commands and the log say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Close => "close",
        }
    }
}

/// A decision about a stored message: whose, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorAct {
    pub decision: Decision,
    pub stored: TransactionId,
    pub at: Wall,
    /// The person, as the operating system knows them.
    pub who: Text<64>,
    pub reason: Text<200>,
}

/// Why a decision cannot be written down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorActError {
    #[error(transparent)]
    Word(#[from] WordError),
    #[error("the reason must not hold an account number")]
    AccountNumber,
}

/// The layout that this program writes. All numbers are little-endian; a text has its length in front, in one byte.
const VERSION: u8 = 1;

impl OperatorAct {
    /// # Errors
    /// `Word` for a text too long or not printable, `AccountNumber` for one that may hold one: it would stay in the
    /// journal for good.
    pub fn new(
        decision: Decision,
        stored: TransactionId,
        at: Wall,
        who: &str,
        reason: &str,
    ) -> Result<Self, OperatorActError> {
        if [who, reason].into_iter().any(may_hold_account) {
            return Err(OperatorActError::AccountNumber);
        }
        let who = Text::parse("operator", who.as_bytes())?;
        let reason = Text::parse("reason", reason.as_bytes())?;
        Ok(Self { decision, stored, at, who, reason })
    }

    /// As `Body::Operator` has it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.decision as u8];
        out.extend_from_slice(&self.stored.0.to_le_bytes());
        out.extend_from_slice(&self.at.0.to_le_bytes());
        for text in [self.who.as_bytes(), self.reason.as_bytes()] {
            out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(text);
        }
        out
    }

    /// Reads what `encode` wrote; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, decision], rest) = bytes.split_first_chunk()?;
        let decision = match (version, decision) {
            (VERSION, 1) => Decision::Retry,
            (VERSION, 2) => Decision::Close,
            _ => return None,
        };
        let (stored, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (who, rest) = text(rest)?;
        let (reason, rest) = text(rest)?;
        let act = Self {
            decision,
            stored: TransactionId(u64::from_le_bytes(*stored)),
            at: Wall(u64::from_le_bytes(*at)),
            who: Text::parse("operator", who).ok()?,
            reason: Text::parse("reason", reason).ok()?,
        };
        rest.is_empty().then_some(act)
    }
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(reason: &str) -> Result<OperatorAct, OperatorActError> {
        OperatorAct::new(Decision::Close, TransactionId(7), Wall(1_763_800_000_123), "night", reason)
    }

    #[test]
    fn a_decision_reads_back_and_nothing_else_does() {
        let act = act("settled by phone, case 4711").unwrap();
        let bytes = act.encode();
        assert_eq!(OperatorAct::decode(&bytes), Some(act));
        for length in 0..bytes.len() {
            assert_eq!(OperatorAct::decode(&bytes[..length]), None, "{length} bytes");
        }
        for (at, wrong) in [(0, 2), (1, 0), (1, 3), (18, 255)] {
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            assert_eq!(OperatorAct::decode(&bytes), None, "byte {at}");
        }
        assert_eq!(OperatorAct::decode(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn an_account_number_is_no_reason() {
        for (reason, refused) in [
            ("card 4761739001010119", true),
            ("4761-7390 0101.0119 is fine", true),
            ("x4761739001010119y", true),
            ("4761739001010118", false),
            ("RRN 632700000003, case 123456", false),
        ] {
            assert_eq!(act(reason) == Err(OperatorActError::AccountNumber), refused, "{reason}");
        }
    }
}

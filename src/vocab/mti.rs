//! `Mti`: the message type indicator, four digits that are four words (ISO 8583 4.1).

use std::fmt;

use super::text::{WordError, WordFault};

/// Position 1: which edition of ISO 8583.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageVersion {
    Iso1987,
    Iso1993,
    Iso2003,
}

/// Position 2: what it is about. Classes that no shipped dialect speaks are not listed, hence refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageClass {
    Authorization,
    Financial,
    FileAction,
    Reversal,
    Reconciliation,
    Administrative,
    FeeCollection,
    NetworkManagement,
}

/// Position 3: what the receiver is to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageFunction {
    Request,
    RequestResponse,
    Advice,
    AdviceResponse,
    Notification,
    NotificationAcknowledgement,
}

/// Position 4: who begins, and whether this is a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageOrigin {
    Acquirer,
    AcquirerRepeat,
    Issuer,
    IssuerRepeat,
    Other,
    OtherRepeat,
}

/// Message type indicator, `n4`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mti {
    pub version: MessageVersion,
    pub class: MessageClass,
    pub function: MessageFunction,
    pub origin: MessageOrigin,
}

impl Mti {
    /// An acquirer's 1987 message, as `0100` or `0420`; edition and origin are changed with the `with_` methods.
    #[must_use]
    pub const fn of(class: MessageClass, function: MessageFunction) -> Self {
        Self { version: MessageVersion::Iso1987, class, function, origin: MessageOrigin::Acquirer }
    }

    /// Takes four digits, each of which must have a meaning.
    ///
    /// # Errors
    /// `Length`, or `NotAllowed` with the position of the digit that means nothing.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "MTI";
        let refused = |at| WordError { word, fault: WordFault::NotAllowed { at } };
        let &[version, class, function, origin] = bytes else {
            return Err(WordError {
                word,
                fault: WordFault::Length { length: bytes.len(), least: 4, most: 4 },
            });
        };
        Ok(Self {
            version: match version {
                b'0' => MessageVersion::Iso1987,
                b'1' => MessageVersion::Iso1993,
                b'2' => MessageVersion::Iso2003,
                _ => return Err(refused(0)),
            },
            class: match class {
                b'1' => MessageClass::Authorization,
                b'2' => MessageClass::Financial,
                b'3' => MessageClass::FileAction,
                b'4' => MessageClass::Reversal,
                b'5' => MessageClass::Reconciliation,
                b'6' => MessageClass::Administrative,
                b'7' => MessageClass::FeeCollection,
                b'8' => MessageClass::NetworkManagement,
                _ => return Err(refused(1)),
            },
            function: match function {
                b'0' => MessageFunction::Request,
                b'1' => MessageFunction::RequestResponse,
                b'2' => MessageFunction::Advice,
                b'3' => MessageFunction::AdviceResponse,
                b'4' => MessageFunction::Notification,
                b'5' => MessageFunction::NotificationAcknowledgement,
                _ => return Err(refused(2)),
            },
            origin: match origin {
                b'0' => MessageOrigin::Acquirer,
                b'1' => MessageOrigin::AcquirerRepeat,
                b'2' => MessageOrigin::Issuer,
                b'3' => MessageOrigin::IssuerRepeat,
                b'4' => MessageOrigin::Other,
                b'5' => MessageOrigin::OtherRepeat,
                _ => return Err(refused(3)),
            },
        })
    }

    /// The four digits in ASCII.
    #[must_use]
    pub fn digits(self) -> [u8; 4] {
        [
            match self.version {
                MessageVersion::Iso1987 => b'0',
                MessageVersion::Iso1993 => b'1',
                MessageVersion::Iso2003 => b'2',
            },
            match self.class {
                MessageClass::Authorization => b'1',
                MessageClass::Financial => b'2',
                MessageClass::FileAction => b'3',
                MessageClass::Reversal => b'4',
                MessageClass::Reconciliation => b'5',
                MessageClass::Administrative => b'6',
                MessageClass::FeeCollection => b'7',
                MessageClass::NetworkManagement => b'8',
            },
            match self.function {
                MessageFunction::Request => b'0',
                MessageFunction::RequestResponse => b'1',
                MessageFunction::Advice => b'2',
                MessageFunction::AdviceResponse => b'3',
                MessageFunction::Notification => b'4',
                MessageFunction::NotificationAcknowledgement => b'5',
            },
            match self.origin {
                MessageOrigin::Acquirer => b'0',
                MessageOrigin::AcquirerRepeat => b'1',
                MessageOrigin::Issuer => b'2',
                MessageOrigin::IssuerRepeat => b'3',
                MessageOrigin::Other => b'4',
                MessageOrigin::OtherRepeat => b'5',
            },
        ]
    }

    /// The message that answers this one, a repeat's being the original's; `None` for what is itself an answer.
    #[must_use]
    pub fn answer(self) -> Option<Self> {
        let function = match self.function {
            MessageFunction::Request => MessageFunction::RequestResponse,
            MessageFunction::Advice => MessageFunction::AdviceResponse,
            MessageFunction::Notification => MessageFunction::NotificationAcknowledgement,
            MessageFunction::RequestResponse
            | MessageFunction::AdviceResponse
            | MessageFunction::NotificationAcknowledgement => return None,
        };
        Some(Self { function, ..self.first() })
    }

    /// Whether this answers `asked` (or a repeat of it).
    #[must_use]
    pub fn answers(self, asked: Self) -> bool {
        asked.answer() == Some(self.first())
    }

    /// Whether this is an answer to something.
    #[must_use]
    pub fn is_answer(self) -> bool {
        self.answer().is_none()
    }

    /// Whether the sender says it has sent this before (xxx1, xxx3, xxx5).
    #[must_use]
    pub fn is_repeat(self) -> bool {
        self.first() != self
    }

    /// The same message as a repeat.
    #[must_use]
    pub fn repeat(self) -> Self {
        let origin = match self.origin {
            MessageOrigin::Acquirer | MessageOrigin::AcquirerRepeat => MessageOrigin::AcquirerRepeat,
            MessageOrigin::Issuer | MessageOrigin::IssuerRepeat => MessageOrigin::IssuerRepeat,
            MessageOrigin::Other | MessageOrigin::OtherRepeat => MessageOrigin::OtherRepeat,
        };
        Self { origin, ..self }
    }

    /// The same message as first sent.
    #[must_use]
    pub fn first(self) -> Self {
        let origin = match self.origin {
            MessageOrigin::Acquirer | MessageOrigin::AcquirerRepeat => MessageOrigin::Acquirer,
            MessageOrigin::Issuer | MessageOrigin::IssuerRepeat => MessageOrigin::Issuer,
            MessageOrigin::Other | MessageOrigin::OtherRepeat => MessageOrigin::Other,
        };
        Self { origin, ..self }
    }

    #[must_use]
    pub fn with_version(self, version: MessageVersion) -> Self {
        Self { version, ..self }
    }
}

impl fmt::Debug for Mti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Display for Mti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mti(digits: &str) -> Mti {
        Mti::parse(digits.as_bytes()).unwrap()
    }

    #[test]
    fn which_answers_which() {
        for (asked, answer) in [
            ("0100", "0110"),
            ("0101", "0110"),
            ("0200", "0210"),
            ("0120", "0130"),
            ("0421", "0430"),
            ("0800", "0810"),
            ("1104", "1114"),
        ] {
            assert_eq!(mti(asked).answer(), Some(mti(answer)), "{asked}");
            assert!(mti(answer).answers(mti(asked)), "{asked}");
        }
        assert_eq!(mti("0110").answer(), None);
        assert!(!mti("0210").answers(mti("0100")));
    }

    #[test]
    fn repeats_and_firsts() {
        assert!(mti("0401").is_repeat());
        assert_eq!(mti("0400").repeat(), mti("0401"));
        assert_eq!(mti("0421").first(), mti("0420"));
    }

    #[test]
    fn digits_without_meaning_are_named_by_position() {
        for (digits, at) in [("9100", 0), ("0900", 1), ("0190", 2), ("0109", 3), ("01A0", 2)] {
            let fault = Mti::parse(digits.as_bytes()).unwrap_err().fault;
            assert_eq!(fault, WordFault::NotAllowed { at }, "{digits}");
        }
        assert!(Mti::parse(b"010").is_err());
    }
}

//! What is said around a request for a token: the requestor's view of the risk, and how a cardholder may be asked to
//! prove itself (identification and verification, EMVCo 6).

use super::text::{Text, WordError, WordFault};

/// Enumerations with a number for messages and the journal, and a word for the API.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $word:literal { $($(#[$what:meta])* $variant:ident = $code:literal $text:literal)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$what])* $variant = $code,)* }

        impl $name {
            /// All of them, in order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number for it.
            #[must_use]
            pub fn code(self) -> u8 {
                self as u8
            }

            /// The one of that number.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.code() == code)
            }

            /// The word for it outside.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Takes that word.
            ///
            /// # Errors
            /// `OutOfRange` for any other.
            pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
                let found = Self::ALL.iter().copied().find(|it| it.name().as_bytes() == bytes);
                found.ok_or(WordError { word: $word, fault: WordFault::OutOfRange })
            }
        }
    };
}

words! {
    /// What the requestor would do.
    Recommendation, "recommendation" {
        Approve = 1 "approve"
        /// Let the cardholder prove itself first.
        StepUp = 2 "step-up"
        Decline = 3 "decline"
    }
}

words! {
    /// Where the requestor has the card number from.
    PanSource, "PAN source" {
        /// The cardholder typed it, or photographed the card.
        Entered = 1 "entered"
        OnFile = 2 "on-file"
        /// Read from the card's chip.
        Tapped = 3 "tapped"
        /// Sent by the issuer's own app.
        Pushed = 4 "pushed"
    }
}

words! {
    /// How a contact is reached.
    ContactKind, "contact kind" {
        TextMessage = 1 "text-message"
        Email = 2 "email"
        Call = 3 "call"
        /// The issuer's own app.
        App = 4 "issuer-app"
    }
}

/// How much the requestor trusts a device or an account: 1 is least, 5 is most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustScore(u8);

impl TrustScore {
    /// One more than the least.
    pub const SECOND: Self = Self(2);

    /// Takes 1 to 5.
    #[must_use]
    pub fn new(score: u8) -> Option<Self> {
        (1..=5).contains(&score).then_some(Self(score))
    }

    /// Takes one digit from 1 to 5.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let digit = if let [digit] = bytes { digit.checked_sub(b'0') } else { None };
        digit.and_then(Self::new).ok_or(WordError { word: "score", fault: WordFault::OutOfRange })
    }

    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

/// What the requestor knows that may help to decide; it may say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct RiskHints {
    pub recommendation: Option<Recommendation>,
    pub device_score: Option<TrustScore>,
    pub account_score: Option<TrustScore>,
    pub source: Option<PanSource>,
}

/// One way to reach a cardholder that its issuer knows, shown so that only the cardholder recognises it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contact {
    /// 1 to 9: what it is called by.
    pub number: u8,
    pub kind: ContactKind,
    /// As `+46 ** *** 12 34`.
    pub shown: Text<40>,
}

/// The contacts of one cardholder, at most `MOST`, each with another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Contacts([Option<Contact>; Self::MOST]);

impl Contacts {
    pub const MOST: usize = 4;

    /// Puts one in. False, and nothing done, when its number is no digit from 1, is taken, or all places are.
    pub fn add(&mut self, contact: Contact) -> bool {
        let free = self.0.iter().position(Option::is_none);
        let place = free.filter(|_| (1..=9).contains(&contact.number) && self.get(contact.number).is_none());
        match place.and_then(|place| self.0.get_mut(place)) {
            Some(place) => {
                *place = Some(contact);
                true
            }
            None => false,
        }
    }

    #[must_use]
    pub fn get(&self, number: u8) -> Option<&Contact> {
        self.iter().find(|contact| contact.number == number)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.0.iter().flatten()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// What an issuer was asked by, so that it knows the cardholder again when a code is to be delivered: drawn at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EnquiryId(pub [u8; 8]);

impl EnquiryId {
    /// Sixteen hexadecimal characters.
    #[must_use]
    pub fn text(&self) -> Text<16> {
        let mut hex = [0; 16];
        let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0x0F)]);
        }
        Text::parse("enquiry id", &hex).unwrap_or_default()
    }

    /// Takes what `text` gave.
    ///
    /// # Errors
    /// `Length` or `NotAllowed`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "enquiry id";
        let digits: &[u8; 16] = bytes.try_into().map_err(|_| WordError {
            word,
            fault: WordFault::Length { length: bytes.len(), least: 16, most: 16 },
        })?;
        let half = |at: usize, digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(WordError { word, fault: WordFault::NotAllowed { at } }),
        };
        let mut id = [0; 8];
        for (at, (byte, pair)) in id.iter_mut().zip(digits.as_chunks::<2>().0).enumerate() {
            let [high, low] = *pair;
            *byte = half(2 * at, high)? << 4 | half(2 * at + 1, low)?;
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_there_and_back() {
        for it in Recommendation::ALL {
            assert_eq!(Recommendation::parse(it.name().as_bytes()), Ok(*it));
            assert_eq!(Recommendation::from_code(it.code()), Some(*it));
        }
        assert!(PanSource::parse(b"guessed").is_err());
        assert_eq!(ContactKind::from_code(9), None);
        let id = EnquiryId([0x00, 0x1F, 0xA0, 0xFF, 1, 2, 3, 4]);
        assert_eq!(id.text().as_str(), "001fa0ff01020304");
        assert_eq!(EnquiryId::parse(id.text().as_bytes()), Ok(id));
        for bad in [&b"001fa0ff0102030"[..], b"001fa0ff0102030G", b"001FA0FF01020304"] {
            assert!(EnquiryId::parse(bad).is_err());
        }
    }

    #[test]
    fn scores_are_one_to_five() {
        for (text, score) in
            [("1", Some(1)), ("5", Some(5)), ("0", None), ("6", None), ("", None), ("11", None), ("x", None)]
        {
            assert_eq!(TrustScore::parse(text.as_bytes()).ok().map(TrustScore::get), score, "{text}");
        }
    }

    #[test]
    fn contacts_are_few_and_each_has_its_number() {
        let contact = |number| Contact { number, kind: ContactKind::Email, shown: Text::default() };
        let mut contacts = Contacts::default();
        assert!(contacts.is_empty());
        for (number, taken) in
            [(1, true), (1, false), (0, false), (10, false), (9, true), (3, true), (4, true), (5, false)]
        {
            assert_eq!(contacts.add(contact(number)), taken, "{number}");
        }
        assert_eq!(contacts.get(9), Some(&contact(9)));
        assert_eq!(contacts.get(5), None);
        assert_eq!(contacts.iter().count(), Contacts::MOST);
    }
}

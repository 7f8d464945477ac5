//! `TokenDomain`: the ways of paying that a token requestor is registered for (EMVCo 5.2.1: an id stands for a
//! requestor and its domain), and `TokenDomains`, a set of them.

use super::codes::EntryMode;
use super::text::{WordError, WordFault};

/// A way of paying with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TokenDomain {
    /// A device is held to a terminal: its chip's data, or its stripe's (DE 22 = 07, 91).
    Proximity = 0,
    /// A chip in a terminal (05).
    Contact = 1,
    /// An app on the cardholder's device (09, 10, 81), always with a cryptogram.
    InApp = 2,
    /// A shop on the net (09, 10, 81).
    ECommerce = 3,
    /// A merchant pays with what it keeps (01, 10, 81).
    CardOnFile = 4,
    /// A code is shown or scanned (03, 04).
    QrCode = 5,
}

impl TokenDomain {
    pub const ALL: [Self; 6] =
        [Self::Proximity, Self::Contact, Self::InApp, Self::ECommerce, Self::CardOnFile, Self::QrCode];

    /// Its name in configurations and on the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proximity => "proximity",
            Self::Contact => "contact",
            Self::InApp => "in-app",
            Self::ECommerce => "e-commerce",
            Self::CardOnFile => "card-on-file",
            Self::QrCode => "qr-code",
        }
    }

    /// Takes a name.
    ///
    /// # Errors
    /// `OutOfRange` for any other.
    pub fn parse(name: &[u8]) -> Result<Self, WordError> {
        let found = Self::ALL.into_iter().find(|domain| domain.name().as_bytes() == name);
        found.ok_or(WordError { word: "token domain", fault: WordFault::OutOfRange })
    }

    /// Whether a payment may be entered so in this domain.
    #[must_use]
    pub fn has(self, mode: EntryMode) -> bool {
        let modes: &[u8] = match self {
            Self::Proximity => &[7, 91],
            Self::Contact => &[5],
            Self::InApp | Self::ECommerce => &[9, 10, 81],
            Self::CardOnFile => &[1, 10, 81],
            Self::QrCode => &[3, 4],
        };
        modes.contains(&mode.get())
    }

    /// Whether a payment in it needs a cryptogram, however it is entered.
    #[must_use]
    pub fn needs_cryptogram(self) -> bool {
        self == Self::InApp
    }
}

/// Domains as a set; where none is stated, any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TokenDomains(u8);

impl TokenDomains {
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn contains(self, domain: TokenDomain) -> bool {
        self.0 & (1 << domain as u8) != 0
    }

    /// Whether all of `others` are within these: where these state none, any are, and where only these state some, the
    /// others are not narrower.
    #[must_use]
    pub fn cover(self, others: Self) -> bool {
        self.is_empty() || others.0 & !self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = TokenDomain> {
        TokenDomain::ALL.into_iter().filter(move |domain| self.contains(*domain))
    }

    /// Whether a payment that is entered so lies in one of them; none stated: it does.
    #[must_use]
    pub fn allow(self, mode: Option<EntryMode>, has_cryptogram: bool) -> bool {
        let fits = |domain: TokenDomain| {
            mode.is_some_and(|mode| domain.has(mode)) && (has_cryptogram || !domain.needs_cryptogram())
        };
        self.is_empty() || self.iter().any(fits)
    }

    /// One bit a domain, `TokenDomain::Proximity` the lowest.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Of `bits`; none for a bit that no domain has.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits >> TokenDomain::ALL.len() == 0).then_some(Self(bits))
    }
}

impl FromIterator<TokenDomain> for TokenDomains {
    fn from_iter<I: IntoIterator<Item = TokenDomain>>(domains: I) -> Self {
        Self(domains.into_iter().fold(0, |bits, domain| bits | 1 << domain as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(number: &[u8]) -> Option<EntryMode> {
        EntryMode::parse(number).ok()
    }

    #[test]
    fn a_payment_lies_in_a_domain_by_its_entry_and_its_cryptogram() {
        use TokenDomain::{CardOnFile, Contact, InApp, Proximity, QrCode};
        for (domains, entered, cryptogram, expected) in [
            (&[][..], b"02", false, true),
            (&[Proximity], b"07", true, true),
            (&[Proximity], b"05", true, false),
            (&[Proximity, Contact], b"05", true, true),
            (&[InApp], b"81", true, true),
            (&[InApp], b"81", false, false),
            (&[InApp, CardOnFile], b"81", false, true),
            (&[InApp, CardOnFile], b"09", false, false),
            (&[QrCode], b"03", false, true),
            (&[QrCode], b"10", true, false),
        ] {
            let set: TokenDomains = domains.iter().copied().collect();
            assert_eq!(set.allow(mode(entered), cryptogram), expected, "{domains:?} {entered:?}");
            assert_eq!(TokenDomains::from_bits(set.bits()), Some(set));
            assert!(set.iter().eq(domains.iter().copied()));
        }
        let proximity: TokenDomains = [Proximity].into_iter().collect();
        assert!(!proximity.allow(None, true));
        assert_eq!(TokenDomains::from_bits(64), None);
    }

    #[test]
    fn names_lead_back_and_sets_cover_their_parts() {
        for domain in TokenDomain::ALL {
            assert_eq!(TokenDomain::parse(domain.name().as_bytes()), Ok(domain));
        }
        assert!(TokenDomain::parse(b"anywhere").is_err());
        let of = |domains: &[TokenDomain]| domains.iter().copied().collect::<TokenDomains>();
        let both = of(&[TokenDomain::InApp, TokenDomain::QrCode]);
        for (wider, narrower, expected) in [
            (of(&[]), both, true),
            (both, of(&[]), true),
            (both, of(&[TokenDomain::InApp]), true),
            (both, of(&[TokenDomain::InApp, TokenDomain::Contact]), false),
        ] {
            assert_eq!(wider.cover(narrower), expected);
        }
    }
}

//! What the TSP found, as the issuer is told and the journal remembers: (service, result) pairs and the counter.

/// What was looked at. The letter is its code in the token data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Service {
    /// Token to PAN.
    Mapping = b'M',
    /// The token's own expiry.
    Expiry = b'E',
    /// Status of the token.
    Status = b'S',
    /// Token requestor named in the message.
    Requestor = b'R',
    /// Entry mode, merchant, channel, amount.
    Domain = b'D',
    /// The chip's cryptogram, or the one that was made for a payment in an app or a shop on the net.
    Cryptogram = b'C',
    /// The limited-use key with which a phone signed, where its token pays with such.
    LimitedKey = b'K',
    /// DE 4 and DE 49 against what the chip signed, or DE 4 against what the cryptogram was made for.
    ChipAmount = b'A',
    /// The card verification value in track 2.
    VerificationValue = b'V',
    /// The token's own controls: country, currency, categories, period, and what else narrows its requestor's.
    OwnControls = b'O',
    /// How often and for how much the token was used lately.
    Velocity = b'L',
    /// Who initiated it, customer or merchant, and of a merchant's the payment by which its customer agreed.
    Initiation = b'I',
}

/// What came of it. The letter is its code in the token data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum VerdictResult {
    Good = b'V',
    Bad = b'I',
    /// Not there to look at.
    Absent = b'N',
    /// There, and not looked at.
    NotVerified = b'U',
    /// The cryptogram is the card's, and its counter was used before.
    Replayed = b'E',
    /// The cryptogram is the card's, and its counter lies too far from those used before.
    OutOfRange = b'A',
    /// The cryptogram is true, and its time, or that of the key it was made with, was over.
    Late = b'H',
    /// The cryptogram was true; the issuer gets one made with the key of its own card.
    Regenerated = b'C',
}

/// One finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verdict {
    pub service: Service,
    pub result: VerdictResult,
}

/// The findings of one transaction: at most one a service, in the order of `Service::ALL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Verdicts {
    results: [Option<VerdictResult>; Service::ALL.len()],
}

impl Verdicts {
    /// Notes a finding; a later one on the same service takes the earlier one's place.
    #[inline]
    pub fn note(&mut self, service: Service, result: VerdictResult) {
        if let Some(place) = self.results.get_mut(service.place()) {
            *place = Some(result);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Verdict> {
        let found = Service::ALL.into_iter().zip(self.results);
        found.filter_map(|(service, result)| Some(Verdict { service, result: result? }))
    }

    #[must_use]
    #[inline]
    pub fn of(&self, service: Service) -> Option<VerdictResult> {
        self.results.get(service.place()).copied().flatten()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.results.iter().all(Option::is_none)
    }

    /// Two letters a finding, as the token data carries them: `MVEVSV`.
    pub fn letters(&self) -> impl Iterator<Item = u8> {
        self.iter().flat_map(|v| [v.service as u8, v.result as u8])
    }

    /// Reads what `letters` wrote; `None` for anything else.
    #[must_use]
    pub fn from_letters(letters: &[u8]) -> Option<Self> {
        let mut verdicts = Self::default();
        if !letters.len().is_multiple_of(2) || letters.len() > 2 * Service::ALL.len() {
            return None;
        }
        for pair in letters.chunks_exact(2) {
            let &[service, result] = pair else { return None };
            verdicts.note(Service::from_letter(service)?, VerdictResult::from_letter(result)?);
        }
        Some(verdicts)
    }
}

impl Service {
    /// All of them, in the order in which they are looked at.
    pub const ALL: [Self; 12] = [
        Self::Mapping,
        Self::Requestor,
        Self::Domain,
        Self::OwnControls,
        Self::Initiation,
        Self::Status,
        Self::Expiry,
        Self::LimitedKey,
        Self::Cryptogram,
        Self::ChipAmount,
        Self::Velocity,
        Self::VerificationValue,
    ];

    #[must_use]
    pub fn from_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|service| *service as u8 == letter)
    }

    /// Where it stands in `ALL`.
    const fn place(self) -> usize {
        match self {
            Self::Mapping => 0,
            Self::Requestor => 1,
            Self::Domain => 2,
            Self::OwnControls => 3,
            Self::Initiation => 4,
            Self::Status => 5,
            Self::Expiry => 6,
            Self::LimitedKey => 7,
            Self::Cryptogram => 8,
            Self::ChipAmount => 9,
            Self::Velocity => 10,
            Self::VerificationValue => 11,
        }
    }
}

impl VerdictResult {
    #[must_use]
    pub fn from_letter(letter: u8) -> Option<Self> {
        [
            Self::Good,
            Self::Bad,
            Self::Absent,
            Self::NotVerified,
            Self::Replayed,
            Self::OutOfRange,
            Self::Late,
            Self::Regenerated,
        ]
        .into_iter()
        .find(|r| *r as u8 == letter)
    }
}

/// Who counts: a token's chip, a phone that pays with limited-use keys, and the service that makes its remote
/// cryptograms each begin with 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CounterSeries {
    Chip,
    Limited,
    Remote,
}

/// The number that a request took, with the cryptogram it came with: together they lead to at most one approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterTaken {
    pub series: CounterSeries,
    /// Application transaction counter, EMV tag 9F36; of a remote cryptogram its number.
    pub atc: u16,
    /// Application cryptogram, EMV tag 9F26; of a remote cryptogram its MAC.
    pub cryptogram: [u8; 8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_there_and_back() {
        let mut verdicts = Verdicts::default();
        verdicts.note(Service::Mapping, VerdictResult::Good);
        verdicts.note(Service::Cryptogram, VerdictResult::Absent);
        verdicts.note(Service::Cryptogram, VerdictResult::NotVerified);
        assert!(verdicts.letters().eq(*b"MVCU"));
        assert_eq!(Verdicts::from_letters(b"MVCU"), Some(verdicts));
        assert_eq!(Verdicts::from_letters(b"MV?U"), None);
        assert_eq!(Verdicts::from_letters(b"MVC"), None);
    }

    #[test]
    fn every_service_has_its_place_and_its_letter() {
        for (place, service) in Service::ALL.into_iter().enumerate() {
            assert_eq!((service.place(), Service::from_letter(service as u8)), (place, Some(service)));
        }
    }
}

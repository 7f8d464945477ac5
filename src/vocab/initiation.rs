//! `Initiator`: who initiates a payment, its customer, or its merchant by what that customer agreed to before; and
//! `Initiators`, what is stated of who may.

use super::text::{WordError, WordFault};

/// Who initiates a payment. The letter is its code in the token data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Initiator {
    Customer = b'C',
    /// With what it keeps, and nobody there: a subscription, a part that is due, what comes late.
    Merchant = b'M',
}

impl Initiator {
    pub const ALL: [Self; 2] = [Self::Customer, Self::Merchant];

    /// Its name in configurations and on the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Merchant => "merchant",
        }
    }

    /// Takes a name.
    ///
    /// # Errors
    /// `OutOfRange` for any other.
    pub fn parse(name: &[u8]) -> Result<Self, WordError> {
        Self::ALL.into_iter().find(|it| it.name().as_bytes() == name).ok_or(unknown())
    }

    /// As messages carry it.
    #[must_use]
    pub fn letter(self) -> u8 {
        self as u8
    }

    /// Takes what messages carry: one letter.
    ///
    /// # Errors
    /// `OutOfRange` for any other.
    pub fn from_letter(value: &[u8]) -> Result<Self, WordError> {
        Self::ALL.into_iter().find(|it| value == [it.letter()].as_slice()).ok_or(unknown())
    }
}

fn unknown() -> WordError {
    WordError { word: "initiator", fault: WordFault::OutOfRange }
}

/// Who may initiate payments, as it is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Initiators {
    /// Nothing is stated: either may, and neither is freed of anything.
    #[default]
    Unstated,
    Customer,
    Merchant,
    Both,
}

impl Initiators {
    pub const ALL: [Self; 4] = [Self::Unstated, Self::Customer, Self::Merchant, Self::Both];

    #[must_use]
    pub fn allow(self, initiator: Initiator) -> bool {
        match self {
            Self::Unstated | Self::Both => true,
            Self::Customer => initiator == Initiator::Customer,
            Self::Merchant => initiator == Initiator::Merchant,
        }
    }

    /// Whether it is stated that merchants may.
    #[must_use]
    pub fn state_merchants(self) -> bool {
        matches!(self, Self::Merchant | Self::Both)
    }

    /// Those that are listed; an empty list states nothing.
    #[must_use]
    pub fn of(list: &[Initiator]) -> Self {
        match Initiator::ALL.map(|it| list.contains(&it)) {
            [false, false] => Self::Unstated,
            [true, false] => Self::Customer,
            [false, true] => Self::Merchant,
            [true, true] => Self::Both,
        }
    }

    /// Its number where it is written down.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unstated => 0,
            Self::Customer => 1,
            Self::Merchant => 2,
            Self::Both => 3,
        }
    }

    /// What has that number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_letters_and_numbers_lead_back() {
        for initiator in Initiator::ALL {
            assert_eq!(Initiator::parse(initiator.name().as_bytes()), Ok(initiator));
            assert_eq!(Initiator::from_letter(&[initiator.letter()]), Ok(initiator));
        }
        assert!(Initiator::parse(b"issuer").is_err());
        for wrong in [&b"m"[..], b"", b"MC"] {
            assert!(Initiator::from_letter(wrong).is_err());
        }
        for initiators in Initiators::ALL {
            assert_eq!(Initiators::from_code(initiators.code()), Some(initiators));
        }
        assert_eq!(Initiators::from_code(4), None);
    }

    #[test]
    fn what_is_listed_may_and_nothing_listed_lets_both() {
        use Initiator::{Customer, Merchant};
        for (list, customer, merchant, stated) in [
            (&[][..], true, true, false),
            (&[Customer], true, false, false),
            (&[Merchant], false, true, true),
            (&[Merchant, Customer], true, true, true),
        ] {
            let of = Initiators::of(list);
            let found = (of.allow(Customer), of.allow(Merchant), of.state_merchants());
            assert_eq!(found, (customer, merchant, stated), "{list:?}");
        }
    }
}

//! `Owners`: who set what of a token, and so who may undo it: its own controls, and its assurance method.

use super::event::Principal;

/// Who set something. Whoever comes later here stands above those before, and may undo what they set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Setter {
    #[default]
    Requestor,
    /// Also what a cardholder has proven to its issuer.
    Issuer,
    Operator,
}

impl Setter {
    const ALL: [Self; 3] = [Self::Requestor, Self::Issuer, Self::Operator];

    /// The word for it outside.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requestor => "token-requestor",
            Self::Issuer => "issuer",
            Self::Operator => "operator",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Requestor => 0,
            Self::Issuer => 1,
            Self::Operator => 2,
        }
    }
}

impl From<Principal> for Setter {
    fn from(principal: Principal) -> Self {
        match principal {
            Principal::Requestor(_) => Self::Requestor,
            Principal::Issuer(_) => Self::Issuer,
            Principal::Operator(_) | Principal::Service => Self::Operator,
        }
    }
}

/// Who set a token's controls and assurance method; the requestor's is also what nobody has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owners {
    pub controls: Setter,
    pub assurance: Setter,
}

impl Owners {
    /// Four bits, two for each.
    pub(super) fn bits(self) -> u8 {
        self.controls.code() | self.assurance.code() << 2
    }

    pub(super) fn from_bits(bits: u8) -> Option<Self> {
        let setter = |code: u8| Setter::ALL.into_iter().find(|setter| setter.code() == code);
        let owners = Self { controls: setter(bits & 3)?, assurance: setter(bits >> 2 & 3)? };
        (owners.bits() == bits).then_some(owners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_lead_back() {
        let mut good = Vec::new();
        for controls in Setter::ALL {
            for assurance in Setter::ALL {
                let owners = Owners { controls, assurance };
                assert_eq!(Owners::from_bits(owners.bits()), Some(owners));
                good.push(owners.bits());
            }
        }
        assert_eq!(Owners::default().bits(), 0, "as it was before anybody owned anything");
        assert!((0..=u8::MAX).all(|bits| Owners::from_bits(bits).is_some() == good.contains(&bits)));
    }
}

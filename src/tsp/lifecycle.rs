//! `TokenStatus` and its legal moves, as one table.

use std::fmt;

use crate::stdx::sabotage::sabotaged;

/// Where a token stands. Expired is no status: it follows from the token's expiry and the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TokenStatus {
    /// Issued, and its requestor has not yet confirmed that it arrived.
    Inactive = 1,
    Active = 2,
    /// Held by at least one suspender.
    Suspended = 3,
    /// Unlinked for good.
    Deactivated = 4,
}

impl TokenStatus {
    pub const ALL: [Self; 4] = [Self::Inactive, Self::Active, Self::Suspended, Self::Deactivated];

    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The word for it outside.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deactivated => "deactivated",
        }
    }
}

/// Who may suspend a token. Each lifts only its own suspension (EMVCo leaves this to the programme; it is what
/// commercial programmes do).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Suspender {
    Issuer = 1,
    TokenRequestor = 2,
    Cardholder = 4,
    /// The token service provider's own operator.
    Operator = 8,
    /// The device, after too many wrong PINs; the requestor says so for it.
    MobilePinLocked = 16,
}

impl Suspender {
    pub const ALL: [Self; 5] =
        [Self::Issuer, Self::TokenRequestor, Self::Cardholder, Self::Operator, Self::MobilePinLocked];

    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suspender| suspender.code() == code)
    }

    /// The word for it outside.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::TokenRequestor => "token-requestor",
            Self::Cardholder => "cardholder",
            Self::Operator => "operator",
            Self::MobilePinLocked => "mobile-pin-locked",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suspender| suspender.name() == name)
    }
}

/// The suspenders of one token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Suspenders(u8);

/// The issuer holds the token because its card is lost or stolen, and for no other reason: it is free again when the
/// card is found.
const WITH_CARD: u8 = 32;

impl Suspenders {
    /// Adds one for a reason of its own, whatever became of the card.
    #[must_use]
    pub fn with(self, suspender: Suspender) -> Self {
        let kept = if suspender == Suspender::Issuer { self.0 & !WITH_CARD } else { self.0 };
        Self(kept | suspender.code())
    }

    #[must_use]
    pub fn without(self, suspender: Suspender) -> Self {
        let gone =
            if suspender == Suspender::Issuer { suspender.code() | WITH_CARD } else { suspender.code() };
        Self(self.0 & !gone)
    }

    /// Whether the issuer holds it only because of its card.
    #[must_use]
    pub fn held_with_card(self) -> bool {
        self.0 & WITH_CARD != 0
    }

    #[must_use]
    pub fn contains(self, suspender: Suspender) -> bool {
        self.0 & suspender.code() != 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 & !WITH_CARD == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Suspender> {
        Suspender::ALL.into_iter().filter(move |suspender| self.contains(*suspender))
    }

    /// One bit a suspender, and one that says that the issuer's is the card's.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Reads `bits`; `None` when a bit belongs to no suspender.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        let held = Self(bits);
        let known = bits < 64 && (!held.held_with_card() || held.contains(Suspender::Issuer));
        known.then_some(held)
    }
}

impl fmt::Debug for Suspenders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A token's status with who holds it, and how often that changed: the version rises by one with each change, so
/// that two views of a token can be put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    pub status: TokenStatus,
    pub suspenders: Suspenders,
    pub version: u32,
}

/// What may be asked of a token after it was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    Activate,
    Suspend(Suspender),
    Resume(Suspender),
    Unlink,
}

impl Move {
    /// Which move, and whose: 0 where it is nobody's.
    #[must_use]
    pub fn code(self) -> (u8, u8) {
        match self {
            Self::Activate => (1, 0),
            Self::Suspend(by) => (2, by.code()),
            Self::Resume(by) => (3, by.code()),
            Self::Unlink => (4, 0),
        }
    }

    #[must_use]
    pub fn from_code(kind: u8, by: u8) -> Option<Self> {
        Some(match (kind, by) {
            (1, 0) => Self::Activate,
            (2, by) => Self::Suspend(Suspender::from_code(by)?),
            (3, by) => Self::Resume(Suspender::from_code(by)?),
            (4, 0) => Self::Unlink,
            _ => return None,
        })
    }
}

/// What a move comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    To(Lifecycle),
    /// It already is as asked: answered as a success, and nothing changes.
    Already,
    /// No such move from here.
    Illegal,
}

/// What a cell of the table stands for.
#[derive(Clone, Copy)]
enum Effect {
    Become(TokenStatus),
    AddSuspender,
    /// Active again once the last suspender has resumed.
    RemoveSuspender,
    Nothing,
    Refuse,
}

/// The whole of the token's life. Columns: activate, suspend, resume, unlink.
#[rustfmt::skip]
const MOVES: [(TokenStatus, [Effect; 4]); 4] = {
    use Effect::{AddSuspender, Become, Nothing, Refuse, RemoveSuspender};
    use TokenStatus::{Active, Deactivated, Inactive, Suspended};
    [
        (Inactive,    [Become(Active), Refuse,       Refuse,          Become(Deactivated)]),
        (Active,      [Nothing,        AddSuspender, Nothing,         Become(Deactivated)]),
        (Suspended,   [Refuse,         AddSuspender, RemoveSuspender, Become(Deactivated)]),
        (Deactivated, [Refuse,         Refuse,       Refuse,          Nothing]),
    ]
};

impl Lifecycle {
    /// As issued.
    #[must_use]
    pub fn issued(status: TokenStatus) -> Self {
        Self { status, suspenders: Suspenders::default(), version: 1 }
    }

    /// Where it stands once its card is lost or stolen: held by the issuer, if it is good for anything.
    #[must_use]
    pub fn card_lost(self) -> Self {
        let usable = matches!(self.status, TokenStatus::Active | TokenStatus::Suspended);
        if !usable || self.suspenders.contains(Suspender::Issuer) {
            return self;
        }
        let suspenders = Suspenders(self.suspenders.with(Suspender::Issuer).0 | WITH_CARD);
        self.next(TokenStatus::Suspended, suspenders)
    }

    /// Where it stands once its card is found again.
    #[must_use]
    pub fn card_found(self) -> Self {
        if !self.suspenders.held_with_card() {
            return self;
        }
        let left = self.suspenders.without(Suspender::Issuer);
        self.next(if left.is_empty() { TokenStatus::Active } else { TokenStatus::Suspended }, left)
    }

    /// As it is, one version on: something else of the token changed.
    #[must_use]
    pub fn touched(self) -> Self {
        self.next(self.status, self.suspenders)
    }

    /// As it is, one version on if something was `changed`.
    pub(super) fn touched_if(self, changed: bool) -> Self {
        if changed { self.touched() } else { self }
    }

    fn next(self, status: TokenStatus, suspenders: Suspenders) -> Self {
        Self { status, suspenders, version: self.version.saturating_add(1) }
    }

    /// Where `asked` leads from here.
    #[must_use]
    pub fn after(self, asked: Move) -> Moved {
        let (column, suspender) = match asked {
            Move::Activate => (0, None),
            Move::Suspend(by) => (1, Some(by)),
            Move::Resume(by) => (2, Some(by)),
            Move::Unlink => (3, None),
        };
        let row = MOVES.iter().find(|(status, _)| *status == self.status);
        let effect = row.and_then(|(_, cells)| cells.get(column)).copied().unwrap_or(Effect::Refuse);
        let revived = asked == Move::Activate && sabotaged("unlinked-comes-back");
        let effect = if revived { Effect::Become(TokenStatus::Active) } else { effect };
        let (status, suspenders) = match (effect, suspender) {
            (Effect::Become(status), _) => (status, Suspenders::default()),
            (Effect::AddSuspender, Some(by)) => (TokenStatus::Suspended, self.suspenders.with(by)),
            (Effect::RemoveSuspender, Some(by)) => {
                let left = self.suspenders.without(by);
                let left = if sabotaged("anybody-resumes") { Suspenders::default() } else { left };
                (if left.is_empty() { TokenStatus::Active } else { TokenStatus::Suspended }, left)
            }
            (Effect::Nothing, _) => return Moved::Already,
            (Effect::Refuse | Effect::AddSuspender | Effect::RemoveSuspender, _) => return Moved::Illegal,
        };
        if (status, suspenders) == (self.status, self.suspenders) {
            return Moved::Already;
        }
        Moved::To(self.next(status, suspenders))
    }
}

#[cfg(test)]
mod tests {
    use super::Suspender::{Cardholder, Issuer};
    use super::*;

    fn suspended_by(list: &[Suspender]) -> Lifecycle {
        let suspenders = list.iter().fold(Suspenders::default(), |set, by| set.with(*by));
        Lifecycle { status: TokenStatus::Suspended, suspenders, version: 7 }
    }

    #[test]
    fn every_move_from_every_status() {
        use Move::{Activate, Resume, Suspend, Unlink};
        let at = |status| Lifecycle { status, suspenders: Suspenders::default(), version: 7 };
        let (inactive, active) = (at(TokenStatus::Inactive), at(TokenStatus::Active));
        let (gone, held) = (at(TokenStatus::Deactivated), suspended_by(&[Issuer]));
        let to = |lifecycle: Lifecycle| Moved::To(Lifecycle { version: 8, ..lifecycle });
        for (from, asked, expected) in [
            (inactive, Activate, to(active)),
            (inactive, Suspend(Issuer), Moved::Illegal),
            (inactive, Resume(Issuer), Moved::Illegal),
            (inactive, Unlink, to(gone)),
            (active, Activate, Moved::Already),
            (active, Suspend(Issuer), to(held)),
            (active, Resume(Issuer), Moved::Already),
            (active, Unlink, to(gone)),
            (held, Activate, Moved::Illegal),
            (held, Suspend(Issuer), Moved::Already),
            (held, Suspend(Cardholder), to(suspended_by(&[Issuer, Cardholder]))),
            (held, Resume(Issuer), to(active)),
            (held, Resume(Cardholder), Moved::Already),
            (held, Unlink, to(gone)),
            // The order of the calls in which one suspender comes again does not count.
            (suspended_by(&[Issuer, Cardholder]), Suspend(Issuer), Moved::Already),
            (gone, Activate, Moved::Illegal),
            (gone, Suspend(Issuer), Moved::Illegal),
            (gone, Resume(Issuer), Moved::Illegal),
            (gone, Unlink, Moved::Already),
        ] {
            assert_eq!(from.after(asked), expected, "{from:?} {asked:?}");
        }
    }

    #[test]
    fn two_suspenders_need_two_resumes() {
        let Moved::To(half) = suspended_by(&[Issuer, Cardholder]).after(Move::Resume(Issuer)) else {
            panic!("the first resume changes the set");
        };
        assert_eq!(half.status, TokenStatus::Suspended);
        let Moved::To(free) = half.after(Move::Resume(Cardholder)) else {
            panic!("the second resume frees it");
        };
        assert_eq!((free.status, free.version), (TokenStatus::Active, 9));
    }

    #[test]
    fn a_found_card_frees_what_its_loss_held_and_nothing_else() {
        let issued = Lifecycle::issued(TokenStatus::Active);
        let lost = issued.card_lost();
        assert_eq!((lost.status, lost.version), (TokenStatus::Suspended, 2));
        assert_eq!(lost.card_lost(), lost);
        assert_eq!(lost.card_found(), Lifecycle { version: 3, ..issued });
        for (from, asked, after) in [
            (lost, Move::Suspend(Cardholder), TokenStatus::Suspended),
            // The issuer has a reason of its own besides.
            (lost, Move::Suspend(Issuer), TokenStatus::Suspended),
            (lost, Move::Resume(Issuer), TokenStatus::Active),
            (lost, Move::Unlink, TokenStatus::Deactivated),
        ] {
            let Moved::To(between) = from.after(asked) else { panic!("{asked:?} changes it") };
            assert_eq!(between.card_found().status, after, "{asked:?}");
        }
        assert_eq!(suspended_by(&[Issuer]).card_lost(), suspended_by(&[Issuer]));
        assert_eq!(suspended_by(&[Issuer]).card_found(), suspended_by(&[Issuer]));
        for status in [TokenStatus::Inactive, TokenStatus::Deactivated] {
            let standing = Lifecycle::issued(status);
            assert_eq!((standing.card_lost(), standing.card_found()), (standing, standing));
        }
    }

    #[test]
    fn codes_and_names_lead_back() {
        for status in TokenStatus::ALL {
            assert_eq!(TokenStatus::from_code(status.code()), Some(status));
        }
        for suspender in Suspender::ALL {
            assert_eq!(Suspender::from_code(suspender.code()), Some(suspender));
            assert_eq!(Suspender::from_name(suspender.name()), Some(suspender));
        }
        assert_eq!(Suspenders::from_bits(32), None, "only of the issuer's");
        assert_eq!(Suspenders::from_bits(64), None);
        assert_eq!(Suspenders::from_bits(5).unwrap().iter().collect::<Vec<_>>(), [Issuer, Cardholder]);
    }
}

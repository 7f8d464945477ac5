//! Who initiates a payment: what it says of that, what a token's controls let, and what the payment is worth by which
//! the customer agreed to those of a merchant.

use crate::vocab::{Initiator, Initiators, Refusal, Rrn, VerdictResult};

use super::table::TokenTable;

/// What a payment says of who initiated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initiation {
    pub by: Initiator,
    /// Of a merchant's: the payment by which its customer agreed.
    pub original: NamedOriginal,
}

/// An earlier payment, by its DE 37.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedOriginal {
    Unnamed,
    /// And nobody has looked for it yet, or ever will.
    Named(Rrn),
    /// It was approved at this acquirer's same merchant and stands, with the token of this record.
    Approved {
        record: u64,
    },
    /// There is none that was approved there and stands.
    NotFound,
}

/// Who may initiate payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct InitiationControls {
    pub initiators: Initiators,
    /// Whether a merchant must name the payment by which its customer agreed.
    pub original_required: bool,
}

/// Who initiated a payment, and what its original was found to be worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Initiated {
    by: Initiator,
    pub(super) found: VerdictResult,
}

impl Initiated {
    /// A payment that says nothing of it is its customer's.
    pub(super) const UNSAID: Self = Self { by: Initiator::Customer, found: VerdictResult::Absent };

    /// `record` is the token's own: the original may have been paid with another one, of the same requestor for the
    /// same card.
    pub(super) fn look(said: Initiation, record: u64, table: &TokenTable) -> Self {
        let found = match said.original {
            _ if said.by == Initiator::Customer => VerdictResult::Good,
            NamedOriginal::Unnamed => VerdictResult::Absent,
            NamedOriginal::Named(_) => VerdictResult::NotVerified,
            NamedOriginal::NotFound => VerdictResult::Bad,
            NamedOriginal::Approved { record: with } if with == record || table.same_holder(with, record) => {
                VerdictResult::Good
            }
            NamedOriginal::Approved { .. } => VerdictResult::Bad,
        };
        Self { by: said.by, found }
    }
}

impl InitiationControls {
    /// Whether the payment may be initiated so.
    ///
    /// # Errors
    /// `InitiatorNotAllowed`, `OriginalMissing`, `OriginalNotApproved`.
    pub(super) fn check(self, Initiated { by, found }: Initiated) -> Result<(), Refusal> {
        if !self.initiators.allow(by) {
            return Err(Refusal::InitiatorNotAllowed);
        }
        if by == Initiator::Customer || !self.original_required {
            return Ok(());
        }
        match found {
            VerdictResult::Good => Ok(()),
            VerdictResult::Absent => Err(Refusal::OriginalMissing),
            _ => Err(Refusal::OriginalNotApproved),
        }
    }

    /// Whether the payment needs no cryptogram by these controls: its customer, who could ask for one, is not there,
    /// and has agreed to it.
    pub(super) fn free(self, Initiated { by, found }: Initiated) -> bool {
        let agreed = by == Initiator::Merchant && found == VerdictResult::Good;
        agreed && self.initiators.state_merchants()
    }
}

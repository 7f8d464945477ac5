//! The other side of the wire: acquirers, issuers and token requestors, well-behaved or not.
//!
//! These are brains without sockets or clocks. The simulation steps them in virtual time; `cli/simulate.rs`
//! and the demo give them connections.

mod acquirer;
mod book;
mod cards;
mod device;
mod faults;
mod issuer;
mod ledger;
mod outbox;
mod payment;
mod provisioner;
mod reconcile;
mod report;
mod template;

pub use acquirer::{
    AcquirerConfig, AcquirerSimulator, Habits, Heard, Load, Mismatch, Pace, Patience, SimError,
};
pub use book::{
    Answer, Book, BookEntry, Earlier, NamedBy, Payment, PaymentNumber, PaymentState, RemotePayment,
    ReversalEntry, ReversalNumber,
};
pub use cards::{CardNumber, Phone, PresentedCard, TestCard, TestMerchant, test_cards, test_merchants};
pub use device::{Device, DeviceKey};
pub use faults::{Condition, ConditionError, Fault, FaultPlan, FaultRule};
pub use issuer::{
    AnswerRule, EnquiryAnswer, EnquiryRule, IssuerConfig, IssuerCounts, IssuerSimulator, RuledAnswer,
};
pub use ledger::{
    Balance, Decision, Effect, Identity, Known, Ledger, LedgerEntry, LedgerTotals, Posting, ReversalOutcome,
    ReversalPosting,
};
pub use outbox::Outbox;
pub use provisioner::{ApiCall, ApiMethod, ProvisionedToken, Provisioner, ProvisioningFailure};
pub use reconcile::{Difference, DifferenceKind, Record, Standing, reconcile};
pub use report::Report;
pub use template::{Symbol, Template, TemplateError};

#[cfg(test)]
mod pair;

//! What happened, in order, durably, verifiably: the truth that everything else is a view of.

mod entry;
mod layout;

pub use entry::{
    AcquirerLeg, Body, CardRef, DeliveredEntry, DeliveryEnd, Elements, Entry, EntryNumber, IssuerLeg,
    LateEntry, OriginalIdentity, OutcomeEntry, RequestEntry, StoredEntry, StoredKind, TokenRef,
    TombstoneEntry, TransactionEntry,
};
pub use layout::LayoutError;

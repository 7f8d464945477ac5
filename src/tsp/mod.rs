//! The token service provider: vault, lifecycle, controls, requestors. It never sees ISO 8583.

#![allow(dead_code, reason = "the state machine that uses the rest comes with the next commit")]

mod command;
mod config;
mod controls;
mod counters;
mod detokenize;
mod error;
mod event;
mod generate;
mod lifecycle;
mod record;
mod requestor;
mod table;
#[allow(clippy::module_inception, reason = "the state machine is what the module is named after")]
mod tsp;
mod verify;

pub use command::{Action, Answer, Asker, CallId, Command, MoveRequest, ProvisionRequest, TokenView};
pub use config::{ConfigFault, CryptogramPolicy, PanRange, TokenRange, TspConfig, TspLimits};
pub use controls::{DomainContext, DomainControls, EntryModes, Merchant};
pub use detokenize::{ChipData, DetokenizeRequest, Detokenized, Detokenizer, Purpose};
pub use error::{ProvisioningRefusal, TspError};
pub use event::{Actor, Cause, Change, RequestId, TokenEvent};
pub use lifecycle::{Lifecycle, Move, Moved, Suspender, Suspenders, TokenStatus};
pub use record::{CardAad, CardData, VaultRecord, open_card, seal_card};
pub use requestor::{Activation, TokenRequestor};
pub use tsp::Tsp;

#[cfg(test)]
mod tests;

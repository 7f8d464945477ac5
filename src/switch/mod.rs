//! The life of a transaction: a core without I/O, the node around it, and one driver.

mod answered;
mod cards;
mod chip;
mod config;
mod core;
mod driver;
mod event;
mod metrics;
mod node;
mod numbers;
mod recovery;
mod request;
mod route;
mod status;
mod store_forward;
mod transaction;

pub use cards::Cards;
pub use config::{
    AcquirerConfig, Identifiers, IssuerConfig, Limits, StoreForwardConfig, SwitchConfig, TrackTwo,
};
pub use core::SwitchCore;
pub use driver::{DurableSignal, Switch, SwitchError, SwitchParts};
pub use event::{
    Account, Action, Answer, AnswerKind, CardMark, Delivery, Event, IssuerAnswer, Mapped, Ticket,
};
pub use node::{EntryLog, Happened, LogFault, Node, NodeParts, Wire};
pub use recovery::{Recovered, Recovery, RecoveryError};
pub use request::{Arrival, CardSource, Given, NotARequest, PanCard, Request, RequestKind};
pub use route::RouteTable;
pub use status::{Counts, LinkStatus, NodeCounts, Picture, SwitchStatus};
pub use transaction::Transaction;

//! Sockets and sessions with acquirers and issuers. Knows messages, not transactions.
//!
//! `Session` and `Pool` decide without I/O and without a clock; the switch's node and the simulation step them.

//! `Links` is all the sockets: what comes in is cut into frames and handed over in batches (`Inbox`), what goes out
//! comes in batches too (`Outbox`). Every buffer, count and wait has a limit in `config.rs` and a metric.

mod config;
mod connection;
mod event;
mod issuer;
mod links;
mod listener;
mod metrics;
mod output;
mod pool;
mod session;
mod shared;
mod transport;

#[cfg(test)]
mod socket_tests;

pub use config::{ConnectionLimits, InboxLimits, IssuerLinkConfig, LinksConfig, ListenerConfig, Party};
pub use event::{CloseReason, ConnectionId, Inbox, LinkCommand, LinkEvent, Outbox};
pub use links::{LinkError, Links};
pub use pool::{Answerable, Backoff, Pool, PoolAction, PoolConfig, PoolFill};
pub use session::{LinkState, NetworkAnswer, NetworkMessage, Session, SessionAction, SessionConfig, SignOn};

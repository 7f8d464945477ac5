//! Sockets and sessions with acquirers and issuers. Knows messages, not transactions.
//!
//! `Session` and `Pool` decide without I/O and without a clock; the switch's node and the simulation step them.

mod event;
mod pool;
mod session;

pub use event::{CloseReason, ConnectionId, Inbox, LinkCommand, LinkEvent, Outbox};
pub use pool::{Backoff, Pool, PoolAction, PoolConfig};
pub use session::{LinkState, NetworkAnswer, NetworkMessage, Session, SessionAction, SessionConfig, SignOn};

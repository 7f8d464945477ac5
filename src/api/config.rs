//! `ApiConfig`, `AdminConfig`: where the HTTP servers listen, and their limits. Resolved values, no serde.

use std::net::SocketAddr;
use std::time::Duration;

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Port 0 takes any free one. Whoever reaches it reads names, counts and limits.
    pub listen: SocketAddr,
    /// Connections that may stand at a time; further ones wait to be accepted.
    pub connections: usize,
}

/// The provisioning API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// A loopback address, until there is TLS here; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Connections that may stand at a time; further ones wait to be accepted.
    pub connections: usize,
    /// The longest body of a request, in bytes.
    pub body_bytes: usize,
    /// From a request's first byte to its answer.
    pub request_timeout: Duration,
}

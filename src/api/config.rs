//! `ApiConfig`: where the API listens, and its limits. Resolved values, no serde.

use std::net::SocketAddr;
use std::time::Duration;

/// The provisioning API and the pages beside it.
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

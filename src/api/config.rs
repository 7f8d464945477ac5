//! `ApiConfig`, `AdminConfig`: where the HTTP servers listen, and their limits. Resolved values, no serde.

use std::net::SocketAddr;
use std::time::Duration;

use super::grants::{Operation, Role};
use super::known::Surroundings;
use super::rates::RateLimits;
use crate::tsp::CredentialDigest;
use crate::vocab::{Text, TokenRequestorId};

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
    /// A loopback address unless there is TLS; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Connections that may stand at a time; further ones wait to be accepted.
    pub connections: usize,
    /// How many of them one address may have; of IPv6, one network of 64 bits. Further ones are closed.
    pub connections_per_address: usize,
    /// The longest body of a request, in bytes.
    pub body_bytes: usize,
    /// From a request's first byte to its answer.
    pub request_timeout: Duration,
    /// Who may call, beside the token requestors with credentials of their own.
    pub clients: Vec<Client>,
    pub rates: RateLimits,
    pub surroundings: Surroundings,
}

/// Somebody who may call the API. A client is no token requestor: it may act for several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// For the journal, logs and limits. An operator is known by it.
    pub name: Text<16>,
    pub shows: Shown,
    pub role: Role,
    /// In the role of a wallet: the requestors that it acts for.
    pub requestors: Vec<TokenRequestorId>,
    /// In the role of an issuer: its name in the PAN ranges.
    pub issuer: Text<16>,
    /// What it is granted of its role's operations; none: all of them.
    pub operations: Option<Vec<Operation>>,
}

/// By what a client is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A subject alternative name of its certificate, a DNS name or a URI, to the letter. Only over TLS.
    Certificate(String),
    /// A bearer credential (RFC 6750). Only where there is no TLS, on a loopback address.
    Credential(CredentialDigest),
}

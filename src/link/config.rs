//! What the links are started with: resolved values, no file format and no paths.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::codec::FrameFormat;
use crate::tls::{CertificateDigest, ServerName, TlsClient, TlsServer};
use crate::vocab::LinkId;

/// All links, and the room between them and the switch.
#[derive(Debug, Clone)]
pub struct LinksConfig {
    pub listeners: Vec<ListenerConfig>,
    pub issuers: Vec<IssuerLinkConfig>,
    pub inbox: InboxLimits,
}

/// What may wait between the sockets and the switch; beyond it nothing is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxLimits {
    /// Bytes of frames.
    pub bytes: usize,
    /// Frames, and connections that came, went or took output.
    pub events: usize,
}

impl Default for InboxLimits {
    fn default() -> Self {
        Self { bytes: 4 << 20, events: 1 << 16 }
    }
}

impl LinksConfig {
    /// With the usual room between sockets and switch.
    #[must_use]
    pub fn new(listeners: Vec<ListenerConfig>, issuers: Vec<IssuerLinkConfig>) -> Self {
        Self { listeners, issuers, inbox: InboxLimits::default() }
    }
}

/// An address that acquirers, and issuers that dial in, connect to.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// For log and metrics.
    pub name: String,
    pub address: SocketAddr,
    /// Who may connect; the first that names the peer's address is who it is.
    pub parties: Vec<Party>,
    /// Connections that may stand at a time; further ones are not accepted until one ends.
    pub connections: usize,
    /// Connections that the operating system holds for us until they are accepted.
    pub backlog: u32,
    pub framing: FrameFormat,
    pub limits: ConnectionLimits,
    pub tls: Option<TlsServer>,
}

/// Whose connections a listener takes. A connection's identity is the listener, the peer's address and, with TLS,
/// its certificate; never what a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    pub link: LinkId,
    /// For log and metrics.
    pub name: String,
    /// Addresses it may come from; none listed: any.
    pub peers: Vec<IpAddr>,
    /// Certificates it may show; none listed: any that the listener's TLS lets in.
    pub certificates: Vec<CertificateDigest>,
    /// Connections that it may have at a time.
    pub connections: usize,
}

impl ListenerConfig {
    /// Whether it takes the same connections in the same way. TLS renews itself in place.
    #[must_use]
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let shape =
            |it: &Self| (it.name.clone(), it.address, it.connections, it.backlog, it.framing, it.limits);
        shape(self) == shape(other) && self.parties == other.parties
    }
}

impl IssuerLinkConfig {
    /// As `ListenerConfig::is_as`.
    #[must_use]
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let shape = |it: &Self| (it.link, it.name.clone(), it.dial_timeout, it.framing, it.limits);
        shape(self) == shape(other) && self.addresses == other.addresses
    }
}

impl Party {
    /// Whether it may come from `peer`.
    #[must_use]
    pub fn has_address(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.peers.is_empty() || self.peers.iter().any(|allowed| allowed.to_canonical() == peer)
    }

    /// Whether it may show this certificate, or none.
    #[must_use]
    pub fn has_certificate(&self, shown: Option<CertificateDigest>) -> bool {
        self.certificates.is_empty() || shown.is_some_and(|shown| self.certificates.contains(&shown))
    }
}

/// An issuer that we dial.
#[derive(Debug, Clone)]
pub struct IssuerLinkConfig {
    pub link: LinkId,
    /// For log and metrics.
    pub name: String,
    /// Where it listens; `LinkCommand::Dial` names one by its place here.
    pub addresses: Vec<SocketAddr>,
    /// How long connecting, with the TLS handshake, may take.
    pub dial_timeout: Duration,
    pub framing: FrameFormat,
    pub limits: ConnectionLimits,
    /// With the name that the issuer's certificate must bear.
    pub tls: Option<(TlsClient, ServerName<'static>)>,
}

/// What one connection may cost and how long it may keep us waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// From accepting to the end of the TLS handshake.
    pub handshake: Duration,
    /// From opening to the first byte; `None` for peers that wait for us to speak.
    pub first_byte: Option<Duration>,
    /// From a frame's first byte to its last.
    pub frame: Duration,
    /// Bytes of output that may wait; one more and the connection is closed.
    pub output_bytes: usize,
    /// How long output may wait without the peer taking any of it.
    pub output_stall: Duration,
    /// Empty frames in a row, which some peers send as keepalives and which are never answered.
    pub keepalives: u32,
    /// Silence after which the operating system asks whether the peer is still there.
    pub tcp_keepalive: Duration,
    /// How long sent bytes may stay unacknowledged (RFC 5482).
    pub tcp_user_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            first_byte: Some(Duration::from_secs(30)),
            frame: Duration::from_secs(10),
            output_bytes: 1 << 20,
            output_stall: Duration::from_secs(10),
            keepalives: 1_000,
            tcp_keepalive: Duration::from_secs(15),
            tcp_user_timeout: Duration::from_secs(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_with_certificates_must_show_one() {
        let (ours, theirs) = (CertificateDigest([1; 32]), CertificateDigest([2; 32]));
        let mut party = Party {
            link: LinkId(1),
            name: "a".to_owned(),
            peers: vec![],
            certificates: vec![],
            connections: 1,
        };
        assert!(party.has_certificate(None) && party.has_certificate(Some(theirs)));
        party.certificates.push(ours);
        assert!(party.has_certificate(Some(ours)));
        assert!(!party.has_certificate(Some(theirs)) && !party.has_certificate(None));
    }

    #[test]
    fn a_party_is_known_by_its_address() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let party = |peers: &[&str]| Party {
            link: LinkId(1),
            name: "a".to_owned(),
            peers: peers.iter().map(|text| ip(text)).collect(),
            certificates: vec![],
            connections: 1,
        };
        for (peers, peer, owns) in [
            (&[][..], "192.0.2.1", true),
            (&["192.0.2.1"], "192.0.2.1", true),
            (&["192.0.2.1"], "192.0.2.2", false),
            (&["192.0.2.1"], "::ffff:192.0.2.1", true),
            (&["::ffff:192.0.2.1"], "192.0.2.1", true),
            (&["192.0.2.1", "2001:db8::1"], "2001:db8::1", true),
        ] {
            assert_eq!(party(peers).has_address(ip(peer)), owns, "{peer} of {peers:?}");
        }
    }
}

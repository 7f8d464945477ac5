//! What the sockets tell the switch (`LinkEvent` in an `Inbox`) and what it asks of them (`LinkCommand` in an
//! `Outbox`). Both carry their bytes in one buffer that is wiped after use and used again.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use crate::stdx::wipe::{WipedBytes, wipe};
use crate::vocab::LinkId;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// One connection, from its opening to its closing; never given twice while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// Set in the number of a connection that we dialled.
    const DIALLED: u64 = 1 << 63;
    const LINK_SHIFT: u32 = 47;

    /// The `number`th connection that a listener accepted.
    #[must_use]
    pub fn accepted(number: u64) -> Self {
        Self(number & !Self::DIALLED)
    }

    /// The `number`th connection that was dialled for `link`, below 2^47.
    #[must_use]
    pub fn dialled(link: LinkId, number: u64) -> Self {
        let number = number & ((1 << Self::LINK_SHIFT) - 1);
        Self(Self::DIALLED | u64::from(link.0) << Self::LINK_SHIFT | number)
    }

    #[must_use]
    pub fn is_dialled(self) -> bool {
        self.0 & Self::DIALLED != 0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dialled() {
            let rest = self.0 & !Self::DIALLED;
            let number = rest & ((1 << Self::LINK_SHIFT) - 1);
            write!(f, "dialled-{}-{number}", rest >> Self::LINK_SHIFT)
        } else {
            write!(f, "accepted-{}", self.0)
        }
    }
}

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why a connection ended or never began. The name stands in the log and as a metric's label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The machine-readable name, in lower case with hyphens.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

close_reasons! {
    // The peer went away.
    /// It closed its side in order, between two frames.
    PeerClosed = "peer-closed";
    /// It closed its side in the middle of a frame.
    PeerClosedInFrame = "peer-closed-in-frame";
    /// Reset, or another fault of the network under it.
    ConnectionLost = "connection-lost";
    /// Half-open: what was sent stayed unacknowledged for too long.
    PeerUnreachable = "peer-unreachable";

    // Whom we did not let in.
    /// Its address belongs to no party of the listener.
    AddressNotAllowed = "address-not-allowed";
    /// Its certificate belongs to no party of the listener that has its address.
    CertificateNotAllowed = "certificate-not-allowed";
    /// Its party has as many connections as it may.
    TooManyConnections = "too-many-connections";
    TlsHandshakeFailed = "tls-handshake-failed";
    TlsHandshakeTooSlow = "tls-handshake-too-slow";

    // What cannot be framed.
    /// A TLS hello on a port that speaks plainly.
    TlsOnPlainPort = "tls-on-plain-port";
    /// A frame that says it is longer than the link allows.
    FrameTooLong = "frame-too-long";
    /// A frame too short to hold what every frame holds.
    FrameTooShort = "frame-too-short";
    /// A length that is no number.
    LengthMalformed = "length-malformed";
    /// Nothing but empty frames.
    KeepaliveFlood = "keepalive-flood";

    // Too slow.
    /// Connected, and never sent a byte.
    NothingSent = "nothing-sent";
    /// Began a frame and did not end it in time.
    FrameTooSlow = "frame-too-slow";
    /// So much output waits that no more may.
    OutputFull = "output-full";
    /// Took nothing of the waiting output in time.
    OutputStalled = "output-stalled";

    // The session.
    SignOnTooSlow = "sign-on-too-slow";
    SignOnRefused = "sign-on-refused";
    EchoesMissed = "echoes-missed";

    // What the switch makes of the messages.
    /// A message that cannot be answered, as one whose DE 7 or DE 11 cannot be read.
    MessageUnanswerable = "message-unanswerable";

    // Ourselves.
    ShuttingDown = "shutting-down";
    /// Its link was configured anew.
    Reconfigured = "reconfigured";

    // Dialling.
    DialRefused = "dial-refused";
    DialTooSlow = "dial-too-slow";
}

impl CloseReason {
    /// The reason behind a fault of the socket.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::PeerUnreachable } else { Self::ConnectionLost }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl EncodeLabelValue for CloseReason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.name(), encoder)
    }
}

/// What happened on the sockets. Per connection: `Opened`, then frames and `Written`, then `Closed`, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A connection of `link` stands (and its TLS handshake is done).
    Opened { connection: ConnectionId, link: LinkId, peer: SocketAddr },
    /// A whole frame: `bytes` of the inbox, of which the first `header` are the frame's fixed header.
    Frame { connection: ConnectionId, header: usize, bytes: Range<usize> },
    /// `total` bytes were handed to the socket, all of them, since it opened.
    Written { connection: ConnectionId, total: u64 },
    /// The connection is gone. Of the bytes that were to be written since it opened, those from `begun` on never
    /// left; whether all before that did is what the last `Written` says.
    Closed { connection: ConnectionId, reason: CloseReason, begun: u64 },
    /// A connection asked for by `LinkCommand::Dial` does not stand.
    DialFailed { connection: ConnectionId, link: LinkId, reason: CloseReason },
}

/// What the switch wants of the sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkCommand {
    /// Send `bytes` of the outbox, framed already. On a connection that is gone this does nothing: its
    /// `Closed` is on the way, or was there.
    Write { connection: ConnectionId, bytes: Range<usize> },
    /// Send what waits, as far as the peer takes it, then close.
    Close { connection: ConnectionId, reason: CloseReason },
    /// Close at once: of what waits, nothing leaves any more.
    Abort { connection: ConnectionId, reason: CloseReason },
    /// Connect to an address of an issuer's link, by its place in the configuration.
    Dial { link: LinkId, address: usize, connection: ConnectionId },
}

/// A batch of events and the bytes of their frames.
#[derive(Debug, Default)]
pub struct Inbox {
    pub events: Vec<LinkEvent>,
    pub bytes: WipedBytes,
}

impl Inbox {
    /// One whose bytes need not move until there are more than `capacity`.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { events: Vec::new(), bytes: WipedBytes::with_capacity(capacity) }
    }

    /// Adds a frame: `header` and `message`, one after the other.
    pub fn push_frame(&mut self, connection: ConnectionId, header: &[u8], message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend(header);
        self.bytes.extend(message);
        self.events.push(LinkEvent::Frame {
            connection,
            header: header.len(),
            bytes: start..self.bytes.len(),
        });
    }

    /// The bytes of a frame's event.
    #[must_use]
    pub fn frame(&self, bytes: &Range<usize>) -> &[u8] {
        self.bytes.get(bytes.clone()).unwrap_or_default()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Wipes and empties it; the memory stays for the next batch.
    pub fn clear(&mut self) {
        self.events.clear();
        self.bytes.clear();
    }
}

/// A batch of commands and the bytes they write.
#[derive(Default)]
pub struct Outbox {
    pub commands: Vec<LinkCommand>,
    pub bytes: Vec<u8>,
}

impl Outbox {
    /// The bytes of a `Write`.
    #[must_use]
    pub fn written(&self, bytes: &Range<usize>) -> &[u8] {
        self.bytes.get(bytes.clone()).unwrap_or_default()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Wipes and empties it; the memory stays for the next batch.
    pub fn clear(&mut self) {
        self.commands.clear();
        wipe(&mut self.bytes);
        self.bytes.clear();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({} commands, {} bytes)", self.commands.len(), self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_and_dialled_connections_never_share_a_number() {
        let dialled = ConnectionId::dialled(LinkId(3), 7);
        assert_eq!(dialled.to_string(), "dialled-3-7");
        assert_eq!(ConnectionId::accepted(7).to_string(), "accepted-7");
        assert_ne!(dialled, ConnectionId::dialled(LinkId(4), 7));
        assert!(dialled.is_dialled() && !ConnectionId::accepted(u64::MAX).is_dialled());
        assert_eq!(ConnectionId::dialled(LinkId(u16::MAX), 0).to_string(), "dialled-65535-0");
    }

    #[test]
    fn close_reasons_have_names_of_their_own() {
        let mut names: Vec<_> = CloseReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CloseReason::ALL.len());
    }

    #[test]
    fn a_cleared_inbox_keeps_its_memory_and_none_of_its_bytes() {
        let mut inbox = Inbox::default();
        inbox.push_frame(ConnectionId(1), b"head", b"message");
        let Some(LinkEvent::Frame { header, bytes, .. }) = inbox.events.first().cloned() else {
            panic!("a frame was pushed")
        };
        assert_eq!(inbox.frame(&bytes).split_at(header), (&b"head"[..], &b"message"[..]));
        let capacity = inbox.bytes.capacity();
        inbox.clear();
        assert!(inbox.is_empty());
        assert_eq!(inbox.bytes.capacity(), capacity);
        assert_eq!(inbox.frame(&(5..12)), b"", "a range beyond its end");
    }
}

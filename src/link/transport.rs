//! `Transport`: a byte stream, TCP or TLS; how one is accepted and dialled, and what the operating system is told
//! about it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::config::{ConnectionLimits, IssuerLinkConfig};
use super::event::CloseReason;
use crate::tls::{CertificateDigest, TlsServer};

/// The most that one record carries (RFC 8446, section 5.1).
const TLS_RECORD: usize = 1 << 14;

/// A connected peer.
pub(super) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Makes a transport of a socket that a listener accepted.
    ///
    /// # Errors
    /// Why it is not let in.
    pub(super) async fn accept(
        stream: TcpStream,
        tls: Option<&TlsServer>,
        limits: &ConnectionLimits,
    ) -> Result<Self, CloseReason> {
        tune(&stream, limits).map_err(|error| CloseReason::of(&error))?;
        let Some(tls) = tls else { return Ok(Self::Tcp(stream)) };
        match timeout(limits.handshake, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => Ok(Self::Tls(Box::new(stream.into()))),
            Ok(Err(_)) => Err(CloseReason::TlsHandshakeFailed),
            Err(_) => Err(CloseReason::TlsHandshakeTooSlow),
        }
    }

    /// Connects to `address` as `config` says.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn dial(config: &IssuerLinkConfig, address: SocketAddr) -> Result<Self, CloseReason> {
        timeout(config.dial_timeout, Self::connect(config, address))
            .await
            .unwrap_or(Err(CloseReason::DialTooSlow))
    }

    async fn connect(config: &IssuerLinkConfig, address: SocketAddr) -> Result<Self, CloseReason> {
        let stream = TcpStream::connect(address).await.map_err(|_| CloseReason::DialRefused)?;
        tune(&stream, &config.limits).map_err(|error| CloseReason::of(&error))?;
        let Some((tls, name)) = &config.tls else { return Ok(Self::Tcp(stream)) };
        match tls.connector().connect(name.clone(), stream).await {
            Ok(stream) => Ok(Self::Tls(Box::new(stream.into()))),
            Err(_) => Err(CloseReason::TlsHandshakeFailed),
        }
    }

    /// The certificate that the peer showed.
    pub(super) fn certificate(&self) -> Option<CertificateDigest> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates()?.first().map(CertificateDigest::of),
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Takes the first of these bytes; of TLS at most one record, of which a peer reads all or nothing.
    pub(super) fn poll_begin(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = if self.is_plain() { bytes.len() } else { bytes.len().min(TLS_RECORD) };
        Pin::new(self).poll_write(cx, bytes.get(..most).unwrap_or(bytes))
    }
}

/// No delay for small writes, and an end to half-open connections: a silent peer is asked for, and one that
/// acknowledges nothing is given up.
fn tune(stream: &TcpStream, limits: &ConnectionLimits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(limits.tcp_keepalive)
        .with_interval(limits.tcp_keepalive)
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(limits.tcp_user_timeout))
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Whether bytes that should begin a frame are a TLS handshake record with a client's hello (RFC 8446 4.1.2, 5.1).
pub(super) fn is_tls_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 0x03, 0..=4, high, low, 0x01, 0x00, hello_high, hello_low, ..]
        if u16::from_be_bytes([*hello_high, *hello_low]).checked_add(4)
            == Some(u16::from_be_bytes([*high, *low])))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_operating_system_watches_for_half_open_peers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let limits = ConnectionLimits {
            tcp_keepalive: Duration::from_secs(7),
            tcp_user_timeout: Duration::from_secs(9),
            ..ConnectionLimits::default()
        };
        let Ok(Transport::Tcp(stream)) = Transport::accept(stream, None, &limits).await else {
            panic!("a plain stream")
        };
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_tls_hello_is_told_from_a_frame() {
        for (bytes, hello) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], true),
            (b"\x16\x03\x03\x00\xf4\x01\x00\x00\xf0\x03\x03", true),
            // A frame of 5635 bytes whose message begins in BCD.
            (b"\x16\x03\x01\x00\x72\x3c\x44\x81\x28\xe1\x80\x01", false),
            (b"\x16\x03\x01\x00\x72\x01\x00\x81\x28\xe1\x80\x01", false),
            (b"\x00\x400800\x82\x20", false),
            (b"\x16\x03\x01", false),
        ] {
            assert_eq!(is_tls_hello(bytes), hello, "{bytes:02x?}");
        }
    }
}

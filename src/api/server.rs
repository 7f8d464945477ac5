//! `HttpServer`: one listener on a thread and a runtime of its own, with bounds on everything a caller may send.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Peer;
use super::error::ApiError;
use crate::stdx::lock::Lock;
use crate::stdx::maps::GuardedMap;
use crate::tls::{self, TlsServer};

/// The longest head of a request, in bytes, and the most headers in it. What is longer gets 431.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;
/// From a connection's first byte to the end of a head; with TLS, for the handshake as well.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a failing `accept`, as for want of file descriptors, is left alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running server.
pub(super) struct HttpServer {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// How many connections a server has, and may have. Clones share the count.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pub(super) standing: Gauge,
    pub(super) limit: Gauge,
    /// Those that were closed because their address had enough.
    pub(super) refused: Counter,
    most: usize,
    most_of_one: usize,
    by_address: Arc<Mutex<GuardedMap<IpAddr, usize>>>,
}

impl Connections {
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        let limit = Gauge::default();
        limit.set(i64::try_from(most).unwrap_or(i64::MAX));
        Self {
            standing: Gauge::default(),
            limit,
            refused: Counter::default(),
            most,
            most_of_one,
            by_address: Arc::default(),
        }
    }

    /// A place for one more connection of that address; none when it has enough.
    fn place(&self, address: IpAddr) -> Option<Place> {
        let address = whose(address);
        let free = self.by_address.with(|standing| {
            let count = standing.entry(address).or_default();
            let free = *count < self.most_of_one;
            *count += usize::from(free);
            free
        });
        if !free {
            self.refused.inc();
            return None;
        }
        self.standing.inc();
        Some(Place { connections: self.clone(), address })
    }
}

/// One connection that stands, until it is dropped.
struct Place {
    connections: Connections,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.standing.dec();
        self.connections.by_address.with(|standing| {
            let left = standing.get(&self.address).map_or(0, |count| count.saturating_sub(1));
            match left {
                0 => standing.remove(&self.address),
                left => standing.insert(self.address, left),
            }
        });
    }
}

/// Whoever has one address of a network of 64 bits has all of them (RFC 4291, 2.5.4).
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

impl HttpServer {
    /// Listens, and serves from a thread of that name.
    ///
    /// # Errors
    /// `Listen`, `Thread`.
    pub(super) fn start(
        name: &'static str,
        listen: SocketAddr,
        connections: Connections,
        tls: Option<TlsServer>,
        router: Router,
    ) -> Result<Self, ApiError> {
        let refused = |source| ApiError::Listen { name, address: listen, source };
        let listener = std::net::TcpListener::bind(listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(refused)?
        };
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let serve = move || runtime.block_on(accept(listener, tls, router, connections, stopping));
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(serve)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    /// Takes no more requests, finishes those it has, and ends.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported where it happened.
            let _ = thread.join();
        }
    }
}

/// A permit, then a connection: what is past the limit waits in the listener's backlog.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsServer>,
    router: Router,
    connections: Connections,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(connections.most));
    let tasks = TaskTracker::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Some((Ok((stream, peer)), permit)) => {
                let Some(place) = connections.place(peer.ip()) else { continue };
                let (router, stop, tls) = (router.clone(), stop.clone(), tls.clone());
                tasks.spawn(async move {
                    match tls {
                        None => serve(stream, router, stop).await,
                        Some(tls) => serve_tls(stream, &tls, router, stop).await,
                    }
                    drop((place, permit));
                });
            }
            Some((Err(error), _)) => {
                tracing::warn!(%error, "a connection over HTTP was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None => break,
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Serves a client once its certificate is known to be vouched for.
async fn serve_tls(stream: TcpStream, tls: &TlsServer, router: Router, stop: CancellationToken) {
    let handshake = tokio::time::timeout(HEAD_TIME, tls.acceptor().accept(stream));
    let stream = tokio::select! {
        shaken = handshake => match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "no TLS with a client"),
            Err(_) => return tracing::debug!("a client was too slow with its TLS handshake"),
        },
        () = stop.cancelled() => return,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let names = certificate.map(tls::names).unwrap_or_default();
    serve(stream, router.layer(Extension(Peer(names.into()))), stop).await;
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, stop: CancellationToken) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection over HTTP ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one_and_places_come_back() {
        let connections = Connections::new(8, 2);
        let place = |address: &str| connections.place(address.parse().unwrap());
        let held = [place("192.0.2.1").unwrap(), place("::ffff:192.0.2.1").unwrap()];
        for (address, free) in [("192.0.2.1", false), ("192.0.2.2", true), ("2001:db8::1", true)] {
            assert_eq!(place(address).is_some(), free, "{address}");
        }
        let network = [place("2001:db8::1").unwrap(), place("2001:db8::ffff:1").unwrap()];
        assert!(place("2001:db8:0:0:1::").is_none() && place("2001:db8:0:1::1").is_some());
        assert_eq!(connections.standing.get(), 4);
        drop((held, network));
        assert!(place("192.0.2.1").is_some() && place("2001:db8::1").is_some());
        assert_eq!((connections.standing.get(), connections.refused.get()), (0, 2));
        assert!(connections.by_address.with(|standing| standing.is_empty()), "nobody is remembered");
    }
}

//! `HttpServer`: one listener on a thread and a runtime of its own, with bounds on everything a caller may send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Peer;
use super::error::ApiError;
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

/// How many connections a server has, and may have.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pub(super) standing: Gauge,
    pub(super) limit: Gauge,
    most: usize,
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        let limit = Gauge::default();
        limit.set(i64::try_from(most).unwrap_or(i64::MAX));
        Self { standing: Gauge::default(), limit, most }
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
    let Connections { standing, most, .. } = connections;
    let permits = Arc::new(Semaphore::new(most));
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
            Some((Ok((stream, _)), permit)) => {
                let (router, stop, standing) = (router.clone(), stop.clone(), standing.clone());
                let tls = tls.clone();
                standing.inc();
                tasks.spawn(async move {
                    match tls {
                        None => serve(stream, router, stop).await,
                        Some(tls) => serve_tls(stream, &tls, router, stop).await,
                    }
                    standing.dec();
                    drop(permit);
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

//! The only module that serves HTTP. `ApiServer` has a thread and a runtime of its own: whatever callers do here, no
//! payment waits for it.

mod access;
mod config;
mod error;
mod provisioning;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tsp::{TokenRequestor, TokenService};

pub use config::ApiConfig;
pub use error::ApiError;

use access::Access;
use error::Problem;

/// The longest head of a request, in bytes, and the most headers in it. What is longer gets 431.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;
/// From a connection's first byte to the end of a head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a failing `accept`, as for want of file descriptors, is left alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The running server.
pub struct ApiServer {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Listens, and serves from a thread of its own.
    ///
    /// # Errors
    /// `NotLoopback`, `Listen`, `Thread`.
    pub fn start(
        config: &ApiConfig,
        service: TokenService,
        requestors: &[TokenRequestor],
    ) -> Result<Self, ApiError> {
        if !config.listen.ip().is_loopback() {
            return Err(ApiError::NotLoopback(config.listen));
        }
        let refused = |source| ApiError::Listen { address: config.listen, source };
        let listener = std::net::TcpListener::bind(config.listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(refused)?
        };
        let router = router(config, service, requestors);
        let stop = CancellationToken::new();
        let (stopping, connections) = (stop.clone(), config.connections);
        let serve = move || runtime.block_on(accept(listener, router, connections, stopping));
        let thread = std::thread::Builder::new().name("api".to_owned()).spawn(serve)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, finishes those it has, and ends.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn router(config: &ApiConfig, service: TokenService, requestors: &[TokenRequestor]) -> Router {
    let no_such = |status, detail| async move { Problem::new(status, "no-such-resource", detail) };
    provisioning::routes(service)
        .fallback(move || no_such(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(move || no_such(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(DefaultBodyLimit::max(config.body_bytes))
        .layer(from_fn_with_state(Access::new(requestors), access::check))
        .layer(from_fn_with_state(config.request_timeout, in_time))
        .layer(from_fn(uncached))
}

/// An answer within the limit, even if it says that there is none.
async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "the request took too long; with the same request id it may be asked again";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed-out", detail);
            problem.recoverable().into_response()
        }
    }
}

/// Tokens are for the caller's eyes, and for no cache in between.
async fn uncached(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A permit, then a connection: what is past the limit waits in the listener's backlog.
async fn accept(listener: TcpListener, router: Router, connections: usize, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(connections));
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
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn(async move {
                    serve(stream, router, stop).await;
                    drop(permit);
                });
            }
            Some((Err(error), _)) => {
                tracing::warn!(%error, "api connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None => break,
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

async fn serve(stream: TcpStream, router: Router, stop: CancellationToken) {
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
        tracing::debug!(%error, "api connection ended");
    }
}

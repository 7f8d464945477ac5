//! The only module that serves HTTP. `ApiServer` and `AdminServer` each have a thread and a runtime of their own:
//! whatever callers do here, no payment waits for it.

mod access;
mod admin;
mod code_line;
mod config;
mod document;
mod error;
mod grants;
mod known;
mod notifier;
mod provisioning;
mod rates;
mod saf;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::stdx::clock::Clock;
use crate::tls::TlsServer;
use crate::tsp::{TokenRequestor, TokenService};

pub use admin::{AdminServer, Watched};
pub use code_line::{CodeLine, WaitingCodes, code_line};
pub use config::{AdminConfig, ApiConfig, Client, Shown};
pub use error::ApiError;
pub use grants::{Operation, Role};
pub use known::Surroundings;
pub use notifier::{Endpoint, Notifier, NotifierConfig, NotifierParts};
pub use rates::RateLimits;

use access::Access;
use document::Served;
use error::Problem;
use known::Known;
use rates::Rates;
use server::{Connections, HttpServer};

/// The running provisioning API.
pub struct ApiServer {
    server: HttpServer,
    access: Access,
    known: Known,
}

impl ApiServer {
    /// Listens, and serves from a thread of its own; shows itself in `registry` under `api_`. With `tls`, which must
    /// ask clients for their certificates, clients are known by these; without, by credentials.
    ///
    /// # Errors
    /// `NotLoopback`, `Listen`, `Thread`.
    pub fn start(
        config: &ApiConfig,
        tls: Option<TlsServer>,
        service: TokenService,
        requestors: &[TokenRequestor],
        clock: &Clock,
        registry: &mut Registry,
    ) -> Result<Self, ApiError> {
        if tls.is_none() && !config.listen.ip().is_loopback() {
            return Err(ApiError::NotLoopback(config.listen));
        }
        let connections = Connections::new(config.connections, config.connections_per_address);
        registry.register("api_connections", "Connections that stand", connections.standing.clone());
        registry.register("api_connections_limit", "How many may", connections.limit.clone());
        let refused = connections.refused.clone();
        registry.register("api_connections_refused", "Connections of an address that had enough", refused);
        let answers = Answers::default();
        registry.register("api_answers", "Answers of the API, by HTTP status", answers.clone());
        let known = Known::new(config.surroundings.clone());
        let rates = Rates::new(&config.rates, clock, registry);
        let served = Served { tokens: service, rates, known: known.clone() };
        let access = Access::new(&config.clients, requestors);
        let router = router(config, served, access.clone(), answers);
        let server = HttpServer::start("api", config.listen, connections, tls, router)?;
        Ok(Self { server, access, known })
    }

    /// From the next request on the clients of this configuration may call, and nobody else, and name what it has; what
    /// is being done is finished.
    pub fn admit(&self, config: &ApiConfig, requestors: &[TokenRequestor]) {
        self.access.admit(&config.clients, requestors);
        self.known.become_this(config.surroundings.clone());
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Takes no more requests, finishes those it has, and ends.
    pub fn stop(self) {
        drop(self);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

type Answers = Family<StatusLabel, Counter>;

/// The provisioning API's OpenAPI document, as it is served and as `docs/openapi.json` holds it.
#[must_use]
pub fn openapi() -> String {
    document::text(&provisioning::routes().finish().1)
}

fn router(config: &ApiConfig, served: Served, access: Access, answers: Answers) -> Router {
    let (routes, document) = provisioning::routes().finish();
    let (rates, tokens) = (served.rates.clone(), served.tokens.clone());
    let routes = nothing_else(routes.with_state(served));
    let routes = routes
        .layer(DefaultBodyLimit::max(config.body_bytes))
        .layer(from_fn_with_state(tokens, access::noted))
        .layer(from_fn_with_state(rates, access::in_turn))
        .layer(from_fn_with_state(access, access::check));
    // Merged where the check has been put around the rest: the document is for everybody.
    routes
        .merge(document::route(&document::text(&document)))
        .layer(from_fn_with_state(config.request_timeout, in_time))
        .layer(from_fn_with_state(answers, counted))
        .layer(from_fn(uncached))
}

/// Any other path or method gets a problem, too.
fn nothing_else(router: Router) -> Router {
    let problem = |status, code, detail| async move { Problem::new(status, code, detail) };
    let no_method = (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "not with this method");
    router
        .fallback(move || problem(StatusCode::NOT_FOUND, "no-such-resource", "there is nothing here"))
        .method_not_allowed_fallback(move || problem(no_method.0, no_method.1, no_method.2))
}

/// Whether the body of a request is still coming.
#[derive(Debug, Clone, Default)]
struct StillComing(Arc<AtomicBool>);

/// An answer within the limit, even if it says that there is none; and whose fault that is.
async fn in_time(State(limit): State<Duration>, mut request: Request, next: Next) -> Response {
    let coming = StillComing::default();
    request.extensions_mut().insert(coming.clone());
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) if coming.0.load(Ordering::Relaxed) => {
            let detail = "the body did not come whole in time; with the same request id it may be sent again";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", detail).recoverable().into_response()
        }
        Err(_) => {
            let detail = "the request took too long; with the same request id it may be asked again";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed-out", detail);
            problem.recoverable().into_response()
        }
    }
}

async fn counted(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    answers.get_or_create(&StatusLabel { status: response.status().as_u16() }).inc();
    response
}

/// Tokens are for the caller's eyes, and for no cache in between.
async fn uncached(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

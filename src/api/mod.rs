//! The only module that serves HTTP. `ApiServer` and `AdminServer` each have a thread and a runtime of their own:
//! whatever callers do here, no payment waits for it.

mod access;
mod admin;
mod config;
mod document;
mod error;
mod grants;
mod notifier;
mod provisioning;
mod rates;
mod saf;
mod server;

use std::net::SocketAddr;
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
pub use config::{AdminConfig, ApiConfig, Client, Shown};
pub use error::ApiError;
pub use grants::{Operation, Role};
pub use notifier::{CodeLine, Endpoint, Notifier, NotifierConfig, NotifierParts, WaitingCodes, code_line};
pub use rates::RateLimits;

use access::Access;
use document::Served;
use error::Problem;
use rates::Rates;
use server::{Connections, HttpServer};

/// The running provisioning API.
pub struct ApiServer(HttpServer);

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
        let connections = Connections::new(config.connections);
        registry.register("api_connections", "Connections that stand", connections.standing.clone());
        registry.register("api_connections_limit", "How many may", connections.limit.clone());
        let answers = Answers::default();
        registry.register("api_answers", "Answers of the API, by HTTP status", answers.clone());
        let served = Served { tokens: service, rates: Rates::new(&config.rates, clock, registry) };
        let router = router(config, served, requestors, answers);
        HttpServer::start("api", config.listen, connections, tls, router).map(Self)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
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

fn router(config: &ApiConfig, served: Served, requestors: &[TokenRequestor], answers: Answers) -> Router {
    let (routes, document) = provisioning::routes().finish();
    let rates = served.rates.clone();
    let routes = nothing_else(routes.with_state(served));
    let routes = routes
        .layer(DefaultBodyLimit::max(config.body_bytes))
        .layer(from_fn_with_state(rates, access::in_turn))
        .layer(from_fn_with_state(Access::new(&config.clients, requestors), access::check));
    // Merged where the check has been put around the rest: the document is for everybody.
    routes
        .merge(document::route(&document::text(&document)))
        .layer(from_fn_with_state(config.request_timeout, in_time))
        .layer(from_fn_with_state(answers, counted))
        .layer(from_fn(uncached))
}

/// Any other path or method gets a problem, too.
fn nothing_else(router: Router) -> Router {
    let no_such = |status, detail| async move { Problem::new(status, "no-such-resource", detail) };
    router
        .fallback(move || no_such(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(move || no_such(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
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

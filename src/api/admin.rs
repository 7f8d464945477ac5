//! The admin listener: `/health`, `/ready` and `/metrics`, for monitors, who see names, counts and limits only; on a
//! loopback address also what operators do about messages that do not arrive (`saf.rs`).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::config::AdminConfig;
use super::error::ApiError;
use super::server::{Connections, HttpServer};
use super::{nothing_else, saf};
use crate::stdx::clock::Clock;
use crate::switch::{Operators, SwitchStatus};

/// The switch takes its picture ten times a second; one as old as this is the picture of a switch that hangs.
const STALE: Duration = Duration::from_secs(5);

/// The media type of OpenMetrics text, which Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin listener looks at.
#[derive(Clone)]
pub struct Watched {
    pub status: SwitchStatus,
    pub operators: Operators,
    pub registry: Arc<Mutex<Registry>>,
    pub clock: Clock,
}

/// The running admin listener.
pub struct AdminServer(HttpServer);

impl AdminServer {
    /// Listens, and serves from a thread of its own.
    ///
    /// # Errors
    /// `Listen`, `Thread`.
    pub fn start(config: &AdminConfig, watched: Watched) -> Result<Self, ApiError> {
        let connections = Connections::new(config.connections, config.connections);
        {
            let mut registry = watched.registry.lock().unwrap_or_else(PoisonError::into_inner);
            registry.register("admin_connections", "Connections that stand", connections.standing.clone());
            registry.register("admin_connections_limit", "How many may", connections.limit.clone());
        }
        let router = Router::new()
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(watched.clone());
        // There is no credential: who is on this machine may.
        let router =
            if config.listen.ip().is_loopback() { router.merge(saf::routes(watched)) } else { router };
        HttpServer::start("admin", config.listen, connections, None, nothing_else(router)).map(Self)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// `GET /health`: 200 while the switch's thread goes round; 503 asks for a restart.
async fn health(State(watched): State<Watched>) -> Response {
    let age = watched.clock.now().moment.since(watched.status.picture().taken);
    let hangs = (age > STALE).then_some("the switch hangs");
    told("healthy", hangs.into_iter().collect())
}

/// `GET /ready`: 200 while new requests are taken on and some issuer can be asked; 503 with the reasons why not.
async fn ready(State(watched): State<Watched>) -> Response {
    let picture = watched.status.picture();
    let reasons = [
        (!picture.takes_requests, "no new request is taken on: it drains, or the journal has no room"),
        (
            !picture.reaches_issuers(),
            "no issuer takes requests: none is signed on, or its connections are set aside",
        ),
    ];
    told("ready", reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect())
}

fn told(name: &str, reasons: Vec<&str>) -> Response {
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ name: reasons.is_empty(), "reasons": reasons }))).into_response()
}

/// `GET /metrics`: all that is registered.
async fn metrics(State(watched): State<Watched>) -> Response {
    let mut page = String::new();
    let encoded = {
        let registry = watched.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut page, &registry)
    };
    match encoded {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

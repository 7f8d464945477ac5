//! `/saf`: stored messages that a person must look at, and what the person decides. What is decided is in the journal
//! before it is acknowledged.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::admin::Watched;
use super::error::Problem;
use crate::stdx::clock::{Clock, Wall};
use crate::switch::{Decision, ListedException, OperatedEnd, OperatorAct};
use crate::vocab::{Amount, ResponseCode, TransactionId};

/// The longest body of a decision, in bytes.
const BODY: usize = 4 << 10;

type Told = Result<Json<Value>, Problem>;
type Members = Result<Json<Value>, JsonRejection>;

pub(super) fn routes(watched: Watched) -> Router {
    Router::new()
        .route("/saf", get(list))
        // Sent again, under the numbers it has.
        .route("/saf/{id}/retry", post(retry))
        // Settled with the issuer in another way.
        .route("/saf/{id}/close", post(close))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(watched)
}

/// `GET /saf`: what a person must look at, the oldest first.
async fn list(State(watched): State<Watched>) -> Told {
    let listed = watched.operators.list().await.map_err(|_| unavailable())?;
    let now = watched.clock.now().wall;
    let exceptions: Vec<Value> = listed.iter().map(|listed| exception(listed, now)).collect();
    Ok(Json(json!({ "exceptions": exceptions })))
}

fn exception(listed: &ListedException, now: Wall) -> Value {
    let exception = &listed.exception;
    let kind = if exception.is_reversal() { "reversal" } else { "advice" };
    json!({
        "id": exception.stored.0,
        "kind": kind,
        "issuer": listed.issuer,
        "account": listed.account.map(|account| account.to_string()),
        "minor": exception.amount.map(Amount::minor),
        "currency": exception.amount.map(|amount| amount.currency().letters()),
        "ageSeconds": now.0.saturating_sub(exception.since.0) / 1_000,
        "attempts": exception.attempts,
        "code": exception.code.as_ref().map(ResponseCode::as_str),
        "standing": exception.standing.name(),
    })
}

/// `POST /saf/{id}/retry` with `who`, and `reason` if there is one.
async fn retry(State(watched): State<Watched>, Path(id): Path<String>, body: Members) -> Told {
    decide(&watched, Decision::Retry, &id, body).await
}

/// `POST /saf/{id}/close` with `who` and `reason`.
async fn close(State(watched): State<Watched>, Path(id): Path<String>, body: Members) -> Told {
    decide(&watched, Decision::Close, &id, body).await
}

async fn decide(watched: &Watched, decision: Decision, id: &str, body: Members) -> Told {
    let act = act(&watched.clock, decision, id, body)?;
    match watched.operators.decide(act).await {
        Ok(OperatedEnd::Done) => Ok(Json(json!({ "done": true }))),
        Ok(OperatedEnd::NotListed) => Err(nothing_there()),
        Ok(OperatedEnd::TakenBack) => Err(taken_back()),
        Err(_) => Err(unavailable()),
    }
}

fn act(clock: &Clock, decision: Decision, id: &str, body: Members) -> Result<OperatorAct, Problem> {
    let id = id.parse().map(TransactionId).map_err(|_| nothing_there())?;
    // The rejection's own words could repeat what was sent.
    let Json(body) = body.map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "body-not-json", "the body must be one JSON object")
    })?;
    let member = |name: &'static str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let who = member("who").ok_or_else(|| Problem::missing("who"))?;
    let reason = match (decision, member("reason")) {
        (_, Some(reason)) => reason,
        (Decision::Retry, None) => "",
        (Decision::Close, None) => return Err(Problem::missing("reason")),
    };
    OperatorAct::new(decision, id, clock.now().wall, who, reason)
        .map_err(|error| Problem::invalid("reason", error))
}

fn nothing_there() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-resource", "no such message is on the exception list")
}

fn taken_back() -> Problem {
    let detail =
        "it was reversed since it was parked: sent now it would charge the card again; close it instead";
    Problem::new(StatusCode::CONFLICT, "taken-back", detail)
}

fn unavailable() -> Problem {
    let detail = "the switch took no call; whether a decision was noted is to be seen in the list";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).recoverable()
}

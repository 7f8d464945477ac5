//! `/v1/tokens`: a handler an operation. PANs and tokens stand in bodies only, never in a path.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use serde_json::Value;

use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::tsp::{Move, MoveRequest, ProvisioningRefusal, Suspender, TokenService};
use crate::vocab::TokenReferenceId;

use super::types::{Members, Why, provision_request, token_json, why};

type Told = Result<Json<Value>, Problem>;

/// `POST /v1/tokens`: a token for a card.
pub(super) async fn provision(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    members: Members,
) -> Result<Response, Problem> {
    let request = provision_request(members, caller.requestor, request_id)?;
    let token = service.provision(request).await?;
    let place = [(header::LOCATION, format!("/v1/tokens/{}", token.reference))];
    Ok((StatusCode::CREATED, place, Json(token_json(&token))).into_response())
}

/// `GET /v1/tokens/{reference}`.
pub(super) async fn get(
    State(service): State<TokenService>,
    caller: Caller,
    Path(reference): Path<String>,
) -> Told {
    let token = service.get(caller.requestor, parsed(&reference)?).await?;
    Ok(Json(token_json(&token)))
}

/// `POST /v1/tokens/{reference}/…`: the operation that asks for one change of status, made of who wants it.
pub(super) fn change(asked: fn(Suspender) -> Move) -> MethodRouter<TokenService> {
    post(
        async move |State(service): State<TokenService>,
                    caller: Caller,
                    Named(request_id): Named,
                    Path(reference): Path<String>,
                    members: Members|
                    -> Told {
            let Why { asker, by } = why(members, caller.requestor, request_id)?;
            let request = MoveRequest { asker, reference: parsed(&reference)?, asked: asked(by) };
            let token = service.change(request).await?;
            Ok(Json(token_json(&token)))
        },
    )
}

/// What is no reference names no token: the answer is the same.
fn parsed(reference: &str) -> Result<TokenReferenceId, Problem> {
    TokenReferenceId::parse(reference).map_err(|_| ProvisioningRefusal::UnknownToken.into())
}

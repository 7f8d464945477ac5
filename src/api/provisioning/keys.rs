//! `/v1/keys`: for which key callers encrypt.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::tsp::TokenService;

/// A set of keys (RFC 7517).
#[derive(Serialize, ToSchema)]
#[schema(as = KeySet)]
pub(super) struct KeysBody {
    /// The one to encrypt for; empty where this provider takes no encrypted card numbers
    keys: Vec<KeyBody>,
}

/// A public key (RFC 7517, RFC 7518 6.2.1).
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
struct KeyBody {
    kty: &'static str,
    crv: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    alg: &'static str,
    /// Names the key in a JWE's header: its thumbprint (RFC 7638)
    #[schema(pattern = "^[A-Za-z0-9_-]{43}$")]
    kid: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{43}$")]
    x: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{43}$")]
    y: String,
}

/// The key for which card numbers may be encrypted. One that it took the place of is good for a while longer.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "keys",
    responses((status = 200, description = "As a JWK set", body = KeysBody))
)]
pub(super) async fn see(State(service): State<TokenService>) -> Json<KeysBody> {
    let keys = service.message_key().map(|key| KeyBody {
        kty: "EC",
        crv: "P-256",
        purpose: "enc",
        alg: "ECDH-ES",
        kid: key.id().to_owned(),
        x: key.x().to_owned(),
        y: key.y().to_owned(),
    });
    Json(KeysBody { keys: keys.into_iter().collect() })
}

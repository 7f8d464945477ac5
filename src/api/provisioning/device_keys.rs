//! `/v1/tokens/{reference}/personalisation` and `/limited-keys`: a token's keys, wrapped for the device that pays.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};

use super::body::{Body, Json as Sent, Member, body};
use super::path::Path;
use super::tokens::{OfToken, parsed};
use super::words::{Words, time};
use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::tsp::{Asker, DevicePoint, KeyKind, KeyRequest, Thumbprint, TokenService, WrappedKey};

/// Members that have one value only.
macro_rules! only {
    ($($word:ident = $value:literal;)*) => {$(
        pub(super) struct $word;

        impl Member for $word {
            fn read(json: Sent) -> Result<Self, Problem> {
                match json.text()?.as_str() {
                    $value => Ok(Self),
                    _ => Err(Problem::wrong(concat!("must be ", $value))),
                }
            }

            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some([$value])).build().into()
            }
        }
    )*};
}

only! {
    KeyType = "EC";
    Curve = "P-256";
    KeyUse = "enc";
    Algorithm = "ECDH-ES";
}

/// 32 bytes in base64url: a coordinate, or a thumbprint.
pub(super) struct Base64(String);

impl Base64 {
    pub(super) fn thumbprint(&self) -> Option<Thumbprint> {
        Thumbprint::parse(self.0.as_bytes()).ok()
    }
}

impl Member for Base64 {
    fn read(json: Sent) -> Result<Self, Problem> {
        let text = json.text()?;
        let fits =
            text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        fits.then(|| Self(text.to_string())).ok_or_else(|| Problem::wrong("must be 32 bytes in base64url"))
    }

    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.pattern(Some("^[A-Za-z0-9_-]{43}$")).build().into()
    }
}

body! {
    /// A device's public key (RFC 7517, RFC 7518 6.2.1), with no other member
    struct PublicKeyBody {
        key_type = "kty": must KeyType,
        curve = "crv": must Curve,
        x = "x": must Base64,
        y = "y": must Base64,
        purpose = "use": may KeyUse,
        algorithm = "alg": may Algorithm,
        /// Its thumbprint (RFC 7638), if it is said
        id = "kid": may Base64,
    }
}

body! {
    /// For which device a key is wanted
    struct KeyWantedBody {
        /// The key that is answered is wrapped for this one; a token's first device stays its only one
        key = "key": must PublicKeyBody,
        /// In the caller's words
        reason = "reason": may Words,
    }
}

impl PublicKeyBody {
    /// # Errors
    /// What is well formed and no key, or named after another one.
    fn point(&self) -> Result<DevicePoint, Problem> {
        let Self { key_type: KeyType, curve: Curve, purpose, algorithm, x, y, id } = self;
        // Each has one value only.
        let (None | Some(KeyUse), None | Some(Algorithm)) = (purpose, algorithm);
        let device = KeyRequest::device_of(&x.0, &y.0);
        let (point, thumbprint) =
            device.ok_or_else(|| Problem::invalid("key", "is no point of P-256").well_formed())?;
        match id {
            Some(id) if id.0 != thumbprint => {
                Err(Problem::invalid("key.kid", "is not this key's thumbprint").well_formed())
            }
            _ => Ok(point),
        }
    }
}

/// A key on its way to its device.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WrappedKey)]
pub(super) struct WrappedKeyBody {
    #[schema(pattern = "^[0-9a-f]{32}$")]
    token_reference: String,
    /// A JWE in compact form, by ECDH-ES and A256GCM, that only the device can open
    wrapped_key: String,
    /// The first value of the device's counter that a limited-use key is good for
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    first_counter: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_counter: Option<u16>,
    /// From when on it is good no more
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    until: Option<String>,
}

impl From<WrappedKey> for WrappedKeyBody {
    fn from(wrapped: WrappedKey) -> Self {
        Self {
            token_reference: wrapped.reference.to_string(),
            wrapped_key: wrapped.message,
            first_counter: wrapped.limited.map(|key| key.range.first),
            last_counter: wrapped.limited.map(|key| key.range.last),
            until: wrapped.limited.and_then(|key| time(key.until)),
        }
    }
}

async fn give(
    service: &TokenService,
    asker: Asker,
    reference: &str,
    body: KeyWantedBody,
    kind: KeyKind,
) -> Result<Response, Problem> {
    let (reference, device) = (parsed(reference)?, body.key.point()?);
    let asker = Asker { reason: Words::said(body.reason), ..asker };
    let wrapped = service.key(KeyRequest { asker, reference, kind, device }).await?;
    Ok((StatusCode::CREATED, Json(WrappedKeyBody::from(wrapped))).into_response())
}

/// The token's card key, for a device with hardware that keeps it. The same device may ask again.
#[utoipa::path(
    post,
    path = "/v1/tokens/{reference}/personalisation",
    tag = "keys",
    params(OfToken),
    request_body = KeyWantedBody,
    responses((status = 201, description = "Given: that is durable", body = WrappedKeyBody))
)]
pub(super) async fn personalise(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Path(reference): Path<String>,
    Body(body): Body<KeyWantedBody>,
) -> Result<Response, Problem> {
    give(&service, caller.asker(request_id), &reference, body, KeyKind::Card).await
}

/// A key for the device's next few payments, good for a while; the next one replenishes it.
#[utoipa::path(
    post,
    path = "/v1/tokens/{reference}/limited-keys",
    tag = "keys",
    params(OfToken),
    request_body = KeyWantedBody,
    responses((status = 201, description = "Given: that is durable", body = WrappedKeyBody))
)]
pub(super) async fn issue_limited(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Path(reference): Path<String>,
    Body(body): Body<KeyWantedBody>,
) -> Result<Response, Problem> {
    give(&service, caller.asker(request_id), &reference, body, KeyKind::Limited).await
}

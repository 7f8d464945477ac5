//! The requestor API's JSON, to and from the field's words. Strict: a member that is not known, stands twice or has
//! another type is refused by name, and never repeated.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::api::error::Problem;
use crate::stdx::clock::Wall;
use crate::tsp::{Actor, Asker, ProvisionRequest, RequestId, Suspender, TokenView};
use crate::vocab::{
    Expiry, Pan, PanSequenceNumber, Par, Text, TokenAssuranceMethod, TokenLocation, TokenRequestorId,
    WordError,
};

/// The members of a body's one object, in order, as long as nobody has asked for them.
#[derive(Debug)]
pub(super) struct Members(Vec<(String, Value)>);

/// More members are no request of ours.
const MEMBERS_MOST: usize = 32;

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                    if members.len() > MEMBERS_MOST {
                        return Err(serde::de::Error::custom("too many members"));
                    }
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Object)
    }
}

impl<S: Send + Sync> FromRequest<S> for Members {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
            let (status, detail) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json");
            return Err(Problem::new(status, "not-json", detail).at("Content-Type"));
        }
        let body = Bytes::from_request(request, state).await.map_err(|refused| match refused.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(status, "body-too-long", "the body is too long")
            }
            _ => Problem::new(StatusCode::BAD_REQUEST, "body-unreadable", "the body did not come whole"),
        })?;
        // serde's own words could repeat what was sent; only the place is told.
        serde_json::from_slice(&body).map_err(|error| {
            let detail = format!("no JSON object: line {}, column {}", error.line(), error.column());
            Problem::new(StatusCode::BAD_REQUEST, "body-not-json", detail)
        })
    }
}

impl Members {
    /// Takes a member that is a string, if it is there.
    fn text(&mut self, name: &'static str) -> Result<Option<Zeroizing<String>>, Problem> {
        let Some(at) = self.0.iter().position(|(member, _)| member == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        if self.0.iter().any(|(member, _)| member == name) {
            return Err(Problem::invalid(name, "stands there twice"));
        }
        match value {
            Value::String(text) => Ok(Some(Zeroizing::new(text))),
            _ => Err(Problem::invalid(name, "must be a string")),
        }
    }

    fn may<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&[u8]) -> Result<T, WordError>,
    ) -> Result<Option<T>, Problem> {
        let text = self.text(name)?;
        text.map(|text| parse(text.as_bytes()).map_err(|error| Problem::invalid(name, error.fault)))
            .transpose()
    }

    fn must<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&[u8]) -> Result<T, WordError>,
    ) -> Result<T, Problem> {
        self.may(name, parse)?.ok_or_else(|| Problem::missing(name))
    }

    /// Sees to it that every member was asked for.
    fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.0.into_iter().next() else { return Ok(()) };
        let problem = Problem::new(
            StatusCode::BAD_REQUEST,
            "unknown-field",
            "the body has a member that is not known here",
        );
        // A name is repeated only if it cannot be an account number.
        let harmless = name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        Err(if harmless { problem.at(name) } else { problem })
    }
}

/// Who asks for a change of status, and on whose behalf.
pub(super) struct Why {
    pub(super) asker: Asker,
    pub(super) by: Suspender,
}

/// The body of every change of status: `reason` and `causedBy`, both optional.
pub(super) fn why(
    mut members: Members,
    requestor: TokenRequestorId,
    request_id: RequestId,
) -> Result<Why, Problem> {
    let reason = members.may("reason", |text| Text::parse("reason", text))?.unwrap_or_default();
    let by = match members.text("causedBy")? {
        None => Suspender::TokenRequestor,
        Some(name) => Suspender::from_name(&name)
            .filter(|by| matches!(by, Suspender::TokenRequestor | Suspender::Cardholder))
            .ok_or_else(|| Problem::invalid("causedBy", "must be token-requestor or cardholder"))?,
    };
    members.finish()?;
    let actor = if by == Suspender::Cardholder { Actor::Cardholder } else { Actor::TokenRequestor };
    Ok(Why { asker: Asker { actor, requestor, request_id, reason }, by })
}

/// The body of `POST /v1/tokens`.
pub(super) fn provision_request(
    mut members: Members,
    requestor: TokenRequestorId,
    request_id: RequestId,
) -> Result<ProvisionRequest, Problem> {
    let request = ProvisionRequest {
        pan: members.must("pan", Pan::parse)?,
        pan_expiry: members.must("panExpiry", Expiry::parse)?,
        sequence: members.may("panSequenceNumber", PanSequenceNumber::parse)?,
        assurance: members.may("assuranceMethod", TokenAssuranceMethod::parse)?,
        location: members.may("tokenLocation", TokenLocation::parse)?,
        par: members.may("par", Par::parse)?,
        asker: Asker {
            actor: Actor::TokenRequestor,
            requestor,
            request_id,
            reason: members.may("reason", |text| Text::parse("reason", text))?.unwrap_or_default(),
        },
    };
    members.finish()?;
    Ok(request)
}

/// What a requestor is told of its token: the token itself is its own; of the card the last four digits.
pub(super) fn token_json(token: &TokenView) -> Value {
    let lifecycle = token.lifecycle;
    json!({
        "tokenReference": token.reference.to_string(),
        "token": token.token.as_str(),
        "tokenExpiry": text(&token.expiry.digits()),
        "tokenRequestorId": token.requestor.as_str(),
        "tokenLocation": format!("{:02}", token.location.code()),
        "assuranceMethod": text(&token.assurance.digits()),
        "par": token.par.map(|par| par.as_str().to_owned()),
        "panLastFour": token.last4.as_str(),
        "status": lifecycle.status.name(),
        "suspendedBy": lifecycle.suspenders.iter().map(Suspender::name).collect::<Vec<_>>(),
        "version": lifecycle.version,
        "issuedAt": time(token.issued_at),
        "changedAt": time(token.changed_at),
    })
}

fn text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

/// RFC 3339, in UTC.
fn time(wall: Wall) -> Option<String> {
    let milliseconds = i64::try_from(wall.0).ok()?;
    jiff::Timestamp::from_millisecond(milliseconds).ok().map(|time| time.to_string())
}

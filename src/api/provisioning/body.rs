//! What stands in a request's body. `body!` declares it once, and from that it is both read and described. Strict: a
//! member that is not known, stands twice or has another type is refused by name, and what was sent is never repeated.

use std::sync::atomic::Ordering;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use utoipa::openapi::{RefOr, Schema};
use zeroize::Zeroizing;

use crate::api::StillComing;
use crate::api::error::Problem;

/// More members are no object of ours.
const MEMBERS_MOST: usize = 32;
/// More items are no list of ours.
const ITEMS_MOST: usize = 256;

/// JSON as it was sent: members in their order, also those that stand twice; texts are wiped when let go.
pub(super) enum Json {
    /// Null, or a number that is negative, not whole or too large: what stands in no request.
    Nothing,
    Bool(bool),
    Number(u64),
    Text(Zeroizing<String>),
    List(Vec<Self>),
    Object(Members),
}

/// The members of one object that nobody has asked for yet.
pub(super) struct Members(Vec<(String, Json)>);

/// What can stand in a body.
pub(super) trait Member: Sized {
    /// # Errors
    /// `Problem::wrong`, or what a member of it is told, `within` which it stands.
    fn read(json: Json) -> Result<Self, Problem>;

    /// How the document describes it.
    fn schema() -> RefOr<Schema>;
}

/// A request's body, read.
pub(super) struct Body<T>(pub(super) T);

impl<'de> Deserialize<'de> for Json {
    // serde_json itself refuses what is nested deeper than 128.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Nothing)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Number(value))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
                Ok(Json::Nothing)
            }

            /// `7.0` is a whole number, too (JSON Schema 2020-12 6.1.1), as far as a float can count.
            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                let whole = value.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(&value);
                let number = format!("{value:.0}").parse().ok().filter(|_| whole);
                Ok(number.map_or(Json::Nothing, Json::Number))
            }

            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Text(Zeroizing::new(value.to_owned())))
            }

            fn visit_string<E>(self, value: String) -> Result<Json, E> {
                Ok(Json::Text(Zeroizing::new(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                    if items.len() > ITEMS_MOST {
                        return Err(Error::custom("too many items"));
                    }
                }
                Ok(Json::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                    if members.len() > MEMBERS_MOST {
                        return Err(Error::custom("too many members"));
                    }
                }
                Ok(Json::Object(Members(members)))
            }
        }
        from.deserialize_any(Any)
    }
}

impl Json {
    /// # Errors
    /// `Problem::wrong` for anything else.
    pub(super) fn text(self) -> Result<Zeroizing<String>, Problem> {
        if let Self::Text(text) = self { Ok(text) } else { Err(Problem::wrong("must be a string")) }
    }

    /// # Errors
    /// As `text`.
    pub(super) fn object(self) -> Result<Members, Problem> {
        if let Self::Object(members) = self { Ok(members) } else { Err(Problem::wrong("must be an object")) }
    }
}

impl Members {
    /// Takes a member, if it is there.
    pub(super) fn may<T: Member>(&mut self, name: &'static str) -> Result<Option<T>, Problem> {
        let Some(at) = self.0.iter().position(|(member, _)| member == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        if self.0.iter().any(|(member, _)| member == name) {
            return Err(Problem::invalid(name, "stands there twice"));
        }
        T::read(value).map(Some).map_err(|problem| problem.within(name))
    }

    /// Takes a member, which must be there.
    pub(super) fn must<T: Member>(&mut self, name: &'static str) -> Result<T, Problem> {
        self.may(name)?.ok_or_else(|| Problem::missing(name))
    }

    /// Sees to it that every member was asked for.
    pub(super) fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.0.into_iter().next() else { return Ok(()) };
        let problem = Problem::new(StatusCode::BAD_REQUEST, "unknown-field", "is not known here");
        // A name is repeated only if it cannot be an account number.
        let harmless = name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        Err(if harmless { problem.at(name) } else { problem })
    }
}

impl<S: Send + Sync, T: Member> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
            let (status, detail) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json");
            return Err(Problem::new(status, "not-json", detail).at("Content-Type"));
        }
        let coming = request.extensions().get::<StillComing>().cloned().unwrap_or_default();
        coming.0.store(true, Ordering::Relaxed);
        let body = Bytes::from_request(request, state).await;
        coming.0.store(false, Ordering::Relaxed);
        let body = body.map_err(|refused| match refused.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(status, "body-too-long", "the body is too long")
            }
            _ => Problem::new(StatusCode::BAD_REQUEST, "body-unreadable", "the body did not come whole"),
        })?;
        let not_json = |detail| Problem::new(StatusCode::BAD_REQUEST, "body-not-json", detail);
        // serde's own words could repeat what was sent; only the place is told.
        let json: Json = serde_json::from_slice(&body).map_err(|error| {
            not_json(format!("no JSON object: line {}, column {}", error.line(), error.column()))
        })?;
        if !matches!(json, Json::Object(_)) {
            return Err(not_json("no JSON object".to_owned()));
        }
        T::read(json).map(Self)
    }
}

/// Declares an object of a request: its members in order, each with its name in JSON, whether it `must` or `may` be
/// there, and its type, a `Member`.
macro_rules! body {
    (@held must $type:ty) => { $type };
    (@held may $type:ty) => { Option<$type> };
    (@needed must $object:expr, $name:literal) => { $object.required($name) };
    (@needed may $object:expr, $name:literal) => { $object };
    (
        $(#[doc = $about:literal])*
        struct $body:ident { $($(#[doc = $doc:literal])* $field:ident = $name:literal: $need:ident $type:ty,)* }
    ) => {
        $(#[doc = $about])*
        pub(super) struct $body { $($(#[doc = $doc])* pub(super) $field: body!(@held $need $type),)* }

        impl $crate::api::provisioning::body::Member for $body {
            fn read(json: $crate::api::provisioning::body::Json) -> Result<Self, $crate::api::error::Problem> {
                let mut members = json.object()?;
                let body = Self { $($field: members.$need($name)?,)* };
                members.finish()?;
                Ok(body)
            }

            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let object = utoipa::openapi::ObjectBuilder::new().description(Some(concat!($($about),*).trim()));
                $(
                    let about = concat!($($doc),*).trim();
                    let schema = $crate::api::provisioning::words::about(
                        <$type as $crate::api::provisioning::body::Member>::schema(), about);
                    let object = body!(@needed $need object.property($name, schema), $name);
                )*
                object.additional_properties(Some(utoipa::openapi::schema::AdditionalProperties::FreeForm(false)))
                    .build().into()
            }
        }

        impl utoipa::PartialSchema for $body {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                <Self as $crate::api::provisioning::body::Member>::schema()
            }
        }

        impl utoipa::ToSchema for $body {}
    };
}
pub(super) use body;

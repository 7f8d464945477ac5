//! The field's words as they stand in JSON: how each is read, and how the document describes it.

use axum::http::StatusCode;
use utoipa::openapi::{ArrayBuilder, KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use zeroize::Zeroizing;

use super::body::{Json, Member};
use crate::api::error::Problem;
use crate::stdx::clock::Wall;
use crate::tsp::{CardEvent, ConsentId, DisclosurePurpose, Reason, StepUpCode, Suspender, TokenService};
use crate::vocab::{
    Country, Currency, EntryMode, Expiry, Initiator, MerchantCategory, MerchantId, Pan, PanSequenceNumber,
    PanSource, Par, Recommendation, Text, Token, TokenAssuranceMethod, TokenDomain, TokenLocation,
    TokenReferenceId, TokenRequestorId, TrustScore, WordFault, may_hold_account,
};

/// Words that are strings: what they are parsed by, a pattern that holds for every one, and what they are.
macro_rules! words {
    ($($word:ty, $parse:expr, $pattern:literal, $about:literal;)*) => {$(
        impl Member for $word {
            fn read(json: Json) -> Result<Self, Problem> {
                let parse: fn(&[u8]) -> Result<Self, crate::vocab::WordError> = $parse;
                parse(json.text()?.as_bytes()).map_err(|error| Problem::wrong(error.fault))
            }

            fn schema() -> RefOr<Schema> {
                text($pattern).description(Some($about)).build().into()
            }
        }
    )*};
}

words! {
    Expiry, Self::parse, "^[0-9]{2}(0[1-9]|1[0-2])$", "YYMM";
    PanSequenceNumber, Self::parse, "^0[0-9]{2}$", "Tells cards with one number apart";
    TokenAssuranceMethod, Self::stated, "^(0[0-3]|1[0-4]|[2-8][0-9])$", "How the cardholder was identified (EMVCo 6)";
    TokenLocation, Self::parse, "^0[0-7]$", "Where the token is kept (EMVCo table 5.1)";
    Par, Self::parse, "^[A-Z0-9]{29}$", "Payment account reference";
    StepUpCode, Self::parse, "^[0-9]{6}$", "A code as the cardholder received it";
    Token, Self::parse, "^[0-9]{12,19}$", "A token";
    TokenRequestorId, Self::parse, "^[0-9]{11}$", "A token requestor's id";
    EntryMode, Self::parse, "^[0-9]{2}$", "How a card is entered, the first two digits of DE 22";
    MerchantCategory, Self::parse, "^[0-9]{4}$", "Merchant category code (DE 18)";
    MerchantId, Self::parse, "^[ -~]{1,15}$", "A merchant (DE 42)";
    ConsentId, Self::parse, "^[0-9a-f]{32}$", "What another requestor consented by";
    Country, Self::parse, "^[0-9]{3}$", "A country, ISO 3166-1 in digits";
}

/// Words that are one of a few.
macro_rules! choices {
    ($($word:ty;)*) => {$(
        impl Member for $word {
            fn read(json: Json) -> Result<Self, Problem> {
                Self::parse(json.text()?.as_bytes()).map_err(|error| Problem::wrong(error.fault))
            }

            fn schema() -> RefOr<Schema> {
                let names = Self::ALL.iter().map(|it| it.name());
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build().into()
            }
        }
    )*};
}

choices! {
    Recommendation;
    PanSource;
    TokenDomain;
    Initiator;
}

impl Member for TrustScore {
    fn read(json: Json) -> Result<Self, Problem> {
        let score = u64::read(json)?;
        let score = u8::try_from(score).ok().and_then(Self::new);
        score.ok_or_else(|| Problem::wrong("must be 1 to 5"))
    }

    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(5)).build().into()
    }
}

impl<const N: usize> Member for Text<N> {
    fn read(json: Json) -> Result<Self, Problem> {
        Self::parse("text", json.text()?.as_bytes()).map_err(|error| Problem::wrong(error.fault))
    }

    fn schema() -> RefOr<Schema> {
        text("^[ -~]*$").max_length(Some(N)).build().into()
    }
}

/// Where somebody is called, before it is known whether one may be called there.
pub(super) struct Address(pub(super) Text<128>);

impl Member for Address {
    fn read(json: Json) -> Result<Self, Problem> {
        let text: Text<128> = Member::read(json)?;
        let rest = ["https://", "http://"].iter().find_map(|scheme| text.as_str().strip_prefix(scheme));
        if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(' ')) {
            return Ok(Self(text));
        }
        Err(Problem::wrong("must be a URL such as \"https://wallet.example/tokens\""))
    }

    fn schema() -> RefOr<Schema> {
        text("^https?://[!-~]+$").max_length(Some(128)).build().into()
    }
}

impl Member for Currency {
    fn read(json: Json) -> Result<Self, Problem> {
        Self::parse(json.text()?.as_bytes()).map_err(|error| match error.fault {
            // Three digits, and no currency has them.
            WordFault::OutOfRange => Problem::wrong(error.fault).well_formed(),
            other => Problem::wrong(other),
        })
    }

    fn schema() -> RefOr<Schema> {
        text("^[0-9]{3}$").description(Some("A currency, ISO 4217 in digits")).build().into()
    }
}

/// A caller's own words. They stay in the journal, so they must not hold a card's number.
pub(super) struct Words(pub(super) Text<32>);

impl Words {
    /// What was said, if anything was.
    pub(super) fn said(words: Option<Self>) -> Text<32> {
        words.map_or_else(Text::default, |Self(text)| text)
    }
}

impl Member for Words {
    fn read(json: Json) -> Result<Self, Problem> {
        let text = json.text()?;
        if may_hold_account(&text) {
            let detail = "may hold an account number, which would stay in the journal";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "account-number-in-words", detail));
        }
        Text::parse("text", text.as_bytes()).map(Self).map_err(|error| Problem::wrong(error.fault))
    }

    fn schema() -> RefOr<Schema> {
        Text::<32>::schema()
    }
}

impl Member for bool {
    fn read(json: Json) -> Result<Self, Problem> {
        if let Json::Bool(value) = json { Ok(value) } else { Err(Problem::wrong("must be true or false")) }
    }

    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Boolean).build().into()
    }
}

/// Up to here every implementation of JSON counts alike (RFC 8259, 6).
const NUMBER_MOST: u64 = (1 << 53) - 1;

impl Member for u64 {
    fn read(json: Json) -> Result<Self, Problem> {
        match json {
            Json::Number(value) if value <= NUMBER_MOST => Ok(value),
            _ => Err(Problem::wrong("must be a whole number")),
        }
    }

    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        object.maximum(Some(NUMBER_MOST)).build().into()
    }
}

macro_rules! small_numbers {
    ($($number:ty),+) => {$(
        impl Member for $number {
            fn read(json: Json) -> Result<Self, Problem> {
                let fault = |_| Problem::wrong("is too large");
                u64::read(json).and_then(|value| Self::try_from(value).map_err(fault))
            }

            fn schema() -> RefOr<Schema> {
                let object = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
                object.maximum(Some(Self::MAX)).build().into()
            }
        }
    )+};
}

small_numbers!(u16, u32);

/// A time before 1970 counts as its first moment: nothing here is as old.
impl Member for Wall {
    fn read(json: Json) -> Result<Self, Problem> {
        let fault = |_| Problem::wrong("must be a time as RFC 3339 writes it");
        let time: jiff::Timestamp = json.text()?.parse().map_err(fault)?;
        Ok(Self(u64::try_from(time.as_millisecond()).unwrap_or_default()))
    }

    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build().into()
    }
}

impl<T: Member> Member for Vec<T> {
    fn read(json: Json) -> Result<Self, Problem> {
        let Json::List(items) = json else { return Err(Problem::wrong("must be a list")) };
        let read = |(at, item)| T::read(item).map_err(|problem: Problem| problem.within(&format!("[{at}]")));
        items.into_iter().enumerate().map(read).collect()
    }

    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new().items(T::schema()).build().into()
    }
}

/// On whose behalf a requestor changes a token's status.
pub(super) struct CausedBy(pub(super) Suspender);

const CAUSES: [Suspender; 3] = [Suspender::TokenRequestor, Suspender::Cardholder, Suspender::MobilePinLocked];

impl Member for CausedBy {
    fn read(json: Json) -> Result<Self, Problem> {
        let by = Suspender::from_name(&json.text()?).filter(|by| CAUSES.contains(by));
        by.map(Self).ok_or_else(|| Problem::wrong("must be token-requestor, cardholder or mobile-pin-locked"))
    }

    fn schema() -> RefOr<Schema> {
        one_of(CAUSES.into_iter().map(Suspender::name))
    }
}

impl Member for TokenReferenceId {
    fn read(json: Json) -> Result<Self, Problem> {
        Self::parse(&json.text()?).map_err(|error| Problem::wrong(error.fault))
    }

    fn schema() -> RefOr<Schema> {
        text("^[0-9a-f]{32}$").description(Some("A token's reference")).build().into()
    }
}

impl Member for CardEvent {
    fn read(json: Json) -> Result<Self, Problem> {
        Self::from_name(&json.text()?).ok_or_else(|| Problem::wrong("must be an event that is known here"))
    }

    fn schema() -> RefOr<Schema> {
        one_of(Self::ALL.iter().map(|event| event.name()))
    }
}

impl Member for DisclosurePurpose {
    fn read(json: Json) -> Result<Self, Problem> {
        Self::from_name(&json.text()?).ok_or_else(|| Problem::wrong("must be a purpose that is known here"))
    }

    fn schema() -> RefOr<Schema> {
        one_of(Self::ALL.iter().map(|purpose| purpose.name()))
    }
}

impl Member for Reason {
    fn read(json: Json) -> Result<Self, Problem> {
        Self::from_name(&json.text()?)
            .ok_or_else(|| Problem::wrong("must be a reason code that is known here"))
    }

    fn schema() -> RefOr<Schema> {
        one_of(Self::ALL.iter().map(|reason| reason.name()))
    }
}

pub(super) fn one_of(names: impl Iterator<Item = &'static str>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build().into()
}

fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

/// A schema, described in words of its place if there are any.
pub(super) fn about(schema: RefOr<Schema>, words: &str) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut object)) if !words.is_empty() => {
            object.description = Some(words.to_owned());
            object.into()
        }
        RefOr::T(Schema::Array(mut array)) if !words.is_empty() => {
            array.description = Some(words.to_owned());
            array.into()
        }
        other => other,
    }
}

/// A card's number as it was sent: in the clear, or encrypted for us.
pub(super) enum SentPan {
    Clear(Pan),
    /// A JWE, which has dots where a number has none.
    Encrypted(Zeroizing<String>),
}

impl SentPan {
    /// The number, which stood in `field`.
    pub(super) fn read_by(self, service: &TokenService, field: &str) -> Result<Pan, Problem> {
        match self {
            Self::Clear(pan) => Ok(pan),
            Self::Encrypted(message) => {
                service.encrypted_pan(&message).map_err(|refusal| Problem::from(refusal).at(field))
            }
        }
    }
}

impl Member for SentPan {
    fn read(json: Json) -> Result<Self, Problem> {
        let text = json.text()?;
        if text.contains('.') {
            return Ok(Self::Encrypted(text));
        }
        Pan::parse(text.as_bytes()).map(Self::Clear).map_err(|error| Problem::wrong(error.fault))
    }

    fn schema() -> RefOr<Schema> {
        let jwe = "[A-Za-z0-9_-]+[.][.][A-Za-z0-9_-]{16}[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]{22}";
        text(&format!("^([0-9]{{12,19}}|{jwe})$")).description(Some("A card's number")).build().into()
    }
}

/// Digits that a word gives as ASCII.
pub(in crate::api) fn digits(digits: &[u8]) -> String {
    String::from_utf8_lossy(digits).into_owned()
}

/// RFC 3339, in UTC.
pub(in crate::api) fn time(wall: Wall) -> Option<String> {
    let milliseconds = i64::try_from(wall.0).ok()?;
    jiff::Timestamp::from_millisecond(milliseconds).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_year_are_read_and_nothing_else() {
        for (text, millis) in [
            ("2026-11-23T03:30:00Z", Some(1_795_404_600_000)),
            ("2026-11-23T03:30:00.5+01:00", Some(1_795_401_000_500)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("0009-03-27T13:44:36.69Z", Some(0)),
            ("2026-11-23", None),
            ("yesterday", None),
        ] {
            let read = Wall::read(Json::Text(text.to_owned().into()));
            assert_eq!(read.ok().map(|wall| wall.0), millis, "{text}");
        }
    }
}

//! `Provisioner`: a token requestor's calls of the provisioning API, as values. Whoever has a socket carries
//! them.

use serde_json::{Map, Value, json};

use super::cards::{PresentedCard, TestCard};
use crate::crypto::MessageKey;
use crate::stdx::secret::Secret;
use crate::vocab::{
    Amount, Expiry, Initiator, LinkId, MerchantId, Par, RemoteCryptogram, Token, TokenReferenceId,
    TokenRequestorId,
};

/// How an HTTP call changes what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiMethod {
    Get,
    Post,
}

/// One call. `Debug` shows neither the credential nor the body, which holds a PAN.
pub struct ApiCall {
    pub method: ApiMethod,
    pub path: String,
    /// Names in lower case. The credential is among them.
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Value>,
}

impl std::fmt::Debug for ApiCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiCall({:?} {})", self.method, self.path)
    }
}

/// What an answer says of a token.
#[derive(Debug, Clone)]
pub struct ProvisionedToken {
    pub reference: TokenReferenceId,
    pub token: Option<Token>,
    pub expiry: Option<Expiry>,
    pub par: Option<Par>,
    pub status: String,
}

/// Why an answer is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvisioningFailure {
    /// The service said no: status, and code and detail of its problem document, which names the field.
    #[error("refused with {status}: {problem}")]
    Refused { status: u16, problem: String },
    /// A member is not there, or not what it should be.
    #[error("the answer's `{0}` is not there or not understood")]
    Member(&'static str),
}

/// A token requestor: its id, and the credential that proves it.
pub struct Provisioner {
    requestor: TokenRequestorId,
    credential: Secret<String>,
}

impl Provisioner {
    #[must_use]
    pub fn new(requestor: TokenRequestorId, credential: Secret<String>) -> Self {
        Self { requestor, credential }
    }

    #[must_use]
    pub fn requestor(&self) -> TokenRequestorId {
        self.requestor
    }

    /// Asks for a token for a card. The same `request_id` gets the same token, however often it is asked.
    #[must_use]
    pub fn provision(&self, card: &TestCard, request_id: &str) -> ApiCall {
        let mut body = Map::new();
        body.insert("pan".to_owned(), text(card.pan.expose_digits()));
        body.insert("panExpiry".to_owned(), text(&card.expiry.digits()));
        if let Some(sequence) = card.sequence {
            body.insert("panSequenceNumber".to_owned(), text(&sequence.digits()));
        }
        self.post("/v1/tokens".to_owned(), request_id, Value::Object(body))
    }

    /// Asks how a token stands.
    #[must_use]
    pub fn get(&self, reference: TokenReferenceId) -> ApiCall {
        let headers = vec![self.authorization()];
        ApiCall { method: ApiMethod::Get, path: format!("/v1/tokens/{reference}"), headers, body: None }
    }

    #[must_use]
    pub fn suspend(&self, reference: TokenReferenceId, request_id: &str, reason: &str) -> ApiCall {
        self.change(reference, "suspend", request_id, reason)
    }

    #[must_use]
    pub fn resume(&self, reference: TokenReferenceId, request_id: &str, reason: &str) -> ApiCall {
        self.change(reference, "resume", request_id, reason)
    }

    /// Ends a token for good.
    #[must_use]
    pub fn unlink(&self, reference: TokenReferenceId, request_id: &str, reason: &str) -> ApiCall {
        self.change(reference, "unlink", request_id, reason)
    }

    /// Reads an answer of any of these calls.
    ///
    /// # Errors
    /// `Refused` for a status other than 2xx, `Member` for a body that lacks what it should have.
    pub fn read(&self, status: u16, body: &Value) -> Result<ProvisionedToken, ProvisioningFailure> {
        refused(status, body)?;
        let member = |name: &'static str| body.get(name).and_then(Value::as_str);
        let wrong = ProvisioningFailure::Member;
        let reference = member("tokenReference").and_then(|text| TokenReferenceId::parse(text).ok());
        Ok(ProvisionedToken {
            reference: reference.ok_or(wrong("tokenReference"))?,
            token: optional(body, "token", |text| Token::parse(text).ok())?,
            expiry: optional(body, "tokenExpiry", |text| Expiry::parse(text).ok())?,
            par: optional(body, "par", |text| Par::parse(text).ok())?,
            status: member("status").ok_or(wrong("status"))?.to_owned(),
        })
    }

    /// Has a code sent to the cardholder.
    #[must_use]
    pub fn send_code(&self, reference: TokenReferenceId, request_id: &str, contact: u8) -> ApiCall {
        self.post(format!("/v1/tokens/{reference}/codes"), request_id, json!({ "contact": contact }))
    }

    /// Brings back the code that the cardholder received.
    #[must_use]
    pub fn prove(&self, reference: TokenReferenceId, request_id: &str, code: &str) -> ApiCall {
        self.post(format!("/v1/tokens/{reference}/proof"), request_id, json!({ "code": code }))
    }

    /// Asks for a cryptogram for one payment at this merchant of an acquirer's link, initiated by its customer or by
    /// it.
    #[must_use]
    pub fn cryptogram(
        &self,
        reference: TokenReferenceId,
        request_id: &str,
        (acquirer, merchant): (LinkId, MerchantId),
        amount: Amount,
        initiator: Initiator,
    ) -> ApiCall {
        let body = json!({
            "initiator": initiator.name(),
            "merchant": { "acquirer": acquirer.0, "id": text(merchant.as_bytes()) },
            "amount": { "minor": amount.minor(), "currency": text(&amount.currency().digits()) },
        });
        self.post(format!("/v1/tokens/{reference}/cryptograms"), request_id, body)
    }

    /// Reads the answer to that.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_cryptogram(
        &self,
        status: u16,
        body: &Value,
    ) -> Result<RemoteCryptogram, ProvisioningFailure> {
        refused(status, body)?;
        let text = body.get("cryptogram").and_then(Value::as_str).unwrap_or_default();
        RemoteCryptogram::parse(text.as_bytes()).map_err(|_| ProvisioningFailure::Member("cryptogram"))
    }

    /// Asks for the token's card key, for a device that keeps it.
    #[must_use]
    pub fn personalise(&self, reference: TokenReferenceId, request_id: &str, device: &MessageKey) -> ApiCall {
        self.post(format!("/v1/tokens/{reference}/personalisation"), request_id, wanted_for(device))
    }

    /// Asks for a key for the device's next payments.
    #[must_use]
    pub fn limited_key(&self, reference: TokenReferenceId, request_id: &str, device: &MessageKey) -> ApiCall {
        self.post(format!("/v1/tokens/{reference}/limited-keys"), request_id, wanted_for(device))
    }

    /// Reads the answer to either: a message that the device can open.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_key(&self, status: u16, body: &Value) -> Result<String, ProvisioningFailure> {
        refused(status, body)?;
        let wrapped = body.get("wrappedKey").and_then(Value::as_str);
        wrapped.map(str::to_owned).ok_or(ProvisioningFailure::Member("wrappedKey"))
    }

    /// The device is lost: its cardholder wants no more payments.
    #[must_use]
    pub fn lose(&self, reference: TokenReferenceId, request_id: &str) -> ApiCall {
        let body = json!({ "causedBy": "cardholder", "reasonCode": "device-lost" });
        self.post(format!("/v1/tokens/{reference}/suspend"), request_id, body)
    }

    /// It was found again.
    #[must_use]
    pub fn find(&self, reference: TokenReferenceId, request_id: &str) -> ApiCall {
        let body = json!({ "causedBy": "cardholder", "reasonCode": "device-found" });
        self.post(format!("/v1/tokens/{reference}/resume"), request_id, body)
    }

    fn change(&self, reference: TokenReferenceId, verb: &str, request_id: &str, reason: &str) -> ApiCall {
        self.post(format!("/v1/tokens/{reference}/{verb}"), request_id, json!({ "reason": reason }))
    }

    fn post(&self, path: String, request_id: &str, body: Value) -> ApiCall {
        let headers = vec![self.authorization(), ("x-request-id", request_id.to_owned())];
        ApiCall { method: ApiMethod::Post, path, headers, body: Some(body) }
    }

    fn authorization(&self) -> (&'static str, String) {
        ("authorization", format!("Bearer {}", self.credential.expose_secret()))
    }
}

impl ProvisionedToken {
    /// The token as a terminal meets it, with the card that must never be seen beside it.
    #[must_use]
    pub fn presented(&self, card: &TestCard, requestor: TokenRequestorId) -> Option<PresentedCard> {
        Some(PresentedCard::token(self.token?, self.expiry, Some(requestor), Some(card.pan.clone())))
    }
}

/// As a JWK (RFC 7517).
fn wanted_for(device: &MessageKey) -> Value {
    json!({ "key": { "kty": "EC", "crv": "P-256", "x": device.x(), "y": device.y() } })
}

/// What the service said no with.
fn refused(status: u16, body: &Value) -> Result<(), ProvisioningFailure> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let part = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut problem = [part("code"), part("detail")].map(str::to_owned).to_vec();
    problem.retain(|part| !part.is_empty());
    let problem = problem.join(": ");
    Err(ProvisioningFailure::Refused { status, problem })
}

/// A member that may be missing or null, yet must be understood when it is there.
fn optional<T>(
    body: &Value,
    name: &'static str,
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, ProvisioningFailure> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let parsed = value.as_str().and_then(|text| parse(text.as_bytes()));
            parsed.map(Some).ok_or(ProvisioningFailure::Member(name))
        }
    }
}

fn text(ascii: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(ascii).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::Pan;

    const REFERENCE: &str = "00112233445566778899aabbccddeeff";

    fn provisioner() -> Provisioner {
        let requestor = TokenRequestorId::parse(b"00000000001").unwrap();
        Provisioner::new(requestor, Secret::new("open-sesame".to_owned()))
    }

    fn card() -> TestCard {
        let pan = Pan::parse(b"4761739001010119").unwrap();
        TestCard { pan, expiry: Expiry::parse(b"2812").unwrap(), sequence: None }
    }

    #[test]
    fn calls_are_what_the_api_takes() {
        let reference = TokenReferenceId::parse(REFERENCE).unwrap();
        let provisioner = provisioner();
        let call = provisioner.provision(&card(), "req-1");
        assert_eq!((call.method, call.path.as_str()), (ApiMethod::Post, "/v1/tokens"));
        assert_eq!(call.body, Some(json!({ "pan": "4761739001010119", "panExpiry": "2812" })));
        assert!(call.headers.contains(&("authorization", "Bearer open-sesame".to_owned())));
        assert!(call.headers.contains(&("x-request-id", "req-1".to_owned())));
        let call = provisioner.suspend(reference, "req-2", "lost phone");
        assert_eq!(call.path, format!("/v1/tokens/{REFERENCE}/suspend"));
        assert_eq!(provisioner.get(reference).body, None);
        assert!(!format!("{:?}", provisioner.provision(&card(), "r")).contains("4761739001010119"));
    }

    #[test]
    fn answers_are_read_or_named() {
        let good = json!({ "tokenReference": REFERENCE, "token": "9000000000000001", "tokenExpiry": "2910",
            "par": null, "status": "active" });
        let token = provisioner().read(201, &good).unwrap();
        assert_eq!((token.status.as_str(), token.par), ("active", None));
        let presented = token.presented(&card(), provisioner().requestor()).unwrap();
        assert_eq!(presented.number.digits(), b"9000000000000001");
        for (status, body, failure) in [
            (
                409,
                json!({ "title": "Conflict", "code": "held", "detail": "token is suspended" }),
                ProvisioningFailure::Refused { status: 409, problem: "held: token is suspended".into() },
            ),
            (
                422,
                json!({ "code": "card-not-valid", "field": "pan", "detail": "pan: the card number is not valid" }),
                ProvisioningFailure::Refused {
                    status: 422,
                    problem: "card-not-valid: pan: the card number is not valid".into(),
                },
            ),
            (200, json!({ "status": "active" }), ProvisioningFailure::Member("tokenReference")),
            (
                200,
                json!({ "tokenReference": REFERENCE, "token": 5, "status": "active" }),
                ProvisioningFailure::Member("token"),
            ),
        ] {
            assert_eq!(provisioner().read(status, &body).unwrap_err(), failure);
        }
    }
}

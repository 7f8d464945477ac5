//! Who is calling, in which role, for whom, and under which name for its request. Whoever is not known gets nothing
//! at all, and whoever is known gets what its role and its grants allow.

use std::sync::{Arc, Mutex};

use axum::Extension;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::stdx::lock::Lock;
use crate::tsp::{
    Actor, Asker, CredentialDigest, Principal, ProvisioningRefusal, RequestId, TokenRequestor, TokenService,
};
use crate::vocab::{Text, TokenRequestorId, holds_account};

use super::config::{Client, Shown};
use super::error::Problem;
use super::grants::{Operation, Role};
use super::rates::Rates;

/// The header with the caller's own name for a request that changes something: the same name, the same answer.
pub(super) const REQUEST_ID: &str = "X-Request-Id";

/// The header in which a client that acts for several token requestors says for which.
pub(super) const REQUESTOR: &str = "X-Token-Requestor-Id";

/// What the other end of a TLS connection vouched for: the names of its certificate.
#[derive(Debug, Clone)]
pub(super) struct Peer(pub(super) Arc<[String]>);

/// All clients. Clones share them.
#[derive(Clone)]
pub(super) struct Access {
    clients: Arc<Mutex<Clients>>,
}

type Clients = Arc<[Arc<Client>]>;

/// Who calls, for whom.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    client: Arc<Client>,
    /// For a wallet the token requestor that this request is for; what it may know of follows from that.
    pub(super) principal: Principal,
}

impl Access {
    pub(super) fn new(clients: &[Client], requestors: &[TokenRequestor]) -> Self {
        Self { clients: Arc::new(Lock::new(Self::all(clients, requestors))) }
    }

    /// From the next request on these may call, and nobody else.
    pub(super) fn admit(&self, clients: &[Client], requestors: &[TokenRequestor]) {
        self.clients.with(|admitted| *admitted = Self::all(clients, requestors));
    }

    /// A token requestor with a credential is a client that acts for itself alone.
    fn all(clients: &[Client], requestors: &[TokenRequestor]) -> Clients {
        let own = requestors.iter().filter_map(|requestor| {
            Some(Client {
                name: requestor.name,
                shows: Shown::Credential(CredentialDigest(requestor.credential?)),
                role: Role::Wallet,
                requestors: vec![requestor.id],
                issuer: Text::default(),
                operations: None,
            })
        });
        clients.iter().cloned().chain(own).map(Arc::new).collect()
    }

    fn client(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<Arc<Client>> {
        match extensions.get::<Peer>() {
            Some(peer) => self.by_names(&peer.0),
            None => self.by_credential(headers),
        }
    }

    fn admitted(&self) -> Clients {
        self.clients.with(|clients| Arc::clone(clients))
    }

    /// The one client of a certificate. One that names two clients is nobody's.
    fn by_names(&self, names: &[String]) -> Option<Arc<Client>> {
        let is_named = |client: &&Arc<Client>| match &client.shows {
            Shown::Certificate(name) => names.contains(name),
            Shown::Credential(_) => false,
        };
        let clients = self.admitted();
        let mut found = clients.iter().filter(is_named);
        found.next().filter(|_| found.next().is_none()).cloned()
    }

    /// The client that a request's one credential names (RFC 6750). It is compared with all of them, whichever it
    /// is: how long that takes tells nothing.
    fn by_credential(&self, headers: &HeaderMap) -> Option<Arc<Client>> {
        let mut credentials = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(credential), None) = (credentials.next(), credentials.next()) else { return None };
        let shown = CredentialDigest::of(credential.as_bytes().strip_prefix(b"Bearer ")?);
        self.admitted().iter().fold(None, |found, client| match &client.shows {
            Shown::Credential(kept) if *kept == shown => Some(Arc::clone(client)),
            Shown::Credential(_) | Shown::Certificate(_) => found,
        })
    }
}

/// Lets only known clients through, to any path.
pub(super) async fn check(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    match access.client(request.extensions(), request.headers()) {
        Some(client) => {
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        None => unknown(request.extensions()).into_response(),
    }
}

/// Lets a client through as often as it may call.
pub(super) async fn in_turn(
    State(rates): State<Rates>,
    Extension(client): Extension<Arc<Client>>,
    request: Request,
    next: Next,
) -> Response {
    match rates.client(client.name) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Lets a client through to an operation that it is granted.
pub(super) async fn permit(
    State(operation): State<Operation>,
    caller: Caller,
    mut request: Request,
    next: Next,
) -> Response {
    let client = &caller.client;
    let by_name = client.operations.as_ref().map(|granted| granted.contains(&operation));
    let granted = by_name.unwrap_or(operation.comes_with_role());
    if granted && operation.roles().contains(&client.role) {
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    }
    let detail = "this client may not do this";
    let mut response = Problem::new(StatusCode::FORBIDDEN, "operation-not-allowed", detail).into_response();
    if operation == Operation::DetokenizeToken {
        let named =
            one(request.headers(), REQUEST_ID).ok().flatten().and_then(|name| RequestId::parse(name).ok());
        let named = named.filter(|id| !holds_account(id.as_str())).or(RequestId::parse(b"unnamed").ok());
        if let Some(id) = named {
            response.extensions_mut().insert(Denied(caller.asker(id)));
        }
    }
    response
}

/// In an answer: this client wanted a card's number, and may not even ask.
#[derive(Clone)]
struct Denied(Asker);

/// Has such answers written down before they are given.
pub(super) async fn noted(State(service): State<TokenService>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(Denied(asker)) = response.extensions().get() {
        service.disclose_denied(*asker).await;
    }
    response
}

fn unknown(extensions: &Extensions) -> Problem {
    if extensions.get::<Peer>().is_some() {
        return Problem::new(StatusCode::FORBIDDEN, "client-not-known", "the certificate is no client's");
    }
    Problem::new(StatusCode::UNAUTHORIZED, "credential-required", "a known credential is required")
}

impl Caller {
    /// For logs and limits.
    pub(super) fn client(&self) -> Text<16> {
        self.client.name
    }

    pub(super) fn role(&self) -> Role {
        self.client.role
    }

    /// Who asks, with no reason given yet.
    pub(super) fn asker(&self, request_id: RequestId) -> Asker {
        let actor = match self.client.role {
            Role::Wallet => Actor::TokenRequestor,
            Role::Issuer => Actor::Issuer,
            Role::Operator => Actor::Operator,
        };
        let client = Text::parse("client", self.client.name.as_bytes()).unwrap_or_default();
        Asker { client, ..Asker::new(self.principal, actor, request_id) }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let Some(client) = parts.extensions.get::<Arc<Client>>().cloned() else {
            return Err(unknown(&parts.extensions));
        };
        let principal = match client.role {
            Role::Wallet => Principal::Requestor(acted_for(&client.requestors, &parts.headers)?),
            Role::Issuer => Principal::Issuer(client.issuer),
            Role::Operator => Principal::Operator(client.name),
        };
        Ok(Self { client, principal })
    }
}

/// The requestor that a request names, or the only one that there is. One that the client does not act for is as
/// unknown as one that is not there.
fn acted_for(granted: &[TokenRequestorId], headers: &HeaderMap) -> Result<TokenRequestorId, Problem> {
    let named = match one(headers, REQUESTOR)? {
        Some(name) => TokenRequestorId::parse(name).ok(),
        None if granted.len() > 1 => return Err(Problem::missing(REQUESTOR)),
        None => granted.first().copied(),
    };
    let found = named.filter(|id| granted.contains(id));
    found.ok_or_else(|| Problem::from(ProvisioningRefusal::UnknownRequestor))
}

/// A header that may stand there once.
fn one<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h [u8]>, Problem> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(_), Some(_)) => Err(Problem::invalid(name, "stands there twice")),
        (first, _) => Ok(first.map(|value| value.as_bytes())),
    }
}

/// The request's name, from its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named(pub(super) RequestId);

impl<S: Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let name = one(&parts.headers, REQUEST_ID)?.ok_or_else(|| Problem::missing(REQUEST_ID))?;
        let id = RequestId::parse(name).map_err(|error| Problem::invalid(REQUEST_ID, error.fault))?;
        if holds_account(id.as_str()) {
            return Err(Problem::account_number(REQUEST_ID));
        }
        Ok(Self(id))
    }
}

//! The OpenAPI document, put together from the handlers' own descriptions; and `Routes`, through which every route
//! comes: with its operation, so that none is open by mistake, and with what all have in common described once.

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{self, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HeaderBuilder, InfoBuilder, License, ObjectBuilder, OpenApi,
    OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder, ServerBuilder, Type,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::access::{self, REQUEST_ID, REQUESTOR};
use super::error::ProblemBody;
use super::grants::{Operation, Role};
use super::known::Known;
use super::rates::Rates;
use crate::tsp::TokenService;

/// What handlers ask.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) tokens: TokenService,
    pub(super) rates: Rates,
    pub(super) known: Known,
}

impl FromRef<Served> for TokenService {
    fn from_ref(served: &Served) -> Self {
        served.tokens.clone()
    }
}

impl FromRef<Served> for Known {
    fn from_ref(served: &Served) -> Self {
        served.known.clone()
    }
}

impl FromRef<Served> for Rates {
    fn from_ref(served: &Served) -> Self {
        served.rates.clone()
    }
}

/// The routes that have been opened, with their document.
pub(super) struct Routes(OpenApiRouter<Served>);

impl Routes {
    pub(super) fn new() -> Self {
        Self(OpenApiRouter::with_openapi(frame()))
    }

    /// One more route, made by `routes!`, for the roles that its operation is for.
    pub(super) fn open(self, operation: Operation, route: UtoipaMethodRouter<Served>) -> Self {
        let (schemas, mut paths, methods) = route;
        for item in paths.paths.values_mut() {
            for method in [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete] {
                if let Some(described) = method.as_mut() {
                    complete(described, operation);
                }
            }
            for changing in [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete] {
                if let Some(described) = changing.as_mut() {
                    described.parameters.get_or_insert_default().push(request_id().into());
                }
            }
        }
        let methods = methods.route_layer(from_fn_with_state(operation, access::permit));
        Self(self.0.routes((schemas, paths, methods)))
    }

    /// The routes, and the document of all of them.
    pub(super) fn finish(self) -> (Router<Served>, OpenApi) {
        self.0.split_for_parts()
    }
}

/// `GET /openapi.json`, for everybody: it tells nothing of anybody.
pub(super) fn route(document: &str) -> Router {
    let document: std::sync::Arc<str> = document.into();
    let told =
        move || async move { ([("content-type", "application/json")], document.to_string()).into_response() };
    Router::new().route("/openapi.json", get(told))
}

/// As it is kept in the repository: readable, and the same for the same code.
pub(super) fn text(document: &OpenApi) -> String {
    document.to_pretty_json().map(|text| text + "\n").unwrap_or_default()
}

/// The document without its routes.
fn frame() -> OpenApi {
    let about = "Tokens for cards, and their life. An answer with a media type of application/problem+json is a \
        problem (RFC 9457): `code` names it for programs, `field` the member or header at fault, `recoverable` says \
        whether the same request, under the same X-Request-Id, may succeed later, by itself or once somebody has done \
        something about it; no refusal is remembered but declined-by-issuer, advised-against, code-wrong and proof-failed. A request that changes something carries the caller's own name \
        for it in X-Request-Id; sent again it gets the same answer, also after a crash. No card number and no token \
        ever stands in a URL.";
    let info = InfoBuilder::new()
        .title("tokenswitch")
        .version("1")
        .description(Some(about))
        .license(Some(License::new("MIT")));
    let bearer =
        Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("On loopback addresses only"));
    let certificate = SecurityScheme::MutualTls {
        description: Some(
            "A subject alternative name of the certificate is the client's; with TLS".to_owned(),
        ),
        extensions: None,
        deprecated: None,
    };
    let components = ComponentsBuilder::new()
        .schema(ProblemBody::name(), ProblemBody::schema())
        .security_scheme("certificate", certificate)
        .security_scheme("credential", SecurityScheme::Http(bearer.build()));
    let one_of = ["credential", "certificate"].map(|name| SecurityRequirement::new(name, [""; 0]));
    let here = "Where this document is served: over https, or over http on a loopback address";
    OpenApiBuilder::new()
        .info(info.build())
        .servers(Some([ServerBuilder::new().url("/").description(Some(here)).build()]))
        .components(Some(components.build()))
        .security(Some(one_of))
        .build()
}

/// What is true of every operation.
fn complete(described: &mut path::Operation, operation: Operation) {
    let roles: Vec<&str> = operation.roles().iter().map(|role| role.name()).collect();
    // One alone: several would stand in no particular order.
    let by_name = !operation.comes_with_role();
    let note = json!({ "name": operation.name(), "roles": roles, "grantedByNameOnly": by_name });
    let note = ExtensionsBuilder::new().add("x-operation", note).build();
    described.operation_id = Some(operation.name().to_owned());
    described.extensions.get_or_insert_default().merge(note);
    if operation.roles().contains(&Role::Wallet) {
        described.parameters.get_or_insert_default().push(acting_for().into());
    }
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
    let retry_after = HeaderBuilder::new()
        .description(Some("With 429: in how many seconds the same request may be sent again"))
        .schema(Some(seconds))
        .build();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemBody::name()))).build();
    let problem = ResponseBuilder::new()
        .description(
            "A problem: nothing was changed, unless `recoverable` and asked again under the same name",
        )
        .content("application/problem+json", content)
        .header("Retry-After", retry_after)
        .build();
    described.responses.responses.insert("default".to_owned(), RefOr::T(problem));
}

fn acting_for() -> path::Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]{11}$"));
    ParameterBuilder::new()
        .name(REQUESTOR)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Of a wallet that acts for several token requestors, which must say it: for which"))
        .schema(Some(schema))
        .build()
}

fn request_id() -> path::Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{1,64}$"));
    ParameterBuilder::new()
        .name(REQUEST_ID)
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some("The caller's own name for this request: the same name, the same answer"))
        .schema(Some(schema))
        .build()
}

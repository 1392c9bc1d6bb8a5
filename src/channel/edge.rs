//! What applies to every HTTP route alike, before routing and after the response.
//!
//! Before: the Host check, the normalized path (`path`), and the FHIR version that an alias of the base fixes. After:
//! the ids that every response has, errors in the requested format, and a body where a client rejects an empty success.

mod path;

pub use path::ALIASES;

use crate::channel::caller::Caller;
use crate::channel::media;
use crate::fault::Fault;
use crate::offload::offload;
use crate::outcome::{Issue, IssueCode, Outcome, Severity};
use crate::security::Credentials;
use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use fhir::format::convert;
use fhir::{FhirVersion, Format};
use std::sync::Arc;
use tower_http::cors::{AllowOrigin, CorsLayer};
use uuid::Uuid;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const MESSAGE_ID: HeaderName = HeaderName::from_static("emberpost-message-id");
/// `Retry-After` of a request that got no regular connection.
const RETRY_AFTER_SECONDS: u64 = 5;
/// A longer request id is replaced by a new one.
const REQUEST_ID_LIMIT_CHARACTERS: usize = 128;
/// An OperationOutcome has at most 1,000 issues; a larger body is not converted.
const OUTCOME_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// How long a browser may cache a preflight response, in seconds.
const CORS_AGE_SECONDS: u64 = 600;

/// The version that an alias of the base fixes (`[base]/R5`), as a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedVersion(pub FhirVersion);

/// The path as the client wrote it, as a request extension; present only if it was rewritten.
#[derive(Clone, Debug)]
pub struct WrittenPath(pub Arc<str>);

/// The edge's part of the configuration.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Replaced as a whole on reload.
    pub credentials: Arc<ArcSwap<Credentials>>,
    /// The path of `server.base_url`, without a trailing slash.
    pub base_path: String,
    /// `server.cors_origins`; if empty, no page in a browser may call.
    pub cors_origins: Vec<String>,
}

/// Wraps the routes.
pub fn around(routes: Router, settings: EdgeSettings) -> Router {
    let cors = (!settings.cors_origins.is_empty()).then(|| cors(&settings.cors_origins));
    let state = Arc::new(settings);
    let router = Router::new().fallback_service(routes).layer(from_fn_with_state(state, handle));
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// Pages of these origins may call every route with a bearer token, and read the headers that explain a reply.
fn cors(origins: &[String]) -> CorsLayer {
    let name = HeaderName::from_static;
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            name("prefer"),
            REQUEST_ID,
            name("x-correlation-id"),
        ])
        .expose_headers([
            header::CONTENT_LOCATION,
            header::LOCATION,
            header::RETRY_AFTER,
            REQUEST_ID,
            MESSAGE_ID,
            name("emberpost-repeat"),
            name("preference-applied"),
            name("x-progress"),
        ])
        .max_age(std::time::Duration::from_secs(CORS_AGE_SECONDS))
}

async fn handle(State(edge): State<Arc<EdgeSettings>>, mut request: Request, next: Next) -> Response {
    let request_id = take_request_id(request.headers_mut());
    let preferences = ReplyPreferences::of(&request, &edge.base_path);
    let response = match refusal_of(&edge, &request) {
        Some(refusal) => refusal,
        None => routed(&edge, request, next).await,
    };
    let mut response = preferences.negotiated(response).await;
    let headers = response.headers_mut();
    headers.entry(REQUEST_ID).or_insert(request_id);
    // A request without a message gets an id of its own, so that log and reply can be matched.
    headers.entry(MESSAGE_ID).or_insert_with(|| value(&Uuid::new_v4().to_string()));
    response
}

async fn routed(edge: &EdgeSettings, mut request: Request, next: Next) -> Response {
    if let Some(rewritten) = path::rewrite(request.uri().path(), &edge.base_path) {
        let written = WrittenPath(request.uri().path().into());
        request.extensions_mut().insert(written);
        if let Some(version) = rewritten.version {
            request.extensions_mut().insert(FixedVersion(version));
        }
        match with_path(request.uri(), &rewritten.path) {
            Some(uri) => *request.uri_mut() = uri,
            None => return refusal(StatusCode::BAD_REQUEST, bad("The path of the request cannot be read", "MSG-80")),
        }
    }
    next.run(request).await
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    parts.path_and_query = Some(text.try_into().ok()?);
    Uri::from_parts(parts).ok()
}

/// The client's request id if it is usable, otherwise a new one, which the request then carries.
fn take_request_id(headers: &mut HeaderMap) -> HeaderValue {
    let given = headers
        .get(REQUEST_ID)
        .filter(|value| value.to_str().is_ok_and(|text| !text.is_empty() && text.len() <= REQUEST_ID_LIMIT_CHARACTERS));
    if let Some(given) = given {
        return given.clone();
    }
    let made = value(&Uuid::new_v4().to_string());
    headers.insert(REQUEST_ID, made.clone());
    made
}

/// The response to a request that no route may handle.
fn refusal_of(edge: &EdgeSettings, request: &Request) -> Option<Response> {
    if let Err(issue) = require_host(request) {
        return Some(refusal(StatusCode::BAD_REQUEST, issue));
    }
    let path = request.uri().path();
    let is_health = path.starts_with("/health/");
    if let Err(issue) = edge.credentials.load().admit(request, is_health, &edge.cors_origins) {
        return Some(refusal(StatusCode::FORBIDDEN, issue));
    }
    let is_reserved = request.extensions().get::<Caller>().is_some_and(|caller| caller.is_reserved);
    let is_for_operators = is_health || path == "/metrics" || path.starts_with("/admin/");
    if is_reserved && !is_for_operators {
        let text = "The router is at its limit of connections; send again later";
        let mut response =
            refusal(StatusCode::SERVICE_UNAVAILABLE, Issue::error(IssueCode::Transient, Fault::RouteBusy, text));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        return Some(response);
    }
    None
}

/// HTTP/1.1 requires exactly one Host (RFC 9112, 3.2); HTTP/2 has an authority instead.
fn require_host(request: &Request) -> Result<(), Issue> {
    if request.version() != Version::HTTP_11 || request.headers().get_all(header::HOST).iter().count() == 1 {
        return Ok(());
    }
    Err(bad("An HTTP/1.1 request has exactly one Host header", "RFC 9112 3.2"))
}

fn bad(text: &str, rule: &'static str) -> Issue {
    Issue::error(IssueCode::Value, Fault::SendRequest, text.to_owned()).rule(rule)
}

fn refusal(status: StatusCode, issue: Issue) -> Response {
    let body = Outcome::from(issue).to_resource().to_string();
    (status, [(header::CONTENT_TYPE, Format::Json.media_type())], body).into_response()
}

/// What the client wants of the reply; headers and query are shared, not copied.
struct ReplyPreferences {
    format_and_accept: Option<(Uri, Vec<HeaderValue>)>,
    sent: Format,
    /// Below the FHIR base, where an empty success may need a body.
    is_fhir: bool,
    is_head: bool,
}

impl ReplyPreferences {
    fn of(request: &Request, base_path: &str) -> ReplyPreferences {
        let headers = request.headers();
        let accept: Vec<HeaderValue> = headers.get_all(header::ACCEPT).iter().cloned().collect();
        let asks = !accept.is_empty() || request.uri().query().is_some();
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        ReplyPreferences {
            format_and_accept: asks.then(|| (request.uri().clone(), accept)),
            sent: content_type.and_then(Format::of_media_type).unwrap_or_default(),
            is_fhir: request.uri().path().starts_with(base_path),
            is_head: request.method() == Method::HEAD,
        }
    }

    /// `_format` if present, otherwise `Accept`; empty if there is neither.
    fn wanted(&self) -> String {
        let Some((uri, accept)) = &self.format_and_accept else { return String::new() };
        let format = media::query_pairs(uri.query().unwrap_or("")).find(|(name, _)| name == "_format");
        format
            .map(|(_, value)| value)
            .unwrap_or_else(|| accept.iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", "))
    }

    async fn negotiated(&self, response: Response) -> Response {
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return self.error(response).await;
        }
        let may_need_body = matches!(status, StatusCode::OK | StatusCode::ACCEPTED) && self.is_fhir && !self.is_head;
        match may_need_body && response.body().size_hint().exact() == Some(0) {
            true => self.success(response),
            false => response,
        }
    }

    /// An OperationOutcome in JSON becomes XML where that is what the client reads.
    async fn error(&self, response: Response) -> Response {
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let is_json = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/fhir+json"));
        let wants_xml = || media::wanted(&self.wanted(), self.sent).is_ok_and(|(format, _)| format == Format::Xml);
        let fits = response.body().size_hint().exact().is_some_and(|size| size <= OUTCOME_LIMIT_BYTES as u64);
        if !is_json || !fits || !wants_xml() {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        // The size is known and fits, so this only reads from memory.
        let Ok(bytes) = to_bytes(body, OUTCOME_LIMIT_BYTES).await else {
            return parts.status.into_response();
        };
        let (format, bytes) = match offload(bytes.len(), || convert(bytes.clone(), Format::Xml, FhirVersion::R4)) {
            Ok(xml) => (Format::Xml, xml),
            Err(_) => (Format::Json, bytes),
        };
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, Body::from(bytes))
    }

    /// Common clients reject a 2xx without a media type: a client that names a FHIR type gets an OperationOutcome.
    fn success(&self, mut response: Response) -> Response {
        let wanted = self.wanted();
        let Some(format) = media::named(&wanted) else { return response };
        let text = match response.status() {
            StatusCode::OK => "The message was stored; there is no answer to return here",
            _ => "The request was accepted; there is no answer to return here",
        };
        let issue = Issue::new(Severity::Information, IssueCode::Informational, Fault::RouteCustody, text);
        let json = bytes::Bytes::from(Outcome::from(issue).to_resource().to_string());
        let (format, bytes) = match format {
            Format::Json => (Format::Json, json),
            Format::Xml => match convert(json.clone(), Format::Xml, FhirVersion::R4) {
                Ok(xml) => (Format::Xml, xml),
                Err(_) => (Format::Json, json),
            },
        };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(bytes);
        response
    }
}

/// Ids are visible ASCII.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

//! Replies to `$process-message`: the only place that chooses their HTTP statuses and headers.

use crate::channel::edge::{MESSAGE_ID, REQUEST_ID};
use crate::exchange::{Refusal, Reply, Settings, StatusPage, custody_outcome};
use crate::offload::offload;
use crate::outcome::Outcome;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use fhir::format::convert;
use fhir::{FhirVersion, Format};
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

/// When a refused sender should send again.
const RETRY_AFTER_SECONDS: u64 = 5;
/// When a client should poll an open status URL again.
const POLL_AFTER_SECONDS: u64 = 2;

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const INTERMEDIARY: HeaderName = HeaderName::from_static("x-intermediary");
const REPEAT: HeaderName = HeaderName::from_static("emberpost-repeat");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const PROGRESS: HeaderName = HeaderName::from_static("x-progress");

/// What all replies to one request share.
pub struct ReplyWriter {
    settings: Arc<Settings>,
    request_id: String,
    correlation_id: Option<HeaderValue>,
}

impl ReplyWriter {
    pub fn new(settings: &Arc<Settings>, headers: &HeaderMap) -> Self {
        let request_id = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        ReplyWriter {
            settings: settings.clone(),
            // The edge gives every request an id.
            request_id: request_id.unwrap_or_default().to_owned(),
            correlation_id: headers.get(CORRELATION_ID).cloned(),
        }
    }

    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The reply's status, headers, and body. `format`: the sender's preferred format.
    pub fn reply(&self, reply: &Reply, format: Format) -> Response {
        let mut response = match reply {
            Reply::Answer { bytes, media_type, version, converted, refused, .. } => {
                let (mut response, is_converted) = answer(bytes, media_type, *version, format);
                // A refusal is written by Emberpost itself, so nothing was converted on behalf of another author.
                if refused.is_none() && (*converted || is_converted) {
                    response.headers_mut().insert(INTERMEDIARY, value(&self.settings.name));
                }
                response
            }
            Reply::Taken { accepted: false, .. } => empty(StatusCode::NO_CONTENT),
            Reply::Taken { accepted: true, .. } | Reply::Acceptance { .. } => accepted(),
            Reply::Done { .. } => empty(StatusCode::OK),
            Reply::Custody { id, preferred, .. } => self.custody(*id, *preferred, format),
            Reply::Refused { refusal, outcome, .. } => outcome_as(status_of(*refusal), outcome, format),
        };
        let headers = response.headers_mut();
        headers.insert(MESSAGE_ID, value(&reply.id().to_string()));
        if reply.is_duplicate() {
            headers.insert(REPEAT, HeaderValue::from_static("true"));
        }
        response
    }

    fn custody(&self, id: Uuid, preferred: bool, format: Format) -> Response {
        // Made once: it was 3 µs of each reply, a twentieth of what accepting a message costs.
        static OUTCOME: LazyLock<Bytes> = LazyLock::new(|| custody_outcome().to_resource().to_string().into());
        let (mut response, _) = answer(&OUTCOME, Format::Json.media_type(), None, format);
        *response.status_mut() = StatusCode::ACCEPTED;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LOCATION, value(&format!("{}/async/{id}", self.settings.base_url)));
        headers.insert(header::RETRY_AFTER, HeaderValue::from(POLL_AFTER_SECONDS));
        if preferred {
            headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
        }
        response
    }

    /// Adds the client's correlation id; the ids that every response has are added by the edge.
    pub fn finish(&self, mut response: Response) -> Response {
        if let Some(id) = &self.correlation_id {
            response.headers_mut().insert(CORRELATION_ID, id.clone());
        }
        response
    }
}

fn status_of(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::BadRequest => StatusCode::BAD_REQUEST,
        Refusal::Forbidden => StatusCode::FORBIDDEN,
        Refusal::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Conflict => StatusCode::CONFLICT,
        Refusal::NoStore | Refusal::Unavailable | Refusal::Damaged => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An answer in the requested format, and whether it was converted. If it cannot be converted, it is returned as
/// received with its own media type, because the message it answers has been accepted.
fn answer(bytes: &Bytes, media_type: &str, version: Option<FhirVersion>, format: Format) -> (Response, bool) {
    if Format::of_media_type(media_type) == Some(format) {
        // With FHIR's own media type, whatever its receiver called it.
        return (message(bytes.clone(), format.media_type(), version), false);
    }
    match offload(bytes.len(), || convert(bytes.clone(), format, version.unwrap_or(FhirVersion::R4))) {
        Ok(converted) => (message(converted, format.media_type(), version), true),
        Err(_) => (message(bytes.clone(), media_type, version), false),
    }
}

fn message(bytes: Bytes, media_type: &str, version: Option<FhirVersion>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let text = match version {
        Some(version) => format!("{media_type}; fhirVersion={}", version.short()),
        None => media_type.to_string(),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, value(&text));
    response
}

pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub fn accepted() -> Response {
    empty(StatusCode::ACCEPTED)
}

/// An OperationOutcome in JSON, where the preferred format is not known.
pub fn outcome_response(status: StatusCode, outcome: &Outcome) -> Response {
    outcome_as(status, outcome, Format::Json)
}

/// An OperationOutcome with this status and the headers that the status requires.
pub fn outcome_as(status: StatusCode, outcome: &Outcome, format: Format) -> Response {
    let bytes = Bytes::from(outcome.to_resource().to_string());
    let (mut response, _) = answer(&bytes, Format::Json.media_type(), None, format);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"emberpost\""));
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        }
        _ => {}
    }
    response
}

pub fn status_page(page: StatusPage, format: Format) -> Response {
    match page {
        StatusPage::Done { bytes, version } => answer(&bytes.into(), Format::Json.media_type(), version, format).0,
        StatusPage::Open { done, all, reported } => {
            let mut response = match reported {
                Some(outcome) => {
                    let (mut response, _) = answer(&outcome.into(), Format::Json.media_type(), None, format);
                    *response.status_mut() = StatusCode::ACCEPTED;
                    response
                }
                None => accepted(),
            };
            let headers = response.headers_mut();
            headers.insert(PROGRESS, value(&format!("{done} of {all} receivers have answered")));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(POLL_AFTER_SECONDS));
            response
        }
        StatusPage::Unknown => empty(StatusCode::NOT_FOUND),
    }
}

/// Ids and our own texts are visible ASCII; anything else is left out.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

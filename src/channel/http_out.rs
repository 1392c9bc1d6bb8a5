//! HTTP out: posts a message to its receiver and returns what came of the attempt (MSG-88, MSG-90).
//!
//! No redirects, no proxy, a deadline for connecting and one for the whole attempt, bounded answers. It evaluates
//! statuses only; whether a body answers the message is decided by the exchange. It never retries, except when a reused
//! connection is lost under the request (`connection`).

mod connection;
mod failure;
mod reply;
#[cfg(test)]
mod tests;
mod unpack;
mod url;

pub use connection::Pooling;
pub use reply::ANSWER_LIMIT_BYTES;

use super::outgoing::{Outgoing, outgoing};
use super::{retryable, via};
use crate::clock::Clock;
use crate::delivery::{AttemptResult, DeliveryKind, Metadata, PendingDelivery};
use crate::fault::Fault;
use crate::routing::{Channel, Participant};
use crate::store::Store;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use connection::{Body, Connections};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VIA};
use http::{Method, Request, Uri};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Sends deliveries over HTTP.
pub struct HttpOut {
    connections: Connections,
    store: Store,
    /// Our name in `Via`.
    name: String,
    clock: Clock,
}

/// One attempt over HTTP.
pub(super) struct HttpAttempt {
    pub status: Option<u16>,
    pub result: AttemptResult,
    /// A reused connection was lost before any answer, and the message was sent again on a new one.
    pub resent: bool,
}

impl From<AttemptResult> for HttpAttempt {
    fn from(result: AttemptResult) -> Self {
        HttpAttempt { status: None, result, resent: false }
    }
}

impl HttpOut {
    /// `name`: our name in `Via`. Errs if the client's TLS cannot be set up. On a machine without any root certificates
    /// it starts anyway, and trusts no `https` receiver.
    pub fn new(store: Store, name: String, clock: Clock, pooling: Pooling) -> Result<Self, rustls::Error> {
        Ok(Self { connections: Connections::new(pooling)?, store, name, clock })
    }

    /// Makes one attempt.
    pub(super) async fn attempt(&self, delivery: &PendingDelivery, participant: &Participant) -> HttpAttempt {
        let outgoing = match outgoing(&self.store, delivery, participant).await {
            Ok(outgoing) => outgoing,
            Err(result) => return result.into(),
        };
        let Some(url) = url::target(&delivery.kind, &delivery.metadata, participant.channel.as_ref()) else {
            return retryable(Fault::RouteInternal, "the participant has no channel for HTTP").into();
        };
        let headers = self.headers(&outgoing);
        let Some(request) = request(&url, headers, outgoing.body) else {
            let detail = "the receiver's URL cannot be used".to_owned();
            return AttemptResult::Misconfigured { fault: Fault::RouteUrl, detail }.into();
        };
        let deadline = Instant::now() + Duration::from_secs(participant.attempt_timeout_seconds);
        let resent = AtomicBool::new(false);
        let (status, result) = match tokio::time::timeout_at(deadline, self.connections.send(request, &resent)).await {
            Err(_) => (None, retryable(Fault::RecvTimeout, timed_out(participant))),
            Ok(Err(error)) => (None, failure::result_of(&error)),
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                (Some(status), reply::read(response, deadline, self.clock.now_us()).await)
            }
        };
        HttpAttempt { status, result, resent: resent.load(Ordering::Relaxed) }
    }

    fn headers(&self, outgoing: &Outgoing<'_>) -> HeaderMap {
        let (delivery, metadata) = (&outgoing.delivery, &outgoing.delivery.metadata);
        let mut headers = HeaderMap::with_capacity(16);
        let content_type = match metadata.version {
            Some(version) => format!("{}; fhirVersion={}", metadata.media_type, version.short()),
            None => metadata.media_type.clone(),
        };
        // Values that a header cannot hold are left out: they repeat what is in the message.
        let mut set = |name: HeaderName, value: &str| match HeaderValue::from_str(value) {
            Ok(value) => headers.insert(name, value).is_none(),
            Err(_) => false,
        };
        set(CONTENT_TYPE, &content_type);
        set(ACCEPT, &metadata.media_type);
        set(ACCEPT_ENCODING, unpack::ACCEPTED);
        let request_id = HeaderName::from_static("x-request-id");
        if !metadata.request_id.as_deref().is_some_and(|given| set(request_id.clone(), given)) {
            set(request_id, &delivery.delivery_id.to_string());
        }
        set(HeaderName::from_static("x-correlation-id"), &metadata.id.to_string());
        if !set(VIA, &via(metadata, &self.name)) {
            set(VIA, &format!("1.1 {}", self.name));
        }
        if outgoing.is_converted() {
            set(HeaderName::from_static("x-intermediary"), &self.name);
        }
        if delivery.attempts > 0 {
            set(HeaderName::from_static("emberpost-attempt"), &delivery.attempts.saturating_add(1).to_string());
        }
        headers
    }
}

/// A POST of the body; user and password of the URL are sent in a header. None if the URL is not valid.
fn request(url: &str, mut headers: HeaderMap, body: bytes::Bytes) -> Option<Request<Body>> {
    let mut url = reqwest::Url::parse(url).ok().filter(|url| url.has_host())?;
    if !url.username().is_empty() || url.password().is_some() {
        let user = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(user))).ok()?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        url.set_password(None).and_then(|()| url.set_username("")).ok()?;
    }
    url.set_fragment(None);
    let mut request = Request::new(Body::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.as_str().parse::<Uri>().ok()?;
    *request.headers_mut() = headers;
    Some(request)
}

fn decoded(text: &str) -> std::borrow::Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

fn timed_out(participant: &Participant) -> String {
    format!("no answer within {} seconds", participant.attempt_timeout_seconds)
}

//! HTTP out: posts a message to its receiver and tells what the receiver said (MSG-88, MSG-90).
//!
//! One pooled client: no redirects, no proxy, a deadline for connecting and one for the whole attempt, bounded answers.
//! It judges statuses only; whether a body answers the message is decided by the exchange. It never tries twice.

mod reply;
#[cfg(test)]
mod tests;
mod url;

pub use reply::ANSWER_LIMIT_BYTES;

use super::outgoing::{Outgoing, outgoing};
use super::{later, via};
use crate::clock::Clock;
use crate::delivery::{DeliveryKind, Facts, Said, Work};
use crate::fhir::Fault;
use crate::routing::{Channel, Participant};
use crate::store::Store;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VIA};
use std::time::Duration;
use tokio::time::Instant;

const CONNECT_TIMEOUT_SECONDS: u64 = 10;
/// Idle connections are closed after this long; shorter than what servers and proxies commonly allow.
const POOL_IDLE_SECONDS: u64 = 50;
const POOL_IDLE_LIMIT_PER_HOST: usize = 256;

/// Carries deliveries over HTTP.
pub struct HttpOut {
    client: reqwest::Client,
    store: Store,
    /// Our name in `Via`.
    name: String,
    clock: Clock,
}

impl HttpOut {
    /// `name`: our name in `Via`. Errs when the client's TLS cannot be set up. On a machine without any certificates
    /// it starts all the same, and trusts no `https` receiver.
    pub fn new(store: Store, name: String, clock: Clock) -> Result<Self, reqwest::Error> {
        let client = client().build().or_else(|error| {
            tracing::warn!(%error, "no certificates of this machine can be read; no https receiver will be trusted");
            client().tls_certs_only([]).build()
        })?;
        Ok(Self { client, store, name, clock })
    }

    /// One attempt; the status and what was said.
    pub(super) async fn attempt(&self, work: &Work, participant: &Participant) -> (Option<u16>, Said) {
        let outgoing = match outgoing(&self.store, work, participant).await {
            Ok(outgoing) => outgoing,
            Err(said) => return (None, said),
        };
        let Some(url) = url::target(&work.kind, &work.facts, participant.channel.as_ref()) else {
            return (None, later(Fault::RouteInternal, "the participant has no channel for HTTP"));
        };
        let deadline = Instant::now() + Duration::from_secs(participant.attempt_timeout_seconds);
        let request = self.client.post(url).headers(self.headers(&outgoing)).body(outgoing.body);
        match tokio::time::timeout_at(deadline, request.send()).await {
            Err(_) => (None, later(Fault::RecvTimeout, timed_out(participant))),
            Ok(Err(error)) => (None, reply::not_sent(&error)),
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                (Some(status), reply::read(response, deadline, self.clock.now_us()).await)
            }
        }
    }

    fn headers(&self, outgoing: &Outgoing<'_>) -> HeaderMap {
        let (work, facts) = (&outgoing.work, &outgoing.work.facts);
        let mut headers = HeaderMap::with_capacity(8);
        let content_type = match facts.version {
            Some(version) => format!("{}; fhirVersion={}", facts.media_type, version.short()),
            None => facts.media_type.clone(),
        };
        // Values that a header cannot hold are left out: they came with the message, and are not what it is about.
        let mut set = |name: HeaderName, value: &str| match HeaderValue::from_str(value) {
            Ok(value) => headers.insert(name, value).is_none(),
            Err(_) => false,
        };
        set(CONTENT_TYPE, &content_type);
        set(ACCEPT, &facts.media_type);
        let request_id = HeaderName::from_static("x-request-id");
        if !facts.request_id.as_deref().is_some_and(|given| set(request_id.clone(), given)) {
            set(request_id, &work.delivery_id.to_string());
        }
        set(HeaderName::from_static("x-correlation-id"), &facts.id.to_string());
        if !set(VIA, &via(facts, &self.name)) {
            set(VIA, &format!("1.1 {}", self.name));
        }
        if outgoing.is_converted() {
            set(HeaderName::from_static("x-intermediary"), &self.name);
        }
        if work.attempts > 0 {
            set(HeaderName::from_static("emberpost-attempt"), &work.attempts.saturating_add(1).to_string());
        }
        headers
    }
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(CONNECT_TIMEOUT_SECONDS))
        .pool_idle_timeout(Duration::from_secs(POOL_IDLE_SECONDS))
        .pool_max_idle_per_host(POOL_IDLE_LIMIT_PER_HOST)
}

fn timed_out(participant: &Participant) -> String {
    format!("no answer within {} seconds", participant.attempt_timeout_seconds)
}

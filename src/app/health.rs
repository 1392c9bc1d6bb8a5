//! `/health/live`, `/health/ready` and `/metrics`.

use crate::admission::Admission;
use crate::channel::amqp::AmqpHealth;
use crate::channel::http_in::outcome;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use crate::security::{Credentials, Principal};
use crate::store::Unavailable;
use crate::supervisor::Supervisor;
use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Health {
    exchange: Arc<Exchange>,
    credentials: Arc<ArcSwap<Credentials>>,
    amqp: Option<AmqpHealth>,
    leaving: CancellationToken,
    supervisor: Supervisor,
    admission: Admission,
}

/// `leaving`: canceled when the router begins to stop, which may be long before it has stopped.
pub(super) fn routes(
    exchange: Arc<Exchange>,
    credentials: Arc<ArcSwap<Credentials>>,
    amqp: Option<AmqpHealth>,
    leaving: CancellationToken,
    supervisor: Supervisor,
    admission: Admission,
) -> Router {
    Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Health { exchange, credentials, amqp, leaving, supervisor, admission })
}

/// Reports which part is not ready: 503 while starting or stopping, while the store does not accept messages, or when a
/// part ended unexpectedly. A broker that is lost later, and a clock that jumped, are `degraded` with 200, because HTTP
/// still works.
async fn ready(State(health): State<Health>) -> Response {
    let store = match health.exchange.store.accepting() {
        Ok(()) => "ready",
        Err(Unavailable::Full(_)) => "full",
        Err(Unavailable::Away(_) | Unavailable::Damaged(_)) => "away",
    };
    let failed = health.supervisor.failed();
    let router = match (failed.is_empty(), health.leaving.is_cancelled()) {
        (false, _) => "failed",
        (true, true) => "stopping",
        (true, false) => "ready",
    };
    let started = health.amqp.as_ref().is_none_or(AmqpHealth::was_ready);
    let amqp = health.amqp.as_ref().map_or("ready", AmqpHealth::word);
    let off_us = health.exchange.clock.jump();
    let (status, word) = match store == "ready" && router == "ready" && started {
        true if amqp == "ready" && off_us.is_none() => (StatusCode::OK, "ready"),
        true => (StatusCode::OK, "degraded"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let mut body = json!({ "status": word, "store": store, "router": router });
    if !failed.is_empty() {
        body["failed"] = failed.into();
    }
    if let Some(off_us) = off_us {
        body["clock"] = "jumped".into();
        body["clock_ahead_seconds"] = (off_us / 1_000_000).into();
    }
    if let Some(detail) = health.amqp.as_ref().map(AmqpHealth::detail) {
        body["amqp"] = amqp.into();
        body["amqp_links"] = detail;
    }
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// OpenMetrics text for Prometheus. With credentials configured, for operators and viewers only.
async fn metrics(State(health): State<Health>, headers: HeaderMap) -> Response {
    match health.credentials.load().authenticate(&headers) {
        Ok(Principal::Loopback | Principal::Operator { .. }) => {}
        Ok(Principal::Participant(_)) => {
            let text = "Metrics are for operators and viewers";
            return outcome(StatusCode::FORBIDDEN, Issue::error(IssueCode::Forbidden, Fault::RoutePermission, text));
        }
        Err(issue) => return outcome(StatusCode::UNAUTHORIZED, issue),
    }
    let (messages, bytes) = health.admission.in_flight();
    health.exchange.metrics.in_flight(messages, bytes);
    let text = match health.exchange.store.figures().await {
        Ok(figures) => health.exchange.metrics.render_with(&figures),
        Err(_) => health.exchange.metrics.render(),
    };
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

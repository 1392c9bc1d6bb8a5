//! `/health/live`, `/health/ready` and `/metrics`.

use crate::channel::http_in::outcome;
use crate::exchange::Exchange;
use crate::fhir::{Fault, Issue, IssueCode};
use crate::security::{Credentials, Who};
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
    stopping: CancellationToken,
}

pub(super) fn routes(
    exchange: Arc<Exchange>,
    credentials: Arc<ArcSwap<Credentials>>,
    stopping: CancellationToken,
) -> Router {
    Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Health { exchange, credentials, stopping })
}

/// Says which part is not ready; 503 while stopping or without store.
async fn ready(State(health): State<Health>) -> Response {
    let store = match health.exchange.store.ping().await {
        Ok(()) => "ready",
        Err(_) => "away",
    };
    let router = if health.stopping.is_cancelled() { "stopping" } else { "ready" };
    let all = store == "ready" && router == "ready";
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "status": if all { "ready" } else { "not ready" }, "store": store, "router": router });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// OpenMetrics text, as Prometheus reads it. With credentials configured, for operators and viewers.
async fn metrics(State(health): State<Health>, headers: HeaderMap) -> Response {
    match health.credentials.load().who(&headers) {
        Ok(Who::Loopback | Who::Operator { .. }) => {}
        Ok(Who::Participant(_)) => {
            let text = "The figures are for operators and viewers";
            return outcome(StatusCode::FORBIDDEN, Issue::error(IssueCode::Forbidden, Fault::RoutePermission, text));
        }
        Err(issue) if issue.fault == Fault::RouteClosed => return outcome(StatusCode::FORBIDDEN, issue),
        Err(issue) => return outcome(StatusCode::UNAUTHORIZED, issue),
    }
    let text = match health.exchange.store.figures().await {
        Ok(figures) => health.exchange.metrics.render_with(&figures),
        Err(_) => health.exchange.metrics.render(),
    };
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

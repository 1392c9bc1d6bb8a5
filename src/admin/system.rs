//! The router itself: the plan of a message, nodes, statistics, the clock, and the OpenAPI file.

use super::Admin;
use super::api::{ClockState, Explanation, StoreFigures};
use super::ask::{Body, Listing, Operating, Viewing};
use super::participants::Everything;
use super::problem::Problem;
use crate::channel::media;
use crate::fault::Fault;
use crate::outcome::IssueCode;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use fhir::Format;
use serde::Serialize;
use serde_json::{Value, json};

/// OpenAPI 3.1, written by hand; a test compares it with the routes.
const OPENAPI: &str = include_str!("openapi.json");

/// Explains where the message of the body would go, without storing anything. `sender`: the participant to assume as sender.
pub(super) async fn explain(
    _: Operating,
    State(admin): State<Admin>,
    uri: Uri,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let sender = sender(&uri)?;
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Without a FHIR media type, the format is detected from the content.
    let (format, version) = media::content_type(media_type).unwrap_or((Format::detect(&body), None));
    let explanation = admin.exchange.explain(body, format, version, sender.as_deref()).await?;
    Ok(json_response(&Explanation::from(explanation)))
}

fn sender(uri: &Uri) -> Result<Option<String>, Problem> {
    let Query(pairs) =
        Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| Problem::wrong("The query cannot be read"))?;
    let mut sender = None;
    for (name, value) in pairs {
        if name != "sender" {
            return Err(Problem::wrong(format!("The parameter {name:?} is unknown; the only one is sender.")));
        }
        sender = Some(value);
    }
    Ok(sender)
}

/// Planned: lists of exchanges (requests with their answers). Messages and deliveries show the same metadata.
pub(super) async fn exchanges(_: Viewing) -> Problem {
    let text = "Lists of exchanges are not built yet. GET messages/{id} shows a request with its answers.";
    Problem::new(StatusCode::NOT_IMPLEMENTED, IssueCode::NotSupported, Fault::RouteNotBuilt, text)
}

/// Lists this node: a store on SQLite has only one.
pub(super) async fn nodes(_: Viewing, State(admin): State<Admin>, _: Listing<Everything>) -> Response {
    json_response(&json!({ "items": [node(&admin)] }))
}

fn node(admin: &Admin) -> Value {
    json!({
        "name": admin.node_name,
        "version": env!("CARGO_PKG_VERSION"),
        "started_at_us": admin.started_at_us,
    })
}

pub(super) async fn stats(_: Viewing, State(admin): State<Admin>) -> Result<Response, Problem> {
    let figures = admin.store().figures().await?;
    let courier = admin.exchange.courier.status().await;
    Ok(json_response(&json!({
        "node": node(&admin),
        "now_us": admin.exchange.clock.now_us(),
        "clock_ahead_seconds": admin.exchange.clock.jump().map(|off_us| off_us / 1_000_000),
        "active": courier.iter().map(|status| status.active).sum::<usize>(),
        "store": StoreFigures::from(figures),
    })))
}

/// The operator confirms the wall clock: expiry and retention continue after a jump.
pub(super) async fn confirm_clock(_: Operating, State(admin): State<Admin>) -> Result<Response, Problem> {
    admin.store().confirm_clock().await?;
    Ok(json_response(&ClockState { now_us: admin.exchange.clock.now_us(), clock_ahead_seconds: None }))
}

pub(super) async fn openapi(_: Viewing) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

fn json_response(value: &impl Serialize) -> Response {
    super::json(StatusCode::OK, value)
}

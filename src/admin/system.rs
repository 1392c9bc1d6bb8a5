//! The router itself: the plan of a message, nodes, figures, the description of this API.

use super::Admin;
use super::ask::{Body, Listing, Operating, Viewing};
use super::participants::Everything;
use super::problem::Problem;
use crate::channel::media;
use crate::exchange::Explanation;
use crate::fault::Fault;
use crate::outcome::IssueCode;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use fhir::Format;
use serde::Serialize;
use serde_json::{Value, json};

/// OpenAPI 3.1, written by hand; a test keeps it true to the paths.
const OPENAPI: &str = include_str!("openapi.json");

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    explanation: &'a Explanation,
    /// OperationOutcome; null where there is nothing to say.
    outcome: Option<Value>,
}

/// Where the message of the body would go, and why; nothing is kept. `sender` names the participant to take as sender.
pub(super) async fn explain(
    _: Operating,
    State(admin): State<Admin>,
    uri: Uri,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let sender = sender(&uri)?;
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // What does not name a FHIR format is taken for what it looks like.
    let (format, version) = media::content_type(media_type).unwrap_or((Format::detect(&body), None));
    let explanation = admin.exchange.explain(body, format, version, sender.as_deref()).await?;
    let outcome = (!explanation.outcome.issues.is_empty()).then(|| explanation.outcome.to_resource());
    Ok(json_response(&Explained { explanation: &explanation, outcome }))
}

fn sender(uri: &Uri) -> Result<Option<String>, Problem> {
    let Query(pairs) =
        Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| Problem::wrong("The query cannot be read"))?;
    let mut sender = None;
    for (name, value) in pairs {
        if name != "sender" {
            return Err(Problem::wrong(format!("The parameter {name:?} is unknown; only sender is taken.")));
        }
        sender = Some(value);
    }
    Ok(sender)
}

/// Exchanges (requests with their answers) are listed by a later version; messages and deliveries show the same metadata.
pub(super) async fn exchanges(_: Viewing) -> Problem {
    let text = "Lists of exchanges are not built yet. GET messages/{id} shows a request with its answers.";
    Problem::new(StatusCode::NOT_IMPLEMENTED, IssueCode::NotSupported, Fault::RouteNotBuilt, text)
}

/// This node: a store on SQLite has one.
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
        "store": figures,
    })))
}

/// The operator says that the wall clock is right: expiry and retention go on after a jump.
pub(super) async fn confirm_clock(_: Operating, State(admin): State<Admin>) -> Result<Response, Problem> {
    admin.store().confirm_clock().await?;
    Ok(json_response(&json!({ "now_us": admin.exchange.clock.now_us(), "clock_ahead_seconds": null })))
}

pub(super) async fn openapi(_: Viewing) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

fn json_response(value: &impl Serialize) -> Response {
    super::json(StatusCode::OK, value)
}

//! What this endpoint publishes about itself: `GET [base]/metadata`, and the definitions that it follows (MSG-130 to
//! MSG-133), as JSON or XML.
//!
//! It serves the definitions as loaded, which change on SIGHUP. Access control is up to the caller that adds these
//! routes; nothing here is secret.

mod capability;
mod definitions;
mod request;

pub use capability::{Capability, capability_statement};

use crate::channel::edge::FixedVersion;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use fhir::Format;
use fhir::format::convert;
use request::MetadataRequest;
use serde_json::Value;
use std::sync::Arc;

struct Served {
    exchange: Arc<Exchange>,
    /// Without a final slash.
    base_url: String,
    identities_days: u32,
    /// When this endpoint started, which is its statement's date; UTC microseconds since 1970.
    since_us: i64,
}

/// The routes below `[base]`, as relative paths: `/metadata`, `/MessageDefinition`, `/MessageDefinition/{id}`,
/// `/OperationDefinition/{id}`. `base_url` is `server.base_url`, `identities_days` is `retention.identities_days`.
pub fn routes(exchange: Arc<Exchange>, base_url: String, identities_days: u32) -> Router {
    let since_us = exchange.clock.now_us();
    let base_url = base_url.trim_end_matches('/').to_owned();
    let only_get = |route: MethodRouter<Arc<Served>>| route.fallback(wrong_method);
    Router::new()
        .route("/metadata", only_get(get(metadata)))
        .route("/MessageDefinition", only_get(get(search)))
        .route("/MessageDefinition/{id}", only_get(get(read_message_definition)))
        .route("/OperationDefinition/{id}", only_get(get(read_operation_definition)))
        .with_state(Arc::new(Served { exchange, base_url, identities_days, since_us }))
}

/// An issue as the HTTP response that carries it.
type Refusal = (StatusCode, Issue);

async fn metadata(State(served): State<Arc<Served>>, head: Parts) -> Response {
    answer(&served, &head, |request| {
        let rules = served.exchange.rules.load();
        Ok(capability_statement(&Capability {
            version: request.version,
            base_url: &request.base(&served.base_url),
            identities_days: served.identities_days,
            since_us: served.since_us,
            definitions: &rules.definitions,
        }))
    })
}

async fn search(State(served): State<Arc<Served>>, head: Parts) -> Response {
    answer(&served, &head, |request| {
        let rules = served.exchange.rules.load();
        definitions::search(&rules.definitions, request, &request.base(&served.base_url))
    })
}

async fn read_message_definition(State(served): State<Arc<Served>>, Path(id): Path<String>, head: Parts) -> Response {
    answer(&served, &head, |request| {
        let rules = served.exchange.rules.load();
        definitions::message(&rules.definitions, &id, request.version).ok_or_else(|| not_found("MessageDefinition"))
    })
}

async fn read_operation_definition(State(served): State<Arc<Served>>, Path(id): Path<String>, head: Parts) -> Response {
    answer(&served, &head, |_| {
        let rules = served.exchange.rules.load();
        definitions::resource(&rules.definitions, "OperationDefinition", &id)
            .ok_or_else(|| not_found("OperationDefinition"))
    })
}

async fn wrong_method() -> Response {
    let issue = Issue::error(IssueCode::NotSupported, Fault::SendRequest, "Only GET is supported here");
    let mut response = respond(Err((StatusCode::METHOD_NOT_ALLOWED, issue)));
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    response
}

fn not_found(kind: &str) -> Refusal {
    let text = format!("No {kind} with this id is loaded");
    (StatusCode::NOT_FOUND, Issue::error(IssueCode::NotFound, Fault::RouteNotFound, text))
}

/// Responds with the resource that `make` returns, in the requested format.
fn answer(served: &Served, head: &Parts, make: impl FnOnce(&MetadataRequest) -> Result<Value, Refusal>) -> Response {
    let fixed = head.extensions.get::<FixedVersion>().map(|fixed| fixed.0);
    let default = served.exchange.settings.fhir_version;
    let request = match MetadataRequest::read(&head.headers, head.uri.query(), fixed, default) {
        Ok(request) => request,
        Err(refusal) => return respond(Err(refusal)),
    };
    let resource = match make(&request) {
        Ok(resource) if request.format == Format::Xml => resource,
        other => return respond(other),
    };
    match convert(resource.to_string().into(), Format::Xml, request.version) {
        Ok(bytes) => ([(header::CONTENT_TYPE, Format::Xml.media_type())], bytes).into_response(),
        // A definition of one version need not fit the schema tables of another.
        Err(_) => {
            let text = "This resource cannot be written as XML of this fhirVersion; ask for application/fhir+json";
            respond(Err((
                StatusCode::NOT_ACCEPTABLE,
                Issue::error(IssueCode::NotSupported, Fault::RouteConversion, text),
            )))
        }
    }
}

fn respond(result: Result<Value, Refusal>) -> Response {
    let (status, resource) = match result {
        Ok(resource) => (StatusCode::OK, resource),
        Err((status, issue)) => (status, Outcome::from(issue).to_resource()),
    };
    (status, [(header::CONTENT_TYPE, Format::Json.media_type())], resource.to_string()).into_response()
}

#[cfg(test)]
mod tests;

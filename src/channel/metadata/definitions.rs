//! Reading and searching the loaded definitions.
//!
//! One id may be loaded for several FHIR versions; a caller sees one of each id, that of the asked version where there is one.

use super::Refusal;
use super::asked::Asked;
use crate::fhir::{Fault, FhirVersion, Issue, IssueCode};
use crate::validation::definition::{Definition, Definitions};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET [base]/MessageDefinition`: a searchset. Parameters `_id`, `url` and `event`, a comma between alternatives; all that
/// are given must hold. Errs with 400 for any other parameter.
pub(super) fn search(
    definitions: &Definitions,
    asked: &Asked,
    base_url: &str,
    query: Option<&str>,
) -> Result<Value, Refusal> {
    let known = ["_id", "url", "event"];
    if let Some((name, _)) = asked.parameters.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        let text = format!("The search parameter {name:?} is not supported. Use _id, url or event.");
        return Err((StatusCode::BAD_REQUEST, Issue::error(IssueCode::NotSupported, Fault::SendRequest, text)));
    }
    let found: Vec<&Arc<Definition>> = distinct(definitions, asked.version())
        .into_iter()
        .filter(|definition| asked.parameters.iter().all(|(name, value)| holds(definition, name, value)))
        .collect();
    let own_url = match query {
        Some(query) if !query.is_empty() => format!("{base_url}/MessageDefinition?{query}"),
        _ => format!("{base_url}/MessageDefinition"),
    };
    let mut bundle = json!({
        "resourceType": "Bundle",
        "type": "searchset",
        "total": found.len(),
        "link": [{ "relation": "self", "url": own_url }],
    });
    // FHIR's JSON has no empty arrays (JSN-03).
    if !found.is_empty() {
        bundle["entry"] = found.into_iter().map(|definition| entry(definition, base_url)).collect();
    }
    Ok(bundle)
}

/// The MessageDefinition with this id, that of `version` where several have it.
pub(super) fn message(definitions: &Definitions, id: &str, version: FhirVersion) -> Option<Value> {
    distinct(definitions, version)
        .into_iter()
        .find(|definition| definition.id.as_deref() == Some(id))
        .map(|definition| definition.resource.clone())
}

/// Another loaded resource by type and id.
pub(super) fn resource(definitions: &Definitions, kind: &str, id: &str) -> Option<Value> {
    definitions
        .resources
        .iter()
        .find(|resource| resource["resourceType"] == kind && resource["id"] == id)
        .map(|resource| Value::clone(resource))
}

/// Each id once, in the order of loading; a Bundle's fullUrls must be unique (bdl-7).
fn distinct(definitions: &Definitions, version: FhirVersion) -> Vec<&Arc<Definition>> {
    let mut distinct: Vec<&Arc<Definition>> = Vec::new();
    for definition in &definitions.messages {
        let same = distinct.iter_mut().find(|other| other.id.is_some() && other.id == definition.id);
        match same {
            None => distinct.push(definition),
            Some(other) if other.fhir_version != Some(version) && definition.fhir_version == Some(version) => {
                *other = definition;
            }
            Some(_) => {}
        }
    }
    distinct
}

fn holds(definition: &Definition, name: &str, value: &str) -> bool {
    value.split(',').any(|wanted| match name {
        "_id" => definition.id.as_deref() == Some(wanted),
        "url" => definition.url.as_deref() == Some(wanted),
        _ => definition.event.matches(wanted),
    })
}

fn entry(definition: &Definition, base_url: &str) -> Value {
    let mut entry = json!({ "resource": definition.resource, "search": { "mode": "match" } });
    if let Some(id) = &definition.id {
        entry["fullUrl"] = Value::String(format!("{base_url}/MessageDefinition/{id}"));
    }
    entry
}

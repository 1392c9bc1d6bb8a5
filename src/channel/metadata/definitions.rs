//! Reads and searches the loaded definitions.
//!
//! One id may be loaded for several FHIR versions; a client sees one of each id, that of the requested version if there
//! is one.

use super::Refusal;
use super::request::MetadataRequest;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use axum::http::StatusCode;
use fhir::FhirVersion;
use serde_json::{Value, json};
use std::sync::Arc;
use validation::definition::{Definition, Definitions};

/// The supported search parameters; `holds` compares them.
const PARAMETERS: [&str; 7] = ["_id", "url", "event", "status", "name", "title", "version"];
/// Parameters that shape the page instead of selecting from it. `_offset` is our own, used only in `next` links.
const CONTROLS: [&str; 4] = ["_count", "_offset", "_sort", "_summary"];
/// The elements that a list can be sorted by.
const SORTS: [&str; 6] = ["_id", "url", "name", "title", "status", "version"];

/// The requested page.
#[derive(Default)]
struct Page {
    /// Maximum number of entries; None means all.
    count: Option<usize>,
    offset: usize,
    /// Element, and whether the order is descending.
    sort: Vec<(String, bool)>,
    only_total: bool,
}

/// `GET [base]/MessageDefinition`: a searchset. A comma separates alternatives; all parameters must match. An
/// unsupported parameter is left out of the self link, or refused with 400 after `Prefer: handling=strict`.
pub(super) fn search(definitions: &Definitions, request: &MetadataRequest, base_url: &str) -> Result<Value, Refusal> {
    let mut page = Page::default();
    let mut used: Vec<(&str, &str)> = Vec::new();
    for (name, value) in &request.parameters {
        let is_used = match name.as_str() {
            name if PARAMETERS.contains(&name) => true,
            name if CONTROLS.contains(&name) => page.read(name, value)?,
            _ => false,
        };
        match is_used {
            true => used.push((name, value)),
            false if request.is_strict => return Err(not_supported(name)),
            false => {}
        }
    }
    let mut found: Vec<&Arc<Definition>> = distinct(definitions, request.version);
    found.retain(|definition| used.iter().all(|(name, value)| holds(definition, name, value)));
    for (element, descends) in page.sort.iter().rev() {
        found.sort_by(|one, other| {
            let order = text(one, element).cmp(&text(other, element));
            if *descends { order.reverse() } else { order }
        });
    }
    Ok(searchset(&found, &page, &used, base_url))
}

impl Page {
    /// Whether the parameter is supported. Errs with 400 if its value is not valid.
    fn read(&mut self, name: &str, value: &str) -> Result<bool, Refusal> {
        match (name, value) {
            ("_count", _) => self.count = Some(whole_number(name, value)?),
            ("_offset", _) => self.offset = whole_number(name, value)?,
            ("_summary", "count") => self.only_total = true,
            ("_sort", _) => {
                for part in value.split(',') {
                    let (element, descends) = part.strip_prefix('-').map_or((part, false), |rest| (rest, true));
                    if !SORTS.contains(&element) {
                        return Ok(false);
                    }
                    self.sort.push((element.to_owned(), descends));
                }
            }
            // `_summary=false` asks for the complete resource; the other values leave out elements, which is not needed
            // for so few resources.
            _ => return Ok(value == "false"),
        }
        Ok(true)
    }
}

fn whole_number(name: &str, value: &str) -> Result<usize, Refusal> {
    value.parse().map_err(|_| {
        let text = format!("{name} must be a whole number, 0 or more");
        (StatusCode::BAD_REQUEST, Issue::error(IssueCode::Value, Fault::SendRequest, text))
    })
}

fn not_supported(name: &str) -> Refusal {
    let shown: String = name.chars().filter(|letter| !letter.is_control()).take(32).collect();
    let known = [&PARAMETERS[..], &["_count", "_sort", "_summary=count"]].concat().join(", ");
    let text = format!("The search parameter {shown:?} is not supported with this value; supported: {known}");
    (StatusCode::BAD_REQUEST, Issue::error(IssueCode::NotSupported, Fault::SendRequest, text))
}

fn searchset(found: &[&Arc<Definition>], page: &Page, used: &[(&str, &str)], base_url: &str) -> Value {
    let url = |used: &[(&str, &str)]| {
        let pairs: Vec<String> = used.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        format!("{base_url}/MessageDefinition{query}")
    };
    let mut link = vec![json!({ "relation": "self", "url": url(used) })];
    let count = page.count.unwrap_or(usize::MAX);
    let end = page.offset.saturating_add(count);
    if end < found.len() && count > 0 && !page.only_total {
        let end_text = end.to_string();
        let mut next: Vec<_> = used.iter().copied().filter(|(name, _)| *name != "_offset").collect();
        next.push(("_offset", &end_text));
        link.push(json!({ "relation": "next", "url": url(&next) }));
    }
    let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset", "total": found.len(), "link": link });
    let shown = if page.only_total { 0 } else { count };
    let entries: Vec<Value> =
        found.iter().skip(page.offset).take(shown).map(|definition| entry(definition, base_url)).collect();
    // FHIR's JSON has no empty arrays (JSN-03).
    if !entries.is_empty() {
        bundle["entry"] = entries.into();
    }
    bundle
}

/// Percent-encoded for a query.
fn encoded(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b',' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

/// An element of the definition for comparing and sorting; `_id` is its id.
fn text<'d>(definition: &'d Definition, name: &str) -> Option<&'d str> {
    definition.resource[if name == "_id" { "id" } else { name }].as_str()
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
        .catalog
        .resources
        .iter()
        .find(|resource| resource["resourceType"] == kind && resource["id"] == id)
        .map(|resource| Value::clone(resource))
}

/// Each id once, in the order of loading; a Bundle's fullUrls must be unique (bdl-7).
fn distinct(definitions: &Definitions, version: FhirVersion) -> Vec<&Arc<Definition>> {
    let mut distinct: Vec<&Arc<Definition>> = Vec::new();
    for definition in &definitions.catalog.messages {
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

/// Strings (`name`, `title`) match from their beginning, ignoring case; other parameters match exactly.
fn holds(definition: &Definition, name: &str, value: &str) -> bool {
    if CONTROLS.contains(&name) {
        return true;
    }
    value.split(',').any(|wanted| match name {
        "event" => definition.event.matches(wanted),
        "name" | "title" => {
            text(definition, name).is_some_and(|text| text.to_lowercase().starts_with(&wanted.to_lowercase()))
        }
        // A token may include its system, which is that of the publication status.
        "status" => text(definition, name) == Some(wanted.rsplit('|').next().unwrap_or(wanted)),
        _ => text(definition, name) == Some(wanted),
    })
}

fn entry(definition: &Definition, base_url: &str) -> Value {
    let mut entry = json!({ "resource": definition.resource, "search": { "mode": "match" } });
    if let Some(id) = &definition.id {
        entry["fullUrl"] = Value::String(format!("{base_url}/MessageDefinition/{id}"));
    }
    entry
}

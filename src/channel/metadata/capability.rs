//! The CapabilityStatement, kind `instance`. R4, R4B, and R5 differ only in `fhirVersion` and one code system (MSG-102,
//! MSG-130).

use fhir::FhirVersion;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use validation::definition::{Definition, Definitions};

/// The definition of `$process-message`, canonical in all versions (MSG-133).
const PROCESS_MESSAGE: &str = "http://hl7.org/fhir/OperationDefinition/MessageHeader-process-message";
const MINUTES_PER_DAY: u32 = 1440;

/// The inputs of the statement.
pub struct Capability<'a> {
    pub version: FhirVersion,
    /// Without a trailing slash.
    pub base_url: &'a str,
    /// How long duplicates are recognized.
    pub identities_days: u32,
    /// UTC microseconds since 1970; the statement's date.
    pub since_us: i64,
    pub definitions: &'a Definitions,
}

/// Builds the resource; it satisfies cpb-1, cpb-2, cpb-3, and cpb-14 (MSG-131).
pub fn capability_statement(capability: &Capability) -> Value {
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date(capability.since_us),
        "kind": "instance",
        "software": { "name": "Emberpost", "version": env!("CARGO_PKG_VERSION") },
        "implementation": {
            "description": "A FHIR messaging endpoint and router",
            "url": capability.base_url,
        },
        "fhirVersion": capability.version.full(),
        "format": ["application/fhir+json", "application/fhir+xml", "json", "xml"],
        "rest": [{
            "mode": "server",
            "resource": [
                {
                    "type": "MessageDefinition",
                    "interaction": [{ "code": "read" }, { "code": "search-type" }],
                    "searchParam": [
                        { "name": "_id", "type": "token" },
                        { "name": "event", "type": "token" },
                        { "name": "name", "type": "string" },
                        { "name": "status", "type": "token" },
                        { "name": "title", "type": "string" },
                        { "name": "url", "type": "uri" },
                        { "name": "version", "type": "token" },
                    ],
                },
                { "type": "OperationDefinition", "interaction": [{ "code": "read" }] },
            ],
            "operation": [{ "name": "process-message", "definition": PROCESS_MESSAGE }],
        }],
        "messaging": [messaging(capability)],
    })
}

fn messaging(capability: &Capability) -> Value {
    let system = match capability.version {
        FhirVersion::R5 => "http://hl7.org/fhir/message-transport",
        FhirVersion::R4 | FhirVersion::R4B => "http://terminology.hl7.org/CodeSystem/message-transport",
    };
    let mut messaging = json!({
        "endpoint": [{ "protocol": { "system": system, "code": "http" }, "address": capability.base_url }],
        "reliableCache": capability.identities_days.saturating_mul(MINUTES_PER_DAY),
    });
    let supported = supported_messages(capability.definitions);
    // FHIR's JSON has no empty arrays (JSN-03).
    if !supported.is_empty() {
        messaging["supportedMessage"] = Value::Array(supported);
    }
    messaging
}

/// Every definition that has a canonical, each once, in order: requests are received, responses are sent.
fn supported_messages(definitions: &Definitions) -> Vec<Value> {
    let responses: BTreeSet<&str> = definitions
        .catalog
        .messages
        .iter()
        .flat_map(|definition| &definition.allowed_responses)
        .map(|canonical| canonical.split('|').next().unwrap_or(canonical))
        .collect();
    let canonicals: BTreeSet<(String, &str)> = definitions
        .catalog
        .messages
        .iter()
        .filter_map(|definition| {
            let mode = if responses.contains(definition.url.as_deref()?) { "sender" } else { "receiver" };
            Some((canonical(definition)?, mode))
        })
        .collect();
    canonicals.into_iter().map(|(definition, mode)| json!({ "mode": mode, "definition": definition })).collect()
}

fn canonical(definition: &Definition) -> Option<String> {
    let url = definition.url.as_deref()?;
    Some(match &definition.version {
        Some(version) => format!("{url}|{version}"),
        None => url.to_owned(),
    })
}

/// A FHIR dateTime in whole seconds.
fn date(since_us: i64) -> String {
    jiff::Timestamp::from_second(since_us.div_euclid(1_000_000)).unwrap_or_default().to_string()
}

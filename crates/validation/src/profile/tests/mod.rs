//! Tests of profiles with definitions and instances of our own.

mod constraints;
mod corpus;
mod decided;
mod extensions;
mod graphs;
mod hostile;
mod list;
mod loading;
mod messages;
mod slicing;
mod values;

use super::super::ProseRules;
use super::super::collector::IssueCollector;
use super::{ProfileOptions, Profiles, check_message};
use crate::definition::{Catalog, Definition, DefinitionFile, Definitions};
use bytes::Bytes;
use emberpost_fhir::element::Element;
use emberpost_fhir::version::FhirVersion;
use emberpost_fhir::{Issue, Message, json};
use serde_json::{Value, json};
use std::sync::Arc;

/// The base of the canonicals in these tests.
const OWN: &str = "https://profiles.example/";

/// A profile of a type with these element definitions.
fn profile(name: &str, of: &str, elements: Value) -> Value {
    derived(name, of, &format!("http://hl7.org/fhir/StructureDefinition/{of}"), elements)
}

fn derived(name: &str, of: &str, base: &str, elements: Value) -> Value {
    json!({ "resourceType": "StructureDefinition", "url": format!("{OWN}{name}"), "version": "1.0.0", "name": name,
        "status": "active", "kind": "resource", "abstract": false, "type": of, "baseDefinition": base,
        "derivation": "constraint", "differential": { "element": elements } })
}

fn loaded(resources: &[Value]) -> Definitions {
    let file = |(index, resource): (usize, &Value)| DefinitionFile {
        path: format!("{index}.json"),
        bytes: resource.to_string().into_bytes(),
    };
    let (definitions, errors) = Definitions::load(&resources.iter().enumerate().map(file).collect::<Vec<_>>());
    assert_eq!(errors, Vec::<String>::new());
    definitions
}

fn compiled(resources: &[Value], version: FhirVersion) -> Profiles {
    let (profiles, errors) = Profiles::compile(&loaded(resources).catalog, version);
    assert_eq!(errors, Vec::<String>::new());
    profiles
}

/// The issues of a resource checked against the first of the definitions, as `severity rule expression`.
fn found(resources: &[Value], version: FhirVersion, instance: &Value) -> Vec<String> {
    let profiles = compiled(resources, version);
    let canonical = resources[0]["url"].as_str().expect("a url");
    issues(&profiles, canonical, instance).iter().map(short).collect()
}

fn issues(profiles: &Profiles, canonical: &str, instance: &Value) -> Vec<Issue> {
    let tree = json::parse(Bytes::from(instance.to_string())).expect("JSON");
    let mut collector = IssueCollector::new(&tree, ProseRules::default());
    let element = Element::root(&tree, profiles.schema).expect("a resource");
    let name = instance["resourceType"].as_str().expect("a type");
    profiles.check_resource(element, canonical, name, ProfileOptions::default(), &mut collector);
    collector.finish()
}

fn short(issue: &Issue) -> String {
    let severity = if issue.is_error() { "error" } else { "warning" };
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    format!("{severity} {} {}", text(issue.rule.as_deref()), text(issue.expression.as_deref()))
}

/// Checks R4 instances against the first definition, with the issues expected for each.
#[track_caller]
fn cases(resources: &[Value], instances: &[(Value, &[&str])]) {
    cases_in(FhirVersion::R4, resources, instances);
}

#[track_caller]
fn cases_in(version: FhirVersion, resources: &[Value], instances: &[(Value, &[&str])]) {
    for (instance, wanted) in instances {
        assert_eq!(found(resources, version, instance), *wanted, "{instance:#}");
    }
}

/// An R4 message Bundle with this focus and these additional header members, followed by these resources.
fn message(header: Value, focus: &[&str], resources: &[Value]) -> Value {
    let mut whole = json!({ "resourceType": "MessageHeader", "id": "h", "eventCoding": { "system": "urn:s", "code": "made" },
        "source": { "endpoint": "urn:source" }, "focus": focus.iter().map(|one| json!({ "reference": one })).collect::<Vec<_>>() });
    for (name, value) in header.as_object().expect("members") {
        whole[name] = value.clone();
    }
    let entry = |resource: &Value| {
        let (kind, id) = (resource["resourceType"].as_str().expect("a type"), resource["id"].as_str().expect("an id"));
        json!({ "fullUrl": format!("https://x.example/fhir/{kind}/{id}"), "resource": resource })
    };
    let entries: Vec<Value> = std::iter::once(&whole).chain(resources).map(entry).collect();
    json!({ "resourceType": "Bundle", "type": "message", "entry": entries })
}

fn definition(members: Value) -> Value {
    let mut whole = json!({ "resourceType": "MessageDefinition", "url": "urn:definition", "version": "1", "status": "active",
        "date": "2026-01-01", "category": "notification", "eventCoding": { "system": "urn:s", "code": "made" } });
    for (name, value) in members.as_object().expect("members") {
        whole[name] = value.clone();
    }
    whole
}

/// The issues of level `profile` alone.
fn check_profiles(
    message: &Message,
    definition: Option<&Arc<Definition>>,
    (definitions, profiles): (&Catalog, &Profiles),
    options: ProfileOptions,
) -> Vec<Issue> {
    let mut collector = IssueCollector::new(&message.tree, ProseRules::default()).of_version(message.version);
    check_message(message, definition, (definitions, profiles), options, &mut collector);
    collector.finish()
}

/// The issues of a message under the definition `urn:definition`, if it is among the resources.
fn message_issues(resources: &[Value], message: &Value, options: ProfileOptions) -> Vec<Issue> {
    let definitions = loaded(resources);
    let (profiles, errors) = Profiles::compile(&definitions.catalog, FhirVersion::R4);
    assert_eq!(errors, Vec::<String>::new());
    let tree = json::parse(Bytes::from(message.to_string())).expect("JSON");
    let message = Message::read(tree, Some(FhirVersion::R4), None).expect("a message");
    check_profiles(
        &message,
        definitions.catalog.by_canonical("urn:definition"),
        (&definitions.catalog, &profiles),
        options,
    )
}

fn message_found(resources: &[Value], message: &Value) -> Vec<String> {
    message_issues(resources, message, ProfileOptions::default()).iter().map(short).collect()
}

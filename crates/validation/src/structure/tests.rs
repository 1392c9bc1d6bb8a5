//! What the walk reports and what it accepts: rule and expression of every error.

use super::*;
use crate::ProseRules;
use emberpost_fhir::{FhirVersion, Severity, json};
use serde_json::{Value, json};

mod contained;
mod effort;
mod extensions;
mod invariants;
mod prose;
mod references;
mod shapes;
mod types;

/// Rules and expressions of the errors of a document.
fn errors_of(text: &str, version: FhirVersion) -> Vec<(String, String)> {
    let tree = json::parse(text.to_owned().into()).unwrap();
    let mut collector = IssueCollector::new(&tree, ProseRules::Warning);
    check(&tree, Schema::of(version), Options::default(), &mut collector);
    let errors = collector.finish().into_iter().filter(|issue| issue.severity >= Severity::Error);
    errors.map(|issue| (issue.rule.unwrap().into_owned(), issue.expression.unwrap())).collect()
}

fn errors(resource: &Value) -> Vec<(String, String)> {
    errors_of(&resource.to_string(), FhirVersion::R4)
}

/// Asserts the only error of an R4 resource.
#[track_caller]
fn breaks(resource: Value, rule: &str, path: &str) {
    assert_eq!(errors(&resource), [(rule.to_owned(), path.to_owned())], "{resource}");
}

#[track_caller]
fn passes(resource: Value) {
    assert_eq!(errors(&resource), [], "{resource}");
}

/// A Patient with one more member.
fn patient(name: &str, value: Value) -> Value {
    json!({ "resourceType": "Patient", "id": "p1", name: value })
}

/// A final Observation with more members.
fn observation(more: Value) -> Value {
    let mut resource = json!({ "resourceType": "Observation", "status": "final", "code": { "text": "pulse" } });
    for (name, value) in more.as_object().unwrap() {
        resource[name] = value.clone();
    }
    resource
}

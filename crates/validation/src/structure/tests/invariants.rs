//! Invariants without a result, and published ones that are corrected.

use super::*;
use FhirVersion::{R4, R4B, R5};

/// Rules of the errors of a resource.
fn rules(resource: &Value, version: FhirVersion) -> Vec<String> {
    errors_of(&resource.to_string(), version).into_iter().map(|(rule, _)| rule).collect()
}

fn questionnaire(item: Value) -> Value {
    json!({ "resourceType": "Questionnaire", "status": "active", "item": [item] })
}

fn element(more: Value) -> Value {
    let mut element = json!({ "id": "Patient", "path": "Patient", "min": 0, "max": "*", "definition": "x",
        "base": { "path": "Patient", "min": 0, "max": "*" } });
    for (name, value) in more.as_object().unwrap() {
        element[name] = value.clone();
    }
    json!({ "resourceType": "StructureDefinition", "url": "https://a.example/p", "name": "P", "status": "draft",
        "kind": "resource", "abstract": false, "type": "Patient", "derivation": "constraint",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient", "differential": { "element": [element] } })
}

fn test_script(setup: Value) -> Value {
    json!({ "resourceType": "TestScript", "url": "https://a.example/t", "name": "T", "status": "draft",
        "setup": { "action": [setup] } })
}

fn care_team(participant: Value, contained: Value) -> Value {
    json!({ "resourceType": "CareTeam", "status": "active", "subject": { "display": "x" }, "contained": [contained],
        "participant": [participant], "managingOrganization": [{ "reference": "#o" }] })
}

#[test]
fn an_invariant_without_a_result_is_broken() {
    let item = |more: Value| {
        let mut item = json!({ "linkId": "1", "type": "string", "text": "x" });
        for (name, value) in more.as_object().unwrap() {
            item[name] = value.clone();
        }
        questionnaire(item)
    };
    let two = json!([{ "valueString": "a" }, { "valueString": "b" }]);
    let length = json!({ "resourceType": "Encounter", "status": "planned", "class": { "code": "AMB" }, "length": { "value": 3, "code": "min" } });
    let operation = |more: Value| {
        let mut operation = json!({ "encodeRequestUrl": true, "method": "get" });
        for (name, value) in more.as_object().unwrap() {
            operation[name] = value.clone();
        }
        test_script(json!({ "operation": operation }))
    };
    let organization = json!({ "resourceType": "Organization", "id": "o", "name": "O" });
    let cases: [(Value, FhirVersion, &[&str]); 9] = [
        (item(json!({ "initial": two })), R4, &["que-13"]),
        (item(json!({ "initial": two, "repeats": true })), R4, &[]),
        (element(json!({ "max": "many" })), R4, &["eld-2", "eld-3"]),
        (length, R4, &["drt-1", "qty-3"]),
        (operation(json!({ "resource": "Patient" })), R4, &["tst-7"]),
        (operation(json!({ "params": "/1" })), R4, &[]),
        (
            json!({ "resourceType": "Bundle", "entry": [{ "resource": { "resourceType": "Patient", "id": "p" } }] }),
            R4,
            &["min", "bdl-3", "bdl-4", "bdl-9", "bdl-10", "bdl-11", "bdl-12"],
        ),
        (care_team(json!({ "onBehalfOf": { "reference": "#o" } }), organization.clone()), R5, &["ctm-1"]),
        // Without an available member, its type is not known.
        (
            care_team(
                json!({ "member": { "reference": "Practitioner/1" }, "onBehalfOf": { "reference": "#o" } }),
                organization,
            ),
            R5,
            &[],
        ),
    ];
    for (resource, version, wanted) in cases {
        let mut wanted: Vec<&str> = wanted.to_vec();
        let mut found = rules(&resource, version);
        found.sort();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{resource}");
    }
}

#[test]
fn dates_of_two_precisions_have_no_order_and_break_nothing() {
    let dispense = |prepared: &str, handed: &str| {
        json!({ "resourceType": "MedicationDispense", "status": "completed", "medicationCodeableConcept": { "text": "x" },
            "whenPrepared": prepared, "whenHandedOver": handed })
    };
    passes(dispense("2026-01-01T10:00:00Z", "2026-01-01"));
    breaks(dispense("2026-01-02", "2026-01-01"), "mdd-1", "MedicationDispense");
    let task = |authored: &str, modified: &str| json!({ "resourceType": "Task", "status": "ready", "intent": "order", "authoredOn": authored, "lastModified": modified });
    passes(task("2026-01-01T10:00:00Z", "2026-01-01"));
    breaks(task("2026-01-02", "2026-01-01"), "inv-1", "Task");
    let period =
        |start: &str, end: &str| patient("name", json!([{ "text": "x", "period": { "start": start, "end": end } }]));
    passes(period("2026-01-01T10:00:00Z", "2026-01-01"));
    breaks(period("2026-01-02", "2026-01-01"), "per-1", "Patient.name[0].period");
}

#[test]
fn an_absent_optional_element_violates_no_invariant() {
    passes(
        json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": { "resourceType": "Patient", "id": "p" } }] }),
    );
    passes(json!({ "resourceType": "RiskAssessment", "status": "final", "subject": { "display": "x" },
        "prediction": [{ "outcome": { "text": "x" } }] }));
    let ingredient = |indicator: bool| {
        json!({ "resourceType": "Ingredient", "status": "active", "role": { "text": "x" }, "allergenicIndicator": indicator,
            "substance": { "code": { "reference": { "reference": "SubstanceDefinition/1" } } } })
    };
    assert_eq!(rules(&ingredient(true), R4B), ["ing-1"]);
    assert_eq!(rules(&ingredient(false), R4B), [""; 0]);
    assert_eq!(rules(&element(json!({ "valueAlternatives": ["https://a.example/x"] })), R5), [""; 0]);
}

#[test]
fn codes_differ_at_every_depth_of_a_code_system() {
    let system = |inner: &str| {
        json!({ "resourceType": "CodeSystem", "url": "https://a.example/c", "status": "draft", "content": "complete",
            "concept": [{ "code": "a", "concept": [{ "code": "b", "concept": [{ "code": inner }] }] }] })
    };
    for version in [R4, R4B, R5] {
        for (inner, wanted) in [("c", &[][..]), ("a", &["csd-1"]), ("b", &["csd-1"])] {
            assert_eq!(rules(&system(inner), version), wanted, "{inner}");
        }
        let shallow = json!({ "resourceType": "CodeSystem", "url": "https://a.example/c", "status": "draft",
            "content": "complete", "concept": [{ "code": "a" }, { "code": "b", "concept": [{ "code": "a" }] }] });
        assert_eq!(rules(&shallow, version), ["csd-1"]);
    }
}

//! GraphDefinitions: links, their cardinalities, targets and profiles.

use super::*;

fn graph() -> Value {
    json!({ "resourceType": "GraphDefinition", "url": "urn:graph", "version": "1", "name": "g", "status": "active", "start": "Encounter", "link": [
        { "path": "Encounter.subject", "min": 1, "max": "1", "target": [{ "type": "Patient", "profile": format!("{OWN}patient"),
            "link": [{ "path": "Patient.managingOrganization", "min": 1, "target": [{ "type": "Organization" }] }] }] },
        { "path": "Encounter.participant.individual", "max": "1", "target": [{ "type": "Practitioner" }] },
    ] })
}

fn rules(version: FhirVersion) -> Value {
    let graph = if version == FhirVersion::R5 { json!("urn:graph") } else { json!(["urn:graph|1"]) };
    definition(json!({ "focus": [{ "code": "Encounter", "min": 1 }], "graph": graph }))
}

fn profiled() -> Value {
    profile("patient", "Patient", json!([{ "id": "Patient.gender", "path": "Patient.gender", "min": 1 }]))
}

fn encounter(participants: &[&str]) -> Value {
    let participants: Vec<Value> =
        participants.iter().map(|one| json!({ "individual": { "reference": one } })).collect();
    json!({ "resourceType": "Encounter", "id": "1", "subject": { "reference": "Patient/1" }, "participant": participants })
}

fn patient() -> Value {
    json!({ "resourceType": "Patient", "id": "1", "gender": "other", "managingOrganization": { "reference": "Organization/1" } })
}

fn other(kind: &str, id: &str) -> Value {
    json!({ "resourceType": kind, "id": id })
}

#[test]
fn a_graph_is_checked_along_its_links() {
    let all = [rules(FhirVersion::R4), graph(), profiled()];
    let sent = |resources: &[Value]| message_found(&all, &message(json!({}), &["Encounter/1"], resources));
    let whole = [
        encounter(&["Practitioner/1", "PractitionerRole/1"]),
        patient(),
        other("Organization", "1"),
        other("Practitioner", "1"),
        other("PractitionerRole", "1"),
    ];
    assert_eq!(sent(&whole), [""; 0]);
    assert_eq!(sent(&[encounter(&[])]), ["error graph-min Bundle.entry[1].resource"]);
    assert_eq!(sent(&[encounter(&[]), patient()]), ["error graph-min Bundle.entry[2].resource"]);
    let two = [
        encounter(&["Practitioner/1", "Practitioner/2"]),
        patient(),
        other("Organization", "1"),
        other("Practitioner", "1"),
        other("Practitioner", "2"),
    ];
    assert_eq!(sent(&two), ["error graph-max Bundle.entry[1].resource"]);
    let mut plain = patient();
    plain.as_object_mut().expect("members").remove("gender");
    assert_eq!(
        sent(&[encounter(&[]), plain, other("Organization", "1")]),
        ["error profile-min Bundle.entry[2].resource"]
    );
}

#[test]
fn a_graph_of_r5_links_named_nodes() {
    let graph = json!({ "resourceType": "GraphDefinition", "url": "urn:graph", "name": "g", "status": "active", "start": "e",
        "node": [{ "nodeId": "e", "type": "Encounter" }, { "nodeId": "p", "type": "Patient" }],
        "link": [{ "sourceId": "e", "path": "subject", "targetId": "p", "min": 1, "max": "1" }] });
    let all = [rules(FhirVersion::R5), graph];
    let sent = |resources: &[Value]| message_found(&all, &message(json!({}), &["Encounter/1"], resources));
    assert_eq!(sent(&[encounter(&[]), patient()]), [""; 0]);
    assert_eq!(sent(&[encounter(&[])]), ["error graph-min Bundle.entry[1].resource"]);
}

#[test]
fn a_graph_that_is_not_loaded_is_a_warning_and_one_for_another_type_is_ignored() {
    let sent = message(json!({}), &["Encounter/1"], &[encounter(&[])]);
    assert_eq!(message_found(&[rules(FhirVersion::R4)], &sent), ["warning graph-missing Bundle"]);
    let mut other = graph();
    other["start"] = json!("Observation");
    assert_eq!(message_found(&[rules(FhirVersion::R4), other, profiled()], &sent), [""; 0]);
}

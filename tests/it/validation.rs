//! How deep messages are checked before they are kept, and what becomes of those that fail.

use serde_json::{Value, json};

use crate::harness::{NodeConfig, Party, Peer, Reply, SOON, Sample};

/// A message whose Patient has a code that FHIR does not know.
fn wrong() -> Sample {
    Sample::new().addressed_to("lab").set("/entry/1/resource/gender", json!("x"))
}

fn rules(reply: &Reply) -> Vec<String> {
    let codings =
        reply.issues().into_iter().flat_map(|issue| issue["details"]["coding"].as_array().cloned().unwrap_or_default());
    let rules = codings.filter(|coding| coding["system"] == "urn:emberpost:rule");
    rules.filter_map(|rule| rule["code"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_message_that_breaks_the_base_specification_is_refused_with_element_rule_and_place() {
    let peer = Peer::ok().await;
    let node = NodeConfig::with_sender().participant(Party::new("lab").at(&peer)).start().await;
    let reply = node.post(wrong().bytes()).await.expect_status(200);
    assert_eq!((reply.response_code().as_deref(), rules(&reply)), (Some("fatal-error"), vec!["binding".to_owned()]));
    let issue = &reply.issues()[0];
    assert_eq!(issue["expression"], json!(["Bundle.entry[1].resource.gender"]));
    let text = issue["diagnostics"].as_str().unwrap();
    assert!(text.contains("'x'") && text.contains("female") && text.contains("line 1, column"), "{text}");
    assert_eq!(peer.count(), 0);
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    assert_eq!(peer.count(), 1);
}

#[tokio::test]
async fn a_participant_has_a_level_and_a_way_with_failures_of_its_own() {
    let peer = Peer::ok().await;
    for (setting, delivered) in
        [("level = \"message\"", 1), ("on_failure = \"report\"", 2), ("level = \"structure\"", 2)]
    {
        let node =
            NodeConfig::new().participant(Party::sender().with(setting)).participant(Party::new("lab").at(&peer));
        let node = node.start().await;
        let reply = node.post(wrong().bytes()).await.expect_status(200);
        assert_eq!(peer.count(), delivered, "{setting}: {}", reply.text());
        let id = reply.header("emberpost-message-id").unwrap().to_owned();
        let kept = node.admin(&format!("messages/{id}")).await;
        let is_told = kept["outcome"].to_string().contains("Bundle.entry[1].resource.gender");
        assert_eq!(is_told, setting != "level = \"message\"", "{setting}: {kept}");
    }
}

#[tokio::test]
async fn at_level_profile_the_profile_of_the_definitions_focus_holds() {
    let peer = Peer::ok().await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, resource: Value| std::fs::write(folder.path().join(name), resource.to_string()).unwrap();
    write(
        "event.json",
        json!({
        "resourceType": "MessageDefinition", "url": "https://own.example/event", "version": "1", "status": "active", "date": "2026-01-01",
        "eventCoding": { "system": "urn:own", "code": "made" }, "category": "notification",
        "focus": [{ "code": "Patient", "profile": "https://own.example/patient", "min": 1, "max": "1" }] }),
    );
    write(
        "patient.json",
        json!({
        "resourceType": "StructureDefinition", "url": "https://own.example/patient", "name": "P", "status": "active",
        "fhirVersion": "4.0.1", "kind": "resource", "abstract": false, "type": "Patient", "derivation": "constraint",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "differential": { "element": [{ "id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1 }] } }),
    );
    let paths = format!("paths = [{:?}]", folder.path());
    let node = |level: &str| {
        let lab = Party::new("lab").at(&peer);
        NodeConfig::with_sender().participant(lab).definitions(&paths).validation(&format!("level = \"{level}\""))
    };
    let sample = || Sample::new().event_of("urn:own", "made").addressed_to("lab");
    let (profile, structure) = (node("profile").start().await, node("structure").start().await);
    let refused = profile.post(sample().bytes()).await.expect_status(200);
    assert_eq!(refused.faults(), ["SEND_DEFINITION"], "{}", refused.text());
    assert!(refused.issues()[0]["diagnostics"].as_str().unwrap().contains("https://own.example/patient"));
    assert_eq!(peer.count(), 0);
    profile.post(sample().set("/entry/1/resource/birthDate", json!("2020-01-01")).bytes()).await;
    structure.post(sample().bytes()).await;
    peer.wait_for(2, SOON).await;
}

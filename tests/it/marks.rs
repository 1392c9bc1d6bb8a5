//! What a message holds is shown to nobody who may not see it: not in logs, metrics, and lists, whatever is wrong with the message.

use bytes::Bytes;
use fhir::format::convert;
use fhir::{FhirVersion, Format};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::node::PROCESS_MESSAGE;
use crate::harness::{Answer, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_until};

const MARK: &str = "ZZPATIENTZZ";
const SENDER: &str = "token-of-the-sender";
const LAB: &str = "token-of-the-lab";
const VIEWER: &str = "token-of-the-viewer";
const DUTY: &str = "token-of-duty";

fn token(token: &str) -> String {
    let digest: String = Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("token_sha256 = \"{digest}\"")
}

/// A node whose lists a viewer and an operator may see.
async fn node(lab: &Peer, validation: &str) -> Node {
    let operator = |name: &str, role: &str, of: &str| {
        format!("[[operator]]\nname = \"{name}\"\nrole = \"{role}\"\n{}\n", token(of))
    };
    NodeConfig::new()
        .participant(Party::sender().with(&token(SENDER)).with("may_send = [\"patient-link\"]"))
        .participant(Party::new("lab").at(lab).with(&token(LAB)).with("retry_schedule_seconds = [1]"))
        .validation(validation)
        .server("answer_timeout_ms = 500")
        .toml(&(operator("duty", "operator", DUTY) + &operator("desk", "viewer", VIEWER)))
        .start()
        .await
}

async fn seen_by(node: &Node, token: &str, path: &str) -> Reply {
    node.ask(node.request(Method::GET, path).bearer_auth(token)).await.expect_status(200)
}

/// A Patient that is wrong wherever a name, a code, an id, a date, a type, or a url may stand.
fn marked_patient() -> Value {
    json!({
        "resourceType": "Patient", "id": "p1", "meta": { "profile": [format!("http://x.example/{MARK}")] },
        "name": [{ "use": MARK, "family": MARK, "period": { "start": MARK } }],
        "gender": MARK, MARK: 1, "birthDate": MARK, "deceasedBoolean": MARK, "multipleBirthInteger": MARK,
        "maritalStatus": { "coding": [{ "system": "s", "code": MARK }] },
        "contact": [{ "gender": format!("Jane-1970 {MARK}") }, { MARK: { MARK: [MARK] } }],
        "managingOrganization": { "reference": format!("Organization/{MARK}"), "type": MARK },
        "generalPractitioner": [{ "reference": format!("{MARK}/1") }, { "reference": format!("#{MARK}") }],
        "contained": [{ "resourceType": MARK }, { "resourceType": "Organization", "id": MARK, MARK: [] }],
        "extension": [
            { "url": format!("http://x/{MARK}"), "valueString": MARK },
            { "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueString": MARK },
            { "url": MARK, (format!("value{MARK}")): MARK },
        ],
        "text": { "status": MARK, "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><{MARK} a=\"{MARK}\"/></div>") },
        "photo": [{ "contentType": MARK, "data": MARK, "url": format!("ht tp://{MARK}") }],
        "communication": [{ "language": { "coding": [{ "code": MARK }] }, "preferred": MARK }],
        "link": [{ "other": { "reference": "Patient/1" }, "type": MARK }],
    })
}

/// Bodies of every kind: readable and wrong, unreadable, no message, not allowed.
fn marked_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let wrong = || Sample::new().addressed_to("lab").set("/entry/1/resource", marked_patient());
    let text = |sample: Sample| String::from_utf8(sample.bytes()).unwrap();
    let cut = text(wrong());
    let twice = text(Sample::new().addressed_to("lab")).replacen("{", &format!("{{\"{MARK}\":1,\"{MARK}\":2,"), 1);
    let xml = convert(Bytes::from(Sample::new().addressed_to("lab").bytes()), Format::Xml, FhirVersion::R4).unwrap();
    let xml = String::from_utf8(xml.to_vec()).unwrap();
    let in_patient = |more: &str| {
        xml.replacen(
            "<Patient xmlns=\"http://hl7.org/fhir\">",
            &format!("<Patient xmlns=\"http://hl7.org/fhir\">{more}"),
            1,
        )
        .replacen("<Patient>", &format!("<Patient>{more}"), 1)
    };
    let marked_xml = in_patient(&format!(
        "<{MARK} value=\"{MARK}\" {MARK}=\"{MARK}\"><{MARK}/></{MARK}>{MARK}<gender value=\"{MARK}\"/>"
    ));
    assert!(marked_xml.contains(MARK), "{xml}");
    vec![
        (Format::Json.media_type(), wrong().bytes()),
        (Format::Json.media_type(), wrong().r5().bytes()),
        (Format::Json.media_type(), cut.as_bytes()[..cut.len() / 2].to_vec()),
        (Format::Json.media_type(), twice.into_bytes()),
        (Format::Json.media_type(), cut.replace("\"1\"", MARK).into_bytes()),
        (Format::Json.media_type(), json!({ "resourceType": MARK, MARK: MARK }).to_string().into_bytes()),
        (
            Format::Json.media_type(),
            json!({ "resourceType": "Bundle", "type": MARK, "entry": [] }).to_string().into_bytes(),
        ),
        (
            Format::Json.media_type(),
            Sample::new().addressed_to("lab").set("/entry/0/resource/focus/0/reference", json!(MARK)).bytes(),
        ),
        (
            Format::Json.media_type(),
            Sample::new().addressed_to("lab").set("/entry/0/resource/definition", json!(MARK)).bytes(),
        ),
        (
            Format::Json.media_type(),
            Sample::new()
                .addressed_to("lab")
                .set("/entry/0/resource/destination/0/receiver", json!({ "reference": MARK, "type": MARK }))
                .bytes(),
        ),
        (Format::Json.media_type(), Sample::new().addressed_to("lab").set("/entry/1/fullUrl", json!(MARK)).bytes()),
        (
            Format::Json.media_type(),
            Sample::new().addressed_to("lab").set(&format!("/entry/0/resource/{MARK}"), json!(MARK)).bytes(),
        ),
        (Format::Xml.media_type(), marked_xml.clone().into_bytes()),
        (Format::Xml.media_type(), marked_xml.replace("</Patient>", &format!("</{MARK}>")).into_bytes()),
        (Format::Xml.media_type(), format!("<{MARK}><!DOCTYPE {MARK}>&{MARK};").into_bytes()),
        ("application/fhir+json", format!("{MARK} {{").into_bytes()),
    ]
}

/// Nothing that a viewer can ask for, and nothing that is logged or counted, holds the mark.
async fn assert_unseen(node: &Node, mark: &str) {
    let lists = ["messages", "deliveries", "participants", "stats", "replays"];
    let mut paths: Vec<String> = lists.iter().map(|list| format!("/admin/v1/{list}?limit=200")).collect();
    paths[3] = "/admin/v1/stats".to_owned();
    paths.truncate(4);
    let messages = seen_by(node, VIEWER, &paths[0]).await.json()["items"].clone();
    let items = messages.as_array().unwrap();
    assert!(!items.is_empty());
    for message in items {
        let id = message["id"].as_str().unwrap();
        paths.extend([format!("/admin/v1/messages/{id}"), format!("/admin/v1/messages/{id}/timeline")]);
    }
    paths.push("/metrics".to_owned());
    for path in paths {
        let text = seen_by(node, VIEWER, &path).await.text();
        if let Some(at) = text.find(mark) {
            panic!("{path} shows the viewer …{}…", &text[at.saturating_sub(300)..(at + 60).min(text.len())]);
        }
    }
    assert!(!node.log().contains(mark), "the log holds the mark");
}

async fn post(node: &Node, media_type: &str, body: Vec<u8>) -> Reply {
    let request = node.request(Method::POST, PROCESS_MESSAGE).bearer_auth(SENDER).header("content-type", media_type);
    node.ask(request.body(body)).await
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_quoted_to_its_sender_and_operators_and_shown_to_nobody_else() {
    let lab = Peer::ok().await;
    for validation in ["level = \"structure\"", "level = \"profile\"\non_failure = \"report\"", "level = \"message\""] {
        let node = node(&lab, validation).await;
        for (media_type, body) in marked_bodies() {
            let reply = post(&node, media_type, body).await;
            for issue in reply.issues() {
                let told =
                    issue["diagnostics"].as_str().unwrap_or_default().to_owned() + &issue["expression"].to_string();
                assert!(!told.contains("Jane"), "a text with white space is no code: {told}");
            }
        }
        assert_unseen(&node, MARK).await;
    }
}

#[tokio::test]
async fn an_operator_sees_the_full_outcome_of_a_message_and_a_viewer_the_masked_one() {
    let lab = Peer::ok().await;
    let node = node(&lab, "level = \"structure\"").await;
    let sample = Sample::new().addressed_to("lab").set("/entry/1/resource/gender", json!("code-of-jane"));
    let reply =
        node.post_as(SENDER, sample.set("/entry/1/resource/colour", json!("x")).bytes()).await.expect_status(200);
    assert!(reply.text().contains("'code-of-jane' is not in") && reply.text().contains("'colour' is not an element"));
    let path = format!("/admin/v1/messages/{}", reply.header("emberpost-message-id").unwrap());
    let operator = seen_by(&node, DUTY, &path).await.json();
    let diagnostics = |shown: &Value| {
        let issues = shown["outcome"]["issues"].as_array().unwrap();
        issues.iter().map(|issue| issue["diagnostics"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join("; ")
    };
    assert!(diagnostics(&operator).contains("'code-of-jane' is not in"), "{}", diagnostics(&operator));
    let viewer = seen_by(&node, VIEWER, &path).await.json();
    assert!(diagnostics(&viewer).contains("'…' is not in"), "{}", diagnostics(&viewer));
    assert_unseen(&node, "code-of-jane").await;
    assert_unseen(&node, "colour").await;
}

#[tokio::test]
async fn what_a_receiver_says_about_a_message_is_told_to_its_sender_and_shown_to_no_viewer() {
    let lab = Peer::ok().await;
    let node = node(&lab, "level = \"structure\"").await;
    let outcome = json!({ "resourceType": "OperationOutcome", "issue": [{
        "severity": "error", "code": "processing", "diagnostics": format!("{MARK} is unknown\u{0}\u{1b}[1m"),
        "details": { "text": MARK }, "expression": [MARK],
    }] });

    for (status, body) in [
        (422, outcome.to_string()),
        (400, format!("<html>{MARK}</html>")),
        (500, MARK.to_owned()),
        (200, format!("<html>{MARK}</html>")),
        (200, MARK.to_owned()),
        (200, outcome.to_string()),
        (200, json!({ "resourceType": MARK }).to_string()),
    ] {
        lab.answer(Answer::Raw(status, body.into_bytes()));
        let before = lab.count();
        let reply = node.post_as(SENDER, Sample::new().addressed_to("lab").bytes()).await;
        wait_until(SOON, "the receiver was asked", async || lab.count() > before).await;
        if status == 422 {
            assert!(reply.text().contains(MARK), "the sender is told what its receiver says: {}", reply.text());
            assert!(!reply.text().contains("\\u0000") && !reply.text().contains("\\u001b"), "{}", reply.text());
        }
    }
    assert_unseen(&node, MARK).await;
}

//! What a receiver's 2xx means, whatever it says beside it: delivered, answered, or not the receiver's word at all.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::script::answer_to;
use crate::harness::{Answer, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_for, wait_until};

const RESPONSE_REQUEST: &str = "http://hl7.org/fhir/StructureDefinition/messageheader-response-request";
const BOM: &[u8] = b"\xef\xbb\xbf";

async fn node_with(peer: &Peer) -> Node {
    let lab = Party::new("lab").at(peer).with("retry_schedule_seconds = [1]");
    NodeConfig::with_sender().participant(lab).start().await
}

async fn attempts(node: &Node, reply: &Reply) -> Vec<Value> {
    let id = reply.header("emberpost-message-id").expect("every reply names the message");
    let timeline = node.admin(&format!("messages/{id}/timeline")).await;
    let entries = timeline["items"].as_array().cloned().expect("a timeline").into_iter();
    entries.filter(|entry| entry["what"] == "attempt").map(|entry| entry["attempt"].clone()).collect()
}

fn token(token: &str) -> String {
    let digest: String = Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("token_sha256 = \"{digest}\"")
}

fn said(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    Answer::Said { status, headers: vec![("content-type", media_type.to_owned())], body: body.into() }
}

fn encoded(encoding: &str, status: u16, body: Vec<u8>) -> Answer {
    let headers = vec![("content-type", "application/fhir+json".to_owned()), ("content-encoding", encoding.to_owned())];
    Answer::Said { status, headers, body }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 1).unwrap()
}

fn outcome_json(severity: &str) -> Vec<u8> {
    let issue = json!({ "severity": severity, "code": "business-rule", "diagnostics": "the ward is closed" });
    json!({ "resourceType": "OperationOutcome", "issue": [issue] }).to_string().into_bytes()
}

fn outcome_xml(severity: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\"?><OperationOutcome xmlns=\"http://hl7.org/fhir\"><issue><severity value=\"{severity}\"/>\
         <code value=\"business-rule\"/><diagnostics value=\"the ward is closed\"/></issue></OperationOutcome>"
    )
    .into_bytes()
}

#[tokio::test]
async fn a_2xx_without_an_answer_is_delivered_once_with_a_warning_where_it_says_something_else() {
    let outcome = || outcome_json("information");
    let xml = || outcome_xml("warning");
    let cases: Vec<(&str, Answer, Value)> = vec![
        ("no body", Answer::Empty(200), Value::Null),
        ("a line feed", said(200, "text/plain", "\n"), Value::Null),
        ("a byte order mark", said(200, "text/plain", [BOM, b" "].concat()), Value::Null),
        ("OK as Express says it", said(200, "text/html; charset=utf-8", "OK"), json!("RECV_NOT_FHIR")),
        ("null as FastAPI says it", said(200, "application/json", "null"), json!("RECV_NOT_FHIR")),
        ("a JSON text", said(201, "application/json", "\"created\""), json!("RECV_NOT_FHIR")),
        ("a JSON object", said(200, "application/json", r#"{"status":"accepted"}"#), json!("RECV_NOT_FHIR")),
        ("a JSON object with 202", said(202, "application/json", r#"{"id":7}"#), json!("RECV_NOT_FHIR")),
        ("XML that is not FHIR", said(200, "text/xml", "<ack xmlns='urn:x'>AA</ack>"), json!("RECV_NOT_FHIR")),
        ("deep nonsense", said(200, "application/fhir+json", b"[".repeat(100_000)), json!("RECV_NOT_FHIR")),
        ("bytes", said(200, "application/octet-stream", vec![0xff, 0, 0xfe]), json!("RECV_NOT_FHIR")),
        (
            "another resource",
            said(200, "application/fhir+json", r#"{"resourceType":"Patient"}"#),
            json!("RECV_NOT_FHIR"),
        ),
        ("the request itself", Answer::by(|request| said(200, "", request.body.to_vec())), json!("RECV_NOT_FHIR")),
        ("an encoding that nobody asked for", encoded("br", 200, vec![1, 2, 3]), json!("RECV_NOT_FHIR")),
        ("an outcome", said(200, "application/fhir+json", outcome()), Value::Null),
        ("an outcome with 202", said(202, "application/fhir+json", outcome()), Value::Null),
        ("an outcome behind a byte order mark", said(200, "text/json", [BOM, &outcome()].concat()), Value::Null),
        ("an outcome in XML", said(200, "application/fhir+xml", xml()), Value::Null),
        ("an outcome in XML that is called JSON", said(200, "application/fhir+json", xml()), Value::Null),
        ("an outcome that is called a page", said(200, "text/html", outcome()), Value::Null),
        ("an outcome without a type", Answer::Said { status: 200, headers: vec![], body: outcome() }, Value::Null),
        ("an outcome, gzip", encoded("gzip", 200, gzip(&outcome())), Value::Null),
        ("an outcome, deflate", encoded("deflate", 200, zlib(&outcome())), Value::Null),
        ("an outcome, raw deflate", encoded("deflate", 200, raw_deflate(&xml())), Value::Null),
        ("an outcome, zstd", encoded("zstd", 200, zstd(&outcome())), Value::Null),
    ];
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    for (what, answer, warning) in cases {
        let before = peer.count();
        peer.answer(answer);
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await;
        assert!([202, 204].contains(&reply.status), "{what}: {}", reply.text());
        let delivery = node.delivery_of(&reply).await;
        assert_eq!((&delivery["state"], &delivery["fault"]), (&json!("delivered"), &Value::Null), "{what}: {delivery}");
        assert_eq!(delivery["last_fault"], warning, "{what}: {delivery}");
        let attempts = attempts(&node, &reply).await;
        assert_eq!((attempts.len(), &attempts[0]["fault"]), (1, &warning), "{what}: {attempts:?}");
        assert_eq!(attempts[0]["result"], "delivered", "{what}");
        assert_eq!(peer.count(), before + 1, "{what} was sent again");
    }
    let offered = peer.received()[0].header("accept-encoding").map(str::to_owned);
    assert_eq!(offered.as_deref(), Some("gzip, deflate, zstd, identity"));
}

#[tokio::test]
async fn an_answer_is_read_whatever_it_is_called_and_however_it_is_encoded_and_passed_on_under_fhirs_own_type() {
    type Made = fn(Vec<u8>) -> Answer;
    let cases: [(&str, Made); 8] = [
        ("application/json", |body| said(200, "application/json; fhirVersion=4.0", body)),
        ("text/plain", |body| said(200, "text/plain", body)),
        ("no type, 202", |body| Answer::Said { status: 202, headers: vec![], body }),
        ("a byte order mark", |body| said(201, "application/fhir+json", [BOM, &body].concat())),
        ("gzip", |body| encoded("gzip", 200, gzip(&body))),
        ("deflate", |body| encoded("deflate", 200, zlib(&body))),
        ("zstd", |body| encoded("zstd", 200, zstd(&body))),
        ("not gzip, though it says so", |body| encoded("gzip", 200, body)),
    ];
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    for (what, made) in cases {
        peer.answer(Answer::by(move |request| made(answer_to(&request.body, "ok"))));
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
        assert_eq!(reply.header("content-type"), Some("application/fhir+json; fhirVersion=4.0"), "{what}");
        let body = String::from_utf8(reply.body.to_vec()).unwrap();
        let answer: Value = serde_json::from_str(body.trim_start_matches('\u{feff}')).unwrap();
        assert_eq!(answer.pointer("/entry/0/resource/response/code"), Some(&json!("ok")), "{what}");
        assert_eq!(node.delivery_of(&reply).await["state"], "answered", "{what}");
    }
}

#[tokio::test]
async fn a_web_page_or_an_answer_to_another_request_is_a_failed_attempt_and_an_expiry_names_it() {
    let pages = [
        said(200, "text/html", "<!DOCTYPE html><html><body>Log in</body></html>"),
        said(200, "application/fhir+json", " <HTML><h1>Maintenance</h1></HTML>"),
        said(202, "text/html", "<!-- proxy --><html/>"),
        encoded("gzip", 200, gzip(b"<html>closed</html>")),
        Answer::ToAnotherRequest,
    ];
    join_all(pages.into_iter().map(async |answer| {
        let peer = Peer::answering(answer).await;
        let lab = Party::new("lab").at(&peer).with("retry_schedule_seconds = [1]").with("expire_after_seconds = 2");
        let node = NodeConfig::with_sender().participant(lab).start().await;
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
        assert_eq!(
            (reply.response_code().as_deref(), reply.faults()),
            (Some("transient-error"), vec!["RECV_EXPIRED".into()])
        );
        let delivery = node.delivery_of(&reply).await;
        assert_eq!((&delivery["state"], &delivery["fault"]), (&json!("dead"), &json!("RECV_EXPIRED")));
        assert_eq!(delivery["last_fault"], "RECV_BAD_ANSWER", "{delivery}");
        assert!(attempts(&node, &reply).await.iter().all(|attempt| attempt["fault"] == "RECV_BAD_ANSWER"));
        let output = node.command(&["deliveries", "--state", "dead"]);
        let list = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(list.contains("RECV_EXPIRED (RECV_BAD_ANSWER)"), "{list}");
    }))
    .await;
}

#[tokio::test]
async fn errors_that_a_receiver_reports_with_a_2xx_are_stored_listed_and_at_the_status_url() {
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    for (what, answer, wanted) in [
        ("JSON", said(200, "application/fhir+json", outcome_json("error")), "204 No Content"),
        ("XML", said(200, "application/fhir+xml", outcome_xml("fatal")), "204 No Content"),
        ("JSON with 202", said(202, "text/plain", outcome_json("error")), "202 Accepted"),
    ] {
        peer.answer(answer);
        let before = peer.count();
        let request = node.posting(Sample::new().addressed_to("lab").bytes()).header("prefer", "respond-async");
        let reply = node.ask(request).await.expect_status(202);
        wait_until(SOON, "it is delivered", async || node.delivery_of(&reply).await["state"] == "delivered").await;
        let delivery = node.delivery_of(&reply).await;
        assert_eq!(delivery["fault"], "RECV_ISSUES", "{what}: {delivery}");
        assert_eq!(delivery["receiver_issues"][0]["diagnostics"], "the ward is closed", "{what}: {delivery}");
        let listed = node.admin("deliveries?fault=RECV_ISSUES").await;
        assert!(listed["items"].as_array().unwrap().iter().any(|item| item["id"] == delivery["id"]), "{what}");
        let status = format!("/fhir/async/{}", reply.header("emberpost-message-id").unwrap());
        let page = node.get(&status).await.expect_status(200).json();
        let response = &page["entry"][0]["response"];
        assert_eq!(response["status"], wanted, "{what}: {page}");
        assert_eq!(response["outcome"]["issue"][0]["diagnostics"], "the ward is closed", "{what}: {page}");
        assert_eq!(peer.count(), before + 1, "{what} was sent again");
    }
}

#[tokio::test]
async fn what_a_receiver_reported_is_at_the_status_url_while_its_answer_is_awaited_and_viewers_see_no_words_of_it() {
    let peer = Peer::answering(said(200, "application/fhir+json", outcome_json("error"))).await;
    let lab = Party::new("lab").at(&peer);
    let operator = |name: &str| format!("[[operator]]\nname = \"{name}\"\nrole = \"{name}\"\n{}\n", token(name));
    let config = NodeConfig::new().participant(Party::sender().with(&token("sender"))).participant(lab);
    let config = config.toml(&operator("operator")).toml(&operator("viewer"));
    let node = config.server("answer_timeout_ms = 100").start().await;
    let owing = json!([{ "url": RESPONSE_REQUEST, "valueCode": "always" }]);
    let message = Sample::new().addressed_to("lab").set("/entry/0/resource/extension", owing);
    let reply = node.post_as("sender", message.bytes()).await.expect_status(202);
    let path = format!("/fhir/async/{}", reply.header("emberpost-message-id").unwrap());
    let get = async |path: &str, token: &str| node.ask(node.request(Method::GET, path).bearer_auth(token)).await;
    let open = wait_for(SOON, "the report is there", async || {
        let open = get(&path, "sender").await.expect_status(202);
        (!open.body.is_empty()).then_some(open)
    })
    .await;
    assert_eq!(open.json()["issue"][0]["diagnostics"], "the ward is closed");
    assert!(open.header("x-progress").is_some());

    for path in [
        "/admin/v1/deliveries".to_owned(),
        format!("/admin/v1/messages/{}", reply.header("emberpost-message-id").unwrap()),
    ] {
        let seen = get(&path, "operator").await.expect_status(200).text();
        assert!(seen.contains("the ward is closed"), "{seen}");
        let seen = get(&path, "viewer").await.expect_status(200).text();
        assert!(seen.contains("business-rule") && !seen.contains("the ward is closed"), "{seen}");
    }
}

#[tokio::test]
async fn a_refusals_issues_reach_the_sender_whatever_the_format_and_encoding() {
    let peer = Peer::ok().await;
    let node = node_with(&peer).await;
    for (what, answer) in [
        ("JSON", said(422, "application/fhir+json", outcome_json("error"))),
        ("JSON behind a byte order mark", said(400, "", [BOM, &outcome_json("error")].concat())),
        ("XML", said(400, "application/fhir+xml", outcome_xml("error"))),
        ("XML, gzip", encoded("gzip", 422, gzip(&outcome_xml("error")))),
        ("JSON, deflate", encoded("deflate", 409, raw_deflate(&outcome_json("error")))),
        ("JSON, zstd", encoded("zstd", 410, zstd(&outcome_json("error")))),
    ] {
        peer.answer(answer);
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
        assert_eq!(reply.response_code().as_deref(), Some("fatal-error"), "{what}");
        assert!(reply.text().contains("the ward is closed"), "{what}: {}", reply.text());
    }
    for (what, answer) in [
        ("text", said(422, "text/plain", "no")),
        ("a page", said(400, "text/html", "<html>the ward is closed</html>")),
        ("a bomb", encoded("gzip", 422, gzip(&vec![b' '; 10 << 20]))),
    ] {
        peer.answer(answer);
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
        assert_eq!(reply.faults(), ["RECV_REFUSED"], "{what}");
        assert!(!reply.text().contains("the ward is closed"), "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_unpacks_beyond_its_limit_is_a_bad_answer_and_costs_no_memory() {
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let peer = Peer::ok().await;
    peer.answer_first([encoded("gzip", 200, bomb)]);
    let node = node_with(&peer).await;
    let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    let faults: Vec<Value> = attempts(&node, &reply).await.iter().map(|attempt| attempt["fault"].clone()).collect();
    assert_eq!(faults, [json!("RECV_BAD_ANSWER"), Value::Null]);
}

#[tokio::test]
async fn an_answer_on_its_way_home_is_delivered_by_any_2xx_but_not_by_a_web_page() {
    let home = Peer::ok().await;
    home.answer(said(200, "text/html", "OK"));
    home.answer_first([said(200, "text/html", "<html>Log in</html>")]);
    let lab = Peer::ok().await;
    let sender = Party::sender().at(&home).with("retry_schedule_seconds = [1]");
    let node = NodeConfig::new().participant(sender).participant(Party::new("lab").at(&lab)).start().await;
    let request = node.request(reqwest::Method::POST, "/fhir/$process-message?async=true");
    let request =
        request.header("content-type", "application/fhir+json").body(Sample::new().addressed_to("lab").bytes());
    node.ask(request).await.expect_status(200);
    home.wait_for(2, SOON).await;
    wait_until(SOON, "it is delivered", async || {
        let items = node.admin("deliveries?participant=sender").await;
        items["items"][0]["state"] == "delivered" && items["items"][0]["last_fault"] == "RECV_NOT_FHIR"
    })
    .await;
    assert_eq!(home.count(), 2);
}

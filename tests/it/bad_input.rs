//! Bodies that are not what they should be: each is refused with a reason, and the router goes on.

use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::node::PROCESS_MESSAGE;
use crate::harness::raw::{RawConnection, gzip, gzip_bomb, half_a_body, head, nested, whole_body};
use crate::harness::{Node, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_until};

const MEBIBYTE: usize = 1024 * 1024;

/// A node that takes every event, and its receiver `lab`.
async fn node() -> (Node, Peer) {
    let lab = Peer::ok().await;
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(&lab));
    (config.start().await, lab)
}

/// A node that knows the shipped definitions, and its receiver `lab`.
async fn node_with_definitions() -> (Node, Peer) {
    let lab = Peer::ok().await;
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).shipped_definitions();
    (config.start().await, lab)
}

/// What the shipped definition of `patient-link` asks for: two Patients.
pub fn link() -> Sample {
    let other = "urn:uuid:a0000000-0000-4000-8000-ffffffffffff";
    let patient =
        json!({ "fullUrl": other, "resource": { "resourceType": "Patient", "name": [{ "family": "Other" }] } });
    Sample::new()
        .addressed_to("lab")
        .set("/entry/0/resource/focus/1", json!({ "reference": other }))
        .set("/entry/2", patient)
}

/// Every error says who must act, and a refusal has one error at least.
#[track_caller]
pub fn assert_faults(reply: &Reply) {
    let errors: Vec<Value> = reply
        .issues()
        .into_iter()
        .filter(|issue| matches!(issue["severity"].as_str(), Some("error" | "fatal")))
        .collect();
    assert!(!errors.is_empty(), "a refusal without an error: {} {}", reply.status, reply.text());
    for issue in errors {
        let codings = issue["details"]["coding"].as_array().cloned().unwrap_or_default();
        let fault = codings.iter().find(|coding| coding["system"] == "urn:emberpost:fault");
        let code = fault.and_then(|fault| fault["code"].as_str()).unwrap_or_default().to_owned();
        assert!(["SEND_", "ROUTE_", "RECV_"].iter().any(|side| code.starts_with(side)), "whose fault? {issue}");
        assert!(issue["diagnostics"].as_str().is_some_and(|text| !text.is_empty()), "no reason: {issue}");
    }
}

/// What was refused reached nobody, and the next message goes through.
async fn assert_unharmed(node: &Node, lab: &Peer) {
    assert_eq!(lab.count(), 0, "a refused message was delivered");
    let good = node.post(link().bytes()).await.expect_status(200);
    assert_eq!(good.response_code().as_deref(), Some("ok"), "{}", good.text());
}

/// Posts `body` to a node, which must refuse it with this status, and with this fault first.
async fn refused(body: impl Into<Vec<u8>>, status: u16, fault: &str) -> Reply {
    let (node, lab) = node().await;
    let request = node.posting(body);
    refused_by(&node, &lab, request, status, fault).await
}

async fn refused_by(node: &Node, lab: &Peer, request: RequestBuilder, status: u16, fault: &str) -> Reply {
    let reply = node.ask(request).await.expect_status(status);
    assert_eq!(reply.faults().first().map(String::as_str), Some(fault), "{}", reply.text());
    assert_faults(&reply);
    assert!(reply.header("emberpost-message-id").is_some());
    assert_unharmed(node, lab).await;
    reply
}

/// Posts a readable message, which must be refused by a response message with this fault first.
async fn fatal(nodes: (Node, Peer), message: Sample, fault: &str) -> Reply {
    let (node, lab) = nodes;
    let reply = refused_by(&node, &lab, node.posting(message.bytes()), 200, fault).await;
    assert_eq!(reply.response_code().as_deref(), Some("fatal-error"));
    assert_eq!(reply.response_identifier(), Some(message.header_id()));
    reply
}

/// The place in the text that the first issue names.
#[track_caller]
fn assert_position(reply: &Reply, line: u32, column: u32) {
    let text = reply.issues()[0].to_string();
    let place = (text.contains(&format!("line {line}")), text.contains(&format!("column {column}")));
    assert_eq!(place, (true, true), "line {line}, column {column}: {text}");
}

#[tokio::test]
async fn what_is_not_json_is_refused_with_line_and_column() {
    let reply = refused("{\n  \"resourceType\": Bundle\n}", 400, "SEND_SYNTAX").await;
    assert_position(&reply, 2, 19);
}

#[tokio::test]
async fn an_empty_body_is_refused() {
    refused("", 400, "SEND_SYNTAX").await;
}

#[tokio::test]
async fn json_that_is_not_fhir_is_refused() {
    for body in ["{}", "[]", "null", "\"Bundle\"", "17", r#"{"hello":"world"}"#, r#"{"resourceType":"bundle"}"#] {
        refused(body, 400, "SEND_NOT_MESSAGE").await;
    }
}

#[tokio::test]
async fn another_resource_is_refused() {
    refused(r#"{"resourceType":"Patient","id":"p1"}"#, 400, "SEND_NOT_MESSAGE").await;
}

#[tokio::test]
async fn a_parameters_body_is_refused_with_the_reason() {
    let message = Sample::new().addressed_to("lab").value();
    let body = json!({ "resourceType": "Parameters", "parameter": [{ "name": "content", "resource": message }] });
    let reply = refused(body.to_string(), 400, "SEND_NOT_MESSAGE").await;
    assert!(reply.text().contains("Parameters"), "{}", reply.text());
    assert!(reply.text().contains("MSG-83"), "{}", reply.text());
}

#[tokio::test]
async fn a_bundle_of_another_type_is_refused_at_its_type() {
    let message = Sample::new().addressed_to("lab").set("/type", json!("transaction"));
    let reply = refused(message.bytes(), 400, "SEND_NOT_MESSAGE").await;
    assert_eq!(reply.issues()[0]["expression"][0], "Bundle.type", "{}", reply.text());
}

#[tokio::test]
async fn a_message_header_in_second_place_is_refused_at_the_first_entry() {
    let mut message = Sample::new().addressed_to("lab").value();
    message["entry"].as_array_mut().unwrap().swap(0, 1);
    let reply = refused(message.to_string(), 400, "SEND_NOT_MESSAGE").await;
    let at = reply.issues()[0]["expression"][0].as_str().unwrap_or_default().to_owned();
    assert!(at.starts_with("Bundle.entry[0]"), "{}", reply.text());
}

#[tokio::test]
async fn a_message_without_source_is_refused_since_nobody_could_be_answered() {
    let reply = refused(Sample::new().addressed_to("lab").without_source().bytes(), 400, "SEND_UNKNOWN_SOURCE").await;
    assert_eq!(reply.issues()[0]["expression"][0], "Bundle.entry[0].resource.source", "{}", reply.text());
}

#[tokio::test]
async fn an_stu3_message_is_refused_as_such() {
    let message = Sample::new()
        .addressed_to("lab")
        .unset("/entry/0/resource/eventCoding")
        .set(
            "/entry/0/resource/event",
            json!({ "system": "http://hl7.org/fhir/message-events", "code": "patient-link" }),
        )
        .set("/entry/0/resource/timestamp", json!("2018-01-01T10:00:00Z"));
    let reply = refused(message.bytes(), 400, "SEND_VERSION").await;
    assert!(reply.text().contains("STU3"), "{}", reply.text());
    let (node, lab) = node().await;
    let said =
        node.request(Method::POST, PROCESS_MESSAGE).header("content-type", "application/fhir+json; fhirVersion=3.0");
    refused_by(&node, &lab, said.body(link().bytes()), 415, "SEND_VERSION").await;
}

#[tokio::test]
async fn an_unknown_event_is_answered_fatal_error_and_names_the_event() {
    let reply = fatal(node_with_definitions().await, link().event("patient-vanish"), "SEND_UNKNOWN_EVENT").await;
    assert!(reply.text().contains("patient-vanish"), "{}", reply.text());
}

#[tokio::test]
async fn a_focus_that_the_definition_does_not_name_is_refused_with_definition_and_element() {
    let message = link()
        .set("/entry/1/resource", json!({ "resourceType": "Observation", "status": "final", "code": { "text": "x" } }));
    let reply = fatal(node_with_definitions().await, message, "SEND_DEFINITION").await;
    assert!(reply.text().contains("MessageDefinition/patient-link"), "{}", reply.text());
    assert!(reply.text().contains("Bundle.entry[0].resource.focus"), "{}", reply.text());
}

#[tokio::test]
async fn one_focus_too_few_is_refused() {
    let reply = fatal(node_with_definitions().await, Sample::new().addressed_to("lab"), "SEND_DEFINITION").await;
    assert!(reply.text().contains("Bundle.entry[0].resource.focus"), "{}", reply.text());
}

#[tokio::test]
async fn each_unknown_destination_is_named_and_the_message_is_refused_as_a_whole() {
    let message = Sample::new().to("http://nobody.example/fhir").addressed_to("lab").to("urn:oid:1.2.3");
    let reply = fatal(node().await, message, "SEND_UNKNOWN_DESTINATION").await;
    let places: Vec<_> = reply.issues().iter().map(|issue| issue["expression"][0].clone()).collect();
    let place = |index| json!(format!("Bundle.entry[0].resource.destination[{index}].endpoint"));
    assert_eq!(places, [place(0), place(2)], "{}", reply.text());
}

#[tokio::test]
async fn arrays_100_000_deep_are_refused_without_a_stack_overflow() {
    let reply = refused(nested(100_000), 400, "SEND_DEPTH").await;
    assert!(reply.text().len() < 10_000, "the refusal is short");
    refused(b"[".repeat(100_000), 400, "SEND_DEPTH").await;
    refused(br#"{"a":"#.repeat(100_000), 400, "SEND_DEPTH").await;
}

#[tokio::test]
async fn duplicate_keys_are_refused_rather_than_one_of_them_chosen() {
    let text = String::from_utf8(Sample::new().addressed_to("lab").bytes()).unwrap();
    let twice = text.replacen(r#""type":"message""#, r#""type":"message","type":"message""#, 1);
    assert_ne!(text, twice);
    let reply = refused(twice, 400, "SEND_SYNTAX").await;
    assert!(reply.text().contains("type"), "{}", reply.text());
    // The same name, spelled with an escape.
    let hidden = text.replacen(r#""type":"message""#, r#""type":"message","typ\u0065":"batch""#, 1);
    refused(hidden, 400, "SEND_SYNTAX").await;
}

#[tokio::test]
async fn invalid_utf_8_is_refused() {
    for bad in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        let mut body = link().bytes();
        let at = body.windows(6).position(|window| window == b"Sample").unwrap();
        body.splice(at..at, bad.iter().copied());
        refused(body, 400, "SEND_SYNTAX").await;
    }
}

#[tokio::test]
async fn bytes_after_the_end_are_refused() {
    for trailing in [&b"x"[..], b"{}", b"\0", b","] {
        refused([&link().bytes()[..], trailing].concat(), 400, "SEND_SYNTAX").await;
    }
}

#[tokio::test]
async fn a_body_of_21_mebibytes_is_413_with_and_without_a_length() {
    let (node, lab) = node().await;
    let body = Sample::new().addressed_to("lab").padded(21 * MEBIBYTE).bytes();
    refused_by(&node, &lab, node.posting(body.clone()), 413, "SEND_TOO_LARGE").await;

    let pieces: Vec<_> = body.chunks(64 * 1024).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let chunked = node
        .request(Method::POST, PROCESS_MESSAGE)
        .header("content-type", "application/fhir+json")
        .body(Body::wrap_stream(futures_util::stream::iter(pieces)));
    let reply = node.ask(chunked).await.expect_status(413);
    assert_eq!(reply.faults(), ["SEND_TOO_LARGE"]);
    assert_eq!(lab.count(), 1);
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_refused_before_the_body_is_sent() {
    let (node, lab) = node().await;
    let mut connection = RawConnection::open(node.address()).await;
    connection.send(&head(node.address(), 21 * MEBIBYTE, "Expect: 100-continue\r\n")).await;
    let reply = connection.reply().await;
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    assert_unharmed(&node, &lab).await;
}

#[tokio::test]
async fn bombs_are_refused_as_too_large() {
    let zeros = vec![b' '; MEBIBYTE];
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    (0..1024).for_each(|_| std::io::Write::write_all(&mut zstd, &zeros).unwrap());
    let zstd = zstd.finish().unwrap();
    assert!(zstd.len() < MEBIBYTE);
    let gzip_within_gzip = gzip(&gzip_bomb(64 * MEBIBYTE));
    let bombs = [("gzip", gzip_bomb(1024 * MEBIBYTE), 413), ("zstd", zstd, 413), ("gzip", gzip_within_gzip, 400)];
    // Started when the bombs are made, which takes seconds: the router closes idle connections meanwhile, and a client
    // whose thread is busy does not notice.
    let (node, lab) = node().await;
    for (encoding, bomb, status) in bombs {
        let reply = node.ask(node.posting(bomb).header("content-encoding", encoding)).await.expect_status(status);
        assert_faults(&reply);
    }
    assert_unharmed(&node, &lab).await;
}

#[tokio::test]
async fn a_body_that_is_not_encoded_as_it_says_is_refused() {
    let (node, lab) = node().await;
    let whole = gzip(&link().bytes());
    let cut = whole[..whole.len() - 4].to_vec();
    let trailing = [&whole[..], b"more"].concat();
    for (encoding, body) in
        [("gzip", link().bytes()), ("zstd", link().bytes()), ("gzip", cut), ("gzip", trailing), ("zstd", Vec::new())]
    {
        let reply = node.ask(node.posting(body).header("content-encoding", encoding)).await.expect_status(400);
        assert_faults(&reply);
    }
    let twice = node.posting(gzip(&whole)).header("content-encoding", "gzip, gzip");
    assert_eq!(node.ask(twice).await.expect_status(415).faults(), ["SEND_MEDIA_TYPE"]);
    assert_unharmed(&node, &lab).await;
}

#[tokio::test]
async fn a_body_that_stops_half_way_leaves_nothing() {
    let (node, lab) = node().await;
    let message = link().bytes();
    half_a_body(node.address(), &message).await.hang_up();
    let mut half = half_a_body(node.address(), &message).await;
    half.half_close().await;
    let reply = half.reply().await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400"), "{reply}");
    assert_eq!(node.admin("messages").await["items"], json!([]));
    // Sent again as a whole, it is new.
    let again = node.post(message).await.expect_status(200);
    assert_eq!(again.header("emberpost-repeat"), None);
    assert_eq!(lab.count(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_answer_has_its_message_delivered_and_its_repeat_answered() {
    let (node, lab) = node().await;
    let gate = crate::harness::Gate::closed();
    lab.answer(crate::harness::Answer::Ok.behind(&gate));
    let message = link();
    let connection = whole_body(node.address(), &message.bytes(), "").await;
    lab.wait_for(1, SOON).await;
    connection.hang_up();
    gate.open();
    wait_until(SOON, "the delivery is answered", async || {
        node.admin("deliveries").await["items"][0]["state"] == "answered"
    })
    .await;

    let repeat = node.post(message.bytes()).await.expect_status(200);

    assert_eq!(repeat.header("emberpost-repeat"), Some("true"));
    assert_eq!(repeat.response_code().as_deref(), Some("ok"));
    assert_eq!(repeat.response_identifier(), Some(message.header_id()));
    assert_eq!(lab.count(), 1);
}

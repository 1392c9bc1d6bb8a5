//! What is refused by its status, and what the refusal says.

use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::node::PROCESS_MESSAGE;
use crate::harness::{Node, NodeConfig, Party, Peer, Reply, SOON, Sample, raw};

/// A participant's key for this token.
fn token(token: &str) -> String {
    let digest: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("token_sha256 = \"{digest}\"")
}

async fn node() -> Node {
    NodeConfig::with_sender().start().await
}

#[track_caller]
fn is_outcome(reply: &Reply, status: u16, fault: &str) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.json()["resourceType"], "OperationOutcome");
    assert_eq!(reply.faults().first().map(String::as_str), Some(fault), "{}", reply.text());
    assert!(reply.header("content-type").unwrap().starts_with("application/fhir+json"));
    assert!(reply.header("x-request-id").is_some() && reply.header("emberpost-message-id").is_some());
}

#[tokio::test]
async fn bad_syntax_is_told_with_line_and_column() {
    let reply = node().await.post("{\n  \"resourceType\": \"Bundle\",\n  \"type\" \"message\"\n}").await;
    is_outcome(&reply, 400, "SEND_SYNTAX");
    let issue = &reply.issues()[0];
    assert!(issue["expression"][0].is_string(), "{issue}");
    let extension = |name: &str| {
        let url = format!("http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-{name}");
        let found = issue["extension"].as_array().unwrap().iter().find(|extension| extension["url"] == url);
        found.unwrap()["valueInteger"].clone()
    };
    assert_eq!((extension("line"), extension("col")), (json!(3), json!(10)));
}

#[tokio::test]
async fn what_is_no_message_is_refused_with_the_element_at_fault() {
    let node = node().await;
    let reply = node.post(r#"{"resourceType":"Parameters","parameter":[]}"#).await;
    is_outcome(&reply, 400, "SEND_NOT_MESSAGE");
    assert!(reply.text().contains("MSG-83"), "{}", reply.text());
    let sample = || Sample::new().addressed_to("lab");
    for (message, fault, expression) in [
        (sample().set("/type", json!("batch")), "SEND_NOT_MESSAGE", "Bundle.type"),
        (sample().unset("/entry/0"), "SEND_NOT_MESSAGE", "Bundle.entry[0]"),
        (sample().unset("/entry"), "SEND_NOT_MESSAGE", "Bundle.entry"),
        (sample().without_source(), "SEND_UNKNOWN_SOURCE", "Bundle.entry[0].resource.source"),
        (sample().unset("/id").unset("/entry/0/resource/id"), "SEND_IDENTITY", "Bundle.id"),
    ] {
        let reply = node.post(message.bytes()).await;
        is_outcome(&reply, 400, fault);
        let found = reply.issues()[0]["expression"][0].as_str().unwrap_or_default().to_owned();
        assert!(found.starts_with(expression), "{found} for {expression}: {}", reply.text());
    }
    is_outcome(&node.post("").await, 400, "SEND_SYNTAX");
}

#[tokio::test]
async fn wrong_parameters_of_the_query_are_refused() {
    let node = node().await;
    for query in ["async=yes", "async=", "async=TRUE", "response-url=http://sender.example/back", "response-url="] {
        let request = node.request(Method::POST, &format!("{PROCESS_MESSAGE}?{query}"));
        let message = Sample::new().addressed_to("lab").bytes();
        let reply = node.ask(request.header("content-type", "application/fhir+json").body(message)).await;
        is_outcome(&reply, 400, "SEND_REQUEST");
    }
}

#[tokio::test]
async fn other_methods_are_refused_with_the_one_that_is_allowed() {
    let node = node().await;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let reply = node.ask(node.request(method, PROCESS_MESSAGE)).await;
        is_outcome(&reply, 405, "SEND_REQUEST");
        assert_eq!(reply.header("allow"), Some("POST"));
    }
    let path = "/fhir/async/01890000-0000-7000-8000-000000000000";
    let reply = node.ask(node.request(Method::POST, path)).await;
    is_outcome(&reply, 405, "SEND_REQUEST");
    assert_eq!(reply.header("allow"), Some("GET, DELETE"));
}

#[tokio::test]
async fn other_media_types_and_encodings_are_refused() {
    let node = node().await;
    let message = Sample::new().addressed_to("lab").bytes();
    for (header, value, fault) in [
        ("content-type", "text/plain", "SEND_MEDIA_TYPE"),
        ("content-type", "application/fhir+json; charset=latin1", "SEND_MEDIA_TYPE"),
        ("content-type", "application/fhir+json; fhirVersion=3.0", "SEND_VERSION"),
        ("content-encoding", "br", "SEND_MEDIA_TYPE"),
    ] {
        let mut request = node.request(Method::POST, PROCESS_MESSAGE).body(message.clone()).header(header, value);
        if header != "content-type" {
            request = request.header("content-type", "application/fhir+json");
        }
        is_outcome(&node.ask(request).await, 415, fault);
    }
    let bare = node.ask(node.request(Method::POST, PROCESS_MESSAGE).body(message)).await;
    is_outcome(&bare, 415, "SEND_MEDIA_TYPE");
}

#[tokio::test]
async fn what_cannot_be_written_as_asked_is_not_acceptable() {
    let node = node().await;
    let message = || Sample::new().addressed_to("lab").bytes();
    let reply = node.ask(node.posting(message()).header("accept", "text/html")).await;
    is_outcome(&reply, 406, "SEND_MEDIA_TYPE");
    let request = node.request(Method::POST, &format!("{PROCESS_MESSAGE}?_format=text/turtle"));
    let request = request.header("content-type", "application/fhir+json").header("accept", "application/fhir+json");
    is_outcome(&node.ask(request.body(message())).await, 406, "SEND_MEDIA_TYPE");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_plain_and_unpacked() {
    let node = NodeConfig::with_sender().server("body_limit_bytes = 3000").start().await;
    let message = Sample::new().addressed_to("lab").padded(4000).bytes();
    is_outcome(&node.post(message.clone()).await, 413, "SEND_TOO_LARGE");
    let packed = node.posting(raw::gzip(&message)).header("content-encoding", "gzip");
    is_outcome(&node.ask(packed).await, 413, "SEND_TOO_LARGE");
    let small = raw::gzip(&Sample::new().to("http://nobody.example").bytes());
    let taken = node.ask(node.posting(small).header("content-encoding", "gzip")).await.expect_status(200);
    assert_eq!(taken.faults(), ["SEND_UNKNOWN_DESTINATION"]);
    let broken = node.ask(node.posting("no gzip").header("content-encoding", "gzip")).await;
    is_outcome(&broken, 400, "SEND_MEDIA_TYPE");
}

#[tokio::test]
async fn a_stranger_is_refused_and_so_is_who_sends_as_another() {
    let peer = Peer::ok().await;
    let sender = Party::sender().with(&token("sender-secret"));
    let lab = Party::new("lab").at(&peer).with(&token("lab-secret")).with("may_send = [\"admin-notify\"]");
    let node = NodeConfig::new().participant(sender).participant(lab).start().await;
    let message = Sample::new().addressed_to("lab");

    let nobody = node.post(message.bytes()).await;
    is_outcome(&nobody, 401, "SEND_CREDENTIAL");
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Bearer"));
    is_outcome(&node.post_as("guessed", message.bytes()).await, 401, "SEND_CREDENTIAL");
    is_outcome(&node.post_as("lab-secret", message.bytes()).await, 403, "SEND_FOREIGN_SOURCE");
    let unknown = message.clone().from("http://unknown.example/fhir");
    let reply = node.post_as("sender-secret", unknown.bytes()).await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    let forbidden = Sample::new().from("http://lab.example/fhir").addressed_to("sender");
    is_outcome(&node.post_as("lab-secret", forbidden.bytes()).await, 403, "SEND_FORBIDDEN_EVENT");
    let not_asked = Sample::new().from("http://lab.example/fhir").to("http://sender.example/fhir");
    let not_asked = not_asked.answering("never-asked", "ok");
    is_outcome(&node.post_as("lab-secret", not_asked.bytes()).await, 403, "SEND_NOT_ASKED");
    assert_eq!(peer.count(), 0);

    // Refused with 401 or 403, the message left nothing behind: from its sender it is new.
    let taken = node.post_as("sender-secret", message.bytes()).await.expect_status(200);
    assert_eq!((taken.response_code().as_deref(), taken.header("emberpost-repeat")), (Some("ok"), None));
}

#[tokio::test]
async fn a_response_from_who_was_not_asked_is_refused_though_its_request_is_known() {
    let peer = Peer::answering(crate::harness::Answer::Empty(202)).await;
    let sender = Party::sender().with(&token("sender-secret"));
    let lab = Party::new("lab").at(&peer).with(&token("lab-secret"));
    let ward = Party::new("ward").with(&token("ward-secret"));
    let node = NodeConfig::new().participant(sender).participant(lab).participant(ward).start().await;
    let request = Sample::new().addressed_to("lab");
    node.post_as("sender-secret", request.bytes()).await.expect_status(202);
    peer.wait_for(1, SOON).await;
    let answer = |from: &str| Sample::new().from(from).answering(&request.header_id(), "ok").bytes();
    is_outcome(&node.post_as("ward-secret", answer("http://ward.example/fhir")).await, 403, "SEND_NOT_ASKED");
    node.post_as("lab-secret", answer("http://lab.example/fhir")).await.expect_status(200);
}

#[tokio::test]
async fn a_source_that_nobody_owns_is_refused() {
    let reply = node().await.post(Sample::new().from("http://unknown.example/fhir").addressed_to("lab").bytes()).await;
    is_outcome(&reply, 403, "SEND_UNKNOWN_SOURCE");
}

#[tokio::test]
async fn a_message_that_came_through_this_router_is_a_loop() {
    let peer = Peer::ok().await;
    let lab = Party::new("lab").at(&peer);
    let node = NodeConfig::with_sender().server("name = \"router.one\"").participant(lab).start().await;
    let message = Sample::new().addressed_to("lab").bytes();
    for via in ["1.1 router.one", "1.1 elsewhere, 1.1 router.one (Emberpost)", "HTTP/1.1 Router.One"] {
        let reply = node.ask(node.posting(message.clone()).header("via", via)).await.expect_status(200);
        assert_eq!(reply.response_code().as_deref(), Some("fatal-error"));
        assert_eq!(reply.faults(), ["ROUTE_LOOP"], "{via}");
    }
    assert_eq!(peer.count(), 0);
    let reply = node.ask(node.posting(message).header("via", "1.1 router.one.example")).await.expect_status(200);
    assert_eq!(reply.response_code().as_deref(), Some("ok"));
}

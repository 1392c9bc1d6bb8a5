//! JSON and XML, and the spelling of other FHIR versions: everybody reads and writes as he does.

use std::sync::Arc;

use fhir::format::convert;
use fhir::{FhirVersion, Format};
use serde_json::Value;

use crate::harness::{Answer, NodeConfig, Party, Peer, Received, Reply, SOON, Sample, script::answer_to};

fn xml(json: Vec<u8>) -> Vec<u8> {
    convert(json.into(), Format::Xml, FhirVersion::R4).unwrap().to_vec()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(&convert(bytes.to_vec().into(), Format::Json, FhirVersion::R4).unwrap()).unwrap()
}

/// An answer `ok` in the format of the request.
fn in_kind() -> Answer {
    Answer::By(Arc::new(|request: &Received| {
        let asked = convert(request.body.clone(), Format::Json, FhirVersion::R4).unwrap();
        let answer = answer_to(&asked, "ok");
        Answer::Bytes(if Format::detect(&request.body) == Format::Xml { xml(answer) } else { answer })
    }))
}

fn form_of(reply: &Reply) -> Format {
    let said = Format::of_media_type(reply.header("content-type").unwrap()).unwrap();
    assert_eq!(said, Format::detect(&reply.body), "{}", reply.text());
    said
}

#[tokio::test]
async fn an_xml_message_arrives_byte_for_byte_and_its_answer_comes_back_in_the_form_that_was_asked_for() {
    let peer = Peer::answering(in_kind()).await;
    let node = NodeConfig::with_sender().participant(Party::new("lab").at(&peer)).start().await;
    for (accept, wanted) in
        [(None, Format::Xml), (Some("application/fhir+json"), Format::Json), (Some("*/*"), Format::Xml)]
    {
        let message = Sample::new().addressed_to("lab");
        let body = xml(message.bytes());
        let posting = node.posting(body.clone());
        let posting = if let Some(accept) = accept { posting.header("accept", accept) } else { posting };
        let reply = node.ask(posting).await.expect_status(200);
        assert_eq!(form_of(&reply), wanted);
        let answer = json(&reply.body);
        assert_eq!(answer["entry"][0]["resource"]["response"]["identifier"], message.header_id().as_str());
        // The receiver answered in XML: what was converted is marked (MSG-123).
        assert_eq!(reply.header("x-intermediary").is_some(), wanted == Format::Json);
        let received = peer.received().pop().unwrap();
        assert_eq!(received.body, body);
        assert!(received.header("content-type").unwrap().starts_with("application/fhir+xml"));
        assert_eq!(received.header("x-intermediary"), None);
    }
}

#[tokio::test]
async fn a_receiver_that_reads_xml_gets_xml_that_says_the_same_and_a_mark_that_it_was_converted() {
    let peer = Peer::answering(in_kind()).await;
    let lab = Party::new("lab").at(&peer).with("format = \"xml\"");
    let node = NodeConfig::with_sender().participant(lab).start().await;
    let message = Sample::new().addressed_to("lab");
    let reply = node.post(message.bytes()).await.expect_status(200);
    assert_eq!(form_of(&reply), Format::Json);
    let received = peer.received().pop().unwrap();
    assert_eq!(Format::detect(&received.body), Format::Xml);
    assert!(received.header("content-type").unwrap().starts_with("application/fhir+xml"));
    assert!(received.header("x-intermediary").is_some());
    assert_eq!(json(&received.body), message.value());
}

#[tokio::test]
async fn the_same_message_in_the_other_form_is_a_repeat() {
    let peer = Peer::answering(in_kind()).await;
    let node = NodeConfig::with_sender().participant(Party::new("lab").at(&peer)).start().await;
    let message = Sample::new().addressed_to("lab").bytes();
    node.post(message.clone()).await.expect_status(200);
    let again = node.post(xml(message)).await.expect_status(200);
    assert_eq!(again.header("emberpost-repeat"), Some("true"));
    assert_eq!(form_of(&again), Format::Xml);
    assert_eq!(peer.count(), 1);
}

#[tokio::test]
async fn an_xml_message_that_is_refused_says_line_and_column_in_xml() {
    let node = NodeConfig::with_sender().start().await;
    let text = String::from_utf8(xml(Sample::new().bytes())).unwrap();
    let broken = text.replace("<Patient", "\n  <Patient").replace("</Patient>", "");
    let reply = node.post(broken).await.expect_status(400);
    assert_eq!(form_of(&reply), Format::Xml);
    let issue = &json(&reply.body)["issue"][0];
    let line =
        issue["extension"].as_array().unwrap().iter().find(|one| one["url"].as_str().unwrap().ends_with("-line"));
    assert!(line.unwrap()["valueInteger"].as_u64().unwrap() >= 2, "{issue}");
}

#[tokio::test]
async fn metadata_and_definitions_are_given_as_xml_where_that_is_accepted() {
    let node = NodeConfig::with_sender().shipped_definitions().start().await;
    for path in ["/fhir/metadata", "/fhir/MessageDefinition"] {
        let reply = node.ask(node.request(reqwest::Method::GET, path).header("accept", "application/fhir+xml")).await;
        let reply = reply.expect_status(200);
        assert_eq!(form_of(&reply), Format::Xml);
        let plain = node.get(path).await.expect_status(200).json();
        let converted = json(&reply.body);
        assert_eq!(converted["resourceType"], plain["resourceType"]);
        assert_eq!(converted["entry"].as_array().map(Vec::len), plain["entry"].as_array().map(Vec::len));
    }
}

#[tokio::test]
async fn a_message_of_another_version_is_refused_unless_bridging_is_allowed() {
    let peer = Peer::ok().await;
    let lab = Party::new("lab").at(&peer).with("fhir_version = \"5.0\"");
    let node = NodeConfig::with_sender().participant(lab.clone()).start().await;
    let refused = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    assert_eq!(refused.faults(), ["ROUTE_CONVERSION"]);
    assert_eq!(peer.count(), 0);

    let node = NodeConfig::with_sender().participant(lab.with("bridge_versions = true")).start().await;
    let message = Sample::new().addressed_to("lab");
    let reply = node.post(message.bytes()).await.expect_status(200);
    let told = peer.wait_for(1, SOON).await.pop().unwrap();
    assert!(told.header("content-type").unwrap().contains("fhirVersion=5.0"));
    assert!(told.header("x-intermediary").is_some());
    let told = told.json();
    assert_eq!(told["entry"][0]["resource"]["destination"][0]["endpointUrl"], "http://lab.example/fhir");
    assert_eq!(told["identifier"]["value"], format!("urn:uuid:{}", message.header_id()));
    // The receiver answered in R5; the sender reads R4, and its own identifier.
    let answer = reply.json();
    assert!(reply.header("content-type").unwrap().contains("fhirVersion=4.0"), "{}", reply.text());
    assert!(reply.header("x-intermediary").is_some(), "the answer was converted and is not marked");
    assert_eq!(answer["entry"][0]["resource"]["response"]["identifier"], message.header_id().as_str());
    assert!(answer["entry"][0]["resource"]["source"]["endpoint"].is_string(), "{answer}");
}

#[tokio::test]
async fn what_differs_beyond_the_header_is_not_bridged() {
    let peer = Peer::ok().await;
    let lab = Party::new("lab").at(&peer).with("fhir_version = \"5.0\"").with("bridge_versions = true");
    let node = NodeConfig::with_sender().participant(lab).start().await;
    // R5 moved an Organization's telecom into its contact.
    let organization = serde_json::json!({ "fullUrl": "urn:uuid:a0000000-0000-4000-8000-0000000000aa", "resource": {
        "resourceType": "Organization", "name": "O", "telecom": [{ "system": "phone", "value": "1" }] } });
    let message = Sample::new().addressed_to("lab").set("/entry/2", organization);
    let refused = node.post(message.bytes()).await.expect_status(200);
    assert!(refused.faults().contains(&"ROUTE_CONVERSION".to_owned()), "{}", refused.text());
    let issue = &refused.issues()[0];
    assert!(issue["diagnostics"].as_str().unwrap().contains("lab"), "{issue}");
    assert_eq!(peer.count(), 0);
}

//! What is read from a header is bounded, whoever sends it: the router says which element is too large, and goes on.

use serde_json::{Value, json};

use crate::harness::{Node, NodeConfig, Party, Peer, Reply, Sample};

const DEVICE: &str = "urn:uuid:d0000000-0000-4000-8000-000000000001";
const ENDPOINT: &str = "urn:uuid:e0000000-0000-4000-8000-000000000001";

async fn node() -> (Node, Peer) {
    let lab = Peer::ok().await;
    (NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).start().await, lab)
}

/// A message whose `many` destinations refer to one Endpoint with an address of this length.
fn shared_endpoint(many: usize, address_bytes: usize) -> Sample {
    let address = format!("http://lab.example/{}", "x".repeat(address_bytes - 19));
    let endpoint = json!({ "fullUrl": ENDPOINT, "resource": {
        "resourceType": "Endpoint", "status": "active", "connectionType": [{ "text": "x" }], "address": address,
    }});
    let destinations = vec![json!({ "endpointReference": { "reference": ENDPOINT } }); many];
    Sample::new().r5().set("/entry/0/resource/destination", json!(destinations)).set("/entry/2", endpoint)
}

/// A message whose `many` destinations refer to one Device with so many identifiers of this length.
fn shared_device(many: usize, identifiers: usize, value_bytes: usize) -> Sample {
    let identifier = |number: usize| json!({ "system": "urn:ids", "value": format!("{number:0value_bytes$}") });
    let identifiers: Vec<Value> = (0..identifiers).map(identifier).collect();
    let device = json!({ "fullUrl": DEVICE, "resource": { "resourceType": "Device", "identifier": identifiers } });
    let destination = json!({ "endpoint": "http://lab.example/fhir", "target": { "reference": DEVICE } });
    let destinations = vec![destination; many];
    Sample::new().set("/entry/0/resource/destination", json!(destinations)).set("/entry/2", device)
}

#[track_caller]
fn assert_beyond(reply: &Reply, element: &str) {
    assert_eq!(reply.status, 400, "{element}: {}", reply.text());
    assert_eq!(reply.faults().first().map(String::as_str), Some("SEND_LIMIT"), "{element}: {}", reply.text());
    let issues = reply.issues();
    assert_eq!(issues[0]["expression"], json!([element]), "{}", reply.text());
    assert!(reply.body.len() < 100_000, "{element}: a reply of {} bytes", reply.body.len());
}

/// Bytes of memory that the router has ever used at once.
fn peak_memory_bytes(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn an_element_of_the_header_beyond_its_limit_gets_400_naming_it_before_any_right_is_checked() {
    let (node, lab) = node().await;
    let header = "Bundle.entry[0].resource";
    let long = "x".repeat(3_000);
    let url = format!("http://lab.example/{long}");
    let cases = [
        (shared_endpoint(5_000, 1_000_000), format!("{header}.destination")),
        (shared_endpoint(1_000, 1_000_000), format!("{header}.destination[0].endpointReference.resolve().address")),
        (shared_device(1_000, 50_000, 20), format!("{header}.destination[0].target")),
        (shared_device(2, 3, 5_000), format!("{header}.destination[0].target.resolve().identifier[0].value")),
        (Sample::new().to(&url), format!("{header}.destination[0].endpoint")),
        (Sample::new().addressed_to("lab").from(&url), format!("{header}.source.endpoint")),
        (Sample::new().addressed_to("lab").event(&long), format!("{header}.eventCoding.code")),
        (Sample::new().addressed_to("lab").event_of(&long, "x"), format!("{header}.eventCoding.system")),
        (Sample::new().addressed_to("lab").with_header_id(&long), format!("{header}.id")),
        (Sample::new().addressed_to("lab").with_bundle_id(&long), "Bundle.id".to_owned()),
        (
            Sample::new().addressed_to("lab").set("/identifier", json!({ "system": "urn:s", "value": long })),
            "Bundle.identifier.value".to_owned(),
        ),
        (
            Sample::new().set(
                "/entry/0/resource/destination",
                json!([{ "endpoint": "http://lab.example/fhir", "target": { "reference": format!("Device/{long}") } }]),
            ),
            format!("{header}.destination[0].target.reference"),
        ),
        (
            Sample::new().set("/entry/0/resource/response", json!({ "identifier": long, "code": "ok" })),
            format!("{header}.response.identifier"),
        ),
    ];
    for (message, element) in cases {
        // From nobody who may send: what is too large is refused before that is asked.
        let stranger = message.clone().from("http://stranger.example/fhir");
        let messages = if element.contains(".source") { vec![message] } else { vec![message, stranger] };
        for message in messages {
            assert_beyond(&node.post(message.bytes()).await, &element);
        }
    }
    assert_eq!(lab.count(), 0);
    let peak = peak_memory_bytes(&node);
    assert!(peak < 300 * 1024 * 1024, "{peak} bytes of memory for messages of at most 6 MB");
}

#[tokio::test]
async fn what_is_within_the_limits_is_routed() {
    let (node, lab) = node().await;
    let device = shared_device(1_000, 1_000, 20)
        .set("/entry/0/resource/source", json!({ "endpoint": "http://sender.example/fhir", "name": "kit" }));
    assert_eq!(node.post(device.bytes()).await.expect_status(200).response_code().as_deref(), Some("ok"));
    assert_eq!(lab.count(), 1, "a thousand destinations of one participant make one delivery");
}

#[tokio::test]
async fn destinations_that_nobody_serves_are_told_up_to_the_limit_of_issues_and_counted_beyond() {
    let lab = Peer::ok().await;
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(&lab));
    let node = config.server("destinations_limit = 100_000").start().await;
    let unknown = |number: usize| json!({ "endpoint": format!("http://nobody.example/{number}") });
    let destinations: Vec<Value> = (0..50_000).map(unknown).collect();
    let message = Sample::new().set("/entry/0/resource/destination", json!(destinations));
    let reply = node.post(message.bytes()).await.expect_status(200);
    let issues = reply.issues();
    assert_eq!(issues.len(), 501);
    assert!(reply.body.len() < 1_000_000, "a reply of {} bytes", reply.body.len());
    let counted = issues[500]["diagnostics"].as_str().unwrap();
    assert!(counted.starts_with("49500 more issues are not listed"), "{counted}");
}

#[tokio::test]
async fn a_page_of_messages_ends_at_its_bound_of_bytes_and_goes_on_with_the_next() {
    let lab = Peer::ok().await;
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(&lab).address("http://lab.example/*"));
    let node = config.start().await;
    let destinations: Vec<Value> = (0..1_000)
        .map(|number| json!({ "endpoint": format!("http://lab.example/{number:04}{}", "x".repeat(2_000)) }))
        .collect();
    for _ in 0..6 {
        let message = Sample::new().set("/entry/0/resource/destination", json!(destinations));
        assert_eq!(node.post(message.bytes()).await.expect_status(200).response_code().as_deref(), Some("ok"));
    }
    let (mut seen, mut cursor) = (0, String::new());
    loop {
        let reply = node.get(&format!("/admin/v1/messages?sender=sender&limit=500{cursor}")).await.expect_status(200);
        assert!(reply.body.len() < 8 * 1024 * 1024, "a page of {} bytes", reply.body.len());
        let page = reply.json();
        let count = page["items"].as_array().unwrap().len();
        assert!((1..6).contains(&count), "{count} messages of 2 MB on a page");
        seen += count;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, 6, "each message once");
}

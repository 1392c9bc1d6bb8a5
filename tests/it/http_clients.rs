//! What HTTP clients of every kind meet at the edge: spellings of a path, aliases of the base, formats, ids, and browsers.

use reqwest::Method;
use serde_json::json;

use crate::harness::node::PROCESS_MESSAGE;
use crate::harness::raw::RawConnection;
use crate::harness::{Node, NodeConfig, Party, Peer, Reply, Sample, script::Answer};

/// What HAPI's client asks for; its JSON wants FHIR's type first.
const HAPI_ACCEPT: &str = "application/fhir+json;q=1.0, application/json+fhir;q=0.9";

async fn node_and_lab(answer: Answer) -> (Node, Peer) {
    let lab = Peer::answering(answer).await;
    (NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).start().await, lab)
}

fn sample() -> Sample {
    Sample::new().addressed_to("lab")
}

fn content_type(reply: &Reply) -> Option<&str> {
    reply.header("content-type")
}

#[tokio::test]
async fn an_empty_success_has_a_body_only_where_the_client_names_a_fhir_type() {
    let lab = Peer::answering(Answer::Empty(202)).await;
    let sender = Peer::answering(Answer::Empty(200)).await;
    let config = NodeConfig::new().participant(Party::sender().at(&sender)).participant(Party::new("lab").at(&lab));
    let node = config.start().await;
    for (accept, query, expected) in [
        (Some(HAPI_ACCEPT), "", Some("application/fhir+json")),
        (Some("application/fhir+xml;q=1.0, application/xml+fhir;q=0.9"), "", Some("application/fhir+xml")),
        (Some("*/*"), "?_format=xml", Some("application/fhir+xml")),
        (Some("application/fhir+json"), "?async=true", Some("application/fhir+json")),
        (Some("*/*"), "", None),
        (None, "", None),
        (Some("*/*"), "?async=true", None),
    ] {
        let path = format!("{PROCESS_MESSAGE}{query}");
        let mut request = node.request(Method::POST, &path).header("content-type", "application/fhir+json");
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let reply = node.ask(request.body(sample().bytes())).await;
        let case = format!("{accept:?} {query}: {} {}", reply.status, reply.text());
        assert!([200, 202].contains(&reply.status), "{case}");
        assert_eq!(content_type(&reply), expected, "{case}");
        assert_eq!(reply.body.is_empty(), expected.is_none(), "{case}");
        if expected == Some("application/fhir+json") {
            assert_eq!(reply.json()["issue"][0]["severity"], "information", "{case}");
        }
    }
}

#[tokio::test]
async fn no_content_stays_without_a_body_whatever_the_client_accepts() {
    let (node, _lab) = node_and_lab(Answer::Empty(204)).await;
    let reply = node.ask(node.posting(sample().bytes()).header("accept", HAPI_ACCEPT)).await.expect_status(204);
    assert!(reply.body.is_empty() && content_type(&reply).is_none());
}

#[tokio::test]
async fn every_spelling_of_the_path_is_the_same_path() {
    let (node, lab) = node_and_lab(Answer::Ok).await;
    for (count, path) in [
        "/fhir/%24process-message",
        "/fhir/$process-message/",
        "/fhir//$process-message",
        "//fhir/$process-message",
        "/fhir/%24process%2Dmessage//?_format=json",
    ]
    .into_iter()
    .enumerate()
    {
        let request = node.request(Method::POST, path).header("content-type", "application/fhir+json");
        let reply = node.ask(request.body(sample().bytes())).await;
        assert_eq!(reply.response_code().as_deref(), Some("ok"), "{path}: {} {}", reply.status, reply.text());
        assert_eq!(lab.count(), count + 1);
    }
    for path in ["/health/ready/", "//metrics", "/admin/v1//messages/", "/fhir/metadata/"] {
        node.get(path).await.expect_status(200);
    }
    let unknown = node.get("/fhir/%24process-massage/").await.expect_status(404);
    assert!(unknown.text().contains("/fhir/%24process-massage/"), "{}", unknown.text());
}

#[tokio::test]
async fn an_alias_of_the_base_fixes_the_version() {
    let (node, lab) = node_and_lab(Answer::Ok).await;
    for (alias, version) in [("R4", "4.0.1"), ("R4B", "4.3.0"), ("R5", "5.0.0")] {
        let statement = node.get(&format!("/fhir/{alias}/metadata")).await.expect_status(200).json();
        assert_eq!(statement["fhirVersion"], version);
        let url = statement["implementation"]["url"].as_str().unwrap();
        assert!(url.ends_with(&format!("/fhir/{alias}")), "{url}");
    }
    for (alias, sample, content_type, expected) in [
        ("R4", sample(), "application/fhir+json", 200),
        ("R4B", sample(), "application/fhir+json; fhirVersion=4.3", 200),
        ("R5", sample().r5(), "application/fhir+json", 200),
        ("R5", sample().r5(), "application/fhir+json; fhirVersion=4.0", 415),
        ("R4", sample(), "application/fhir+json; fhirVersion=5.0", 415),
    ] {
        let path = format!("/fhir/{alias}/$process-message");
        let request = node.request(Method::POST, &path).header("content-type", content_type);
        let reply = node.ask(request.body(sample.bytes())).await;
        assert_eq!(reply.status, expected, "{alias} {content_type}: {}", reply.text());
        match expected {
            200 => assert_eq!(reply.response_code().as_deref(), Some("ok"), "{alias}: {}", reply.text()),
            _ => assert_eq!(reply.faults(), ["SEND_VERSION"]),
        }
    }
    assert_eq!(
        lab.received().last().and_then(|last| last.header("content-type").map(str::to_owned)).as_deref(),
        Some("application/fhir+json; fhirVersion=5.0")
    );
    let wrong = node.get("/fhir/R5/metadata?fhirVersion=4.0").await.expect_status(415);
    assert_eq!(wrong.faults(), ["SEND_VERSION"]);
}

#[tokio::test]
async fn an_alias_of_the_base_is_our_own_address_as_a_destination() {
    let node = NodeConfig::new().shipped_definitions().start().await;
    let own = format!("http://{}/fhir/R4", node.address());
    let notice = Sample::new().event("admin-notify").from("http://127.0.0.1/anyone").to(&own);
    let reply = node.post(notice.bytes()).await;
    assert!(!reply.faults().iter().any(|fault| fault == "SEND_UNKNOWN_DESTINATION"), "{}", reply.text());
}

#[tokio::test]
async fn the_configured_version_is_the_default() {
    let node = NodeConfig::with_sender().server("fhir_version = \"5.0\"").start().await;
    let statement = node.get("/fhir/metadata").await.expect_status(200).json();
    assert_eq!(statement["fhirVersion"], "5.0.0");
    let request =
        node.request(Method::GET, "/fhir/metadata").header("accept", "application/fhir+json; fhirVersion=4.0");
    assert_eq!(node.ask(request).await.json()["fhirVersion"], "4.0.1");
    let (node, lab) = {
        let lab = Peer::ok().await;
        let config = NodeConfig::with_sender().server("fhir_version = \"4.3\"").participant(Party::new("lab").at(&lab));
        (config.start().await, lab)
    };
    node.post(sample().bytes()).await.expect_status(200);
    let received = lab.received();
    assert_eq!(received[0].header("content-type"), Some("application/fhir+json; fhirVersion=4.3"));
}

#[tokio::test]
async fn errors_come_in_the_format_that_was_asked_for_and_every_response_has_an_id() {
    let (node, _lab) = node_and_lab(Answer::Ok).await;
    let message = || sample().bytes();
    for (method, path, content_type, status) in [
        (Method::GET, "/nothing/here", None, 404),
        (Method::GET, "/fhir/Patient/1", None, 404),
        (Method::GET, PROCESS_MESSAGE, None, 405),
        (Method::POST, PROCESS_MESSAGE, Some("text/csv"), 415),
        (Method::POST, PROCESS_MESSAGE, None, 415),
        (Method::POST, "/fhir/metadata", None, 405),
        (Method::GET, "/fhir/MessageDefinition/none", None, 404),
        (Method::GET, "/fhir/async/none", None, 404),
        (Method::GET, "/admin/v1/nothing", None, 404),
        (Method::GET, "/admin/v1/messages?state=odd", None, 400),
        (Method::GET, "/admin/v1/messages/none", None, 404),
        (Method::POST, "/fhir/Bundle", None, 501),
    ] {
        for (accept, expected) in
            [("application/fhir+xml", "application/fhir+xml"), ("application/fhir+json", "application/fhir+json")]
        {
            let mut request = node.request(method.clone(), path).header("accept", accept).header("x-request-id", "r-1");
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            let reply = node.ask(request.body(message())).await;
            let case = format!("{method} {path} {accept}: {} {}", reply.status, reply.text());
            assert_eq!(reply.status, status, "{case}");
            assert!(reply.header("content-type").is_some_and(|text| text.starts_with(expected)), "{case}");
            assert!(reply.text().contains("OperationOutcome"), "{case}");
            assert_eq!(reply.header("x-request-id"), Some("r-1"), "{case}");
            assert!(reply.header("emberpost-message-id").is_some(), "{case}");
        }
    }
    let request = node.posting(message()).header("accept", "text/html");
    let reply = node.ask(request).await.expect_status(406);
    assert_eq!(content_type(&reply), Some("application/fhir+json"));
    for path in ["/health/live", "/health/ready", "/metrics", "/admin/v1/stats", "/fhir/metadata", "/nothing"] {
        let reply = node.get(path).await;
        assert!(reply.header("x-request-id").is_some_and(|id| id.len() == 36), "{path}");
    }
}

/// Sends the head and body as they are, and returns the whole reply.
async fn raw(node: &Node, head: &str, body: &[u8]) -> String {
    let mut connection = RawConnection::open(node.address()).await;
    connection.send(&[head.as_bytes(), body].concat()).await;
    connection.reply().await
}

#[tokio::test]
async fn headers_that_contradict_each_other_are_refused() {
    let (node, _lab) = node_and_lab(Answer::Ok).await;
    let host = node.address();
    let json = "Content-Type: application/fhir+json\r\n";
    for (lines, status) in [
        (format!("Host: {host}\r\n{json}"), 200),
        (format!("Host: {host}\r\n{json}Content-Type: application/fhir+json; charset=utf-8\r\n"), 200),
        (format!("Host: {host}\r\n{json}Content-Type: application/fhir+xml\r\n"), 400),
        (format!("Host: {host}\r\n{json}Content-Type: text/plain\r\n"), 400),
        (format!("Host: {host}\r\nContent-Type: text/plain\r\n{json}"), 400),
        (format!("Host: {host}\r\n{json}Content-Type: application/fhir+json; fhirVersion=5.0\r\n"), 400),
        (format!("Host: {host}\r\n{json}Content-Encoding: identity\r\nContent-Encoding: identity\r\n"), 200),
        (format!("Host: {host}\r\n{json}Content-Encoding: identity\r\nContent-Encoding: br\r\n"), 415),
        (format!("Host: {host}\r\n{json}Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n"), 415),
        (format!("Host: {host}\r\n{json}Content-Encoding: gzip, zstd\r\n"), 415),
        (json.to_owned(), 400),
        (format!("Host: {host}\r\nHost: {host}\r\n{json}"), 400),
    ] {
        let body = sample().bytes();
        let head = format!(
            "POST {PROCESS_MESSAGE} HTTP/1.1\r\nConnection: close\r\n{lines}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let reply = raw(&node, &head, &body).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{lines:?}: {reply}");
        if status == 415 {
            assert!(reply.to_lowercase().contains("accept-encoding: gzip, zstd"), "{reply}");
        }
    }
    let reply = raw(&node, "GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n", b"").await;
    assert!(reply.starts_with("HTTP/1.1 400 "), "every route asks for a Host: {reply}");
}

#[tokio::test]
async fn pages_of_configured_origins_may_call_and_no_others() {
    let app = "https://app.example.org";
    let preflight = |node: &Node, origin: &str| {
        let request = node.request(Method::OPTIONS, PROCESS_MESSAGE).header("origin", origin);
        request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,authorization")
    };
    let allowed = |reply: &Reply| reply.header("access-control-allow-origin").map(str::to_owned);
    let closed = NodeConfig::with_sender().start().await;
    assert_eq!(allowed(&closed.ask(preflight(&closed, app)).await), None, "off by default");

    let lab = Peer::ok().await;
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(&lab));
    let node = config.server(&format!("cors_origins = [\"{app}\"]")).start().await;
    let reply = node.ask(preflight(&node, app)).await.expect_status(200);
    assert_eq!(allowed(&reply).as_deref(), Some(app));
    assert!(reply.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    let reply = node.ask(node.posting(sample().bytes()).header("origin", app)).await.expect_status(200);
    assert_eq!(allowed(&reply).as_deref(), Some(app));
    assert!(reply.header("access-control-expose-headers").is_some_and(|names| names.contains("emberpost-message-id")));
    let stranger = node.ask(preflight(&node, "https://evil.example")).await;
    assert_eq!(allowed(&stranger), None);
    node.ask(node.posting(sample().bytes()).header("origin", "https://evil.example")).await.expect_status(403);
}

#[tokio::test]
async fn search_parameters_that_mean_nothing_here_are_ignored_or_refused_as_the_client_prefers() {
    let node = NodeConfig::new().shipped_definitions().start().await;
    let total = |reply: Reply| reply.expect_status(200).json()["total"].as_u64().unwrap();
    let all = total(node.get("/fhir/MessageDefinition").await);
    assert!(all > 2);
    let page = node.get("/fhir/MessageDefinition?_count=2&_sort=_id&status=active").await.expect_status(200).json();
    assert_eq!(page["entry"].as_array().map(Vec::len), Some(2));
    let next = page["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next").expect("a next link");
    let next = next["url"].as_str().unwrap().split_once("/fhir/").unwrap().1.to_owned();
    let second = node.get(&format!("/fhir/{next}")).await.expect_status(200).json();
    assert_ne!(second["entry"][0]["resource"]["id"], page["entry"][0]["resource"]["id"]);
    assert_eq!(total(node.get("/fhir/MessageDefinition?_summary=count").await), all);
    assert_eq!(total(node.get("/fhir/MessageDefinition?_elements=url&publisher=x").await), all);
    let strict = node.request(Method::GET, "/fhir/MessageDefinition?publisher=x").header("prefer", "handling=strict");
    let refused = node.ask(strict).await.expect_status(400);
    assert_eq!(refused.issues()[0]["code"], json!("not-supported"));
}

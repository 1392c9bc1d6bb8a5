//! Addresses are compared and used as one parsed URL: what a parser could read in two ways is refused.

use std::fs;
use std::process::Output;

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::node::PROCESS_MESSAGE;
use crate::harness::{Answer, Gate, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, program, wait_for, wait_until};

/// Posts with `async=true` and this `response-url`.
async fn ask_back(node: &Node, response_url: &str) -> Reply {
    let encoded: String = response_url.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let request = node.request(Method::POST, &format!("{PROCESS_MESSAGE}?async=true&response-url={encoded}"));
    let message = Sample::new().addressed_to("lab").bytes();
    node.ask(request.header("content-type", "application/fhir+json").body(message)).await
}

#[tokio::test]
async fn a_response_url_that_leads_out_of_the_senders_addresses_is_refused_and_posted_to_by_nobody() {
    let (home, lab) = (Peer::answering(Answer::Empty(200)).await, Peer::ok().await);
    let base = home.url();
    let sender = Party::sender().address("http://sender.example/*").address(&format!("{base}/a/*"));
    let node = NodeConfig::new().participant(sender).participant(Party::new("lab").at(&lab)).start().await;
    for path in [
        "/a/../b/x",
        "/a/%2e%2e/b/x",
        "/a/.%2E/b/x",
        "/a/./../b/x",
        "/a/..%2fb/x",
        "/a/..;/b/x",
        "/a/..\\b\\x",
        "/a/%5c../b/x",
        "/a/.\t./b/x",
        "/a/\n../b/x",
        "/a/\u{0}b",
        "/a/%00b",
        "/a/secret%2f1",
        "/a/secret%2F1",
        "/a/secret%5c1",
        "/a//secret/1",
        "//a/x",
    ] {
        let reply = ask_back(&node, &format!("{base}{path}")).await;
        assert_eq!(reply.status, 400, "{path:?}: {}", reply.text());
        assert_eq!(reply.faults(), ["SEND_REQUEST"], "{path:?}");
    }
    for url in [format!("{base}/b/x"), base.replace("http://", "http://a@") + "/a/x"] {
        assert_eq!(ask_back(&node, &url).await.status, 403, "{url}");
    }
    let long = format!("{base}/a/{}", "x".repeat(3_000));
    assert_eq!(ask_back(&node, &long).await.expect_status(400).faults(), ["SEND_LIMIT"]);
    // The same URL in another spelling is the same URL.
    let good = format!("{}/a/x y", base.replace("http://", "HTTP://"));
    ask_back(&node, &good).await.expect_status(200);
    wait_until(SOON, "the answer comes to the response-url", async || home.count() == 1).await;
    assert_eq!(home.received()[0].path_and_query, "/fhir/a/x%20y?async=true");
    assert_eq!(lab.count(), 1, "a refused message was delivered");
}

#[tokio::test]
async fn a_source_or_destination_that_parsers_read_in_two_ways_is_refused_at_every_level() {
    let lab = Peer::ok().await;
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(&lab).address("http://lab.example/*"));
    let node = config.validation("level = \"message\"\non_failure = \"report\"").start().await;
    for ending in ["a/../b", "%2e%2e/b", "a\\..\\b", "a\tb", "a\nb", "a\u{0}b", "a%00b", "a/b%2f1", "a//b"] {
        let address = format!("http://lab.example/{ending}");
        let cases = [
            (Sample::new().to(&address), "destination[0].endpoint"),
            (Sample::new().r5().to(&address), "destination[0].endpoint"),
            (Sample::new().addressed_to("lab").from(&address), "source.endpoint"),
        ];
        for (message, element) in cases {
            let reply = node.post(message.bytes()).await;
            assert_eq!(reply.status, 400, "{address:?}: {}", reply.text());
            assert_eq!(reply.faults(), ["SEND_STRUCTURE"], "{address:?}");
            let expression = reply.issues()[0]["expression"][0].as_str().unwrap_or_default().to_owned();
            assert!(expression.starts_with(&format!("Bundle.entry[0].resource.{element}")), "{expression}");
        }
    }
    for message in [
        Sample::new().addressed_to("lab").event("patient-link\u{0}"),
        Sample::new().addressed_to("lab").event_of("urn:\u{0}x", "patient-link"),
        Sample::new().addressed_to("lab").set("/entry/0/resource/destination/0/endpoint", json!("urn:oid:1\u{0}")),
    ] {
        assert_eq!(node.post(message.bytes()).await.expect_status(400).faults(), ["SEND_STRUCTURE"]);
    }
    assert_eq!(lab.count(), 0);
}

#[tokio::test]
async fn a_percent_encoded_spelling_of_an_address_belongs_to_the_owner_of_the_plain_one() {
    let (home, lab) = (Peer::answering(Answer::Empty(200)).await, Peer::ok().await);
    let base = home.url();
    let sender = Party::sender().address("http://sender.example/*").address(&format!("{base}/a/*"));
    let other = Party::new("other").address(&format!("{base}/a/secret/*")).address("http://sender.example/b/*");
    let config = NodeConfig::new().participant(sender).participant(other).participant(Party::new("lab").at(&lab));
    let node = config.start().await;
    for path in ["/a/secret/1", "/a/%73ecret/1", "/a/secr%65t/1", "/%61/%73%65%63%72%65%74/1"] {
        let reply = ask_back(&node, &format!("{base}{path}")).await;
        assert_eq!(reply.status, 403, "{path}: {}", reply.text());
    }
    for source in ["http://sender.example/b/1", "http://sender.example/%62/1", "http://sender.example/%62"] {
        let reply = node.post(Sample::new().addressed_to("lab").from(source).bytes()).await.expect_status(200);
        let id = reply.header("emberpost-message-id").unwrap().to_owned();
        assert_eq!(node.admin(&format!("messages/{id}")).await["sender"], "other", "{source}");
    }
    // Its own address in another spelling is posted to as it was given.
    ask_back(&node, &format!("{base}/a/%6Fwn")).await.expect_status(200);
    wait_until(SOON, "the answer comes to the response-url", async || home.count() == 1).await;
    assert_eq!(home.received()[0].path_and_query, "/fhir/a/%6Fwn?async=true");
    assert_eq!(lab.count(), 4, "a refused message was delivered");
}

/// The callback address belongs to this participant (None: to nobody).
fn with_callback(lab: &Peer, callback: &str, owner: Option<&str>) -> NodeConfig {
    let party = |party: Party, id: &str| if owner == Some(id) { party.address(callback) } else { party };
    let sender = Party::sender().address("http://sender.example/*").with("retry_schedule_seconds = [1]");
    let marker = Party::new(&format!("owner-{}", owner.unwrap_or("nobody")));
    NodeConfig::new()
        .participant(party(sender, "sender"))
        .participant(party(Party::new("other"), "other"))
        .participant(Party::new("lab").at(lab))
        .participant(marker)
}

async fn give_callback(node: &mut Node, lab: &Peer, callback: &str, owner: Option<&str>) {
    node.reload(with_callback(lab, callback, owner));
    let marker = format!("owner-{}", owner.unwrap_or("nobody"));
    wait_until(SOON, "the configuration is read again", async || {
        let page = node.admin("participants").await;
        page["items"].as_array().unwrap().iter().any(|item| item["id"] == marker.as_str())
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_not_posted_to_a_response_url_that_a_reload_took_from_the_sender() {
    // Whether the answer waits for its second attempt when the address goes, and who has the address then.
    for (is_waiting, owner) in [(false, Some("other")), (false, None), (true, Some("other"))] {
        let (home, lab, gate) = (Peer::answering(Answer::Empty(200)).await, Peer::ok().await, Gate::closed());
        let callback = format!("{}/back/*", home.url());
        let mut node = with_callback(&lab, &callback, Some("sender")).start().await;
        match is_waiting {
            true => home.answer_first([Answer::Empty(503).behind(&gate)]),
            false => lab.answer(Answer::Ok.behind(&gate)),
        };
        ask_back(&node, &format!("{}/back/1", home.url())).await.expect_status(200);
        if is_waiting {
            home.wait_for(1, SOON).await;
        } else {
            lab.wait_for(1, SOON).await;
        }
        give_callback(&mut node, &lab, &callback, owner).await;
        gate.open();
        let dead = wait_for(SOON, "the answer's delivery ends", async || {
            let page = node.admin("deliveries?participant=sender&state=dead").await;
            page["items"].as_array().unwrap().first().cloned()
        })
        .await;
        let case = format!("{is_waiting} {owner:?}");
        assert_eq!(dead["fault"], "ROUTE_CALLBACK", "{case}: {dead}");
        assert_eq!(home.count(), usize::from(is_waiting), "{case}: it was posted to an address of somebody else");
        // The operator who gives the address back has it delivered.
        give_callback(&mut node, &lab, &callback, Some("sender")).await;
        let retry = format!("deliveries/{}/retry", dead["id"].as_str().unwrap());
        node.admin_post(&retry, json!({})).await.expect_status(200);
        wait_until(SOON, "the answer comes home", async || home.count() == 1 + usize::from(is_waiting)).await;
    }
}

fn check(text: &str) -> Output {
    let folder = TempDir::with_prefix("emberpost-it-").unwrap();
    let file = format!("[definitions]\npaths = []\nunknown_events = \"route\"\n{text}");
    fs::write(folder.path().join("emberpost.toml"), file).unwrap();
    program(folder.path()).arg("check").output().unwrap()
}

#[test]
fn an_address_of_the_configuration_that_parsers_read_in_two_ways_is_an_error_with_its_place() {
    for (text, part) in [
        ("[[participant]]\nid = \"a\"\naddresses = ['http://h/a/../*']\n", "dot segment"),
        ("[[participant]]\nid = \"a\"\naddresses = ['http://h/%2e%2e/a']\n", "dot segment"),
        ("[[participant]]\nid = \"a\"\naddresses = ['http://h/a%2fb/*']\n", "percent-encoded slash"),
        ("[[participant]]\nid = \"a\"\naddresses = ['http://h/a//b/*']\n", "empty segment"),
        ("[[participant]]\nid = \"a\"\naddresses = ['http://h\\a']\n", "back slash"),
        ("[[participant]]\nid = \"a\"\naddresses = [\"http://h/a\\t\"]\n", "control character"),
        ("[[participant]]\nid = \"a\"\n[[route]]\ndestination = 'http://h/a/../*'\nto = ['a']\n", "dot segment"),
        ("[[participant]]\nid = \"a\"\nchannel = { type = 'http', url = 'http://h/a/../b' }\n", "dot segments"),
        ("[server]\nbase_url = 'http://ann:secret@h/fhir'\n", "without user and password"),
        ("[server]\nbase_url = 'http://ann@h/fhir'\n", "without user and password"),
    ] {
        let output = check(text);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {errors}");
        assert!(errors.contains(part) && errors.contains("emberpost.toml:"), "{text}: {errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
}

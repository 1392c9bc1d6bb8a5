//! Senders that do not wait: `async=true`, `Prefer: respond-async`, late answers, and the status URL.

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::node::PROCESS_MESSAGE;
use crate::harness::{
    Answer, Gate, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, script::answer_to, wait_for, wait_until,
};

/// A node whose `sender` has the channel `home`, and whose `lab` is `lab`.
fn with_home(home: &Peer, lab: &Peer) -> NodeConfig {
    let sender = Party::sender().at(home).address("http://sender.example/*").address(&format!("{}/*", home.url()));
    NodeConfig::new().participant(sender).participant(Party::new("lab").at(lab).with("retry_schedule_seconds = [1]"))
}

async fn quiet_home() -> Peer {
    Peer::answering(Answer::Empty(200)).await
}

fn asking(node: &Node, query: &str, message: &[u8]) -> RequestBuilder {
    let request = node.request(Method::POST, &format!("{PROCESS_MESSAGE}?{query}"));
    request.header("content-type", "application/fhir+json").body(message.to_vec())
}

fn status_path(reply: &Reply) -> String {
    format!("/fhir/async/{}", reply.header("emberpost-message-id").unwrap())
}

/// The status URL once nothing is open any more. Asked seldom enough to stay below the bound of polls.
async fn closed(node: &Node, path: &str) -> Reply {
    wait_for(SOON, "the status URL says the end", async || {
        tokio::time::sleep(std::time::Duration::from_millis(110)).await;
        let reply = node.get(path).await;
        (reply.status == 200).then_some(reply)
    })
    .await
}

#[tokio::test]
async fn an_asynchronous_sender_gets_its_answer_at_the_sources_channel() {
    let (home, lab) = (quiet_home().await, Peer::ok().await);
    let node = with_home(&home, &lab).start().await;
    for message in [Sample::new(), Sample::new().r5()] {
        let message = message.addressed_to("lab").bytes();
        let reply = node.ask(asking(&node, "async=true", &message)).await.expect_status(200);
        assert!(reply.body.is_empty());
        let body = answer_to(&message, "ok");
        let arrived = || home.received().into_iter().find(|received| received.body == body);
        let received = wait_for(SOON, "the answer comes home", async || arrived()).await;
        assert_eq!(received.path_and_query, "/fhir/$process-message?async=true");
        let again = node.ask(asking(&node, "async=true", &message)).await.expect_status(200);
        assert_eq!((again.text().as_str(), again.header("emberpost-repeat")), ("", Some("true")));
    }
    assert_eq!((lab.count(), home.count()), (2, 2));
}

#[tokio::test]
async fn an_answer_goes_to_the_response_url_as_it_was_given() {
    let (home, lab) = (quiet_home().await, Peer::ok().await);
    let sender = Party::sender().address("http://sender.example/*").address(&format!("{}/*", home.url()));
    let config = NodeConfig::new().participant(sender).participant(Party::new("lab").at(&lab));
    let node = config.start().await;
    let message = Sample::new().addressed_to("lab").bytes();
    let back = format!("{}/inbox?ward=7", home.url());
    let query = format!("async=true&response-url={}", back.replace('?', "%3F").replace('=', "%3D"));
    assert!(node.ask(asking(&node, &query, &message)).await.expect_status(200).body.is_empty());
    let received = home.wait_for(1, SOON).await;
    assert_eq!(received[0].path_and_query, "/fhir/inbox?ward=7&async=true");
    assert_eq!(received[0].body, answer_to(&message, "ok"));
}

#[tokio::test]
async fn a_response_url_of_somebody_else_is_forbidden() {
    let (home, lab) = (quiet_home().await, Peer::ok().await);
    let node = with_home(&home, &lab).start().await;
    for url in ["http://lab.example/back", "http://nobody.example/back", "http://sender.example.evil/back"] {
        let message = Sample::new().addressed_to("lab").bytes();
        let reply = node.ask(asking(&node, &format!("async=true&response-url={url}"), &message)).await;
        assert!(reply.clone().expect_status(403).text().contains("MSG-89"), "{}", reply.text());
    }
    assert_eq!(lab.count(), 0);
}

#[tokio::test]
async fn an_owed_answer_needs_somewhere_to_go() {
    let lab = Peer::ok().await;
    let node = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).start().await;
    let message = Sample::new().addressed_to("lab");
    let url = "http://hl7.org/fhir/StructureDefinition/messageheader-response-request";
    let always = message.clone().set("/entry/0/resource/extension", json!([{ "url": url, "valueCode": "always" }]));
    let reply = node.ask(asking(&node, "async=true", &always.bytes())).await.expect_status(400);
    assert_eq!(reply.faults(), ["SEND_REQUEST"]);
    let never = message.set("/entry/0/resource/extension", json!([{ "url": url, "valueCode": "never" }]));
    node.ask(asking(&node, "async=true", &never.bytes())).await.expect_status(200);
    lab.wait_for(1, SOON).await;
}

#[tokio::test]
async fn an_asynchronous_sender_is_refused_by_status() {
    let (home, lab) = (quiet_home().await, Peer::ok().await);
    let node = with_home(&home, &lab).start().await;
    let message = Sample::new().to("http://nobody.example/fhir").bytes();
    let reply = node.ask(asking(&node, "async=true", &message)).await.expect_status(422);
    assert_eq!(reply.json()["resourceType"], "OperationOutcome");
    assert_eq!(reply.faults(), ["SEND_UNKNOWN_DESTINATION"]);
    assert_eq!(home.count(), 0);
}

#[tokio::test]
async fn who_prefers_to_ask_later_finds_the_answer_at_the_status_url_only() {
    let (home, lab, gate) = (quiet_home().await, Peer::ok().await, Gate::closed());
    lab.answer(Answer::Ok.behind(&gate));
    let node = with_home(&home, &lab).start().await;
    let message = Sample::new().addressed_to("lab").bytes();
    let reply = node.ask(node.posting(message.clone()).header("prefer", "respond-async")).await.expect_status(202);
    assert_eq!(reply.header("preference-applied"), Some("respond-async"));
    assert_eq!(reply.header("content-location"), Some(node.url(&status_path(&reply)).as_str()));
    let open = node.get(&status_path(&reply)).await.expect_status(202);
    assert!(open.header("x-progress").is_some() && open.header("retry-after").is_some());
    gate.open();
    let page = closed(&node, &status_path(&reply)).await.json();
    assert_eq!(page["resourceType"], "Bundle");
    assert_eq!(page["type"], "batch-response");
    assert_eq!(page["entry"].as_array().unwrap().len(), 1);
    assert!(page["entry"][0]["response"]["status"].as_str().unwrap().starts_with("200"));
    let answer: serde_json::Value = serde_json::from_slice(&answer_to(&message, "ok")).unwrap();
    assert_eq!(page["entry"][0]["resource"], answer);
    assert_eq!(home.count(), 0);
    assert_eq!(node.admin("deliveries?participant=sender").await["items"], json!([]));
}

#[tokio::test]
async fn asynchronous_by_query_wins_over_the_preference() {
    let (home, lab) = (quiet_home().await, Peer::ok().await);
    let node = with_home(&home, &lab).start().await;
    let message = Sample::new().addressed_to("lab").bytes();
    let reply = node.ask(asking(&node, "async=true", &message).header("prefer", "respond-async")).await;
    assert_eq!((reply.status, reply.header("preference-applied")), (200, None));
    home.wait_for(1, SOON).await;
}

#[tokio::test]
async fn a_late_answer_is_at_the_status_url_and_goes_to_the_sources_channel() {
    let (home, lab, gate) = (quiet_home().await, Peer::ok().await, Gate::closed());
    lab.answer(Answer::Ok.behind(&gate));
    let node = with_home(&home, &lab).server("answer_timeout_ms = 150").start().await;
    let message = Sample::new().addressed_to("lab").bytes();
    let reply = node.post(message.clone()).await.expect_status(202);
    let open = node.get(&status_path(&reply)).await.expect_status(202);
    assert!(open.header("x-progress").is_some());
    gate.open();
    let received = home.wait_for(1, SOON).await;
    assert_eq!(received[0].path_and_query, "/fhir/$process-message?async=true");
    assert_eq!(received[0].body, answer_to(&message, "ok"));
    let page = closed(&node, &status_path(&reply)).await;
    assert!(page.text().contains(std::str::from_utf8(&answer_to(&message, "ok")).unwrap()), "{}", page.text());
    // The same message again has its answer now.
    let again = node.post(message.clone()).await.expect_status(200);
    assert_eq!((again.header("emberpost-repeat"), &again.body[..]), (Some("true"), &answer_to(&message, "ok")[..]));
}

#[tokio::test]
async fn receivers_without_a_word_and_those_that_refused_have_their_entries_too() {
    let (home, lab, ward) =
        (quiet_home().await, Peer::answering(Answer::Empty(202)).await, Peer::answering(Answer::Outcome(422)).await);
    let config = with_home(&home, &lab).participant(Party::new("ward").at(&ward));
    let node = config.participant(Party::new("box").mailbox()).start().await;
    let message = Sample::new().addressed_to("lab").addressed_to("ward");
    let reply = node.post(message.bytes()).await.expect_status(202);
    let page = closed(&node, &status_path(&reply)).await.json();
    assert!(page["entry"][0]["response"]["status"].as_str().unwrap().starts_with("202"), "{page}");
    let refused = &page["entry"][1]["resource"];
    assert_eq!(refused["entry"][0]["resource"]["response"]["code"], "fatal-error");

    let open = node.post(Sample::new().addressed_to("lab").addressed_to("box").bytes()).await.expect_status(202);
    lab.wait_for(2, SOON).await;
    wait_until(SOON, "one of two is done", async || {
        tokio::time::sleep(std::time::Duration::from_millis(110)).await;
        let reply = node.get(&status_path(&open)).await.expect_status(202);
        reply.header("x-progress").unwrap().starts_with("1 of 2")
    })
    .await;
}

#[tokio::test]
async fn a_status_url_that_is_ended_is_gone_and_the_message_goes_on() {
    let (home, lab, gate) = (quiet_home().await, Peer::ok().await, Gate::closed());
    lab.answer(Answer::Ok.behind(&gate));
    let node = with_home(&home, &lab).start().await;
    let message = Sample::new().addressed_to("lab").bytes();
    let reply = node.ask(node.posting(message).header("prefer", "respond-async")).await;
    let path = status_path(&reply);
    assert!(node.ask(node.request(Method::DELETE, &path)).await.expect_status(202).body.is_empty());
    for method in [Method::GET, Method::DELETE] {
        let gone = node.ask(node.request(method, &path)).await.expect_status(404);
        assert_eq!(gone.json()["resourceType"], "OperationOutcome");
    }
    lab.wait_for(1, SOON).await;
    gate.open();
    wait_until(SOON, "the delivery is answered", async || {
        node.admin("deliveries?participant=lab").await["items"][0]["state"] == "answered"
    })
    .await;
}

#[tokio::test]
async fn a_status_url_is_there_for_its_sender_only() {
    let token = |token: &str| {
        let digest: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("token_sha256 = \"{digest}\"")
    };
    let lab = Peer::ok().await;
    let sender = Party::sender().with(&token("sender-secret"));
    let config = NodeConfig::new().participant(sender);
    let node = config.participant(Party::new("lab").at(&lab).with(&token("lab-secret"))).start().await;
    let request = node.posting(Sample::new().addressed_to("lab").bytes()).bearer_auth("sender-secret");
    let reply = node.ask(request.header("prefer", "respond-async")).await.expect_status(202);
    let path = status_path(&reply);
    for method in [Method::GET, Method::DELETE] {
        node.ask(node.request(method.clone(), &path)).await.expect_status(401);
        node.ask(node.request(method, &path).bearer_auth("lab-secret")).await.expect_status(404);
    }
    let own = node.ask(node.request(Method::GET, &path).bearer_auth("sender-secret")).await;
    assert!([200, 202].contains(&own.status), "{}", own.text());
    for unknown in ["01890000-0000-7000-8000-000000000000", "not-an-id"] {
        let path = format!("/fhir/async/{unknown}");
        node.ask(node.request(Method::GET, &path).bearer_auth("sender-secret")).await.expect_status(404);
    }
}

#[tokio::test]
async fn another_party_cannot_use_up_the_polls_of_a_status_url() {
    let token = |token: &str| {
        let digest: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("token_sha256 = \"{digest}\"")
    };
    let sender = Party::sender().with(&token("sender-secret"));
    let lab = Party::new("lab").mailbox().with(&token("lab-secret"));
    let node = NodeConfig::new().participant(sender).participant(lab).start().await;
    let reply = node.post_as("sender-secret", Sample::new().addressed_to("lab").bytes()).await.expect_status(202);
    let path = status_path(&reply);
    let strangers = (0..20).map(|_| node.ask(node.request(Method::GET, &path).bearer_auth("lab-secret")));
    for reply in futures_util::future::join_all(strangers).await {
        assert!([404, 429].contains(&reply.status), "{}", reply.text());
    }
    node.ask(node.request(Method::GET, &path).bearer_auth("sender-secret")).await.expect_status(202);
}

#[tokio::test]
async fn more_than_ten_polls_a_second_are_too_many() {
    let node = NodeConfig::with_sender().participant(Party::new("lab").mailbox()).start().await;
    let path = status_path(&node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(202));
    let polls = futures_util::future::join_all((0..40).map(|_| node.get(&path))).await;
    let (many, open): (Vec<_>, Vec<_>) = polls.iter().partition(|reply| reply.status == 429);
    assert!(!many.is_empty() && open.len() >= 10, "{} of 40 were too many", many.len());
    assert!(open.iter().all(|reply| reply.status == 202));
    assert_eq!(many[0].issue_codes(), ["throttled"]);
    assert!(many[0].header("retry-after").is_some());
}

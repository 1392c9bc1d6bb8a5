//! What is sent to a receiver, and what becomes of each thing that it says.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, SOON, Sample, wait_for, wait_until};

fn lab(peer: &Peer) -> Party {
    Party::new("lab").at(peer).with("retry_schedule_seconds = [1]")
}

fn with_lab(peer: &Peer) -> NodeConfig {
    NodeConfig::with_sender().participant(lab(peer))
}

fn message() -> Sample {
    Sample::new().addressed_to("lab")
}

/// The lab's latest delivery.
async fn delivery(node: &Node) -> Value {
    node.admin("deliveries?participant=lab").await["items"][0].clone()
}

#[tokio::test]
async fn a_delivery_carries_its_ids_and_its_way() {
    let peer = Peer::ok().await;
    peer.answer_first([Answer::Empty(503), Answer::Empty(503)]);
    let node = with_lab(&peer).server("name = \"router.one\"").start().await;
    let request = node.posting(message().bytes()).header("x-request-id", "ward-7").header("via", "1.1 front");
    let reply = node.ask(request).await.expect_status(200);
    let received = peer.received();
    assert_eq!(received.len(), 3);
    for (index, attempt) in received.iter().enumerate() {
        assert_eq!(attempt.method, "POST");
        assert_eq!(attempt.path_and_query, "/fhir/$process-message");
        assert_eq!(attempt.header("x-request-id"), Some("ward-7"));
        assert_eq!(attempt.header("x-correlation-id"), reply.header("emberpost-message-id"));
        assert_eq!(attempt.header("via"), Some("1.1 front, 1.1 router.one"));
        assert!(attempt.header("content-type").unwrap().starts_with("application/fhir+json"));
        assert!(attempt.header("x-intermediary").is_none());
        let number = (index > 0).then(|| (index + 1).to_string());
        assert_eq!(attempt.header("emberpost-attempt"), number.as_deref());
        assert_eq!(attempt.body, received[0].body);
    }
    node.post(message().bytes()).await.expect_status(200);
    let fresh = peer.received().pop().unwrap();
    assert_eq!((fresh.header("via"), fresh.header("emberpost-attempt")), (Some("1.1 router.one"), None));
    assert!(fresh.header("x-request-id").is_some());
}

#[tokio::test]
async fn a_channel_may_ask_for_async_and_a_url_is_completed_once() {
    let peer = Peer::answering(Answer::Empty(200)).await;
    let channel = format!("{{ type = \"http\", url = \"{}/$process-message\", async = true }}", peer.url());
    let node = NodeConfig::with_sender().participant(Party::new("lab").channel(&channel)).start().await;
    node.post(message().bytes()).await.expect_status(204);
    assert_eq!(peer.received()[0].path_and_query, "/fhir/$process-message?async=true");
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let answers = [
        Answer::Empty(408),
        Answer::Empty(425),
        Answer::Empty(429),
        Answer::Empty(500),
        Answer::Outcome(502),
        Answer::HangUp,
        Answer::Garbage,
        Answer::ToAnotherRequest,
    ];
    let cases = answers.into_iter().map(async |answer| {
        let peer = Peer::ok().await;
        peer.answer_first([answer]);
        let node = with_lab(&peer).start().await;
        let reply = node.post(message().bytes()).await.expect_status(200);
        assert_eq!((reply.response_code().as_deref(), peer.count()), (Some("ok"), 2));
        assert_eq!(peer.received()[1].header("emberpost-attempt"), Some("2"));
    });
    join_all(cases).await;
}

#[tokio::test]
async fn each_failed_attempt_is_recorded_with_its_fault() {
    let elsewhere = Peer::ok().await;
    let answers = [
        (Answer::Empty(429), "RECV_BUSY"),
        (Answer::Empty(500), "RECV_ERROR"),
        (Answer::HangUp, "RECV_UNREACHABLE"),
        (Answer::Hang, "RECV_TIMEOUT"),
        (Answer::Garbage, "RECV_BAD_ANSWER"),
        (Answer::ToAnotherRequest, "RECV_BAD_ANSWER"),
        (Answer::Endless, "RECV_BAD_ANSWER"),
        (Answer::Redirect(elsewhere.url()), "ROUTE_REDIRECT"),
        (Answer::Empty(401), "ROUTE_CREDENTIAL"),
        (Answer::Empty(403), "ROUTE_CREDENTIAL"),
        (Answer::Empty(407), "ROUTE_CREDENTIAL"),
        (Answer::Outcome(404), "ROUTE_URL"),
    ];
    let cases = answers.into_iter().map(async |(answer, fault)| {
        let peer = Peer::answering(answer).await;
        let lab = Party::new("lab").at(&peer).with("retry_schedule_seconds = [60]").with("attempt_timeout_seconds = 2");
        let node = NodeConfig::with_sender().participant(lab).server("answer_timeout_ms = 50").start().await;
        let reply = node.post(message().bytes()).await.expect_status(202);
        wait_until(SOON, "the failure is recorded", async || delivery(&node).await["attempts"] == 1).await;
        let kept = delivery(&node).await;
        assert_eq!((&kept["state"], &kept["fault"]), (&json!("waiting"), &json!(fault)));
        let path = format!("messages/{}/timeline", reply.header("emberpost-message-id").unwrap());
        assert!(node.admin(&path).await.to_string().contains(fault));
    });
    join_all(cases).await;
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn retry_after_is_honored() {
    let peer = Peer::ok().await;
    peer.answer_first([Answer::RetryAfter(503, 2)]);
    let node = with_lab(&peer).start().await;
    node.post(message().bytes()).await.expect_status(200);
    let received = peer.received();
    assert_eq!(received.len(), 2);
    assert!(received[1].at - received[0].at >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_refusal_for_good_is_a_dead_letter_and_the_sender_hears_why() {
    for status in [400, 405, 409, 410, 413, 415, 422] {
        let peer = Peer::answering(Answer::Outcome(status)).await;
        let node = with_lab(&peer).start().await;
        let message = message();
        let reply = node.post(message.bytes()).await.expect_status(200);
        assert_eq!(reply.response_code().as_deref(), Some("fatal-error"));
        assert_eq!(reply.response_identifier(), Some(message.header_id()));
        assert_eq!(reply.faults(), ["RECV_REFUSED"]);
        assert_eq!(reply.issue_codes(), ["processing", "business-rule"]);
        assert!(reply.text().contains("the peer was told to say so"));
        let kept = delivery(&node).await;
        assert_eq!((&kept["state"], &kept["status"]), (&json!("dead"), &json!(status)));
        assert_eq!(peer.count(), 1);
    }
}

#[tokio::test]
async fn a_sender_that_is_not_there_any_more_hears_of_a_dead_letter_at_its_channel() {
    let (peer, home) = (Peer::answering(Answer::Outcome(422)).await, Peer::answering(Answer::Empty(200)).await);
    let node = NodeConfig::new().participant(Party::sender().at(&home)).participant(lab(&peer)).start().await;
    let url = "/fhir/$process-message?async=true";
    let request = node.request(reqwest::Method::POST, url).header("content-type", "application/fhir+json");
    node.ask(request.body(message().bytes())).await.expect_status(200);
    let told = home.wait_for(1, SOON).await;
    assert_eq!(told[0].json()["entry"][0]["resource"]["response"]["code"], "fatal-error");
    assert!(told[0].json().to_string().contains("RECV_REFUSED"));
}

#[tokio::test]
async fn what_expires_ends_as_a_dead_letter_and_its_waiting_sender_is_told() {
    let peer = Peer::answering(Answer::Empty(503)).await;
    let party = lab(&peer).with("expire_after_seconds = 2");
    let node = NodeConfig::with_sender().participant(party).start().await;
    let message = message();
    let reply = node.post(message.bytes()).await.expect_status(200);
    assert_eq!(reply.response_code().as_deref(), Some("transient-error"));
    assert_eq!(reply.response_identifier(), Some(message.header_id()));
    assert_eq!((reply.faults(), reply.issue_codes()), (vec!["RECV_EXPIRED".into()], vec!["timeout".into()]));
    assert_eq!(delivery(&node).await["state"], "dead");
    // It may pass: sent again, the message is new.
    peer.answer(Answer::Ok);
    let again = node.post(message.bytes()).await.expect_status(200);
    assert_eq!((again.response_code().as_deref(), again.header("emberpost-repeat")), (Some("ok"), None));
}

#[tokio::test]
async fn what_expires_is_told_at_the_sources_channel_when_nobody_waits_also_in_a_mailbox() {
    let (mut peer, home) = (Peer::ok().await, Peer::answering(Answer::Empty(200)).await);
    peer.down().await;
    let config = NodeConfig::new().participant(Party::sender().at(&home)).server("answer_timeout_ms = 50");
    let config = config.participant(lab(&peer).with("expire_after_seconds = 1"));
    let node = config.participant(Party::new("box").mailbox().with("expire_after_seconds = 1")).start().await;
    let sent = [message(), Sample::new().addressed_to("box")];
    for message in &sent {
        node.post(message.bytes()).await.expect_status(202);
    }
    let told = home.wait_for(2, SOON).await;
    let mut answered: Vec<_> = told
        .iter()
        .map(|told| {
            let header = told.json()["entry"][0]["resource"].clone();
            assert_eq!(header["response"]["code"], "transient-error");
            assert!(told.json().to_string().contains("RECV_EXPIRED"));
            assert_eq!(told.path_and_query, "/fhir/$process-message?async=true");
            header["response"]["identifier"].as_str().unwrap().to_owned()
        })
        .collect();
    answered.sort();
    let mut wanted: Vec<_> = sent.iter().map(Sample::header_id).collect();
    wanted.sort();
    assert_eq!(answered, wanted);
}

#[tokio::test]
async fn a_receiver_that_is_down_gets_everything_when_it_is_back() {
    let mut peer = Peer::ok().await;
    peer.down().await;
    let node = with_lab(&peer).server("answer_timeout_ms = 50").start().await;
    let sent: Vec<_> = (0..5).map(|_| message()).collect();
    for message in &sent {
        node.post(message.bytes()).await.expect_status(202);
    }
    peer.up().await;
    let received = peer.wait_for(5, SOON).await;
    let order: Vec<_> = received.iter().map(|received| received.header_id()).collect();
    assert_eq!(order, sent.iter().map(Sample::header_id).collect::<Vec<_>>());
    wait_for(SOON, "all are answered", async || {
        let answered = node.admin("deliveries?state=answered").await["items"].as_array().unwrap().len();
        (answered == 5).then_some(())
    })
    .await;
}

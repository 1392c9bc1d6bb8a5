//! Receivers that are down, slow, wrong or hostile: the message stays in custody, its attempts are on record, and its sender
//! hears how it ended.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::script::answer_to;
use crate::harness::{Answer, Gate, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_for, wait_until};

async fn node_with(lab: Party) -> Node {
    let lab = lab.with("retry_schedule_seconds = [1]").with("attempt_timeout_seconds = 2");
    NodeConfig::with_sender().participant(lab).start().await
}

async fn node_and_lab() -> (Node, Peer) {
    let lab = Peer::ok().await;
    (node_with(Party::new("lab").at(&lab)).await, lab)
}

/// The faults of all attempts at the message, in order; null for one that went well.
async fn attempts(node: &Node, reply: &Reply) -> Vec<Value> {
    let id = reply.header("emberpost-message-id").expect("every reply names the message");
    let timeline = node.admin(&format!("messages/{id}/timeline")).await;
    let entries = timeline["items"].as_array().or_else(|| timeline.as_array()).cloned().expect("a timeline");
    let attempts = entries.into_iter().filter(|entry| entry["what"] == "attempt");
    attempts.map(|entry| entry["attempt"]["fault"].clone()).collect()
}

/// The first attempt meets `answer`, the second a receiver that is well: the sender gets the answer, the attempt's fault is on
/// record, and both attempts carried the same bytes.
async fn recovers(answer: Answer, fault: &str) {
    let (node, lab) = node_and_lab().await;
    lab.answer_first([answer]);
    let message = Sample::new().addressed_to("lab");

    let reply = node.post(message.bytes()).await.expect_status(200);

    assert_eq!(reply.response_code().as_deref(), Some("ok"), "{fault}");
    assert_eq!(reply.response_identifier(), Some(message.header_id()));
    assert_eq!(attempts(&node, &reply).await, [json!(fault), Value::Null]);
    let received = lab.received();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|request| request.body == message.bytes()));
    assert_eq!((received[0].header("emberpost-attempt"), received[1].header("emberpost-attempt")), (None, Some("2")));
    assert_eq!(node.delivery_of(&reply).await["state"], "answered");
}

#[tokio::test]
async fn a_receiver_that_answers_500_is_tried_again() {
    recovers(Answer::Outcome(500), "RECV_ERROR").await;
}

#[tokio::test]
async fn a_receiver_that_is_too_slow_is_tried_again() {
    recovers(Answer::Hang, "RECV_TIMEOUT").await;
}

#[tokio::test]
async fn a_receiver_that_loses_the_connection_is_tried_again() {
    recovers(Answer::HangUp, "RECV_UNREACHABLE").await;
}

#[tokio::test]
async fn an_endless_body_is_cut_off_and_tried_again() {
    recovers(Answer::Endless, "RECV_BAD_ANSWER").await;
}

#[tokio::test]
async fn garbage_with_status_200_is_no_answer_and_is_tried_again() {
    recovers(Answer::Garbage, "RECV_BAD_ANSWER").await;
}

#[tokio::test]
async fn an_answer_to_another_request_is_no_answer_and_is_tried_again() {
    recovers(Answer::ToAnotherRequest, "RECV_BAD_ANSWER").await;
}

#[tokio::test]
async fn an_answer_without_identifier_or_with_a_strange_one_is_no_answer() {
    let strange = [Value::Null, json!(""), json!(17), json!({}), json!(["x"])].map(|identifier| {
        let answer = Answer::by(move |request| {
            let mut answer: Value = serde_json::from_slice(&answer_to(&request.body, "ok")).unwrap();
            answer["entry"][0]["resource"]["response"]["identifier"] = identifier.clone();
            Answer::Bytes(answer.to_string().into_bytes())
        });
        recovers(answer, "RECV_BAD_ANSWER")
    });
    futures_util::future::join_all(strange).await;
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let elsewhere = Peer::ok().await;
    recovers(Answer::Redirect(format!("{}/$process-message", elsewhere.url())), "ROUTE_REDIRECT").await;
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn retry_after_of_a_503_is_honored() {
    let (node, lab) = node_and_lab().await;
    lab.answer_first([Answer::RetryAfter(503, 3)]);
    let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    assert_eq!(attempts(&node, &reply).await, [json!("RECV_BUSY"), Value::Null]);
    let received = lab.received();
    let waited = received[1].at - received[0].at;
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
}

#[tokio::test]
async fn a_receiver_that_answers_400_ends_the_delivery_and_its_own_issues_reach_the_sender() {
    let (node, lab) = node_and_lab().await;
    lab.answer(Answer::Outcome(400));
    let message = Sample::new().addressed_to("lab");

    let reply = node.post(message.bytes()).await.expect_status(200);

    assert_eq!(reply.response_code().as_deref(), Some("fatal-error"));
    assert_eq!(reply.response_identifier(), Some(message.header_id()));
    assert_eq!(reply.faults(), ["RECV_REFUSED"]);
    assert!(reply.text().contains("the peer was told to say so"), "{}", reply.text());
    let delivery = node.delivery_of(&reply).await;
    assert_eq!((&delivery["state"], &delivery["status"]), (&json!("dead"), &json!(400)));
    let repeat = node.post(message.bytes()).await.expect_status(200);
    assert_eq!((repeat.header("emberpost-repeat"), &repeat.body), (Some("true"), &reply.body));
    assert_eq!(lab.count(), 1);
}

#[tokio::test]
async fn a_refusal_with_a_hostile_body_still_reaches_the_sender() {
    let (node, lab) = node_and_lab().await;
    let issues = format!(r#"{{"resourceType":"OperationOutcome","issue":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let many = json!({ "resourceType": "OperationOutcome", "issue": vec![json!({ "code": "x" }); 1_000] }).to_string();
    for body in [issues, many, "{\"resourceType\":\"OperationOutcome\"}".into(), "\u{0}".repeat(1_000_000)] {
        lab.answer(Answer::Raw(422, body.into_bytes()));
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
        assert_eq!(reply.response_code().as_deref(), Some("fatal-error"));
        assert_eq!(reply.faults(), ["RECV_REFUSED"]);
    }
}

#[tokio::test]
async fn what_is_sent_while_the_receiver_is_down_is_delivered_when_it_is_up_again() {
    let mut lab = Peer::ok().await;
    lab.down().await;
    let party = Party::new("lab").at(&lab).with("retry_schedule_seconds = [1]");
    let config = NodeConfig::with_sender().participant(party).server("answer_timeout_ms = 100");
    let node = config.start().await;
    let messages: Vec<_> = (0..7).map(|_| Sample::new().addressed_to("lab")).collect();
    let mut replies = Vec::new();
    for message in &messages {
        replies.push(node.post(message.bytes()).await.expect_status(202));
    }
    assert!(replies[0].header("content-location").is_some());
    assert_eq!(node.delivery_of(&replies[0]).await["state"], "waiting");

    lab.up().await;

    let received = lab.wait_for(messages.len(), SOON).await;
    // One source is one lane: in the order in which they were sent.
    let (got, sent): (Vec<_>, Vec<_>) =
        received.iter().zip(&messages).map(|(received, sent)| (received.header_id(), sent.header_id())).unzip();
    assert_eq!(got, sent);
    assert!(attempts(&node, &replies[0]).await.contains(&json!("RECV_UNREACHABLE")));
    for (message, first) in messages.iter().zip(&replies) {
        wait_until(SOON, "the message is answered", async || node.delivery_of(first).await["state"] == "answered")
            .await;
        let repeat = node.post(message.bytes()).await.expect_status(200);
        assert_eq!(repeat.header("emberpost-repeat"), Some("true"));
        assert_eq!(repeat.response_identifier(), Some(message.header_id()));
    }
    assert_eq!(lab.count(), messages.len());
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_nobody_else_up() {
    let (slow, quick) = (Peer::answering(Answer::Hang).await, Peer::ok().await);
    let config = NodeConfig::with_sender()
        .participant(Party::new("slow").at(&slow))
        .participant(Party::new("quick").at(&quick))
        .server("answer_timeout_ms = 200");
    let node = config.start().await;
    let start = Instant::now();
    for _ in 0..5 {
        node.post(Sample::new().addressed_to("slow").bytes()).await.expect_status(202);
        node.post(Sample::new().addressed_to("quick").bytes()).await.expect_status(200);
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(quick.count(), 5);
}

#[tokio::test]
async fn an_answer_that_comes_after_its_sender_left_is_at_the_status_url() {
    let gate = Gate::closed();
    let lab = Peer::answering(Answer::Ok.behind(&gate)).await;
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).server("answer_timeout_ms = 100");
    let node = config.start().await;
    let message = Sample::new().addressed_to("lab");
    let reply = node.post(message.bytes()).await.expect_status(202);
    let status_url = reply.header("content-location").unwrap().split_once(&node.url("")).unwrap().1.to_owned();
    node.get(&status_url).await.expect_status(202);

    gate.open();

    let page = wait_for(SOON, "the status URL has the answer", async || {
        let page = node.get(&status_url).await;
        (page.status == 200).then(|| page.json())
    })
    .await;
    assert_eq!(page["type"], "batch-response");
    assert_eq!(page["entry"].as_array().map(Vec::len), Some(1));
    assert!(page["entry"][0].to_string().contains(&message.header_id()), "{page}");
    assert_eq!(lab.count(), 1);
}

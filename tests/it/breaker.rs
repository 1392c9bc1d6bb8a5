//! Receivers that fail: when only probes go out, what a delivery's own schedule and limit say, and what an operator can do.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, SOON, Sample, wait_until};

fn lab(peer: &Peer) -> Party {
    Party::new("lab").at(peer).with("retry_schedule_seconds = [1]")
}

async fn start(lab: Party) -> Node {
    NodeConfig::with_sender().participant(lab).server("answer_timeout_ms = 50").start().await
}

fn message() -> Sample {
    Sample::new().addressed_to("lab")
}

/// A message of a lane of its own.
fn of_source(number: usize) -> Sample {
    message().from(&format!("http://sender.example/{number}"))
}

async fn participant(node: &Node, id: &str) -> Value {
    let items = node.admin("participants").await["items"].as_array().unwrap().clone();
    items.into_iter().find(|item| item["id"] == id).expect("the participant is listed")
}

async fn breaker(node: &Node, id: &str) -> String {
    participant(node, id).await["breaker"].as_str().unwrap().to_owned()
}

async fn deliveries(node: &Node, filter: &str) -> Vec<Value> {
    node.admin(&format!("deliveries?limit=500&{filter}")).await["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_wrong_credential_or_url_opens_the_breaker_like_any_failure_and_kills_nothing() {
    let cases = [(401, "ROUTE_CREDENTIAL"), (403, "ROUTE_CREDENTIAL"), (404, "ROUTE_URL"), (407, "ROUTE_CREDENTIAL")];
    join_all(cases.map(async |(status, fault)| {
        let peer = Peer::answering(Answer::Empty(status)).await;
        let node = start(lab(&peer).with("attempts_limit = 1")).await;
        for number in 0..4 {
            node.post(of_source(number).bytes()).await.expect_status(202);
        }
        peer.wait_for(4, SOON).await;
        node.post(of_source(4).bytes()).await.expect_status(202);
        wait_until(SOON, "the breaker opens", async || breaker(&node, "lab").await == "open").await;
        assert_eq!(participant(&node, "lab").await["last_fault"], fault);
        for item in deliveries(&node, "participant=lab").await {
            assert!(["waiting", "active"].contains(&item["state"].as_str().unwrap()), "{status}: {item}");
        }
        peer.answer(Answer::Ok);
        wait_until(SOON, "all are answered", async || deliveries(&node, "state=answered").await.len() == 5).await;
        assert_eq!(breaker(&node, "lab").await, "closed");
        // Those attempts were attempts, too: each message's later ones say so.
        let received = peer.received();
        for (index, attempt) in received.iter().enumerate() {
            let before = received[..index].iter().filter(|before| before.body == attempt.body).count();
            let number = (before > 0).then(|| (before + 1).to_string());
            assert_eq!(attempt.header("emberpost-attempt"), number.as_deref(), "after {status}");
        }
    }))
    .await;
}

#[tokio::test]
async fn a_message_that_fails_as_often_as_the_limit_allows_is_a_dead_letter_and_its_sender_may_send_it_again() {
    for answer in [Answer::Empty(500), Answer::Empty(429), Answer::HangUp, Answer::ToAnotherRequest] {
        let peer = Peer::answering(answer).await;
        let config = NodeConfig::with_sender().participant(lab(&peer).with("attempts_limit = 2"));
        let node = config.server("answer_timeout_ms = 20000").start().await;
        let message = message();
        let reply = node.post(message.bytes()).await.expect_status(200);
        assert_eq!(reply.response_code().as_deref(), Some("transient-error"));
        assert_eq!((reply.faults(), reply.issue_codes()), (vec!["RECV_ATTEMPTS".into()], vec!["transient".into()]));
        assert_eq!(peer.count(), 2);
        let dead = deliveries(&node, "participant=lab").await.remove(0);
        assert_eq!((&dead["state"], &dead["fault"]), (&json!("dead"), &json!("RECV_ATTEMPTS")));

        // An operator's retry has attempts of its own.
        let id = dead["id"].as_str().unwrap();
        node.admin_post(&format!("deliveries/{id}/retry"), json!({})).await.expect_status(200);
        wait_until(SOON, "it died again", async || deliveries(&node, "state=dead").await.len() == 1).await;
        assert_eq!(peer.count(), 4);

        peer.answer(Answer::Ok);
        let again = node.post(message.bytes()).await.expect_status(200);
        assert_eq!((again.response_code().as_deref(), again.header("emberpost-repeat")), (Some("ok"), None));
    }
}

#[tokio::test]
async fn a_retried_delivery_expires_as_its_own_participant_says() {
    let peer = Peer::answering(Answer::Empty(422)).await;
    let lab = lab(&peer).with("expire_after_seconds = 600");
    let other = Party::new("other").mailbox().with("expire_after_seconds = 31536000");
    let node = NodeConfig::with_sender().participant(lab).participant(other).start().await;
    node.post(message().bytes()).await.expect_status(200);
    peer.answer(Answer::Empty(503));
    let dead = deliveries(&node, "state=dead").await.remove(0);
    let before_us = emberpost::clock::Clock::default().now_us();
    let path = format!("deliveries/{}/retry", dead["id"].as_str().unwrap());
    let retried = node.admin_post(&path, json!({})).await.expect_status(200).json();
    let left_us = retried["expires_at_us"].as_i64().unwrap() - before_us;
    assert!((600_000_000..660_000_000).contains(&left_us), "{left_us}");
}

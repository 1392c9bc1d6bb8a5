//! Order: kept within a lane, across failures and restarts, and owed to nobody else.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Answer, Gate, NodeConfig, Party, Peer, Received, SOON, Sample, wait_until};

fn with_lab(peer: &Peer, order: &str) -> NodeConfig {
    let lab = Party::new("lab").at(peer).with("retry_schedule_seconds = [1]").with(&format!("order = {order:?}"));
    NodeConfig::with_sender().participant(lab).server("answer_timeout_ms = 20")
}

fn message() -> Sample {
    Sample::new().addressed_to("lab")
}

/// The header ids in order of arrival, each once: attempts after the first are repeats.
fn order_of(received: &[Received]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for id in received.iter().map(Received::header_id) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

fn ids(sent: &[Sample]) -> Vec<String> {
    sent.iter().map(Sample::header_id).collect()
}

#[tokio::test]
async fn a_source_is_served_in_order_though_its_first_message_fails() {
    let peer = Peer::ok().await;
    peer.answer_first([Answer::Empty(503), Answer::HangUp, Answer::Ok, Answer::Garbage]);
    let node = with_lab(&peer, "sender").start().await;
    let sent: Vec<_> = (0..6).map(|_| message()).collect();
    for message in &sent {
        node.post(message.bytes()).await;
    }
    wait_until(SOON, "all are answered", async || {
        node.admin("deliveries?state=answered").await["items"].as_array().unwrap().len() == sent.len()
    })
    .await;
    let received = peer.received();
    assert_eq!(order_of(&received), ids(&sent));
    // Nothing overtakes: a message comes only after every try of the one before it.
    let attempts: Vec<_> = received.iter().map(Received::header_id).collect();
    let positions: Vec<_> = attempts.iter().map(|id| ids(&sent).iter().position(|sent| sent == id).unwrap()).collect();
    assert!(positions.is_sorted(), "{positions:?}");
    assert_eq!((received.len(), peer.most_at_once()), (9, 1));
}

#[tokio::test]
async fn order_is_kept_across_a_crash() {
    for order in ["sender", "subject"] {
        let mut peer = Peer::ok().await;
        peer.down().await;
        let mut node = with_lab(&peer, order).start().await;
        let mut sent: Vec<_> = (0..5).map(|_| message()).collect();
        for message in &sent {
            node.post(message.bytes()).await.expect_status(202);
        }
        node.kill9();
        peer.up().await;
        node.restart().await;
        sent.push(message());
        node.post(sent[5].bytes()).await;
        wait_until(SOON, "all are answered", async || {
            node.admin("deliveries?state=answered").await["items"].as_array().unwrap().len() == sent.len()
        })
        .await;
        assert_eq!(order_of(&peer.received()), ids(&sent), "{order}");
    }
}

#[tokio::test]
async fn one_subject_waits_for_itself_only() {
    let (gate, peer) = (Gate::closed(), Peer::ok().await);
    peer.answer_first([Answer::Ok.behind(&gate)]);
    let node = with_lab(&peer, "subject").start().await;
    let sent = [message().about("p1"), message().about("p1"), message().about("p2")];
    for message in &sent {
        node.post(message.bytes()).await;
    }
    let received = peer.wait_for(2, SOON).await;
    assert_eq!(order_of(&received), [sent[0].header_id(), sent[2].header_id()]);
    assert_eq!(peer.most_at_once(), 2);
    gate.open();
    let received = peer.wait_for(3, SOON).await;
    assert_eq!(received[2].header_id(), sent[1].header_id());
}

#[tokio::test]
async fn one_source_waits_for_itself_only_and_spelling_makes_no_other_source() {
    let (gate, peer) = (Gate::closed(), Peer::ok().await);
    peer.answer_first([Answer::Ok.behind(&gate)]);
    let node = with_lab(&peer, "sender").start().await;
    let other = message().from("http://sender.example/other");
    let sent = [message(), message().from("HTTP://Sender.Example:80/fhir/"), other];
    for message in &sent {
        node.post(message.bytes()).await;
    }
    let received = peer.wait_for(2, SOON).await;
    assert_eq!(order_of(&received), [sent[0].header_id(), sent[2].header_id()]);
    gate.open();
    assert_eq!(peer.wait_for(3, SOON).await[2].header_id(), sent[1].header_id());
}

#[tokio::test]
async fn without_order_nothing_waits_for_another_up_to_the_concurrency() {
    let (gate, peer) = (Gate::closed(), Peer::ok().await);
    peer.answer(Answer::Ok.behind(&gate));
    let lab = Party::new("lab").at(&peer).with("order = \"none\"").with("concurrency = 3");
    let node = NodeConfig::with_sender().participant(lab).server("answer_timeout_ms = 20").start().await;
    for _ in 0..5 {
        node.post(message().bytes()).await.expect_status(202);
    }
    peer.wait_for(3, SOON).await;
    assert_eq!((peer.count(), peer.most_at_once()), (3, 3));
    gate.open();
    peer.wait_for(5, SOON).await;
    assert_eq!(peer.most_at_once(), 3);
}

#[tokio::test]
async fn a_dead_letter_frees_its_lane_and_goes_to_the_lanes_end_when_it_is_retried() {
    let (gate, peer) = (Gate::closed(), Peer::ok().await);
    peer.answer_first([Answer::Outcome(422), Answer::Ok.behind(&gate)]);
    let node = with_lab(&peer, "sender").start().await;
    let sent: Vec<_> = (0..3).map(|_| message()).collect();
    for message in &sent {
        node.post(message.bytes()).await;
    }
    peer.wait_for(2, SOON).await;
    let dead = node.admin("deliveries?state=dead").await;
    let id = dead["items"][0]["id"].as_str().unwrap();
    assert_eq!(node.admin_post(&format!("deliveries/{id}/retry"), json!({})).await.status / 100, 2);
    gate.open();
    let received = peer.wait_for(4, SOON).await;
    let order: Vec<_> = received.iter().map(Received::header_id).collect();
    let id = |index: usize| sent[index].header_id();
    assert_eq!(order, [id(0), id(1), id(2), id(0)]);
}

#[tokio::test]
async fn a_slow_receiver_does_not_hold_up_another() {
    let (slow, fast) = (Peer::answering(Answer::Hang).await, Peer::ok().await);
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(&slow).with("order = \"none\""));
    let node = config.participant(Party::new("ward").at(&fast)).server("answer_timeout_ms = 300").start().await;
    let hanging = (0..30).map(|_| node.post(message().bytes()));
    let quick = async {
        slow.wait_for(8, SOON).await;
        let started = std::time::Instant::now();
        for _ in 0..10 {
            let reply = node.post(Sample::new().addressed_to("ward").bytes()).await.expect_status(200);
            assert_eq!(reply.response_code().as_deref(), Some("ok"));
        }
        assert!(started.elapsed() < Duration::from_secs(5));
    };
    let (replies, ()) = tokio::join!(futures_util::future::join_all(hanging), quick);
    assert!(replies.iter().all(|reply| reply.status == 202));
    assert_eq!(fast.count(), 10);
}

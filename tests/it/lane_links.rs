//! Order across changes of the way in which a participant is carried: nothing overtakes, nothing is lost sight of.

use serde_json::{Value, json};

use crate::harness::{Answer, Gate, Node, NodeConfig, Party, Peer, Received, SOON, Sample, wait_until};

fn lab() -> Party {
    Party::new("lab").with("retry_schedule_seconds = [1]")
}

fn with(lab: Option<Party>) -> NodeConfig {
    let config = NodeConfig::with_sender().server("answer_timeout_ms = 20");
    lab.into_iter().fold(config, NodeConfig::participant)
}

/// Reads another configuration, and waits until the lab has this channel there (None: it is gone).
async fn reload(node: &mut Node, lab: Option<Party>, channel: Option<&str>) {
    node.reload(with(lab));
    wait_until(SOON, "the configuration is read again", async || {
        let page = node.admin("participants").await;
        let lab = page["items"].as_array().unwrap().iter().find(|item| item["id"] == "lab").cloned();
        lab.map(|lab| lab["channel"].as_str().unwrap_or_default().to_owned()).as_deref() == channel
    })
    .await;
}

async fn post(node: &Node, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let message = Sample::new().addressed_to("lab");
        let reply = node.post(message.bytes()).await;
        assert_eq!(reply.status, 202, "it waits");
        ids.push(message.header_id());
    }
    ids
}

/// Header ids in order of arrival, repeats of the same attempt after another left out.
fn order_of(received: &[Received]) -> Vec<String> {
    let mut ids: Vec<String> = received.iter().map(Received::header_id).collect();
    ids.dedup();
    ids
}

async fn states(node: &Node) -> Vec<Value> {
    let page = node.admin("deliveries?participant=lab").await;
    page["items"].as_array().unwrap().iter().map(|item| item["state"].clone()).collect()
}

#[tokio::test]
async fn what_waited_in_a_mailbox_is_delivered_first_and_in_order_once_the_participant_has_a_url() {
    let peer = Peer::ok().await;
    let mut node = with(Some(lab().mailbox())).start().await;
    let mut sent = post(&node, 3).await;
    reload(&mut node, Some(lab().at(&peer)), Some("http")).await;
    peer.wait_for(3, SOON).await;
    // Once more by way of the mailbox: what waits there again goes before what comes later.
    reload(&mut node, Some(lab().mailbox()), Some("mailbox")).await;
    sent.extend(post(&node, 2).await);
    reload(&mut node, Some(lab().at(&peer)), Some("http")).await;
    let last = Sample::new().addressed_to("lab");
    node.post(last.bytes()).await;
    sent.push(last.header_id());
    assert_eq!(order_of(&peer.wait_for(6, SOON).await), sent);
}

#[tokio::test]
async fn what_waits_for_a_dead_url_survives_a_time_as_mailbox_and_is_not_overtaken() {
    let (dead, alive) = (Peer::answering(Answer::Empty(503)).await, Peer::ok().await);
    let mut node = with(Some(lab().at(&dead))).start().await;
    let mut sent = post(&node, 3).await;
    dead.wait_for(1, SOON).await;
    reload(&mut node, Some(lab().mailbox()), Some("mailbox")).await;
    sent.extend(post(&node, 1).await);
    reload(&mut node, Some(lab().at(&alive)), Some("http")).await;
    let last = Sample::new().addressed_to("lab");
    node.post(last.bytes()).await;
    sent.push(last.header_id());
    assert_eq!(order_of(&alive.wait_for(5, SOON).await), sent);
}

#[tokio::test]
async fn a_participant_that_is_removed_and_added_again_during_an_attempt_loses_nothing() {
    for fails_while_gone in [false, true] {
        let (gate, peer) = (Gate::closed(), Peer::ok().await);
        peer.answer_first([Answer::Empty(503).behind(&gate)]);
        let mut node = with(Some(lab().at(&peer))).start().await;
        let sent = post(&node, 3).await;
        peer.wait_for(1, SOON).await;
        reload(&mut node, None, None).await;
        if fails_while_gone {
            gate.open();
            wait_until(SOON, "the attempt is recorded", async || {
                let page = node.admin("deliveries").await;
                page["items"].as_array().unwrap().iter().any(|item| item["attempts"] == 1)
            })
            .await;
        }
        reload(&mut node, Some(lab().at(&peer)), Some("http")).await;
        gate.open();
        let received = peer.wait_for(4, SOON).await;
        assert_eq!(order_of(&received), sent, "fails while gone: {fails_while_gone}");
    }
}

#[tokio::test]
async fn an_attempt_that_fails_after_its_participant_became_a_mailbox_leaves_the_message_there() {
    let (gate, peer) = (Gate::closed(), Peer::ok().await);
    peer.answer_first([Answer::Empty(503).behind(&gate)]);
    let mut node = with(Some(lab().at(&peer))).start().await;
    let sent = post(&node, 2).await;
    peer.wait_for(1, SOON).await;
    reload(&mut node, Some(lab().mailbox()), Some("mailbox")).await;
    gate.open();
    wait_until(SOON, "the attempt is recorded", async || {
        let page = node.admin("deliveries?participant=lab").await;
        page["items"].as_array().unwrap().iter().any(|item| item["attempts"] == 1)
    })
    .await;
    // Longer than its schedule: another channel would have had it again. A second message shows that the courier has run.
    let page = node.admin("deliveries?participant=lab").await;
    let due_us = page["items"].as_array().unwrap().iter().filter_map(|item| item["due_at_us"].as_i64()).max().unwrap();
    wait_until(SOON, "its next attempt would be due", async || {
        emberpost::clock::Clock::default().now_us() > due_us + 500_000
    })
    .await;
    assert_eq!(states(&node).await, [json!("waiting"), json!("waiting")]);
    assert_eq!(peer.count(), 1);
    let participants = node.admin("participants").await;
    let lab_now = participants["items"].as_array().unwrap().iter().find(|item| item["id"] == "lab").unwrap().clone();
    assert_eq!(lab_now["waiting"], 2);
    reload(&mut node, Some(lab().at(&peer)), Some("http")).await;
    assert_eq!(order_of(&peer.wait_for(3, SOON).await), sent);
}

#[tokio::test]
async fn a_replay_to_another_participant_stands_in_the_lane_of_live_traffic() {
    let (gate, peer) = (Gate::closed(), Peer::ok().await);
    peer.answer_first([Answer::Ok.behind(&gate)]);
    let lab = lab().at(&peer).with("order = \"subject\"");
    let node = with(Some(lab)).participant(Party::new("ward").mailbox()).start().await;
    let old = Sample::new().addressed_to("ward").about("p1");
    let other = Sample::new().addressed_to("ward").about("p2");
    let live = Sample::new().addressed_to("lab").about("p1");
    for message in [&old, &other, &live] {
        node.post(message.bytes()).await;
    }
    peer.wait_for(1, SOON).await;
    let filter = json!({ "filter": { "destination": "http://ward.example/fhir" }, "to": "lab" });
    node.admin_post("replays", filter).await.expect_status(201);
    let received = peer.wait_for(2, SOON).await;
    assert_eq!(order_of(&received), [live.header_id(), other.header_id()], "the old one waits behind the live one");
    gate.open();
    let received = peer.wait_for(3, SOON).await;
    assert_eq!(order_of(&received), [live.header_id(), other.header_id(), old.header_id()]);
}

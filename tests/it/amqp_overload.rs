//! Receivers that are full or slow, and a broker that takes nothing: what was accepted waits, in order, and comes once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::amqp_faults::{LATER, Queues, as_reply, attempts, ids, ids_at, ids_of, listed};
use crate::harness::amqp::text;
use crate::harness::raw::gzip;
use crate::harness::{Amqp, Answer, Broker, Gate, Party, Peer, Props, SOON, Sample, wait_for, wait_until};

/// Messages that the full queue has room for.
const ROOM: usize = 5;

fn messages(count: usize, to: &str) -> Vec<Sample> {
    (0..count).map(|_| Sample::new().addressed_to(to)).collect()
}

/// One of each in turn, as they may lie in a queue.
fn mixed(first: &[Sample], second: &[Sample]) -> Vec<Sample> {
    first.iter().zip(second).flat_map(|(one, other)| [one.clone(), other.clone()]).collect()
}

#[tokio::test]
async fn a_full_queue_delays_its_own_messages_only_and_they_come_once_and_in_order() {
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let room = [("x-max-length", i32::try_from(ROOM).unwrap().into()), ("x-overflow", text("reject-publish"))];
    let (full_queue, full) = queues.receiver("full", &room).await;
    let (other_queue, other) = queues.receiver("other", &[]).await;
    let node = queues.config().participant(full).participant(other).start().await;
    let (to_full, to_other) = (messages(12, "full"), messages(12, "other"));

    queues.send(&mixed(&to_full, &to_other)).await;

    let others = queues.client.take(&other_queue, to_other.len(), LATER).await;
    assert_eq!(ids_of(&others), ids(&to_other));
    queues.wait_until_taken(&node).await;
    wait_until(LATER, "the full queue refused the next message twice", async || {
        attempts(&node, &to_full[ROOM]).await.len() >= 2
    })
    .await;
    assert_eq!(queues.client.depth(&full_queue).await, Some(ROOM as u32));
    assert!(attempts(&node, &to_full[ROOM]).await.iter().all(|fault| fault == "RECV_QUEUE_FULL"));
    // What waits behind it in its lane was not tried.
    assert!(attempts(&node, &to_full[ROOM + 1]).await.is_empty());
    let taken = queues.client.take(&full_queue, to_full.len(), LATER).await;
    assert_eq!(ids_of(&taken), ids(&to_full));
    wait_until(LATER, "every delivery is settled", async || {
        listed(&node, "deliveries?state=delivered").await.len() == to_full.len() + to_other.len()
    })
    .await;
    assert_eq!(queues.client.depth(&full_queue).await, Some(0), "a message came twice");
    assert_eq!(attempts(&node, &to_full[0]).await, [Value::Null]);
}

#[tokio::test]
async fn an_alarm_of_the_broker_stops_publishing_and_is_no_failure_of_anybody() {
    let Some(broker) = Broker::start().await else { return };
    let queues = Queues::on(&broker).await;
    let lab = Peer::ok().await;
    let (queue, party) = queues.receiver("remote", &[]).await;
    let party = party.with("attempt_timeout_seconds = 2");
    let config = queues.config().participant(party).participant(Party::new("lab").at(&lab));
    let mut node = config.server("answer_timeout_ms = 500").start().await;
    // They wait in the broker when the alarm begins.
    node.terminate().await;
    let (to_lab, mut to_remote) = (messages(10, "lab"), messages(10, "remote"));
    queues.send(&mixed(&to_lab, &to_remote)).await;
    broker.memory_alarm(true).await;
    node.restart().await;

    // Taking and acknowledging goes on, and so does HTTP.
    queues.wait_until_taken(&node).await;
    lab.wait_for(to_lab.len(), LATER).await;
    assert_eq!(ids_at(&lab), ids(&to_lab));
    let late = Sample::new().addressed_to("remote");
    node.post(late.bytes()).await.expect_status(202);
    to_remote.push(late);
    let ready = wait_for(LATER, "health tells of the alarm", async || {
        let ready = node.get("/health/ready").await.expect_status(200).json();
        (ready["amqp"] == "blocked").then_some(ready)
    });
    assert_eq!(ready.await["status"], "degraded");
    // Several times the time that an attempt has.
    tokio::time::sleep(Duration::from_secs(9)).await;
    for message in &to_remote {
        assert!(attempts(&node, message).await.is_empty(), "waiting for the broker counted as an attempt");
    }
    assert_eq!(listed(&node, "deliveries?participant=remote&state=dead").await, Vec::<Value>::new());
    assert_eq!(queues.client.depth(&queue).await, Some(0));
    broker.memory_alarm(false).await;

    // A blocked connection of the test would not hear it.
    let client = Amqp::connect(&broker.url()).await;
    let taken = client.take(&queue, to_remote.len(), LATER).await;
    assert_eq!(ids_of(&taken), ids(&to_remote));
    wait_until(LATER, "every delivery is settled", async || {
        listed(&node, "deliveries?participant=remote&state=delivered").await.len() == to_remote.len()
    })
    .await;
    assert_eq!(client.depth(&queue).await, Some(0), "a message came twice");
    for message in &to_remote {
        assert_eq!(attempts(&node, message).await, [Value::Null]);
    }
    wait_until(SOON, "health is well again", async || node.get("/health/ready").await.json()["status"] == "ready")
        .await;
}

#[tokio::test]
async fn messages_for_a_fast_receiver_do_not_wait_behind_those_for_a_slow_one() {
    // More than are taken from the broker at once.
    const EACH: usize = 300;
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let gate = Gate::closed();
    let slow = Peer::answering(Answer::Ok.behind(&gate)).await;
    let (queue, fast) = queues.receiver("fast", &[]).await;
    let node = queues.config().participant(Party::new("slow").at(&slow)).participant(fast).start().await;
    let (to_slow, to_fast) = (messages(EACH, "slow"), messages(EACH, "fast"));

    queues.send(&mixed(&to_slow, &to_fast)).await;

    let taken = queues.client.take(&queue, EACH, LATER).await;
    assert_eq!(ids_of(&taken), ids(&to_fast));
    assert_eq!(slow.count(), 1, "one at a time in a lane");
    queues.wait_until_taken(&node).await;
    gate.open();
    slow.wait_for(EACH, LATER).await;
    assert_eq!(ids_at(&slow), ids(&to_slow));
    wait_until(LATER, "every delivery is answered", async || {
        listed(&node, "deliveries?participant=slow&state=answered").await.len() == EACH
    })
    .await;
    assert_eq!(slow.count(), EACH, "a message came twice");
    assert_eq!(queues.client.depth(&queue).await, Some(0), "a message came twice");
}

#[tokio::test]
async fn a_message_that_expires_before_its_receiver_is_back_ends_and_its_sender_is_told() {
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let mut lab = Peer::ok().await;
    lab.down().await;
    let party = Party::new("lab").at(&lab).with("retry_schedule_seconds = [1]");
    let node = queues.config().participant(party).start().await;
    let message = Sample::new().addressed_to("lab");

    let props = Props::json().expiration_ms(2000);
    let answer = queues.client.request("", &queues.inbound, &message.bytes(), props, LATER).await;

    let answer = as_reply(&answer.expect("the sender is told"));
    assert_eq!(answer.response_code().as_deref(), Some("transient-error"));
    assert_eq!(answer.response_identifier(), Some(message.header_id()));
    assert_eq!((answer.issue_codes(), answer.faults()), (vec!["timeout".into()], vec!["RECV_EXPIRED".into()]));
    let dead = listed(&node, "deliveries?participant=lab").await;
    assert_eq!(dead.len(), 1);
    assert_eq!((&dead[0]["state"], &dead[0]["fault"]), (&json!("dead"), &json!("RECV_EXPIRED")));
    lab.up().await;
    // It left no identity: sent again, it is new.
    queues.send(std::slice::from_ref(&message)).await;
    lab.wait_for(1, LATER).await;
    assert_eq!(ids_at(&lab), [message.header_id()]);
}

#[tokio::test]
async fn an_alarm_of_the_broker_does_not_hold_up_a_router_that_is_asked_to_stop() {
    let Some(broker) = Broker::start().await else { return };
    let queues = Queues::on(&broker).await;
    let (queue, party) = queues.receiver("remote", &[]).await;
    let mut node = queues.config().participant(party).server("answer_timeout_ms = 100").start().await;
    broker.memory_alarm(true).await;
    let message = Sample::new().addressed_to("remote");
    node.post(message.bytes()).await.expect_status(202);
    wait_until(LATER, "the broker tells of its alarm", async || {
        node.get("/health/ready").await.json()["amqp"] == "blocked"
    })
    .await;

    assert!(node.terminate().await.success());

    assert!(!node.log().contains("was lost"), "a stop is no lost connection");
    broker.memory_alarm(false).await;
    node.restart().await;
    let client = Amqp::connect(&broker.url()).await;
    // What was on its way may come from both.
    let taken = client.take(&queue, 1, LATER).await;
    assert_eq!(ids_of(&taken), ids(&[message]));
}

#[tokio::test]
async fn bodies_beyond_max_in_flight_bytes_wait_in_their_queue_and_all_come_in_order() {
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let lab = Peer::ok().await;
    // One plain body fits into the queues' half; a packed one needs more than all of it, and goes alone.
    let config = queues.config().participant(Party::new("lab").at(&lab)).server("max_in_flight_bytes = 100000");
    let node = config.start().await;
    let sent: Vec<Sample> = (0..30).map(|_| Sample::new().addressed_to("lab").padded(30_000)).collect();

    for (number, message) in sent.iter().enumerate() {
        let (body, props) = match number % 3 {
            0 => (gzip(&message.bytes()), Props::json().content_encoding("gzip")),
            _ => (message.bytes(), Props::json()),
        };
        assert!(queues.client.publish("", &queues.inbound, &body, props).await);
    }

    lab.wait_for(sent.len(), LATER).await;
    assert_eq!(ids_at(&lab), ids(&sent));
    queues.wait_until_taken(&node).await;
    let metrics = node.get("/metrics").await.expect_status(200).text();
    assert!(metrics.contains("emberpost_bytes_in_flight 0"), "all bytes are given back: {metrics}");
}

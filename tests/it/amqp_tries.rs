//! Messages on which the router dies or fails each time: tried alone, counted on disk, and put aside after ten tries.

use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, Row};

use crate::amqp_faults::{LATER, Queues, ids, ids_at, ids_of};
use crate::harness::lines::Lines;
use crate::harness::{Broker, Node, Party, Peer, Props, SOON, Sample, postgres, wait_for, wait_until};

/// The tries on record in the node's store, largest first.
async fn tries(node: &Node) -> Vec<i64> {
    let select = "SELECT tries FROM redelivery ORDER BY tries DESC";
    if postgres::is_chosen() {
        let rows = postgres::shared().run_at(&node.store_path(), select);
        return rows.lines().map(|row| row.parse().unwrap()).collect();
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(node.store_path()).read_only(true);
    let Ok(mut connection) = options.connect().await else { return Vec::new() };
    let rows = sqlx::query(select).fetch_all(&mut connection).await;
    let tries = rows.unwrap_or_default().iter().map(|row| row.get(0)).collect();
    connection.close().await.unwrap();
    tries
}

/// A message that takes seconds to read, so that it is certain to be under way when the router is killed.
fn slow() -> Sample {
    let names: Value = (0..60_000).map(|_| json!({ "family": "x", "given": ["a", "b"] })).collect();
    Sample::new().addressed_to("lab").set("/entry/1/resource/name", names)
}

#[tokio::test]
async fn a_message_that_ends_the_process_is_put_aside_after_ten_recorded_tries_and_no_other_is_blamed() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let mut node = lines.config().start().await;
    let poison = slow();
    let good = [Sample::new().addressed_to("lab"), Sample::new().addressed_to("lab")];
    for message in [&good[0], &poison, &good[1]] {
        lines.tell(&message.bytes(), Props::json().message_id("m")).await;
    }
    let all_taken = async || lines.client.depth(&lines.inbound).await == Some(0);
    wait_until(LATER, "the router has them", all_taken).await;
    node.kill9();
    for count in 1..=10 {
        node.restart().await;
        wait_until(LATER, "the try is on record", async || tries(&node).await.contains(&count)).await;
        node.kill9();
        let tries = tries(&node).await;
        assert!(tries.iter().all(|tries| *tries == count || *tries == 1), "another is blamed: {tries:?}");
    }
    node.restart().await;
    let dead = lines.client.take(&format!("{}.dead", lines.inbound), 1, LATER).await.remove(0);
    assert!(dead.body == poison.bytes(), "another message was put aside");
    assert!(
        dead.header("emberpost-reason").unwrap().contains("tried 10 times"),
        "{:?}",
        dead.header("emberpost-reason")
    );
    let mut seen = std::collections::HashSet::new();
    let arrived = ids_of(&lines.client.take(&lines.lab, good.len(), LATER).await);
    assert_eq!(arrived.into_iter().filter(|id| seen.insert(id.clone())).collect::<Vec<_>>(), ids(&good));
    // Nothing is left of it once something else has come.
    lines.tell(&Sample::new().addressed_to("lab").bytes(), Props::json()).await;
    wait_until(SOON, "no record is left", async || tries(&node).await.is_empty()).await;
}

#[tokio::test]
async fn a_message_whose_stored_first_cannot_be_read_any_more_is_put_aside_and_what_is_behind_it_comes() {
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let lab = Peer::ok().await;
    let node = queues.config().participant(Party::new("lab").at(&lab)).start().await;
    let (first, behind) = (Sample::new().addressed_to("lab"), Sample::new().addressed_to("lab"));
    queues.send(std::slice::from_ref(&first)).await;
    lab.wait_for(1, LATER).await;
    queues.wait_until_taken(&node).await;
    let update = "UPDATE message SET metadata = 'no JSON' WHERE in_reply_to IS NULL";
    if postgres::is_chosen() {
        postgres::shared().run_at(&node.store_path(), update);
    } else {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(node.store_path());
        let mut store = options.connect().await.unwrap();
        assert_eq!(sqlx::query(update).execute(&mut store).await.unwrap().rows_affected(), 1);
        store.close().await.unwrap();
    }

    queues.send(&[first.clone(), behind.clone()]).await;

    let dead = format!("{}.dead", queues.inbound);
    let dead = wait_for(LATER, "it is put aside", async || {
        (queues.client.depth(&dead).await == Some(1)).then_some(dead.clone())
    })
    .await;
    let dead = queues.client.take(&dead, 1, SOON).await.remove(0);
    assert_eq!(dead.body, first.bytes());
    lab.wait_for(2, LATER).await;
    assert_eq!(ids_at(&lab)[1], behind.header_id());
}

#[tokio::test]
async fn messages_that_come_again_because_a_connection_was_lost_leave_no_record() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let mut node = lines.config().start().await;
    node.terminate().await;
    let messages: Vec<Sample> = (0..20).map(|_| Sample::new().addressed_to("lab")).collect();
    for message in &messages {
        lines.tell(&message.bytes(), Props::json()).await;
    }
    // Another consumer takes them and goes: the broker calls them redelivered.
    {
        let other = crate::harness::Amqp::connect(&broker.url()).await;
        let mut consuming = other.consume(&lines.inbound, 20).await;
        for _ in &messages {
            consuming.next(SOON).await.expect("a message");
        }
    }
    node.restart().await;
    let arrived = lines.client.take(&lines.lab, messages.len(), LATER).await;
    assert_eq!(ids_of(&arrived), ids(&messages));
    lines.tell(&Sample::new().addressed_to("lab").bytes(), Props::json()).await;
    wait_until(SOON, "no record is left", async || tries(&node).await.is_empty()).await;
    assert_eq!(lines.client.depth(&format!("{}.dead", lines.inbound)).await, Some(0));
}

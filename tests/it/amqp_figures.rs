//! What operators see of AMQP: figures that move, and what `/health/ready` says of each link.

use std::time::Duration;

use serde_json::Value;

use crate::harness::amqp::text;
use crate::harness::{Broker, Lines, Node, Props, Proxy, SOON, Sample, wait_for, wait_until};

/// Depths and links are looked at every few seconds.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

fn to_lab() -> Vec<u8> {
    Sample::new().addressed_to("lab").bytes()
}

/// A figure by its whole name with labels; none when it is not shown.
async fn figure(node: &Node, name: &str) -> Option<f64> {
    let page = node.get("/metrics").await.expect_status(200).text();
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

async fn becomes(node: &Node, name: &str, value: f64) {
    wait_until(LOOK_LIMIT, &format!("{name} is {value}"), async || figure(node, name).await == Some(value)).await;
}

/// `/health/ready`, when its word for AMQP is this one; it says 200 all the while.
async fn health(node: &Node, word: &str) -> Value {
    wait_for(LOOK_LIMIT, &format!("AMQP is {word}"), async || {
        let health = node.get("/health/ready").await.expect_status(200).json();
        (health["amqp"] == word).then_some(health)
    })
    .await
}

#[tokio::test]
async fn the_depth_of_a_queue_and_what_is_taken_from_it_are_figures() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    // One reader at a time, so that messages wait behind a reader that takes one and no more.
    let single = [("x-queue-type", text("quorum")), ("x-single-active-consumer", true.into())];
    lines.client.declare(&lines.inbound, &single).await;
    for queue in [&lines.answers, &lines.lab] {
        lines.client.declare_quorum(queue).await;
    }
    for queue in [&lines.inbound, &lines.answers, &lines.lab] {
        lines.client.declare_quorum(&format!("{queue}.dead")).await;
    }
    let mut reader = lines.client.consume(&lines.inbound, 1).await;
    let node = lines.config().with_amqp("declare = false").start().await;
    let messages = format!("emberpost_amqp_queue_messages{{queue=\"{}\"}}", lines.inbound);
    let unacked = format!("emberpost_amqp_unacked{{queue=\"{}\"}}", lines.inbound);
    becomes(&node, &messages, 0.0).await;
    for _ in 0..3 {
        lines.tell(&to_lab(), Props::json()).await;
    }
    let held = reader.next(SOON).await.expect("a message comes");
    becomes(&node, &messages, 2.0).await;
    assert_eq!(figure(&node, &unacked).await, Some(0.0));
    let queues = node.get("/health/ready").await.json()["amqp_links"]["in"]["queues"].clone();
    assert_eq!(
        queues[&lines.inbound],
        serde_json::json!({ "messages": 2, "unacked": 0, "dead_letters": 0, "why": null }),
        "{queues}"
    );
    reader.reject(&held, true).await;
    drop(reader);
    lines.client.take(&lines.lab, 3, SOON).await;
    becomes(&node, &messages, 0.0).await;
    assert_eq!(figure(&node, "emberpost_amqp_confirm_seconds_count").await, Some(3.0));
    let links = node.get("/health/ready").await.json()["amqp_links"].clone();
    assert!(links["out"]["confirm_ms"].as_f64().unwrap() > 0.0, "{links}");
    assert_eq!(links["out"]["unconfirmed"], 0);
}

#[tokio::test]
async fn a_broker_that_is_away_degrades_the_router_and_says_why() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, proxy) = (Lines::on(&broker).await, Proxy::before(broker.port()).await);
    let node = lines.config().amqp(&proxy.url(), &lines.inbound, &lines.answers).start().await;
    let link = |figure: &str, link: &str| format!("emberpost_amqp_{figure}{{link=\"{link}\"}}");
    let ready = health(&node, "ready").await;
    assert_eq!(ready["status"], "ready");
    for (name, value) in [("connected", 1.0), ("connects", 1.0), ("blocked", 0.0)] {
        becomes(&node, &link(name, "in"), value).await;
        becomes(&node, &link(name, "out"), value).await;
    }
    proxy.refuse(true).await;
    proxy.cut();
    let away = wait_for(LOOK_LIMIT, "both links are away", async || {
        let health = health(&node, "away").await;
        ["in", "out"].iter().all(|link| health["amqp_links"][link]["why"].is_string()).then_some(health)
    })
    .await;
    assert_eq!(away["status"], "degraded");
    for link in ["in", "out"] {
        let why = away["amqp_links"][link]["why"].as_str().unwrap();
        assert!(why.contains(&proxy.port().to_string()) && !why.contains("guest"), "{why}");
    }
    becomes(&node, &link("connected", "in"), 0.0).await;
    becomes(&node, &link("connected", "out"), 0.0).await;
    // HTTP goes on; what is for the broker waits.
    node.ask(node.posting(to_lab()).header("prefer", "respond-async")).await.expect_status(202);
    proxy.refuse(false).await;
    assert_eq!(health(&node, "ready").await["status"], "ready");
    becomes(&node, &link("connected", "out"), 1.0).await;
    becomes(&node, &link("connects", "in"), 2.0).await;
    lines.asked().await;
}

#[tokio::test]
async fn a_broker_that_says_nothing_does_not_stop_the_figures() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, proxy) = (Lines::on(&broker).await, Proxy::before(broker.port()).await);
    let node = lines.config().amqp(&proxy.url(), &lines.inbound, &lines.answers).start().await;
    node.ask(node.posting(to_lab()).header("prefer", "respond-async")).await.expect_status(202);
    lines.asked().await;
    becomes(&node, "emberpost_amqp_unconfirmed", 0.0).await;
    proxy.swallow_from_broker(true);
    node.ask(node.posting(to_lab()).header("prefer", "respond-async")).await.expect_status(202);
    lines.asked().await;
    becomes(&node, "emberpost_amqp_unconfirmed", 1.0).await;
}

#[tokio::test]
async fn a_broker_with_an_alarm_degrades_the_router_and_what_is_unconfirmed_is_counted() {
    let Some(broker) = Broker::start().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    broker.memory_alarm(true).await;
    node.ask(node.posting(to_lab()).header("prefer", "respond-async")).await.expect_status(202);
    let blocked = health(&node, "blocked").await;
    assert_eq!((&blocked["status"], &blocked["amqp_links"]["out"]["state"]), (&"degraded".into(), &"blocked".into()));
    assert_eq!(blocked["amqp_links"]["in"]["state"], "ready");
    becomes(&node, "emberpost_amqp_blocked{link=\"out\"}", 1.0).await;
    becomes(&node, "emberpost_amqp_unconfirmed", 1.0).await;
    broker.memory_alarm(false).await;
    lines.asked().await;
    health(&node, "ready").await;
    becomes(&node, "emberpost_amqp_blocked{link=\"out\"}", 0.0).await;
    becomes(&node, "emberpost_amqp_unconfirmed", 0.0).await;
}

#[tokio::test]
async fn a_queue_that_is_otherwise_than_it_should_be_is_told_with_what_to_do() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let wrong = Broker::name("wrong");
    lines.client.declare(&wrong, &[]).await;
    let mut node = lines.config().start().await;
    let ward = crate::harness::Party::new("ward").amqp("", &wrong);
    node.reload(lines.config().participant(ward));
    let told = health(&node, "mismatch").await;
    assert_eq!(told["status"], "degraded");
    let mistake = told["amqp_links"]["out"]["mistakes"][0].as_str().expect("a sentence").to_owned();
    assert!(mistake.contains(&wrong) && mistake.contains("x-queue-type=quorum"), "{mistake}");
}

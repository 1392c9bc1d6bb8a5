//! The broker fails, or the router does while messages flow over it: nothing accepted is lost, each message is processed once,
//! and the order within a lane holds.

mod count;
mod flow;
mod nodes;
mod router;

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Amqp, Broker, Node, NodeConfig, Party, Peer, Props, Received, SOON, Sample, wait_until};
use count::{assert_arrived_in_order, assert_kept_once, wait_for_all_delivered};
use flow::{FarEnd, Senders};

/// A connection that was lost is tried again within ten seconds, and the broker may be slow.
const CONNECTED: Duration = Duration::from_secs(60);
/// Declared, a quorum queue needs this long until its broker may be killed.
const SETTLED: Duration = Duration::from_secs(1);

/// The queues of one test.
struct Queues {
    inbound: String,
    answers: String,
    lab: String,
}

impl Queues {
    fn new() -> Queues {
        Queues { inbound: Broker::name("in"), answers: Broker::name("answers"), lab: Broker::name("lab") }
    }

    /// A router between the queues: `lab` is on the broker, every sender of any source is `sender`.
    fn config(&self, url: &str) -> NodeConfig {
        let lab = Party::new("lab").amqp("", &self.lab).with("retry_schedule_seconds = [1]").with("concurrency = 32");
        let config = NodeConfig::with_sender().participant(lab).server("answer_timeout_ms = 50");
        config.amqp(url, &self.inbound, &self.answers)
    }

    /// All that the router reads, and where it puts aside what it cannot keep.
    fn all(&self) -> [String; 4] {
        let dead = |queue: &String| format!("{queue}.dead");
        [self.inbound.clone(), self.answers.clone(), dead(&self.inbound), dead(&self.answers)]
    }

    async fn wait_for_all_delivered(&self, node: &Node, url: &str) {
        let broker = Amqp::connect(url).await;
        let names = self.all();
        wait_for_all_delivered(node, &broker, &names.each_ref().map(String::as_str)).await;
    }
}

/// Status and word of `/health/ready`.
async fn health(node: &Node) -> (u16, String) {
    let reply = node.get("/health/ready").await;
    (reply.status, reply.json()["status"].as_str().unwrap().to_owned())
}

async fn wait_for_health(node: &Node, status: u16, word: &str) {
    let what = format!("the node is {word}");
    wait_until(CONNECTED, &what, async || health(node).await == (status, word.to_owned())).await;
}

fn header_ids(received: &[Received]) -> Vec<String> {
    received.iter().map(Received::header_id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_while_messages_flow_both_ways_loses_none_and_http_senders_are_served() {
    let Some(mut broker) = Broker::start().await else { return };
    let (queues, peer, urls) = (Queues::new(), Peer::ok().await, [broker.url()]);
    let node = queues.config(&broker.url()).participant(Party::new("web").at(&peer)).start().await;
    tokio::time::sleep(SETTLED).await;
    let far_end = FarEnd::reading(&urls, &queues.lab);
    let mut senders = Senders::default();
    for _ in 0..3 {
        senders.publish(&urls, &queues.inbound, "lab");
        senders.publish(&urls, &queues.inbound, "web");
        senders.post(&node, "lab");
    }
    senders.flow(200, 60).await;

    broker.kill9();
    wait_for_health(&node, 200, "degraded").await;
    senders.flow(0, 60).await;
    assert_eq!(health(&node).await, (200, "degraded".to_owned()));
    broker.restart().await;
    wait_for_health(&node, 200, "ready").await;
    senders.flow(200, 60).await;

    let (counts, again) = (senders.counts(), senders.again());
    let lanes = senders.stop().await;
    queues.wait_for_all_delivered(&node, &broker.url()).await;
    // No attempt counts that the lost connection cut short.
    assert_kept_once(&node, &lanes, |attempts| attempts == 1).await;
    wait_until(CONNECTED, "the receiver has read all", async || {
        Amqp::connect(&broker.url()).await.depth(&queues.lab).await == Some(0)
    })
    .await;
    let lab = assert_arrived_in_order(&lanes, "lab", &far_end.arrived());
    let web = assert_arrived_in_order(&lanes, "web", &header_ids(&peer.received()));
    let repeats = count::repeats(&node).await;
    println!("{counts:?} sent, {again} published again, {repeats} repeats recognised, {lab} and {web} came again");
}

#[tokio::test]
async fn a_router_started_before_its_broker_serves_http_and_is_ready_once_all_is_declared() {
    let Some(mut broker) = Broker::start().await else { return };
    broker.stop().await;
    let (queues, peer) = (Queues::new(), Peer::ok().await);
    let config = queues.config(&broker.url()).participant(Party::new("web").at(&peer));
    let node = config.server("answer_timeout_ms = 5000").start_unready().await;
    assert_eq!(health(&node).await, (503, "not ready".to_owned()));
    let to_web = node.post(Sample::new().addressed_to("web").bytes()).await.expect_status(200);
    assert_eq!(to_web.response_code().as_deref(), Some("ok"));
    let early = Sample::new().addressed_to("lab");
    let posting = node.posting(early.bytes()).header("prefer", "respond-async");
    node.ask(posting).await.expect_status(202);
    assert_eq!(health(&node).await, (503, "not ready".to_owned()));

    broker.restart().await;
    wait_for_health(&node, 200, "ready").await;

    let client = Amqp::connect(&broker.url()).await;
    let late = Sample::new().addressed_to("lab");
    assert!(client.publish("", &queues.inbound, &late.bytes(), Props::json()).await);
    let taken = client.take(&queues.lab, 2, SOON * 2).await;
    let ids: Vec<Value> = taken.iter().map(|taken| serde_json::from_slice(&taken.body).unwrap()).collect();
    let ids: Vec<_> = ids.iter().map(|message| message["entry"][0]["resource"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [early.header_id(), late.header_id()]);
    queues.wait_for_all_delivered(&node, &broker.url()).await;
}

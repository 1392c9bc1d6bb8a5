//! The router itself ends, killed or asked to, while it holds messages of the broker.

use std::time::Duration;

use super::count::{ALL_DELIVERED, accepted, assert_arrived_in_order, assert_kept_once, repeats};
use super::flow::{FarEnd, Lane, Senders};
use super::{CONNECTED, Queues};
use crate::harness::{Amqp, Broker, Props, Proxy, Sample, wait_until};

const PREFETCH: u32 = 5000;
const LANES: usize = 32;
/// Thousands of messages go to the broker, or come from it.
const MANY: Duration = Duration::from_secs(120);

/// Publishes so many messages, of all lanes in turn, straight to the broker.
async fn publish(client: &Amqp, queue: &str, lanes: &mut [Lane], count: usize) {
    let mut messages = Vec::new();
    for index in 0..count {
        let lane = index % lanes.len();
        let message = Sample::new().from(&format!("http://sender.example/source/{lane}")).addressed_to("lab");
        lanes[lane].ids.push(message.header_id());
        messages.push((message.bytes(), Props::json()));
    }
    assert_eq!(client.publish_many("", queue, messages).await, count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_killed_with_5000_unacknowledged_messages_processes_each_once_and_in_order() {
    let Some(broker) = Broker::shared().await else { return };
    let (queues, proxy, direct) =
        (Queues::new(), Proxy::before(broker.port()).await, Amqp::connect(&broker.url()).await);
    let mut node = queues.config(&proxy.url()).with_amqp(&format!("prefetch = {PREFETCH}")).start().await;
    let mut lanes: Vec<_> = (0..LANES).map(|_| Lane { to: "lab", ids: Vec::new() }).collect();

    wait_until(CONNECTED, "the router consumes", async || direct.consumers(&queues.inbound).await == 1).await;

    // Its acknowledgements get lost: all that it takes stays unacknowledged, what it has committed too.
    proxy.swallow_to_broker(true);
    publish(&direct, &queues.inbound, &mut lanes, 5500).await;
    wait_until(MANY, "the router holds all it may", async || direct.depth(&queues.inbound).await == Some(500)).await;
    wait_until(MANY, "some are committed", async || accepted(&node).await >= 1000).await;
    let first = accepted(&node).await;
    node.kill9();
    proxy.swallow_to_broker(false);
    wait_until(MANY, "all are the broker's again", async || direct.depth(&queues.inbound).await == Some(5500)).await;

    // Then it is killed in the midst of repeats, and in the midst of what is new.
    let far_end = FarEnd::reading(&[broker.url()], &queues.lab);
    let mut runs = vec![(first, 0)];
    node.restart().await;
    wait_until(MANY, "repeats are recognised", async || repeats(&node).await >= first / 4).await;
    runs.push((accepted(&node).await, repeats(&node).await));
    node.kill9();
    publish(&direct, &queues.inbound, &mut lanes, 5000).await;
    node.restart().await;
    wait_until(MANY, "new ones are accepted", async || accepted(&node).await >= 500).await;
    runs.push((accepted(&node).await, repeats(&node).await));
    node.kill9();
    publish(&direct, &queues.inbound, &mut lanes, 500).await;
    node.restart().await;

    queues.wait_for_all_delivered(&node, &broker.url()).await;
    runs.push((accepted(&node).await, repeats(&node).await));
    assert_kept_once(&node, &lanes, |attempts| attempts == 1).await;
    wait_until(ALL_DELIVERED, "the receiver has read all", async || direct.depth(&queues.lab).await == Some(0)).await;
    let came_again = assert_arrived_in_order(&lanes, "lab", &far_end.arrived());
    println!("accepted and repeats of each run: {runs:?}; {came_again} came again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_asked_to_stop_acknowledges_what_it_kept_and_sees_no_message_again() {
    let Some(broker) = Broker::shared().await else { return };
    let (queues, urls) = (Queues::new(), [broker.url()]);
    let mut node = queues.config(&broker.url()).start().await;
    let far_end = FarEnd::reading(&urls, &queues.lab);
    let mut senders = Senders::default();
    for _ in 0..8 {
        senders.publish(&urls, &queues.inbound, "lab");
    }
    let mut counts = Vec::new();
    for _ in 0..2 {
        senders.flow(200, 0).await;
        assert_eq!(repeats(&node).await, 0, "what was kept was not acknowledged");
        assert!(node.terminate().await.success());
        counts.push((senders.counts().0, far_end.count()));
        senders.flow(100, 0).await;
        node.restart().await;
    }
    senders.flow(100, 0).await;
    let lanes = senders.stop().await;

    queues.wait_for_all_delivered(&node, &broker.url()).await;
    assert_kept_once(&node, &lanes, |attempts| attempts == 1).await;
    assert_eq!(repeats(&node).await, 0, "what was kept was not acknowledged");
    let client = Amqp::connect(&broker.url()).await;
    wait_until(CONNECTED, "the receiver has read all", async || client.depth(&queues.lab).await == Some(0)).await;
    assert_eq!(assert_arrived_in_order(&lanes, "lab", &far_end.arrived()), 0, "the receiver got a message again");
    println!("{counts:?} sent and arrived at each stop, none came again");
}

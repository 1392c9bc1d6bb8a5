//! A broker of three nodes: any one of them may go.

use lapin::types::AMQPValue;
use serde_json::Value;

use super::count::{assert_arrived_in_order, assert_kept_once, repeats};
use super::flow::{FarEnd, Senders};
use super::{CONNECTED, Queues, SETTLED, wait_for_health};
use crate::harness::amqp::text;
use crate::harness::{Amqp, Cluster, Node, wait_until};

/// Declares the queues as the router would, through one node, which then leads them.
async fn lead(cluster: &Cluster, index: usize, queues: &Queues) {
    let client = Amqp::connect(&cluster.urls()[index]).await;
    for queue in [&queues.inbound, &queues.answers, &queues.lab] {
        let dead = format!("{queue}.dead");
        client.declare_quorum(&dead).await;
        let arguments: [(&str, AMQPValue); 3] = [
            ("x-queue-type", text("quorum")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&dead)),
        ];
        client.declare(queue, &arguments).await;
    }
}

/// Each queue's leader, by name of the node.
async fn leaders(cluster: &Cluster, queues: &Queues) -> Vec<String> {
    let listed = cluster.nodes()[0].ctl_ok(&["--silent", "list_queues", "name", "leader"]).await;
    let names = [&queues.inbound, &queues.answers, &queues.lab];
    let rows: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    let leads = |name: &str| rows.iter().find(|row| row[0] == name).and_then(|row| row.get(1)).map(ToString::to_string);
    names.iter().map(|name| leads(name).unwrap_or_default()).collect()
}

/// The ports of the nodes that the router takes from and publishes to.
async fn ports(node: &Node) -> [Option<String>; 2] {
    let links: Value = node.get("/health/ready").await.json();
    ["in", "out"].map(|link| {
        let about = &links["amqp_links"][link];
        let up = about["state"] == "ready";
        up.then(|| about["broker"].as_str().unwrap().to_owned())
    })
}

async fn wait_for_node(node: &Node, port: u16) {
    let port = format!(":{port}");
    wait_until(CONNECTED, "the router is connected to that node", async || {
        ports(node).await.iter().all(|broker| broker.as_ref().is_some_and(|broker| broker.contains(&port)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_broker_nodes_the_connected_one_and_then_the_leader_of_the_queues_may_be_killed() {
    let Some(mut cluster) = Cluster::start(3).await else { return };
    let queues = Queues::new();
    lead(&cluster, 0, &queues).await;
    let urls = cluster.urls();
    // The router goes to a node that leads nothing, and then to another such.
    let own = [&urls[1], &urls[2], &urls[0]];
    let ports: Vec<u16> = cluster.nodes().iter().map(|node| node.port()).collect();
    let node = queues.config(&urls[1]).with_amqp(&format!("url = {own:?}")).start().await;
    wait_for_node(&node, ports[1]).await;
    tokio::time::sleep(SETTLED).await;
    let far_end = FarEnd::reading(&urls, &queues.lab);
    let mut senders = Senders::default();
    for _ in 0..3 {
        senders.publish(&[urls[2].clone(), urls[0].clone()], &queues.inbound, "lab");
        senders.publish(&urls, &queues.inbound, "lab");
        senders.post(&node, "lab");
    }
    senders.flow(100, 30).await;

    cluster.kill9(1);
    wait_for_node(&node, ports[2]).await;
    senders.flow(100, 30).await;
    let after_first = (senders.counts(), senders.again(), far_end.count());

    cluster.restart(1).await;
    cluster.wait_for_running(3).await;
    senders.flow(20, 10).await;
    // The first node as a rule; a busy machine may have made them vote anew.
    let leader = leaders(&cluster, &queues).await[0].clone();
    let leader = cluster.nodes().iter().position(|node| node.node_name() == leader).expect("a queue has a leader");
    let alive = urls[(leader + 1) % urls.len()].clone();
    cluster.kill9(leader);
    cluster.wait_for_running(2).await;
    senders.flow(100, 30).await;
    wait_for_health(&node, 200, "ready").await;

    let (counts, again) = (senders.counts(), senders.again());
    let lanes = senders.stop().await;
    queues.wait_for_all_delivered(&node, &alive).await;
    assert_kept_once(&node, &lanes, |attempts| attempts == 1).await;
    wait_until(CONNECTED, "the receiver has read all", async || {
        Amqp::connect(&alive).await.depth(&queues.lab).await == Some(0)
    })
    .await;
    let came_again = assert_arrived_in_order(&lanes, "lab", &far_end.arrived());
    let repeats = repeats(&node).await;
    println!("{after_first:?}; {counts:?} sent, {again} published again, {repeats} repeats, {came_again} came again");
}

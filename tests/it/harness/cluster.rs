//! Several RabbitMQ nodes that are one broker: what quorum queues are for.

use super::broker::{Broker, START_LIMIT};
use super::broker_home::Home;
use super::wait_until;

/// Running (and killed) nodes, joined.
pub struct Cluster {
    nodes: Vec<Broker>,
}

impl Cluster {
    /// So many nodes, joined and ready. None when RabbitMQ is not installed.
    pub async fn start(count: usize) -> Option<Cluster> {
        let home = Home::open()?;
        let mut first = Broker::new(home.clone(), "emberpost0", "");
        first.run().await;
        // The others are told of the first, and join it while they start.
        let known = format!("cluster_formation.classic_config.nodes.1 = {}\n", first.node_name());
        let mut nodes = vec![first];
        for index in 1..count {
            let mut node = Broker::new(home.clone(), &format!("emberpost{index}"), &known);
            node.spawn();
            nodes.push(node);
        }
        for node in &mut nodes[1..] {
            node.become_ready().await;
        }
        let cluster = Cluster { nodes };
        cluster.wait_for_running(count).await;
        Some(cluster)
    }

    pub fn nodes(&self) -> &[Broker] {
        &self.nodes
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Broker::url).collect()
    }

    /// Ends a node as a power cut would.
    pub fn kill9(&mut self, index: usize) {
        self.nodes[index].kill9();
    }

    /// Starts a node again with its data; it joins by itself.
    pub async fn restart(&mut self, index: usize) {
        self.nodes[index].restart().await;
    }

    /// Waits until every running node sees so many running nodes.
    pub async fn wait_for_running(&self, count: usize) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            wait_until(START_LIMIT, "the nodes see each other", async || {
                let seen = node.ctl(&["--silent", "eval", "length(rabbit_nodes:all_running())."]).await;
                String::from_utf8_lossy(&seen.stdout).trim() == count.to_string()
            })
            .await;
        }
    }
}

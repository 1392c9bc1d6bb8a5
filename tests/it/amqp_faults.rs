//! What the tests of faults over AMQP have in common: queues of their own, a sender on them, and what is counted at the end.

use std::time::Duration;

use serde_json::Value;

use crate::harness::amqp::Taken;
use crate::harness::{Amqp, Broker, Node, NodeConfig, Party, Peer, Props, Reply, Sample, wait_until};

/// For hundreds of messages, or several attempts, on a machine that may be very busy.
pub const LATER: Duration = Duration::from_secs(60);

/// The queues of one test, and its own connection.
pub struct Queues {
    pub url: String,
    pub inbound: String,
    pub answers: String,
    pub client: Amqp,
}

impl Queues {
    pub async fn on(broker: &Broker) -> Queues {
        let (url, client) = (broker.url(), Amqp::connect(&broker.url()).await);
        Queues { url, inbound: Broker::name("inbound"), answers: Broker::name("answers"), client }
    }

    /// A node that takes from the inbound queue, with the participant `sender`.
    pub fn config(&self) -> NodeConfig {
        NodeConfig::with_sender().amqp(&self.url, &self.inbound, &self.answers)
    }

    pub async fn send(&self, messages: &[Sample]) {
        let all = messages.iter().map(|message| (message.bytes(), Props::json()));
        assert_eq!(self.client.publish_many("", &self.inbound, all).await, messages.len());
    }

    /// A receiver on AMQP: its queue, bound to an exchange of the broker's own, and the participant.
    pub async fn receiver(&self, id: &str, arguments: &[(&str, lapin::types::AMQPValue)]) -> (String, Party) {
        let queue = Broker::name(id);
        self.client.declare(&queue, arguments).await;
        self.client.bind(&queue, "amq.topic", &queue).await;
        let party = Party::new(id).amqp("amq.topic", &queue).with("retry_schedule_seconds = [1]");
        (queue, party)
    }

    /// A queue to answer to.
    pub async fn replies(&self) -> String {
        let queue = Broker::name("replies");
        self.client.declare(&queue, &[]).await;
        queue
    }

    /// Waits until everything in the inbound queue was taken and acknowledged.
    pub async fn wait_until_taken(&self, node: &Node) {
        wait_until(LATER, "all that came is acknowledged", async || {
            self.client.depth(&self.inbound).await == Some(0) && self.unacked(node).await == Some(0)
        })
        .await;
    }

    /// Messages that the node took from the inbound queue and did not acknowledge.
    pub async fn unacked(&self, node: &Node) -> Option<u64> {
        let ready = node.get("/health/ready").await.json();
        ready["amqp_links"]["in"]["queues"][&self.inbound]["unacked"].as_u64()
    }
}

pub fn ids(messages: &[Sample]) -> Vec<String> {
    messages.iter().map(Sample::header_id).collect()
}

/// The header ids of what a receiver on AMQP got.
pub fn ids_of(taken: &[Taken]) -> Vec<String> {
    taken
        .iter()
        .map(|taken| as_reply(taken).message_header().expect("a message")["id"].as_str().unwrap().into())
        .collect()
}

/// The header ids of what a receiver over HTTP got.
pub fn ids_at(peer: &Peer) -> Vec<String> {
    peer.received().iter().map(|received| received.header_id()).collect()
}

/// What came over AMQP, to be asked as a reply over HTTP is.
pub fn as_reply(taken: &Taken) -> Reply {
    Reply { status: 0, headers: Default::default(), body: taken.body.clone().into() }
}

/// All that a list of the admin API shows, 500 at most.
pub async fn listed(node: &Node, path: &str) -> Vec<Value> {
    let sign = if path.contains('?') { '&' } else { '?' };
    node.admin(&format!("{path}{sign}limit=500")).await["items"].as_array().unwrap().clone()
}

/// The faults of all attempts at a message's deliveries, in order; null for one that went well.
pub async fn attempts(node: &Node, message: &Sample) -> Vec<Value> {
    let found = listed(node, &format!("messages?header_id={}", message.header_id())).await;
    let timeline = node.admin(&format!("messages/{}/timeline", found[0]["id"].as_str().unwrap())).await;
    let entries = timeline["items"].as_array().or_else(|| timeline.as_array()).cloned().expect("a timeline");
    let attempts = entries.into_iter().filter(|entry| entry["what"] == "attempt");
    attempts.map(|entry| entry["attempt"]["fault"].clone()).collect()
}

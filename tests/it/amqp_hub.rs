//! What the tests of AMQP's faults have in common: a laboratory on the broker, a proxy before it, and a count of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::harness::broker::SharedBroker;
use crate::harness::{Amqp, Broker, Node, NodeConfig, Party, Props, Proxy, Sample, Taken, wait_for, wait_until};

/// For what includes pauses of a reconnect, on a machine that may be very busy.
pub const LONG: Duration = Duration::from_secs(60);

/// Names of one test on the shared broker, the laboratory's queue, and a network that can be bad.
pub struct Hub {
    pub broker: SharedBroker,
    pub proxy: Proxy,
    /// Past the proxy.
    pub direct: Amqp,
    pub inbound: String,
    pub answers: String,
    pub exchange: String,
    pub lab: String,
}

impl Hub {
    pub async fn new() -> Option<Hub> {
        let broker = Broker::shared().await?;
        let (proxy, direct) = (Proxy::before(broker.port()).await, Amqp::connect(&broker.url()).await);
        let [inbound, answers, exchange, lab] = ["inbound", "answers", "exchange", "lab"].map(Broker::name);
        let hub = Hub { broker, proxy, direct, inbound, answers, exchange, lab };
        hub.direct.declare_exchange(&hub.exchange).await;
        hub.direct.declare_quorum(&hub.lab).await;
        hub.bind().await;
        Some(hub)
    }

    pub async fn bind(&self) {
        self.direct.bind(&self.lab, &self.exchange, "lab").await;
    }

    /// A router behind the proxy, without participants but the sender.
    pub fn bare(&self, parameters: &str) -> NodeConfig {
        let url = format!("{}{parameters}", self.proxy.url());
        NodeConfig::with_sender().amqp(&url, &self.inbound, &self.answers).server("answer_timeout_ms = 50")
    }

    /// A router behind the proxy that publishes what is for `lab`.
    pub fn config(&self) -> NodeConfig {
        self.bare("").participant(party("lab", &self.exchange))
    }

    /// Puts messages into the inbound queue, in this order.
    pub async fn send(&self, messages: &[Sample]) {
        let all = messages.iter().map(|message| (message.bytes(), Props::json()));
        assert_eq!(self.direct.publish_many("", &self.inbound, all).await, messages.len());
    }

    /// Waits until everything was delivered; what came to the laboratory, in the order of its queue.
    pub async fn delivered(&self, node: &Node, sent: &[Sample]) -> Vec<Taken> {
        wait_until(LONG, "everything is delivered", async || delivered(node, "lab").await == sent.len()).await;
        let depth = self.direct.depth(&self.lab).await.unwrap() as usize;
        self.direct.take(&self.lab, depth, LONG).await
    }

    /// Nothing was lost and nothing processed twice: the store has each message sent once, with one delivery; at the far
    /// end are exactly those, in the order sent for each source. How many came more than once.
    pub async fn count(&self, node: &Node, sent: &[Sample]) -> usize {
        self.count_of(&self.inbound, node, sent).await
    }

    /// As `count`, of what came in by this queue.
    pub async fn count_of(&self, inbound: &str, node: &Node, sent: &[Sample]) -> usize {
        let came = self.delivered(node, sent).await;
        assert_eq!(accepted(node).await, sorted(sent.iter().map(Sample::header_id)), "accepted once each");
        let repeats = check_far_end(sent, &came);
        assert_eq!(self.direct.depth(inbound).await, Some(0));
        repeats
    }
}

/// Published to this exchange under its own name, and tried again each second.
pub fn party(id: &str, exchange: &str) -> Party {
    Party::new(id).amqp(exchange, id).with("retry_schedule_seconds = [1]")
}

/// So many messages for the laboratory, from several sources in turn.
pub fn messages(count: usize, sources: usize) -> Vec<Sample> {
    let source = |number| format!("http://sender.example/source-{}", number % sources);
    (0..count).map(|number| Sample::new().addressed_to("lab").from(&source(number))).collect()
}

/// Exactly what was sent, first arrivals in order within each source. How many came more than once.
pub fn check_far_end(sent: &[Sample], came: &[Taken]) -> usize {
    let mut seen = BTreeSet::new();
    let mut first = BTreeMap::<String, Vec<String>>::new();
    for taken in came {
        let header = header(&taken.body);
        let id = header["id"].as_str().unwrap().to_owned();
        if seen.insert(id.clone()) {
            first.entry(source(&header)).or_default().push(id);
        }
    }
    let mut wanted = BTreeMap::<String, Vec<String>>::new();
    for message in sent {
        let header = message.value()["entry"][0]["resource"].clone();
        wanted.entry(source(&header)).or_default().push(message.header_id());
    }
    assert_eq!(first, wanted, "what arrived first, by source");
    came.len() - seen.len()
}

fn header(body: &[u8]) -> Value {
    let message: Value = serde_json::from_slice(body).unwrap();
    message["entry"][0]["resource"].clone()
}

fn source(header: &Value) -> String {
    header["source"]["endpoint"].as_str().unwrap().to_owned()
}

fn sorted(ids: impl Iterator<Item = String>) -> Vec<String> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort();
    ids
}

/// All items of a list of the admin API.
pub async fn list(node: &Node, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = node.admin(&format!("{path}&limit=500{cursor}")).await;
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        cursor = format!("&cursor={next}");
    }
}

/// `MessageHeader.id` of every accepted message of the sender, sorted.
pub async fn accepted(node: &Node) -> Vec<String> {
    let kept = list(node, "messages?sender=sender&state=accepted").await;
    sorted(kept.iter().map(|message| message["header_id"].as_str().unwrap().to_owned()))
}

/// How many of a participant's deliveries are with it.
pub async fn delivered(node: &Node, participant: &str) -> usize {
    let found = list(node, &format!("deliveries?participant={participant}")).await;
    found.iter().filter(|delivery| ["delivered", "answered"].contains(&delivery["state"].as_str().unwrap())).count()
}

/// Attempts of each of a participant's deliveries, newest delivery first.
pub async fn attempts(node: &Node, participant: &str) -> Vec<u64> {
    let found = list(node, &format!("deliveries?participant={participant}")).await;
    found.iter().map(|delivery| delivery["attempts"].as_u64().unwrap()).collect()
}

/// What `/health/ready` says, whatever its status.
pub async fn health(node: &Node) -> (u16, Value) {
    let reply = node.get("/health/ready").await;
    (reply.status, reply.json())
}

/// Waits until `/health/ready` has this word for AMQP; its body.
pub async fn until_amqp_is(node: &Node, word: &str) -> Value {
    wait_for(LONG, &format!("AMQP is {word}"), async || {
        let (_, body) = health(node).await;
        (body["amqp"] == word).then_some(body)
    })
    .await
}

/// A line of `rabbitmqctl` for each queue with this prefix: name, durable, arguments.
pub async fn queues(hub: &Hub, names: &[&str]) -> Vec<String> {
    let listed = hub.broker.ctl_ok(&["--silent", "list_queues", "name", "durable", "arguments"]).await;
    let mut lines: Vec<_> = listed.lines().map(|line| line.replace('\t', " ")).collect();
    lines.retain(|line| names.iter().any(|name| line.starts_with(&format!("{name} "))));
    lines.sort();
    lines
}

pub async fn exchanges(hub: &Hub) -> Vec<String> {
    let listed = hub.broker.ctl_ok(&["--silent", "list_exchanges", "name", "type", "durable"]).await;
    listed.lines().map(|line| line.replace('\t', " ")).collect()
}

/// What design and documentation promise of a queue and its dead-letter queue, as `rabbitmqctl` prints it
/// (`[]` is the empty text).
pub fn promised(queue: &str) -> [String; 2] {
    let live = format!(
        "{queue} true [{{\"x-dead-letter-exchange\",[]}},{{\"x-dead-letter-routing-key\",\"{queue}.dead\"}},\
         {{\"x-queue-type\",\"quorum\"}}]"
    );
    [live, format!("{queue}.dead true [{{\"x-queue-type\",\"quorum\"}}]")]
}

/// The mistakes of one link, `in` or `out`, in one text.
pub fn mistakes(body: &Value, link: &str) -> String {
    body["amqp_links"][link]["mistakes"].to_string()
}

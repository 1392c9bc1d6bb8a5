//! What is true after every fault: nothing lost, nothing processed twice, nothing out of order.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::flow::Lane;
use crate::harness::{Amqp, Node, wait_until};

/// For thousands of deliveries, on a machine that may be very busy.
pub const ALL_DELIVERED: Duration = Duration::from_secs(240);

/// All items of a list of the admin API.
pub async fn all(node: &Node, list: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut path = format!("{list}&limit=500");
    loop {
        let page = node.admin(&path).await;
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        path = format!("{list}&limit=500&cursor={next}");
    }
}

/// A counter of the running process, such as `emberpost_messages_total{result="repeat"}`; 0 when it is not there yet.
pub async fn figure(node: &Node, name: &str) -> usize {
    let text = node.get("/metrics").await.expect_status(200).text();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    found.map_or(0, |value| value as usize)
}

pub async fn accepted(node: &Node) -> usize {
    figure(node, "emberpost_messages_total{result=\"accepted\"}").await
}

pub async fn repeats(node: &Node) -> usize {
    figure(node, "emberpost_messages_total{result=\"repeat\"}").await
}

/// Waits until the queues are empty, all that was taken from them is acknowledged, and nothing waits for delivery.
pub async fn wait_for_all_delivered(node: &Node, broker: &Amqp, queues: &[&str]) {
    wait_until(ALL_DELIVERED, "all is taken from the queues and delivered", async || {
        for queue in queues {
            if broker.depth(queue).await != Some(0) {
                return false;
            }
        }
        // What comes again is tried one by one, so that for moments nothing waits while thousands are still to be kept.
        let ready = node.get("/health/ready").await.json();
        let consumed = ready["amqp_links"]["in"]["queues"].as_object().cloned().unwrap_or_default();
        if consumed.values().any(|queue| queue["unacked"] != 0) {
            return false;
        }
        for state in ["waiting", "active"] {
            if node.admin(&format!("deliveries?state={state}&limit=1")).await["items"] != json!([]) {
                return false;
            }
        }
        true
    })
    .await;
}

/// The store has each message sent once, and for each one delivery that one attempt made; nothing else of the sender.
pub async fn assert_kept_once(node: &Node, lanes: &[Lane], attempts: impl Fn(u64) -> bool) {
    let mut sent: Vec<String> = lanes.iter().flat_map(|lane| lane.ids.iter().cloned()).collect();
    let messages = all(node, "messages?sender=sender").await;
    let mut kept: Vec<String> = messages.iter().map(|item| item["header_id"].as_str().unwrap().to_owned()).collect();
    sent.sort();
    kept.sort();
    assert!(sent == kept, "{}", difference(&sent, &kept));
    let deliveries = all(node, "deliveries?").await;
    let of_requests: Vec<_> = deliveries.iter().filter(|item| item["kind"] == "Request").collect();
    let of: HashSet<_> = of_requests.iter().map(|item| item["message"].as_str().unwrap()).collect();
    let ids: HashSet<_> = messages.iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!((of_requests.len(), of.len()), (sent.len(), sent.len()), "not one delivery for each message");
    assert!(of == ids, "a delivery is of another message");
    let good = |delivery: &&Value| {
        let done = delivery["state"] == "delivered" || delivery["state"] == "answered";
        done && attempts(delivery["attempts"].as_u64().unwrap())
    };
    let bad: Vec<_> = of_requests.into_iter().filter(|delivery| !good(delivery)).collect();
    if let Some(first) = bad.first() {
        let timeline = node.admin(&format!("messages/{}/timeline", first["message"].as_str().unwrap())).await;
        panic!("{} deliveries not made by the attempts they should need; one: {first} {timeline}", bad.len());
    }
}

fn difference(sent: &[String], kept: &[String]) -> String {
    let (set_sent, set_kept): (BTreeSet<_>, BTreeSet<_>) = (sent.iter().collect(), kept.iter().collect());
    let lost: Vec<_> = set_sent.difference(&set_kept).take(5).collect();
    let more: Vec<_> = set_kept.difference(&set_sent).take(5).collect();
    format!(
        "{} sent, {} kept ({} distinct); lost: {lost:?}; not sent: {more:?}",
        sent.len(),
        kept.len(),
        set_kept.len()
    )
}

/// The receiver got exactly what was sent to it, each source's messages in order. How many came again.
#[track_caller]
pub fn assert_arrived_in_order(lanes: &[Lane], to: &str, arrived: &[String]) -> usize {
    let mut first = HashMap::new();
    for (place, id) in arrived.iter().enumerate() {
        first.entry(id.as_str()).or_insert(place);
    }
    let mut count = 0;
    for lane in lanes.iter().filter(|lane| lane.to == to) {
        let places: Vec<_> = lane.ids.iter().map(|id| first.get(id.as_str()).copied()).collect();
        assert!(places.iter().all(Option::is_some), "a message did not arrive at {to}");
        assert!(places.is_sorted(), "out of order at {to}: {places:?}");
        count += lane.ids.len();
    }
    assert_eq!(first.len(), count, "something arrived at {to} that nobody sent there");
    arrived.len() - first.len()
}

//! Killed without warning, and with its clock moved: what was acknowledged is kept, delivered and recognised.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use emberpost::app::{Running, start};
use emberpost::clock::Clock;
use emberpost::config::{Config, Overrides};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use validation::definition::Definitions;

use crate::harness::node::PROCESS_MESSAGE;
use crate::harness::{
    Answer, Gate, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, free_address, wait_for, wait_until,
};

const SENDERS: usize = 32;
const ROUNDS: usize = 3;
/// For hundreds of deliveries after several restarts, on a machine that may be very busy.
const ALL_DELIVERED: Duration = Duration::from_secs(40);
const DAY_MICROSECONDS: i64 = 86_400_000_000;

/// Posts one message after the other until the router is gone; those that were acknowledged.
async fn send_until_it_dies(client: Client, url: String, to: &'static str) -> Vec<Sample> {
    let mut acknowledged = Vec::new();
    loop {
        let message = Sample::new().addressed_to(to);
        let request = client.post(&url).header("content-type", "application/fhir+json").body(message.bytes());
        // The acknowledgement is the status line: the rest of the reply may be cut off.
        match request.send().await {
            Ok(reply) if reply.status().is_success() => acknowledged.push(message),
            Ok(reply) => panic!("a good message was refused: {}", reply.status()),
            Err(_) => return acknowledged,
        }
    }
}

/// Lets 32 senders post until `enough` messages have reached the receiver, and kills the router in the midst of it.
async fn kill_while_sending(node: &mut Node, lab: &Peer, enough: usize) -> Vec<Sample> {
    let client = Client::builder().no_proxy().build().unwrap();
    let url = node.url(PROCESS_MESSAGE);
    let senders: Vec<_> =
        (0..SENDERS).map(|_| tokio::spawn(send_until_it_dies(client.clone(), url.clone(), "lab"))).collect();
    lab.wait_for(lab.count() + enough, ALL_DELIVERED).await;
    node.kill9();
    let mut acknowledged = Vec::new();
    for sender in senders {
        acknowledged.extend(sender.await.unwrap());
    }
    acknowledged
}

/// Delivered bodies by message, asserting that every delivery of a message carried the same bytes.
fn delivered(lab: &Peer) -> HashMap<String, Vec<u8>> {
    let mut bodies = HashMap::new();
    for received in lab.received() {
        let body = bodies.entry(received.header_id()).or_insert_with(|| received.body.to_vec());
        assert_eq!(*body, received.body, "a redelivery differs");
    }
    bodies
}

#[tokio::test]
async fn killed_while_32_senders_post_nothing_acknowledged_is_lost_and_repeats_are_recognised() {
    let lab = Peer::answering(Answer::Ok.after(Duration::from_millis(20))).await;
    let party = Party::new("lab").at(&lab).with("order = \"none\"").with("retry_schedule_seconds = [1]");
    // Some senders get the answer, others 202: both are acknowledgements.
    let config = NodeConfig::with_sender().participant(party).server("answer_timeout_ms = 60");
    let mut node = config.start().await;
    let mut acknowledged = Vec::new();
    for _ in 0..ROUNDS {
        acknowledged.extend(kill_while_sending(&mut node, &lab, 60).await);
        node.restart().await;
    }
    assert!(acknowledged.len() > ROUNDS * SENDERS, "{} acknowledged", acknowledged.len());

    wait_until(ALL_DELIVERED, "all that waits is delivered", async || {
        node.admin("deliveries?state=waiting").await["items"] == json!([])
    })
    .await;

    let bodies = delivered(&lab);
    for message in &acknowledged {
        assert_eq!(bodies.get(&message.header_id()), Some(&message.bytes()), "acknowledged and not delivered");
    }
    // What was kept and not acknowledged was delivered too, once at least; nothing came from nowhere.
    let kept = kept_messages(&node).await;
    assert!(acknowledged.iter().all(|message| kept.contains(&message.header_id())), "acknowledged and not kept");
    assert!(bodies.keys().all(|id| kept.contains(id)));
    let before = lab.count();
    for message in acknowledged.iter().step_by(7) {
        let repeat = node.post(message.bytes()).await.expect_status(200);
        assert_eq!(repeat.header("emberpost-repeat"), Some("true"));
        assert_eq!(repeat.response_identifier(), Some(message.header_id()));
    }
    assert_eq!(lab.count(), before, "a repeat was delivered again");
}

/// `MessageHeader.id` of every request in the store.
async fn kept_messages(node: &Node) -> HashSet<String> {
    let mut ids = HashSet::new();
    let mut path = "messages?sender=sender&limit=500".to_owned();
    loop {
        let page = node.admin(&path).await;
        ids.extend(page["items"].as_array().unwrap().iter().map(|item| item["header_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { return ids };
        path = format!("messages?sender=sender&limit=500&cursor={next}");
    }
}

#[tokio::test]
async fn killed_between_attempt_and_settlement_it_delivers_the_same_bytes_again_and_the_sender_has_one_answer() {
    let gate = Gate::closed();
    let lab = Peer::answering(Answer::Ok.behind(&gate)).await;
    let party = Party::new("lab").at(&lab).with("retry_schedule_seconds = [1]");
    let mut node = NodeConfig::with_sender().participant(party).server("answer_timeout_ms = 100").start().await;
    let message = Sample::new().addressed_to("lab");
    node.post(message.bytes()).await.expect_status(202);
    lab.wait_for(1, SOON).await;
    node.kill9();
    gate.open();
    node.restart().await;

    let received = lab.wait_for(2, SOON).await;
    assert_eq!((&received[0].body, &received[1].body), (&received[1].body, &message.bytes().into()));
    let repeat = wait_for(SOON, "the repeat has the answer", async || {
        let reply = node.post(message.bytes()).await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    assert_eq!(repeat.header("emberpost-repeat"), Some("true"));
    assert_eq!(repeat.response_code().as_deref(), Some("ok"));
    let id = repeat.header("emberpost-message-id").unwrap();
    let shown = node.admin(&format!("messages/{id}")).await;
    assert_eq!(shown["answers"].as_array().map(Vec::len), Some(1), "{shown}");
    assert_eq!(node.post(message.bytes()).await.body, repeat.body);
    assert_eq!(lab.count(), 2);
}

/// A router in this process, whose clock the test moves.
struct ClockedNode {
    running: Running,
    client: Client,
}

impl ClockedNode {
    async fn start(folder: &TempDir, lab: &Peer, clock: Clock) -> ClockedNode {
        let party = Party::new("lab").at(lab).with("retry_schedule_seconds = [1]");
        let config = NodeConfig::with_sender().participant(party).server("answer_timeout_ms = 100");
        let path = folder.path().join("emberpost.toml");
        std::fs::write(&path, config.render(free_address(), folder.path())).unwrap();
        let config = Config::load(Some(&path), true, std::iter::empty(), &Overrides::default()).unwrap();
        let (definitions, faults) = Definitions::load(&[]);
        assert!(faults.is_empty());
        let running = start(&config, definitions, clock).await.unwrap();
        ClockedNode { running, client: Client::builder().no_proxy().build().unwrap() }
    }

    async fn post(&self, message: &Sample) -> Reply {
        let url = format!("http://{}{PROCESS_MESSAGE}", self.running.address);
        let request = self.client.post(url).header("content-type", "application/fhir+json").body(message.bytes());
        Reply::of(request.send().await.unwrap()).await
    }

    async fn admin(&self, path: &str) -> Value {
        let url = format!("http://{}/admin/v1/{path}", self.running.address);
        Reply::of(self.client.get(url).send().await.unwrap()).await.expect_status(200).json()
    }

    async fn answered(&self, count: usize) {
        wait_until(SOON, "every delivery is answered", async || {
            self.admin("deliveries?state=answered").await["items"].as_array().map(Vec::len) == Some(count)
        })
        .await;
    }
}

fn header_ids(lab: &Peer) -> Vec<String> {
    lab.received().iter().map(|received| received.header_id()).collect()
}

#[tokio::test]
async fn a_clock_set_back_delays_no_retry_and_mixes_up_no_order() {
    let (folder, clock) = (TempDir::with_prefix("emberpost-it-").unwrap(), Clock::default());
    let mut lab = Peer::ok().await;
    lab.down().await;
    let node = ClockedNode::start(&folder, &lab, clock.clone()).await;
    let messages: Vec<_> = (0..6).map(|_| Sample::new().addressed_to("lab")).collect();
    for message in &messages[..3] {
        node.post(message).await.expect_status(202);
    }
    clock.shift(-DAY_MICROSECONDS);
    for message in &messages[3..] {
        node.post(message).await.expect_status(202);
    }

    lab.up().await;

    node.answered(messages.len()).await;
    assert_eq!(header_ids(&lab), messages.iter().map(Sample::header_id).collect::<Vec<_>>());
    let listed = node.admin("messages?sender=sender").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(messages.len()));
    for message in &messages {
        let repeat = node.post(message).await.expect_status(200);
        assert_eq!(repeat.header("emberpost-repeat"), Some("true"));
    }
    assert_eq!(lab.count(), messages.len());
    node.running.stop().await;
}

/// A message that came after the clock was set back says nothing about what was written before.
#[tokio::test]
async fn no_retry_waits_longer_than_the_schedule_after_the_clock_ran_ahead() {
    let folder = TempDir::with_prefix("emberpost-it-").unwrap();
    let mut lab = Peer::ok().await;
    lab.down().await;
    let clock = Clock::default();
    let messages = [Sample::new().addressed_to("lab"), Sample::new().addressed_to("lab")];
    clock.shift(2 * DAY_MICROSECONDS);
    let node = ClockedNode::start(&folder, &lab, clock.clone()).await;
    node.post(&messages[0]).await.expect_status(202);
    wait_until(SOON, "an attempt failed under the wrong clock", async || {
        node.admin("deliveries").await["items"].as_array().unwrap().iter().any(|item| {
            item["due_at_us"].as_i64().unwrap() > Clock::default().now_us() + DAY_MICROSECONDS
                && item["attempts"].as_i64().unwrap() > 0
        })
    })
    .await;
    clock.shift(-2 * DAY_MICROSECONDS);
    node.post(&messages[1]).await.expect_status(202);
    node.running.stop().await;

    lab.up().await;
    let node = ClockedNode::start(&folder, &lab, Clock::default()).await;

    node.answered(messages.len()).await;
    assert_eq!(header_ids(&lab), messages.iter().map(Sample::header_id).collect::<Vec<_>>());
    node.running.stop().await;
}

#[tokio::test]
async fn a_clock_set_back_while_the_router_was_down_delays_no_retry_either() {
    let folder = TempDir::with_prefix("emberpost-it-").unwrap();
    let mut lab = Peer::ok().await;
    lab.down().await;
    let ahead = Clock::default();
    let messages = [Sample::new().addressed_to("lab"), Sample::new().addressed_to("lab")];
    let node = ClockedNode::start(&folder, &lab, ahead.clone()).await;
    // One was kept before the clock ran ahead, one after.
    node.post(&messages[0]).await.expect_status(202);
    ahead.shift(DAY_MICROSECONDS);
    node.post(&messages[1]).await.expect_status(202);
    wait_until(SOON, "an attempt failed under the wrong clock", async || {
        node.admin("deliveries").await["items"].as_array().unwrap().iter().any(|item| {
            item["due_at_us"].as_i64().unwrap() > Clock::default().now_us() + DAY_MICROSECONDS / 2
                && item["attempts"].as_i64().unwrap() > 0
        })
    })
    .await;
    node.running.stop().await;

    lab.up().await;
    let node = ClockedNode::start(&folder, &lab, Clock::default()).await;

    node.answered(messages.len()).await;
    assert_eq!(header_ids(&lab), messages.iter().map(Sample::header_id).collect::<Vec<_>>());
    node.running.stop().await;
}

//! Messages that flow while something fails: senders who go on until each message is taken, and a receiver who remembers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::task::JoinHandle;

use crate::harness::node::PROCESS_MESSAGE;
use crate::harness::{Node, Sample, wait_until};

/// A message that is not taken within this time is a failure of the test.
const TAKEN_LIMIT: Duration = Duration::from_secs(180);
/// A broker that accepted the connection and does not speak is tried again.
const BROKER_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
const PREFETCH: u16 = 64;
/// Between a sender's messages: faults are looked for here, not speed.
const PACE: Duration = Duration::from_millis(5);

/// What one source sent, in the order sent.
pub struct Lane {
    pub to: &'static str,
    /// `MessageHeader.id` of each.
    pub ids: Vec<String>,
}

/// Senders with a source each. A message is sent again until it is taken, and only then the next one.
#[derive(Default)]
pub struct Senders {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Lane>>,
    over_amqp: Arc<AtomicUsize>,
    over_http: Arc<AtomicUsize>,
    again: Arc<AtomicUsize>,
}

impl Senders {
    /// One more, who publishes to a queue through whichever of the brokers is there.
    pub fn publish(&mut self, urls: &[String], queue: &str, to: &'static str) {
        let (urls, queue, source) = (urls.to_vec(), queue.to_owned(), self.next_source());
        let (stop, count, again) = (self.stop.clone(), self.over_amqp.clone(), self.again.clone());
        self.tasks.push(tokio::spawn(async move {
            let mut lane = Lane { to, ids: Vec::new() };
            let mut open = None;
            while !stop.load(Ordering::Relaxed) {
                let message = Sample::new().from(&source).addressed_to(to);
                let began = Instant::now();
                while !confirmed(&mut open, &urls, &queue, &message.bytes()).await {
                    assert!(began.elapsed() < TAKEN_LIMIT, "no broker takes a message");
                    again.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
                lane.ids.push(message.header_id());
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PACE).await;
            }
            lane
        }));
    }

    /// One more, who posts to the node; any reply but an acceptance fails the test.
    pub fn post(&mut self, node: &Node, to: &'static str) {
        let (url, source) = (node.url(PROCESS_MESSAGE), self.next_source());
        let (stop, count) = (self.stop.clone(), self.over_http.clone());
        let client = reqwest::Client::builder().no_proxy().timeout(TAKEN_LIMIT).build().unwrap();
        self.tasks.push(tokio::spawn(async move {
            let mut lane = Lane { to, ids: Vec::new() };
            while !stop.load(Ordering::Relaxed) {
                let message = Sample::new().from(&source).addressed_to(to);
                let request = client.post(&url).header("content-type", "application/fhir+json").body(message.bytes());
                let reply = request.send().await.expect("a sender has no reply");
                assert!(reply.status().is_success(), "a sender is told {}", reply.status());
                lane.ids.push(message.header_id());
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PACE).await;
            }
            lane
        }));
    }

    fn next_source(&self) -> String {
        format!("http://sender.example/source/{}", self.tasks.len())
    }

    /// Messages taken so far: over AMQP, over HTTP.
    pub fn counts(&self) -> (usize, usize) {
        (self.over_amqp.load(Ordering::Relaxed), self.over_http.load(Ordering::Relaxed))
    }

    /// Publishes that were not confirmed, and so made again.
    pub fn again(&self) -> usize {
        self.again.load(Ordering::Relaxed)
    }

    /// Waits until so many more messages were taken over AMQP, and over HTTP.
    pub async fn flow(&self, over_amqp: usize, over_http: usize) {
        let before = self.counts();
        wait_until(TAKEN_LIMIT, "messages flow", async || {
            self.failed();
            let now = self.counts();
            now.0 >= before.0 + over_amqp && now.1 >= before.1 + over_http
        })
        .await;
    }

    /// A sender ends early only where something is wrong; its own words stand above this.
    fn failed(&self) {
        assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a sender failed");
    }

    /// Each ends with the message it is at.
    pub async fn stop(self) -> Vec<Lane> {
        self.stop.store(true, Ordering::Relaxed);
        let mut lanes = Vec::new();
        for task in self.tasks {
            lanes.push(task.await.unwrap());
        }
        lanes
    }
}

type Open = (Connection, Channel);

/// Whether the broker has it for sure. Anything else leaves no connection behind.
async fn confirmed(open: &mut Option<Open>, urls: &[String], queue: &str, body: &[u8]) -> bool {
    let publish = async {
        let (connection, channel) = match open.take() {
            Some(open) => open,
            None => connect(urls).await?,
        };
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let props = BasicProperties::default().with_delivery_mode(2).with_content_type("application/fhir+json".into());
        let confirm = channel.basic_publish("".into(), queue.into(), options, body, props).await.ok()?.await.ok()?;
        matches!(confirm, Confirmation::Ack(None)).then_some((connection, channel))
    };
    *open = tokio::time::timeout(TAKEN_LIMIT, publish).await.ok().flatten();
    open.is_some()
}

/// The first broker that has a channel for us, in confirm mode.
async fn connect(urls: &[String]) -> Option<Open> {
    for url in urls {
        let open = async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>((connection, channel))
        };
        if let Ok(Ok(open)) = tokio::time::timeout(BROKER_LIMIT, open).await {
            return Some(open);
        }
    }
    None
}

/// A receiver on the broker, who comes back whenever it is cut off. Dropping it ends it.
pub struct FarEnd {
    arrived: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl FarEnd {
    pub fn reading(urls: &[String], queue: &str) -> FarEnd {
        let (urls, queue, arrived) = (urls.to_vec(), queue.to_owned(), Arc::<Mutex<Vec<String>>>::default());
        let into = arrived.clone();
        let task = tokio::spawn(async move {
            loop {
                // However it was cut off: what it did not acknowledge comes again.
                let _ = read(&urls, &queue, &into).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        FarEnd { arrived, task }
    }

    /// `MessageHeader.id` of each message, in the order of arrival, repeats among them.
    pub fn arrived(&self) -> Vec<String> {
        self.arrived.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.arrived.lock().unwrap().len()
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(urls: &[String], queue: &str, into: &Mutex<Vec<String>>) -> Option<()> {
    let (_connection, channel) = connect(urls).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.ok()?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, none).await.ok()?;
    while let Some(Ok(delivery)) = consumer.next().await {
        let id = delivery.properties.message_id().as_ref().map(ShortString::to_string);
        into.lock().unwrap().push(id.expect("a message without message_id"));
        delivery.ack(BasicAckOptions::default()).await.ok()?;
    }
    None
}

//! The status of AMQP for operators: both links, queue depths, unacknowledged and unconfirmed messages, and confirm
//! times.

use super::link::LinkState;
use super::publisher::Publisher;
use super::topology::dead_letter_queue;
use crate::config::Amqp as Settings;
use crate::metrics::Metrics;
use lapin::Connection;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LOOK_SECONDS: u64 = 5;
/// A broker that does not answer for this long has no depths to show; the other figures are still updated.
const DEPTHS_TIMEOUT_SECONDS: u64 = 5;

/// The status of one queue's consumer.
pub(super) struct ConsumerStatus {
    pub queue: Arc<str>,
    /// Messages received and not yet acknowledged.
    unacked: AtomicU64,
    /// Why it cannot be consumed.
    trouble: Mutex<Option<String>>,
}

impl ConsumerStatus {
    pub fn new(queue: &str) -> ConsumerStatus {
        ConsumerStatus { queue: queue.into(), unacked: AtomicU64::new(0), trouble: Mutex::default() }
    }

    pub fn unacked(&self, count: u64) {
        self.unacked.store(count, Ordering::Relaxed);
    }

    pub fn trouble(&self, why: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn why(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Clones share the latest status.
#[derive(Clone)]
pub struct AmqpHealth {
    settings: Arc<Settings>,
    /// Inward, outward.
    links: [watch::Receiver<LinkState>; 2],
    publisher: Arc<Publisher>,
    queues: Arc<[Arc<ConsumerStatus>]>,
    depths: Arc<Mutex<BTreeMap<String, u32>>>,
    metrics: Metrics,
}

impl AmqpHealth {
    pub(super) fn new(
        settings: Arc<Settings>,
        links: [watch::Receiver<LinkState>; 2],
        publisher: Arc<Publisher>,
        queues: Arc<[Arc<ConsumerStatus>]>,
        metrics: Metrics,
    ) -> Self {
        AmqpHealth { settings, links, publisher, queues, depths: Arc::default(), metrics }
    }

    /// Whether everything was declared at least once since the start.
    pub fn was_ready(&self) -> bool {
        self.links.iter().all(|link| link.borrow().was_ready)
    }

    /// `ready`, or the state of the worse link: `blocked`, `mismatch`, `away`.
    pub fn word(&self) -> &'static str {
        let mut words = self.links.each_ref().map(|link| link.borrow().word()).to_vec();
        if self.queues.iter().any(|seen| seen.why().is_some()) {
            words.push("mismatch");
        }
        ["away", "mismatch", "blocked"].into_iter().find(|word| words.contains(word)).unwrap_or("ready")
    }

    /// Both links in full, for `/health/ready`.
    pub fn detail(&self) -> Value {
        let [inward, outward] = self.links.each_ref().map(|link| link.borrow().clone());
        let depths = self.depths.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queues: serde_json::Map<String, Value> = self
            .queues
            .iter()
            .map(|seen| {
                let about = json!({
                    "messages": depths.get(&*seen.queue),
                    "unacked": seen.unacked.load(Ordering::Relaxed),
                    "dead_letters": depths.get(&dead_letter_queue(&seen.queue)),
                    "why": seen.why(),
                });
                (seen.queue.to_string(), about)
            })
            .collect();
        let mut inward = link(&inward);
        inward["queues"] = queues.into();
        let mut outward = link(&outward);
        outward["unconfirmed"] = self.publisher.unconfirmed().into();
        outward["confirm_ms"] = self.metrics.amqp_confirm_ms().into();
        json!({ "in": inward, "out": outward })
    }

    /// Updates the status every few seconds until `stop`.
    pub(super) async fn watch(self, stop: CancellationToken) {
        loop {
            self.look().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(LOOK_SECONDS)) => {}
            }
        }
    }

    async fn look(&self) {
        for (purpose, link) in ["in", "out"].into_iter().zip(&self.links) {
            let state = link.borrow().clone();
            self.metrics.amqp_link(purpose, state.connection.is_some(), state.blocked, state.connects);
        }
        let connection = self.links[0].borrow().connection.clone();
        let depths = match connection {
            Some(connection) => {
                let looking = self.depths(&connection);
                tokio::time::timeout(Duration::from_secs(DEPTHS_TIMEOUT_SECONDS), looking).await.unwrap_or_default()
            }
            None => BTreeMap::new(),
        };
        for seen in self.queues.iter() {
            self.metrics.amqp_unacked(&seen.queue, seen.unacked.load(Ordering::Relaxed));
        }
        self.metrics.amqp_depths(&depths);
        self.metrics.amqp_unconfirmed(self.publisher.unconfirmed() as u64);
        *self.depths.lock().unwrap_or_else(PoisonError::into_inner) = depths;
    }

    /// Messages waiting in our queues and their dead-letter queues; missing queues are left out.
    async fn depths(&self, connection: &Connection) -> BTreeMap<String, u32> {
        let mut depths = BTreeMap::new();
        let live = self.settings.inbound_queues.iter().chain([&self.settings.answer_queue]);
        for queue in live.flat_map(|queue| [queue.clone(), dead_letter_queue(queue)]) {
            let Ok(channel) = connection.create_channel().await else { return depths };
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            if let Ok(found) = channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await {
                depths.insert(queue.clone(), found.message_count());
                // A channel that cannot be closed is gone with its connection.
                let _ = channel.close(200, "looked".into()).await;
            }
        }
        depths
    }
}

fn link(state: &LinkState) -> Value {
    json!({ "state": state.word(), "broker": state.broker, "why": state.why, "mistakes": state.errors })
}

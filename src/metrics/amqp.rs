//! Metrics of AMQP. Label values are link names and the configured queues.

use super::{add, duration_histogram};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Weight of the newest confirm in the moving average.
const NEWEST_SHARE: f64 = 0.05;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LinkLabel {
    link: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

#[derive(Clone)]
pub(super) struct AmqpFigures {
    connected: Family<LinkLabel, Gauge>,
    blocked: Family<LinkLabel, Gauge>,
    connects: Family<LinkLabel, Gauge>,
    messages: Family<QueueLabel, Gauge>,
    unacked: Family<QueueLabel, Gauge>,
    unconfirmed: Gauge,
    confirm_seconds: Histogram,
    /// Bits of the moving average in milliseconds; 0 before the first confirm.
    confirm_ms: Arc<AtomicU64>,
}

impl AmqpFigures {
    pub fn new(registry: &mut Registry) -> Self {
        AmqpFigures {
            connected: add(registry, "amqp_connected", "1 while the link has a connection", Family::default()),
            blocked: add(registry, "amqp_blocked", "1 while the broker blocks publishing (alarm)", Family::default()),
            connects: add(registry, "amqp_connects", "Connections made since the start", Family::default()),
            messages: add(registry, "amqp_queue_messages", "Messages waiting in the queue", Family::default()),
            unacked: add(registry, "amqp_unacked", "Messages received and not acknowledged", Family::default()),
            unconfirmed: add(registry, "amqp_unconfirmed", "Messages published and not confirmed", Gauge::default()),
            confirm_seconds: add(
                registry,
                "amqp_confirm_seconds",
                "Time from publishing to the confirm",
                duration_histogram(),
            ),
            confirm_ms: Arc::default(),
        }
    }

    pub fn confirmed(&self, seconds: f64) {
        self.confirm_seconds.observe(seconds);
        // Two concurrent confirms may count as one, which is good enough for a status figure.
        let mean = self.confirm_ms().unwrap_or(seconds * 1000.0);
        let mean = mean + NEWEST_SHARE * (seconds * 1000.0 - mean);
        self.confirm_ms.store(mean.to_bits(), Ordering::Relaxed);
    }

    pub fn confirm_ms(&self) -> Option<f64> {
        let mean = f64::from_bits(self.confirm_ms.load(Ordering::Relaxed));
        (mean > 0.0).then_some(mean)
    }

    pub fn link(&self, link: &'static str, connected: bool, blocked: bool, connects: u64) {
        let label = LinkLabel { link };
        self.connected.get_or_create(&label).set(i64::from(connected));
        self.blocked.get_or_create(&label).set(i64::from(blocked));
        self.connects.get_or_create(&label).set(signed(connects));
    }

    pub fn unacked(&self, queue: &str, count: u64) {
        self.unacked.get_or_create(&QueueLabel { queue: queue.to_owned() }).set(signed(count));
    }

    /// Queues that are no longer reported are removed.
    pub fn depths(&self, depths: &BTreeMap<String, u32>) {
        self.messages.clear();
        for (queue, messages) in depths {
            self.messages.get_or_create(&QueueLabel { queue: queue.clone() }).set(i64::from(*messages));
        }
    }

    pub fn unconfirmed(&self, count: u64) {
        self.unconfirmed.set(signed(count));
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

//! Metrics for `/metrics` (Prometheus text). One registry per running router.
//!
//! Label values are participant ids, fault codes, results, and HTTP statuses only, so that the configuration bounds
//! their number. Counting takes a lookup and an atomic addition, well under a microsecond.

mod amqp;
mod process;

use crate::store::view::Figures;
use amqp::AmqpFigures;
pub use process::set_allocation_counter;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ParticipantLabel {
    participant: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabel {
    participant: String,
    result: String,
}

/// Counters and histograms; clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    messages: Family<ResultLabel, Counter>,
    faults: Family<CodeLabel, Counter>,
    attempts: Family<AttemptLabel, Counter>,
    attempt_seconds: Histogram,
    reply_seconds: Family<StatusLabel, Histogram>,
    breaker_open: Family<ParticipantLabel, Gauge>,
    messages_in_flight: Gauge,
    bytes_in_flight: Gauge,
    archived_messages: Counter,
    archive_failures: Counter,
    store_excess_bytes: Gauge,
    amqp: AmqpFigures,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("emberpost");
        Metrics {
            messages: add(&mut registry, "messages", "Messages checked, by result", Family::default()),
            faults: add(&mut registry, "faults", "Faults reported or recorded, by code", Family::default()),
            attempts: add(&mut registry, "attempts", "Delivery attempts, by result", Family::default()),
            attempt_seconds: add(&mut registry, "attempt_seconds", "Duration of an attempt", duration_histogram()),
            reply_seconds: add(
                &mut registry,
                "reply_seconds",
                "Time from a request's arrival to its reply",
                Family::new_with_constructor(duration_histogram),
            ),
            breaker_open: add(
                &mut registry,
                "breaker_open",
                "1 while only probes are sent to the participant",
                Family::default(),
            ),
            messages_in_flight: add(
                &mut registry,
                "messages_in_flight",
                "Messages over HTTP between first byte and commit",
                Gauge::default(),
            ),
            bytes_in_flight: add(
                &mut registry,
                "bytes_in_flight",
                "Bytes of messages between first byte and commit, received and unpacked, AMQP included",
                Gauge::default(),
            ),
            archived_messages: add(
                &mut registry,
                "archived_messages",
                "Messages written to the archive before retention deletes their bodies or traces",
                Counter::default(),
            ),
            archive_failures: add(
                &mut registry,
                "archive_failures",
                "Files of the archive that could not be written; retention deletes nothing meanwhile",
                Counter::default(),
            ),
            store_excess_bytes: add(
                &mut registry,
                "store_excess_bytes",
                "Bytes of the store above retention.store_limit_bytes",
                Gauge::default(),
            ),
            amqp: AmqpFigures::new(&mut registry),
            registry: Arc::new(registry),
        }
    }
}

impl Metrics {
    /// A message was checked: `result` is `accepted`, `refused`, `repeat`, or `conflict`.
    pub fn message(&self, result: &'static str) {
        self.messages.get_or_create(&ResultLabel { result }).inc();
    }

    /// A fault was reported to a sender or recorded with a delivery.
    pub fn fault(&self, code: &'static str) {
        self.faults.get_or_create(&CodeLabel { code }).inc();
    }

    /// An attempt ended: `result` as in the attempt's row.
    pub fn attempt(&self, participant: &str, result: &str, seconds: f64) {
        let label = AttemptLabel { participant: participant.to_owned(), result: result.to_owned() };
        self.attempts.get_or_create(&label).inc();
        self.attempt_seconds.observe(seconds);
    }

    /// A sender got its reply after this long.
    pub fn replied(&self, status: u16, seconds: f64) {
        self.reply_seconds.get_or_create(&StatusLabel { status }).observe(seconds);
    }

    /// A participant's breaker opened or closed.
    pub fn breaker(&self, participant: &str, open: bool) {
        let label = ParticipantLabel { participant: participant.to_owned() };
        self.breaker_open.get_or_create(&label).set(i64::from(open));
    }

    /// The broker confirmed a message after this long.
    pub fn amqp_confirmed(&self, seconds: f64) {
        self.amqp.confirmed(seconds);
    }

    /// Moving average of confirm times in milliseconds; None before the first confirm.
    pub fn amqp_confirm_ms(&self) -> Option<f64> {
        self.amqp.confirm_ms()
    }

    /// The current state of a link, `in` or `out`.
    pub fn amqp_link(&self, link: &'static str, connected: bool, blocked: bool, connects: u64) {
        self.amqp.link(link, connected, blocked, connects);
    }

    /// Messages received from a queue and not acknowledged.
    pub fn amqp_unacked(&self, queue: &str, count: u64) {
        self.amqp.unacked(queue, count);
    }

    /// Messages waiting in our queues whose depth the broker reported.
    pub fn amqp_depths(&self, depths: &BTreeMap<String, u32>) {
        self.amqp.depths(depths);
    }

    /// Messages published and not confirmed.
    pub fn amqp_unconfirmed(&self, count: u64) {
        self.amqp.unconfirmed(count);
    }

    /// Messages between first byte and commit, and their bytes.
    pub fn in_flight(&self, messages: usize, bytes: u64) {
        self.messages_in_flight.set(i64::try_from(messages).unwrap_or(i64::MAX));
        self.bytes_in_flight.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A file of the archive was written.
    pub fn archived(&self, messages: u64) {
        self.archived_messages.inc_by(messages);
    }

    /// A file of the archive could not be written.
    pub fn archive_failed(&self) {
        self.archive_failures.inc();
    }

    /// How much larger the store is than its limit.
    pub fn store_excess(&self, bytes: u64) {
        self.store_excess_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Prometheus text format.
    pub fn render(&self) -> String {
        join(&text(&self.registry), &text(&process::registry()))
    }

    /// As `render`, with figures that were just read from the store.
    pub fn render_with(&self, figures: &Figures) -> String {
        join(&self.render(), &text(&store_registry(figures)))
    }
}

/// Concatenates two texts, with a single end mark.
fn join(one: &str, other: &str) -> String {
    format!("{}{other}", one.strip_suffix("# EOF\n").unwrap_or(one))
}

/// A registry for one rendering: these figures come from the store and are not counted here.
fn store_registry(figures: &Figures) -> Registry {
    let gauge = |value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    let counter = |value: u64| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        counter
    };
    let mut registry = Registry::with_prefix("emberpost");
    let (waiting, dead) = (Family::<ParticipantLabel, Gauge>::default(), Family::<ParticipantLabel, Gauge>::default());
    let (blocked, oldest) =
        (Family::<ParticipantLabel, Gauge>::default(), Family::<ParticipantLabel, Gauge>::default());
    for counts in &figures.participants {
        let label = ParticipantLabel { participant: counts.participant.clone() };
        waiting.get_or_create(&label).set(i64::try_from(counts.waiting).unwrap_or(i64::MAX));
        dead.get_or_create(&label).set(i64::try_from(counts.dead).unwrap_or(i64::MAX));
        blocked.get_or_create(&label).set(i64::try_from(counts.lanes_blocked).unwrap_or(i64::MAX));
        let waits_us = counts.oldest_waiting_at_us.map_or(0, |since_us| figures.now_us.saturating_sub(since_us));
        oldest.get_or_create(&label).set(waits_us.max(0) / 1_000_000);
    }
    registry.register("deliveries_waiting", "Waiting deliveries", waiting);
    registry.register("deliveries_dead", "Dead letters", dead);
    registry.register("lanes_blocked", "Lanes that wait for the next attempt at their first delivery", blocked);
    registry.register("oldest_waiting_seconds", "Age of the oldest waiting delivery; 0 if none waits", oldest);
    registry.register(
        "store_messages",
        "Messages stored since the store was created, including answers",
        gauge(figures.messages),
    );
    registry.register("store_commits", "Transactions of accepts and settlements", counter(figures.commits));
    registry.register("store_operations", "Accepts and settlements in these transactions", counter(figures.operations));
    registry.register("store_database_bytes", "Size of the database file", gauge(figures.database_bytes));
    registry.register("store_log_bytes", "Size of the write-ahead log", gauge(figures.log_bytes));
    if let Some(free_bytes) = figures.free_bytes {
        registry.register("store_free_bytes", "Free space on the store's disk", gauge(free_bytes));
    }
    registry
}

/// From half a millisecond, the fastest stored message, to about half a minute, the default of `answer_timeout_ms`.
fn duration_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

fn add<M: Metric + EncodeMetric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::view::ParticipantFigures;

    #[test]
    fn figures_are_rendered_under_their_documented_names() {
        let metrics = Metrics::default();
        metrics.message("accepted");
        metrics.clone().message("accepted");
        metrics.fault("RECV_BUSY");
        metrics.attempt("lab", "delivered", 0.02);
        metrics.replied(200, 0.001);
        metrics.breaker("lab", true);
        let text = metrics.render();
        for line in [
            "emberpost_messages_total{result=\"accepted\"} 2",
            "emberpost_faults_total{code=\"RECV_BUSY\"} 1",
            "emberpost_attempts_total{participant=\"lab\",result=\"delivered\"} 1",
            "emberpost_attempt_seconds_count 1",
            "emberpost_reply_seconds_count{status=\"200\"} 1",
            "emberpost_breaker_open{participant=\"lab\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn what_the_store_counts_is_rendered_beside_under_one_end_mark() {
        let metrics = Metrics::default();
        metrics.message("accepted");
        let oldest_waiting_at_us = Some(5_000_000);
        let lab = ParticipantFigures {
            participant: "lab".into(),
            waiting: 3,
            dead: 1,
            lanes_blocked: 2,
            oldest_waiting_at_us,
        };
        let figures = Figures {
            now_us: 65_000_000,
            participants: vec![lab],
            commits: 7,
            free_bytes: Some(9),
            ..Figures::default()
        };
        let text = metrics.render_with(&figures);
        for line in [
            "emberpost_messages_total{result=\"accepted\"} 1",
            "emberpost_deliveries_waiting{participant=\"lab\"} 3",
            "emberpost_deliveries_dead{participant=\"lab\"} 1",
            "emberpost_lanes_blocked{participant=\"lab\"} 2",
            "emberpost_oldest_waiting_seconds{participant=\"lab\"} 60",
            "emberpost_store_commits_total 7",
            "emberpost_store_free_bytes 9",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(!metrics.render_with(&Figures::default()).contains("free_bytes"));
    }

    #[test]
    fn two_routers_in_one_process_count_apart() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.message("refused");
        assert!(!other.render().contains("refused"));
    }
}

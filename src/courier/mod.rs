//! The courier delivers: it runs the attempts of every participant's lanes, retries them, and stops for a receiver that
//! is down.
//!
//! A lane is (participant, order key). One attempt runs at a time in a lane, many lanes run at once, and each
//! participant has a bound. The courier sends nothing itself (a `Transport` does) and decides nothing about answers (a
//! `DeliverySettler` does).
//!
//! Reading order: `handle` (the interface for other modules), `actor` (the one task that owns all state and starts the
//! others), `queue` (one participant), `lane`, `scheduler`, `cursor` (how far the store has been read), `breaker`,
//! `budget`, `backlog` (the reads from the store). A delivery that was just committed goes from `Handle::offer` to its
//! attempt without a read; the store is read only for what memory does not hold, and links between the deliveries of a
//! lane show when that is the case.

mod actor;
mod backlog;
mod breaker;
mod budget;
mod cursor;
mod handle;
mod lane;
mod queue;
mod rate_limit;
mod scheduler;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

pub use handle::{Handle, Inbox};

use crate::clock::Clock;
use crate::delivery::{Attempt, NextStep, PendingDelivery};
use crate::metrics::Metrics;
use crate::routing::Participant;
use crate::store::Store;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Sends one delivery over its participant's channel, within the participant's attempt timeout.
pub trait Transport: Send + Sync + 'static {
    fn send(&self, delivery: PendingDelivery, participant: Arc<Participant>) -> BoxFuture<'_, Attempt>;
}

/// Settles an attempt: reads the answer, stores the attempt and the answer, and wakes waiting senders. Returns after
/// the commit.
pub trait DeliverySettler: Send + Sync + 'static {
    fn settle_attempt(&self, delivery: PendingDelivery, attempt: Attempt) -> BoxFuture<'_, NextStep>;
    /// Gives up a delivery that expired or that an operator discarded, and notifies its sender.
    fn give_up(&self, delivery: PendingDelivery, fault: crate::fault::Fault) -> BoxFuture<'_, ()>;
}

/// One participant's delivery status, as the admin API shows it.
#[derive(Clone, Debug)]
pub struct ParticipantStatus {
    pub participant: String,
    pub paused: bool,
    /// `closed`, or `open`: only probes are sent.
    pub breaker: &'static str,
    pub last_fault: Option<crate::fault::Fault>,
    pub last_failure_at_us: Option<i64>,
    pub next_probe_at_us: Option<i64>,
    pub active: usize,
    /// Lanes with a delivery in memory.
    pub lanes: usize,
}

/// The courier's dependencies and limits.
pub struct CourierSettings {
    /// All participants that deliveries are sent to, including those without a channel (they get callbacks and
    /// replies).
    pub participants: Vec<Arc<Participant>>,
    /// Ids of participants that were paused when the router stopped.
    pub paused: Vec<String>,
    /// Memory for waiting deliveries of all participants, bodies included, in bytes.
    pub memory_bytes: usize,
    pub store: Store,
    pub clock: Clock,
    pub metrics: Metrics,
    pub transport: Arc<dyn Transport>,
    pub settler: Arc<dyn DeliverySettler>,
    /// Once canceled, no new attempt starts.
    pub stop: CancellationToken,
    /// How long active attempts may take to end after `stop`.
    pub grace: Duration,
}

/// Starts the courier. Other modules use its `Handle`.
pub struct Courier {}

impl Courier {
    /// The courier's task: reads the backlog from the store, delivers, and ends after `settings.stop`.
    pub fn run(inbox: Inbox, settings: CourierSettings) -> impl Future<Output = ()> + Send + 'static {
        let backlog = Arc::new(settings.store.clone());
        actor::Actor::new(inbox, settings.into(), backlog).run()
    }
}

//! The courier: lanes, attempts, retries and the breaker.
//!
//! A lane is (participant, order key); one attempt at a time in a lane, many lanes at once, bounded per participant.
//! It carries nothing itself (a `Carrier` does) and decides nothing about answers (a `Conclude` does).
//!
//! Reading order: `handle` (how others speak to it), `actor` (the one task that owns all state and starts the others),
//! `desk` (one participant), `lane`, `turns`, `walk` (how far the store was read), `breaker`, `budget`, `load` (what is read).
//! Work that was just committed goes from `Handle::offer` to its attempt without the store; the store is read only for what
//! memory does not hold, and links between the deliveries of a lane say when that is so.

mod actor;
mod breaker;
mod budget;
mod desk;
#[cfg(test)]
pub(crate) mod fixture;
mod handle;
mod lane;
mod load;
mod pace;
#[cfg(test)]
mod tests;
mod turns;
mod walk;

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
pub trait Carrier: Send + Sync + 'static {
    fn carry(&self, work: PendingDelivery, participant: Arc<Participant>) -> BoxFuture<'_, Attempt>;
}

/// Settles an attempt: reads the answer, keeps both, wakes who waits. Done when the store has committed.
pub trait Conclude: Send + Sync + 'static {
    fn conclude(&self, work: PendingDelivery, attempt: Attempt) -> BoxFuture<'_, NextStep>;
    /// Gives up a delivery that expired or that an operator discarded; the sender is told.
    fn give_up(&self, work: PendingDelivery, fault: crate::fault::Fault) -> BoxFuture<'_, ()>;
}

/// What the courier knows of one participant.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ParticipantStatus {
    pub participant: String,
    pub paused: bool,
    /// `closed`, or `open`: only probes go out.
    pub breaker: &'static str,
    pub last_fault: Option<crate::fault::Fault>,
    pub last_failure_at_us: Option<i64>,
    pub next_probe_at_us: Option<i64>,
    pub active: usize,
    /// Lanes with work that memory holds.
    pub lanes: usize,
}

/// What the courier runs with.
pub struct CourierSettings {
    /// All to whom something may be carried, those without a channel of their own too (callbacks).
    pub participants: Vec<Arc<Participant>>,
    /// Ids of participants that were paused when the router stopped.
    pub paused: Vec<String>,
    /// What works that wait may take in memory, bodies included, in the whole process.
    pub memory_bytes: usize,
    pub store: Store,
    pub clock: Clock,
    pub metrics: Metrics,
    pub carrier: Arc<dyn Carrier>,
    pub conclude: Arc<dyn Conclude>,
    /// Starts nothing new.
    pub stop: CancellationToken,
    /// How long attempts under way may take to end after `stop`.
    pub grace: Duration,
}

/// The running courier. Others hold its `Handle`.
pub struct Courier {}

impl Courier {
    /// The courier's task. It reads what waits in the store, and ends after `settings.stop`.
    pub fn run(inbox: Inbox, settings: CourierSettings) -> impl Future<Output = ()> + Send + 'static {
        let shelf = Arc::new(settings.store.clone());
        actor::Actor::new(inbox, settings.into(), shelf).run()
    }
}

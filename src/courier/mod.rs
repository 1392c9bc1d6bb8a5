//! The courier: lanes, attempts, retries and the breaker.
//!
//! A lane is (participant, order key); one attempt at a time in a lane, many lanes at once, bounded per participant.
//! It carries nothing itself (a `Carrier` does) and decides nothing about answers (a `Conclude` does).

use crate::delivery::{Attempt, Next, Work};
use crate::routing::Participant;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Sends one delivery over its participant's channel, within the participant's attempt timeout.
pub trait Carrier: Send + Sync + 'static {
    fn carry(&self, work: Work, participant: Arc<Participant>) -> BoxFuture<'_, Attempt>;
}

/// Settles an attempt: reads the answer, keeps both, wakes who waits. Done when the store has committed.
pub trait Conclude: Send + Sync + 'static {
    fn conclude(&self, work: Work, attempt: Attempt) -> BoxFuture<'_, Next>;
    /// Gives up a delivery that expired or that an operator discarded; the sender is told.
    fn give_up(&self, work: Work, fault: crate::fhir::Fault) -> BoxFuture<'_, ()>;
}

/// How exchange, admin and jobs speak to the running courier. Clones share it.
#[derive(Clone)]
pub struct Handle {}

/// What the courier knows of one participant.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ParticipantStatus {
    pub participant: String,
    pub paused: bool,
    /// `closed`, or `open`: only probes go out.
    pub breaker: &'static str,
    pub last_fault: Option<crate::fhir::Fault>,
    pub last_failure_at_us: Option<i64>,
    pub next_probe_at_us: Option<i64>,
    pub active: usize,
    /// Lanes with work that memory holds.
    pub lanes: usize,
}

impl Handle {
    /// Offers work that was just committed. Never waits: past the bound the courier reads it from the store.
    pub fn offer(&self, _work: Vec<Work>) {}
    /// A delivery ended or changed outside the courier (answered, discarded): forget it where it waits.
    pub fn forget(&self, _participant: &str, _delivery_key: i64) {}
    /// Stops or starts the attempts of one participant. What is kept of it is the caller's.
    pub fn pause(&self, _participant: &str, _paused: bool) {}
    /// Participants changed (SIGHUP): read settings again.
    pub fn reload(&self, _participants: Vec<Arc<Participant>>) {}
    pub async fn status(&self) -> Vec<ParticipantStatus> {
        Vec::new()
    }
    /// Delivery ids with an attempt under way.
    pub async fn active(&self) -> Vec<uuid::Uuid> {
        Vec::new()
    }
}

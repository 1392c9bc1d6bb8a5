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

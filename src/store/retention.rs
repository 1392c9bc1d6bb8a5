//! Retention: deletes identities, bodies, and traces (rows of messages with their deliveries and attempts) by age, in small steps
//! between which messages are accepted.
//!
//! A message with a waiting delivery is open: nothing of it is deleted, whatever its age. The body of a message with a dead letter
//! is kept for a number of days of its own, counted from when that delivery ended, so that an operator can retry it.

use super::Store;
use super::Unavailable;
use super::backend::{Lease, on_backend};
use super::view::RetentionStep;

/// After how many days each kind is deleted; 0 keeps it forever.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetentionDays {
    /// Bodies of messages without dead letters, counted from when the message was received.
    pub bodies: u32,
    /// Bodies of messages with dead or discarded deliveries, counted from when the last of those ended.
    pub dead_letters: u32,
    pub traces: u32,
    pub identities: u32,
}

impl Store {
    /// Deletes what is older than `days`. Call again while it deletes something. Deletes nothing while the clock may be wrong.
    pub async fn sweep(&self, now_us: i64, days: RetentionDays, limit: u32) -> Result<RetentionStep, Unavailable> {
        if !self.inner.backend.holds(Lease::Upkeep) {
            return Ok(RetentionStep::default());
        }
        on_backend!(self, backend => backend.sweep(now_us, days, limit).await)
    }
}

//! A delivery as the courier holds it, an attempt at it, and when the next one is made.

use super::{DeliveryKind, Metadata};
use crate::fault::Fault;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A delivery as the courier holds it. The body may be absent if the delivery was read from the store.
#[derive(Clone, Debug)]
pub struct PendingDelivery {
    pub delivery_key: i64,
    pub delivery_id: Uuid,
    pub message_key: i64,
    pub participant: Arc<str>,
    pub lane: i64,
    /// Order within the lane.
    pub seq: i64,
    /// `seq` of the newest older delivery of its lane that waited when this one was inserted; None if there was none, and in
    /// the lane without order. This delivery may start only after that one has ended.
    pub prev_seq: Option<i64>,
    pub kind: DeliveryKind,
    /// Attempts made so far.
    pub attempts: u32,
    /// How many of them count neither for the schedule nor for the limit of attempts: failed probes of an open breaker, and
    /// attempts before an operator's retry.
    pub uncounted_attempts: u32,
    /// The current attempt is a probe of an open breaker.
    pub is_probe: bool,
    /// UTC microseconds since 1970; 0: due now, whatever the clock says.
    pub due_at_us: i64,
    pub expires_at_us: i64,
    pub metadata: Arc<Metadata>,
    pub body: Option<Bytes>,
}

impl PendingDelivery {
    /// Failed attempts that count for the schedule and the limit, including the current one, if it fails.
    pub fn counted_attempts(&self) -> u32 {
        let counted = self.attempts.saturating_sub(self.uncounted_attempts);
        if self.is_probe { counted } else { counted.saturating_add(1) }
    }

    /// Counts the current attempt as failed.
    pub fn count_failed(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        self.uncounted_attempts = self.uncounted_attempts.saturating_add(u32::from(std::mem::take(&mut self.is_probe)));
    }
}

/// One attempt at a delivery, as the channel reports it.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub started_at_us: i64,
    pub duration_us: i64,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    pub result: AttemptResult,
    /// It was sent twice: the first connection, which was reused, was lost before the first byte of an answer.
    pub resent: bool,
}

/// How the receiver replied to an attempt (MSG-90).
#[derive(Clone, Debug)]
pub enum AttemptResult {
    /// 2xx without a body: the receiver accepted it.
    Accepted,
    /// The broker has it in the receiver's queue. The receiver itself has not replied yet.
    Queued,
    /// It was not sent, or possibly not because the connection was lost: no attempt is counted. `fault`: the
    /// router's own problem, to be shown with the delivery.
    NotSent { fault: Option<Fault>, detail: String },
    /// 2xx with a body, which decides what it means.
    Body { bytes: Bytes, media_type: String },
    /// Tried again by the schedule: 408, 425, 429, 5xx, no connection, timeout, redirect.
    Retryable { fault: Fault, retry_after: Option<Duration>, detail: String },
    /// The configured credential or URL is wrong (401, 403, 404, 407): tried again by the schedule until the delivery expires.
    Misconfigured { fault: Fault, detail: String },
    /// The body is no longer stored: nothing was sent or can be sent.
    ContentRemoved,
    /// The callback's URL is no longer an address of the request's sender: nothing was sent, and the delivery ends.
    ForeignCallback,
    /// Any other 4xx: refused permanently. The body, if there was one, may be an OperationOutcome.
    Refused { outcome: Option<Bytes>, detail: String },
}

/// What the courier does with a delivery after an attempt was concluded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NextStep {
    /// The delivery has ended: the lane continues.
    Done,
    /// Tried again after this time; the lane waits.
    Retry { after: Duration },
    /// As `Retry`, but nothing is stored about it: there was no attempt, or it could not be stored.
    Postponed { after: Duration },
}

/// `AttemptRow::result` of a failed probe of an open breaker.
pub const FAILED_PROBE: &str = "probe";

/// The time until the next attempt: the schedule's interval for this attempt (the last one repeats) or `Retry-After` if that is
/// longer (at most a day), plus up to 20 % of jitter. `attempts` counts those made; `random` is in 0..1.
pub fn retry_after(schedule_seconds: &[u64], attempts: u32, asked: Option<Duration>, random: f64) -> Duration {
    const LONGEST_RETRY_AFTER_SECONDS: u64 = 86_400;
    let index = (attempts.max(1) as usize - 1).min(schedule_seconds.len().saturating_sub(1));
    let interval = Duration::from_secs(schedule_seconds.get(index).copied().unwrap_or(60));
    let asked = asked.unwrap_or_default().min(Duration::from_secs(LONGEST_RETRY_AFTER_SECONDS));
    interval.max(asked).mul_f64(1.0 + 0.2 * random.clamp(0.0, 1.0))
}

/// The longest time that `retry_after` returns without `Retry-After`, including jitter.
pub fn longest_pause(schedule_seconds: &[u64]) -> Duration {
    let attempts = u32::try_from(schedule_seconds.len()).unwrap_or(u32::MAX);
    (1..=attempts).map(|attempts| retry_after(schedule_seconds, attempts, None, 1.0)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_interval_repeats_and_retry_after_is_honored_within_a_day() {
        let seconds = |attempts, asked| retry_after(&[1, 5], attempts, asked, 0.0).as_secs();
        assert_eq!([seconds(1, None), seconds(2, None), seconds(9, None)], [1, 5, 5]);
        assert_eq!(seconds(1, Some(Duration::from_secs(30))), 30);
        assert_eq!(seconds(1, Some(Duration::from_secs(1_000_000))), 86_400);
        assert_eq!(retry_after(&[10], 1, None, 1.0), Duration::from_secs(12));
    }
}

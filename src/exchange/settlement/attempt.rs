//! What is recorded of an attempt, when the next one follows, and what the sender gets when none does.

use super::Settler;
use crate::delivery::{
    Attempt, AttemptRow, DeliveryState, FAILED_PROBE, NewMessage, NextStep, PendingDelivery, Settlement, retry_after,
};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::store::Unavailable;
use fhir::event::ResponseCode;
use std::time::Duration;
use uuid::Uuid;

/// Added to an attempt's detail if a lost connection was replaced.
const RESENT: &str =
    "the kept connection was closed before any answer, and the message was sent again at once on a new one";

impl Settler {
    /// The attempt failed: another one follows, unless this was the last that `attempts_limit` allows.
    pub(super) async fn failed(
        &self,
        pending: PendingDelivery,
        attempt: &Attempt,
        why: (Fault, String),
        requested_delay: Option<Duration>,
    ) -> Result<NextStep, Unavailable> {
        if self.was_last_attempt(&pending, why.0) {
            let row = self.row(&pending, attempt, "retry", Some(why.0), Some(why.1));
            self.dead_letter(pending, Fault::RecvAttempts, Some(row), &[]).await?;
            return Ok(NextStep::Done);
        }
        self.schedule_retry(&pending, attempt, why, requested_delay).await
    }

    /// Probes and defects of the router do not count: they say nothing about whether the message can be delivered.
    fn was_last_attempt(&self, pending: &PendingDelivery, fault: Fault) -> bool {
        let rules = self.rules.load();
        let limit = rules.table.participant(&pending.participant).map_or(0, |found| found.attempts_limit);
        limit > 0 && !pending.is_probe && fault != Fault::RouteInternal && pending.counted_attempts() >= limit
    }

    pub(super) async fn schedule_retry(
        &self,
        pending: &PendingDelivery,
        attempt: &Attempt,
        (fault, detail): (Fault, String),
        requested_delay: Option<Duration>,
    ) -> Result<NextStep, Unavailable> {
        let after = self.delay(pending, requested_delay);
        let result = if pending.is_probe { FAILED_PROBE } else { "retry" };
        let row = self.row(pending, attempt, result, Some(fault), Some(detail));
        let mut settlement = settlement(pending, DeliveryState::Waiting, Some(row), Some(fault), None);
        settlement.due_at_us = self.due_us(after);
        self.store.settle(settlement).await?;
        Ok(NextStep::Retry { after })
    }

    pub(super) fn due_us(&self, after: Duration) -> i64 {
        self.clock.now_us() + i64::try_from(after.as_micros()).unwrap_or(i64::MAX / 2)
    }

    fn delay(&self, pending: &PendingDelivery, requested_delay: Option<Duration>) -> Duration {
        let rules = self.rules.load();
        // A participant that was removed may be added again; until then the default schedule applies.
        let participant = rules.table.participant(&pending.participant).unwrap_or(&rules.table.anyone);
        let schedule = participant.retry_schedule_seconds.clone();
        // The low bits of a fresh UUID are random enough to spread retries.
        let random = (Uuid::new_v4().as_u128() as u32) as f64 / f64::from(u32::MAX);
        retry_after(&schedule, pending.counted_attempts(), requested_delay, random)
    }

    /// The row of an attempt, which is also counted and, if it has a fault, logged.
    pub(super) fn row(
        &self,
        pending: &PendingDelivery,
        attempt: &Attempt,
        result: &str,
        fault: Option<Fault>,
        detail: Option<String>,
    ) -> AttemptRow {
        self.metrics.attempt(&pending.participant, result, attempt.duration_us as f64 / 1e6);
        if let Some(fault) = fault {
            self.metrics.fault(fault.code());
            tracing::info!(delivery.id = %pending.delivery_id, message.id = %pending.metadata.id, participant = %pending.participant,
                attempt = pending.attempts + 1, http.status = attempt.status, fault = fault.code(), result, "an attempt");
        }
        let detail = match (detail, attempt.resent) {
            (detail, false) => detail,
            (None, true) => Some(RESENT.to_owned()),
            (Some(detail), true) => Some(format!("{detail}; {RESENT}")),
        };
        AttemptRow {
            started_at_us: attempt.started_at_us,
            duration_us: attempt.duration_us,
            status: attempt.status,
            result: result.into(),
            fault,
            detail,
        }
    }
}

pub(super) fn settlement(
    pending: &PendingDelivery,
    state: DeliveryState,
    attempt: Option<AttemptRow>,
    fault: Option<Fault>,
    answer: Option<NewMessage>,
) -> Settlement {
    Settlement {
        delivery_key: pending.delivery_key,
        state,
        due_at_us: pending.due_at_us,
        attempt,
        fault,
        answer: answer.map(Box::new),
        receiver_issues: None,
        shares_with: None,
        ends_waits: false,
        lease: None,
    }
}

/// What the sender gets when a delivery ends without an answer of its receiver.
pub(super) fn failure_outcome(fault: Fault) -> (ResponseCode, Outcome) {
    let (code, issue, text) = match fault {
        Fault::RecvExpired => (
            ResponseCode::TransientError,
            IssueCode::Timeout,
            "The message could not be delivered before it expired; send it again when the receiver is back",
        ),
        Fault::RecvAttempts => (
            ResponseCode::TransientError,
            IssueCode::Transient,
            "The message could not be delivered: every attempt that the exchange makes failed; send it again when the receiver \
             works",
        ),
        Fault::RouteBodyDropped => (
            ResponseCode::TransientError,
            IssueCode::Transient,
            "The message was not delivered: the exchange no longer has its content; send it again",
        ),
        Fault::RouteDiscarded => (
            ResponseCode::FatalError,
            IssueCode::Processing,
            "An operator discarded the delivery; ask the operator of the exchange",
        ),
        _ => (
            ResponseCode::FatalError,
            IssueCode::Processing,
            "The receiver refused the message for good; its own issues follow where it gave any",
        ),
    };
    (code, Issue::error(issue, fault, text).into())
}

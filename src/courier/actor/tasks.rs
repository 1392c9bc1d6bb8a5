//! The tasks that the actor starts: attempts, give-ups, and reads. Each reports exactly once, even when the code it
//! calls panics.

use super::super::queue::{AttemptEnd, ReceiverState};
use super::{Actor, TaskReport};
use crate::delivery::{AttemptResult, NextStep, PendingDelivery};
use crate::fault::Fault;
use crate::routing::Participant;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Concurrent reads of the store.
pub(super) const READS_LIMIT: usize = 4;
/// Pause after an attempt that panicked.
const PANIC_RETRY_SECONDS: u64 = 5;

impl Actor {
    pub(super) fn attempt(&mut self, delivery: PendingDelivery, participant: Arc<Participant>) {
        self.attempts += 1;
        let (transport, settler) = (self.settings.transport.clone(), self.settings.settler.clone());
        self.tasks.spawn(async move {
            let attempt = async {
                let attempt = transport.send(delivery.clone(), participant).await;
                let (receiver, retry_after) = receiver_state(&attempt.result);
                let next = settler.settle_attempt(delivery.clone(), attempt).await;
                // A body that leads to a retry was not an answer to this message.
                let bad_answer = receiver.is_none() && next != NextStep::Done;
                let receiver = if bad_answer {
                    ReceiverState::Failed(Fault::RecvBadAnswer)
                } else {
                    receiver.unwrap_or(ReceiverState::Up)
                };
                AttemptEnd { next, receiver, retry_after }
            };
            let ended = AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(delivery.id = %delivery.delivery_id, "an attempt panicked; it is retried");
                let after = Duration::from_secs(PANIC_RETRY_SECONDS);
                AttemptEnd { next: NextStep::Postponed { after }, receiver: ReceiverState::Unknown, retry_after: None }
            });
            TaskReport::Attempted { delivery, ended }
        });
    }

    pub(super) fn give_up(&mut self, delivery: PendingDelivery, swept: bool) {
        if !swept {
            self.attempts += 1;
        }
        let settler = self.settings.settler.clone();
        self.tasks.spawn(async move {
            let given_up = AssertUnwindSafe(settler.give_up(delivery.clone(), Fault::RecvExpired)).catch_unwind().await;
            if given_up.is_err() {
                tracing::error!(delivery.id = %delivery.delivery_id, "giving up a delivery panicked; it is retried");
            }
            TaskReport::GaveUp { delivery, swept }
        });
    }

    pub(super) fn read_on(&mut self, now: Instant) {
        while self.reading < READS_LIMIT && self.reads_from <= now {
            let Some((participant, read)) = self.reads.pop_front() else { return };
            self.reading += 1;
            let backlog = self.backlog.clone();
            self.tasks.spawn(async move {
                let page = backlog.read(participant.clone(), read).await;
                TaskReport::Loaded { participant, read, page }
            });
        }
    }
}

/// What the attempt shows about the receiver; None where only reading the answer can show it.
fn receiver_state(result: &AttemptResult) -> (Option<ReceiverState>, Option<Duration>) {
    match result {
        AttemptResult::Accepted | AttemptResult::Queued | AttemptResult::Refused { .. } => {
            (Some(ReceiverState::Up), None)
        }
        AttemptResult::NotSent { .. } | AttemptResult::ContentRemoved | AttemptResult::ForeignCallback => {
            (Some(ReceiverState::Unknown), None)
        }
        AttemptResult::Body { .. } => (None, None),
        // A defect in the router: nothing was sent to the receiver.
        AttemptResult::Retryable { fault: Fault::RouteInternal, .. } => (Some(ReceiverState::Unknown), None),
        AttemptResult::Retryable { fault, retry_after, .. } => (Some(ReceiverState::Failed(*fault)), *retry_after),
        AttemptResult::Misconfigured { fault, .. } => (Some(ReceiverState::Failed(*fault)), None),
    }
}

//! The tasks that the actor starts: attempts, givings-up and reads. Each reports once; a panic in what it calls is a report too.

use super::super::desk::{Ended, Verdict};
use super::{Actor, Report};
use crate::delivery::{AttemptResult, NextStep, PendingDelivery};
use crate::fault::Fault;
use crate::routing::Participant;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Reads of the store at one time.
pub(super) const READS_LIMIT: usize = 4;
/// After a defect of ours in an attempt.
const PANIC_RETRY_SECONDS: u64 = 5;

impl Actor {
    pub(super) fn attempt(&mut self, work: PendingDelivery, participant: Arc<Participant>) {
        self.attempts += 1;
        let (carrier, conclude) = (self.settings.carrier.clone(), self.settings.conclude.clone());
        self.tasks.spawn(async move {
            let attempt = async {
                let attempt = carrier.carry(work.clone(), participant).await;
                let (verdict, asked) = verdict_of(&attempt.result);
                let next = conclude.conclude(work.clone(), attempt).await;
                // A body that leads to another attempt was no answer to this message.
                let bad_answer = verdict.is_none() && next != NextStep::Done;
                let verdict =
                    if bad_answer { Verdict::Failed(Fault::RecvBadAnswer) } else { verdict.unwrap_or(Verdict::Spoke) };
                Ended { next, verdict, asked }
            };
            let ended = AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(delivery.id = %work.delivery_id, "an attempt ended by a defect; it is made again");
                let after = Duration::from_secs(PANIC_RETRY_SECONDS);
                Ended { next: NextStep::Postponed { after }, verdict: Verdict::Nothing, asked: None }
            });
            Report::Attempted { work, ended }
        });
    }

    pub(super) fn give_up(&mut self, work: PendingDelivery, swept: bool) {
        if !swept {
            self.attempts += 1;
        }
        let conclude = self.settings.conclude.clone();
        self.tasks.spawn(async move {
            let given_up = AssertUnwindSafe(conclude.give_up(work.clone(), Fault::RecvExpired)).catch_unwind().await;
            if given_up.is_err() {
                tracing::error!(delivery.id = %work.delivery_id, "giving up ended by a defect; it is tried again");
            }
            Report::GaveUp { work, swept }
        });
    }

    pub(super) fn read_on(&mut self, now: Instant) {
        while self.reading < READS_LIMIT && self.reads_from <= now {
            let Some((participant, read)) = self.reads.pop_front() else { return };
            self.reading += 1;
            let shelf = self.shelf.clone();
            self.tasks.spawn(async move {
                let page = shelf.read(participant.clone(), read).await;
                Report::Loaded { participant, read, page }
            });
        }
    }
}

/// What the attempt tells of the receiver; None where the answer's reader must say.
fn verdict_of(result: &AttemptResult) -> (Option<Verdict>, Option<Duration>) {
    match result {
        AttemptResult::Accepted | AttemptResult::Queued | AttemptResult::Refused { .. } => (Some(Verdict::Spoke), None),
        AttemptResult::NotSent { .. } | AttemptResult::ContentRemoved | AttemptResult::ForeignCallback => {
            (Some(Verdict::Nothing), None)
        }
        AttemptResult::Body { .. } => (None, None),
        // A defect of ours: the receiver was never asked.
        AttemptResult::Retryable { fault: Fault::RouteInternal, .. } => (Some(Verdict::Nothing), None),
        AttemptResult::Retryable { fault, retry_after, .. } => (Some(Verdict::Failed(*fault)), *retry_after),
        AttemptResult::Misconfigured { fault, .. } => (Some(Verdict::Failed(*fault)), None),
    }
}

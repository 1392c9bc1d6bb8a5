//! What a receiver said to our delivery, settled: its answer is read, kept and sent home in the same transaction.

use super::Exchange;
use super::meaning::{Meaning, receiver_issues};
use super::own::Say;
use super::reply::{Closed, closes_without_message};
use crate::courier::Conclude;
use crate::delivery::{
    Attempt, AttemptResult, AttemptRow, DeliveryKind, DeliveryState, FAILED_PROBE, NewMessage, NextStep,
    PendingDelivery, ReplyTo, Settlement, retry_after,
};
use crate::fault::Fault;
use crate::offload::offload;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::store::Unavailable;
use bytes::Bytes;
use fhir::event::ResponseCode;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// How long the same delivery waits when its attempt could not be recorded.
const STORE_AWAY_RETRY_SECONDS: u64 = 5;
/// How long a delivery waits that could not be sent at all; its channel waits for its connection before it says so.
const UNSENT_RETRY_MILLISECONDS: u64 = 200;
/// How long a delivery waits that the router lacked something for.
const SHORTAGE_RETRY_SECONDS: u64 = 1;

/// What an attempt's detail says where a lost connection was replaced.
const RESENT: &str =
    "the kept connection was closed before any answer, and the message was sent again at once on a new one";

/// What is noted of a receiver's word that is no answer.
struct Remark {
    fault: Fault,
    detail: String,
    /// Of its OperationOutcome, where it reported errors.
    issues: Vec<Value>,
}

impl Conclude for Exchange {
    fn conclude(&self, work: PendingDelivery, attempt: Attempt) -> BoxFuture<'_, NextStep> {
        Box::pin(async move {
            let id = work.delivery_id;
            match self.try_conclude(work, attempt).await {
                Ok(next) => next,
                Err(away) => {
                    // The attempt happened and is not recorded: it is made again, and the receiver knows the repeat.
                    tracing::warn!(delivery.id = %id, reason = %away, "an attempt could not be recorded");
                    NextStep::Postponed { after: Duration::from_secs(STORE_AWAY_RETRY_SECONDS) }
                }
            }
        })
    }

    fn give_up(&self, work: PendingDelivery, fault: Fault) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let id = work.delivery_id;
            if let Err(away) = self.end(work, fault).await {
                tracing::warn!(delivery.id = %id, reason = %away, "a delivery could not be ended");
            }
        })
    }
}

impl Exchange {
    async fn try_conclude(&self, work: PendingDelivery, attempt: Attempt) -> Result<NextStep, Unavailable> {
        let rules = self.rules.load_full();
        match attempt.result.clone() {
            AttemptResult::Accepted => self.taken(work, &attempt).await,
            AttemptResult::Queued => self.queued(work, &attempt).await,
            AttemptResult::NotSent { fault: None, detail } => {
                tracing::debug!(delivery.id = %work.delivery_id, detail, "not sent; tried again");
                Ok(NextStep::Postponed { after: Duration::from_millis(UNSENT_RETRY_MILLISECONDS) })
            }
            AttemptResult::NotSent { fault: Some(fault), detail } => Ok(self.short(&work, fault, &detail).await),
            AttemptResult::Body { bytes, media_type } => {
                match offload(bytes.len(), || self.meaning(&work, bytes, &media_type, &rules)) {
                    Meaning::Answer(answer) => self.answered(work, &attempt, *answer, &rules, None).await,
                    Meaning::Failed(detail) => {
                        self.again(work, &attempt, (Fault::RecvBadAnswer, detail.into()), None).await
                    }
                    Meaning::Taken => self.taken(work, &attempt).await,
                    Meaning::NotFhir(why) => {
                        let remark = Remark { fault: Fault::RecvNotFhir, detail: why.into(), issues: Vec::new() };
                        self.taken_with(work, &attempt, Some(remark)).await
                    }
                    Meaning::Reported(issues) => {
                        let detail = format!("the receiver took the message and reported {} issues", issues.len());
                        let remark = Remark { fault: Fault::RecvIssues, detail, issues };
                        self.taken_with(work, &attempt, Some(remark)).await
                    }
                }
            }
            AttemptResult::Retryable { fault, retry_after, detail } => {
                self.again(work, &attempt, (fault, detail), retry_after).await
            }
            AttemptResult::Misconfigured { fault, detail } => {
                self.put_back(&work, &attempt, (fault, detail), None).await
            }
            AttemptResult::ContentRemoved => {
                let detail = "the content of the message is no longer stored";
                self.never_sent(work, &attempt, Fault::RouteBodyDropped, detail).await
            }
            AttemptResult::ForeignCallback => {
                let detail =
                    "the response-url is no longer an address of the participant that asked for the answer there";
                self.never_sent(work, &attempt, Fault::RouteCallback, detail).await
            }
            AttemptResult::Refused { outcome, detail } => self.refused(work, &attempt, outcome, detail).await,
        }
    }

    async fn taken(&self, work: PendingDelivery, attempt: &Attempt) -> Result<NextStep, Unavailable> {
        self.taken_with(work, attempt, None).await
    }

    /// The receiver has it. What it reported about it is shown with the delivery; what it said beside that is a warning.
    async fn taken_with(
        &self,
        work: PendingDelivery,
        attempt: &Attempt,
        remark: Option<Remark>,
    ) -> Result<NextStep, Unavailable> {
        let (fault, detail) = remark.as_ref().map(|remark| (remark.fault, remark.detail.clone())).unzip();
        let row = self.row(&work, attempt, "delivered", fault, detail);
        let mut settlement = settlement(&work, DeliveryState::Delivered, Some(row), None, None);
        if let Some(remark) = remark.filter(|remark| !remark.issues.is_empty()) {
            settlement.fault = Some(remark.fault);
            settlement.receiver_issues = Some(Value::Array(remark.issues).to_string());
        }
        let settled = self.store.settle(settlement).await?;
        if work.kind == DeliveryKind::Request && closes_without_message(work.metadata.owed) {
            let closed = settled.changed.then_some(Closed::Taken { accepted: attempt.status == Some(202) });
            self.tell(work.metadata.id, None, closed).await;
        }
        Ok(NextStep::Done)
    }

    /// Nothing was sent for want of something of our own: the receiver's schedule and its breaker know nothing of it.
    async fn short(&self, work: &PendingDelivery, fault: Fault, detail: &str) -> NextStep {
        let after = Duration::from_secs(SHORTAGE_RETRY_SECONDS);
        self.metrics.fault(fault.code());
        tracing::warn!(delivery.id = %work.delivery_id, participant = %work.participant, fault = fault.code(), detail,
            "a delivery was not sent; no attempt is counted");
        let mut settlement = settlement(work, DeliveryState::Waiting, None, Some(fault), None);
        settlement.due_at_us = self.clock.now_us() + i64::try_from(after.as_micros()).unwrap_or(i64::MAX / 2);
        if let Err(away) = self.store.settle(settlement).await {
            tracing::warn!(delivery.id = %work.delivery_id, reason = %away, "why it waits could not be recorded");
        }
        NextStep::Postponed { after }
    }

    /// The broker has it, and the receiver has said nothing yet: who waits for an answer goes on waiting.
    async fn queued(&self, work: PendingDelivery, attempt: &Attempt) -> Result<NextStep, Unavailable> {
        let row = self.row(&work, attempt, "delivered", None, None);
        self.store.settle(settlement(&work, DeliveryState::Delivered, Some(row), None, None)).await?;
        Ok(NextStep::Done)
    }

    pub(super) async fn again(
        &self,
        work: PendingDelivery,
        attempt: &Attempt,
        why: (Fault, String),
        asked: Option<Duration>,
    ) -> Result<NextStep, Unavailable> {
        if self.was_last_attempt(&work, why.0) {
            let row = self.row(&work, attempt, "retry", Some(why.0), Some(why.1));
            self.bury(work, Fault::RecvAttempts, Some(row), &[]).await?;
            return Ok(NextStep::Done);
        }
        self.put_back(&work, attempt, why, asked).await
    }

    /// A probe says that the receiver is down, not that the message cannot be delivered, and so does a defect of ours.
    fn was_last_attempt(&self, work: &PendingDelivery, fault: Fault) -> bool {
        let rules = self.rules.load();
        let limit = rules.table.participant(&work.participant).map_or(0, |found| found.attempts_limit);
        limit > 0 && !work.is_probe && fault != Fault::RouteInternal && work.counted_attempts() >= limit
    }

    async fn put_back(
        &self,
        work: &PendingDelivery,
        attempt: &Attempt,
        (fault, detail): (Fault, String),
        asked: Option<Duration>,
    ) -> Result<NextStep, Unavailable> {
        let after = self.delay(work, asked);
        let result = if work.is_probe { FAILED_PROBE } else { "retry" };
        let row = self.row(work, attempt, result, Some(fault), Some(detail));
        let mut settlement = settlement(work, DeliveryState::Waiting, Some(row), Some(fault), None);
        settlement.due_at_us = self.clock.now_us() + i64::try_from(after.as_micros()).unwrap_or(i64::MAX / 2);
        self.store.settle(settlement).await?;
        Ok(NextStep::Retry { after })
    }

    fn delay(&self, work: &PendingDelivery, asked: Option<Duration>) -> Duration {
        let rules = self.rules.load();
        // One that was removed meanwhile may be added again: the usual schedule holds until then.
        let participant = rules.table.participant(&work.participant).unwrap_or(&rules.table.anyone);
        let schedule = participant.retry_schedule_seconds.clone();
        // The low bits of a fresh UUID are random enough to spread retries.
        let random = (Uuid::new_v4().as_u128() as u32) as f64 / f64::from(u32::MAX);
        retry_after(&schedule, work.counted_attempts(), asked, random)
    }

    /// It must not or cannot be sent: the receiver was never asked, and is not blamed.
    async fn never_sent(
        &self,
        work: PendingDelivery,
        attempt: &Attempt,
        fault: Fault,
        detail: &str,
    ) -> Result<NextStep, Unavailable> {
        let row = self.row(&work, attempt, "retry", Some(fault), Some(detail.to_owned()));
        self.bury(work, fault, Some(row), &[]).await?;
        Ok(NextStep::Done)
    }

    /// Refused for good: a dead letter, and the sender is told with the receiver's own issues.
    async fn refused(
        &self,
        work: PendingDelivery,
        attempt: &Attempt,
        outcome: Option<Bytes>,
        detail: String,
    ) -> Result<NextStep, Unavailable> {
        let row = self.row(&work, attempt, "refused", Some(Fault::RecvRefused), Some(detail));
        let issues = outcome.map(|outcome| offload(outcome.len(), || receiver_issues(&outcome, work.metadata.version)));
        let issues = issues.unwrap_or_default();
        self.bury(work, Fault::RecvRefused, Some(row), &issues).await?;
        Ok(NextStep::Done)
    }

    /// Ends a waiting delivery that expired or was discarded; false when it was settled otherwise before.
    pub(super) async fn end(&self, work: PendingDelivery, fault: Fault) -> Result<bool, Unavailable> {
        self.bury(work, fault, None, &[]).await
    }

    async fn bury(
        &self,
        work: PendingDelivery,
        fault: Fault,
        row: Option<AttemptRow>,
        receiver_issues: &[Value],
    ) -> Result<bool, Unavailable> {
        let rules = self.rules.load_full();
        let state = match fault {
            Fault::RouteDiscarded => DeliveryState::Discarded,
            _ => DeliveryState::Dead,
        };
        tracing::warn!(delivery.id = %work.delivery_id, message.id = %work.metadata.id, participant = %work.participant,
            fault = fault.code(), "a delivery ended as {}", state.as_str());
        self.metrics.fault(fault.code());
        let tells = work.kind == DeliveryKind::Request && work.metadata.reply_to != ReplyTo::Nobody;
        if !tells {
            let settled = self.store.settle(settlement(&work, state, row, Some(fault), None)).await?;
            return Ok(settled.changed);
        }
        let (code, mut outcome) = last_words(fault);
        // Details hold neither content nor URLs nor the receiver's own words.
        let detail = row.as_ref().filter(|_| fault == Fault::RecvRefused).and_then(|row| row.detail.as_deref());
        if let (Some(detail), Some(issue)) = (detail, outcome.issues.first_mut()) {
            issue.diagnostics = std::mem::take(&mut issue.diagnostics).followed_by(&format!(" ({detail})"));
        }
        let definition = work.metadata.definition.as_deref().and_then(|url| rules.definitions.by_canonical(url));
        let say = Say { code, outcome: Some(&outcome), receiver_issues, focus: None };
        let mut answer = self.own_answer(&work.metadata, definition.map(|definition| &**definition), &rules, say);
        answer.releases_request = code == ResponseCode::TransientError;
        let _in_order = self.answers.enter(work.metadata.id).await;
        let claim = self.send_home(&work, &mut answer, &rules, true);
        let closed = Closed::of_keep(&answer);
        let settlement = settlement(&work, state, row, Some(fault), Some(answer));
        Ok(self.settle_and_tell(settlement, &work, claim, closed).await?.changed)
    }

    pub(super) fn row(
        &self,
        work: &PendingDelivery,
        attempt: &Attempt,
        result: &str,
        fault: Option<Fault>,
        detail: Option<String>,
    ) -> AttemptRow {
        self.metrics.attempt(&work.participant, result, attempt.duration_us as f64 / 1e6);
        if let Some(fault) = fault {
            self.metrics.fault(fault.code());
            tracing::info!(delivery.id = %work.delivery_id, message.id = %work.metadata.id, participant = %work.participant,
                attempt = work.attempts + 1, http.status = attempt.status, fault = fault.code(), result, "an attempt");
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
    work: &PendingDelivery,
    state: DeliveryState,
    attempt: Option<AttemptRow>,
    fault: Option<Fault>,
    answer: Option<NewMessage>,
) -> Settlement {
    Settlement {
        delivery_key: work.delivery_key,
        state,
        due_at_us: work.due_at_us,
        attempt,
        fault,
        answer: answer.map(Box::new),
        receiver_issues: None,
        shares_with: None,
    }
}

/// What the sender is told when a delivery ends without an answer of its receiver.
fn last_words(fault: Fault) -> (ResponseCode, Outcome) {
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

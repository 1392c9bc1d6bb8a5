//! Settlement: what the result of a delivery attempt means, and which transaction records it.
//!
//! The courier reports each attempt to `Settler`. It records the attempt, stores an answer together with its return route,
//! schedules the next attempt, or gives the delivery up and writes the failure notice that its sender gets. Answers that
//! arrive as messages of their own (`response`) end in the same place.

mod answer;
mod answer_rules;
mod assignment;
mod attempt;
mod correlation;
mod receiver_reply;
mod response;
mod sequence;
mod unreadable;

pub use assignment::Unassigned;
pub(super) use correlation::Match;
pub(super) use response::several_requests;

use super::answer_writer::AnswerContent;
use super::intake::Intake;
use super::replies::{Completion, Replies, completes_without_message};
use super::{Rules, Settings};
use crate::clock::Clock;
use crate::courier::{DeliverySettler, Handle};
use crate::delivery::{
    Attempt, AttemptResult, AttemptRow, DeliveryKind, DeliveryState, NewMessage, NextStep, PendingDelivery, ReplyTo,
};
use crate::fault::Fault;
use crate::metrics::Metrics;
use crate::offload::offload;
use crate::store::{Store, Unavailable};
use arc_swap::ArcSwap;
use attempt::{failure_outcome, settlement};
use bytes::Bytes;
use fhir::event::ResponseCode;
use futures_util::future::BoxFuture;
use receiver_reply::{ReceiverReply, receiver_issues};
use sequence::AnswerSequence;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long a delivery waits whose attempt could not be recorded.
const STORE_AWAY_RETRY_SECONDS: u64 = 5;
/// How long a delivery waits that was not sent; its channel has waited for a connection before it reports that.
const NOT_SENT_RETRY_MILLISECONDS: u64 = 200;
/// How long a delivery waits when the router lacked a resource.
const SHORTAGE_RETRY_SECONDS: u64 = 1;

/// Interprets what receivers answer, and records it.
pub struct Settler {
    pub(super) store: Store,
    pub(super) courier: Handle,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) settings: Arc<Settings>,
    pub(super) intake: Arc<Intake>,
    pub(super) replies: Arc<Replies>,
    pub(super) sequence: AnswerSequence,
}

/// What a receiver returned beside accepting the message, as shown with the delivery.
struct Remark {
    fault: Fault,
    detail: String,
    /// Issues of its OperationOutcome, if it reported errors.
    issues: Vec<Value>,
}

impl DeliverySettler for Settler {
    fn settle_attempt(&self, pending: PendingDelivery, attempt: Attempt) -> BoxFuture<'_, NextStep> {
        Box::pin(async move {
            let id = pending.delivery_id;
            match self.settle(pending, attempt).await {
                Ok(next) => next,
                Err(unavailable) => {
                    // The attempt happened but is not recorded. It is made again, and the receiver recognizes the duplicate.
                    tracing::warn!(delivery.id = %id, reason = %unavailable, "an attempt could not be recorded");
                    NextStep::Postponed { after: Duration::from_secs(STORE_AWAY_RETRY_SECONDS) }
                }
            }
        })
    }

    fn give_up(&self, pending: PendingDelivery, fault: Fault) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let id = pending.delivery_id;
            if let Err(unavailable) = self.end(pending, fault).await {
                tracing::warn!(delivery.id = %id, reason = %unavailable, "a delivery could not be ended");
            }
        })
    }
}

impl Settler {
    async fn settle(&self, pending: PendingDelivery, attempt: Attempt) -> Result<NextStep, Unavailable> {
        let rules = self.rules.load_full();
        match attempt.result.clone() {
            AttemptResult::Accepted => self.delivered(pending, &attempt, None).await,
            AttemptResult::Queued => self.queued(pending, &attempt).await,
            AttemptResult::NotSent { fault: None, detail } => {
                tracing::debug!(delivery.id = %pending.delivery_id, detail, "not sent; tried again");
                Ok(NextStep::Postponed { after: Duration::from_millis(NOT_SENT_RETRY_MILLISECONDS) })
            }
            AttemptResult::NotSent { fault: Some(fault), detail } => Ok(self.shortage(&pending, fault, &detail).await),
            AttemptResult::Body { bytes, media_type } => {
                let reply = offload(bytes.len(), || self.interpret(&pending, bytes, &media_type, &rules));
                self.replied(pending, &attempt, reply, &rules).await
            }
            AttemptResult::Retryable { fault, retry_after, detail } => {
                self.failed(pending, &attempt, (fault, detail), retry_after).await
            }
            AttemptResult::Misconfigured { fault, detail } => {
                self.schedule_retry(&pending, &attempt, (fault, detail), None).await
            }
            AttemptResult::ContentRemoved => {
                let detail = "the content of the message is no longer stored";
                self.not_sendable(pending, &attempt, Fault::RouteBodyDropped, detail).await
            }
            AttemptResult::ForeignCallback => {
                let detail =
                    "the response-url is no longer an address of the participant that asked for the answer there";
                self.not_sendable(pending, &attempt, Fault::RouteCallback, detail).await
            }
            AttemptResult::Refused { outcome, detail } => self.refused(pending, &attempt, outcome, detail).await,
        }
    }

    /// The receiver returned 2xx with a body.
    async fn replied(
        &self,
        pending: PendingDelivery,
        attempt: &Attempt,
        reply: ReceiverReply,
        rules: &Rules,
    ) -> Result<NextStep, Unavailable> {
        match reply {
            ReceiverReply::Answer(answer) => self.answered(pending, attempt, *answer, rules, None).await,
            ReceiverReply::Failed(detail) => {
                self.failed(pending, attempt, (Fault::RecvBadAnswer, detail.into()), None).await
            }
            ReceiverReply::Accepted => self.delivered(pending, attempt, None).await,
            ReceiverReply::NotFhir(why) => {
                let remark = Remark { fault: Fault::RecvNotFhir, detail: why.into(), issues: Vec::new() };
                self.delivered(pending, attempt, Some(remark)).await
            }
            ReceiverReply::Reported(issues) => {
                let detail = format!("the receiver took the message and reported {} issues", issues.len());
                let remark = Remark { fault: Fault::RecvIssues, detail, issues };
                self.delivered(pending, attempt, Some(remark)).await
            }
        }
    }

    /// The receiver has the message. What it reported about it is stored with the delivery.
    async fn delivered(
        &self,
        pending: PendingDelivery,
        attempt: &Attempt,
        remark: Option<Remark>,
    ) -> Result<NextStep, Unavailable> {
        let (fault, detail) = remark.as_ref().map(|remark| (remark.fault, remark.detail.clone())).unzip();
        let row = self.row(&pending, attempt, "delivered", fault, detail);
        let mut settlement = settlement(&pending, DeliveryState::Delivered, Some(row), None, None);
        if let Some(remark) = remark.filter(|remark| !remark.issues.is_empty()) {
            settlement.fault = Some(remark.fault);
            settlement.receiver_issues = Some(Value::Array(remark.issues).to_string());
        }
        let completes = pending.kind == DeliveryKind::Request && completes_without_message(pending.metadata.owed);
        settlement.ends_waits = completes;
        let settled = self.store.settle(settlement).await?;
        if completes {
            let completion = settled.changed.then_some(Completion::Taken { accepted: attempt.status == Some(202) });
            self.replies.announce(pending.metadata.id, None, completion).await;
        }
        Ok(NextStep::Done)
    }

    /// The broker has the message, but the receiver has not answered yet: waiting senders go on waiting.
    async fn queued(&self, pending: PendingDelivery, attempt: &Attempt) -> Result<NextStep, Unavailable> {
        let row = self.row(&pending, attempt, "delivered", None, None);
        self.store.settle(settlement(&pending, DeliveryState::Delivered, Some(row), None, None)).await?;
        Ok(NextStep::Done)
    }

    /// Nothing was sent because the router lacked a resource. Neither the receiver's retry schedule nor its breaker counts it.
    async fn shortage(&self, pending: &PendingDelivery, fault: Fault, detail: &str) -> NextStep {
        let after = Duration::from_secs(SHORTAGE_RETRY_SECONDS);
        self.metrics.fault(fault.code());
        tracing::warn!(delivery.id = %pending.delivery_id, participant = %pending.participant, fault = fault.code(), detail,
            "a delivery was not sent; no attempt is counted");
        let mut settlement = settlement(pending, DeliveryState::Waiting, None, Some(fault), None);
        settlement.due_at_us = self.due_us(after);
        if let Err(unavailable) = self.store.settle(settlement).await {
            tracing::warn!(delivery.id = %pending.delivery_id, reason = %unavailable, "why it waits could not be recorded");
        }
        NextStep::Postponed { after }
    }

    /// The message must not or cannot be sent: the receiver was not contacted.
    async fn not_sendable(
        &self,
        pending: PendingDelivery,
        attempt: &Attempt,
        fault: Fault,
        detail: &str,
    ) -> Result<NextStep, Unavailable> {
        let row = self.row(&pending, attempt, "retry", Some(fault), Some(detail.to_owned()));
        self.dead_letter(pending, fault, Some(row), &[]).await?;
        Ok(NextStep::Done)
    }

    /// The receiver refused the message permanently: its sender gets the receiver's own issues.
    async fn refused(
        &self,
        pending: PendingDelivery,
        attempt: &Attempt,
        outcome: Option<Bytes>,
        detail: String,
    ) -> Result<NextStep, Unavailable> {
        let row = self.row(&pending, attempt, "refused", Some(Fault::RecvRefused), Some(detail));
        let version = pending.metadata.version;
        let issues = outcome.map(|outcome| offload(outcome.len(), || receiver_issues(&outcome, version)));
        self.dead_letter(pending, Fault::RecvRefused, Some(row), &issues.unwrap_or_default()).await?;
        Ok(NextStep::Done)
    }

    /// Ends a waiting delivery that expired or was discarded. False if it was settled otherwise before.
    pub(super) async fn end(&self, pending: PendingDelivery, fault: Fault) -> Result<bool, Unavailable> {
        self.dead_letter(pending, fault, None, &[]).await
    }

    /// Gives a delivery up. The sender of a request gets an answer that says so.
    async fn dead_letter(
        &self,
        pending: PendingDelivery,
        fault: Fault,
        row: Option<AttemptRow>,
        receiver_issues: &[Value],
    ) -> Result<bool, Unavailable> {
        let rules = self.rules.load_full();
        let state = match fault {
            Fault::RouteDiscarded => DeliveryState::Discarded,
            _ => DeliveryState::Dead,
        };
        tracing::warn!(delivery.id = %pending.delivery_id, message.id = %pending.metadata.id,
            participant = %pending.participant, fault = fault.code(), "a delivery ended as {}", state.as_str());
        self.metrics.fault(fault.code());
        let is_reported = pending.kind == DeliveryKind::Request && pending.metadata.reply_to != ReplyTo::Nobody;
        if !is_reported {
            let settled = self.store.settle(settlement(&pending, state, row, Some(fault), None)).await?;
            return Ok(settled.changed);
        }
        let mut answer = self.failure_notice(&pending, fault, row.as_ref(), receiver_issues, &rules);
        let _in_sequence = self.sequence.enter(pending.metadata.id).await;
        let claim = self.claim_or_route(&pending, &mut answer, &rules, true);
        let completion = Completion::of(&answer);
        let settlement = settlement(&pending, state, row, Some(fault), Some(answer));
        Ok(self.settle_and_announce(settlement, &pending, claim, completion).await?.changed)
    }

    fn failure_notice(
        &self,
        pending: &PendingDelivery,
        fault: Fault,
        row: Option<&AttemptRow>,
        receiver_issues: &[Value],
        rules: &Rules,
    ) -> NewMessage {
        let (code, mut outcome) = failure_outcome(fault);
        // Safe to show: a refusal's detail contains neither content nor URLs nor the receiver's own text.
        let detail = row.filter(|_| fault == Fault::RecvRefused).and_then(|row| row.detail.as_deref());
        if let (Some(detail), Some(issue)) = (detail, outcome.issues.first_mut()) {
            issue.diagnostics = std::mem::take(&mut issue.diagnostics).followed_by(&format!(" ({detail})"));
        }
        let definition =
            pending.metadata.definition.as_deref().and_then(|url| rules.definitions.catalog.by_canonical(url));
        let content = AnswerContent { code, outcome: Some(&outcome), receiver_issues, focus: None };
        let definition = definition.map(|definition| &**definition);
        let mut answer = self.intake.answers.answer(&pending.metadata, definition, rules, content);
        answer.releases_request = code == ResponseCode::TransientError;
        answer
    }
}

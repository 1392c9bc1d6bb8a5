//! Stores a receiver's answer with its delivery, and passes it to the senders that wait for it or onto its return route.
//!
//! Serves answers in the reply to a delivery (`answered`) and answers that arrive as messages of their own
//! (`store_response`). In both, the waiting senders are claimed before the transaction that stores the answer: a claimed
//! sender no longer times out, so it either gets the answer, or the answer has a delivery of its own.

use super::answer_rules::is_transient;
use super::receiver_reply::ReceiverReply;
use super::{Settler, settlement};
use crate::delivery::{
    Acceptance, Attempt, AttemptResult, DeliveryKind, DeliveryState, Further, Metadata, NewMessage, NextStep,
    PendingDelivery, Settled, Settlement,
};
use crate::exchange::replies::{Claim, Completion};
use crate::exchange::return_route::return_route;
use crate::exchange::{IntakeSlot, Rules};
use crate::fault::Fault;
use crate::offload::offload;
use crate::store::{SentRequest, Unavailable};
use fhir::event::Category;
use uuid::Uuid;

impl Settler {
    /// The receiver's reply to an attempt was an answer. `shares_with`: another request that has the same stored answer.
    pub(super) async fn answered(
        &self,
        pending: PendingDelivery,
        attempt: &Attempt,
        mut answer: NewMessage,
        rules: &Rules,
        shares_with: Option<Uuid>,
    ) -> Result<NextStep, Unavailable> {
        let row = self.row(&pending, attempt, "answered", None, None);
        let in_sequence = self.sequence.enter(pending.metadata.id).await;
        let claim = self.claim_or_route(&pending, &mut answer, rules, false);
        answer.further = self.further(&pending.kind, &pending.metadata, &answer.metadata, rules);
        let completion = Completion::of(&answer);
        let mut settlement = settlement(&pending, DeliveryState::Answered, Some(row), None, Some(answer));
        settlement.shares_with = shares_with;
        let settled = self.settle_and_announce(settlement, &pending, claim, completion).await?;
        drop(in_sequence);
        match settled.belongs_to {
            None => Ok(NextStep::Done),
            Some(other) => self.answered_before(pending, attempt, other, rules).await,
        }
    }

    /// The answer is already stored as the answer to another request. If both requests are of one sender, which reused an
    /// id, it answers this one, too; if not, nobody gets it.
    async fn answered_before(
        &self,
        pending: PendingDelivery,
        attempt: &Attempt,
        other: Uuid,
        rules: &Rules,
    ) -> Result<NextStep, Unavailable> {
        let before = self.store.sent_requests_of(&pending.participant, other).await?;
        let now = self.store.sent_requests_of(&pending.participant, pending.metadata.id).await?;
        let sender = |sent: &[SentRequest]| sent.first().map(|sent| sent.delivery.metadata.sender.clone());
        let is_one_sender = sender(&before).is_some() && sender(&before) == sender(&now);
        if is_one_sender
            && let AttemptResult::Body { bytes, media_type } = attempt.result.clone()
            && let ReceiverReply::Answer(answer) =
                offload(bytes.len(), || self.interpret(&pending, bytes, &media_type, rules))
        {
            return Box::pin(self.answered(pending, attempt, *answer, rules, Some(other))).await;
        }
        let why = "the answer is stored as the receiver's answer to another request";
        self.failed(pending, attempt, (Fault::RecvBadAnswer, why.into()), None).await
    }

    /// Claims the senders that wait for the answer; if there are none, gives the answer its return route. A request from a
    /// queue gets both: its waiting senders are those of duplicates, and the original has a delivery in any case. `always`:
    /// see `return_route`.
    pub(super) fn claim_or_route(
        &self,
        pending: &PendingDelivery,
        answer: &mut NewMessage,
        rules: &Rules,
        always: bool,
    ) -> Option<Claim> {
        let claim = match &pending.kind {
            DeliveryKind::Request => self.replies.claim(pending.metadata.id),
            DeliveryKind::Replay { forward_answers: true, .. } => None,
            _ => return None,
        };
        if claim.is_none() || pending.metadata.is_answered_in_queue() {
            answer.deliveries = return_route(&pending.metadata, &answer.metadata, rules, &self.clock, always);
        }
        claim
    }

    /// Settles a delivery with an answer, and announces the answer to waiting senders unless it belongs to another request.
    pub(super) async fn settle_and_announce(
        &self,
        settlement: Settlement,
        pending: &PendingDelivery,
        claim: Option<Claim>,
        completion: Completion,
    ) -> Result<Settled, Unavailable> {
        let request = pending.metadata.id;
        let answer = settlement.answer.as_ref().map(|answer| answer.metadata.id);
        let settled = self.store.settle(settlement).await;
        if settled.as_ref().map_or(true, |settled| settled.belongs_to.is_some()) {
            self.replies.unclaim(request, claim);
            return settled;
        }
        let mut settled = settled?;
        self.courier.offer(std::mem::take(&mut settled.deliveries));
        // The request's sender does not wait for answers to replays.
        let completes = settled.first_answer && settled.answer_id == answer && pending.kind == DeliveryKind::Request;
        self.replies.announce(request, claim, completes.then_some(completion)).await;
        Ok(settled)
    }

    /// Stores a response that arrived on its own, with its return route, in its turn and after every earlier answer to the
    /// same request.
    pub(super) async fn store_response(
        &self,
        mut answer: NewMessage,
        sent: SentRequest,
        rules: &Rules,
        mut slot: IntakeSlot,
    ) -> Result<Acceptance, Unavailable> {
        let SentRequest { delivery: request, .. } = sent;
        // The queue's turn comes before the request's: a task that holds the request never waits for a turn.
        let broken = |_| Unavailable::Away("a message before this one could not be stored".into());
        slot.turn.enter().await.map_err(broken)?;
        let _in_sequence = self.sequence.enter(request.metadata.id).await;
        answer.metadata.in_reply_to = Some(request.metadata.id);
        answer.metadata.request_format = request.metadata.request_format();
        answer.metadata.planned_at_us = Some(self.clock.now_us());
        let is_request = request.kind == DeliveryKind::Request;
        let claim = if is_request { self.replies.claim(request.metadata.id) } else { None };
        let is_forwarded = match &request.kind {
            DeliveryKind::Replay { forward_answers, .. } => *forward_answers,
            _ => claim.is_none() || request.metadata.is_answered_in_queue(),
        };
        if is_forwarded {
            answer.deliveries = return_route(&request.metadata, &answer.metadata, rules, &self.clock, false);
        }
        answer.further = self.further(&request.kind, &request.metadata, &answer.metadata, rules);
        answer.closes = Some(request.delivery_key);
        answer.releases_request = is_request && is_transient(&answer.metadata);
        let completion = Completion::of(&answer);
        let stored = self.intake.store(answer, slot).await;
        let is_first = matches!(stored, Ok(Acceptance::New { first_answer: true, .. }));
        match &stored {
            Ok(_) => {
                let completion = (is_first && is_request).then_some(completion);
                self.replies.announce(request.metadata.id, claim, completion).await;
            }
            Err(_) => self.replies.unclaim(request.metadata.id, claim),
        }
        if is_first {
            self.courier.forget(request);
        }
        stored
    }

    /// What happens to an answer if its request has a first answer already (MSG-40). None: it is stored and linked only, as
    /// are answers to replays that do not forward them.
    fn further(&self, kind: &DeliveryKind, request: &Metadata, answer: &Metadata, rules: &Rules) -> Option<Further> {
        if !matches!(kind, DeliveryKind::Request | DeliveryKind::Replay { forward_answers: true, .. }) {
            return None;
        }
        if request.category == Some(Category::Consequence) {
            return Some(Further { delivery: None });
        }
        Some(Further { delivery: return_route(request, answer, rules, &self.clock, false).pop() })
    }
}

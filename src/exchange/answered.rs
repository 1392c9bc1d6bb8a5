//! A receiver's answer in its reply: stored with its delivery, and given to whoever waits for it.

use super::conclude::settlement;
use super::meaning::Meaning;
use super::reply::Closed;
use super::waiting::Claim;
use super::{Exchange, Rules};
use crate::delivery::{
    Attempt, AttemptResult, DeliveryKind, DeliveryState, NewMessage, NextStep, PendingDelivery, Settled, Settlement,
};
use crate::fault::Fault;
use crate::offload::offload;
use crate::store::{SentRequest, Unavailable};
use uuid::Uuid;

impl Exchange {
    pub(super) async fn answered(
        &self,
        work: PendingDelivery,
        attempt: &Attempt,
        mut answer: NewMessage,
        rules: &Rules,
        shares_with: Option<Uuid>,
    ) -> Result<NextStep, Unavailable> {
        let row = self.row(&work, attempt, "answered", None, None);
        let in_order = self.answers.enter(work.metadata.id).await;
        let claim = self.send_home(&work, &mut answer, rules, false);
        answer.further = self.further(&work.kind, &work.metadata, &answer.metadata, rules);
        let closed = Closed::of_keep(&answer);
        let mut settlement = settlement(&work, DeliveryState::Answered, Some(row), None, Some(answer));
        settlement.shares_with = shares_with;
        let settled = self.settle_and_tell(settlement, &work, claim, closed).await?;
        drop(in_order);
        match settled.belongs_to {
            None => Ok(NextStep::Done),
            Some(other) => self.answered_before(work, attempt, other, rules).await,
        }
    }

    /// The receiver said again what is stored as its answer to another request. It is an answer to this one as well where both
    /// are of one sender, who used an id again; else nobody gets it.
    async fn answered_before(
        &self,
        work: PendingDelivery,
        attempt: &Attempt,
        other: Uuid,
        rules: &Rules,
    ) -> Result<NextStep, Unavailable> {
        let before = self.store.sent_requests_of(&work.participant, other).await?;
        let now = self.store.sent_requests_of(&work.participant, work.metadata.id).await?;
        let sender = |asked: &[SentRequest]| asked.first().map(|asked| asked.delivery.metadata.sender.clone());
        let same = sender(&before).is_some() && sender(&before) == sender(&now);
        if same
            && let AttemptResult::Body { bytes, media_type } = attempt.result.clone()
            && let Meaning::Answer(answer) = offload(bytes.len(), || self.meaning(&work, bytes, &media_type, rules))
        {
            return Box::pin(self.answered(work, attempt, *answer, rules, Some(other))).await;
        }
        let why = "the answer is stored as the receiver's answer to another request";
        self.again(work, attempt, (Fault::RecvBadAnswer, why.into()), None).await
    }

    /// Gives the answer its way home: the waiters, who are claimed for it, else a delivery. Who asked from a queue never waits:
    /// the waiters are those of repeats, and the first has its delivery all the same.
    pub(super) fn send_home(
        &self,
        work: &PendingDelivery,
        answer: &mut NewMessage,
        rules: &Rules,
        told: bool,
    ) -> Option<Claim> {
        let claim = match &work.kind {
            DeliveryKind::Request => self.waiters.claim(work.metadata.id),
            DeliveryKind::Replay { forward_answers: true, .. } => None,
            _ => return None,
        };
        if claim.is_none() || work.metadata.is_answered_in_queue() {
            answer.deliveries = self.return_route(&work.metadata, &answer.metadata, rules, told);
        }
        claim
    }

    /// Settles with an answer and tells who waits for it. One that belongs to another request is told nobody.
    pub(super) async fn settle_and_tell(
        &self,
        settlement: Settlement,
        work: &PendingDelivery,
        claim: Option<Claim>,
        closed: Closed,
    ) -> Result<Settled, Unavailable> {
        let request = work.metadata.id;
        let answer = settlement.answer.as_ref().map(|answer| answer.metadata.id);
        let settled = self.store.settle(settlement).await;
        if settled.as_ref().map_or(true, |settled| settled.belongs_to.is_some()) {
            claim.into_iter().for_each(|claim| self.waiters.unclaim(request, claim));
            return settled;
        }
        let mut settled = settled?;
        self.courier.offer(std::mem::take(&mut settled.work));
        // An answer to a replay is not what the request's sender waits for.
        let is_it = settled.first_answer && settled.answer_id == answer && work.kind == DeliveryKind::Request;
        self.tell(request, claim, is_it.then_some(closed)).await;
        Ok(settled)
    }

    /// Tells how a request ended: the waiters that were claimed before the commit, and those who came while it was
    /// made and saw the store as it was before. `closed`: what was just kept as its end; else the store is asked.
    pub(super) async fn tell(&self, request: Uuid, claim: Option<Claim>, closed: Option<Closed>) {
        let claims: Vec<Claim> = [claim, self.waiters.claim(request)].into_iter().flatten().collect();
        if claims.is_empty() {
            return;
        }
        let closed = match closed {
            Some(closed) => Some(closed),
            None => self.ended(request).await,
        };
        for claim in claims {
            match &closed {
                Some(closed) => claim.deliver(closed.clone()),
                None => self.waiters.unclaim(request, claim),
            }
        }
    }

    /// How a request ended, as the store has it.
    async fn ended(&self, request: Uuid) -> Option<Closed> {
        let status = self.store.message_status(request).await.ok()??;
        self.closed(&status).await.ok()?
    }
}

//! Duplicates: the sender of a message that is stored already gets the original's answer again (MSG-61, MSG-62); over AMQP, in
//! the reply queue that the duplicate names.

use super::{Receivers, Replies, ReplyTerms, reply_at_once, reply_to};
use crate::delivery::{DeliveryKind, DeliveryState, ReplyQueue, ReplyTo};
use crate::exchange::return_route::to_reply_queue;
use crate::exchange::{AnswerMode, Inbound, Reply};
use crate::store::view::DeliveryView;
use crate::store::{MessageStatus, Unavailable};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

impl Replies {
    /// The reply to a duplicate of the message `original`. If that one has no answer yet, the sender waits with it.
    pub async fn to_duplicate(&self, original: Uuid, inbound: &Inbound) -> Reply {
        let reply = match &inbound.answer_mode {
            AnswerMode::ReplyQueue { reply, redelivered } => {
                self.publish_again(original, reply.clone(), *redelivered).await
            }
            _ => self.reply_again(original, inbound).await,
        };
        reply.unwrap_or_else(|unavailable| Reply::unavailable(original, &unavailable))
    }

    async fn reply_again(&self, original: Uuid, inbound: &Inbound) -> Result<Reply, Unavailable> {
        let status = self.original(original).await?;
        let rules = self.rules.load_full();
        let participants = status.deliveries.iter().map(|delivery| Arc::from(delivery.participant.as_str()));
        let receivers = Receivers::new(participants.collect(), status.router_answer.is_some(), &rules.table);
        let answer = match status.router_answer {
            Some(key) => Some(self.stored_answer(key).await?),
            None => None,
        };
        if let Some(reply) = reply_at_once(&status.metadata, &receivers, answer, true) {
            return Ok(reply);
        }
        if let Some(completion) = self.completion(&status).await? {
            return Ok(reply_to(ReplyTerms::of(&status.metadata), Some(completion), true));
        }
        // Registered before the store is read, so that an answer in between is not missed.
        let waiter = receivers.single().and_then(|receiver| self.waiters.register(original, receiver));
        let awaited = status.deliveries.first().map(|delivery| delivery.key).filter(|_| waiter.is_some());
        if let Some(awaited) = awaited {
            self.store.begin_wait(awaited).await?;
        }
        let status = self.original(original).await?;
        let completion = match (self.completion(&status).await?, waiter.zip(awaited)) {
            (Some(completion), _) => Some(completion),
            (None, Some((waiter, awaited))) => self.wait(waiter, original, awaited, &inbound.gone).await,
            (None, None) => None,
        };
        Ok(reply_to(ReplyTerms::of(&status.metadata), completion, true))
    }

    /// Publishes the stored answers to the duplicate's reply queue. If there are none yet, a background task waits for the
    /// first, as long as a sender over HTTP would. `redelivered`: if the queue is the original's, the original's answer has
    /// a delivery to it already.
    async fn publish_again(&self, original: Uuid, reply: ReplyQueue, redelivered: bool) -> Result<Reply, Unavailable> {
        let status = self.original(original).await?;
        let done = Reply::Done { id: original, duplicate: true };
        let is_same_queue = redelivered && status.metadata.reply_to == ReplyTo::Queue(reply.clone());
        if is_same_queue && self.is_on_its_way(&status, &reply).await? {
            return Ok(done);
        }
        if !answers(&status).is_empty() {
            self.deliver_again(&status, &reply).await?;
        } else if let [delivery] = status.deliveries.as_slice() {
            let (replies, receiver) = (self.clone(), Arc::from(delivery.participant.as_str()));
            tokio::spawn(async move {
                if let Err(unavailable) = replies.deliver_when_answered(original, &receiver, &reply).await {
                    tracing::warn!(message.id = %original, reason = %unavailable,
                        "a duplicate's answer could not be stored");
                }
            });
        }
        Ok(done)
    }

    /// Whether every answer that is stored so far was, or will be, delivered to this queue; also true if there is none yet.
    async fn is_on_its_way(&self, status: &MessageStatus, reply: &ReplyQueue) -> Result<bool, Unavailable> {
        for key in answers(status) {
            let Some((answer, _)) = self.store.content(key).await? else { continue };
            let deliveries = self.store.deliveries_of(answer.id).await?;
            let goes_there = |delivery: &DeliveryView| {
                let is_open_or_done = !matches!(delivery.state, DeliveryState::Dead | DeliveryState::Discarded);
                is_open_or_done && delivery.kind == DeliveryKind::Reply(reply.clone())
            };
            if !deliveries.iter().any(goes_there) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn deliver_when_answered(
        &self,
        original: Uuid,
        receiver: &Arc<str>,
        reply: &ReplyQueue,
    ) -> Result<(), Unavailable> {
        // Registered before the store is read, so that an answer in between is not missed. If too many senders wait already,
        // this one gets the answer where the original asked for it, or by sending again.
        let Some(waiter) = self.waiters.register(original, receiver) else { return Ok(()) };
        let mut status = self.original(original).await?;
        if let (true, Some(awaited)) = (answers(&status).is_empty(), status.deliveries.first()) {
            self.store.begin_wait(awaited.key).await?;
            self.wait(waiter, original, awaited.key, &CancellationToken::new()).await;
            status = self.original(original).await?;
        }
        self.deliver_again(&status, reply).await
    }

    async fn deliver_again(&self, status: &MessageStatus, reply: &ReplyQueue) -> Result<(), Unavailable> {
        let rules = self.rules.load_full();
        for key in answers(status) {
            let Some((answer, _)) = self.store.content(key).await? else { continue };
            let delivery = to_reply_queue(&status.metadata, &answer, reply, &rules, &self.clock);
            let Some(delivery) = delivery else { continue };
            let pending = self.store.deliver_again(key, delivery).await?;
            self.courier.offer(pending);
        }
        Ok(())
    }

    async fn original(&self, id: Uuid) -> Result<MessageStatus, Unavailable> {
        let missing = || Unavailable::Damaged("the original of this duplicate is missing".into());
        self.store.message_status(id).await?.ok_or_else(missing)
    }
}

/// Keys of the answers that are stored so far.
fn answers(status: &MessageStatus) -> Vec<i64> {
    status.router_answer.into_iter().chain(status.deliveries.iter().filter_map(|delivery| delivery.answer)).collect()
}

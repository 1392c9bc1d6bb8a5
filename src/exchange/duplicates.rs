//! The same message again over AMQP: its sender gets the same answer again, in the queue that it names now (MSG-61, MSG-62).

use super::{Exchange, Reply};
use crate::delivery::{DeliveryKind, DeliveryState, ReplyQueue, ReplyTo};
use crate::store::view::DeliveryView;
use crate::store::{MessageStatus, Unavailable};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

impl Exchange {
    /// Publishes what was answered; where nothing was yet, in the background, within the time that a sender on the line
    /// would be held. `redelivered` to the same queue: the first's own answer has its delivery already.
    pub(super) async fn repeat_to_queue(
        self: &Arc<Self>,
        first: Uuid,
        reply: ReplyQueue,
        redelivered: bool,
    ) -> Result<Reply, Unavailable> {
        let status = self.first(first).await?;
        let done = Reply::Done { id: first, repeat: true };
        let same = redelivered && status.metadata.reply_to == ReplyTo::Queue(reply.clone());
        if same && self.is_on_its_way(&status, &reply).await? {
            return Ok(done);
        }
        if !answers(&status).is_empty() {
            self.answer_again(&status, &reply).await?;
        } else if let [delivery] = status.deliveries.as_slice() {
            let (exchange, receiver) = (self.clone(), Arc::from(delivery.participant.as_str()));
            tokio::spawn(async move {
                if let Err(away) = exchange.answer_when_closed(first, &receiver, &reply).await {
                    tracing::warn!(message.id = %first, reason = %away, "a repeat's answer could not be kept");
                }
            });
        }
        Ok(done)
    }

    /// Whether every answer that is kept by now went to this queue or still goes there; also where there is none yet.
    async fn is_on_its_way(&self, status: &MessageStatus, reply: &ReplyQueue) -> Result<bool, Unavailable> {
        for key in answers(status) {
            let Some((answer, _)) = self.store.content(key).await? else { continue };
            let deliveries = self.store.deliveries_of(answer.id).await?;
            let goes = |delivery: &DeliveryView| {
                let alive = !matches!(delivery.state, DeliveryState::Dead | DeliveryState::Discarded);
                alive && delivery.kind == DeliveryKind::Reply(reply.clone())
            };
            if !deliveries.iter().any(goes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn answer_when_closed(
        &self,
        first: Uuid,
        receiver: &Arc<str>,
        reply: &ReplyQueue,
    ) -> Result<(), Unavailable> {
        // Registered before the look at the store, so that an answer between the two is not missed. Without a place the
        // sender hears it where the first asked for it, or by sending again.
        let Some(waiter) = self.waiters.register(first, receiver) else { return Ok(()) };
        let mut status = self.first(first).await?;
        if answers(&status).is_empty() {
            waiter.wait(self.settings.answer_timeout, &CancellationToken::new()).await;
            status = self.first(first).await?;
        }
        self.answer_again(&status, reply).await
    }

    async fn answer_again(&self, status: &MessageStatus, reply: &ReplyQueue) -> Result<(), Unavailable> {
        let rules = self.rules.load_full();
        for key in answers(status) {
            let Some((answer, _)) = self.store.content(key).await? else { continue };
            let Some(delivery) = self.to_queue(&status.metadata, &answer, reply, &rules) else { continue };
            let work = self.store.deliver_again(key, delivery).await?;
            self.courier.offer(work);
        }
        Ok(())
    }

    pub(super) async fn first(&self, id: Uuid) -> Result<MessageStatus, Unavailable> {
        let gone = || Unavailable::Damaged("the first message of this repeat is gone".into());
        self.store.message_status(id).await?.ok_or_else(gone)
    }
}

/// Keys of the answers that are kept by now.
fn answers(status: &MessageStatus) -> Vec<i64> {
    status.router_answer.into_iter().chain(status.deliveries.iter().filter_map(|delivery| delivery.answer)).collect()
}

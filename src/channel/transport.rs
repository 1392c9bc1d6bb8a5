//! Sends a delivery over the right channel: the delivery's own (a callback, a reply queue), otherwise the
//! participant's.

use super::amqp::AmqpOut;
use super::http_out::{HttpAttempt, HttpOut};
use super::retryable;
use crate::clock::Clock;
use crate::courier::Transport;
use crate::delivery::{Attempt, AttemptResult, DeliveryKind, PendingDelivery};
use crate::fault::Fault;
use crate::routing::{Channel, Participant};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::time::Instant;

/// Whether a participant (its id) owns an address by the rules currently in force.
pub type IsOwner = Box<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// The courier's transport over all channels.
pub struct ChannelTransport {
    pub http: HttpOut,
    /// None if AMQP is not configured.
    pub amqp: Option<AmqpOut>,
    pub clock: Clock,
    pub is_owner: IsOwner,
}

impl Transport for ChannelTransport {
    fn send(&self, delivery: PendingDelivery, participant: Arc<Participant>) -> BoxFuture<'_, Attempt> {
        Box::pin(async move {
            let (started_at_us, started) = (self.clock.now_us(), Instant::now());
            let HttpAttempt { status, result, resent } = self.attempt(&delivery, &participant).await;
            let duration_us = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
            Attempt { started_at_us, duration_us, status, result, resent }
        })
    }
}

impl ChannelTransport {
    async fn attempt(&self, delivery: &PendingDelivery, participant: &Participant) -> HttpAttempt {
        // A reload may have given the address to another participant since the request was accepted.
        if let DeliveryKind::Callback { url } = &delivery.kind
            && !(self.is_owner)(&delivery.participant, url)
        {
            return AttemptResult::ForeignCallback.into();
        }
        if let DeliveryKind::Reply(reply) = &delivery.kind
            && let Some(queue) = &reply.queue
        {
            let Some(amqp) = &self.amqp else { return no_amqp().into() };
            if let Some(result) = amqp.to_reply_queue(delivery, participant, queue).await {
                return result.into();
            }
            if participant.channel.is_none() {
                let detail = "the reply queue is gone, and the sender has no channel".into();
                return AttemptResult::Refused { outcome: None, detail }.into();
            }
        }
        match (&delivery.kind, &participant.channel) {
            (DeliveryKind::Callback { .. }, _) | (_, Some(Channel::Http { .. })) => {
                self.http.attempt(delivery, participant).await
            }
            (_, Some(Channel::Amqp { exchange, routing_key })) => match &self.amqp {
                Some(amqp) => amqp.to_exchange(delivery, participant, exchange, routing_key).await.into(),
                None => no_amqp().into(),
            },
            // It waits in the mailbox. If its reply queue comes back first, it goes there.
            (DeliveryKind::Reply(_), Some(Channel::Mailbox)) => {
                retryable(Fault::RouteUnroutable, "the reply queue is gone; the answer waits in the mailbox").into()
            }
            (_, Some(Channel::Mailbox)) => {
                AttemptResult::NotSent { fault: None, detail: "it waits in the mailbox".into() }.into()
            }
            (_, None) => retryable(Fault::RouteInternal, "the participant has no channel").into(),
        }
    }
}

fn no_amqp() -> AttemptResult {
    retryable(Fault::RouteInternal, "AMQP is not configured")
}

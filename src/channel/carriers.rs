//! Which way a delivery goes: its own (a callback, a reply queue), else its participant's channel.

use super::amqp::AmqpOut;
use super::http_out::{Attempted, HttpOut};
use super::later;
use crate::clock::Clock;
use crate::courier::Carrier;
use crate::delivery::{Attempt, AttemptResult, DeliveryKind, PendingDelivery};
use crate::fault::Fault;
use crate::routing::{Channel, Participant};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::time::Instant;

/// Whether a participant (its id) owns an address by the rules now in force.
pub type IsOwner = Box<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// The carrier over every channel.
pub struct Carriers {
    pub http: HttpOut,
    /// None: no AMQP is configured.
    pub amqp: Option<AmqpOut>,
    pub clock: Clock,
    pub is_owner: IsOwner,
}

impl Carrier for Carriers {
    fn carry(&self, work: PendingDelivery, participant: Arc<Participant>) -> BoxFuture<'_, Attempt> {
        Box::pin(async move {
            let (started_at_us, started) = (self.clock.now_us(), Instant::now());
            let Attempted { status, result, resent } = self.attempt(&work, &participant).await;
            let duration_us = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
            Attempt { started_at_us, duration_us, status, result, resent }
        })
    }
}

impl Carriers {
    async fn attempt(&self, work: &PendingDelivery, participant: &Participant) -> Attempted {
        // A reload may have given the address to somebody else since the request was accepted.
        if let DeliveryKind::Callback { url } = &work.kind
            && !(self.is_owner)(&work.participant, url)
        {
            return AttemptResult::ForeignCallback.into();
        }
        if let DeliveryKind::Reply(reply) = &work.kind
            && let Some(queue) = &reply.queue
        {
            let Some(amqp) = &self.amqp else { return no_amqp().into() };
            if let Some(result) = amqp.to_reply_queue(work, participant, queue).await {
                return result.into();
            }
            if participant.channel.is_none() {
                let detail = "the reply queue is gone, and the sender has no channel".into();
                return AttemptResult::Refused { outcome: None, detail }.into();
            }
        }
        match (&work.kind, &participant.channel) {
            (DeliveryKind::Callback { .. }, _) | (_, Some(Channel::Http { .. })) => {
                self.http.attempt(work, participant).await
            }
            (_, Some(Channel::Amqp { exchange, routing_key })) => match &self.amqp {
                Some(amqp) => amqp.to_exchange(work, participant, exchange, routing_key).await.into(),
                None => no_amqp().into(),
            },
            // It waits for its reader; should its queue come back before, it goes there.
            (DeliveryKind::Reply(_), Some(Channel::Mailbox)) => {
                later(Fault::RouteUnroutable, "the reply queue is gone; the answer waits in the mailbox").into()
            }
            (_, Some(Channel::Mailbox)) => {
                AttemptResult::NotSent { fault: None, detail: "it waits in the mailbox".into() }.into()
            }
            (_, None) => later(Fault::RouteInternal, "the participant has no channel").into(),
        }
    }
}

fn no_amqp() -> AttemptResult {
    later(Fault::RouteInternal, "no AMQP is configured")
}

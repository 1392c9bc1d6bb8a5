//! AMQP out: publishes a delivery to its participant's exchange, or an answer to its sender's reply queue (design 1.6).

use super::properties;
use super::publisher::{Address, Published, Publisher};
use crate::channel::later;
use crate::channel::outgoing::outgoing;
use crate::clock::Clock;
use crate::delivery::{AttemptResult, PendingDelivery};
use crate::fault::Fault;
use crate::metrics::Metrics;
use crate::routing::Participant;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Carries deliveries over AMQP.
pub struct AmqpOut {
    publisher: Arc<Publisher>,
    store: Store,
    answer_queue: String,
    /// Our name in `via`.
    name: String,
    clock: Clock,
    metrics: Metrics,
}

impl AmqpOut {
    pub(super) fn new(
        publisher: Arc<Publisher>,
        store: Store,
        answer_queue: String,
        name: String,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        AmqpOut { publisher, store, answer_queue, name, clock, metrics }
    }

    /// One attempt at a participant's exchange.
    pub async fn to_exchange(
        &self,
        work: &PendingDelivery,
        participant: &Participant,
        exchange: &str,
        routing_key: &str,
    ) -> AttemptResult {
        let published = match self.publish(work, participant, Address { exchange, routing_key }).await {
            Ok(published) => published,
            Err(published) => return published,
        };
        // Declared by us and gone: it comes back without an operator.
        if matches!(published, Published::Closed(_)) || (published == Published::Unroutable && exchange.is_empty()) {
            self.publisher.doubt.notify_one();
        }
        match published {
            Published::Unroutable => {
                let way = if exchange.is_empty() { String::new() } else { format!("exchange {exchange}, ") };
                later(Fault::RouteUnroutable, format!("no queue takes it: {way}routing key {routing_key}"))
            }
            other => told(other, participant),
        }
    }

    /// One attempt at a reply queue. None: the queue is gone.
    pub async fn to_reply_queue(
        &self,
        work: &PendingDelivery,
        participant: &Participant,
        queue: &str,
    ) -> Option<AttemptResult> {
        match self.publish(work, participant, Address { exchange: "", routing_key: queue }).await {
            Ok(Published::Unroutable) => None,
            Ok(published) => Some(told(published, participant)),
            Err(published) => Some(published),
        }
    }

    async fn publish(
        &self,
        work: &PendingDelivery,
        participant: &Participant,
        to: Address<'_>,
    ) -> Result<Published, AttemptResult> {
        let outgoing = outgoing(&self.store, work, participant).await?;
        let now_us = self.clock.now_us();
        let properties = properties::outbound(&outgoing.work, participant, &self.answer_queue, &self.name, now_us);
        let (patience, started) = (Duration::from_secs(participant.attempt_timeout_seconds), Instant::now());
        let published = self.publisher.publish(to, &outgoing.body, properties, patience).await;
        if published == Published::Confirmed {
            self.metrics.amqp_confirmed(started.elapsed().as_secs_f64());
        }
        match published {
            Published::TooLarge(why) => {
                let detail = too_large(outgoing.body.len(), &why);
                Err(AttemptResult::Refused { outcome: None, detail })
            }
            other => Ok(other),
        }
    }
}

/// In our words, as the broker's may change; its limit is the last number that it names.
fn too_large(size_bytes: usize, why: &str) -> String {
    let limit = why.split(|letter: char| !letter.is_ascii_digit()).rfind(|digits| !digits.is_empty());
    match limit.filter(|limit| limit.parse() != Ok(size_bytes)) {
        Some(limit) => format!("the message has {size_bytes} bytes, and the broker takes {limit} at most"),
        None => format!("the message has {size_bytes} bytes, and the broker takes none of that size"),
    }
}

fn told(published: Published, participant: &Participant) -> AttemptResult {
    match published {
        Published::Confirmed => AttemptResult::Queued,
        Published::Unroutable => later(Fault::RouteUnroutable, "no queue takes it"),
        Published::Refused => later(Fault::RecvQueueFull, "the broker refused it: the receiver's queue is full"),
        Published::Closed(why) | Published::TooLarge(why) => {
            later(Fault::RouteBroker, format!("the broker closed the channel: {why}"))
        }
        Published::Silent => {
            let seconds = participant.attempt_timeout_seconds;
            later(Fault::RouteBroker, format!("no confirm of the broker within {seconds} seconds"))
        }
        Published::Unknown(why) => AttemptResult::NotSent { fault: None, detail: why.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_for_the_broker_is_said_with_size_and_limit() {
        const SAID: &str = "PRECONDITION_FAILED - message size 2000 is larger than configured max size 1000";
        assert_eq!(too_large(2000, SAID), "the message has 2000 bytes, and the broker takes 1000 at most");
        assert_eq!(too_large(9, "too big"), "the message has 9 bytes, and the broker takes none of that size");
    }
}

//! AMQP out: publishes a delivery to its participant's exchange, or an answer to its sender's reply queue.

use super::properties;
use super::publisher::{Address, Published, Publisher};
use crate::channel::outgoing::outgoing;
use crate::channel::retryable;
use crate::clock::Clock;
use crate::delivery::{AttemptResult, PendingDelivery};
use crate::fault::Fault;
use crate::metrics::Metrics;
use crate::routing::Participant;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Sends deliveries over AMQP.
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
        delivery: &PendingDelivery,
        participant: &Participant,
        exchange: &str,
        routing_key: &str,
    ) -> AttemptResult {
        let published = match self.publish(delivery, participant, Address { exchange, routing_key }).await {
            Ok(published) => published,
            Err(published) => return published,
        };
        // An entity that we declared is missing: the link declares it again.
        if matches!(published, Published::Closed(_)) || (published == Published::Unroutable && exchange.is_empty()) {
            self.publisher.recheck.notify_one();
        }
        match published {
            Published::Unroutable => {
                let way = if exchange.is_empty() { String::new() } else { format!("exchange {exchange}, ") };
                retryable(Fault::RouteUnroutable, format!("no queue takes it: {way}routing key {routing_key}"))
            }
            other => result_of(other, participant),
        }
    }

    /// One attempt at a reply queue. None if the queue is gone.
    pub async fn to_reply_queue(
        &self,
        delivery: &PendingDelivery,
        participant: &Participant,
        queue: &str,
    ) -> Option<AttemptResult> {
        match self.publish(delivery, participant, Address { exchange: "", routing_key: queue }).await {
            Ok(Published::Unroutable) => None,
            Ok(published) => Some(result_of(published, participant)),
            Err(published) => Some(published),
        }
    }

    async fn publish(
        &self,
        delivery: &PendingDelivery,
        participant: &Participant,
        to: Address<'_>,
    ) -> Result<Published, AttemptResult> {
        let outgoing = outgoing(&self.store, delivery, participant).await?;
        let now_us = self.clock.now_us();
        let properties = properties::outbound(&outgoing.delivery, participant, &self.answer_queue, &self.name, now_us);
        let (timeout, started) = (Duration::from_secs(participant.attempt_timeout_seconds), Instant::now());
        let published = self.publisher.publish(to, &outgoing.body, properties, timeout).await;
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

/// In our own words, because the broker's may change; its limit is the last number in its text.
fn too_large(size_bytes: usize, why: &str) -> String {
    let limit = why.split(|letter: char| !letter.is_ascii_digit()).rfind(|digits| !digits.is_empty());
    match limit.filter(|limit| limit.parse() != Ok(size_bytes)) {
        Some(limit) => format!("the message has {size_bytes} bytes, and the broker accepts {limit} at most"),
        None => format!("the message has {size_bytes} bytes, and the broker accepts none of that size"),
    }
}

fn result_of(published: Published, participant: &Participant) -> AttemptResult {
    match published {
        Published::Confirmed => AttemptResult::Queued,
        Published::Unroutable => retryable(Fault::RouteUnroutable, "no queue takes it"),
        Published::Rejected => retryable(Fault::RecvQueueFull, "the broker rejected it: the receiver's queue is full"),
        Published::Closed(why) | Published::TooLarge(why) => {
            retryable(Fault::RouteBroker, format!("the broker closed the channel: {why}"))
        }
        Published::Unconfirmed => {
            let seconds = participant.attempt_timeout_seconds;
            retryable(Fault::RouteBroker, format!("no confirm from the broker within {seconds} seconds"))
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
        assert_eq!(too_large(2000, SAID), "the message has 2000 bytes, and the broker accepts 1000 at most");
        assert_eq!(too_large(9, "too big"), "the message has 9 bytes, and the broker accepts none of that size");
    }
}

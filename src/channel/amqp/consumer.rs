//! Consumes one queue: messages pass through the exchange concurrently, are stored in order, and are acknowledged
//! together after the commit.
//!
//! A session ends when the broker ends it (queue deleted, channel closed, connection lost) or when a message could not
//! be stored. Everything unacknowledged then returns to the broker and is redelivered in order. Messages that were
//! stored meanwhile are recognized as duplicates.

use super::acks::Acks;
use super::health::ConsumerStatus;
use super::inbound::{Disposition, Intake, Received};
use super::properties::delivery_count;
use crate::admission::Permit;
use crate::turn::Turns;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Pauses before the queue is consumed again; the last one repeats.
const PAUSE_MILLISECONDS: [u64; 6] = [100, 500, 1000, 2000, 5000, 10_000];
/// Limit of the pauses after a message that failed by itself: it is tried a few times and then dead-lettered, and
/// everything behind it waits for that.
const FAILED_PAUSE_STEPS: usize = 1;
/// When a session ends, messages in progress have this long to be stored.
const DRAIN_SECONDS: u64 = 20;

/// Timeout of a request to the broker.
const BROKER_SECONDS: u64 = 10;
/// The same while the router stops, because the connection is closed next.
const STOPPING_SECONDS: u64 = 2;

/// Why a session ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// A message could not be stored because the store currently accepts nothing.
    NotStored,
    /// A message could not be stored although the store accepts others.
    Failed,
    /// The broker ended it.
    Gone(String),
    Stopped,
}

/// The consumer of one queue.
pub(super) struct QueueConsumer {
    pub intake: Arc<Intake>,
    pub queue: Arc<str>,
    pub prefetch: u16,
    /// Its status for operators.
    pub seen: Arc<ConsumerStatus>,
    /// Notified when the queue may be gone.
    pub recheck: Arc<Notify>,
    pub stop: CancellationToken,
}

impl QueueConsumer {
    /// Consumes on this connection until it is lost or the router stops.
    pub async fn run(self, connection: Arc<Connection>) {
        let mut failures = 0;
        while connection.status().connected() && !self.stop.is_cancelled() {
            let mut stored_any = false;
            let end = self.session(&connection, &mut stored_any).await;
            self.seen.unacked(0);
            failures = if stored_any { 0 } else { failures + 1 };
            match end {
                End::Stopped => return,
                End::NotStored => {
                    tracing::warn!(queue = %self.queue, "AMQP: the store accepts nothing; consuming stops until it does");
                    self.wait_for_store(failures).await;
                }
                End::Failed => self.pause(failures.min(FAILED_PAUSE_STEPS)).await,
                End::Gone(why) if connection.status().connected() => {
                    tracing::warn!(queue = %self.queue, why, "AMQP: the consumer ended; it starts again");
                    self.recheck.notify_one();
                    self.pause(failures).await;
                }
                End::Gone(_) => return,
            }
        }
    }

    async fn session(&self, connection: &Connection, stored_any: &mut bool) -> End {
        let opening = tokio::time::timeout(Duration::from_secs(BROKER_SECONDS), self.subscribe(connection));
        let opening = tokio::select! {
            opening = opening => opening,
            () = self.stop.cancelled() => return End::Stopped,
        };
        let subscribed = match opening {
            Ok(subscribed) => subscribed.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the broker did not answer within {BROKER_SECONDS} seconds")),
        };
        self.seen.trouble(subscribed.as_ref().err().cloned());
        let (channel, consumer, end) = match subscribed {
            Ok((channel, mut consumer)) => {
                let session = Session {
                    of: self,
                    channel: &channel,
                    acks: Acks::default(),
                    tasks: JoinSet::new(),
                    turns: Turns::default(),
                    stored_any,
                };
                let end = session.run(&mut consumer).await;
                (channel, consumer, end)
            }
            Err(error) => return End::Gone(error),
        };
        // Returns all unacknowledged messages at once, and so in order. A channel that is closed already has done that.
        let closing = channel.close(200, "done".into());
        let timeout = if self.stop.is_cancelled() { STOPPING_SECONDS } else { BROKER_SECONDS };
        let _ = tokio::time::timeout(Duration::from_secs(timeout), closing).await;
        // Not earlier: dropping it cancels the consumer, and a quorum queue puts messages on their way to a canceled
        // consumer at its end, behind later ones. Those of a closed channel return to its front.
        drop(consumer);
        end
    }

    async fn subscribe(&self, connection: &Connection) -> lapin::Result<(Channel, Consumer)> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume((&*self.queue).into(), "".into(), options, FieldTable::default()).await?;
        Ok((channel, consumer))
    }

    async fn pause(&self, failures: usize) {
        let pause = PAUSE_MILLISECONDS[failures.min(PAUSE_MILLISECONDS.len() - 1)];
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
    }

    /// `failures`: sessions in a row in which nothing was stored although the store reported that it accepts messages.
    async fn wait_for_store(&self, mut failures: usize) {
        loop {
            self.pause(failures).await;
            if self.stop.is_cancelled() || self.intake.exchange.store.accepting().is_ok() {
                return;
            }
            failures += 1;
        }
    }
}

/// One subscription: its channel, the messages in progress, and what may be acknowledged.
struct Session<'s> {
    of: &'s QueueConsumer,
    channel: &'s Channel,
    acks: Acks,
    tasks: JoinSet<(u64, Disposition)>,
    turns: Turns,
    stored_any: &'s mut bool,
}

type Ended = Result<(u64, Disposition), JoinError>;

impl Session<'_> {
    async fn run(mut self, consumer: &mut Consumer) -> End {
        let end = self.consume(consumer).await;
        self.finish().await;
        end
    }

    /// When it stops it only stops reading: what the broker sends until the channel closes is returned with the rest.
    async fn consume(&mut self, consumer: &mut Consumer) -> End {
        let (stop, intake) = (self.of.stop.clone(), self.of.intake.clone());
        // The next message, while there is no room for its bytes. Only one at a time waits for room, so that none waits
        // for one behind it.
        let mut next: Option<Delivery> = None;
        loop {
            let needed_bytes = next.as_ref().map_or(0, |delivery| intake.needed_bytes(delivery));
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                permit = intake.admission.admit_from_queue(needed_bytes), if next.is_some() => {
                    if let Some(delivery) = next.take()
                        && let Some(end) = self.begin(delivery, permit).await
                    {
                        return end;
                    }
                }
                delivery = consumer.next(), if next.is_none() => match delivery {
                    Some(Ok(delivery)) => next = Some(delivery),
                    Some(Err(error)) => return End::Gone(error.to_string()),
                    None => return End::Gone("the broker canceled it; was the queue deleted?".into()),
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Some(end) = self.ended(ended).await {
                        return end;
                    }
                }
            }
        }
    }

    /// A redelivered message may be what crashed the process: it is processed alone, so that no other is blamed.
    async fn begin(&mut self, delivery: Delivery, permit: Permit) -> Option<End> {
        let tag = delivery.delivery_tag;
        let redelivered = delivery.redelivered || delivery_count(&delivery.properties) > 0;
        let received = Received {
            queue: self.of.queue.clone(),
            body: delivery.data.into(),
            properties: delivery.properties,
            redelivered: delivery.redelivered,
        };
        let intake = self.of.intake.clone();
        let try_lock = tokio::select! {
            try_lock = intake.try_lock(redelivered) => try_lock,
            () = self.of.stop.cancelled() => return Some(End::Stopped),
        };
        if redelivered && let Some(end) = self.all_ended().await {
            return Some(end);
        }
        self.acks.add(tag);
        let turn = self.turns.take();
        self.tasks.spawn(async move { (tag, intake.take(received, permit, turn, try_lock).await) });
        self.count();
        None
    }

    /// Waits for all messages in progress, and acknowledges them, before a message that is processed alone.
    async fn all_ended(&mut self) -> Option<End> {
        while let Some(ended) = self.tasks.join_next().await {
            if let Some(end) = self.ended(ended).await {
                return Some(end);
            }
        }
        None
    }

    /// One message ended, perhaps several: acknowledges everything that is ready.
    async fn ended(&mut self, first: Ended) -> Option<End> {
        let mut next = Some(first);
        let mut end = None;
        while let Some(ended) = next {
            // Messages behind one that failed are not stored either, which is not a reason of its own.
            end = match (end, self.settle(ended)) {
                (_, Some(End::Failed)) => Some(End::Failed),
                (Some(known), _) => Some(known),
                (None, new) => new,
            };
            next = self.tasks.try_join_next();
        }
        if let Some(error) = self.acknowledge().await {
            return Some(End::Gone(error));
        }
        end
    }

    /// None if it was stored.
    fn settle(&mut self, ended: Ended) -> Option<End> {
        match ended {
            Ok((tag, Disposition::Settled)) => {
                self.acks.settle(tag);
                *self.stored_any = true;
                None
            }
            Ok((_, Disposition::NotStored)) => Some(End::NotStored),
            Ok((_, Disposition::Failed)) => Some(End::Failed),
            Err(defect) => {
                tracing::error!(queue = %self.of.queue, is_panic = defect.is_panic(), "AMQP: a message panicked; it will be redelivered");
                Some(End::Failed)
            }
        }
    }

    async fn acknowledge(&mut self) -> Option<String> {
        let tag = self.acks.take()?;
        let sent = self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await;
        self.count();
        sent.err().map(|error| error.to_string())
    }

    fn count(&self) {
        self.of.seen.unacked(self.acks.len() as u64);
    }

    /// Lets messages in progress end before the queue is consumed again: what was stored is acknowledged, and reaches
    /// the courier before anything behind it.
    async fn finish(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(DRAIN_SECONDS);
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
            self.settle(ended);
        }
        self.of.intake.remove_try_records().await;
        if let Some(error) = self.acknowledge().await {
            tracing::debug!(queue = %self.of.queue, error, "AMQP: stored messages will be redelivered as duplicates");
        }
    }
}

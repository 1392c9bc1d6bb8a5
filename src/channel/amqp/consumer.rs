//! One queue's consumer: messages side by side through the exchange, kept in order, acknowledged together after the commit.
//!
//! It ends when the broker ends it (queue deleted, channel closed, connection lost) or when a message could not be kept;
//! then everything unacknowledged is the broker's again and comes once more, in order. Whoever was kept meanwhile is
//! recognised as a repeat.

use super::acks::Acks;
use super::health::Seen;
use super::inbound::{Came, Fate, Intake};
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

/// Pauses before the queue is consumed again; the last repeats.
const PAUSE_MILLISECONDS: [u64; 6] = [100, 500, 1000, 2000, 5000, 10_000];
/// How far the pauses grow after a message that failed by itself: it is tried a few times and put aside, and all behind it
/// wait for that.
const FAILED_PAUSES: usize = 1;
/// When a consumer ends, messages under way have so long to be kept.
const DRAIN_SECONDS: u64 = 20;

/// What the broker is asked and does not answer within this time is not waited for.
const BROKER_SECONDS: u64 = 10;
/// The same when the router stops: the connection is closed next.
const STOPPING_SECONDS: u64 = 2;

/// Why a consumer ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// A message could not be kept, because the store takes nothing now.
    Unkept,
    /// A message could not be kept, though the store takes others.
    Failed,
    /// The broker ended it.
    Gone(String),
    Stopped,
}

/// What consumes one queue.
pub(super) struct QueueConsumer {
    pub intake: Arc<Intake>,
    pub queue: Arc<str>,
    pub prefetch: u16,
    /// What operators see of it.
    pub seen: Arc<Seen>,
    /// Told when the queue may be gone.
    pub doubt: Arc<Notify>,
    pub stop: CancellationToken,
}

impl QueueConsumer {
    /// Consumes on this connection until it is gone or the router stops.
    pub async fn run(self, connection: Arc<Connection>) {
        let mut failures = 0;
        while connection.status().connected() && !self.stop.is_cancelled() {
            let mut kept_any = false;
            let end = self.session(&connection, &mut kept_any).await;
            self.seen.unacked(0);
            failures = if kept_any { 0 } else { failures + 1 };
            match end {
                End::Stopped => return,
                End::Unkept => {
                    tracing::warn!(queue = %self.queue, "AMQP: the store takes nothing; consuming stops until it does");
                    self.store_is_back(failures).await;
                }
                End::Failed => self.pause(failures.min(FAILED_PAUSES)).await,
                End::Gone(why) if connection.status().connected() => {
                    tracing::warn!(queue = %self.queue, why, "AMQP: the consumer was ended; it begins anew");
                    self.doubt.notify_one();
                    self.pause(failures).await;
                }
                End::Gone(_) => return,
            }
        }
    }

    async fn session(&self, connection: &Connection, kept_any: &mut bool) -> End {
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
                    kept_any,
                };
                let end = session.run(&mut consumer).await;
                (channel, consumer, end)
            }
            Err(error) => return End::Gone(error),
        };
        // Gives back all that is not acknowledged at once, and so in order; a channel that is closed already has done so.
        let closing = channel.close(200, "done".into());
        let patience = if self.stop.is_cancelled() { STOPPING_SECONDS } else { BROKER_SECONDS };
        let _ = tokio::time::timeout(Duration::from_secs(patience), closing).await;
        // Not before: dropping it cancels it, and what is on its way to a cancelled consumer goes to the end of a quorum queue,
        // behind what came later. What a closed channel held goes to its front.
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

    /// `failures`: sessions in a row in which nothing was kept, though the store said that it would take it.
    async fn store_is_back(&self, mut failures: usize) {
        loop {
            self.pause(failures).await;
            if self.stop.is_cancelled() || self.intake.exchange.store.accepting().is_ok() {
                return;
            }
            failures += 1;
        }
    }
}

/// One subscription: its channel, what is under way, what may be acknowledged.
struct Session<'s> {
    of: &'s QueueConsumer,
    channel: &'s Channel,
    acks: Acks,
    tasks: JoinSet<(u64, Fate)>,
    turns: Turns,
    kept_any: &'s mut bool,
}

type Ended = Result<(u64, Fate), JoinError>;

impl Session<'_> {
    async fn run(mut self, consumer: &mut Consumer) -> End {
        let end = self.consume(consumer).await;
        self.finish().await;
        end
    }

    /// When it stops it only reads no further: what the broker brings until the channel closes goes back with the rest.
    async fn consume(&mut self, consumer: &mut Consumer) -> End {
        let (stop, intake) = (self.of.stop.clone(), self.of.intake.clone());
        // The next message, while there is no room for its bytes; one after the other, so that none waits for one behind it.
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
                    None => return End::Gone("the broker cancelled it; was the queue deleted?".into()),
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Some(end) = self.ended(ended).await {
                        return end;
                    }
                }
            }
        }
    }

    /// A message that was brought before may have ended the process: it is tried alone, so that no other is blamed for it.
    async fn begin(&mut self, delivery: Delivery, permit: Permit) -> Option<End> {
        let tag = delivery.delivery_tag;
        let redelivered = delivery.redelivered || delivery_count(&delivery.properties) > 0;
        let came = Came {
            queue: self.of.queue.clone(),
            body: delivery.data.into(),
            properties: delivery.properties,
            redelivered: delivery.redelivered,
        };
        let intake = self.of.intake.clone();
        let company = tokio::select! {
            company = intake.company(redelivered) => company,
            () = self.of.stop.cancelled() => return Some(End::Stopped),
        };
        if redelivered && let Some(end) = self.all_ended().await {
            return Some(end);
        }
        self.acks.add(tag);
        let turn = self.turns.take();
        self.tasks.spawn(async move { (tag, intake.take(came, permit, turn, company).await) });
        self.count();
        None
    }

    /// Acknowledges all that was kept before a message that is tried alone.
    async fn all_ended(&mut self) -> Option<End> {
        while let Some(ended) = self.tasks.join_next().await {
            if let Some(end) = self.ended(ended).await {
                return Some(end);
            }
        }
        None
    }

    /// One message ended, and with it maybe more: all that may be is acknowledged at once.
    async fn ended(&mut self, first: Ended) -> Option<End> {
        let mut next = Some(first);
        let mut end = None;
        while let Some(ended) = next {
            // What comes behind one that failed is not kept either, and that is no reason of its own.
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

    /// None where it was kept.
    fn settle(&mut self, ended: Ended) -> Option<End> {
        match ended {
            Ok((tag, Fate::Settled)) => {
                self.acks.settle(tag);
                *self.kept_any = true;
                None
            }
            Ok((_, Fate::Unkept)) => Some(End::Unkept),
            Ok((_, Fate::Failed)) => Some(End::Failed),
            Err(defect) => {
                tracing::error!(queue = %self.of.queue, is_panic = defect.is_panic(), "AMQP: a defect stopped a message; it comes again");
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

    /// Lets what was begun come to its end before the queue is consumed again: what was kept is acknowledged, and reaches
    /// the courier before anything that comes behind it.
    async fn finish(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(DRAIN_SECONDS);
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
            self.settle(ended);
        }
        self.of.intake.forget_settled().await;
        if let Some(error) = self.acknowledge().await {
            tracing::debug!(queue = %self.of.queue, error, "AMQP: what was kept comes again, as a repeat");
        }
    }
}

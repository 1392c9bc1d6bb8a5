//! One queue's consumer: messages side by side through the exchange, kept in order, acknowledged together after the commit.
//!
//! It ends when the broker ends it (queue deleted, channel closed, connection lost) or when a message could not be kept;
//! then everything unacknowledged is the broker's again and comes once more, in order. Whoever was kept meanwhile is
//! recognised as a repeat.

use super::acks::Acks;
use super::inbound::{Came, Fate, Intake};
use crate::turn::Turns;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Pauses before the queue is consumed again; the last repeats.
const PAUSE_MILLISECONDS: [u64; 6] = [100, 500, 1000, 2000, 5000, 10_000];
/// When the router stops, messages under way have so long to be kept.
const DRAIN_SECONDS: u64 = 20;

/// Why a consumer ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// A message could not be kept.
    Unkept,
    /// The broker ended it.
    Gone(String),
    Stopped,
}

/// What consumes one queue.
pub(super) struct QueueConsumer {
    pub intake: Arc<Intake>,
    pub queue: Arc<str>,
    pub prefetch: u16,
    /// Messages taken and not yet acknowledged, for figures.
    pub unacked: Arc<AtomicU64>,
    pub stop: CancellationToken,
}

impl QueueConsumer {
    /// Consumes on this connection until it is gone or the router stops.
    pub async fn run(self, connection: Arc<Connection>) {
        let mut failures = 0;
        while connection.status().connected() && !self.stop.is_cancelled() {
            let mut kept_any = false;
            let end = self.session(&connection, &mut kept_any).await;
            self.unacked.store(0, Ordering::Relaxed);
            failures = if kept_any { 0 } else { failures + 1 };
            match end {
                End::Stopped => return,
                End::Unkept => {
                    tracing::warn!(queue = %self.queue, "AMQP: the store takes nothing; consuming stops until it does");
                    self.store_is_back(failures).await;
                }
                End::Gone(why) if connection.status().connected() => {
                    tracing::warn!(queue = %self.queue, why, "AMQP: the consumer was ended; it begins anew");
                    self.pause(failures).await;
                }
                End::Gone(_) => return,
            }
        }
    }

    async fn session(&self, connection: &Connection, kept_any: &mut bool) -> End {
        let channel = match connection.create_channel().await {
            Ok(channel) => channel,
            Err(error) => return End::Gone(error.to_string()),
        };
        let end = match self.subscribe(&channel).await {
            Ok(consumer) => {
                let session = Session {
                    of: self,
                    channel: &channel,
                    acks: Acks::default(),
                    tasks: JoinSet::new(),
                    tags: HashMap::new(),
                    turns: Turns::default(),
                    kept_any,
                };
                session.run(consumer).await
            }
            Err(error) => return End::Gone(error.to_string()),
        };
        // Gives back what is not acknowledged; a channel that is closed already has done so.
        let _ = channel.close(200, "done".into()).await;
        end
    }

    async fn subscribe(&self, channel: &Channel) -> lapin::Result<Consumer> {
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        channel.basic_consume((&*self.queue).into(), "".into(), options, FieldTable::default()).await
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
            if self.stop.is_cancelled() || self.intake.exchange.store.takes().await.is_ok() {
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
    /// By task, so that one that a defect ended is known, too.
    tags: HashMap<Id, u64>,
    turns: Turns,
    kept_any: &'s mut bool,
}

impl Session<'_> {
    async fn run(mut self, consumer: Consumer) -> End {
        let end = self.consume(consumer).await;
        self.finish().await;
        end
    }

    /// What is under way goes on to its end, whoever ended the subscription: cut off between its commit and its way to the
    /// courier, a message would be kept and not delivered before the next start. Nothing is consumed anew before that,
    /// so that what comes again does not overtake it.
    async fn finish(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(DRAIN_SECONDS);
        while let Ok(Some(_)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await {}
        self.tasks.detach_all();
    }

    async fn consume(&mut self, mut consumer: Consumer) -> End {
        let stop = self.of.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.drain(&consumer).await,
                delivery = consumer.next() => match delivery {
                    Some(Ok(delivery)) => self.begin(delivery),
                    Some(Err(error)) => return End::Gone(error.to_string()),
                    None => return End::Gone("the broker cancelled it; was the queue deleted?".into()),
                },
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let Some(end) = self.ended(ended).await {
                        return end;
                    }
                }
            }
        }
    }

    fn begin(&mut self, delivery: Delivery) {
        let tag = delivery.delivery_tag;
        self.acks.add(tag);
        let (intake, turn) = (self.of.intake.clone(), self.turns.take());
        let came = Came {
            queue: self.of.queue.clone(),
            body: delivery.data.into(),
            properties: delivery.properties,
            redelivered: delivery.redelivered,
        };
        let task = self.tasks.spawn(async move { (tag, intake.take(came, turn).await) });
        self.tags.insert(task.id(), tag);
        self.count();
    }

    /// One message ended, and with it maybe more: all that may be is acknowledged at once.
    async fn ended(&mut self, first: Result<(Id, (u64, Fate)), JoinError>) -> Option<End> {
        let mut next = Some(first);
        let mut unkept = false;
        while let Some(ended) = next {
            match ended {
                Ok((id, (tag, Fate::Settled))) => {
                    self.tags.remove(&id);
                    self.acks.settle(tag);
                    *self.kept_any = true;
                }
                Ok((_, (_, Fate::Unkept))) => unkept = true,
                Err(defect) => {
                    tracing::error!(queue = %self.of.queue, %defect, "a defect stopped a message; it comes again");
                    unkept = true;
                }
            }
            next = self.tasks.try_join_next_with_id();
        }
        if let Some(error) = self.acknowledge().await {
            return Some(End::Gone(error));
        }
        unkept.then_some(End::Unkept)
    }

    async fn acknowledge(&mut self) -> Option<String> {
        let tag = self.acks.take()?;
        let sent = self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await;
        self.count();
        sent.err().map(|error| error.to_string())
    }

    fn count(&self) {
        self.of.unacked.store(self.acks.len() as u64, Ordering::Relaxed);
    }

    /// Takes no more, and gives what is under way its time.
    async fn drain(&mut self, consumer: &Consumer) -> End {
        // Without it the broker sends on until the channel closes, which loses nothing either.
        let _ = self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(DRAIN_SECONDS);
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await {
            if self.ended(ended).await.is_some() {
                break;
            }
        }
        End::Stopped
    }
}

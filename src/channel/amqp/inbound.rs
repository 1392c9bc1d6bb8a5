//! AMQP in: converts a delivery from a queue to the exchange's input, and decides its acknowledgement by the result.

use super::format::{Decoded, decoded, encoding};
use super::properties::{dead_letter, expires_after, header, text};
use super::publisher::{Address, Published, Publisher};
use super::topology::dead_letter_queue;
use crate::admission::{Admission, Permit};
use crate::channel::media::Encoding;
use crate::config::{Amqp, is_queue_or_its_dead_letters};
use crate::delivery::ReplyQueue;
use crate::exchange::{AnswerMode, Exchange, Inbound, IntakeSlot, Refusal, Reply};
use crate::routing::Channel;
use crate::store::Redelivered;
use crate::turn::Turn;
use bytes::Bytes;
use fhir::Format;
use lapin::BasicProperties;
use lapin::message::Delivery;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A message that was tried this often without being stored is dead-lettered, because it holds up everything behind it.
const TRIES_MOST: u32 = 10;
const DEAD_LETTER_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a dead letter is published again.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(5);
const REQUEST_ID_LIMIT_CHARACTERS: usize = 128;
const ASSUMED: &str = Format::Json.media_type();

/// A delivery as received from a queue.
pub(super) struct Received {
    pub queue: Arc<str>,
    pub body: Bytes,
    pub properties: BasicProperties,
    pub redelivered: bool,
}

impl Received {
    /// Identifies the message across redeliveries, independent of what the broker adds to its headers.
    fn digest(&self) -> [u8; 32] {
        let properties = &self.properties;
        let texts = [
            properties.content_type(),
            properties.content_encoding(),
            properties.message_id(),
            properties.correlation_id(),
            properties.reply_to(),
            properties.user_id(),
        ];
        let mut hash = Sha256::new();
        for text in texts {
            let text = text.as_ref().map_or("", |text| text.as_str());
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(&self.body);
        hash.finalize().into()
    }
}

fn is_packed(properties: &BasicProperties) -> bool {
    let encoding = encoding(text(properties.content_encoding()).unwrap_or_default());
    encoding.is_ok_and(|encoding| encoding != Encoding::Identity)
}

/// What happens to the delivery at the broker.
pub(super) enum Disposition {
    /// Stored (accepted, refused, or a duplicate) or dead-lettered: it can be acknowledged.
    Settled,
    /// Not stored: it stays with the broker, and so does everything behind it.
    NotStored,
    /// As `NotStored`, because of a defect or damaged stored data, which may recur.
    Failed,
}

/// How a message is tried: first deliveries concurrently, a redelivered message alone.
pub(super) enum TryLock {
    Shared { _guard: OwnedRwLockReadGuard<()> },
    Exclusive { _guard: OwnedRwLockWriteGuard<()> },
}

/// What all consumers share.
pub(super) struct Intake {
    pub exchange: Arc<Exchange>,
    pub publisher: Arc<Publisher>,
    pub amqp: Arc<Amqp>,
    pub body_limit_bytes: usize,
    pub admission: Admission,
    /// Over all queues. Fair: a message that waits for the exclusive lock holds up later ones.
    pub try_lock: Arc<RwLock<()>>,
    /// Messages with a try record that were settled since. Their records are removed with the next try, so that this
    /// takes one commit instead of two. At most one per queue.
    pub settled: Mutex<Vec<Redelivered>>,
}

impl Intake {
    /// The memory that a message may need, in bytes; for a compressed one including its largest decompressed size.
    pub fn needed_bytes(&self, delivery: &Delivery) -> u64 {
        let more = if is_packed(&delivery.properties) { self.body_limit_bytes as u64 } else { 0 };
        delivery.data.len() as u64 + more
    }

    pub async fn try_lock(&self, alone: bool) -> TryLock {
        match alone {
            true => TryLock::Exclusive { _guard: self.try_lock.clone().write_owned().await },
            false => TryLock::Shared { _guard: self.try_lock.clone().read_owned().await },
        }
    }

    /// Processes a message whose `needed_bytes` are reserved. One that is tried alone is processed only after a record
    /// of the try is committed.
    pub async fn take(&self, received: Received, permit: Permit, turn: Turn, try_lock: TryLock) -> Disposition {
        if received.body.len() > self.body_limit_bytes {
            drop(try_lock);
            let why = format!("larger than {} bytes, the limit", self.body_limit_bytes);
            // Metadata only: the content is in the dead-letter queue.
            let inbound = Inbound { bytes: Bytes::new(), ..self.inbound(&received) };
            self.exchange.note_too_large(inbound, received.body.len() as u64, &why).await;
            return self.dead_letter_in_order(&received, turn, &why).await;
        }
        if let TryLock::Shared { .. } = try_lock {
            self.remove_try_records().await;
            return self.keep(&received, permit, turn).await;
        }
        let (store, queue) = (&self.exchange.store, received.queue.clone());
        let message = Redelivered { queue: queue.clone(), digest: received.digest() };
        let settled = match store.record_try(message.clone(), self.settled()).await {
            Err(away) => {
                tracing::warn!(queue = %queue, reason = %away, "AMQP: a try could not be recorded, so the message was not processed");
                return Disposition::NotStored;
            }
            Ok(tries) if tries > TRIES_MOST => {
                drop(try_lock);
                let why = format!("tried {TRIES_MOST} times without success; the router's log reports a defect");
                self.dead_letter_in_order(&received, turn, &why).await
            }
            Ok(_) => self.keep(&received, permit, turn).await,
        };
        match settled {
            Disposition::Settled => self.settled.lock().unwrap_or_else(PoisonError::into_inner).push(message),
            Disposition::NotStored => {
                if let Err(away) = store.take_back_try(message).await {
                    tracing::warn!(queue = %queue, reason = %away, "AMQP: a try could not be withdrawn, and counts against the message");
                }
            }
            Disposition::Failed => {}
        }
        settled
    }

    /// Removes the try records of messages that were settled since, as the next try would.
    pub async fn remove_try_records(&self) {
        let settled = self.settled();
        if settled.is_empty() {
            return;
        }
        if let Err(away) = self.exchange.store.forget_tries(settled).await {
            tracing::warn!(reason = %away, "AMQP: try records could not be removed; retention removes them later");
        }
    }

    fn settled(&self) -> Vec<Redelivered> {
        std::mem::take(&mut *self.settled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn keep(&self, received: &Received, mut permit: Permit, turn: Turn) -> Disposition {
        let (exchange, inbound) = (self.exchange.clone(), self.inbound(received));
        let unpacking = if is_packed(&received.properties) { permit.decompression().await } else { None };
        let decoded = decoded(&received.properties, &received.body, self.body_limit_bytes);
        drop(unpacking);
        // A body without a content encoding is not copied.
        let is_copy = |bytes: &Bytes| bytes.as_ptr() != received.body.as_ptr();
        let copied =
            decoded.as_ref().map_or(0, |decoded| if is_copy(&decoded.bytes) { decoded.bytes.len() } else { 0 });
        permit.shrink(permit.bytes().saturating_sub((received.body.len() + copied) as u64));
        let place = IntakeSlot { permit: Some(permit), turn };
        let task = match decoded {
            // In a task of its own, so that what is committed reaches the courier even if this consumer ends.
            Ok(Decoded { format, version: said_version, bytes }) => tokio::spawn(async move {
                let media_type = format.media_type().to_owned();
                exchange.accept(Inbound { bytes, media_type, said_version, ..inbound }, place).await
            }),
            Err(issue) => {
                tokio::spawn(async move { exchange.reject(inbound, Refusal::BadRequest, issue, place).await })
            }
        };
        match task.await {
            Ok(Reply::Refused { refusal: Refusal::NoStore | Refusal::Unavailable, .. }) => Disposition::NotStored,
            Ok(Reply::Refused { refusal: Refusal::Damaged, .. }) => {
                tracing::error!(queue = %received.queue, "AMQP: stored data of a message is damaged; it will be redelivered");
                Disposition::Failed
            }
            Ok(_) => Disposition::Settled,
            Err(defect) => {
                tracing::error!(queue = %received.queue, is_panic = defect.is_panic(), "AMQP: a message panicked; it will be redelivered");
                Disposition::Failed
            }
        }
    }

    /// Messages behind it are processed meanwhile, but not stored before those ahead of it.
    async fn dead_letter_in_order(&self, received: &Received, mut turn: Turn, why: &str) -> Disposition {
        if turn.enter().await.is_err() {
            return Disposition::NotStored;
        }
        turn.entered();
        turn.leave().await;
        turn.left();
        self.dead_letter(received, why).await;
        Disposition::Settled
    }

    /// The message before its body is decoded.
    fn inbound(&self, received: &Received) -> Inbound {
        let properties = &received.properties;
        let rules = self.exchange.rules.load();
        let sender = text(properties.user_id()).and_then(|user| rules.table.amqp_user(user));
        let correlation = text(properties.correlation_id()).or(text(properties.message_id()));
        let queue = text(properties.reply_to()).filter(|queue| !self.is_reserved_queue(queue));
        let given = text(properties.message_id()).filter(|id| id.len() <= REQUEST_ID_LIMIT_CHARACTERS);
        let reply = ReplyQueue { queue: queue.map(str::to_owned), correlation: correlation.map(str::to_owned) };
        Inbound {
            bytes: received.body.clone(),
            media_type: text(properties.content_type()).unwrap_or(ASSUMED).to_owned(),
            said_version: None,
            credential: sender.map(|participant| participant.id.clone()),
            via: header(properties, "via").map(|via| via.into_owned()),
            request_id: given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
            answer_mode: AnswerMode::ReplyQueue { reply, redelivered: received.redelivered },
            expires_after: expires_after(properties),
            received_at_us: self.exchange.clock.now_us(),
            gone: CancellationToken::new(),
        }
    }

    /// Whether a queue is ours or a participant's, so that nobody may have answers sent there.
    fn is_reserved_queue(&self, queue: &str) -> bool {
        let theirs = |channel: &Option<Channel>| match channel {
            Some(Channel::Amqp { exchange, routing_key }) if exchange.is_empty() => {
                is_queue_or_its_dead_letters(queue, routing_key)
            }
            _ => false,
        };
        let rules = self.exchange.rules.load();
        self.amqp.is_own_queue(queue) || rules.table.participants.iter().any(|participant| theirs(&participant.channel))
    }

    /// Dead-letters a message, however long that takes. Meanwhile nothing behind it is acknowledged, so the broker
    /// sends no more than the prefetch.
    async fn dead_letter(&self, received: &Received, why: &str) {
        let mut is_logged = false;
        while let Err(refusal) = self.publish_dead_letter(received, why).await {
            if !is_logged {
                tracing::error!(queue = %received.queue, "AMQP: cannot dead-letter a message ({refusal:?}); retrying");
                is_logged = true;
            }
            tokio::time::sleep(DEAD_LETTER_RETRY).await;
        }
    }

    /// Publishes to the dead-letter queue with a confirm before the message is acknowledged. Dead-lettering by the
    /// broker itself may lose messages, and does not happen on a queue that was declared elsewhere without it.
    async fn publish_dead_letter(&self, received: &Received, why: &str) -> Result<(), Published> {
        let queue = dead_letter_queue(&received.queue);
        let properties = dead_letter(&received.properties, why);
        let to = Address { exchange: "", routing_key: &queue };
        match self.publisher.publish(to, &received.body, properties, DEAD_LETTER_PATIENCE).await {
            Published::Confirmed => {
                tracing::warn!(queue = %received.queue, message.bytes = received.body.len(), "AMQP: dead-lettered to {queue}: {why}");
                Ok(())
            }
            other => Err(other),
        }
    }
}

//! AMQP in: one delivery of a queue, read into what the exchange takes; and what becomes of it there (design 1.6).

use super::format::{Unpacked, encoding, unpacked};
use super::properties::{expires_after, header, put_aside, text};
use super::publisher::{Address, Published, Publisher};
use super::topology::dead_letter_queue;
use crate::admission::{Admission, Permit};
use crate::channel::media::Encoding;
use crate::config::{Amqp, is_or_is_behind};
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

/// A message that was tried so often, and never kept, is put aside: it would hold up everything behind it.
const TRIES_MOST: u32 = 10;
const DEAD_LETTER_PATIENCE: Duration = Duration::from_secs(30);
/// What cannot be put aside either is tried again after this long.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(5);
const REQUEST_ID_LIMIT_CHARACTERS: usize = 128;
const ASSUMED: &str = Format::Json.media_type();

/// A delivery as it came, of this queue.
pub(super) struct Came {
    pub queue: Arc<str>,
    pub body: Bytes,
    pub properties: BasicProperties,
    pub redelivered: bool,
}

impl Came {
    /// The same for the same message each time that it is brought, whatever the broker notes in its headers.
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

/// What became of it.
pub(super) enum Fate {
    /// Kept, as accepted, refused or a repeat; or put aside: the broker need not hold it any longer.
    Settled,
    /// Not kept: it stays with the broker, and so does everything behind it.
    Unkept,
    /// As `Unkept`, by a defect of ours or of what is stored, which may befall it again.
    Failed,
}

/// With whom a message is tried: messages that come for the first time side by side, one that was brought before alone.
pub(super) enum Company {
    Others { _place: OwnedRwLockReadGuard<()> },
    Alone { _place: OwnedRwLockWriteGuard<()> },
}

/// What every consumer shares.
pub(super) struct Intake {
    pub exchange: Arc<Exchange>,
    pub publisher: Arc<Publisher>,
    pub amqp: Arc<Amqp>,
    pub body_limit_bytes: usize,
    pub admission: Admission,
    /// Over all queues. Fair: who waits to be alone holds up those that come later.
    pub company: Arc<RwLock<()>>,
    /// Messages with a record of tries, settled since: removed with the next try, so that it costs one commit and no two. One
    /// for each queue at most.
    pub settled: Mutex<Vec<Redelivered>>,
}

impl Intake {
    /// The bytes that a message may need in memory: where it comes packed, also the most that it may become.
    pub fn needed_bytes(&self, delivery: &Delivery) -> u64 {
        let more = if is_packed(&delivery.properties) { self.body_limit_bytes as u64 } else { 0 };
        delivery.data.len() as u64 + more
    }

    pub async fn company(&self, alone: bool) -> Company {
        match alone {
            true => Company::Alone { _place: self.company.clone().write_owned().await },
            false => Company::Others { _place: self.company.clone().read_owned().await },
        }
    }

    /// Tries a message, whose `needed_bytes` are held; one that is tried alone only after the store has committed a record of the try.
    pub async fn take(&self, came: Came, permit: Permit, turn: Turn, company: Company) -> Fate {
        if came.body.len() > self.body_limit_bytes {
            drop(company);
            let why = format!("larger than {} bytes, the most that is taken", self.body_limit_bytes);
            // Only what is known of it: the content is in the dead-letter queue.
            let inbound = Inbound { bytes: Bytes::new(), ..self.inbound(&came) };
            self.exchange.note_too_large(inbound, came.body.len() as u64, &why).await;
            return self.put_aside_in_turn(&came, turn, &why).await;
        }
        if let Company::Others { .. } = company {
            self.forget_settled().await;
            return self.keep(&came, permit, turn).await;
        }
        let (store, queue) = (&self.exchange.store, came.queue.clone());
        let message = Redelivered { queue: queue.clone(), digest: came.digest() };
        let settled = match store.record_try(message.clone(), self.settled()).await {
            Err(away) => {
                tracing::warn!(queue = %queue, reason = %away, "AMQP: a try could not be recorded, and is not made");
                return Fate::Unkept;
            }
            Ok(tries) if tries > TRIES_MOST => {
                drop(company);
                let why =
                    format!("tried {TRIES_MOST} times, and no try ended well; the router's log tells of a defect");
                self.put_aside_in_turn(&came, turn, &why).await
            }
            Ok(_) => self.keep(&came, permit, turn).await,
        };
        match settled {
            Fate::Settled => self.settled.lock().unwrap_or_else(PoisonError::into_inner).push(message),
            Fate::Unkept => {
                if let Err(away) = store.take_back_try(message).await {
                    tracing::warn!(queue = %queue, reason = %away, "AMQP: a try that was not the message's fault counts");
                }
            }
            Fate::Failed => {}
        }
        settled
    }

    /// Removes the records of tries of messages that were settled since, as the next try would.
    pub async fn forget_settled(&self) {
        let settled = self.settled();
        if settled.is_empty() {
            return;
        }
        if let Err(away) = self.exchange.store.forget_tries(settled).await {
            tracing::warn!(reason = %away, "AMQP: records of tries stay until they are swept");
        }
    }

    fn settled(&self) -> Vec<Redelivered> {
        std::mem::take(&mut *self.settled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn keep(&self, came: &Came, mut permit: Permit, turn: Turn) -> Fate {
        let (exchange, inbound) = (self.exchange.clone(), self.inbound(came));
        let unpacking = if is_packed(&came.properties) { permit.decompression().await } else { None };
        let unpacked = unpacked(came, self.body_limit_bytes);
        drop(unpacking);
        // What did not come packed is the body as it came, not a copy.
        let is_copy = |bytes: &Bytes| bytes.as_ptr() != came.body.as_ptr();
        let copied =
            unpacked.as_ref().map_or(0, |unpacked| if is_copy(&unpacked.bytes) { unpacked.bytes.len() } else { 0 });
        permit.shrink(permit.bytes().saturating_sub((came.body.len() + copied) as u64));
        let place = IntakeSlot { permit: Some(permit), turn };
        let task = match unpacked {
            // In a task of its own: what is committed is handed to the courier, whatever becomes of this consumer.
            Ok(Unpacked { format, version: said_version, bytes }) => tokio::spawn(async move {
                let media_type = format.media_type().to_owned();
                exchange.accept(Inbound { bytes, media_type, said_version, ..inbound }, place).await
            }),
            Err(issue) => {
                tokio::spawn(async move { exchange.reject(inbound, Refusal::BadRequest, issue, place).await })
            }
        };
        match task.await {
            Ok(Reply::Refused { refusal: Refusal::NoStore | Refusal::Unavailable, .. }) => Fate::Unkept,
            Ok(Reply::Refused { refusal: Refusal::Damaged, .. }) => {
                tracing::error!(queue = %came.queue, "AMQP: what is stored of a message cannot be read; it comes again");
                Fate::Failed
            }
            Ok(_) => Fate::Settled,
            Err(defect) => {
                tracing::error!(queue = %came.queue, is_panic = defect.is_panic(), "AMQP: a defect stopped a message; it comes again");
                Fate::Failed
            }
        }
    }

    /// What lies behind it goes on meanwhile, but not before what lies ahead of it.
    async fn put_aside_in_turn(&self, came: &Came, mut turn: Turn, why: &str) -> Fate {
        if turn.enter().await.is_err() {
            return Fate::Unkept;
        }
        turn.entered();
        turn.leave().await;
        turn.left();
        self.put_aside(came, why).await;
        Fate::Settled
    }

    /// The message before its body is unpacked.
    fn inbound(&self, came: &Came) -> Inbound {
        let properties = &came.properties;
        let rules = self.exchange.rules.load();
        let sender = text(properties.user_id()).and_then(|user| rules.table.amqp_user(user));
        let correlation = text(properties.correlation_id()).or(text(properties.message_id()));
        let queue = text(properties.reply_to()).filter(|queue| !self.is_taken(queue));
        let given = text(properties.message_id()).filter(|id| id.len() <= REQUEST_ID_LIMIT_CHARACTERS);
        let reply = ReplyQueue { queue: queue.map(str::to_owned), correlation: correlation.map(str::to_owned) };
        Inbound {
            bytes: came.body.clone(),
            media_type: text(properties.content_type()).unwrap_or(ASSUMED).to_owned(),
            said_version: None,
            credential: sender.map(|participant| participant.id.clone()),
            via: header(properties, "via").map(|via| via.into_owned()),
            request_id: given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
            answer_mode: AnswerMode::ReplyQueue { reply, redelivered: came.redelivered },
            expires_after: expires_after(properties),
            received_at_us: self.exchange.clock.now_us(),
            gone: CancellationToken::new(),
        }
    }

    /// A queue that nobody may have answered to: ours, or a participant's (design 1.6).
    fn is_taken(&self, queue: &str) -> bool {
        let theirs = |channel: &Option<Channel>| match channel {
            Some(Channel::Amqp { exchange, routing_key }) if exchange.is_empty() => is_or_is_behind(queue, routing_key),
            _ => false,
        };
        let rules = self.exchange.rules.load();
        self.amqp.is_own_queue(queue) || rules.table.participants.iter().any(|participant| theirs(&participant.channel))
    }

    /// Puts a message aside, however long that takes: so long nothing behind it is acknowledged, and the broker brings no
    /// more than the prefetch.
    async fn put_aside(&self, came: &Came, why: &str) {
        let mut told = false;
        while let Err(refusal) = self.is_put_aside(came, why).await {
            if !told {
                tracing::error!(queue = %came.queue, "AMQP: cannot put a message aside ({refusal:?}); trying on");
                told = true;
            }
            tokio::time::sleep(DEAD_LETTER_RETRY).await;
        }
    }

    /// To the dead-letter queue, confirmed, before the broker may forget it: dead-lettering by the broker itself may lose
    /// messages, and does not happen at all on a queue that somebody else declared without it.
    async fn is_put_aside(&self, came: &Came, why: &str) -> Result<(), Published> {
        let queue = dead_letter_queue(&came.queue);
        let properties = put_aside(&came.properties, why);
        let to = Address { exchange: "", routing_key: &queue };
        match self.publisher.publish(to, &came.body, properties, DEAD_LETTER_PATIENCE).await {
            Published::Confirmed => {
                tracing::warn!(queue = %came.queue, message.bytes = came.body.len(), "AMQP: put aside in {queue}: {why}");
                Ok(())
            }
            other => Err(other),
        }
    }
}

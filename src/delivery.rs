//! The types that store, courier, channels, and exchange share: metadata of messages, deliveries, attempts, and settlements.
//!
//! Only data and pure rules: storing, delivering, and settling are done elsewhere.

use crate::fault::Fault;
use crate::outcome::Outcome;
use bytes::Bytes;
use fhir::event::{Category, Identifier, ResponseCode, ResponseRequired};
use fhir::identity::normal;
use fhir::{Event, FhirVersion, Format};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What is known about a message besides its body. Stored as one JSON document beside the indexed columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metadata {
    /// Public id, UUIDv7.
    pub id: Uuid,
    /// Participant id of the sender: `anyone` without participants, `emberpost` for answers that the router writes itself.
    pub sender: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub destinations: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<FhirVersion>,
    /// Media type of the body without parameters, such as `application/fhir+json`.
    pub media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_identifier: Option<Identifier>,
    /// The UUID of the header entry's `fullUrl`, if it is not the header's id: relays drop the id and leave the UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_uuid: Option<String>,
    /// The response block, if the message is a response (MSG-27).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseMetadata>,
    /// Canonical of the MessageDefinition that governs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// When the receiver must answer; None if neither definition nor extension says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owed: Option<ResponseRequired>,
    pub reply_to: ReplyTo,
    /// Public id of the request that this message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<Uuid>,
    /// Of an answer: format, version, and identity of its request, so that the answer can be converted for the requester.
    #[serde(default, rename = "asked", skip_serializing_if = "Option::is_none")]
    pub request_format: Option<Box<RequestFormat>>,
    /// A response that matched no request.
    pub unmatched: bool,
    /// A response that fits more than one request: it is delivered to nobody until an operator assigns it. Stored in a column
    /// of its own, because it changes.
    #[serde(skip)]
    pub ambiguous: bool,
    /// `Via` as received; deliveries extend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// X-Request-Id of the request that brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub size_bytes: u64,
    /// This and the next times are UTC microseconds since 1970.
    pub received_at_us: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_at_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_at_us: Option<i64>,
}

impl Metadata {
    /// Of a message of which nothing else is known yet.
    pub fn new(id: Uuid, sender: impl Into<String>, media_type: impl Into<String>, received_at_us: i64) -> Metadata {
        Metadata {
            id,
            sender: sender.into(),
            source: None,
            destinations: Vec::new(),
            event: None,
            version: None,
            media_type: media_type.into(),
            header_id: None,
            bundle_id: None,
            bundle_identifier: None,
            header_uuid: None,
            response: None,
            definition: None,
            category: None,
            owed: None,
            reply_to: ReplyTo::Wait,
            in_reply_to: None,
            request_format: None,
            unmatched: false,
            ambiguous: false,
            via: None,
            request_id: None,
            size_bytes: 0,
            received_at_us,
            checked_at_us: None,
            planned_at_us: None,
        }
    }

    /// Whether a response's identifier may mean this message, by any of its four ids: publishers differ in which one
    /// they give (MSG-37).
    pub fn is_named_by(&self, identifier: &str) -> bool {
        let wanted = normal(identifier);
        let bundle_identifier = self.bundle_identifier.as_ref();
        let value = bundle_identifier.map(|known| known.value.as_str());
        let ids = [self.header_id.as_deref(), self.bundle_id.as_deref(), value, self.header_uuid.as_deref()];
        ids.into_iter().flatten().any(|known| normal(known) == wanted)
            || bundle_identifier.is_some_and(|known| normal(&known.to_string()) == wanted)
    }

    /// Its format, version, and identity, for its answer.
    pub fn request_format(&self) -> Option<Box<RequestFormat>> {
        Some(Box::new(RequestFormat {
            format: Format::of_media_type(&self.media_type).unwrap_or_default(),
            version: self.version?,
            header_id: self.header_id.clone(),
            bundle_identifier: self.bundle_identifier.clone(),
        }))
    }

    /// Whether the request came over AMQP, so that no sender waits on a connection.
    pub fn is_answered_in_queue(&self) -> bool {
        matches!(self.reply_to, ReplyTo::Queue(_))
    }
}

/// How a request was written, and the identity that its sender gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestFormat {
    /// Stored under the name that earlier versions gave it.
    #[serde(rename = "form")]
    pub format: Format,
    pub version: FhirVersion,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_identifier: Option<Identifier>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseMetadata {
    /// `response.identifier`: in R4 an id (no system), in R5 an Identifier (MSG-37).
    pub identifier: Identifier,
    pub code: Option<ResponseCode>,
}

/// Where the answer to a request goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReplyTo {
    /// To the waiting sender; a late answer is at the status URL and goes to the source's channel.
    Wait,
    /// `async=true` with `response-url`.
    Callback(String),
    /// `async=true`: the source's channel.
    Channel,
    /// `Prefer: respond-async`: the status URL only.
    Status,
    /// The request came over AMQP: to its reply queue, or else to the source's channel.
    Queue(ReplyQueue),
    /// A response: never answered (MSG-41).
    Nobody,
}

/// Where an AMQP sender expects its answer, and with which correlation id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyQueue {
    /// `reply_to`, on the default exchange. None: the source's channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The request's `correlation_id`, else its `message_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageState {
    Accepted,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    Waiting,
    Active,
    Delivered,
    Answered,
    Dead,
    Discarded,
}

impl DeliveryKind {
    /// Whether it is delivered without the participant's channel: to a callback URL or a reply queue.
    pub fn bypasses_channel(&self) -> bool {
        match self {
            Self::Callback { .. } => true,
            Self::Reply(reply) => reply.queue.is_some(),
            Self::Request | Self::Answer | Self::Replay { .. } => false,
        }
    }
}

impl DeliveryState {
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Active, Self::Delivered, Self::Answered, Self::Dead, Self::Discarded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Delivered => "delivered",
            Self::Answered => "answered",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Why a delivery is made, and where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DeliveryKind {
    /// A request (or an unmatched response) to a receiver of the plan.
    Request,
    /// An answer to the channel of the requester.
    Answer,
    /// An answer to a `response-url`.
    Callback { url: String },
    /// An answer to a sender's reply queue, or to its channel if the queue no longer exists.
    Reply(ReplyQueue),
    /// A stored message, delivered again at an operator's request; `of` is the original delivery, if there was one.
    Replay { replay: Uuid, of: Option<Uuid>, forward_answers: bool },
}

/// A delivery to be stored with its message.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub id: Uuid,
    pub participant: Arc<str>,
    /// The destination as the message or the route spelled it.
    pub destination: Option<String>,
    /// Lane key within the participant; 0 is "no order".
    pub lane: i64,
    pub kind: DeliveryKind,
    /// UTC microseconds since 1970; 0: due now, whatever the clock says.
    pub due_at_us: i64,
    pub expires_at_us: i64,
}

/// A message to be stored, in one transaction with its deliveries, its identity, and the router's answer.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub metadata: Metadata,
    pub state: MessageState,
    pub bytes: Bytes,
    /// Warnings of an accepted message, or why it was refused.
    pub outcome: Option<Outcome>,
    /// Keys that identify duplicates; empty for a refusal, which leaves no identity.
    pub identity: fhir::identity::IdentityKeys,
    pub deliveries: Vec<NewDelivery>,
    /// The answer that the router writes itself, stored in the same transaction.
    pub answer: Option<Box<NewMessage>>,
    /// Key of the delivery that this response answers. Its deliveries are stored only if it is the first answer. Of a
    /// refused message: the delivery that it was meant to answer, which gets the fault `RECV_BAD_ANSWER`.
    pub closes: Option<i64>,
    /// What happens to this response if its delivery already has a first answer with other content. None: it is stored and
    /// linked only.
    pub further: Option<Further>,
    /// Key and id of the stored ambiguous response that this is: it is assigned, not stored again.
    pub assigns: Option<(i64, Uuid)>,
    /// This answer (a transient-error) releases the identity of the request, so that it can be sent again.
    pub releases_request: bool,
}

/// A further answer of the same receiver (MSG-40): flagged and listed, and delivered to the requester if `delivery` is given.
#[derive(Clone, Debug)]
pub struct Further {
    pub delivery: Option<NewDelivery>,
}

/// The result of `Store::accept`.
#[derive(Debug)]
pub enum Acceptance {
    New {
        message_key: i64,
        /// Its deliveries in order, for the courier.
        deliveries: Vec<PendingDelivery>,
        /// For a response: whether it was the first answer of its delivery.
        first_answer: bool,
    },
    /// The same identity and content are stored (MSG-61, MSG-62): the public id of the first message.
    Duplicate { message_id: Uuid },
    /// The same identity is stored with other content (409): the public id of the first message.
    Conflict { message_id: Uuid },
}

/// A delivery as the courier holds it. The body may be absent if the delivery was read from the store.
#[derive(Clone, Debug)]
pub struct PendingDelivery {
    pub delivery_key: i64,
    pub delivery_id: Uuid,
    pub message_key: i64,
    pub participant: Arc<str>,
    pub lane: i64,
    /// Order within the lane.
    pub seq: i64,
    /// `seq` of the newest older delivery of its lane that waited when this one was inserted; None if there was none, and in
    /// the lane without order. This delivery may start only after that one has ended.
    pub prev_seq: Option<i64>,
    pub kind: DeliveryKind,
    /// Attempts made so far.
    pub attempts: u32,
    /// How many of them count neither for the schedule nor for the limit of attempts: failed probes of an open breaker, and
    /// attempts before an operator's retry.
    pub uncounted_attempts: u32,
    /// The current attempt is a probe of an open breaker.
    pub is_probe: bool,
    /// UTC microseconds since 1970; 0: due now, whatever the clock says.
    pub due_at_us: i64,
    pub expires_at_us: i64,
    pub metadata: Arc<Metadata>,
    pub body: Option<Bytes>,
}

/// One attempt at a delivery, as the channel reports it.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub started_at_us: i64,
    pub duration_us: i64,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    pub result: AttemptResult,
    /// It was sent twice: the first connection, which was reused, was lost before the first byte of an answer.
    pub resent: bool,
}

/// How the receiver replied to an attempt (MSG-90).
#[derive(Clone, Debug)]
pub enum AttemptResult {
    /// 2xx without a body: the receiver accepted it.
    Accepted,
    /// The broker has it in the receiver's queue. The receiver itself has not replied yet.
    Queued,
    /// It was not sent, or possibly not because the connection was lost: no attempt is counted. `fault`: the
    /// router's own problem, to be shown with the delivery.
    NotSent { fault: Option<Fault>, detail: String },
    /// 2xx with a body, which decides what it means.
    Body { bytes: Bytes, media_type: String },
    /// Tried again by the schedule: 408, 425, 429, 5xx, no connection, timeout, redirect.
    Retryable { fault: Fault, retry_after: Option<Duration>, detail: String },
    /// The configured credential or URL is wrong (401, 403, 404, 407): tried again by the schedule until the delivery expires.
    Misconfigured { fault: Fault, detail: String },
    /// The body is no longer stored: nothing was sent or can be sent.
    ContentRemoved,
    /// The callback's URL is no longer an address of the request's sender: nothing was sent, and the delivery ends.
    ForeignCallback,
    /// Any other 4xx: refused permanently. The body, if there was one, may be an OperationOutcome.
    Refused { outcome: Option<Bytes>, detail: String },
}

/// What the courier does with a delivery after an attempt was concluded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NextStep {
    /// The delivery has ended: the lane continues.
    Done,
    /// Tried again after this time; the lane waits.
    Retry { after: Duration },
    /// As `Retry`, but nothing is stored about it: there was no attempt, or it could not be stored.
    Postponed { after: Duration },
}

/// How a delivery is settled, in one transaction with its answer.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub delivery_key: i64,
    /// New state; `Waiting` goes with `due_at_us`.
    pub state: DeliveryState,
    pub due_at_us: i64,
    pub attempt: Option<AttemptRow>,
    /// Why it failed or was dead-lettered; None clears the fault.
    pub fault: Option<Fault>,
    /// The receiver's answer, or the one that the router writes when it gives up. Stored and linked in the same transaction.
    pub answer: Option<Box<NewMessage>>,
    /// Issues of an OperationOutcome in which the receiver reported errors about a message that it accepted: a JSON array.
    pub receiver_issues: Option<String>,
    /// Another request of the same sender, whose stored answer may be the answer to this request, too.
    pub shares_with: Option<Uuid>,
}

/// The result of `Store::settle`.
#[derive(Debug)]
pub struct Settled {
    /// Whether the delivery was open and has the settlement's state now; false if it had been settled before.
    pub changed: bool,
    /// Whether the answer was the first of its delivery.
    pub first_answer: bool,
    /// The id of the stored answer: its own, or that of the same answer stored before.
    pub answer_id: Option<Uuid>,
    /// The deliveries of the answer, for the courier.
    pub deliveries: Vec<PendingDelivery>,
    /// The other request that this answer is already stored for; then nothing was changed.
    pub belongs_to: Option<Uuid>,
}

/// An attempt as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptRow {
    pub started_at_us: i64,
    pub duration_us: i64,
    pub status: Option<u16>,
    /// `delivered`, `answered`, `refused`, `retry`, and `probe` for a failed probe of an open breaker; `held` in stores of
    /// earlier versions.
    pub result: String,
    pub fault: Option<Fault>,
    /// What failed, in a sentence without content of messages.
    pub detail: Option<String>,
}

/// The time until the next attempt: the schedule's interval for this attempt (the last one repeats) or `Retry-After` if that is
/// longer (at most a day), plus up to 20 % of jitter. `attempts` counts those made; `random` is in 0..1.
pub fn retry_after(schedule_seconds: &[u64], attempts: u32, asked: Option<Duration>, random: f64) -> Duration {
    const LONGEST_RETRY_AFTER_SECONDS: u64 = 86_400;
    let index = (attempts.max(1) as usize - 1).min(schedule_seconds.len().saturating_sub(1));
    let interval = Duration::from_secs(schedule_seconds.get(index).copied().unwrap_or(60));
    let asked = asked.unwrap_or_default().min(Duration::from_secs(LONGEST_RETRY_AFTER_SECONDS));
    interval.max(asked).mul_f64(1.0 + 0.2 * random.clamp(0.0, 1.0))
}

/// The longest time that `retry_after` returns without `Retry-After`, including jitter.
pub fn longest_pause(schedule_seconds: &[u64]) -> Duration {
    let attempts = u32::try_from(schedule_seconds.len()).unwrap_or(u32::MAX);
    (1..=attempts).map(|attempts| retry_after(schedule_seconds, attempts, None, 1.0)).max().unwrap_or_default()
}

/// `AttemptRow::result` of a failed probe of an open breaker.
pub const FAILED_PROBE: &str = "probe";

impl PendingDelivery {
    /// Failed attempts that count for the schedule and the limit, including the current one, if it fails.
    pub fn counted_attempts(&self) -> u32 {
        let counted = self.attempts.saturating_sub(self.uncounted_attempts);
        if self.is_probe { counted } else { counted.saturating_add(1) }
    }

    /// Counts the current attempt as failed.
    pub fn count_failed(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        self.uncounted_attempts = self.uncounted_attempts.saturating_add(u32::from(std::mem::take(&mut self.is_probe)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_interval_repeats_and_retry_after_is_honored_within_a_day() {
        let seconds = |attempts, asked| retry_after(&[1, 5], attempts, asked, 0.0).as_secs();
        assert_eq!([seconds(1, None), seconds(2, None), seconds(9, None)], [1, 5, 5]);
        assert_eq!(seconds(1, Some(Duration::from_secs(30))), 30);
        assert_eq!(seconds(1, Some(Duration::from_secs(1_000_000))), 86_400);
        assert_eq!(retry_after(&[10], 1, None, 1.0), Duration::from_secs(12));
    }
}

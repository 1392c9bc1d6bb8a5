//! The words that store, courier, channels and exchange share: a message's metadata, a delivery's work, an attempt, a settlement.
//!
//! Data and pure rules only; who keeps, carries or concludes it is decided elsewhere.

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

/// What is known of a message without its body; kept as one JSON document beside the indexed columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metadata {
    /// Public id, UUIDv7.
    pub id: Uuid,
    /// Participant id of the sender: `anyone` without participants, `emberpost` for answers of our own.
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
    /// The UUID of the header entry's `fullUrl`, where it is not the header's id: relays drop the id and leave the UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_uuid: Option<String>,
    /// The response block, where the message is a response (MSG-27).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseMetadata>,
    /// Canonical of the definition that governed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// When an answer is owed; None where neither definition nor extension speaks (design 1.5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owed: Option<ResponseRequired>,
    pub reply_to: ReplyTo,
    /// Public id of the request that this message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<Uuid>,
    /// Of an answer: as what its requester spoke, so that it can be told in the same words.
    #[serde(default, rename = "asked", skip_serializing_if = "Option::is_none")]
    pub request_format: Option<Box<RequestFormat>>,
    /// A response that matched no request.
    pub unmatched: bool,
    /// A response that fits more than one request: nobody has it until an operator assigns it. Stored in a column of its
    /// own, because it changes.
    #[serde(skip)]
    pub ambiguous: bool,
    /// `Via` as received, to be extended on the way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// X-Request-Id of the request that brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub size_bytes: u64,
    /// UTC microseconds since 1970, each.
    pub received_at_us: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_at_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_at_us: Option<i64>,
}

impl Metadata {
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

    /// As what its sender spoke, for its answer.
    pub fn request_format(&self) -> Option<Box<RequestFormat>> {
        Some(Box::new(RequestFormat {
            format: Format::of_media_type(&self.media_type).unwrap_or_default(),
            version: self.version?,
            header_id: self.header_id.clone(),
            bundle_identifier: self.bundle_identifier.clone(),
        }))
    }

    /// Whether its sender asked from a queue, and so is not on the line.
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

/// Where the answer of a request goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReplyTo {
    /// The sender waits; a late answer is at the status URL and goes to the source's channel.
    Wait,
    /// `async=true` with `response-url`.
    Callback(String),
    /// `async=true`: the source's channel.
    Channel,
    /// `Prefer: respond-async`: the status URL only.
    Status,
    /// It came over AMQP: its reply queue, else the source's channel.
    Queue(ReplyQueue),
    /// A response: never answered (MSG-41).
    Nobody,
}

/// Where and under which name an AMQP sender looks for its answer (design 1.6).
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
    /// Whether it goes its own way, whatever channel the participant has.
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

/// What a delivery carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DeliveryKind {
    /// A request (or an unmatched response) to a receiver that the plan named.
    Request,
    /// An answer on its way home, to the source's channel.
    Answer,
    /// An answer to a `response-url`.
    Callback { url: String },
    /// An answer to a sender's reply queue; where that is gone, to its channel.
    Reply(ReplyQueue),
    /// A kept message again, on a person's order: `of` is the delivery that it repeats, where there was one.
    Replay { replay: Uuid, of: Option<Uuid>, forward_answers: bool },
}

/// A delivery to be kept with its message.
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

/// A message to be kept: one transaction with its deliveries, identity and own answer.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub metadata: Metadata,
    pub state: MessageState,
    pub bytes: Bytes,
    /// Warnings of an accepted message, or why it was refused.
    pub outcome: Option<Outcome>,
    /// Keys by which a repeat is known; empty where nothing is to be remembered (a refusal).
    pub identity: fhir::identity::IdentityKeys,
    pub deliveries: Vec<NewDelivery>,
    /// The answer that Emberpost gives itself, kept in the same transaction.
    pub answer: Option<Box<NewMessage>>,
    /// Key of the delivery that this response answers. Its deliveries are stored only if it is the first answer. Of a refused
    /// message: the delivery that it was meant to answer, which gets the fault `RECV_BAD_ANSWER`.
    pub closes: Option<i64>,
    /// What happens to this response where its delivery has a first answer already and this one says something else. None:
    /// it is stored and linked, nothing more.
    pub further: Option<Further>,
    /// Key and id of a stored ambiguous response that this is: it is assigned, not stored again.
    pub assigns: Option<(i64, Uuid)>,
    /// The request's identity is given up with this answer (transient-error), so that it can be sent again.
    pub releases_request: bool,
}

/// A further answer of the same receiver (MSG-40): flagged and listed, and delivered if its requester may have it.
#[derive(Clone, Debug)]
pub struct Further {
    pub delivery: Option<NewDelivery>,
}

/// What became of `Store::accept`.
#[derive(Debug)]
pub enum Acceptance {
    New {
        message_key: i64,
        /// Its deliveries in order, for the courier.
        work: Vec<PendingDelivery>,
        /// For a response: whether it was the first answer of its delivery.
        first_answer: bool,
    },
    /// Known, same content (MSG-61, MSG-62): the public id of the first.
    Duplicate { message_id: Uuid },
    /// Known, other content: 409. The public id of the first.
    Conflict { message_id: Uuid },
}

/// One delivery as the courier holds it. The body may be absent when it was read back from the store.
#[derive(Clone, Debug)]
pub struct PendingDelivery {
    pub delivery_key: i64,
    pub delivery_id: Uuid,
    pub message_key: i64,
    pub participant: Arc<str>,
    pub lane: i64,
    /// Order within the lane.
    pub seq: i64,
    /// `seq` of the newest older delivery of its lane that waited when this one was inserted; None where none did, and in
    /// the lane without order. It may start only after that one has ended.
    pub prev_seq: Option<i64>,
    pub kind: DeliveryKind,
    /// Attempts made so far.
    pub attempts: u32,
    /// How many of them move neither the schedule nor the limit of attempts: failed probes of an open breaker, and those
    /// before an operator's retry.
    pub uncounted_attempts: u32,
    /// The attempt under way is a probe of an open breaker.
    pub is_probe: bool,
    /// UTC microseconds since 1970; 0: due now, whatever the clock says.
    pub due_at_us: i64,
    pub expires_at_us: i64,
    pub metadata: Arc<Metadata>,
    pub body: Option<Bytes>,
}

/// One try at a delivery, as the channel saw it.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub started_at_us: i64,
    pub duration_us: i64,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    pub result: AttemptResult,
    /// It was sent twice: the first connection, kept from before, was lost before any byte of an answer.
    pub resent: bool,
}

/// What the receiver said (design 1.5, MSG-90).
#[derive(Clone, Debug)]
pub enum AttemptResult {
    /// 2xx without a body: it took it.
    Accepted,
    /// The broker has it in the receiver's queue. The receiver itself has said nothing yet.
    Queued,
    /// It was never sent, or nobody can tell because the connection was lost: no attempt is counted (design 1.6).
    /// `fault`: what the router itself lacks, to be shown with the delivery.
    NotSent { fault: Option<Fault>, detail: String },
    /// 2xx with a body: what it means is to be read.
    Body { bytes: Bytes, media_type: String },
    /// Try again by the schedule: 408, 425, 429, 5xx, no connection, timeout, redirect.
    Retryable { fault: Fault, retry_after: Option<Duration>, detail: String },
    /// Our credential or URL is wrong (401, 403, 404, 407): tried again by the schedule, and never dead-lettered for it
    /// before it expires.
    Misconfigured { fault: Fault, detail: String },
    /// The content is no longer stored: nobody was asked, and nothing can be sent any more.
    ContentRemoved,
    /// The callback's URL is no longer an address of the request's sender: nobody was asked, and the delivery ends.
    ForeignCallback,
    /// Any other 4xx: for good. The body, where there was one, may be an OperationOutcome.
    Refused { outcome: Option<Bytes>, detail: String },
}

/// What the courier does next with a delivery after it was concluded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NextStep {
    /// Settled for good: the lane goes on.
    Done,
    /// Again after this long; the lane waits.
    Retry { after: Duration },
    /// As Again, but the store knows of no attempt and of no wait: nothing was tried, or it could not be recorded.
    Postponed { after: Duration },
}

/// How a delivery is settled, in one transaction with the answer.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub delivery_key: i64,
    /// New state; `Waiting` goes with `due_at_us`.
    pub state: DeliveryState,
    pub due_at_us: i64,
    pub attempt: Option<AttemptRow>,
    /// Why it failed or died; None clears it.
    pub fault: Option<Fault>,
    /// The receiver's answer, or the one that Emberpost writes when it gives up. Kept and linked in the same transaction.
    pub answer: Option<Box<NewMessage>>,
    /// Issues of an OperationOutcome in which the receiver reported errors about a message that it took: a JSON array.
    pub receiver_issues: Option<String>,
    /// Another request whose stored answer may be this one's as well, because both are of one sender.
    pub shares_with: Option<Uuid>,
}

/// What `Store::settle` did.
#[derive(Debug)]
pub struct Settled {
    /// Whether the delivery was open and took the settlement's state; false when somebody else had settled it before.
    pub changed: bool,
    /// Whether the answer was the first of its delivery. False too when the delivery was settled by somebody else before.
    pub first_answer: bool,
    /// The answer as kept: its own id, or that of the same answer kept before.
    pub answer_id: Option<Uuid>,
    /// The answer's way home, for the courier.
    pub work: Vec<PendingDelivery>,
    /// The request that this answer is stored for already. Then nothing was changed: it is no answer to another one.
    pub belongs_to: Option<Uuid>,
}

/// A row of the attempt table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptRow {
    pub started_at_us: i64,
    pub duration_us: i64,
    pub status: Option<u16>,
    /// `delivered`, `answered`, `refused`, `retry`, and `probe` for a failed probe of an open breaker; `held` in stores of
    /// earlier versions.
    pub result: String,
    pub fault: Option<Fault>,
    /// A sentence without content: what failed.
    pub detail: Option<String>,
}

/// When to try again: the schedule's interval for this attempt (the last repeats), `Retry-After` where it is longer
/// (at most a day), and up to 20 % of jitter on top. `attempts` counts those made; `random` is in 0..1.
pub fn retry_after(schedule_seconds: &[u64], attempts: u32, asked: Option<Duration>, random: f64) -> Duration {
    const LONGEST_RETRY_AFTER_SECONDS: u64 = 86_400;
    let index = (attempts.max(1) as usize - 1).min(schedule_seconds.len().saturating_sub(1));
    let interval = Duration::from_secs(schedule_seconds.get(index).copied().unwrap_or(60));
    let asked = asked.unwrap_or_default().min(Duration::from_secs(LONGEST_RETRY_AFTER_SECONDS));
    interval.max(asked).mul_f64(1.0 + 0.2 * random.clamp(0.0, 1.0))
}

/// The longest wait that `retry_after` gives where the receiver asks for none, jitter included.
pub fn longest_pause(schedule_seconds: &[u64]) -> Duration {
    let attempts = u32::try_from(schedule_seconds.len()).unwrap_or(u32::MAX);
    (1..=attempts).map(|attempts| retry_after(schedule_seconds, attempts, None, 1.0)).max().unwrap_or_default()
}

/// `AttemptRow::result` of a failed probe of an open breaker.
pub const FAILED_PROBE: &str = "probe";

impl PendingDelivery {
    /// Failed attempts that move its schedule and count toward the limit, with the one under way where that fails, too.
    pub fn counted_attempts(&self) -> u32 {
        let counted = self.attempts.saturating_sub(self.uncounted_attempts);
        if self.is_probe { counted } else { counted.saturating_add(1) }
    }

    /// Counts the attempt under way, which failed.
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

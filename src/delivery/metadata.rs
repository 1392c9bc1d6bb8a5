//! What is known about a message besides its body.

use fhir::event::{Category, Identifier, ResponseCode, ResponseRequired};
use fhir::identity::normal;
use fhir::{Event, FhirVersion, Format};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
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

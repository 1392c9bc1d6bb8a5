//! Messages, and what happened to them.

use super::Delivery;
use crate::delivery::{AttemptRow, MessageState, Metadata, ReplyTo, RequestFormat, ResponseMetadata};
use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::store::view::{self, MessageView};
use fhir::event::{Category, Identifier, ResponseRequired};
use fhir::{Event, FhirVersion};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// A message without its content. Times are UTC microseconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    pub id: Uuid,
    /// Participant id; `anyone` without participants, `emberpost` for answers of the router itself.
    pub sender: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub destinations: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<FhirVersion>,
    pub media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_identifier: Option<Identifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseMetadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owed: Option<ResponseRequired>,
    pub reply_to: ReplyTo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Box<RequestFormat>>,
    pub unmatched: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub size_bytes: u64,
    pub received_at_us: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_at_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_at_us: Option<i64>,
    pub state: MessageState,
    pub ambiguous: bool,
    pub further: bool,
    pub committed_at_us: i64,
    pub outcome: Option<Outcome>,
    pub body_kept: bool,
}

impl From<MessageView> for Message {
    fn from(view: MessageView) -> Message {
        let MessageView { metadata, state, ambiguous, further, committed_at_us, outcome, body_kept } = view;
        let Metadata {
            id,
            sender,
            source,
            destinations,
            event,
            version,
            media_type,
            header_id,
            bundle_id,
            bundle_identifier,
            header_uuid,
            response,
            definition,
            category,
            owed,
            reply_to,
            in_reply_to,
            request_format,
            unmatched,
            ambiguous: _,
            via,
            request_id,
            size_bytes,
            received_at_us,
            checked_at_us,
            planned_at_us,
        } = Arc::unwrap_or_clone(metadata);
        Message {
            id,
            sender,
            source,
            destinations,
            event,
            version,
            media_type,
            header_id,
            bundle_id,
            bundle_identifier,
            header_uuid,
            response,
            definition,
            category,
            owed,
            reply_to,
            in_reply_to,
            asked: request_format,
            unmatched,
            via,
            request_id,
            size_bytes,
            received_at_us,
            checked_at_us,
            planned_at_us,
            state,
            ambiguous,
            further,
            committed_at_us,
            outcome,
            body_kept,
        }
    }
}

/// A message with its deliveries and answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessageShown {
    #[serde(flatten)]
    pub message: Message,
    pub deliveries: Vec<Delivery>,
    /// The answers to it, which are messages themselves; at most 100.
    pub answers: Vec<Message>,
}

/// One event in the life of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TimelineEntry {
    pub at_us: i64,
    pub what: String,
    pub delivery: Option<Uuid>,
    pub participant: Option<String>,
    pub attempt: Option<Attempt>,
    /// Id of the answer, the replay, or the refused message.
    pub reference: Option<Uuid>,
}

impl From<view::TimelineEntry> for TimelineEntry {
    fn from(entry: view::TimelineEntry) -> TimelineEntry {
        let view::TimelineEntry { at_us, what, delivery, participant, attempt, reference } = entry;
        TimelineEntry { at_us, what, delivery, participant, attempt: attempt.map(Attempt::from), reference }
    }
}

/// One attempt at a delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    pub started_at_us: i64,
    pub duration_us: i64,
    pub status: Option<u16>,
    pub result: String,
    pub fault: Option<Fault>,
    pub detail: Option<String>,
}

impl From<AttemptRow> for Attempt {
    fn from(row: AttemptRow) -> Attempt {
        let AttemptRow { started_at_us, duration_us, status, result, fault, detail } = row;
        Attempt { started_at_us, duration_us, status, result, fault, detail }
    }
}

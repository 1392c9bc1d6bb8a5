//! The JSON of the admin API: its own types, made from the store's views.
//!
//! The names of members are public (`openapi.json`), so they change only on purpose: a renamed field of the store does not
//! change them. Events, identifiers, and kinds of deliveries have the same form as in the store.

use crate::delivery::{
    AttemptRow, DeliveryKind, DeliveryState, MessageState, Metadata, ReplyTo, RequestFormat, ResponseMetadata,
};
use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::secret::SecretUrl;
use crate::store::view::{self, DeliveryView, MessageFilter, MessageView, ReplayState, ReplayView};
use fhir::event::{Category, Identifier, ResponseRequired};
use fhir::{Event, FhirVersion};
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

/// A page of a list, newest first. `next` is the cursor of the following page, absent on the last.
#[derive(Clone, Debug, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    pub fn of<V>(page: view::Page<V>) -> Page<T>
    where
        T: From<V>,
    {
        Page { items: page.items.into_iter().map(T::from).collect(), next: page.next }
    }
}

/// A message without its content. Times are UTC microseconds since 1970.
#[derive(Clone, Debug, Serialize)]
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
#[derive(Clone, Debug, Serialize)]
pub struct MessageShown {
    #[serde(flatten)]
    pub message: Message,
    pub deliveries: Vec<Delivery>,
    /// The answers to it, which are messages themselves; at most 100.
    pub answers: Vec<Message>,
}

/// One message due to one participant.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    pub id: Uuid,
    pub message: Uuid,
    pub participant: String,
    pub destination: Option<String>,
    pub kind: DeliveryKind,
    pub state: DeliveryState,
    pub attempts: u32,
    pub due_at_us: i64,
    pub expires_at_us: i64,
    pub fault: Option<Fault>,
    /// HTTP status of the last attempt.
    pub status: Option<u16>,
    /// Fault or warning of the last attempt.
    pub last_fault: Option<Fault>,
    pub last_detail: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub receiver_issues: Vec<serde_json::Value>,
    pub answer: Option<Uuid>,
    pub replay_of: Option<Uuid>,
    pub replayed_by: Vec<Uuid>,
    /// Why it waits, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

impl From<DeliveryView> for Delivery {
    fn from(view: DeliveryView) -> Delivery {
        Delivery {
            id: view.id,
            message: view.message,
            participant: view.participant,
            destination: view.destination,
            kind: without_secrets(view.kind),
            state: view.state,
            attempts: view.attempts,
            due_at_us: view.due_at_us,
            expires_at_us: view.expires_at_us,
            fault: view.fault,
            status: view.status,
            last_fault: view.last_fault,
            last_detail: view.last_detail,
            receiver_issues: view.receiver_issues,
            answer: view.answer,
            replay_of: view.replay_of,
            replayed_by: view.replayed_by,
            waits: view.waits,
        }
    }
}

/// Masks the URL of a callback, which may contain a password or a key.
fn without_secrets(kind: DeliveryKind) -> DeliveryKind {
    match kind {
        DeliveryKind::Callback { url } => DeliveryKind::Callback { url: SecretUrl::from(url.as_str()).to_string() },
        other => other,
    }
}

/// One event in the life of a message.
#[derive(Clone, Debug, Serialize)]
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
#[derive(Clone, Debug, Serialize)]
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

/// A replay and its progress.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    pub id: Uuid,
    pub filter: MessageFilter,
    pub to: Option<String>,
    pub rate_per_second: Option<u32>,
    pub forward_answers: bool,
    pub force_consequence: bool,
    pub state: ReplayState,
    pub created_at_us: i64,
    pub total: u64,
    pub done: u64,
    pub skipped: u64,
}

impl From<ReplayView> for Replay {
    fn from(view: ReplayView) -> Replay {
        let ReplayView { order, state, created_at_us, total, done, skipped } = view;
        Replay {
            id: order.id,
            filter: order.filter,
            to: order.to,
            rate_per_second: order.rate_per_second,
            forward_answers: order.forward_answers,
            force_consequence: order.force_consequence,
            state,
            created_at_us,
            total,
            done,
            skipped,
        }
    }
}

/// Figures of the store.
#[derive(Clone, Debug, Serialize)]
pub struct StoreFigures {
    pub now_us: i64,
    pub participants: Vec<ParticipantFigures>,
    pub messages: u64,
    pub commits: u64,
    pub operations: u64,
    pub free_bytes: Option<u64>,
    pub database_bytes: u64,
    pub log_bytes: u64,
}

/// Waiting and dead deliveries of one participant.
#[derive(Clone, Debug, Serialize)]
pub struct ParticipantFigures {
    pub participant: String,
    pub waiting: u64,
    pub dead: u64,
    pub lanes_blocked: u64,
    pub oldest_waiting_at_us: Option<i64>,
}

impl From<view::Figures> for StoreFigures {
    fn from(figures: view::Figures) -> StoreFigures {
        let view::Figures {
            now_us,
            participants,
            messages,
            commits,
            operations,
            free_bytes,
            database_bytes,
            log_bytes,
        } = figures;
        let participants = participants.into_iter().map(ParticipantFigures::from).collect();
        StoreFigures { now_us, participants, messages, commits, operations, free_bytes, database_bytes, log_bytes }
    }
}

impl From<view::ParticipantFigures> for ParticipantFigures {
    fn from(figures: view::ParticipantFigures) -> ParticipantFigures {
        let view::ParticipantFigures { participant, waiting, dead, lanes_blocked, oldest_waiting_at_us } = figures;
        ParticipantFigures { participant, waiting, dead, lanes_blocked, oldest_waiting_at_us }
    }
}

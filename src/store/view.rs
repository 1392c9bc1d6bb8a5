//! What the admin API reads and requests: filters, pages, timelines, replays, and figures.

use super::Unavailable;
use crate::delivery::{AttemptRow, DeliveryKind, DeliveryState, MessageState, Metadata, NewDelivery, ReplyTo};
use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::secret::SecretUrl;
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// The largest number of answers shown with a message, oldest first.
pub(super) const ANSWERS_SHOWN: u32 = 100;
/// From the request to the end of a search, including its wait for a connection.
pub(super) const SEARCH_MILLISECONDS: u64 = 10_000;
/// A search through an index with at most so many rows is short.
pub(super) const SHORT_ROWS: i64 = 10_000;

/// Why a list, a retry, or a replay fails.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ViewError {
    /// The caller must correct a time, a cursor, or an id. Names the field.
    #[error("{0}")]
    BadFilter(String),
    /// The search takes too long; the caller must narrow it.
    #[error(
        "the search was stopped after {} s: narrow it, with since and until to a shorter time, or with an id, a header or \
         bundle id, a fault, a source or a destination", .0.as_secs()
    )]
    TooLong(std::time::Duration),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Filters of message lists and replays: a message must match all that are given. Unknown fields are errors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageFilter {
    pub id: Option<Uuid>,
    pub header_id: Option<String>,
    pub bundle_id: Option<String>,
    /// `system|value` or a value.
    pub bundle_identifier: Option<String>,
    /// `system|code`, a code, or a uri.
    pub event: Option<String>,
    pub source: Option<String>,
    pub destination: Option<String>,
    /// Participant id of the sender.
    pub sender: Option<String>,
    pub state: Option<MessageState>,
    /// `ok`, `transient-error`, `fatal-error`: responses with this code.
    pub response_code: Option<String>,
    /// Responses that fit more than one request and are not assigned yet; false: all other messages.
    #[serde(deserialize_with = "flag")]
    pub ambiguous: Option<bool>,
    /// Responses to a request that had a first answer already; false: all other messages.
    #[serde(deserialize_with = "flag")]
    pub further: Option<bool>,
    /// RFC 3339; received at or after.
    pub since: Option<String>,
    /// RFC 3339; received before.
    pub until: Option<String>,
    pub fault: Option<String>,
    /// Issue code of the outcome.
    pub issue: Option<String>,
    /// Rule of the outcome, such as `MSG-04`.
    pub rule: Option<String>,
    /// Only messages that a replay takes; see `for_replay`. Not part of the API.
    #[serde(skip)]
    pub for_replay: bool,
}

/// A boolean, or its text as a query string has it.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "true or false")]
    enum Flag {
        Truth(bool),
        Text(Text),
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Text {
        True,
        False,
    }
    let flag = Option::<Flag>::deserialize(deserializer)?;
    Ok(flag.map(|flag| matches!(flag, Flag::Truth(true) | Flag::Text(Text::True))))
}

impl MessageFilter {
    /// The same filter, limited to what can be replayed: accepted messages, and answers only if the filter names an id or a
    /// response code. A filter that matches requests and answers means the requests.
    pub fn for_replay(&self) -> MessageFilter {
        MessageFilter { for_replay: true, ..self.clone() }
    }

    pub(super) fn includes_answers(&self) -> bool {
        self.id.is_some() || self.response_code.is_some()
    }
}

/// The time of a filter in UTC microseconds since 1970. Errs with a text that names the field.
pub(super) fn time_us(text: &str, field: &str) -> Result<i64, String> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| time.as_microsecond())
        .map_err(|_| format!("{field}: {text:?} is not a time with a zone, such as 2026-01-31T08:00:00Z"))
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryFilter {
    pub id: Option<Uuid>,
    pub message: Option<Uuid>,
    pub participant: Option<String>,
    pub state: Option<DeliveryState>,
    pub event: Option<String>,
    pub fault: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
}

/// A page of a list, newest first. `next` is the cursor of the following page, absent on the last.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// The largest page of a list.
pub(super) const PAGE_LIMIT: u32 = 1000;
/// A page ends after so many bytes, whatever limit the caller gave; it has at least one row.
pub(super) const PAGE_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// The key in a cursor.
pub(super) fn key_of(cursor: Option<&str>) -> Result<Option<i64>, ViewError> {
    let read = |cursor: &str| {
        cursor.parse().map_err(|_| ViewError::BadFilter(format!("cursor: {cursor:?} is not a valid cursor")))
    };
    cursor.map(read).transpose()
}

/// Metadata as lists show it: a callback without its secrets.
pub(super) fn shown(mut metadata: Arc<Metadata>) -> Arc<Metadata> {
    if let ReplyTo::Callback(url) = &metadata.reply_to {
        let shown = SecretUrl::from(url.as_str()).to_string();
        Arc::make_mut(&mut metadata).reply_to = ReplyTo::Callback(shown);
    }
    metadata
}

#[derive(Clone, Debug)]
pub struct MessageView {
    pub metadata: Arc<Metadata>,
    pub state: MessageState,
    /// It fits more than one request and is not assigned yet.
    pub ambiguous: bool,
    /// Its request had a first answer already.
    pub further: bool,
    pub committed_at_us: i64,
    pub outcome: Option<Outcome>,
    pub body_kept: bool,
}

#[derive(Clone, Debug)]
pub struct DeliveryView {
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
    /// Why the last attempt failed, or a warning about it; also for a delivery that expired.
    pub last_fault: Option<Fault>,
    /// The same in a sentence without content.
    pub last_detail: Option<String>,
    /// Errors that the receiver reported about a message that it accepted, as FHIR issues. For operators only.
    pub receiver_issues: Vec<serde_json::Value>,
    /// Public id of the answer.
    pub answer: Option<Uuid>,
    /// For a replay: the delivery that it repeats; for an original: the deliveries that repeat it.
    pub replay_of: Option<Uuid>,
    pub replayed_by: Vec<Uuid>,
    /// Why it waits, in one sentence, if it does; not stored.
    pub waits: Option<String>,
}

/// The first delivery of a lane, which the others wait for.
#[derive(Clone, Debug)]
pub struct FirstInLane {
    pub id: Uuid,
    pub attempts: u32,
    /// UTC microseconds since 1970; 0: due now.
    pub due_at_us: i64,
}

/// One event in the life of a message.
#[derive(Clone, Debug)]
pub struct TimelineEntry {
    pub at_us: i64,
    /// `received`, `checked`, `planned`, `committed`, `attempt`, `answered`, `dead`, `discarded`, `replayed`, `unreadable` (an
    /// answer that cannot be read).
    pub what: String,
    pub delivery: Option<Uuid>,
    pub participant: Option<String>,
    pub attempt: Option<AttemptRow>,
    /// The answer's, the replay's, or the refused message's id.
    pub reference: Option<Uuid>,
}

/// The largest number of attempts shown per message; a delivery that is retried for days has hundreds.
pub(super) const ATTEMPTS_SHOWN: u32 = 10_000;
pub(super) const UNREADABLE_SHOWN: u32 = 1_000;

impl TimelineEntry {
    /// What the row of a message says.
    pub(super) fn steps(metadata: &Metadata, committed_us: i64) -> Vec<TimelineEntry> {
        let steps = [
            (Some(metadata.received_at_us), "received"),
            (metadata.checked_at_us, "checked"),
            (metadata.planned_at_us, "planned"),
            (Some(committed_us), "committed"),
        ];
        steps.into_iter().filter_map(|(at_us, what)| Some(TimelineEntry::new(at_us?, what))).collect()
    }

    pub(super) fn new(at_us: i64, what: &str) -> Self {
        TimelineEntry {
            at_us,
            what: what.to_owned(),
            delivery: None,
            participant: None,
            attempt: None,
            reference: None,
        }
    }
}

/// A replay as requested.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewReplay {
    pub id: Uuid,
    pub filter: MessageFilter,
    /// Participant id; None: to the receivers of the original deliveries.
    pub to: Option<String>,
    pub rate_per_second: Option<u32>,
    pub forward_answers: bool,
    pub force_consequence: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayState {
    Running,
    Paused,
    Done,
    Stopped,
}

#[derive(Clone, Debug)]
pub struct ReplayView {
    pub order: NewReplay,
    pub state: ReplayState,
    pub created_at_us: i64,
    /// Messages that matched when it was created; later messages are not part of it.
    pub total: u64,
    /// Messages delivered again.
    pub done: u64,
    /// Messages skipped, such as those of category consequence.
    pub skipped: u64,
}

/// The next message of a replay.
#[derive(Clone, Debug)]
pub struct ReplayCandidate {
    pub message_key: i64,
    pub metadata: Arc<Metadata>,
    /// Whether its content is still stored.
    pub body_kept: bool,
    /// Its deliveries, without replays.
    pub originals: Vec<DeliveryView>,
}

/// The new deliveries of one message of a replay; none if the replay skips the message.
#[derive(Clone, Debug)]
pub struct ReplayTurn {
    pub message_key: i64,
    pub metadata: Arc<Metadata>,
    pub deliveries: Vec<NewDelivery>,
}

/// What a retention step deleted: bodies, whole messages with their deliveries and attempts, identities.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RetentionStep {
    pub bodies: u64,
    pub traces: u64,
    pub identities: u64,
    /// Rows of references that were changed later than their messages.
    pub references: u64,
    /// The step ended at its bound, and further messages are old, though perhaps protected.
    pub more: bool,
    /// Nothing was accepted or settled since the step before, as far as the store counts that.
    pub is_alone: bool,
    /// Bytes that the store had above its limit before the step.
    pub excess_bytes: u64,
    /// Microseconds that the step took before its commit: in proportion to what it looked at and deleted.
    pub work_us: u64,
    /// Microseconds for which accepts and settlements waited for the step, its commit included.
    pub busy_us: u64,
}

impl RetentionStep {
    pub fn has_deleted(&self) -> bool {
        self.bodies + self.traces + self.identities + self.references > 0
    }

    /// Nothing was deleted, and nothing more is old enough.
    pub fn is_done(&self) -> bool {
        !self.has_deleted() && !self.more
    }
}

/// Figures of the store.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// By the store's clock, in UTC microseconds since 1970.
    pub now_us: i64,
    pub participants: Vec<ParticipantFigures>,
    /// Messages stored since the store was created, including answers.
    pub messages: u64,
    /// Transactions since the start, and the accepts and settlements that they committed.
    pub commits: u64,
    pub operations: u64,
    pub free_bytes: Option<u64>,
    pub database_bytes: u64,
    /// The write-ahead log.
    pub log_bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct ParticipantFigures {
    pub participant: String,
    pub waiting: u64,
    pub dead: u64,
    /// Ordered lanes whose first delivery failed and waits for its next attempt.
    pub lanes_blocked: u64,
    /// When the oldest waiting delivery was stored, in UTC microseconds since 1970; None if none waits.
    pub oldest_waiting_at_us: Option<i64>,
}

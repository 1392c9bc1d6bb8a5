//! What the exchange is given: messages as channels received them, and the rules and settings that apply to them.

use crate::admission::Permit;
use crate::delivery::ReplyQueue;
use crate::routing::Table;
use crate::turn::Turn;
use bytes::Bytes;
use fhir::FhirVersion;
use fhir::header::Bounds;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use validation::definition::Definitions;
use validation::{Checks, OnFailure};

/// A message as a channel received it: without the transport's encoding, and not parsed yet.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub bytes: Bytes,
    /// Media type without parameters.
    pub media_type: String,
    /// The `fhirVersion` parameter of the media type (VER-04).
    pub said_version: Option<FhirVersion>,
    /// Id of the participant whose credential was used; None without credentials.
    pub credential: Option<Arc<str>>,
    /// `Via` as received.
    pub via: Option<String>,
    pub request_id: String,
    pub answer_mode: AnswerMode,
    /// How long its deliveries are useful, if the sender said so (AMQP `expiration`).
    pub expires_after: Option<Duration>,
    /// UTC microseconds since 1970.
    pub received_at_us: i64,
    /// Canceled when the sender has disconnected and can no longer receive the answer.
    pub gone: CancellationToken,
}

/// How the sender receives the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerMode {
    /// In the response to its HTTP request, within `answer_timeout_ms`.
    Synchronous,
    /// `async=true`: POSTed to the `response-url`, else to the source's channel.
    Asynchronous { response_url: Option<String> },
    /// `Prefer: respond-async`.
    StatusUrl,
    /// AMQP: published. `redelivered`: the broker delivers the message again, so its answer may be on the way already.
    ReplyQueue { reply: ReplyQueue, redelivered: bool },
}

impl Inbound {
    /// Whether it came over AMQP. Such a sender learns the outcome from messages only: there is no status code, and a
    /// message that is acknowledged and not stored is lost.
    pub(super) fn is_from_queue(&self) -> bool {
        matches!(self.answer_mode, AnswerMode::ReplyQueue { .. })
    }
}

/// What a message occupies until it is stored: its share of the admission limits, and its turn among ordered messages.
#[derive(Default)]
pub struct IntakeSlot {
    pub permit: Option<Permit>,
    pub turn: Turn,
}

/// What a reload (SIGHUP) replaces as a whole.
pub struct Rules {
    pub table: Table,
    pub definitions: Definitions,
    pub checks: Checks,
    /// Whether any credential is configured: then only the participant that received a request may answer it.
    pub requires_credentials: bool,
    /// For senders whose participant does not set it.
    pub on_failure: OnFailure,
}

/// What does not change while the router runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub base_url: String,
    /// Our name in `Via`.
    pub name: String,
    pub answer_timeout: Duration,
    /// How many senders may wait for answers at a time.
    pub max_waiting: usize,
    /// `server.fhir_version`: for messages that do not say their version.
    pub fhir_version: FhirVersion,
    /// Limits of what is read from a header, routed on, and stored.
    pub bounds: Bounds,
}

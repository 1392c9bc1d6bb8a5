//! The possible replies to an inbound message, before a channel turns them into a status and headers.

use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome, Severity};
use crate::store::Unavailable;
use bytes::Bytes;
use fhir::FhirVersion;
use uuid::Uuid;

/// The reply to one inbound message. `id`: Emberpost's id of this message; of a duplicate, the id of the original.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The answer message.
    Answer {
        id: Uuid,
        bytes: Bytes,
        media_type: String,
        version: Option<FhirVersion>,
        /// Its content is not as its sender wrote it (MSG-123).
        converted: bool,
        duplicate: bool,
        /// The fault, if the answer says that Emberpost refused the message.
        refused: Option<Fault>,
    },
    /// The receiver accepted the message and sent no answer message. `accepted`: with status 202.
    Taken { id: Uuid, accepted: bool, duplicate: bool },
    /// The message is stored, with a status URL. `preferred`: as `Prefer: respond-async` asked.
    Custody { id: Uuid, preferred: bool, duplicate: bool },
    /// The message is stored, and no answer is owed.
    Acceptance { id: Uuid, duplicate: bool },
    /// The message is stored, and there is nothing to report: `async=true`, and responses.
    Done { id: Uuid, duplicate: bool },
    Refused {
        id: Uuid,
        refusal: Refusal,
        outcome: Outcome,
        /// Of a duplicate: the receiver's answer to the original, reported by status again.
        duplicate: bool,
    },
}

/// Why a message is refused, which decides how a channel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Unreadable, not a message, without usable source or identity, or an invalid request.
    BadRequest,
    /// The sender lacks the permission.
    Forbidden,
    /// The message is invalid or cannot be routed.
    Unprocessable,
    /// The identity was used before with other content.
    Conflict,
    /// The store is full: the sender may try again later.
    NoStore,
    /// The store cannot be reached: the sender may try again later.
    Unavailable,
    /// A stored row that the reply depends on cannot be read.
    Damaged,
}

impl Refusal {
    /// Whether the refused message is stored with its outcome: not for unauthorized senders, and not if the store failed.
    pub fn is_stored(self) -> bool {
        matches!(self, Self::BadRequest | Self::Unprocessable)
    }
}

pub(in crate::exchange) fn first_fault(outcome: &Outcome) -> Option<Fault> {
    outcome.issues.iter().find(|issue| issue.is_error()).map(|issue| issue.cause)
}

/// What a sender reads whose message is in custody.
pub fn custody_outcome() -> Outcome {
    let text = "The message is stored and on its way; its answer will be at the address in Content-Location";
    Issue::new(Severity::Information, IssueCode::Informational, Fault::RouteCustody, text).into()
}

impl Reply {
    pub fn id(&self) -> Uuid {
        match self {
            Reply::Answer { id, .. }
            | Reply::Taken { id, .. }
            | Reply::Custody { id, .. }
            | Reply::Acceptance { id, .. }
            | Reply::Done { id, .. }
            | Reply::Refused { id, .. } => *id,
        }
    }

    pub fn is_duplicate(&self) -> bool {
        match self {
            Reply::Answer { duplicate, .. }
            | Reply::Taken { duplicate, .. }
            | Reply::Custody { duplicate, .. }
            | Reply::Acceptance { duplicate, .. }
            | Reply::Done { duplicate, .. }
            | Reply::Refused { duplicate, .. } => *duplicate,
        }
    }

    /// The label of metrics and logs.
    pub fn result(&self) -> &'static str {
        match self {
            Reply::Refused { refusal: Refusal::Conflict, .. } => "conflict",
            Reply::Refused { .. } | Reply::Answer { refused: Some(_), .. } => "refused",
            _ if self.is_duplicate() => "repeat",
            _ => "accepted",
        }
    }

    pub fn first_fault(&self) -> Option<Fault> {
        match self {
            Reply::Refused { outcome, .. } => first_fault(outcome),
            Reply::Answer { refused, .. } => *refused,
            _ => None,
        }
    }

    /// The reply if the store fails.
    pub(in crate::exchange) fn unavailable(id: Uuid, unavailable: &Unavailable) -> Self {
        let (refusal, code, text) = match unavailable {
            Unavailable::Full(_) => (Refusal::NoStore, IssueCode::NoStore, "The store has no room; send again later"),
            Unavailable::Away(_) => {
                (Refusal::Unavailable, IssueCode::Transient, "The store cannot be reached; send again later")
            }
            Unavailable::Damaged(_) => (
                Refusal::Damaged,
                IssueCode::Exception,
                "A stored row cannot be read; inform the operator, and send again later",
            ),
        };
        tracing::warn!(message.id = %id, reason = %unavailable, "the store refused");
        let outcome = Issue::error(code, Fault::RouteNoStore, text).into();
        Reply::Refused { id, refusal, outcome, duplicate: false }
    }
}

//! Deliveries.

use crate::delivery::{DeliveryKind, DeliveryState};
use crate::fault::Fault;
use crate::secret::SecretUrl;
use crate::store::view::DeliveryView;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One message due to one participant.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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

/// The result of an action on many deliveries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ordered {
    /// How many deliveries matched when it began.
    pub matched: u64,
    /// How many were processed: at most 10,000 per request.
    pub done: u64,
}

//! How a delivery is settled after an attempt, and what the store made of it.

use super::{DeliveryState, NewMessage, PendingDelivery};
use crate::fault::Fault;
use crate::nodes::NodeKey;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

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
    /// The receiver accepted the message and will not answer: nobody needs to wait any more. An answer ends waits in any case.
    pub ends_waits: bool,
    /// The lease under which the attempt began; None where a store belongs to one node.
    pub lease: Option<HeldLease>,
}

/// The lease of a participant queue.
#[derive(Clone, Debug)]
pub struct HeldLease {
    pub participant: Arc<str>,
    pub epoch: i64,
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
    /// Another node has taken the queue of the participant since the attempt began, so that a failure was not recorded.
    pub is_stale: bool,
    /// Nodes on which senders wait for this answer.
    pub woken: Vec<NodeKey>,
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

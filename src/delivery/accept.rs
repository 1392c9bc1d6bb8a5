//! A message with its deliveries, as it is given to the store, and what the store made of it.

use super::{DeliveryKind, MessageState, Metadata, PendingDelivery};
use crate::nodes::NodeKey;
use crate::outcome::Outcome;
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

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
    /// The sender waits on this node for the answer.
    pub is_awaited: bool,
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
        /// Nodes on which senders wait for this answer.
        woken: Vec<NodeKey>,
        /// Key of the delivery whose answer the sender waits for.
        awaited: Option<i64>,
    },
    /// The same identity and content are stored (MSG-61, MSG-62): the public id of the first message.
    Duplicate { message_id: Uuid },
    /// The same identity is stored with other content (409): the public id of the first message.
    Conflict { message_id: Uuid },
}

impl Acceptance {
    /// Key of the delivery whose answer the sender waits for.
    pub fn awaited(&self) -> Option<i64> {
        match self {
            Acceptance::New { awaited, .. } => *awaited,
            Acceptance::Duplicate { .. } | Acceptance::Conflict { .. } => None,
        }
    }
}

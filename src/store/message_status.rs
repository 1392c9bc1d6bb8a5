//! What replies to a sender need: the status of a message, its body, and the deliveries that a response may answer.

use super::Store;
use super::Unavailable;
use super::backend::on_backend;
use crate::delivery::{DeliveryState, MessageState, Metadata, PendingDelivery};
use crate::fault::Fault;
use crate::outcome::Outcome;
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

/// The state of one message, as replies to its sender and the status URL need it.
#[derive(Clone, Debug)]
pub struct MessageStatus {
    pub message_key: i64,
    pub metadata: Arc<Metadata>,
    pub state: MessageState,
    pub outcome: Option<Outcome>,
    /// Deliveries of kind Request, in the plan's order.
    pub deliveries: Vec<DeliveryStatus>,
    /// Key of the answer that Emberpost wrote itself, if it was the receiver or refused the message.
    pub router_answer: Option<i64>,
    /// The sender ended the status URL with DELETE.
    pub status_ended: bool,
}

#[derive(Clone, Debug)]
pub struct DeliveryStatus {
    pub key: i64,
    pub id: Uuid,
    pub participant: String,
    pub state: DeliveryState,
    /// HTTP status of the last attempt.
    pub status: Option<u16>,
    pub fault: Option<Fault>,
    /// Key of the answer, once there is one.
    pub answer: Option<i64>,
    /// Issues that the receiver reported when it accepted the message: a JSON array.
    pub receiver_issues: Option<String>,
}

/// A delivery of a request that a response of its receiver may answer.
#[derive(Clone, Debug)]
pub struct SentRequest {
    pub delivery: PendingDelivery,
    pub answered: bool,
    /// SHA-256 of the request's content, which is the same for a duplicate.
    pub content: [u8; 32],
}

/// The deliveries of requests with an identifier, newest first.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    pub deliveries: Vec<SentRequest>,
    /// There may be more: so many messages use the identifier that not all were read.
    pub is_cut: bool,
}

/// The number of messages with an identifier, and of their deliveries to one receiver, that are read: an identifier that is
/// used more often identifies none of them.
pub(super) const USERS_LIMIT: usize = 10_000;
pub(super) const CANDIDATES_LIMIT: usize = 256;

impl Candidates {
    /// Of `deliveries`, newest first and one more than the limit if there are more, those of requests that the identifier names.
    /// A hash has found them.
    pub(super) fn new(mut deliveries: Vec<SentRequest>, has_too_many_users: bool, identifier: &str) -> Candidates {
        let is_cut = has_too_many_users || deliveries.len() > CANDIDATES_LIMIT;
        deliveries.truncate(CANDIDATES_LIMIT);
        deliveries.retain(|request| request.delivery.metadata.is_named_by(identifier) && request.is_request());
        Candidates { deliveries, is_cut }
    }
}

impl SentRequest {
    /// A response is never answered (MSG-41), also if it is replayed.
    pub(super) fn is_request(&self) -> bool {
        self.delivery.metadata.response.is_none()
    }
}

impl Store {
    /// Everything a reply needs; None for an id that is not stored.
    pub async fn message_status(&self, message_id: Uuid) -> Result<Option<MessageStatus>, Unavailable> {
        on_backend!(self, backend => backend.message_status(message_id).await)
    }

    /// The body as received, and its metadata; None if retention deleted it.
    pub async fn content(&self, message_key: i64) -> Result<Option<(Arc<Metadata>, Bytes)>, Unavailable> {
        on_backend!(self, backend => backend.content(message_key).await)
    }

    /// The deliveries to `participant` of requests with this `identifier` (header id, Bundle id, Bundle
    /// identifier value, or the UUID of the header's fullUrl, with and without `urn:uuid:`), newest first, at most 256.
    pub async fn sent_requests(&self, participant: &str, identifier: &str) -> Result<Candidates, Unavailable> {
        on_backend!(self, backend => backend.sent_requests(participant, identifier).await)
    }

    /// The deliveries of this request to `participant`, newest first, at most 256.
    pub async fn sent_requests_of(&self, participant: &str, message_id: Uuid) -> Result<Vec<SentRequest>, Unavailable> {
        on_backend!(self, backend => backend.sent_requests_of(participant, message_id).await)
    }
}

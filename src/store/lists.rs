//! Lists, single rows, timelines, and figures for the admin API. Read-only.

use super::Store;
use super::Unavailable;
use super::backend::on_backend;
use super::view::{DeliveryFilter, DeliveryView, Figures, MessageFilter, MessageView, Page, TimelineEntry, ViewError};
use crate::delivery::{DeliveryState, PendingDelivery};
use crate::outcome::Outcome;
use uuid::Uuid;

impl Store {
    /// A page of messages, newest first, at most `limit` (1 to 1000). `cursor` is `next` of the page before; messages
    /// that arrive meanwhile come before the first page and shift nothing.
    pub async fn list_messages(
        &self,
        filter: &MessageFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<MessageView>, ViewError> {
        on_backend!(self, backend => backend.list_messages(filter, cursor, limit).await)
    }

    pub async fn count_messages(&self, filter: &MessageFilter) -> Result<u64, ViewError> {
        on_backend!(self, backend => backend.count_messages(filter).await)
    }

    pub async fn message(&self, id: Uuid) -> Result<Option<MessageView>, Unavailable> {
        on_backend!(self, backend => backend.message(id).await)
    }

    /// The messages that answer this one, first and further answers and those to replays, oldest first; at most 100.
    pub async fn answers_to(&self, id: Uuid) -> Result<Vec<MessageView>, Unavailable> {
        on_backend!(self, backend => backend.answers_to(id).await)
    }

    /// The outcome of a message with what it quotes of the message, for its sender and operators; None once the body is
    /// deleted, and if it quotes nothing.
    pub async fn full_outcome(&self, id: Uuid) -> Result<Option<Outcome>, Unavailable> {
        on_backend!(self, backend => backend.full_outcome(id).await)
    }

    pub async fn message_key(&self, id: Uuid) -> Result<Option<i64>, Unavailable> {
        on_backend!(self, backend => backend.message_key(id).await)
    }

    /// A page of deliveries, newest first, as `list_messages`. No row has the state `active`: only the courier knows which are.
    pub async fn list_deliveries(
        &self,
        filter: &DeliveryFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<DeliveryView>, ViewError> {
        on_backend!(self, backend => backend.list_deliveries(filter, cursor, limit).await)
    }

    pub async fn count_deliveries(&self, filter: &DeliveryFilter) -> Result<u64, ViewError> {
        on_backend!(self, backend => backend.count_deliveries(filter).await)
    }

    /// All deliveries of a message, in the order in which they were created.
    pub async fn deliveries_of(&self, message_id: Uuid) -> Result<Vec<DeliveryView>, Unavailable> {
        on_backend!(self, backend => backend.deliveries_of(message_id).await)
    }

    /// One delivery as the courier holds it, without its body, and its state.
    pub async fn pending_delivery(
        &self,
        delivery_id: Uuid,
    ) -> Result<Option<(PendingDelivery, DeliveryState)>, Unavailable> {
        on_backend!(self, backend => backend.pending_delivery(delivery_id).await)
    }

    /// Participants that an operator paused.
    pub async fn paused(&self) -> Result<Vec<String>, Unavailable> {
        on_backend!(self, backend => backend.paused().await)
    }

    pub async fn figures(&self) -> Result<Figures, Unavailable> {
        on_backend!(self, backend => backend.figures().await)
    }

    /// What happened to a message, oldest first. Empty for an id that is not stored.
    pub async fn timeline(&self, message_id: Uuid) -> Result<Vec<TimelineEntry>, Unavailable> {
        on_backend!(self, backend => backend.timeline(message_id).await)
    }
}

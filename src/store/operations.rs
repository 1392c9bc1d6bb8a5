//! Operator commands: retry dead letters, pause participants, end a status URL, replay, confirm the clock, back up.

use super::Store;
use super::backend::on_backend;
use super::view::{DeliveryFilter, NewReplay, ReplayCandidate, ReplayState, ReplayTurn, ReplayView, ViewError};
use super::{OpenError, Unavailable};
use crate::delivery::{NewDelivery, PendingDelivery};
use std::path::Path;
use uuid::Uuid;

impl Store {
    /// Sets dead or discarded deliveries that match to waiting, due now, at the end of their lane in their old order; at most
    /// `limit` (and 10,000), oldest first. Deliveries whose body is no longer stored stay as they are. Earlier attempts stay
    /// recorded but no longer count toward schedule and limit. `expire_us` returns how long the deliveries of a participant id
    /// are attempted, in microseconds from now. Returns the deliveries without bodies.
    pub async fn retry(
        &self,
        filter: &DeliveryFilter,
        limit: u32,
        expire_us: impl Fn(&str) -> i64,
    ) -> Result<Vec<PendingDelivery>, ViewError> {
        on_backend!(self, backend => backend.retry(filter, limit, expire_us).await)
    }

    /// Stores whether a participant is paused.
    pub async fn set_paused(&self, participant: &str, paused: bool) -> Result<(), Unavailable> {
        on_backend!(self, backend => backend.set_paused(participant, paused).await)
    }

    /// Ends the status URL of a message; false if the message is not stored.
    pub async fn end_status(&self, message_id: Uuid) -> Result<bool, Unavailable> {
        on_backend!(self, backend => backend.end_status(message_id).await)
    }

    /// Stores a new running replay of the accepted messages that match and are stored now.
    pub async fn create_replay(&self, order: &NewReplay) -> Result<ReplayView, ViewError> {
        on_backend!(self, backend => backend.create_replay(order).await)
    }

    pub async fn replay(&self, id: Uuid) -> Result<Option<ReplayView>, Unavailable> {
        on_backend!(self, backend => backend.replay(id).await)
    }

    /// Replays that are running or paused, oldest first, at most 1000.
    pub async fn open_replays(&self) -> Result<Vec<ReplayView>, Unavailable> {
        on_backend!(self, backend => backend.open_replays().await)
    }

    /// Changes the state of a replay that is running or paused; false if there is no such replay.
    pub async fn set_replay_state(&self, id: Uuid, state: ReplayState) -> Result<bool, Unavailable> {
        on_backend!(self, backend => backend.set_replay_state(id, state).await)
    }

    /// The next messages of a replay, in the order in which they were stored, at most `limit`. Empty when it is complete.
    pub async fn replay_candidates(&self, id: Uuid, limit: u32) -> Result<Vec<ReplayCandidate>, ViewError> {
        on_backend!(self, backend => backend.replay_candidates(id, limit).await)
    }

    /// Adds the deliveries of the next messages of a replay and advances its cursor, in one transaction. Does nothing, and
    /// returns nothing, if the replay is not running or its cursor is already past the first of them. Returns the deliveries
    /// without bodies.
    pub async fn replay_deliver(&self, id: Uuid, turns: Vec<ReplayTurn>) -> Result<Vec<PendingDelivery>, Unavailable> {
        on_backend!(self, backend => backend.replay_deliver(id, turns).await)
    }

    /// Adds one more delivery of a stored message, unless the message was deleted. Returns it without its body.
    pub async fn deliver_again(
        &self,
        message_key: i64,
        delivery: NewDelivery,
    ) -> Result<Vec<PendingDelivery>, Unavailable> {
        on_backend!(self, backend => backend.deliver_again(message_key, delivery).await)
    }

    /// Accepts the wall clock as right because an operator confirmed it: expiry and retention continue.
    pub async fn confirm_clock(&self) -> Result<(), Unavailable> {
        on_backend!(self, backend => backend.confirm_clock().await)
    }

    /// Copies this store to a new file. Errs if the file exists.
    pub async fn backup(&self, to: &Path) -> Result<(), OpenError> {
        on_backend!(self, backend => backend.backup(to).await)
    }
}

//! What the courier reads and changes: lanes with waiting deliveries, the deliveries of a lane, those that came due, and those
//! that expired. Only the courier knows which of them are active.
//!
//! `bypassing_only`: only answers that do not use the participant's channel (callbacks, reply queues), which are delivered to
//! participants without a channel, too. An index skips what waits for the reader of a mailbox.

use super::Store;
use super::Unavailable;
use super::backend::on_backend;
use super::participants::ParticipantKeys;
use super::view::FirstInLane;
use crate::delivery::PendingDelivery;
use std::collections::HashMap;
use uuid::Uuid;

/// A lane with waiting deliveries, and the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneHead {
    pub lane: i64,
    pub seq: i64,
    /// UTC microseconds since 1970; 0: due now.
    pub due_at_us: i64,
    /// It is a callback or goes to a reply queue.
    pub bypasses_channel: bool,
}

/// What came due, in order of due time.
#[derive(Clone, Debug)]
pub struct DuePage<T> {
    pub items: Vec<T>,
    /// The next due time; None while more may be due now.
    pub next_due_at_us: Option<i64>,
    /// More may be due now.
    pub more: bool,
}

impl<T> DuePage<T> {
    /// What at most `limit` rows show, and when the next delivery is due after them.
    pub(super) fn new(items: Vec<T>, next: Option<i64>, limit: u32) -> DuePage<T> {
        let more = items.len() >= limit as usize;
        DuePage { items, next_due_at_us: next.filter(|_| !more), more }
    }
}

/// The longest wait of a delivery to a participant that is not configured: one day, in microseconds.
const LONGEST_UNCONFIGURED_WAIT_US: i64 = 86_400_000_000;

/// The keys of all participants, and the latest time that a delivery of each may wait for. `pauses_us`: by participant id.
pub(super) fn latest_due_times(
    participants: &ParticipantKeys,
    pauses_us: &HashMap<String, i64>,
    now_us: i64,
) -> (Vec<i64>, Vec<i64>) {
    let pause_us = |id: &str| pauses_us.get(id).copied().unwrap_or(LONGEST_UNCONFIGURED_WAIT_US);
    participants.iter().map(|(id, key)| (*key, now_us.saturating_add(pause_us(id)))).unzip()
}

impl Store {
    /// Lanes of a participant that have waiting deliveries, in key order after `after`, at most `limit`. Without the lane
    /// "no order".
    pub async fn lanes(
        &self,
        participant: &str,
        after: Option<i64>,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<Vec<LaneHead>, Unavailable> {
        on_backend!(self, backend => backend.lanes(participant, after, bypassing_only, limit).await)
    }

    /// Waiting deliveries of one lane in order after `after_seq`, at most `limit`, without bodies. In the lane "no order" (0)
    /// only those that are due now (`due_us` 0): `due_unordered` finds the others.
    pub async fn lane_deliveries(
        &self,
        participant: &str,
        lane: i64,
        after_seq: i64,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<Vec<PendingDelivery>, Unavailable> {
        on_backend!(self, backend => backend.lane_deliveries(participant, lane, after_seq, bypassing_only, limit).await)
    }

    /// Lanes (without "no order") in which a delivery waits for a time up to `through_us`: after the (time, `seq`) of `after`,
    /// at most `limit`, each with that delivery, which need not be the first of its lane.
    pub async fn due_lanes(
        &self,
        participant: &str,
        after: (i64, i64),
        through_us: i64,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<DuePage<LaneHead>, Unavailable> {
        on_backend!(self, backend => backend.due_lanes(participant, after, through_us, bypassing_only, limit).await)
    }

    /// Deliveries of the lane "no order" that wait for a time up to `through_us`, as `due_lanes`. Without bodies.
    pub async fn due_unordered(
        &self,
        participant: &str,
        after: (i64, i64),
        through_us: i64,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<DuePage<PendingDelivery>, Unavailable> {
        on_backend!(self, backend => backend.due_unordered(participant, after, through_us, bypassing_only, limit).await)
    }

    /// Waiting deliveries that expired before `now_us`, also those of mailboxes, at most `limit`, oldest first. Empty while the
    /// clock may be wrong.
    pub async fn expired(&self, now_us: i64, limit: u32) -> Result<Vec<PendingDelivery>, Unavailable> {
        on_backend!(self, backend => backend.expired(now_us, limit).await)
    }

    /// Moves every waiting delivery that is due later than its participant's longest pause from now to that time: later times
    /// were written while the clock ran ahead. `pauses_us` holds the pauses in microseconds, by participant id. Returns the
    /// number of deliveries changed.
    pub async fn limit_waits(&self, pauses_us: HashMap<String, i64>) -> Result<u64, Unavailable> {
        on_backend!(self, backend => backend.limit_waits(pauses_us).await)
    }

    /// Makes a waiting delivery due now. False if it does not wait.
    pub async fn make_due(&self, delivery_key: i64) -> Result<bool, Unavailable> {
        on_backend!(self, backend => backend.make_due(delivery_key).await)
    }

    /// For each of these deliveries that waits behind another one in its lane: the first delivery of that lane.
    pub async fn first_in_lane(&self, deliveries: &[Uuid]) -> Result<HashMap<Uuid, FirstInLane>, Unavailable> {
        on_backend!(self, backend => backend.first_in_lane(deliveries).await)
    }
}

//! An operator's retry: dead and discarded deliveries wait again, at the end of their lanes and in their old order.

use super::stored::{LaneId, Tails};
use crate::delivery::{DeliveryState, PendingDelivery};
use crate::routing::lane::UNORDERED;
use std::collections::{HashMap, HashSet};

/// The largest number of deliveries that one retry puts back.
pub(super) const RETRY_LIMIT: u32 = 10_000;

/// Deliveries that are still dead or discarded, each with the key of its participant and its state.
pub(super) type Ended = HashMap<i64, (i64, DeliveryState)>;

/// The ordered lanes that get deliveries.
pub(super) fn lanes(deliveries: &[PendingDelivery], ended: &Ended) -> HashSet<LaneId> {
    deliveries.iter().filter_map(|delivery| lane(delivery, ended)).collect()
}

fn lane(delivery: &PendingDelivery, ended: &Ended) -> Option<LaneId> {
    let (participant_key, _) = ended.get(&delivery.delivery_key)?;
    (delivery.lane != UNORDERED).then_some((*participant_key, delivery.lane))
}

/// Gives each of these deliveries its new place. Earlier attempts no longer count.
pub(super) fn append(
    deliveries: &mut [PendingDelivery],
    ended: &Ended,
    mut tails: Tails,
    mut next_seq: impl FnMut() -> i64,
) {
    for delivery in deliveries {
        delivery.seq = next_seq();
        delivery.prev_seq = lane(delivery, ended).and_then(|lane| tails.insert(lane, delivery.seq));
        delivery.due_at_us = 0;
        delivery.uncounted_attempts = delivery.attempts;
    }
}

//! The expiry sweep: gives up deliveries that expired while they waited, even those of a paused participant or of one
//! that has no queue.

use super::super::backlog::SWEEP_PAGE;
use super::super::breaker::Moment;
use super::{Actor, TaskReport};
use crate::delivery::PendingDelivery;
use crate::store::Unavailable;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

pub(super) const SWEEP_SECONDS: u64 = 1;
/// Between two sweeps while there are more expired deliveries than one sweep takes.
const SWEEP_MIN_MILLISECONDS: u64 = 20;

/// The state of the expiry sweep.
pub(super) struct Sweep {
    pub next: Instant,
    pub reading: bool,
    /// Delivery keys of those being given up now.
    pub giving_up: HashSet<i64>,
    /// The first delivery of the last page. If it comes again, the store is not settling them, and the sweep slows
    /// down.
    pub last_first: Option<i64>,
}

impl Actor {
    pub(super) fn sweeping(&self) -> bool {
        self.sweep.reading || !self.sweep.giving_up.is_empty()
    }

    pub(super) fn sweep_if_due(&mut self, at: Moment) {
        if self.sweeping() || self.sweep.next > at.now {
            return;
        }
        self.sweep.reading = true;
        self.sweep.next = at.now + Duration::from_secs(SWEEP_SECONDS);
        let backlog = self.backlog.clone();
        self.tasks.spawn(async move { TaskReport::Expired(backlog.expired(at.now_us, SWEEP_PAGE).await) });
    }

    /// Gives up the expired deliveries of one page. Those with an active attempt are skipped: the attempt's end
    /// decides.
    pub(super) fn expired(&mut self, deliveries: Result<Vec<PendingDelivery>, Unavailable>) {
        self.sweep.reading = false;
        let deliveries = match deliveries {
            Ok(deliveries) => deliveries,
            Err(error) => {
                tracing::warn!(%error, "cannot read expired deliveries; retrying soon");
                return;
            }
        };
        let now = Instant::now();
        let first = deliveries.first().map(|delivery| delivery.delivery_key);
        if deliveries.len() >= SWEEP_PAGE as usize && first != self.sweep.last_first {
            self.sweep.next = now + Duration::from_millis(SWEEP_MIN_MILLISECONDS);
        }
        self.sweep.last_first = first;
        for delivery in deliveries {
            if self.slots.get(&delivery.participant).is_some_and(|slot| slot.queue.is_active(delivery.delivery_key)) {
                continue;
            }
            if self.sweep.giving_up.insert(delivery.delivery_key) {
                self.give_up(delivery, true);
            }
        }
    }
}

//! The sweep: what expired while it waited is given up, also while its participant is paused or has no courier.

use super::super::breaker::Moment;
use super::super::load::SWEEP_PAGE;
use super::{Actor, Report};
use crate::delivery::PendingDelivery;
use crate::store::Unavailable;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

pub(super) const SWEEP_SECONDS: u64 = 1;
/// Between two sweeps while more have expired than one sweep takes.
const SWEEP_MIN_MILLISECONDS: u64 = 20;

/// The sweep for deliveries that expired while they waited.
pub(super) struct Sweep {
    pub next: Instant,
    pub reading: bool,
    /// Those that are being given up, by delivery key.
    pub giving_up: HashSet<i64>,
    /// The first of the last page: seen again, the store does not settle them and the sweep slows down.
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
        let shelf = self.shelf.clone();
        self.tasks.spawn(async move { Report::Expired(shelf.expired(at.now_us, SWEEP_PAGE).await) });
    }

    /// Gives up what expired, each at most once at a time; one with an attempt under way is judged by that.
    pub(super) fn expired(&mut self, works: Result<Vec<PendingDelivery>, Unavailable>) {
        self.sweep.reading = false;
        let works = match works {
            Ok(works) => works,
            Err(error) => {
                tracing::warn!(%error, "cannot read what expired; asking again soon");
                return;
            }
        };
        let now = Instant::now();
        let first = works.first().map(|work| work.delivery_key);
        if works.len() >= SWEEP_PAGE as usize && first != self.sweep.last_first {
            self.sweep.next = now + Duration::from_millis(SWEEP_MIN_MILLISECONDS);
        }
        self.sweep.last_first = first;
        for work in works {
            if self.slots.get(&work.participant).is_some_and(|slot| slot.desk.is_active(work.delivery_key)) {
                continue;
            }
            if self.sweep.giving_up.insert(work.delivery_key) {
                self.give_up(work, true);
            }
        }
    }
}

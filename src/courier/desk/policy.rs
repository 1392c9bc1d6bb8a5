//! What attempts say about the receiver, which lane is the probe of an open breaker, and what is tried at an operator's order.

use super::super::breaker::{Failure, Moment, Transition};
use super::super::lane::Key;
use super::{Active, Desk, Ended, Verdict};
use crate::delivery::PendingDelivery;

impl Desk {
    /// Tries what waits: now where the breaker is closed, and with the end of an open one, for which a probe goes out now.
    pub(in crate::courier) fn try_now(&mut self, at: Moment) {
        if self.breaker.is_open() {
            self.breaker.probe_now(at);
            self.hurries_all = true;
        } else {
            self.hurry_all(at);
        }
    }

    /// Tries one waiting delivery now; while the breaker is open, as its probe.
    pub(in crate::courier) fn try_one(&mut self, work: &PendingDelivery, at: Moment) {
        if self.carries(work) && !self.active.values().any(|active| active.delivery_key == work.delivery_key) {
            self.hurry_one(work);
            if !work.kind.bypasses_channel() {
                self.breaker.probe_now(at);
            }
        }
    }

    /// What the end of an attempt says about the receiver.
    pub(super) fn judge(
        &mut self,
        active: &Active,
        work: &PendingDelivery,
        ended: &Ended,
        random: f64,
        at: Moment,
    ) -> Option<Transition> {
        if active.own_way {
            return None;
        }
        let fault = match ended.verdict {
            Verdict::Spoke => {
                self.row += 1;
                return self.breaker.succeeded();
            }
            Verdict::Nothing => {
                if active.probe {
                    self.breaker.probe_undecided(at);
                }
                return None;
            }
            Verdict::Failed(fault) => fault,
        };
        let failure = Failure {
            delivery_key: work.delivery_key,
            is_repeated: work.attempts > 0,
            fault,
            probe: active.probe,
            asked: ended.asked,
            schedule_seconds: &self.settings.retry_schedule_seconds,
            random,
        };
        self.breaker.failed(failure, at)
    }

    /// The next lane in turn. For a probe also one that waits: the earliest due is read, where nothing else can start.
    pub(super) fn next_lane(&mut self, probe: bool) -> Option<Key> {
        // Those that failed before take half of the places at most, so that slow failures leave room.
        let retries = probe || self.active_retries < self.settings.concurrency.div_ceil(2);
        let next = self.turns.next(retries, probe);
        if next.is_none() && probe && self.turns.is_empty() {
            let key = self.first_waiting()?;
            self.come_due(key);
            return self.turns.next(true, true);
        }
        next
    }
}

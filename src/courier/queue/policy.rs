//! Policy of one queue: what attempts show about the receiver, which lane becomes the probe of an open breaker, and
//! immediate retries on an operator's request.

use super::super::breaker::{Failure, Moment, Transition};
use super::super::lane::Key;
use super::{Active, AttemptEnd, ParticipantQueue, ReceiverState};
use crate::delivery::PendingDelivery;

impl ParticipantQueue {
    /// Retries everything that waits: now if the breaker is closed; otherwise when it closes, for which a probe is sent
    /// now.
    pub(in crate::courier) fn retry_all_now(&mut self, at: Moment) {
        if self.breaker.is_open() {
            self.breaker.probe_now(at);
            self.all_due_on_close = true;
        } else {
            self.make_all_due(at);
        }
    }

    /// Retries one waiting delivery now; as a probe while the breaker is open.
    pub(in crate::courier) fn retry_one_now(&mut self, delivery: &PendingDelivery, at: Moment) {
        if self.carries(delivery) && !self.active.values().any(|active| active.delivery_key == delivery.delivery_key) {
            self.make_one_due(delivery);
            if !delivery.kind.bypasses_channel() {
                self.breaker.probe_now(at);
            }
        }
    }

    /// Passes what the end of an attempt shows about the receiver to the breaker.
    pub(super) fn update_breaker(
        &mut self,
        active: &Active,
        delivery: &PendingDelivery,
        ended: &AttemptEnd,
        random: f64,
        at: Moment,
    ) -> Option<Transition> {
        if active.bypass {
            return None;
        }
        let fault = match ended.receiver {
            ReceiverState::Up => {
                self.streak += 1;
                return self.breaker.succeeded();
            }
            ReceiverState::Unknown => {
                if active.probe {
                    self.breaker.probe_undecided(at);
                }
                return None;
            }
            ReceiverState::Failed(fault) => fault,
        };
        let failure = Failure {
            delivery_key: delivery.delivery_key,
            is_repeated: delivery.attempts > 0,
            fault,
            probe: active.probe,
            retry_after: ended.retry_after,
            schedule_seconds: &self.settings.retry_schedule_seconds,
            random,
        };
        self.breaker.failed(failure, at)
    }

    /// The next lane to start. A probe may also take a waiting lane, the one that is due first, if nothing else can
    /// start.
    pub(super) fn next_lane(&mut self, probe: bool) -> Option<Key> {
        // Retries take at most half of the capacity, so that slow failures leave room for new deliveries.
        let retries = probe || self.active_retries < self.settings.concurrency.div_ceil(2);
        let next = self.scheduler.next(retries, probe);
        if next.is_none() && probe && self.scheduler.is_empty() {
            let key = self.first_waiting()?;
            self.come_due(key);
            return self.scheduler.next(true, true);
        }
        next
    }
}

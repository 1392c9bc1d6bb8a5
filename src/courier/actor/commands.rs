//! Commands to the actor: pause and resume, retry now, forget a delivery, replace the participants.

use super::super::budget::MemoryShare;
use super::super::handle::Coalesced;
use super::super::queue::ParticipantQueue;
use super::{Actor, Slot};
use crate::delivery::PendingDelivery;
use crate::routing::Participant;
use std::collections::HashSet;
use std::sync::Arc;

impl Actor {
    pub(super) fn take_coalesced(&mut self) {
        let Some(Coalesced { reread, forget, pause, retry_participants, retry_deliveries, reload }) =
            self.inbox.take_coalesced()
        else {
            return;
        };
        if let Some(participants) = reload {
            self.reload(participants);
        }
        for (participant, paused) in pause {
            self.pause(participant, paused);
        }
        for participant in retry_participants {
            self.retry_participant(&participant);
        }
        for id in reread {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.queue.mark_incomplete();
                self.touched.insert(id);
            }
        }
        let at = self.moment();
        for delivery in retry_deliveries {
            if let Some(slot) = self.slots.get_mut(&delivery.participant) {
                slot.queue.retry_one_now(&delivery, at);
                self.touched.insert(delivery.participant);
            }
        }
        for delivery in forget {
            self.forget(&delivery);
        }
    }

    fn pause(&mut self, participant: String, paused: bool) {
        if let Some((id, slot)) = self.slots.get_key_value(participant.as_str()) {
            tracing::info!(participant.id = %id, was_paused = slot.queue.paused, paused, "deliveries to {id} paused or resumed");
            self.touched.insert(id.clone());
        }
        if let Some(slot) = self.slots.get_mut(participant.as_str()) {
            slot.queue.paused = paused;
        }
        if paused {
            self.paused.insert(participant);
        } else {
            self.retry_participant(&participant);
            self.paused.remove(&participant);
        }
    }

    /// Retries everything that waits for this participant now, because the cause of its failures may be gone.
    fn retry_participant(&mut self, participant: &str) {
        let at = self.moment();
        if let Some(slot) = self.slots.get_mut(participant) {
            slot.queue.retry_all_now(at);
            self.touched.insert(slot.queue.settings.id.clone());
        }
    }

    pub(super) fn forget(&mut self, delivery: &PendingDelivery) {
        let at = self.moment();
        if let Some(slot) = self.slots.get_mut(&delivery.participant) {
            slot.queue.forget(delivery, at);
            self.touched.insert(delivery.participant.clone());
        }
    }

    /// Replaces the participants. Deliveries of a removed participant stay in the store. Those of the others are read
    /// from the store again, because their channel may have changed, and are retried at once where any of the
    /// participant's settings changed.
    pub(super) fn reload(&mut self, participants: Vec<Arc<Participant>>) {
        let at = self.moment();
        let kept: HashSet<Arc<str>> = participants.iter().map(|participant| participant.id.clone()).collect();
        for (id, slot) in &mut self.slots {
            if !kept.contains(id) && !slot.queue.retired {
                slot.queue.retire();
                self.touched.insert(id.clone());
            }
        }
        self.slots.retain(|_, slot| !slot.queue.retired || slot.queue.active_count() > 0);
        for participant in participants {
            let id = participant.id.clone();
            self.touched.insert(id.clone());
            match self.slots.get_mut(&id) {
                Some(slot) => {
                    let is_changed = slot.queue.retired || *slot.queue.settings != *participant;
                    slot.queue.settings = participant;
                    slot.queue.retired = false;
                    slot.queue.reread();
                    if is_changed {
                        slot.queue.retry_all_now(at);
                    }
                }
                None => {
                    self.queues_made += 1;
                    let share = MemoryShare::new(self.budget.clone());
                    let queue = ParticipantQueue::new(participant, self.paused.contains(&*id), share, self.queues_made);
                    self.slots.insert(id, Slot { queue, wake: None });
                }
            }
        }
    }
}

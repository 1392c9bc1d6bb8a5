//! What others order: pause and resume, probes, deliveries to try now or to forget, other participants.

use super::super::budget::Share;
use super::super::desk::Desk;
use super::super::handle::Aside;
use super::{Actor, Slot};
use crate::delivery::PendingDelivery;
use crate::routing::Participant;
use std::collections::HashSet;
use std::sync::Arc;

impl Actor {
    pub(super) fn take_aside(&mut self) {
        let Some(Aside { look, forget, pause, probe, try_now, reload }) = self.inbox.take_aside() else { return };
        if let Some(participants) = reload {
            self.reload(participants);
        }
        for (participant, paused) in pause {
            self.pause(participant, paused);
        }
        for participant in probe {
            self.probe(&participant);
        }
        for id in look {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.desk.rewind();
                self.touched.insert(id);
            }
        }
        let at = self.moment();
        for work in try_now {
            if let Some(slot) = self.slots.get_mut(&work.participant) {
                slot.desk.try_one(&work, at);
                self.touched.insert(work.participant);
            }
        }
        for work in forget {
            self.forget(&work);
        }
    }

    fn pause(&mut self, participant: String, paused: bool) {
        if let Some((id, slot)) = self.slots.get_key_value(participant.as_str()) {
            tracing::info!(participant.id = %id, was_paused = slot.desk.paused, paused, "deliveries to {id} paused or resumed");
            self.touched.insert(id.clone());
        }
        if let Some(slot) = self.slots.get_mut(participant.as_str()) {
            slot.desk.paused = paused;
        }
        if paused {
            self.paused.insert(participant);
        } else {
            self.probe(&participant);
            self.paused.remove(&participant);
        }
    }

    /// Something may have changed for the better: what waits is tried now.
    fn probe(&mut self, participant: &str) {
        let at = self.moment();
        if let Some(slot) = self.slots.get_mut(participant) {
            slot.desk.try_now(at);
            self.touched.insert(slot.desk.settings.id.clone());
        }
    }

    pub(super) fn forget(&mut self, work: &PendingDelivery) {
        let at = self.moment();
        if let Some(slot) = self.slots.get_mut(&work.participant) {
            slot.desk.forget(work, at);
            self.touched.insert(work.participant.clone());
        }
    }

    /// Replaces the participants. What waits for one that is gone stays in the store; what waits for the others is read
    /// from there again, because the way in which it is carried may have changed, and is tried now where anything of its
    /// participant did.
    pub(super) fn reload(&mut self, participants: Vec<Arc<Participant>>) {
        let at = self.moment();
        let kept: HashSet<Arc<str>> = participants.iter().map(|participant| participant.id.clone()).collect();
        for (id, slot) in &mut self.slots {
            if !kept.contains(id) && !slot.desk.retired {
                slot.desk.retire();
                self.touched.insert(id.clone());
            }
        }
        self.slots.retain(|_, slot| !slot.desk.retired || slot.desk.active_count() > 0);
        for participant in participants {
            let id = participant.id.clone();
            self.touched.insert(id.clone());
            match self.slots.get_mut(&id) {
                Some(slot) => {
                    let is_changed = slot.desk.retired || *slot.desk.settings != *participant;
                    slot.desk.settings = participant;
                    slot.desk.retired = false;
                    slot.desk.read_again();
                    if is_changed {
                        slot.desk.try_now(at);
                    }
                }
                None => {
                    self.desks += 1;
                    let share = Share::new(self.budget.clone());
                    let desk = Desk::new(participant, self.paused.contains(&*id), share, self.desks);
                    self.slots.insert(id, Slot { desk, wake: None });
                }
            }
        }
    }
}

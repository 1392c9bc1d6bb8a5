//! The guarantees, checked after each step and at the end.

use super::clients::has_channel;
use super::world::{Faults, World};
use crate::delivery::PendingDelivery;

impl World {
    /// A delivery arrives at its receiver for the first time: everything before it in its lane has arrived, or has ended.
    pub fn check_order(&self, arrived: &PendingDelivery) {
        if arrived.lane == 0 {
            return;
        }
        let before = self.model.lane(&arrived.participant, arrived.lane, i64::MIN, usize::MAX);
        let overtaken = before
            .iter()
            .find(|other| other.seq < arrived.seq && !self.arrivals.deliveries.contains_key(&other.delivery_key));
        assert!(overtaken.is_none(), "{} overtook {:?} in its lane", arrived.seq, overtaken.map(|other| other.seq));
    }

    /// No message is stored twice.
    pub fn check_stored(&self) {
        if let Some(bundle_id) = self.model.stored_twice() {
            panic!("{bundle_id} is stored twice");
        }
    }

    /// When nothing moves any more: everything has arrived, and each sender has its answer.
    pub fn check_end(&self) {
        self.check_stored();
        assert_eq!(self.model.open(), 0, "deliveries wait without end");
        for request in &self.requests {
            let id = request.bundle_id();
            assert!(request.acknowledged, "{id} was never acknowledged");
            if self.model.is_given_up(&id) {
                continue;
            }
            assert!(self.arrivals.requests.contains_key(&id), "{id} never arrived");
            let (line, channel) = (request.on_the_line.len(), request.delivered.len());
            let mut answers: Vec<_> = request.on_the_line.iter().chain(&request.delivered).collect();
            answers.sort_unstable();
            answers.dedup();
            assert!(answers.len() <= 1, "{id} got {answers:?}");
            if has_channel(request.sender) {
                assert!(line + channel > 0, "{id}: its sender never got the answer");
            }
            if self.faults == Faults::LostWakeUps && request.sent == 1 {
                assert!(line + channel <= 1, "{id}: {line} replies and {channel} deliveries");
            }
        }
    }
}

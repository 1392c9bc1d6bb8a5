//! The deliveries that ended a moment ago, so that an offer or a page of the store that was on its way meanwhile does not
//! start them again. A bounded memory: what it forgot costs one needless attempt, which the receiver knows as a repeat.

use std::collections::{HashSet, VecDeque};

/// At 10,000 deliveries a second, about a second and a half.
const RECENT_LIMIT_DELIVERIES: usize = 16_384;

/// Delivery key and place in the lane: a delivery that an operator retries has a new place.
type Ended = (i64, i64);

#[derive(Debug, Default)]
pub(super) struct Recent {
    known: HashSet<Ended>,
    order: VecDeque<Ended>,
}

impl Recent {
    pub fn add(&mut self, delivery_key: i64, seq: i64) {
        if !self.known.insert((delivery_key, seq)) {
            return;
        }
        self.order.push_back((delivery_key, seq));
        if self.order.len() > RECENT_LIMIT_DELIVERIES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub fn contains(&self, delivery_key: i64, seq: i64) -> bool {
        self.known.contains(&(delivery_key, seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_past_the_bound_and_a_new_place_is_another_delivery() {
        let mut recent = Recent::default();
        for key in 0..=RECENT_LIMIT_DELIVERIES as i64 {
            recent.add(key, key);
        }
        assert!(!recent.contains(0, 0));
        assert!(recent.contains(1, 1));
        assert!(!recent.contains(1, 2));
    }
}

//! The memory budget of the courier: one bound on waiting deliveries for the whole process, shared by the participant
//! queues.
//!
//! A quarter is divided equally among the queues, so that dead receivers cannot starve the others. Of the rest, a queue
//! may use as much as is still free. What a queue has no room for stays in the store.

use crate::delivery::PendingDelivery;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Estimated size of a delivery besides its body, mostly its metadata.
const DELIVERY_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    queues: AtomicUsize,
}

impl Budget {
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Budget { limit_bytes, used_bytes: AtomicUsize::new(0), queues: AtomicUsize::new(0) })
    }
}

/// One queue's part of the budget, released when it is dropped.
#[derive(Debug)]
pub(super) struct MemoryShare {
    budget: Arc<Budget>,
    used_bytes: usize,
}

impl MemoryShare {
    pub fn new(budget: Arc<Budget>) -> Self {
        budget.queues.fetch_add(1, Ordering::Relaxed);
        MemoryShare { budget, used_bytes: 0 }
    }

    /// Whether a delivery fits. If it fits only without its body, the body is removed; it is read from the store for
    /// the attempt.
    pub fn admits(&self, delivery: &mut PendingDelivery) -> bool {
        if !self.has_room(delivery) {
            delivery.body = None;
        }
        self.has_room(delivery)
    }

    fn has_room(&self, delivery: &PendingDelivery) -> bool {
        let Budget { limit_bytes, used_bytes, queues } = &*self.budget;
        let own = limit_bytes / 4 / queues.load(Ordering::Relaxed).max(1);
        let common = (limit_bytes - limit_bytes / 4).saturating_sub(used_bytes.load(Ordering::Relaxed));
        self.used_bytes + cost(delivery) <= own.max(common)
    }

    /// Counts a delivery that is held in memory, whether or not it was admitted.
    pub fn reserve(&mut self, delivery: &PendingDelivery) {
        self.used_bytes += cost(delivery);
        self.budget.used_bytes.fetch_add(cost(delivery), Ordering::Relaxed);
    }

    pub fn release(&mut self, delivery: &PendingDelivery) {
        self.used_bytes -= cost(delivery);
        self.budget.used_bytes.fetch_sub(cost(delivery), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.used_bytes, Ordering::Relaxed);
        self.budget.queues.fetch_sub(1, Ordering::Relaxed);
    }
}

fn cost(delivery: &PendingDelivery) -> usize {
    DELIVERY_BYTES + delivery.body.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pending;
    use bytes::Bytes;

    fn big(seq: i64) -> PendingDelivery {
        PendingDelivery { body: Some(Bytes::from(vec![b' '; 10_000])), ..pending("lab", 1, seq) }
    }

    /// Adds deliveries until one no longer fits with its body, and returns their number.
    fn fill(share: &mut MemoryShare) -> usize {
        for count in 0.. {
            let mut delivery = big(count);
            if !share.admits(&mut delivery) || delivery.body.is_none() {
                return count as usize;
            }
            share.reserve(&delivery);
        }
        unreachable!()
    }

    #[test]
    fn dead_receivers_share_and_a_healthy_one_always_finds_room() {
        let budget = Budget::new(800 * (10_000 + DELIVERY_BYTES));
        let mut healthy = MemoryShare::new(budget.clone());
        let mut dead: Vec<MemoryShare> = (0..19).map(|_| MemoryShare::new(budget.clone())).collect();
        let counts: Vec<usize> = dead.iter_mut().map(fill).collect();
        assert_eq!(counts[..3], [300, 150, 75], "each half of what is free beyond the quarter");
        assert_eq!(counts[18], 10, "each its part of the quarter");
        assert_eq!(fill(&mut healthy), 10);
        assert!(budget.used_bytes.load(Ordering::Relaxed) <= budget.limit_bytes);
        drop(dead);
        assert_eq!(budget.used_bytes.load(Ordering::Relaxed), healthy.used_bytes);
        assert_eq!(fill(&mut healthy), 290);
    }

    #[test]
    fn a_body_that_does_not_fit_is_left_to_the_store_and_the_work_is_kept() {
        let share = MemoryShare::new(Budget::new(10_000));
        let mut delivery = big(1);
        assert!(share.admits(&mut delivery));
        assert!(delivery.body.is_none());
    }
}

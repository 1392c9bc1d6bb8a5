//! The memory that works take in the courier: one bound for the whole process, shared by the desks.
//!
//! A quarter is divided among all desks, so that dead receivers starve nobody. Of the rest a desk may have as much as is
//! still free. What a desk is not given stays in the store.

use crate::delivery::PendingDelivery;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a work takes besides its body: its metadata, mostly.
const WORK_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    desks: AtomicUsize,
}

impl Budget {
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Budget { limit_bytes, used_bytes: AtomicUsize::new(0), desks: AtomicUsize::new(0) })
    }
}

/// One desk's part of the budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    used_bytes: usize,
}

impl Share {
    pub fn new(budget: Arc<Budget>) -> Self {
        budget.desks.fetch_add(1, Ordering::Relaxed);
        Share { budget, used_bytes: 0 }
    }

    /// Whether a work fits. It is left without its body where only that does not.
    pub fn admits(&self, work: &mut PendingDelivery) -> bool {
        if !self.has_room(work) {
            work.body = None;
        }
        self.has_room(work)
    }

    fn has_room(&self, work: &PendingDelivery) -> bool {
        let Budget { limit_bytes, used_bytes, desks } = &*self.budget;
        let own = limit_bytes / 4 / desks.load(Ordering::Relaxed).max(1);
        let common = (limit_bytes - limit_bytes / 4).saturating_sub(used_bytes.load(Ordering::Relaxed));
        self.used_bytes + cost(work) <= own.max(common)
    }

    /// Counts a work that is kept in memory, whether it was admitted or must be there.
    pub fn take(&mut self, work: &PendingDelivery) {
        self.used_bytes += cost(work);
        self.budget.used_bytes.fetch_add(cost(work), Ordering::Relaxed);
    }

    pub fn give_back(&mut self, work: &PendingDelivery) {
        self.used_bytes -= cost(work);
        self.budget.used_bytes.fetch_sub(cost(work), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.used_bytes, Ordering::Relaxed);
        self.budget.desks.fetch_sub(1, Ordering::Relaxed);
    }
}

fn cost(work: &PendingDelivery) -> usize {
    WORK_BYTES + work.body.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::work;
    use super::*;
    use bytes::Bytes;

    fn big(seq: i64) -> PendingDelivery {
        PendingDelivery { body: Some(Bytes::from(vec![b' '; 10_000])), ..work("lab", 1, seq) }
    }

    /// Takes works until none fits with its body; how many did.
    fn fill(share: &mut Share) -> usize {
        for count in 0.. {
            let mut work = big(count);
            if !share.admits(&mut work) || work.body.is_none() {
                return count as usize;
            }
            share.take(&work);
        }
        unreachable!()
    }

    #[test]
    fn dead_receivers_share_and_a_healthy_one_always_finds_room() {
        let budget = Budget::new(800 * (10_000 + WORK_BYTES));
        let mut healthy = Share::new(budget.clone());
        let mut dead: Vec<Share> = (0..19).map(|_| Share::new(budget.clone())).collect();
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
        let share = Share::new(Budget::new(10_000));
        let mut work = big(1);
        assert!(share.admits(&mut work));
        assert!(work.body.is_none());
    }
}

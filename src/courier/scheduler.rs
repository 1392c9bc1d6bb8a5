//! The scheduler of one participant queue: lanes that may start, and lanes that must be read first, each first in,
//! first out.
//!
//! New deliveries and retries have separate queues and alternate, so that thousands of failing lanes do not delay the
//! others. Deliveries that bypass the participant's channel have a third queue.

use super::lane::{Class, Key};
use std::collections::BTreeMap;

/// Lanes of one class that are being read, or were read and have not started, at a time.
const PREFETCH_LIMIT_LANES: usize = 16;

#[derive(Debug, Default)]
struct ClassQueues {
    ready: BTreeMap<u64, Key>,
    /// Keys of ordered lanes.
    unread: BTreeMap<u64, i64>,
    /// Lanes being read, and those that were read and have not started.
    prefetched: usize,
}

#[derive(Debug, Default)]
pub(super) struct Scheduler {
    fresh: ClassQueues,
    retries: ClassQueues,
    bypass: ClassQueues,
    last: u64,
    /// The last lane that started was a fresh one.
    retries_next: bool,
}

impl Scheduler {
    fn of(&mut self, class: Class) -> &mut ClassQueues {
        match class {
            Class::Fresh => &mut self.fresh,
            Class::Retry => &mut self.retries,
            Class::Bypass => &mut self.bypass,
        }
    }

    /// Returns the ticket that removes the lane again.
    pub fn add_ready(&mut self, class: Class, key: Key) -> u64 {
        self.last += 1;
        let ticket = self.last;
        self.of(class).ready.insert(ticket, key);
        ticket
    }

    /// As `add_ready`, for a lane that must be read first.
    pub fn add_unread(&mut self, class: Class, lane: i64) -> u64 {
        self.last += 1;
        let ticket = self.last;
        self.of(class).unread.insert(ticket, lane);
        ticket
    }

    pub fn remove(&mut self, class: Class, ticket: u64) {
        let queues = self.of(class);
        queues.ready.remove(&ticket);
        queues.unread.remove(&ticket);
    }

    pub fn prefetch_started(&mut self, class: Class) {
        self.of(class).prefetched += 1;
    }

    pub fn prefetch_ended(&mut self, class: Class) {
        self.of(class).prefetched -= 1;
    }

    /// The next lane to start that bypasses the participant's channel. It stays queued until it is removed.
    pub fn next_bypassing(&self) -> Option<Key> {
        self.bypass.ready.first_key_value().map(|(_, key)| *key)
    }

    /// The next lane to start on the participant's channel. It stays queued until it is removed. `retries`: whether a
    /// retry may start. A probe takes the newest fresh lane: the older ones may be what the receiver fails on.
    pub fn next(&mut self, retries: bool, probe: bool) -> Option<Key> {
        let ready = &self.fresh.ready;
        let fresh = if probe { ready.last_key_value() } else { ready.first_key_value() };
        let fresh = fresh.map(|(_, key)| *key);
        let retry = self.retries.ready.first_key_value().map(|(_, key)| *key).filter(|_| retries);
        let takes_retry = retry.is_some() && (fresh.is_none() || (self.retries_next && !probe));
        self.retries_next = !takes_retry;
        if takes_retry { retry } else { fresh }
    }

    /// The next lane to read. It stays queued until it is removed.
    pub fn next_unread(&self, class: Class) -> Option<i64> {
        let queues = match class {
            Class::Fresh => &self.fresh,
            Class::Retry => &self.retries,
            Class::Bypass => &self.bypass,
        };
        queues.unread.first_key_value().map(|(_, lane)| *lane).filter(|_| queues.prefetched < PREFETCH_LIMIT_LANES)
    }

    /// Whether a lane may start on the participant's channel.
    pub fn has_ready(&self) -> bool {
        !self.fresh.ready.is_empty() || !self.retries.ready.is_empty()
    }

    /// No lane may start on the participant's channel, and no read in progress will change that.
    pub fn is_empty(&self) -> bool {
        [&self.fresh, &self.retries]
            .iter()
            .all(|queues| queues.ready.is_empty() && queues.unread.is_empty() && queues.prefetched == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(scheduler: &mut Scheduler, retries: bool, probe: bool) -> Option<Key> {
        let key = scheduler.next(retries, probe)?;
        for class in [Class::Fresh, Class::Retry] {
            let queues = scheduler.of(class);
            queues.ready.retain(|_, other| *other != key);
        }
        Some(key)
    }

    #[test]
    fn lanes_that_failed_and_lanes_that_never_did_take_turns() {
        let mut scheduler = Scheduler::default();
        for lane in 0..100 {
            scheduler.add_ready(Class::Retry, Key::Ordered(lane));
        }
        for lane in 200..203 {
            scheduler.add_ready(Class::Fresh, Key::Ordered(lane));
        }
        let order: Vec<Key> = std::iter::from_fn(|| start(&mut scheduler, true, false)).take(7).collect();
        assert_eq!(order, [200, 0, 201, 1, 202, 2, 3].map(Key::Ordered));
        assert_eq!(start(&mut scheduler, false, false), None);
        scheduler.add_ready(Class::Fresh, Key::Ordered(300));
        assert_eq!(start(&mut scheduler, true, true), Some(Key::Ordered(300)), "a probe is new where it can be");
    }

    #[test]
    fn only_so_many_lanes_are_read_ahead_of_their_start() {
        let mut scheduler = Scheduler::default();
        for lane in 0..100 {
            scheduler.add_unread(Class::Retry, lane);
        }
        let mut read = 0;
        while let Some(lane) = scheduler.next_unread(Class::Retry) {
            scheduler.remove(Class::Retry, lane as u64 + 1);
            scheduler.prefetch_started(Class::Retry);
            read += 1;
        }
        assert_eq!(read, PREFETCH_LIMIT_LANES);
        scheduler.prefetch_ended(Class::Retry);
        assert_eq!(scheduler.next_unread(Class::Retry), Some(PREFETCH_LIMIT_LANES as i64));
    }
}

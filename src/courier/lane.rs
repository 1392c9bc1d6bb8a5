//! One lane: the works that memory holds of it, in order, and how far the store was read.
//!
//! Pure. Memory is never more than a part of what waits in the store: what does not fit, or was seen while the store
//! held more, is marked as missed and read back later, from the lowest missed place on. Reading again what memory holds
//! is harmless, because the caller knows by key what it has.

use crate::delivery::Work;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Works of one ordered lane in memory.
pub(super) const LANE_LIMIT_WORKS: usize = 64;

/// Which lane: an order key, or one delivery of the lane "no order", which is a lane of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Ordered(i64),
    /// The delivery's key.
    Free(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    /// Nothing to start: empty, or the store is being read.
    Idle,
    Ready,
    /// The head waits for its time. `asked`: the receiver asked for it (Retry-After).
    Blocked {
        until: Instant,
        asked: bool,
    },
    /// An attempt is under way.
    Busy,
}

/// How far the store was read.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Memory holds everything that waits.
    complete: bool,
    /// A read is asked for or under way.
    loading: bool,
    after_seq: i64,
    /// The lowest place after which something was left to the store.
    missed_after_seq: Option<i64>,
}

impl Cursor {
    pub fn complete() -> Self {
        Self { complete: true, loading: false, after_seq: i64::MIN, missed_after_seq: None }
    }

    pub fn unread() -> Self {
        Self { complete: false, ..Self::complete() }
    }

    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub fn is_loading(&self) -> bool {
        self.loading
    }

    /// The work with this sequence number is left to the store.
    pub fn miss(&mut self, seq: i64) {
        let after = seq.saturating_sub(1);
        if self.complete {
            self.complete = false;
            self.after_seq = after;
            return;
        }
        self.missed_after_seq = Some(self.missed_after_seq.map_or(after, |missed| missed.min(after)));
    }

    /// Everything may be in the store.
    pub fn rewind(&mut self) {
        self.miss(i64::MIN);
    }

    /// The next read starts after this sequence number.
    fn resume_after_seq(&self) -> i64 {
        self.missed_after_seq.map_or(self.after_seq, |missed| missed.min(self.after_seq))
    }

    /// Begins a read; it starts after the returned sequence number.
    pub fn start(&mut self) -> i64 {
        self.loading = true;
        self.after_seq = self.resume_after_seq();
        self.missed_after_seq = None;
        self.after_seq
    }

    /// A read ended: its last sequence number, and whether there may be more.
    pub fn end(&mut self, last_seq: Option<i64>, more: bool) {
        self.loading = false;
        self.after_seq = last_seq.unwrap_or(self.after_seq);
        self.complete = !more && self.missed_after_seq.is_none();
    }
}

#[derive(Debug)]
pub(super) struct Lane {
    queue: VecDeque<Work>,
    pub state: State,
    pub cursor: Cursor,
}

impl Lane {
    /// A lane of which nothing older is in the store.
    pub fn fresh() -> Self {
        Self { queue: VecDeque::new(), state: State::Idle, cursor: Cursor::complete() }
    }

    /// A lane whose works are in the store.
    pub fn unread() -> Self {
        Self { cursor: Cursor::unread(), ..Self::fresh() }
    }

    pub fn head(&self) -> Option<&Work> {
        self.queue.front()
    }

    /// Leaves everything to the store.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.cursor = Cursor::unread();
    }

    pub fn pop(&mut self) -> Option<Work> {
        self.queue.pop_front()
    }

    /// Puts the work at its place in order. Returns what no longer fits, the last one, which is marked as missed.
    pub fn insert(&mut self, work: Work) -> Option<Work> {
        // Works nearly always come in order, so the place is looked for from the end.
        let place = self.queue.iter().rposition(|other| other.seq <= work.seq).map_or(0, |before| before + 1);
        self.queue.insert(place, work);
        let overflow = if self.queue.len() > LANE_LIMIT_WORKS { self.queue.pop_back() } else { None };
        if let Some(work) = &overflow {
            self.cursor.miss(work.seq);
        }
        overflow
    }

    pub fn remove(&mut self, delivery_key: i64) -> Option<Work> {
        let place = self.queue.iter().position(|work| work.delivery_key == delivery_key)?;
        self.queue.remove(place)
    }

    /// Whether the store must be read before the lane may go on: memory is drained, or something earlier was missed.
    pub fn wants_load(&self) -> bool {
        let cursor = &self.cursor;
        if cursor.complete || cursor.loading || self.state == State::Busy {
            return false;
        }
        self.head().is_none_or(|head| cursor.resume_after_seq() < head.seq.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::work;
    use super::*;

    fn seqs(lane: &Lane) -> Vec<i64> {
        lane.queue.iter().map(|work| work.seq).collect()
    }

    #[test]
    fn works_stand_in_order_whatever_order_they_came_in() {
        let mut lane = Lane::fresh();
        for seq in [5, 4, 9, 7] {
            assert!(lane.insert(work("lab", 1, seq)).is_none());
        }
        assert_eq!(seqs(&lane), [4, 5, 7, 9]);
        assert!(!lane.wants_load());
    }

    #[test]
    fn what_does_not_fit_is_read_from_the_lowest_missed_place_once_memory_is_drained() {
        let mut lane = Lane::fresh();
        for seq in 1..=LANE_LIMIT_WORKS as i64 {
            lane.insert(work("lab", 1, seq));
        }
        assert_eq!(lane.insert(work("lab", 1, 100)).map(|work| work.seq), Some(100));
        assert_eq!(lane.insert(work("lab", 1, 0)).map(|work| work.seq), Some(64), "the last gives way");
        assert!(!lane.wants_load());
        while lane.pop().is_some() {}
        assert!(lane.wants_load());
        assert_eq!(lane.cursor.start(), 63);
        assert!(!lane.wants_load(), "one read at a time");
    }

    #[test]
    fn what_comes_while_the_store_is_read_makes_it_read_again() {
        let mut lane = Lane::unread();
        assert_eq!(lane.cursor.start(), i64::MIN);
        lane.cursor.miss(8);
        lane.cursor.end(Some(7), false);
        assert!(lane.wants_load());
        assert_eq!(lane.cursor.start(), 7);
        lane.cursor.end(Some(8), false);
        assert!(lane.cursor.is_complete());
    }

    #[test]
    fn something_missed_before_the_head_is_read_before_the_lane_goes_on() {
        let mut lane = Lane::fresh();
        lane.insert(work("lab", 1, 8));
        lane.cursor.miss(9);
        assert!(!lane.wants_load());
        lane.cursor.miss(7);
        assert!(lane.wants_load());
        lane.state = State::Busy;
        assert!(!lane.wants_load());
    }
}

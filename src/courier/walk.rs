//! How far the store was read in some order, page by page, and where it must be read again.
//!
//! Pure. What is left out of memory, for whatever reason, is marked as missed; the walk comes by it again.

use super::breaker::Moment;
use super::load::ReadId;
use std::time::Duration;
use tokio::time::Instant;

/// What comes due is looked for no more often than this.
const DUE_MIN_MILLISECONDS: u64 = 200;

#[derive(Debug)]
pub(super) struct Walk<C> {
    reading: Option<ReadId>,
    /// What stands after this is to be read; None: memory knows all.
    after: Option<C>,
    /// Something after this was left out by a read that has passed it.
    again: Option<C>,
}

impl<C: Copy + Ord> Walk<C> {
    pub fn from(after: C) -> Self {
        Walk { reading: None, after: Some(after), again: None }
    }

    pub fn ended() -> Self {
        Walk { reading: None, after: None, again: None }
    }

    /// Something after this is left to the store.
    pub fn miss(&mut self, after: C) {
        if self.after.is_none() {
            self.after = Some(after);
        } else if self.reading.is_some() || self.after.is_some_and(|at| at > after) {
            self.again = Some(self.again.map_or(after, |known| known.min(after)));
        }
    }

    pub fn has_ended(&self) -> bool {
        self.after.is_none()
    }

    pub fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// The next page begins after this; None where none is wanted now.
    pub fn next(&self) -> Option<C> {
        self.after.filter(|_| self.reading.is_none())
    }

    pub fn begin(&mut self, read: ReadId) {
        self.reading = Some(read);
    }

    /// A page came: its last place, and whether there may be more. False: it is none that was asked for.
    pub fn end(&mut self, read: ReadId, last: Option<C>, more: bool) -> bool {
        if self.reading != Some(read) {
            return false;
        }
        self.reading = None;
        self.after = if more { last.or(self.after) } else { self.again.take() };
        true
    }
}

/// What waits for a time and is left to the store: read by time once the first of it comes due.
#[derive(Debug)]
pub(super) struct Due {
    pub walk: Walk<(i64, i64)>,
    pub through_us: i64,
    /// On both clocks: a wall clock that is set back delays nothing.
    first: Option<(Instant, i64)>,
}

impl Due {
    pub fn none() -> Self {
        Due { walk: Walk::ended(), through_us: 0, first: None }
    }

    /// Nothing is known yet: the first page says when the first comes due.
    pub fn unread() -> Self {
        Due { walk: Walk::from((0, i64::MAX)), ..Self::none() }
    }

    /// Something comes due then.
    pub fn expect(&mut self, until: Instant, due_at_us: i64) {
        if self.first.is_none_or(|(known, _)| until < known) {
            self.first = Some((until, due_at_us));
        }
    }

    /// All that waits is due now.
    pub fn hurry(&mut self, now: Instant) {
        self.first = Some((now, i64::MAX));
    }

    /// When there is something to read next; None: nothing is expected, or it is being read.
    pub fn wake(&self) -> Option<Instant> {
        self.first.filter(|_| self.walk.has_ended()).map(|(until, _)| until)
    }

    pub fn begin_if_due(&mut self, at: Moment) {
        if let Some((until, due_at_us)) = self.first
            && until <= at.now
            && self.walk.has_ended()
        {
            self.first = None;
            self.through_us = at.now_us.max(due_at_us);
            self.walk = Walk::from((0, i64::MAX));
        }
    }

    /// A page came, and the next of what waits comes due then.
    pub fn page_ended(&mut self, next_due_at_us: Option<i64>, longest: Duration, at: Moment) {
        if let Some(due_at_us) = next_due_at_us {
            let wait = Duration::from_micros(due_at_us.saturating_sub(self.through_us.max(at.now_us)).max(0) as u64);
            let wait = wait.clamp(Duration::from_millis(DUE_MIN_MILLISECONDS), longest);
            self.expect(at.now + wait, due_at_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_read_may_have_passed_is_read_again_and_what_lies_ahead_is_not() {
        let mut walk = Walk::from(0);
        assert_eq!(walk.next(), Some(0));
        walk.miss(5);
        walk.begin((1, 1));
        assert_eq!(walk.next(), None, "one read at a time");
        assert!(!walk.end((1, 0), Some(9), true), "a page that was not asked for");
        assert!(walk.end((1, 1), Some(7), true));
        walk.miss(9);
        walk.miss(4);
        walk.begin((1, 2));
        walk.miss(8);
        walk.end((1, 2), Some(20), false);
        assert_eq!(walk.next(), Some(4));
        walk.begin((1, 3));
        walk.end((1, 3), None, false);
        assert!(walk.has_ended());
        walk.miss(30);
        assert_eq!(walk.next(), Some(30));
    }

    #[test]
    fn what_comes_due_is_read_at_its_time_though_the_wall_clock_was_set_back() {
        let start = Instant::now();
        let at = |seconds, now_us| Moment { now: start + Duration::from_secs(seconds), now_us };
        let mut due = Due::none();
        due.expect(at(60, 0).now, 1_060_000_000);
        due.expect(at(30, 0).now, 1_030_000_000);
        due.begin_if_due(at(29, 1_029_000_000));
        assert_eq!((due.walk.next(), due.wake()), (None, Some(at(30, 0).now)));
        due.begin_if_due(at(30, 5));
        assert_eq!((due.walk.next(), due.through_us), (Some((0, i64::MAX)), 1_030_000_000));
        due.page_ended(Some(1_060_000_000), Duration::from_secs(86_400), at(30, 5));
        due.walk = Walk::ended();
        assert_eq!(due.wake(), Some(at(60, 0).now));
    }
}

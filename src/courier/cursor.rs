//! Read positions in the store: how far a list was read, page by page, and from where it must be read again.
//!
//! Pure. Whatever memory has no room for is marked as missed, and the cursor returns to it.

use super::backlog::ReadId;
use super::breaker::Moment;
use std::time::Duration;
use tokio::time::Instant;

/// Shortest time between two reads for deliveries that came due.
const DUE_MIN_MILLISECONDS: u64 = 200;

#[derive(Debug)]
pub(super) struct Cursor<C> {
    reading: Option<ReadId>,
    /// The next page begins after this; None if memory holds everything.
    after: Option<C>,
    /// A read that is already past this position left something out after it.
    rescan_after: Option<C>,
}

impl<C: Copy + Ord> Cursor<C> {
    pub fn from(after: C) -> Self {
        Cursor { reading: None, after: Some(after), rescan_after: None }
    }

    pub fn ended() -> Self {
        Cursor { reading: None, after: None, rescan_after: None }
    }

    /// Something after this position is only in the store.
    pub fn mark_missed(&mut self, after: C) {
        if self.after.is_none() {
            self.after = Some(after);
        } else if self.reading.is_some() || self.after.is_some_and(|at| at > after) {
            self.rescan_after = Some(self.rescan_after.map_or(after, |known| known.min(after)));
        }
    }

    pub fn has_ended(&self) -> bool {
        self.after.is_none()
    }

    pub fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// The position after which the next page begins; None if no page is needed now.
    pub fn next(&self) -> Option<C> {
        self.after.filter(|_| self.reading.is_none())
    }

    pub fn begin(&mut self, read: ReadId) {
        self.reading = Some(read);
    }

    /// A page arrived: its last position, and whether there may be more. False if the page was not asked for.
    pub fn end(&mut self, read: ReadId, last: Option<C>, more: bool) -> bool {
        if self.reading != Some(read) {
            return false;
        }
        self.reading = None;
        self.after = if more { last.or(self.after) } else { self.rescan_after.take() };
        true
    }
}

/// Deliveries that wait for a time and are only in the store: read, by time, once the first of them comes due.
#[derive(Debug)]
pub(super) struct DueCursor {
    pub cursor: Cursor<(i64, i64)>,
    pub through_us: i64,
    /// When the first comes due, on both clocks, so that setting the wall clock back delays nothing.
    first: Option<(Instant, i64)>,
}

impl DueCursor {
    pub fn none() -> Self {
        DueCursor { cursor: Cursor::ended(), through_us: 0, first: None }
    }

    /// Nothing is known yet: the first page shows when the first delivery comes due.
    pub fn unread() -> Self {
        DueCursor { cursor: Cursor::from((0, i64::MAX)), ..Self::none() }
    }

    /// Something comes due at this time.
    pub fn expect(&mut self, until: Instant, due_at_us: i64) {
        if self.first.is_none_or(|(known, _)| until < known) {
            self.first = Some((until, due_at_us));
        }
    }

    /// Everything that waits is due now.
    pub fn make_all_due(&mut self, now: Instant) {
        self.first = Some((now, i64::MAX));
    }

    /// When to read next; None if nothing is expected or a read is in progress.
    pub fn wake(&self) -> Option<Instant> {
        self.first.filter(|_| self.cursor.has_ended()).map(|(until, _)| until)
    }

    pub fn begin_if_due(&mut self, at: Moment) {
        if let Some((until, due_at_us)) = self.first
            && until <= at.now
            && self.cursor.has_ended()
        {
            self.first = None;
            self.through_us = at.now_us.max(due_at_us);
            self.cursor = Cursor::from((0, i64::MAX));
        }
    }

    /// A page arrived, and the next waiting delivery comes due at this time.
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
        let mut cursor = Cursor::from(0);
        assert_eq!(cursor.next(), Some(0));
        cursor.mark_missed(5);
        cursor.begin((1, 1));
        assert_eq!(cursor.next(), None, "one read at a time");
        assert!(!cursor.end((1, 0), Some(9), true), "a page that was not asked for");
        assert!(cursor.end((1, 1), Some(7), true));
        cursor.mark_missed(9);
        cursor.mark_missed(4);
        cursor.begin((1, 2));
        cursor.mark_missed(8);
        cursor.end((1, 2), Some(20), false);
        assert_eq!(cursor.next(), Some(4));
        cursor.begin((1, 3));
        cursor.end((1, 3), None, false);
        assert!(cursor.has_ended());
        cursor.mark_missed(30);
        assert_eq!(cursor.next(), Some(30));
    }

    #[test]
    fn what_comes_due_is_read_at_its_time_though_the_wall_clock_was_set_back() {
        let start = Instant::now();
        let at = |seconds, now_us| Moment { now: start + Duration::from_secs(seconds), now_us };
        let mut due = DueCursor::none();
        due.expect(at(60, 0).now, 1_060_000_000);
        due.expect(at(30, 0).now, 1_030_000_000);
        due.begin_if_due(at(29, 1_029_000_000));
        assert_eq!((due.cursor.next(), due.wake()), (None, Some(at(30, 0).now)));
        due.begin_if_due(at(30, 5));
        assert_eq!((due.cursor.next(), due.through_us), (Some((0, i64::MAX)), 1_030_000_000));
        due.page_ended(Some(1_060_000_000), Duration::from_secs(86_400), at(30, 5));
        due.cursor = Cursor::ended();
        assert_eq!(due.wake(), Some(at(60, 0).now));
    }
}

//! One lane: the works that memory holds of it, in order.
//!
//! Pure. Memory holds an unbroken piece: everything that waits in the store up to `through_seq` is here, under way, or has
//! ended. A work names the one before it (`prev_seq`); it is taken from memory only where that link shows that nothing is
//! left out, else the lane is read from the store. So new work never overtakes work that memory lost sight of, whatever
//! was dropped, read late or never heard of.

use super::load::ReadId;
use crate::delivery::PendingDelivery;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Works of one ordered lane in memory.
pub(super) const LANE_LIMIT_WORKS: usize = 64;

/// Which lane: an order key, or one delivery of the lane "no order", which is a lane of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Ordered(i64),
    /// The delivery's `seq`.
    Free(i64),
}

impl Key {
    pub fn of(work: &PendingDelivery) -> Key {
        if work.lane == 0 { Key::Free(work.seq) } else { Key::Ordered(work.lane) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Class {
    /// The head was never tried, as far as is known.
    Fresh,
    /// It failed before.
    Retry,
    /// The head goes a way of its own (a callback, a reply queue), whatever becomes of the participant's channel.
    OwnWay,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    /// Between two others.
    Idle,
    /// Its turn to be read from the store comes.
    Unread {
        class: Class,
        turn: u64,
    },
    Loading {
        class: Class,
        read: ReadId,
    },
    /// Its turn to start comes. `ahead`: it was read for that.
    Ready {
        class: Class,
        turn: u64,
        ahead: Option<Class>,
    },
    /// An attempt is under way.
    Busy,
    /// The head waits for its time. `asked`: the receiver asked for it (Retry-After). `stored`: the store knows the time.
    /// `row`: which row of failures it is part of; None where that is not known.
    Waiting {
        until: Instant,
        asked: bool,
        stored: bool,
        row: Option<u64>,
    },
}

#[derive(Debug)]
pub(super) struct Lane {
    queue: VecDeque<PendingDelivery>,
    through_seq: i64,
    /// The store may have works behind `through_seq`.
    more: bool,
    pub state: State,
    /// The head that waits, or waited and is due, whatever the clock says.
    pub waited_seq: Option<i64>,
    /// What was offered while the store was being read.
    missed_seq: i64,
    /// What is being read may have ended meanwhile.
    pub stale: bool,
    /// What was last seen at its head goes a way of its own.
    pub bypasses_channel: bool,
}

impl Lane {
    /// A lane whose works are in the store.
    pub fn unread() -> Self {
        Lane {
            queue: VecDeque::new(),
            through_seq: i64::MIN,
            more: true,
            state: State::Idle,
            waited_seq: None,
            missed_seq: i64::MIN,
            stale: false,
            bypasses_channel: false,
        }
    }

    /// A lane of which only this is known: its head waits, or waited, for a time.
    pub fn waited(head_seq: i64) -> Self {
        Lane { waited_seq: Some(head_seq), ..Self::unread() }
    }

    /// A lane before whose next work nothing waits.
    pub fn fresh() -> Self {
        Lane { more: false, ..Self::unread() }
    }

    pub fn head(&self) -> Option<&PendingDelivery> {
        self.queue.front()
    }

    pub fn has_more(&self) -> bool {
        self.more
    }

    pub fn is_full(&self) -> bool {
        self.queue.len() >= LANE_LIMIT_WORKS
    }

    /// The store is read after this.
    pub fn through_seq(&self) -> i64 {
        self.through_seq
    }

    /// Whether nothing that waits is left out between what memory holds and this work.
    pub fn is_followed_by(&self, work: &PendingDelivery) -> bool {
        !self.more && work.prev_seq.is_none_or(|prev| prev <= self.through_seq)
    }

    /// Whether the work is here, under way, or has ended.
    pub fn covers(&self, work: &PendingDelivery) -> bool {
        work.seq <= self.through_seq
    }

    /// Appends a work that follows.
    pub fn push(&mut self, work: PendingDelivery) {
        self.through_seq = work.seq;
        self.queue.push_back(work);
    }

    /// This work, or more, is left to the store.
    pub fn miss(&mut self, seq: i64) {
        self.more = true;
        self.missed_seq = self.missed_seq.max(seq);
    }

    /// A read begins: what was offered before is in the store, and will be found.
    pub fn begin_read(&mut self) {
        self.missed_seq = i64::MIN;
        self.stale = false;
    }

    /// The works that were read are all pushed, those that fit. `more`: there may be more in the store.
    pub fn end_read(&mut self, more: bool) {
        self.more = more || self.missed_seq > self.through_seq;
    }

    /// Passes over what was read and is not for us.
    pub fn pass(&mut self, seq: i64) {
        self.through_seq = seq;
    }

    pub fn pop(&mut self) -> Option<PendingDelivery> {
        self.queue.pop_front()
    }

    pub fn remove(&mut self, delivery_key: i64) -> Option<PendingDelivery> {
        let place = self.queue.iter().position(|work| work.delivery_key == delivery_key)?;
        self.queue.remove(place)
    }

    /// Leaves everything to the store.
    pub fn leave(&mut self) -> VecDeque<PendingDelivery> {
        (self.through_seq, self.more) = (i64::MIN, true);
        std::mem::take(&mut self.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::work;
    use super::*;

    fn after(prev_seq: Option<i64>, seq: i64) -> PendingDelivery {
        PendingDelivery { prev_seq, ..work("lab", 1, seq) }
    }

    #[test]
    fn a_work_follows_only_where_its_link_shows_that_nothing_is_left_out() {
        let mut lane = Lane::fresh();
        assert!(lane.is_followed_by(&after(None, 5)));
        lane.push(after(None, 5));
        assert!(lane.is_followed_by(&after(Some(5), 6)));
        assert!(lane.is_followed_by(&after(Some(3), 6)), "what is older has ended or stands before");
        assert!(!lane.is_followed_by(&after(Some(6), 7)), "6 never came");
        lane.leave();
        assert!(!lane.is_followed_by(&after(None, 9)));
    }

    #[test]
    fn what_is_offered_while_the_store_is_read_makes_it_read_again_unless_it_was_found() {
        let mut lane = Lane::unread();
        lane.begin_read();
        lane.miss(8);
        lane.push(after(None, 7));
        lane.end_read(false);
        assert!(lane.has_more());
        lane.begin_read();
        lane.push(after(Some(7), 8));
        lane.end_read(false);
        assert!(!lane.has_more() && lane.covers(&after(Some(7), 8)));
    }
}

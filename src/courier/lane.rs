//! One lane: the part of its deliveries that memory holds, in order.
//!
//! Pure. Memory holds a gapless part: every delivery up to `through_seq` that waits in the store is here, active, or
//! ended. A delivery names the one before it (`prev_seq`). It is added from memory only if that link shows that nothing
//! lies between; otherwise the lane is read from the store. So a new delivery never overtakes one that memory does not
//! hold, whether that was dropped, read late, or never offered.

use super::backlog::{LANE_PAGE, ReadId};
use crate::delivery::PendingDelivery;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Deliveries of one ordered lane in memory.
pub(super) const LANE_LIMIT_DELIVERIES: usize = LANE_PAGE as usize;

/// Identifies a lane. A delivery without order is a lane of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Ordered(i64),
    /// The delivery's `seq`.
    Unordered(i64),
}

impl Key {
    pub fn of(delivery: &PendingDelivery) -> Key {
        if delivery.lane == 0 { Key::Unordered(delivery.seq) } else { Key::Ordered(delivery.lane) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Class {
    /// The first delivery has not failed, as far as is known.
    Fresh,
    /// The first delivery failed before.
    Retry,
    /// The first delivery bypasses the participant's channel (a callback, a reply queue), so the channel's state does
    /// not matter.
    Bypass,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    /// Between two other states.
    Idle,
    /// Scheduled to be read from the store.
    Unread {
        class: Class,
        ticket: u64,
    },
    Loading {
        class: Class,
        read: ReadId,
    },
    /// Scheduled to start. `prefetched`: it was read for that, in this class.
    Ready {
        class: Class,
        ticket: u64,
        prefetched: Option<Class>,
    },
    /// An attempt is active.
    Busy,
    /// The first delivery waits until its time. `by_receiver`: the receiver named the time (Retry-After). `stored`: the
    /// store has the time. `streak`: the streak of failures that it belongs to, if known.
    Waiting {
        until: Instant,
        by_receiver: bool,
        stored: bool,
        streak: Option<u64>,
    },
}

#[derive(Debug)]
pub(super) struct Lane {
    deliveries: VecDeque<PendingDelivery>,
    through_seq: i64,
    /// The store may hold deliveries after `through_seq`.
    more: bool,
    pub state: State,
    /// `seq` of the first delivery once its wait is known, so that it is not made to wait a second time.
    pub waited_seq: Option<i64>,
    /// The highest `seq` that was offered while the store was being read.
    missed_seq: i64,
    /// A delivery of the read in progress may have ended meanwhile.
    pub stale: bool,
    /// The first delivery last seen bypasses the participant's channel.
    pub bypasses_channel: bool,
}

impl Lane {
    /// A lane whose deliveries are all in the store.
    pub fn unread() -> Self {
        Lane {
            deliveries: VecDeque::new(),
            through_seq: i64::MIN,
            more: true,
            state: State::Idle,
            waited_seq: None,
            missed_seq: i64::MIN,
            stale: false,
            bypasses_channel: false,
        }
    }

    /// A lane of which only this is known: its first delivery waits, or waited.
    pub fn waited(head_seq: i64) -> Self {
        Lane { waited_seq: Some(head_seq), ..Self::unread() }
    }

    /// A lane without waiting deliveries.
    pub fn fresh() -> Self {
        Lane { more: false, ..Self::unread() }
    }

    pub fn head(&self) -> Option<&PendingDelivery> {
        self.deliveries.front()
    }

    pub fn has_more(&self) -> bool {
        self.more
    }

    pub fn is_full(&self) -> bool {
        self.deliveries.len() >= LANE_LIMIT_DELIVERIES
    }

    /// The next read begins after this.
    pub fn through_seq(&self) -> i64 {
        self.through_seq
    }

    /// Whether nothing that waits lies between the deliveries in memory and this one.
    pub fn is_followed_by(&self, delivery: &PendingDelivery) -> bool {
        !self.more && delivery.prev_seq.is_none_or(|prev| prev <= self.through_seq)
    }

    /// Whether the delivery is in memory, active, or ended.
    pub fn covers(&self, delivery: &PendingDelivery) -> bool {
        delivery.seq <= self.through_seq
    }

    /// Appends a delivery that follows directly.
    pub fn push(&mut self, delivery: PendingDelivery) {
        self.through_seq = delivery.seq;
        self.deliveries.push_back(delivery);
    }

    /// This delivery, and perhaps more, is only in the store.
    pub fn mark_missed(&mut self, seq: i64) {
        self.more = true;
        self.missed_seq = self.missed_seq.max(seq);
    }

    /// A read begins: it finds everything that was offered before.
    pub fn begin_read(&mut self) {
        self.missed_seq = i64::MIN;
        self.stale = false;
    }

    /// Everything that was read and fits was pushed. `more`: the store may hold more.
    pub fn end_read(&mut self, more: bool) {
        self.more = more || self.missed_seq > self.through_seq;
    }

    /// Skips a delivery that was read and is not the courier's to send.
    pub fn skip_to(&mut self, seq: i64) {
        self.through_seq = seq;
    }

    pub fn pop(&mut self) -> Option<PendingDelivery> {
        self.deliveries.pop_front()
    }

    pub fn remove(&mut self, delivery_key: i64) -> Option<PendingDelivery> {
        let place = self.deliveries.iter().position(|delivery| delivery.delivery_key == delivery_key)?;
        self.deliveries.remove(place)
    }

    /// Drops the deliveries from memory; they stay in the store.
    pub fn unload(&mut self) -> VecDeque<PendingDelivery> {
        (self.through_seq, self.more) = (i64::MIN, true);
        std::mem::take(&mut self.deliveries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pending;

    fn after(prev_seq: Option<i64>, seq: i64) -> PendingDelivery {
        PendingDelivery { prev_seq, ..pending("lab", 1, seq) }
    }

    #[test]
    fn a_work_follows_only_where_its_link_shows_that_nothing_is_left_out() {
        let mut lane = Lane::fresh();
        assert!(lane.is_followed_by(&after(None, 5)));
        lane.push(after(None, 5));
        assert!(lane.is_followed_by(&after(Some(5), 6)));
        assert!(lane.is_followed_by(&after(Some(3), 6)), "what is older has ended or stands before");
        assert!(!lane.is_followed_by(&after(Some(6), 7)), "6 never came");
        lane.unload();
        assert!(!lane.is_followed_by(&after(None, 9)));
    }

    #[test]
    fn what_is_offered_while_the_store_is_read_makes_it_read_again_unless_it_was_found() {
        let mut lane = Lane::unread();
        lane.begin_read();
        lane.mark_missed(8);
        lane.push(after(None, 7));
        lane.end_read(false);
        assert!(lane.has_more());
        lane.begin_read();
        lane.push(after(Some(7), 8));
        lane.end_read(false);
        assert!(!lane.has_more() && lane.covers(&after(Some(7), 8)));
    }
}

//! How lanes go from one state to the next: the only place where turns, waits and counts change.

use super::super::breaker::Moment;
use super::super::lane::{Class, Key, Lane, State};
use super::super::load::{LANES_PAGE, What};
use super::{Counts, Desk, FREE_WAITING_LIMIT_WORKS, RETRIES_LIMIT, WAIT_LIMIT_MIN_SECONDS};
use crate::delivery::PendingDelivery;
use std::time::Duration;
use tokio::time::Instant;

impl Counts {
    fn of(&mut self, key: Key, state: State) -> Option<&mut usize> {
        let retry = match state {
            State::Unread { class, .. } | State::Loading { class, .. } | State::Ready { class, .. } => {
                class == Class::Retry
            }
            State::Waiting { .. } => true,
            State::Idle | State::Busy => return None,
        };
        Some(match (key, state) {
            (Key::Ordered(_), _) if retry => &mut self.retries,
            (Key::Ordered(_), _) => &mut self.lanes,
            (Key::Free(_), State::Waiting { .. }) => &mut self.free_waiting,
            (Key::Free(_), _) if retry => &mut self.free_retries,
            (Key::Free(_), _) => &mut self.free_ready,
        })
    }
}

impl Desk {
    pub(super) fn add_lane(&mut self, key: Key, lane: Lane) {
        self.counts.free += usize::from(matches!(key, Key::Free(_)));
        self.lanes.insert(key, lane);
    }

    pub(super) fn drop_lane(&mut self, key: Key) {
        self.take_out(key);
        self.leave_to_store(key);
        if self.lanes.remove(&key).is_some() {
            self.counts.free -= usize::from(matches!(key, Key::Free(_)));
        }
    }

    /// Takes a lane from where it stands; it is idle then.
    pub(super) fn take_out(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let state = std::mem::replace(&mut lane.state, State::Idle);
        match state {
            State::Unread { class, turn } => self.turns.remove(class, turn),
            State::Loading { class, .. } => self.turns.no_longer_ahead(class),
            State::Ready { class, turn, ahead } => {
                self.turns.remove(class, turn);
                if let Some(class) = ahead {
                    self.turns.no_longer_ahead(class);
                }
            }
            State::Waiting { until, .. } => drop(self.waiting.remove(&(until, key))),
            State::Idle | State::Busy => {}
        }
        if let Some(count) = self.counts.of(key, state) {
            *count -= 1;
        }
    }

    /// Puts an idle lane where the state says.
    fn enter(&mut self, key: Key, state: State) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.state = state;
        if let Some(count) = self.counts.of(key, state) {
            *count += 1;
        }
    }

    /// Decides what an idle lane does next: wait, start, be read, or end.
    pub(super) fn arrange(&mut self, key: Key, at: Moment) {
        self.arrange_after(key, None, at);
    }

    /// `ahead`: it was read for its turn just now.
    pub(super) fn arrange_after(&mut self, key: Key, ahead: Option<Class>, at: Moment) {
        let Some(lane) = self.lanes.get(&key) else { return };
        match (lane.head(), key) {
            (Some(head), _) => match self.wait_of(lane, head, at) {
                Some(until) => self.park(key, head.seq, until, false),
                None => self.make_ready(key, ahead),
            },
            (None, Key::Ordered(number)) if lane.has_more() => self.make_unread(number, Class::Fresh),
            (None, _) => self.drop_lane(key),
        }
    }

    fn make_ready(&mut self, key: Key, ahead: Option<Class>) {
        let Some(head) = self.lanes.get(&key).and_then(Lane::head) else { return };
        let bypasses_channel = head.kind.bypasses_channel();
        let class = match bypasses_channel {
            true => Class::OwnWay,
            false if head.attempts > 0 => Class::Retry,
            false => Class::Fresh,
        };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.bypasses_channel = bypasses_channel;
        }
        let turn = self.turns.add_ready(class, key);
        if let Some(class) = ahead {
            self.turns.ahead(class);
        }
        self.enter(key, State::Ready { class, turn, ahead });
    }

    pub(super) fn make_unread(&mut self, lane: i64, class: Class) {
        let turn = self.turns.add_unread(class, lane);
        self.enter(Key::Ordered(lane), State::Unread { class, turn });
    }

    /// Asks for the works of a lane whose turn it is to be read.
    pub(super) fn load(&mut self, lane: i64, class: Class) {
        let key = Key::Ordered(lane);
        self.take_out(key);
        let Some(known) = self.lanes.get_mut(&key) else { return };
        known.begin_read();
        let after_seq = known.through_seq();
        let read = self.ask(What::Lane { lane, after_seq });
        self.turns.ahead(class);
        self.enter(key, State::Loading { class, read });
    }

    /// An attempt failed: the work waits at its place.
    pub(super) fn put_back(&mut self, work: PendingDelivery, until: Instant, asked: bool, stored: bool) {
        let state = State::Waiting { until, asked, stored, row: Some(self.row) };
        match Key::of(&work) {
            key @ Key::Ordered(_) => {
                self.leave_to_store(key);
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.waited_seq = Some(work.seq);
                }
                self.make_waiting(key, until, work.due_at_us, state);
            }
            key @ Key::Free(_) if self.counts.free_waiting < FREE_WAITING_LIMIT_WORKS => {
                let work = PendingDelivery { body: None, ..work };
                self.share.take(&work);
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.waited_seq = Some(work.seq);
                    lane.push(work);
                }
                self.waiting.insert((until, key));
                self.enter(key, state);
            }
            key @ Key::Free(_) => {
                self.drop_lane(key);
                // Where the store knows of no wait, it is found among what is due now.
                self.due_free.expect(until, work.due_at_us);
                if !stored {
                    self.free.miss(work.seq - 1);
                }
            }
        }
    }

    /// The store says that the head waits.
    fn park(&mut self, key: Key, head_seq: i64, until: Instant, asked: bool) {
        let due_at_us = self.lanes.get(&key).and_then(Lane::head).map_or(0, |head| head.due_at_us);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.bypasses_channel = lane.head().is_some_and(|head| head.kind.bypasses_channel());
            lane.waited_seq = Some(head_seq);
        }
        if let Key::Ordered(_) = key {
            self.leave_to_store(key);
        }
        self.make_waiting(key, until, due_at_us, State::Waiting { until, asked, stored: true, row: None });
    }

    /// A lane that waits: in memory while there is room, the earliest of them.
    pub(super) fn make_waiting(&mut self, key: Key, until: Instant, due_at_us: i64, state: State) {
        self.waiting.insert((until, key));
        self.enter(key, state);
        if let Key::Ordered(_) = key
            && self.counts.retries > RETRIES_LIMIT
        {
            self.leave_latest((until, key, due_at_us));
        }
    }

    /// Leaves the lane that waits longest to the store.
    fn leave_latest(&mut self, (own_until, own, own_due_at_us): (Instant, Key, i64)) {
        let latest = self.waiting.iter().rev().find(|(_, key)| matches!(key, Key::Ordered(_))).copied();
        let Some((until, key)) = latest else { return };
        let stored = matches!(self.lanes.get(&key).map(|lane| lane.state), Some(State::Waiting { stored: true, .. }));
        let due_at_us = if key == own {
            own_due_at_us
        } else {
            // As far from the other as it is on the monotonic clock.
            let later = until.saturating_duration_since(own_until);
            own_due_at_us.saturating_add(i64::try_from(later.as_micros()).unwrap_or(i64::MAX))
        };
        self.drop_lane(key);
        if stored {
            self.due_lanes.expect(until, due_at_us);
        } else {
            self.listing.miss(None);
        }
    }

    /// Whether a page of lanes that came due has room. Those that wait longest give way.
    pub(super) fn make_room_for_retries(&mut self, at: Moment) -> bool {
        while self.counts.retries + LANES_PAGE as usize > RETRIES_LIMIT {
            let waits = self.waiting.last().is_some_and(|(until, _)| *until > at.now);
            let before = self.counts.retries;
            if waits {
                self.leave_latest((at.now, Key::Free(i64::MIN), at.now_us));
            }
            if self.counts.retries == before {
                return false;
            }
        }
        true
    }

    /// Every lane whose time has come.
    pub(super) fn wake(&mut self, at: Moment) {
        while let Some(&(until, key)) = self.waiting.first()
            && until <= at.now
        {
            self.come_due(key);
        }
    }

    /// The time of a lane that waits has come, or is not waited for.
    pub(super) fn come_due(&mut self, key: Key) {
        self.take_out(key);
        match key {
            Key::Ordered(number) => {
                let bypasses_channel = self.lanes.get(&key).is_some_and(|lane| lane.bypasses_channel);
                self.make_unread(number, if bypasses_channel { Class::OwnWay } else { Class::Retry });
            }
            Key::Free(_) => self.make_ready(key, None),
        }
    }

    /// The receiver is back: what failed in the row of failures that ended goes now, save where the receiver itself named a
    /// time. What failed before keeps to its own schedule.
    pub(super) fn hurry_row(&mut self, ended: u64) {
        let waiting: Vec<Key> = self.waiting.iter().map(|(_, key)| *key).collect();
        for key in waiting {
            let state = self.lanes.get(&key).map(|lane| lane.state);
            if matches!(state, Some(State::Waiting { asked: false, row: Some(row), .. }) if row == ended) {
                self.come_due(key);
            }
        }
    }

    /// All that waits for its next try goes now, save where the receiver itself named a time.
    pub(super) fn hurry_all(&mut self, at: Moment) {
        let waiting: Vec<Key> = self.waiting.iter().map(|(_, key)| *key).collect();
        for key in waiting {
            let state = self.lanes.get(&key).map(|lane| lane.state);
            if matches!(state, Some(State::Waiting { asked: false, .. })) {
                self.come_due(key);
            }
        }
        self.due_lanes.hurry(at.now);
        self.due_free.hurry(at.now);
        // Lanes that the list brings from now on may have waited, too.
        self.hurries_list = !self.listing.has_ended();
    }

    /// Tries one delivery now that waits for its next try, whatever it waits for; where memory does not hold it, the store
    /// says that it is due.
    pub(super) fn hurry_one(&mut self, work: &PendingDelivery) {
        let key = Key::of(work);
        match (self.lanes.get(&key).map(|lane| lane.state), key) {
            (Some(State::Waiting { .. }), _) => self.come_due(key),
            (None, Key::Ordered(lane)) => {
                self.add_lane(key, Lane::waited(work.seq));
                self.make_unread(lane, Class::Retry);
            }
            (None, Key::Free(seq)) => self.free.miss(seq - 1),
            (Some(_), _) => {}
        }
    }

    /// The lane that waits and comes due first, for a probe: what the receiver named a time for is left alone.
    pub(super) fn first_waiting(&self) -> Option<Key> {
        let asked =
            |key: &Key| matches!(self.lanes.get(key).map(|lane| lane.state), Some(State::Waiting { asked: true, .. }));
        let bypasses_channel = |key: &Key| self.lanes.get(key).is_some_and(|lane| lane.bypasses_channel);
        self.waiting.iter().map(|(_, key)| *key).find(|key| !asked(key) && !bypasses_channel(key))
    }

    /// Memory holds nothing of the lane any more.
    pub(super) fn leave_to_store(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        for work in lane.leave() {
            self.share.give_back(&work);
        }
    }

    /// Takes one work out of a lane; whether it was there.
    pub(super) fn remove(&mut self, key: Key, delivery_key: i64) -> bool {
        let removed = self.lanes.get_mut(&key).and_then(|lane| lane.remove(delivery_key));
        if let Some(work) = &removed {
            self.share.give_back(work);
        }
        removed.is_some()
    }

    pub(super) fn note_ended(&mut self, key: Key) {
        if let Key::Free(seq) = key
            && (self.free.is_reading() || self.due_free.walk.is_reading())
        {
            self.ended_meanwhile.insert(seq);
        }
    }

    /// Until when a head that is read from the store waits.
    fn wait_of(&self, lane: &Lane, head: &PendingDelivery, at: Moment) -> Option<Instant> {
        if lane.waited_seq == Some(head.seq) {
            return None;
        }
        self.wait_until(head.due_at_us, at)
    }

    /// Bounded, so that a clock set back delays nothing for long.
    pub(super) fn wait_until(&self, due_at_us: i64, at: Moment) -> Option<Instant> {
        if due_at_us == 0 {
            return None;
        }
        let wait_us = u64::try_from(due_at_us.saturating_sub(at.now_us)).ok().filter(|wait_us| *wait_us > 0)?;
        Some(at.now + Duration::from_micros(wait_us).min(self.longest_wait()))
    }

    pub(super) fn longest_wait(&self) -> Duration {
        let longest = self.settings.retry_schedule_seconds.iter().copied().max().unwrap_or(0);
        Duration::from_secs(longest).mul_f64(1.2).max(Duration::from_secs(WAIT_LIMIT_MIN_SECONDS))
    }
}

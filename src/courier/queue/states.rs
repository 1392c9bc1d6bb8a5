//! The state transitions of lanes. Schedule, waits, and counts change nowhere else.

use super::super::backlog::{LANES_PAGE, Query};
use super::super::breaker::Moment;
use super::super::lane::{Class, Key, Lane, State};
use super::{Counts, ParticipantQueue, RETRIES_LIMIT, UNORDERED_WAITING_LIMIT_DELIVERIES, WAIT_LIMIT_MIN_SECONDS};
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
            (Key::Unordered(_), State::Waiting { .. }) => &mut self.unordered_waiting,
            (Key::Unordered(_), _) if retry => &mut self.unordered_retries,
            (Key::Unordered(_), _) => &mut self.unordered_ready,
        })
    }
}

impl ParticipantQueue {
    pub(super) fn add_lane(&mut self, key: Key, lane: Lane) {
        self.counts.unordered += usize::from(matches!(key, Key::Unordered(_)));
        self.lanes.insert(key, lane);
    }

    pub(super) fn drop_lane(&mut self, key: Key) {
        self.detach(key);
        self.unload(key);
        if self.lanes.remove(&key).is_some() {
            self.counts.unordered -= usize::from(matches!(key, Key::Unordered(_)));
        }
    }

    /// Removes a lane from the schedule or the waits. It is idle then.
    pub(super) fn detach(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let state = std::mem::replace(&mut lane.state, State::Idle);
        match state {
            State::Unread { class, ticket } => self.scheduler.remove(class, ticket),
            State::Loading { class, .. } => self.scheduler.prefetch_ended(class),
            State::Ready { class, ticket, prefetched } => {
                self.scheduler.remove(class, ticket);
                if let Some(class) = prefetched {
                    self.scheduler.prefetch_ended(class);
                }
            }
            State::Waiting { until, .. } => drop(self.waiting.remove(&(until, key))),
            State::Idle | State::Busy => {}
        }
        if let Some(count) = self.counts.of(key, state) {
            *count -= 1;
        }
    }

    /// Gives an idle lane its next state, and counts it.
    fn attach(&mut self, key: Key, state: State) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.state = state;
        if let Some(count) = self.counts.of(key, state) {
            *count += 1;
        }
    }

    /// Decides what an idle lane does next: wait, start, be read, or end.
    pub(super) fn reschedule(&mut self, key: Key, at: Moment) {
        self.reschedule_after(key, None, at);
    }

    /// `prefetched`: it was read just now, in this class.
    pub(super) fn reschedule_after(&mut self, key: Key, prefetched: Option<Class>, at: Moment) {
        let Some(lane) = self.lanes.get(&key) else { return };
        match (lane.head(), key) {
            (Some(head), _) => match self.wait_of(lane, head, at) {
                Some(until) => self.park(key, head.seq, until, false),
                None => self.make_ready(key, prefetched),
            },
            (None, Key::Ordered(number)) if lane.has_more() => self.make_unread(number, Class::Fresh),
            (None, _) => self.drop_lane(key),
        }
    }

    fn make_ready(&mut self, key: Key, prefetched: Option<Class>) {
        let Some(head) = self.lanes.get(&key).and_then(Lane::head) else { return };
        let bypasses_channel = head.kind.bypasses_channel();
        let class = match bypasses_channel {
            true => Class::Bypass,
            false if head.attempts > 0 => Class::Retry,
            false => Class::Fresh,
        };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.bypasses_channel = bypasses_channel;
        }
        let ticket = self.scheduler.add_ready(class, key);
        if let Some(class) = prefetched {
            self.scheduler.prefetch_started(class);
        }
        self.attach(key, State::Ready { class, ticket, prefetched });
    }

    pub(super) fn make_unread(&mut self, lane: i64, class: Class) {
        let ticket = self.scheduler.add_unread(class, lane);
        self.attach(Key::Ordered(lane), State::Unread { class, ticket });
    }

    /// Asks for the deliveries of a lane that is next to be read.
    pub(super) fn load(&mut self, lane: i64, class: Class) {
        let key = Key::Ordered(lane);
        self.detach(key);
        let Some(known) = self.lanes.get_mut(&key) else { return };
        known.begin_read();
        let after_seq = known.through_seq();
        let read = self.ask(Query::Lane { lane, after_seq });
        self.scheduler.prefetch_started(class);
        self.attach(key, State::Loading { class, read });
    }

    /// An attempt failed: the delivery waits, still the first of its lane.
    pub(super) fn wait_for_retry(
        &mut self,
        delivery: PendingDelivery,
        until: Instant,
        by_receiver: bool,
        stored: bool,
    ) {
        let state = State::Waiting { until, by_receiver, stored, streak: Some(self.streak) };
        match Key::of(&delivery) {
            key @ Key::Ordered(_) => {
                self.unload(key);
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.waited_seq = Some(delivery.seq);
                }
                self.make_waiting(key, until, delivery.due_at_us, state);
            }
            key @ Key::Unordered(_) if self.counts.unordered_waiting < UNORDERED_WAITING_LIMIT_DELIVERIES => {
                let delivery = PendingDelivery { body: None, ..delivery };
                self.share.reserve(&delivery);
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.waited_seq = Some(delivery.seq);
                    lane.push(delivery);
                }
                self.waiting.insert((until, key));
                self.attach(key, state);
            }
            key @ Key::Unordered(_) => {
                self.drop_lane(key);
                // If the store does not have the time, it lists the delivery as due now.
                self.due_unordered.expect(until, delivery.due_at_us);
                if !stored {
                    self.unordered.mark_missed(delivery.seq - 1);
                }
            }
        }
    }

    /// The store says that the first delivery waits.
    fn park(&mut self, key: Key, head_seq: i64, until: Instant, by_receiver: bool) {
        let due_at_us = self.lanes.get(&key).and_then(Lane::head).map_or(0, |head| head.due_at_us);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.bypasses_channel = lane.head().is_some_and(|head| head.kind.bypasses_channel());
            lane.waited_seq = Some(head_seq);
        }
        if let Key::Ordered(_) = key {
            self.unload(key);
        }
        self.make_waiting(key, until, due_at_us, State::Waiting { until, by_receiver, stored: true, streak: None });
    }

    /// Makes a lane wait: in memory while there is room for it, those that are due first.
    pub(super) fn make_waiting(&mut self, key: Key, until: Instant, due_at_us: i64, state: State) {
        self.waiting.insert((until, key));
        self.attach(key, state);
        if let Key::Ordered(_) = key
            && self.counts.retries > RETRIES_LIMIT
        {
            self.unload_latest((until, key, due_at_us));
        }
    }

    /// Drops the lane with the longest wait from memory.
    fn unload_latest(&mut self, (own_until, own, own_due_at_us): (Instant, Key, i64)) {
        let latest = self.waiting.iter().rev().find(|(_, key)| matches!(key, Key::Ordered(_))).copied();
        let Some((until, key)) = latest else { return };
        let stored = matches!(self.lanes.get(&key).map(|lane| lane.state), Some(State::Waiting { stored: true, .. }));
        let due_at_us = if key == own {
            own_due_at_us
        } else {
            // As far from the other as it is on the monotonic clock.
            let later = until.saturating_duration_since(own_until);
            // As far from the other one as on the monotonic clock.
            own_due_at_us.saturating_add(i64::try_from(later.as_micros()).unwrap_or(i64::MAX))
        };
        self.drop_lane(key);
        if stored {
            self.due_lanes.expect(until, due_at_us);
        } else {
            self.listing.mark_missed(None);
        }
    }

    /// Whether there is room for a page of lanes that came due. Those with the longest wait make room.
    pub(super) fn make_room_for_retries(&mut self, at: Moment) -> bool {
        while self.counts.retries + LANES_PAGE as usize > RETRIES_LIMIT {
            let waits = self.waiting.last().is_some_and(|(until, _)| *until > at.now);
            let before = self.counts.retries;
            if waits {
                self.unload_latest((at.now, Key::Unordered(i64::MIN), at.now_us));
            }
            if self.counts.retries == before {
                return false;
            }
        }
        true
    }

    /// Makes every lane due whose time has come.
    pub(super) fn wake(&mut self, at: Moment) {
        while let Some(&(until, key)) = self.waiting.first()
            && until <= at.now
        {
            self.come_due(key);
        }
    }

    /// Ends the wait of a lane, at its time or before.
    pub(super) fn come_due(&mut self, key: Key) {
        self.detach(key);
        match key {
            Key::Ordered(number) => {
                let bypasses_channel = self.lanes.get(&key).is_some_and(|lane| lane.bypasses_channel);
                self.make_unread(number, if bypasses_channel { Class::Bypass } else { Class::Retry });
            }
            Key::Unordered(_) => self.make_ready(key, None),
        }
    }

    /// The receiver is up again: what failed in the streak that just ended is due now, unless the receiver named a
    /// time. What failed before keeps its own schedule.
    pub(super) fn make_streak_due(&mut self, ended: u64) {
        let waiting: Vec<Key> = self.waiting.iter().map(|(_, key)| *key).collect();
        for key in waiting {
            let state = self.lanes.get(&key).map(|lane| lane.state);
            if matches!(state, Some(State::Waiting { by_receiver: false, streak: Some(streak), .. }) if streak == ended)
            {
                self.come_due(key);
            }
        }
    }

    /// Everything that waits is due now, unless the receiver named a time.
    pub(super) fn make_all_due(&mut self, at: Moment) {
        let waiting: Vec<Key> = self.waiting.iter().map(|(_, key)| *key).collect();
        for key in waiting {
            let state = self.lanes.get(&key).map(|lane| lane.state);
            if matches!(state, Some(State::Waiting { by_receiver: false, .. })) {
                self.come_due(key);
            }
        }
        self.due_lanes.make_all_due(at.now);
        self.due_unordered.make_all_due(at.now);
        // Lanes that the listing has yet to bring may have waited too.
        self.listed_are_due = !self.listing.has_ended();
    }

    /// Makes one waiting delivery due now, whatever it waits for. If memory does not hold it, the store already lists
    /// it as due.
    pub(super) fn make_one_due(&mut self, delivery: &PendingDelivery) {
        let key = Key::of(delivery);
        match (self.lanes.get(&key).map(|lane| lane.state), key) {
            (Some(State::Waiting { .. }), _) => self.come_due(key),
            (None, Key::Ordered(lane)) => {
                self.add_lane(key, Lane::waited(delivery.seq));
                self.make_unread(lane, Class::Retry);
            }
            (None, Key::Unordered(seq)) => self.unordered.mark_missed(seq - 1),
            (Some(_), _) => {}
        }
    }

    /// The waiting lane that is due first, as a probe. Lanes for which the receiver named a time are left alone.
    pub(super) fn first_waiting(&self) -> Option<Key> {
        let by_receiver = |key: &Key| {
            matches!(self.lanes.get(key).map(|lane| lane.state), Some(State::Waiting { by_receiver: true, .. }))
        };
        let bypasses_channel = |key: &Key| self.lanes.get(key).is_some_and(|lane| lane.bypasses_channel);
        self.waiting.iter().map(|(_, key)| *key).find(|key| !by_receiver(key) && !bypasses_channel(key))
    }

    /// Drops the deliveries of a lane from memory.
    pub(super) fn unload(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        for delivery in lane.unload() {
            self.share.release(&delivery);
        }
    }

    /// Removes one delivery from a lane; whether it was there.
    pub(super) fn remove(&mut self, key: Key, delivery_key: i64) -> bool {
        let removed = self.lanes.get_mut(&key).and_then(|lane| lane.remove(delivery_key));
        if let Some(delivery) = &removed {
            self.share.release(delivery);
        }
        removed.is_some()
    }

    pub(super) fn note_ended(&mut self, key: Key) {
        if let Key::Unordered(seq) = key
            && (self.unordered.is_reading() || self.due_unordered.cursor.is_reading())
        {
            self.ended_meanwhile.insert(seq);
        }
    }

    /// Until when the first delivery waits that was read from the store.
    fn wait_of(&self, lane: &Lane, head: &PendingDelivery, at: Moment) -> Option<Instant> {
        if lane.waited_seq == Some(head.seq) {
            return None;
        }
        self.wait_until(head.due_at_us, at)
    }

    /// Bounded, so that setting the clock back delays nothing for long.
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

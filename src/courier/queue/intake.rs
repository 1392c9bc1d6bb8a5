//! What enters a queue: offers, and pages that it asked the store for. Whatever memory has no room for is marked as
//! missed and read when there is room.

use super::super::backlog::{LANE_PAGE, LANES_PAGE, Page, Query, Read, ReadId, UNORDERED_PAGE};
use super::super::breaker::Moment;
use super::super::lane::{Class, Key, Lane, State};
use super::{LANES_LIMIT, ParticipantQueue, RETRIES_LIMIT, UNORDERED_LIMIT_DELIVERIES, UNORDERED_LOW_DELIVERIES};
use crate::delivery::PendingDelivery;
use crate::store::{DuePage, LaneHead};

impl ParticipantQueue {
    /// Asks for what memory has room for.
    pub(super) fn read_on(&mut self, at: Moment) {
        for class in [Class::Bypass, Class::Fresh, Class::Retry] {
            while let Some(lane) = self.scheduler.next_unread(class) {
                self.load(lane, class);
            }
        }
        let limit = if self.listing_waits { LANES_LIMIT / 2 } else { LANES_LIMIT };
        if let Some(after) = self.listing.next() {
            self.listing_waits = self.counts.lanes + LANES_PAGE as usize > limit;
            if !self.listing_waits {
                let read = self.ask(Query::Lanes { after });
                self.listing.begin(read);
            }
        }
        if let Some(after_seq) =
            self.unordered.next().filter(|_| self.counts.unordered_ready < UNORDERED_LOW_DELIVERIES)
        {
            let read = self.ask(Query::Unordered { after_seq });
            self.unordered.begin(read);
        }
        if !self.breaker.is_open() {
            self.read_due(at);
        }
    }

    fn read_due(&mut self, at: Moment) {
        self.due_lanes.begin_if_due(at);
        if let Some(after) = self.due_lanes.cursor.next()
            && self.make_room_for_retries(at)
        {
            let read = self.ask(Query::DueLanes { after, through_us: self.due_lanes.through_us });
            self.due_lanes.cursor.begin(read);
        }
        self.due_unordered.begin_if_due(at);
        if let Some(after) = self.due_unordered.cursor.next()
            && self.counts.unordered_retries < UNORDERED_LOW_DELIVERIES
        {
            let read = self.ask(Query::DueUnordered { after, through_us: self.due_unordered.through_us });
            self.due_unordered.cursor.begin(read);
        }
    }

    pub(super) fn ask(&mut self, query: Query) -> ReadId {
        self.reads_made += 1;
        let id = (self.id, self.reads_made);
        self.reads.push(Read { id, query, bypassing_only: !self.settings.is_carried_to() });
        id
    }

    /// Takes a delivery that was just committed.
    pub(in crate::courier) fn offer(&mut self, delivery: PendingDelivery, at: Moment) {
        if self.retired || !self.carries(&delivery) {
            return;
        }
        match Key::of(&delivery) {
            Key::Unordered(_) => self.offer_unordered(delivery, at),
            key @ Key::Ordered(_) => self.offer_in_order(key, delivery, at),
        }
    }

    fn offer_unordered(&mut self, mut delivery: PendingDelivery, at: Moment) {
        let key = Key::Unordered(delivery.seq);
        if self.lanes.contains_key(&key) {
            return;
        }
        if delivery.due_at_us > 0 {
            // The store lists it among those that wait for a time.
            let until = self.wait_until(delivery.due_at_us, at).unwrap_or(at.now);
            return self.due_unordered.expect(until, delivery.due_at_us);
        }
        // A delivery that a read may have returned may have ended too; only the store knows.
        let bypasses_channel = delivery.kind.bypasses_channel();
        // Query goes its own way does not wait behind what is left to the store for the participant's channel.
        let known_new =
            delivery.seq > self.loaded_seq.max(self.forgotten_seq) && (self.unordered.has_ended() || bypasses_channel);
        let limit = if bypasses_channel { 2 * UNORDERED_LIMIT_DELIVERIES } else { UNORDERED_LIMIT_DELIVERIES };
        if known_new && self.counts.unordered < limit && self.share.admits(&mut delivery) {
            self.add_unordered(delivery, at);
        } else {
            self.unordered.mark_missed(delivery.seq - 1);
        }
    }

    fn offer_in_order(&mut self, key: Key, mut delivery: PendingDelivery, at: Moment) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            if lane.covers(&delivery) {
                return;
            }
            let known_new = delivery.seq > self.forgotten_seq && lane.is_followed_by(&delivery);
            if !known_new || lane.is_full() || !self.share.admits(&mut delivery) {
                lane.mark_missed(delivery.seq);
                return;
            }
            self.share.reserve(&delivery);
            lane.push(delivery);
            return;
        }
        if self.counts.lanes >= LANES_LIMIT {
            self.listing.mark_missed(None);
            return;
        }
        let known_new = delivery.prev_seq.is_none() && delivery.seq > self.loaded_seq.max(self.forgotten_seq);
        if known_new && self.share.admits(&mut delivery) {
            self.share.reserve(&delivery);
            let mut lane = Lane::fresh();
            lane.push(delivery);
            self.add_lane(key, lane);
        } else {
            self.add_lane(key, Lane::unread());
        }
        self.reschedule(key, at);
    }

    /// Another node has committed this delivery. It may have ended since, so it is read from the store. Only simulated nodes do that
    /// so far.
    #[cfg(test)]
    pub(in crate::courier) fn hint(&mut self, delivery: &PendingDelivery, at: Moment) {
        if self.retired || !self.carries(delivery) {
            return;
        }
        match Key::of(delivery) {
            key @ Key::Unordered(seq) if !self.lanes.contains_key(&key) && !self.active.contains_key(&seq) => {
                match self.wait_until(delivery.due_at_us, at) {
                    Some(until) => self.due_unordered.expect(until, delivery.due_at_us),
                    None => self.unordered.mark_missed(seq - 1),
                }
            }
            Key::Unordered(_) => {}
            key @ Key::Ordered(_) => match self.lanes.get_mut(&key) {
                Some(lane) if lane.covers(delivery) => {}
                Some(lane) => lane.mark_missed(delivery.seq),
                None if self.counts.lanes >= LANES_LIMIT => self.listing.mark_missed(None),
                None => {
                    self.add_lane(key, Lane::unread());
                    self.reschedule(key, at);
                }
            },
        }
    }

    /// An offer did not reach the courier: memory holds only a part of what the store has.
    pub(in crate::courier) fn mark_incomplete(&mut self) {
        for (key, lane) in &mut self.lanes {
            if let Key::Ordered(_) = key {
                lane.mark_missed(i64::MAX);
            }
        }
        self.listing.mark_missed(None);
        self.unordered.mark_missed(i64::MIN);
    }

    /// Takes the result of a read.
    pub(in crate::courier) fn page(&mut self, read: Read, page: Page, at: Moment) {
        if self.retired {
            return;
        }
        match (read.query, page) {
            (Query::Lanes { .. }, Page::Lanes(heads)) => self.listed(read.id, &heads, at),
            (Query::Lane { lane, .. }, Page::Deliveries(deliveries)) => self.loaded(read.id, lane, deliveries, at),
            (Query::Unordered { .. }, Page::Deliveries(deliveries)) => self.loaded_unordered(read.id, deliveries, at),
            (Query::DueLanes { .. }, Page::DueLanes(page)) => self.lanes_came_due(read.id, &page, at),
            (Query::DueUnordered { .. }, Page::DueUnordered(page)) => self.unordered_came_due(read.id, page, at),
            _ => {}
        }
    }

    fn listed(&mut self, read: ReadId, heads: &[LaneHead], at: Moment) {
        let last = heads.last().map(|head| Some(head.lane));
        if !self.listing.end(read, last, heads.len() >= LANES_PAGE as usize) {
            return;
        }
        for head in heads.iter().filter(|head| !self.lanes.contains_key(&Key::Ordered(head.lane))).collect::<Vec<_>>() {
            let class = class_of(head, if head.due_at_us > 0 { Class::Retry } else { Class::Fresh });
            match self.wait_until(head.due_at_us, at).filter(|_| !self.listed_are_due) {
                Some(until) if self.counts.retries >= RETRIES_LIMIT => self.due_lanes.expect(until, head.due_at_us),
                Some(until) => {
                    let key = self.add_unread(head);
                    let state = State::Waiting { until, by_receiver: false, stored: true, streak: None };
                    self.make_waiting(key, until, head.due_at_us, state);
                }
                None => {
                    self.add_unread(head);
                    self.make_unread(head.lane, class);
                }
            }
        }
        self.listed_are_due &= !self.listing.has_ended();
    }

    /// Adds a lane whose first delivery is only in the store.
    fn add_unread(&mut self, head: &LaneHead) -> Key {
        let key = Key::Ordered(head.lane);
        let mut lane = if head.due_at_us > 0 { Lane::waited(head.seq) } else { Lane::unread() };
        lane.bypasses_channel = head.bypasses_channel;
        self.add_lane(key, lane);
        key
    }

    fn loaded(&mut self, read: ReadId, lane: i64, deliveries: Vec<PendingDelivery>, at: Moment) {
        let key = Key::Ordered(lane);
        let Some(known) = self.lanes.get(&key) else { return };
        let State::Loading { class, read: expected } = known.state else { return };
        if expected != read {
            return;
        }
        let stale = known.stale;
        self.loaded_seq = deliveries.last().map_or(self.loaded_seq, |delivery| delivery.seq.max(self.loaded_seq));
        self.detach(key);
        if stale {
            self.make_unread(lane, class);
            return;
        }
        let mut more = deliveries.len() >= LANE_PAGE as usize;
        for mut delivery in deliveries {
            let carried = self.carries(&delivery);
            let Some(lane) = self.lanes.get_mut(&key) else { return };
            if !carried {
                lane.skip_to(delivery.seq);
                continue;
            }
            // The first one is held whatever its size: it is about to start.
            if lane.is_full() || (!self.share.admits(&mut delivery) && lane.head().is_some()) {
                more = true;
                break;
            }
            self.share.reserve(&delivery);
            lane.push(delivery);
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.end_read(more);
        }
        self.reschedule_after(key, Some(class), at);
    }

    fn loaded_unordered(&mut self, read: ReadId, deliveries: Vec<PendingDelivery>, at: Moment) {
        let last = deliveries.last().map(|delivery| delivery.seq);
        if !self.unordered.end(read, last, deliveries.len() >= UNORDERED_PAGE as usize) {
            return;
        }
        self.loaded_seq = last.map_or(self.loaded_seq, |last| last.max(self.loaded_seq));
        self.add_all_unordered(deliveries, at);
    }

    fn lanes_came_due(&mut self, read: ReadId, page: &DuePage<LaneHead>, at: Moment) {
        let last = page.items.last().map(|head| (head.due_at_us, head.seq));
        if !self.due_lanes.cursor.end(read, last, page.more) {
            return;
        }
        for head in &page.items {
            if !self.lanes.contains_key(&Key::Ordered(head.lane)) {
                self.add_unread(head);
                self.make_unread(head.lane, class_of(head, Class::Retry));
            }
        }
        let longest = self.longest_wait();
        self.due_lanes.page_ended(page.next_due_at_us, longest, at);
    }

    fn unordered_came_due(&mut self, read: ReadId, page: DuePage<PendingDelivery>, at: Moment) {
        let last = page.items.last().map(|delivery| (delivery.due_at_us, delivery.seq));
        if !self.due_unordered.cursor.end(read, last, page.more) {
            return;
        }
        let longest = self.longest_wait();
        self.due_unordered.page_ended(page.next_due_at_us, longest, at);
        self.add_all_unordered(page.items, at);
    }

    fn add_all_unordered(&mut self, deliveries: Vec<PendingDelivery>, at: Moment) {
        for delivery in deliveries {
            let known = self.lanes.contains_key(&Key::of(&delivery)) || self.ended_meanwhile.contains(&delivery.seq);
            if !known && self.carries(&delivery) {
                self.add_unordered(delivery, at);
            }
        }
        if !self.unordered.is_reading() && !self.due_unordered.cursor.is_reading() {
            self.ended_meanwhile.clear();
        }
    }

    /// Adds a due delivery without order, as a lane of its own.
    fn add_unordered(&mut self, delivery: PendingDelivery, at: Moment) {
        let key = Key::of(&delivery);
        self.share.reserve(&delivery);
        let mut lane = Lane::fresh();
        lane.waited_seq = Some(delivery.seq);
        lane.push(delivery);
        self.add_lane(key, lane);
        self.reschedule(key, at);
    }
}

fn class_of(head: &LaneHead, on_channel: Class) -> Class {
    if head.bypasses_channel { Class::Bypass } else { on_channel }
}

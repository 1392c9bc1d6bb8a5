//! What comes to a desk: offers, and pages of the store that it asked for. What memory has no room for is marked as missed and read back when
//! there is room.

use super::super::breaker::Moment;
use super::super::lane::{Class, Key, Lane, State};
use super::super::load::{FREE_PAGE, LANE_PAGE, LANES_PAGE, Page, Read, ReadId, What};
use super::{Desk, FREE_LIMIT_WORKS, FREE_LOW_WORKS, LANES_LIMIT, RETRIES_LIMIT};
use crate::delivery::PendingDelivery;
use crate::store::{DuePage, LaneHead};

impl Desk {
    /// Asks for what memory has room for.
    pub(super) fn read_on(&mut self, at: Moment) {
        for class in [Class::OwnWay, Class::Fresh, Class::Retry] {
            while let Some(lane) = self.turns.next_unread(class) {
                self.load(lane, class);
            }
        }
        let limit = if self.listing_waits { LANES_LIMIT / 2 } else { LANES_LIMIT };
        if let Some(after) = self.listing.next() {
            self.listing_waits = self.counts.lanes + LANES_PAGE as usize > limit;
            if !self.listing_waits {
                let read = self.ask(What::Lanes { after });
                self.listing.begin(read);
            }
        }
        if let Some(after_seq) = self.free.next().filter(|_| self.counts.free_ready < FREE_LOW_WORKS) {
            let read = self.ask(What::Free { after_seq });
            self.free.begin(read);
        }
        if !self.breaker.is_open() {
            self.read_due(at);
        }
    }

    fn read_due(&mut self, at: Moment) {
        self.due_lanes.begin_if_due(at);
        if let Some(after) = self.due_lanes.walk.next()
            && self.make_room_for_retries(at)
        {
            let read = self.ask(What::DueLanes { after, through_us: self.due_lanes.through_us });
            self.due_lanes.walk.begin(read);
        }
        self.due_free.begin_if_due(at);
        if let Some(after) = self.due_free.walk.next()
            && self.counts.free_retries < FREE_LOW_WORKS
        {
            let read = self.ask(What::DueFree { after, through_us: self.due_free.through_us });
            self.due_free.walk.begin(read);
        }
    }

    pub(super) fn ask(&mut self, what: What) -> ReadId {
        self.reads_made += 1;
        let id = (self.id, self.reads_made);
        self.reads.push(Read { id, what, bypassing_only: !self.settings.is_carried_to() });
        id
    }

    /// Takes work that was just committed.
    pub(in crate::courier) fn offer(&mut self, work: PendingDelivery, at: Moment) {
        if self.retired || !self.carries(&work) {
            return;
        }
        match Key::of(&work) {
            Key::Free(_) => self.offer_free(work, at),
            key @ Key::Ordered(_) => self.offer_in_order(key, work, at),
        }
    }

    fn offer_free(&mut self, mut work: PendingDelivery, at: Moment) {
        let key = Key::Free(work.seq);
        if self.lanes.contains_key(&key) {
            return;
        }
        // What a read may have brought may have ended, too: the store knows.
        let bypasses_channel = work.kind.bypasses_channel();
        // What goes its own way does not wait behind what is left to the store for the participant's channel.
        let known_new =
            work.seq > self.loaded_seq.max(self.forgotten_seq) && (self.free.has_ended() || bypasses_channel);
        let limit = if bypasses_channel { 2 * FREE_LIMIT_WORKS } else { FREE_LIMIT_WORKS };
        if known_new && self.counts.free < limit && self.share.admits(&mut work) {
            self.add_free(work, at);
        } else {
            self.free.miss(work.seq - 1);
        }
    }

    fn offer_in_order(&mut self, key: Key, mut work: PendingDelivery, at: Moment) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            if lane.covers(&work) {
                return;
            }
            let known_new = work.seq > self.forgotten_seq && lane.is_followed_by(&work);
            if !known_new || lane.is_full() || !self.share.admits(&mut work) {
                lane.miss(work.seq);
                return;
            }
            self.share.take(&work);
            lane.push(work);
            return;
        }
        if self.counts.lanes >= LANES_LIMIT {
            self.listing.miss(None);
            return;
        }
        let known_new = work.prev_seq.is_none() && work.seq > self.loaded_seq.max(self.forgotten_seq);
        if known_new && self.share.admits(&mut work) {
            self.share.take(&work);
            let mut lane = Lane::fresh();
            lane.push(work);
            self.add_lane(key, lane);
        } else {
            self.add_lane(key, Lane::unread());
        }
        self.arrange(key, at);
    }

    /// Something that was offered did not reach the courier: memory is only a part of what the store has.
    pub(in crate::courier) fn rewind(&mut self) {
        for (key, lane) in &mut self.lanes {
            if let Key::Ordered(_) = key {
                lane.miss(i64::MAX);
            }
        }
        self.listing.miss(None);
        self.free.miss(i64::MIN);
    }

    /// What a read brought.
    pub(in crate::courier) fn page(&mut self, read: Read, page: Page, at: Moment) {
        if self.retired {
            return;
        }
        match (read.what, page) {
            (What::Lanes { .. }, Page::Lanes(heads)) => self.listed(read.id, &heads, at),
            (What::Lane { lane, .. }, Page::Works(works)) => self.loaded(read.id, lane, works, at),
            (What::Free { .. }, Page::Works(works)) => self.loaded_free(read.id, works, at),
            (What::DueLanes { .. }, Page::DueLanes(page)) => self.lanes_came_due(read.id, &page, at),
            (What::DueFree { .. }, Page::DueFree(page)) => self.free_came_due(read.id, page, at),
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
            match self.wait_until(head.due_at_us, at).filter(|_| !self.hurries_list) {
                Some(until) if self.counts.retries >= RETRIES_LIMIT => self.due_lanes.expect(until, head.due_at_us),
                Some(until) => {
                    let key = self.add_unread(head);
                    let state = State::Waiting { until, asked: false, stored: true, row: None };
                    self.make_waiting(key, until, head.due_at_us, state);
                }
                None => {
                    self.add_unread(head);
                    self.make_unread(head.lane, class);
                }
            }
        }
        self.hurries_list &= !self.listing.has_ended();
    }

    /// A lane whose head is known to the store only.
    fn add_unread(&mut self, head: &LaneHead) -> Key {
        let key = Key::Ordered(head.lane);
        let mut lane = if head.due_at_us > 0 { Lane::waited(head.seq) } else { Lane::unread() };
        lane.bypasses_channel = head.bypasses_channel;
        self.add_lane(key, lane);
        key
    }

    fn loaded(&mut self, read: ReadId, lane: i64, works: Vec<PendingDelivery>, at: Moment) {
        let key = Key::Ordered(lane);
        let Some(known) = self.lanes.get(&key) else { return };
        let State::Loading { class, read: asked } = known.state else { return };
        if asked != read {
            return;
        }
        let stale = known.stale;
        self.loaded_seq = works.last().map_or(self.loaded_seq, |work| work.seq.max(self.loaded_seq));
        self.take_out(key);
        if stale {
            self.make_unread(lane, class);
            return;
        }
        let mut more = works.len() >= LANE_PAGE as usize;
        for mut work in works {
            let carried = self.carries(&work);
            let Some(lane) = self.lanes.get_mut(&key) else { return };
            if !carried {
                lane.pass(work.seq);
                continue;
            }
            // The first is kept whatever it takes: it is about to start.
            if lane.is_full() || (!self.share.admits(&mut work) && lane.head().is_some()) {
                more = true;
                break;
            }
            self.share.take(&work);
            lane.push(work);
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.end_read(more);
        }
        self.arrange_after(key, Some(class), at);
    }

    fn loaded_free(&mut self, read: ReadId, works: Vec<PendingDelivery>, at: Moment) {
        let last = works.last().map(|work| work.seq);
        if !self.free.end(read, last, works.len() >= FREE_PAGE as usize) {
            return;
        }
        self.loaded_seq = last.map_or(self.loaded_seq, |last| last.max(self.loaded_seq));
        self.add_all_free(works, at);
    }

    fn lanes_came_due(&mut self, read: ReadId, page: &DuePage<LaneHead>, at: Moment) {
        let last = page.items.last().map(|head| (head.due_at_us, head.seq));
        if !self.due_lanes.walk.end(read, last, page.more) {
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

    fn free_came_due(&mut self, read: ReadId, page: DuePage<PendingDelivery>, at: Moment) {
        let last = page.items.last().map(|work| (work.due_at_us, work.seq));
        if !self.due_free.walk.end(read, last, page.more) {
            return;
        }
        let longest = self.longest_wait();
        self.due_free.page_ended(page.next_due_at_us, longest, at);
        self.add_all_free(page.items, at);
    }

    fn add_all_free(&mut self, works: Vec<PendingDelivery>, at: Moment) {
        for work in works {
            let known = self.lanes.contains_key(&Key::of(&work)) || self.ended_meanwhile.contains(&work.seq);
            if !known && self.carries(&work) {
                self.add_free(work, at);
            }
        }
        if !self.free.is_reading() && !self.due_free.walk.is_reading() {
            self.ended_meanwhile.clear();
        }
    }

    /// Adds a work of the lane "no order" that is due, as a lane of its own.
    fn add_free(&mut self, work: PendingDelivery, at: Moment) {
        let key = Key::of(&work);
        self.share.take(&work);
        let mut lane = Lane::fresh();
        lane.waited_seq = Some(work.seq);
        lane.push(work);
        self.add_lane(key, lane);
        self.arrange(key, at);
    }
}

fn class_of(head: &LaneHead, on_channel: Class) -> Class {
    if head.bypasses_channel { Class::OwnWay } else { on_channel }
}

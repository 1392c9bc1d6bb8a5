//! What comes to a desk: offers, pages of the store, and what of both memory keeps.
//!
//! The bounds of memory are here; what does not fit is marked as missed and read back when there is room.

use super::super::breaker::Moment;
use super::super::lane::{Key, Lane};
use super::super::load::{LANES_LIMIT, Read};
use super::{Desk, body_bytes, wait_of};
use crate::delivery::Work;
use std::collections::hash_map::Entry;
use std::time::Duration;
use tokio::time::Instant;

/// Bodies of waiting works in memory; beyond it they are read from the store when their turn comes.
const BODIES_LIMIT_BYTES: usize = 64 * 1024 * 1024;
/// Works of the lane "no order" in memory.
pub(in crate::courier) const FREE_LIMIT_WORKS: usize = 1024;
/// Of these, at most so many that wait for their next try; the others are left to the store until then.
pub(in crate::courier) const FREE_LATER_LIMIT_WORKS: usize = 512;
/// Below so many that could start, the store is read for more.
const FREE_LOW_WORKS: usize = 256;
/// The store is read from the start for tries come due no more often than this.
const REWIND_MIN_SECONDS: u64 = 5;

impl Desk {
    /// Takes work that was just committed.
    pub(in crate::courier) fn offer(&mut self, work: Work, at: Moment) {
        if self.retired || !self.carries(&work) {
            return;
        }
        if let Some(active) = self.active.get_mut(&work.delivery_key).filter(|active| active.seq != work.seq) {
            active.again_seq = Some(work.seq);
            self.forgotten.remove(&work.delivery_key);
            return;
        }
        if self.knows(&work) {
            return;
        }
        if work.lane == 0 {
            if self.free.cursor.is_complete() && self.free.count < FREE_LIMIT_WORKS {
                self.add_free(work, at, None);
            } else {
                self.free.cursor.miss(work.seq);
                self.load_free();
            }
            return;
        }
        let key = Key::Ordered(work.lane);
        if !self.lanes.contains_key(&key) && !self.open_lane(key) {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.cursor.is_complete() {
            self.enqueue(key, work);
        } else {
            lane.cursor.miss(work.seq);
        }
        self.arrange_if_idle(key, at);
    }

    /// A delivery that was ordered again while its last attempt still ended is read from the store.
    pub(super) fn read_again(&mut self, key: Key, seq: Option<i64>) {
        let Some(seq) = seq.filter(|_| !self.retired) else { return };
        match key {
            Key::Free(_) => {
                self.free.cursor.miss(seq);
                self.load_free();
            }
            Key::Ordered(_) => self.lanes.entry(key).or_insert_with(Lane::unread).cursor.miss(seq),
        }
    }

    /// Something that was offered did not reach the courier: memory is only a part of what the store has.
    pub(in crate::courier) fn rewind(&mut self, at: Moment) {
        if self.retired {
            return;
        }
        self.free.cursor.rewind();
        self.load_free();
        let keys: Vec<Key> = self.lanes.keys().filter(|key| matches!(key, Key::Ordered(_))).copied().collect();
        for key in keys {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.cursor.rewind();
            }
            self.arrange_if_idle(key, at);
        }
        self.listing.miss();
        self.list_on();
    }

    /// A page of lanes that have work in the store.
    pub(in crate::courier) fn listed(&mut self, lanes: &[i64], at: Moment) {
        self.read_ended();
        if self.retired {
            return;
        }
        self.listing.end(lanes);
        for lane in lanes {
            let key = Key::Ordered(*lane);
            if *lane == 0 {
                self.free.cursor.rewind();
                self.load_free();
            } else if let Entry::Vacant(place) = self.lanes.entry(key) {
                place.insert(Lane::unread());
                self.arrange_if_idle(key, at);
            }
        }
        self.list_on();
    }

    /// A page of works of one lane; `full`: there may be more.
    pub(in crate::courier) fn loaded(&mut self, lane: i64, works: Vec<Work>, full: bool, at: Moment) {
        let last_seq = works.last().map(|work| work.seq);
        let fresh: Vec<Work> = works
            .into_iter()
            .filter(|work| self.carries(work) && !self.knows(work) && !self.forgotten.contains(&work.delivery_key))
            .collect();
        self.read_ended();
        if self.retired {
            return;
        }
        if lane == 0 {
            self.free.cursor.end(last_seq, full);
            for work in fresh {
                let wait = wait_of(&self.settings, &work, at);
                self.add_free(work, at, wait.map(|until| (until, false)));
            }
            self.load_free();
            return;
        }
        let key = Key::Ordered(lane);
        let Some(known) = self.lanes.get_mut(&key) else { return };
        known.cursor.end(last_seq, full);
        for work in fresh {
            self.enqueue(key, work);
        }
        self.arrange_if_idle(key, at);
    }

    /// A participant without a channel of ours is sent callbacks and replies only; the rest waits for its reader.
    fn carries(&self, work: &Work) -> bool {
        work.kind.has_own_way() || self.settings.is_carried_to()
    }

    pub(super) fn knows(&self, work: &Work) -> bool {
        self.places.contains_key(&work.delivery_key) || self.recent.contains(work.delivery_key, work.seq)
    }

    /// Makes a lane for offered work. False when memory has no room for one: the store keeps the work.
    pub(super) fn open_lane(&mut self, key: Key) -> bool {
        if self.lanes.len() - self.free.count >= LANES_LIMIT {
            self.listing.miss();
            return false;
        }
        // While not every lane is known, an unknown one may have older works in the store, which go first.
        let lane = if self.listing.is_complete() { Lane::fresh() } else { Lane::unread() };
        self.lanes.insert(key, lane);
        true
    }

    pub(super) fn enqueue(&mut self, key: Key, mut work: Work) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if self.bodies_bytes + body_bytes(&work) > BODIES_LIMIT_BYTES {
            work.body = None;
        }
        self.bodies_bytes += body_bytes(&work);
        self.places.insert(work.delivery_key, key);
        if let Some(dropped) = lane.insert(work) {
            self.bodies_bytes -= body_bytes(&dropped);
            self.places.remove(&dropped.delivery_key);
        }
    }

    /// Adds a work of the lane "no order" as a lane of its own, to be tried at once or later.
    pub(super) fn add_free(&mut self, work: Work, at: Moment, later: Option<(Instant, bool)>) {
        let key = Key::Free(work.delivery_key);
        if let Some((until, _)) = later
            && self.free.later >= FREE_LATER_LIMIT_WORKS
        {
            self.places.remove(&work.delivery_key);
            let until = until.max(at.now + Duration::from_secs(REWIND_MIN_SECONDS));
            self.free.rewind_at = Some(self.free.rewind_at.map_or(until, |known| known.min(until)));
            return;
        }
        self.lanes.insert(key, Lane::fresh());
        self.free.count += 1;
        self.enqueue(key, work);
        match later {
            Some((until, asked)) => self.block(key, until, asked),
            None => self.make_ready(key),
        }
    }

    pub(super) fn load_free(&mut self) {
        let free = &mut self.free;
        if !free.cursor.is_complete() && !free.cursor.is_loading() && free.count - free.later < FREE_LOW_WORKS {
            let after_seq = free.cursor.start();
            self.ask(Read::Works { lane: 0, after_seq });
        }
    }

    pub(super) fn rewind_free_if_due(&mut self, at: Moment) {
        if !self.breaker.is_open() && self.free.rewind_at.is_some_and(|due| due <= at.now) {
            self.free.rewind_at = None;
            self.free.cursor.rewind();
        }
    }

    pub(super) fn list_on(&mut self) {
        if let Some(read) = self.listing.next(self.lanes.len() - self.free.count) {
            self.ask(read);
        }
    }

    pub(super) fn ask(&mut self, read: Read) {
        self.reads_under_way += 1;
        self.reads.push(read);
    }

    pub(super) fn read_ended(&mut self) {
        self.reads_under_way = self.reads_under_way.saturating_sub(1);
        if self.reads_under_way == 0 {
            self.forgotten.clear();
        }
    }
}

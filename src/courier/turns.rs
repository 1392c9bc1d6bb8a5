//! Whose turn it is at one desk: lanes that may start, and lanes whose works must be read first, each in the order in which
//! they came.
//!
//! Two classes stand apart, so that thousands of failing lanes take no turn from the others: lanes whose head was never
//! tried, and lanes whose head failed before. Where both wait, they take turns.

use super::lane::{Class, Key};
use std::collections::BTreeMap;

/// Lanes of one class that are read, or were read and wait for their start, at a time.
const AHEAD_LIMIT_LANES: usize = 16;

#[derive(Debug, Default)]
struct Queues {
    ready: BTreeMap<u64, Key>,
    /// Ordered lanes.
    unread: BTreeMap<u64, i64>,
    /// Lanes being read, and those that were read and did not start yet.
    ahead: usize,
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    fresh: Queues,
    retries: Queues,
    own_way: Queues,
    last: u64,
    /// A lane that was never tried had the last turn.
    retries_next: bool,
}

impl Turns {
    fn of(&mut self, class: Class) -> &mut Queues {
        match class {
            Class::Fresh => &mut self.fresh,
            Class::Retry => &mut self.retries,
            Class::OwnWay => &mut self.own_way,
        }
    }

    /// Each gives the turn, by which the lane is found again.
    pub fn add_ready(&mut self, class: Class, key: Key) -> u64 {
        self.last += 1;
        let turn = self.last;
        self.of(class).ready.insert(turn, key);
        turn
    }

    pub fn add_unread(&mut self, class: Class, lane: i64) -> u64 {
        self.last += 1;
        let turn = self.last;
        self.of(class).unread.insert(turn, lane);
        turn
    }

    pub fn remove(&mut self, class: Class, turn: u64) {
        let queues = self.of(class);
        queues.ready.remove(&turn);
        queues.unread.remove(&turn);
    }

    pub fn ahead(&mut self, class: Class) {
        self.of(class).ahead += 1;
    }

    pub fn no_longer_ahead(&mut self, class: Class) {
        self.of(class).ahead -= 1;
    }

    /// The next lane to start whose head goes its own way; it stays where it is until it is removed.
    pub fn next_own_way(&self) -> Option<Key> {
        self.own_way.ready.first_key_value().map(|(_, key)| *key)
    }

    /// The next lane to start on the participant's channel, which stays where it is until it is removed. `retries`: whether
    /// one that failed may start. For a probe a lane that was never tried goes first, the newest of them: what came before
    /// may be what the receiver fails on.
    pub fn next(&mut self, retries: bool, probe: bool) -> Option<Key> {
        let ready = &self.fresh.ready;
        let fresh = if probe { ready.last_key_value() } else { ready.first_key_value() };
        let fresh = fresh.map(|(_, key)| *key);
        let retry = self.retries.ready.first_key_value().map(|(_, key)| *key).filter(|_| retries);
        let takes_retry = retry.is_some() && (fresh.is_none() || (self.retries_next && !probe));
        self.retries_next = !takes_retry;
        if takes_retry { retry } else { fresh }
    }

    /// The next lane to read, which stays where it is until it is removed.
    pub fn next_unread(&self, class: Class) -> Option<i64> {
        let queues = match class {
            Class::Fresh => &self.fresh,
            Class::Retry => &self.retries,
            Class::OwnWay => &self.own_way,
        };
        queues.unread.first_key_value().map(|(_, lane)| *lane).filter(|_| queues.ahead < AHEAD_LIMIT_LANES)
    }

    /// Whether a lane may start on the participant's channel.
    pub fn has_ready(&self) -> bool {
        !self.fresh.ready.is_empty() || !self.retries.ready.is_empty()
    }

    /// No lane may start on the participant's channel, and none will by being read.
    pub fn is_empty(&self) -> bool {
        [&self.fresh, &self.retries]
            .iter()
            .all(|queues| queues.ready.is_empty() && queues.unread.is_empty() && queues.ahead == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(turns: &mut Turns, retries: bool, probe: bool) -> Option<Key> {
        let key = turns.next(retries, probe)?;
        for class in [Class::Fresh, Class::Retry] {
            let queues = turns.of(class);
            queues.ready.retain(|_, other| *other != key);
        }
        Some(key)
    }

    #[test]
    fn lanes_that_failed_and_lanes_that_never_did_take_turns() {
        let mut turns = Turns::default();
        for lane in 0..100 {
            turns.add_ready(Class::Retry, Key::Ordered(lane));
        }
        for lane in 200..203 {
            turns.add_ready(Class::Fresh, Key::Ordered(lane));
        }
        let order: Vec<Key> = std::iter::from_fn(|| start(&mut turns, true, false)).take(7).collect();
        assert_eq!(order, [200, 0, 201, 1, 202, 2, 3].map(Key::Ordered));
        assert_eq!(start(&mut turns, false, false), None);
        turns.add_ready(Class::Fresh, Key::Ordered(300));
        assert_eq!(start(&mut turns, true, true), Some(Key::Ordered(300)), "a probe is new where it can be");
    }

    #[test]
    fn only_so_many_lanes_are_read_ahead_of_their_start() {
        let mut turns = Turns::default();
        for lane in 0..100 {
            turns.add_unread(Class::Retry, lane);
        }
        let mut read = 0;
        while let Some(lane) = turns.next_unread(Class::Retry) {
            turns.remove(Class::Retry, lane as u64 + 1);
            turns.ahead(Class::Retry);
            read += 1;
        }
        assert_eq!(read, AHEAD_LIMIT_LANES);
        turns.no_longer_ahead(Class::Retry);
        assert_eq!(turns.next_unread(Class::Retry), Some(AHEAD_LIMIT_LANES as i64));
    }
}

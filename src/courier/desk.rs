//! The desk of one participant: its lanes, what may start now, and its breaker.
//!
//! Pure: it is told the time and what happened, and says what to start and what to read. Relies on `lane` (what memory
//! holds of one lane), `turns` (whose turn it is), `walk` (how far the store was read), `budget` and `breaker`. It carries
//! nothing, reads nothing and settles nothing.
//!
//! A lane that waits for its time costs an entry and holds no works; beyond a bound it costs nothing, because the store
//! lists by time what comes due.

#[cfg(test)]
mod cases;
mod intake;
mod policy;
mod states;
#[cfg(test)]
mod tests;

use super::breaker::{Breaker, Moment, Permit, Transition};
use super::budget::Share;
use super::lane::{Key, Lane, State};
use super::load::Read;
use super::pace::Pace;
use super::turns::Turns;
use super::walk::{Due, Walk};
use crate::delivery::{NextStep, PendingDelivery};
use crate::fault::Fault;
use crate::routing::Participant;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Ordered lanes in memory that may start or be read.
const LANES_LIMIT: usize = 10_000;
/// Ordered lanes in memory that wait for their time, or whose time came.
const RETRIES_LIMIT: usize = 10_000;
/// Works of the lane "no order" in memory.
const FREE_LIMIT_WORKS: usize = 1024;
/// Those of them that wait for their next try.
const FREE_WAITING_LIMIT_WORKS: usize = 512;
/// Below so many that could start, the store is read for more.
const FREE_LOW_WORKS: usize = 256;
/// How long a wait read from the store may be at least, whatever the schedule says.
const WAIT_LIMIT_MIN_SECONDS: u64 = 86_400;

/// What to start. Each is answered by one `finish`.
#[derive(Debug)]
pub(super) enum Action {
    Attempt(PendingDelivery),
    /// It expired before its turn.
    GiveUp(PendingDelivery),
}

/// How an attempt ended, as the desk needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub next: NextStep,
    pub verdict: Verdict,
    /// `Retry-After` of the receiver.
    pub asked: Option<Duration>,
}

/// What the attempt tells of the receiver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It spoke, be it a refusal.
    Spoke,
    Failed(Fault),
    /// It had no part in it.
    Nothing,
}

struct Active {
    id: Uuid,
    delivery_key: i64,
    probe: bool,
    retry: bool,
    /// Its end says nothing about the participant's channel.
    own_way: bool,
    /// Ended elsewhere meanwhile: not to be tried again.
    forgotten: bool,
}

/// Lanes by what they cost.
#[derive(Debug, Default)]
struct Counts {
    lanes: usize,
    retries: usize,
    free_ready: usize,
    free_retries: usize,
    free_waiting: usize,
    /// All of "no order", those under way too.
    free: usize,
}

pub(super) struct Desk {
    pub settings: Arc<Participant>,
    pub paused: bool,
    /// No longer configured: it ends with its last attempt.
    pub retired: bool,
    pub breaker: Breaker,
    pub reads: Vec<Read>,
    id: u64,
    reads_made: u64,
    lanes: HashMap<Key, Lane>,
    turns: Turns,
    waiting: BTreeSet<(Instant, Key)>,
    counts: Counts,
    share: Share,
    /// By `seq`.
    active: HashMap<i64, Active>,
    active_retries: usize,
    active_own_way: usize,
    pace: Pace,
    /// The rate of its channel allows nothing before.
    paced_until: Option<Instant>,
    /// Which row of failures without a success between them this is.
    row: u64,
    /// The end of an open breaker releases all that waits, not only what failed while it was open.
    hurries_all: bool,
    /// Lanes that the list brings do not wait for their time.
    hurries_list: bool,
    /// The lanes, in the order of their keys.
    listing: Walk<Option<i64>>,
    /// Memory was full of lanes: the list goes on once half of it is free.
    listing_waits: bool,
    /// What is due now without order, by `seq`.
    free: Walk<i64>,
    due_lanes: Due,
    due_free: Due,
    /// The highest `seq` that a read brought: what is offered with a lower one may have been read and have ended.
    loaded_seq: i64,
    /// As `loaded_seq`, of what ended elsewhere.
    forgotten_seq: i64,
    /// Without order, what ended while a read was under way that may bring it back.
    ended_meanwhile: HashSet<i64>,
}

impl Desk {
    /// `id` is one of its own for each desk.
    pub fn new(settings: Arc<Participant>, paused: bool, share: Share, id: u64) -> Self {
        Self {
            settings,
            paused,
            retired: false,
            breaker: Breaker::default(),
            reads: Vec::new(),
            id,
            reads_made: 0,
            lanes: HashMap::new(),
            turns: Turns::default(),
            waiting: BTreeSet::new(),
            counts: Counts::default(),
            share,
            active: HashMap::new(),
            active_retries: 0,
            active_own_way: 0,
            pace: Pace::default(),
            paced_until: None,
            row: 0,
            hurries_all: false,
            hurries_list: false,
            listing: Walk::from(None),
            listing_waits: false,
            free: Walk::from(i64::MIN),
            due_lanes: Due::none(),
            due_free: Due::unread(),
            loaded_seq: i64::MIN,
            forgotten_seq: i64::MIN,
            ended_meanwhile: HashSet::new(),
        }
    }

    /// Starts all that may start now, and asks for what must be read.
    pub fn advance(&mut self, at: Moment, actions: &mut Vec<Action>) {
        if self.paused || self.retired {
            return;
        }
        self.wake(at);
        while self.active_own_way < self.places()
            && let Some(key) = self.turns.next_own_way()
        {
            self.start(key, false, at, actions);
        }
        while self.has_place() && self.pace.wait(self.settings.rate_per_second, at.now).is_none() {
            let probe = match self.breaker.permit(at.now) {
                Permit::No => break,
                Permit::Any => false,
                Permit::Probe => true,
            };
            let Some(key) = self.next_lane(probe) else { break };
            self.start(key, probe, at, actions);
        }
        self.paced_until = self.pace.wait(self.settings.rate_per_second, at.now);
        self.read_on(at);
    }

    /// Attempts at the participant's channel under way at a time; as many may go ways of their own.
    fn places(&self) -> usize {
        self.settings.concurrency.max(1)
    }

    fn has_place(&self) -> bool {
        self.active.len() - self.active_own_way < self.places()
    }

    /// When `advance` has something to do next, if nothing happens before.
    pub fn next_wake(&self) -> Option<Instant> {
        if self.paused || self.retired {
            return None;
        }
        let waiting = self.waiting.first().map(|(until, _)| *until);
        // What is being read for its turn reports when it is there.
        let start = if !self.has_place() {
            None
        } else if !self.breaker.is_open() {
            self.paced_until.filter(|_| self.turns.has_ready())
        } else if self.turns.has_ready() || (self.turns.is_empty() && self.first_waiting().is_some()) {
            self.breaker.next_probe().map(|probe| self.paced_until.map_or(probe, |until| until.max(probe)))
        } else {
            None
        };
        let due = [self.due_lanes.wake(), self.due_free.wake()].map(|wake| wake.filter(|_| !self.breaker.is_open()));
        [waiting, start, due[0], due[1]].into_iter().flatten().min()
    }

    /// An attempt ended, or was given up (then `ended.next` is Done). Returns the breaker's transition.
    pub fn finish(&mut self, mut work: PendingDelivery, ended: Ended, random: f64, at: Moment) -> Option<Transition> {
        let active = self.active.remove(&work.seq)?;
        self.share.give_back(&work);
        self.active_retries -= usize::from(active.retry);
        self.active_own_way -= usize::from(active.own_way);
        let row = self.row;
        let key = Key::of(&work);
        let transition = self.judge(&active, &work, &ended, random, at);
        let (after, stored) = match ended.next {
            NextStep::Done => (None, true),
            NextStep::Postponed { after } => {
                work.is_probe = false;
                (Some(after), false)
            }
            NextStep::Retry { after } => {
                work.count_failed();
                work.due_at_us = at.now_us.saturating_add(i64::try_from(after.as_micros()).unwrap_or(i64::MAX));
                (Some(after), true)
            }
        };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = State::Idle;
        }
        match after {
            _ if self.retired || !self.carries(&work) => self.drop_lane(key),
            _ if active.forgotten => self.finish_forgotten(&work, after, at),
            Some(after) => self.put_back(work, at.now + after, ended.asked.is_some(), stored),
            None => {
                self.note_ended(key);
                self.arrange(key, at);
            }
        }
        if transition == Some(Transition::Closed) {
            self.hurry_row(row);
            if std::mem::take(&mut self.hurries_all) {
                self.hurry_all(at);
            }
        }
        transition
    }

    /// It ended while its attempt was under way. Where it was ordered again meanwhile, it has another place, and what this
    /// attempt made of it only the store knows.
    fn finish_forgotten(&mut self, work: &PendingDelivery, after: Option<Duration>, at: Moment) {
        let key = Key::of(work);
        self.note_ended(key);
        self.leave_to_store(key);
        self.arrange(key, at);
        let is_it = |lane: &Lane| lane.head().is_some_and(|head| head.delivery_key == work.delivery_key);
        if let Key::Free(_) = key
            && let Some(again) = self.lanes.iter().find(|(_, lane)| is_it(lane)).map(|(key, _)| *key)
        {
            self.drop_lane(again);
            self.free.miss(work.seq);
            if let Some(after) = after {
                self.due_free.expect(at.now + after, work.due_at_us);
            }
        }
    }

    /// Takes a delivery out of the memory that waits; one with an attempt under way is not tried again.
    pub fn forget(&mut self, work: &PendingDelivery, at: Moment) {
        if let Some(active) = self.active.values_mut().find(|active| active.delivery_key == work.delivery_key) {
            active.forgotten = true;
            return;
        }
        let key = Key::of(work);
        self.note_ended(key);
        self.forgotten_seq = self.forgotten_seq.max(work.seq);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        match lane.state {
            State::Loading { .. } => lane.stale = true,
            State::Waiting { .. } if lane.waited_seq == Some(work.seq) || lane.head().is_some() => {
                self.take_out(key);
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.waited_seq = None;
                }
                self.remove(key, work.delivery_key);
                self.arrange(key, at);
            }
            State::Ready { .. } => {
                if self.remove(key, work.delivery_key) {
                    self.take_out(key);
                    self.arrange(key, at);
                }
            }
            State::Busy => drop(self.remove(key, work.delivery_key)),
            State::Waiting { .. } | State::Unread { .. } | State::Idle => {}
        }
    }

    /// Forgets all but the attempts under way: what waits is read from the store again, for whatever way it is carried now.
    pub fn read_again(&mut self) {
        let keys: Vec<Key> = self.lanes.keys().copied().collect();
        for key in keys {
            if self.lanes.get(&key).is_some_and(|lane| lane.state == State::Busy) {
                self.leave_to_store(key);
            } else {
                self.drop_lane(key);
            }
        }
        self.listing = Walk::from(None);
        self.listing_waits = false;
        self.free = Walk::from(i64::MIN);
        (self.due_lanes, self.due_free) = (Due::none(), Due::unread());
        self.ended_meanwhile.clear();
    }

    /// Drops what waits; the store keeps it.
    pub fn retire(&mut self) {
        self.retired = true;
        self.read_again();
    }

    pub fn is_active(&self, delivery_key: i64) -> bool {
        self.active.values().any(|active| active.delivery_key == delivery_key)
    }

    pub fn active_count(&self) -> usize {
        self.active.len()
    }

    pub fn active_ids(&self) -> impl Iterator<Item = Uuid> {
        self.active.values().map(|active| active.id)
    }

    /// Lanes with work in memory; the lane "no order" counts once.
    pub fn lanes_count(&self) -> usize {
        self.lanes.len() - self.counts.free + usize::from(self.counts.free > 0)
    }

    fn start(&mut self, key: Key, probe: bool, at: Moment, actions: &mut Vec<Action>) {
        self.take_out(key);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let Some(mut work) = lane.pop() else { return self.arrange(key, at) };
        lane.state = State::Busy;
        lane.waited_seq = None;
        let expired = work.expires_at_us <= at.now_us;
        let (probe, retry) = (probe && !expired, work.attempts > 0 && !work.kind.bypasses_channel());
        let (id, delivery_key) = (work.delivery_id, work.delivery_key);
        let own_way = work.kind.bypasses_channel();
        self.active.insert(work.seq, Active { id, delivery_key, probe, retry, own_way, forgotten: false });
        // Its own way has places of its own.
        self.active_retries += usize::from(retry);
        self.active_own_way += usize::from(own_way);
        work.is_probe = probe;
        if !expired && !own_way {
            self.pace.begin(self.settings.rate_per_second, at.now);
        }
        if probe {
            self.breaker.probe_started();
        }
        actions.push(if expired { Action::GiveUp(work) } else { Action::Attempt(work) });
    }

    /// A participant without a channel of ours is sent callbacks and replies only; the rest waits for its reader.
    fn carries(&self, work: &PendingDelivery) -> bool {
        work.kind.bypasses_channel() || self.settings.is_carried_to()
    }
}

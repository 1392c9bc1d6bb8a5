//! The desk of one participant: its lanes, what may start now, and its breaker.
//!
//! Pure: it is told the time and what happened, and says what to start and what to read. Relies on `lane`, `breaker` and
//! `load::Listing`. It carries nothing, reads nothing and settles nothing.

mod intake;
#[cfg(test)]
mod tests;

use super::breaker::{Breaker, Failure, Moment, Permit, Transition};
use super::lane::{Cursor, Key, Lane, State};
use super::load::{Listing, Read};
use super::recent::Recent;
use crate::delivery::{Next, Work};
use crate::fhir::Fault;
use crate::routing::Participant;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a wait read from the store may be at least, whatever the schedule says.
const WAIT_LIMIT_MIN_SECONDS: u64 = 86_400;
/// Turns of lanes that are gone, beyond as many as there are lanes, that are put up with.
const READY_SLACK: usize = 1024;

/// What to start. Each is answered by one `finish`.
#[derive(Debug)]
pub(super) enum Action {
    Attempt(Work),
    /// It expired before its turn.
    GiveUp(Work),
}

/// How an attempt ended, as the desk needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub next: Next,
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
    probe: bool,
    /// Ended elsewhere meanwhile: not to be tried again.
    forgotten: bool,
    seq: i64,
    /// It was ordered again meanwhile, and waits at this place of its lane in the store.
    again_seq: Option<i64>,
}

/// The lane "no order": its works are lanes of their own; here is what is common to them.
struct Free {
    count: usize,
    later: usize,
    cursor: Cursor,
    /// When the first of those come due that were left to the store for later.
    rewind_at: Option<Instant>,
}

pub(super) struct Desk {
    pub settings: Arc<Participant>,
    pub paused: bool,
    /// No longer configured: it ends with its last attempt.
    pub retired: bool,
    pub breaker: Breaker,
    pub reads: Vec<Read>,
    lanes: HashMap<Key, Lane>,
    ready: VecDeque<Key>,
    blocked: BTreeSet<(Instant, Key)>,
    free: Free,
    listing: Listing,
    /// Where each delivery is that memory holds, waiting or active.
    places: HashMap<i64, Key>,
    active: HashMap<i64, Active>,
    recent: Recent,
    reads_under_way: usize,
    /// Keys forgotten while a read was under way that may bring them back.
    forgotten: HashSet<i64>,
    bodies_bytes: usize,
}

impl Desk {
    pub fn new(settings: Arc<Participant>, paused: bool) -> Self {
        let free = Free { count: 0, later: 0, cursor: Cursor::complete(), rewind_at: None };
        let mut desk = Self {
            settings,
            paused,
            retired: false,
            breaker: Breaker::default(),
            reads: Vec::new(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            blocked: BTreeSet::new(),
            free,
            listing: Listing::unread(),
            places: HashMap::new(),
            active: HashMap::new(),
            recent: Recent::default(),
            reads_under_way: 0,
            forgotten: HashSet::new(),
            bodies_bytes: 0,
        };
        desk.list_on();
        desk
    }

    /// Takes a delivery out of the memory that waits; one with an attempt under way is not tried again.
    pub fn forget(&mut self, delivery_key: i64, at: Moment) {
        if self.reads_under_way > 0 {
            self.forgotten.insert(delivery_key);
        }
        if let Some(active) = self.active.get_mut(&delivery_key) {
            active.forgotten = true;
            return;
        }
        let Some(key) = self.places.remove(&delivery_key) else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let was_head = lane.head().is_some_and(|head| head.delivery_key == delivery_key);
        if let Some(work) = lane.remove(delivery_key) {
            self.bodies_bytes -= body_bytes(&work);
            self.recent.add(delivery_key, work.seq);
        }
        if was_head {
            self.unblock(key);
            self.arrange(key, at);
        }
    }

    /// Remembers that the delivery ended, so that no read or offer under way brings it back.
    pub fn ended(&mut self, delivery_key: i64, seq: i64) {
        self.recent.add(delivery_key, seq);
    }

    /// Starts all that may start now.
    pub fn advance(&mut self, at: Moment, actions: &mut Vec<Action>) {
        if self.paused || self.retired {
            return;
        }
        self.rewind_free_if_due(at);
        while let Some(&(until, key)) = self.blocked.first()
            && until <= at.now
        {
            self.unblock(key);
            self.make_ready(key);
        }
        while self.active.len() < self.settings.concurrency.max(1) {
            let probe = match self.breaker.permit(at.now) {
                Permit::No => break,
                Permit::Any => false,
                Permit::Probe => true,
            };
            let Some(key) = self.next_lane(probe) else { break };
            self.start(key, probe, at, actions);
        }
        self.load_free();
        self.list_on();
    }

    /// When `advance` has something to do next, if nothing happens before.
    pub fn next_wake(&self) -> Option<Instant> {
        if self.paused || self.retired {
            return None;
        }
        let blocked = self.blocked.first().map(|(until, _)| *until);
        if self.breaker.is_open() {
            if self.active.len() >= self.settings.concurrency.max(1) {
                return None;
            }
            let waiting = blocked.is_some() || !self.ready.is_empty();
            return self.breaker.next_probe().filter(|_| waiting);
        }
        blocked.into_iter().chain(self.free.rewind_at).min()
    }

    /// An attempt ended, or was given up (then `ended.next` is Done). Returns the breaker's transition.
    pub fn finish(&mut self, mut work: Work, ended: Ended, random: f64, at: Moment) -> Option<Transition> {
        let active = self.active.remove(&work.delivery_key)?;
        let key = key_of(&work);
        let transition = self.judge(&active, &ended, random, at);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = State::Idle;
        }
        let after = match ended.next {
            _ if active.forgotten || self.retired => None,
            Next::Done => None,
            Next::Postponed { after } => Some(after),
            Next::Again { after } | Next::Hold { after } => {
                work.attempts = work.attempts.saturating_add(1);
                Some(after)
            }
        };
        match after {
            Some(after) => self.put_back(key, work, after, ended.asked.is_some(), at),
            None => {
                self.recent.add(work.delivery_key, work.seq);
                self.places.remove(&work.delivery_key);
                self.read_again(key, active.again_seq);
                self.arrange(key, at);
            }
        }
        if transition == Some(Transition::Closed) {
            self.unblock_all();
        }
        transition
    }

    /// Drops what waits; the store keeps it.
    pub fn retire(&mut self) {
        let active = &self.active;
        self.retired = true;
        self.lanes.retain(|_, lane| lane.state == State::Busy);
        self.lanes.iter_mut().filter(|(key, _)| matches!(key, Key::Ordered(_))).for_each(|(_, lane)| lane.clear());
        self.ready.clear();
        self.blocked.clear();
        self.places.retain(|key, _| active.contains_key(key));
        let count = self.lanes.keys().filter(|key| matches!(key, Key::Free(_))).count();
        self.free = Free { count, later: 0, cursor: Cursor::complete(), rewind_at: None };
        self.listing = Listing::unread();
        self.bodies_bytes = 0;
    }

    /// Configured again before its last attempt ended: the store is read anew.
    pub fn revive(&mut self) {
        self.retired = false;
        self.list_on();
    }

    pub fn is_active(&self, delivery_key: i64) -> bool {
        self.active.contains_key(&delivery_key)
    }

    pub fn active_count(&self) -> usize {
        self.active.len()
    }

    pub fn active_ids(&self) -> impl Iterator<Item = Uuid> {
        self.active.values().map(|active| active.id)
    }

    /// Lanes with work in memory; the lane "no order" counts once.
    pub fn lanes_count(&self) -> usize {
        self.lanes.len() - self.free.count + usize::from(self.free.count > 0)
    }

    fn judge(&mut self, active: &Active, ended: &Ended, random: f64, at: Moment) -> Option<Transition> {
        let hold = matches!(ended.next, Next::Hold { .. });
        let fault = match ended.verdict {
            Verdict::Spoke if !hold => return self.breaker.succeeded(),
            Verdict::Nothing if !hold => {
                if active.probe {
                    self.breaker.probe_undecided(at);
                }
                return None;
            }
            Verdict::Failed(fault) => Some(fault),
            Verdict::Spoke | Verdict::Nothing => None,
        };
        let schedule_seconds = &self.settings.retry_schedule_seconds;
        let failure = Failure { fault, hold, probe: active.probe, asked: ended.asked, schedule_seconds, random };
        self.breaker.failed(failure, at)
    }

    fn put_back(&mut self, key: Key, mut work: Work, after: Duration, asked: bool, at: Moment) {
        let until = at.now + after;
        work.due_at_us = at.now_us.saturating_add(i64::try_from(after.as_micros()).unwrap_or(i64::MAX));
        if let Key::Free(_) = key {
            self.drop_lane(key);
            self.add_free(work, at, Some((until, asked)));
            return;
        }
        self.lanes.entry(key).or_insert_with(Lane::unread);
        self.enqueue(key, work);
        self.block(key, until, asked);
    }

    /// Decides what an idle lane does next: read the store, end, start, or wait for its head's time.
    fn arrange(&mut self, key: Key, at: Moment) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.state == State::Busy {
            return;
        }
        if self.retired {
            self.drop_lane(key);
            return;
        }
        if lane.wants_load() {
            let after_seq = lane.cursor.start();
            lane.state = State::Idle;
            if let Key::Ordered(lane) = key {
                self.ask(Read::Works { lane, after_seq });
            }
            return;
        }
        if lane.cursor.is_loading() {
            return;
        }
        let Some(head) = lane.head() else {
            self.drop_lane(key);
            return;
        };
        match wait_of(&self.settings, head, at) {
            Some(until) => self.block(key, until, false),
            None => self.make_ready(key),
        }
    }

    fn arrange_if_idle(&mut self, key: Key, at: Moment) {
        if self.lanes.get(&key).is_some_and(|lane| lane.state == State::Idle) {
            self.arrange(key, at);
        }
    }

    fn drop_lane(&mut self, key: Key) {
        if self.lanes.remove(&key).is_some() && matches!(key, Key::Free(_)) {
            self.free.count -= 1;
        }
    }

    fn make_ready(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.state = State::Ready;
        self.ready.push_back(key);
        // Lanes that were dropped leave their turn behind; many of them are cleared away.
        if self.ready.len() > 2 * self.lanes.len() + READY_SLACK {
            let (lanes, mut seen) = (&self.lanes, HashSet::new());
            self.ready.retain(|key| lanes.get(key).is_some_and(|lane| lane.state == State::Ready) && seen.insert(*key));
        }
    }

    fn block(&mut self, key: Key, until: Instant, asked: bool) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.state = State::Blocked { until, asked };
        self.blocked.insert((until, key));
        self.free.later += usize::from(matches!(key, Key::Free(_)));
    }

    fn unblock(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if let State::Blocked { until, .. } = lane.state {
            lane.state = State::Idle;
            self.blocked.remove(&(until, key));
            self.free.later -= usize::from(matches!(key, Key::Free(_)));
        }
    }

    /// The receiver is back: what waited for its next try goes now, save where the receiver itself named a time.
    fn unblock_all(&mut self) {
        let blocked: Vec<Key> = self.blocked.iter().map(|(_, key)| *key).collect();
        for key in blocked {
            let state = self.lanes.get(&key).map(|lane| lane.state);
            if matches!(state, Some(State::Blocked { asked: false, .. })) {
                self.unblock(key);
                self.make_ready(key);
            }
        }
    }

    /// The next lane in turn; for a probe also one that waits, the earliest due.
    fn next_lane(&mut self, probe: bool) -> Option<Key> {
        while let Some(key) = self.ready.pop_front() {
            if self.lanes.get(&key).is_some_and(|lane| lane.state == State::Ready) {
                return Some(key);
            }
        }
        let (_, key) = *self.blocked.first().filter(|_| probe)?;
        self.unblock(key);
        Some(key)
    }

    fn start(&mut self, key: Key, probe: bool, at: Moment, actions: &mut Vec<Action>) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.state = State::Idle;
        if lane.wants_load() {
            self.arrange(key, at);
            return;
        }
        let Some(work) = lane.pop() else {
            self.arrange(key, at);
            return;
        };
        lane.state = State::Busy;
        self.bodies_bytes -= body_bytes(&work);
        let expired = work.expires_at_us <= at.now_us;
        let probe = probe && !expired;
        let active = Active { id: work.delivery_id, probe, forgotten: false, seq: work.seq, again_seq: None };
        self.active.insert(work.delivery_key, active);
        if probe {
            self.breaker.probe_started();
        }
        actions.push(if expired { Action::GiveUp(work) } else { Action::Attempt(work) });
    }
}

fn key_of(work: &Work) -> Key {
    if work.lane == 0 { Key::Free(work.delivery_key) } else { Key::Ordered(work.lane) }
}

/// Until when a work that is due then waits. Bounded, so that a clock set back delays nothing for long.
fn wait_of(settings: &Participant, work: &Work, at: Moment) -> Option<Instant> {
    // Due at once when it got its place in the lane: that holds whatever the clock says now.
    if work.due_at_us <= work.seq {
        return None;
    }
    let wait_us = u64::try_from(work.due_at_us.saturating_sub(at.now_us)).ok().filter(|wait_us| *wait_us > 0)?;
    let longest = settings.retry_schedule_seconds.iter().copied().max().unwrap_or(0);
    let limit = Duration::from_secs(longest).mul_f64(1.2).max(Duration::from_secs(WAIT_LIMIT_MIN_SECONDS));
    Some(at.now + Duration::from_micros(wait_us).min(limit))
}

fn body_bytes(work: &Work) -> usize {
    work.body.as_ref().map_or(0, bytes::Bytes::len)
}

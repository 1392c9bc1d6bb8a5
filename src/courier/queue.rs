//! The queue of one participant: its lanes, what may start now, and its breaker.
//!
//! Pure: the caller passes the time and what happened, and gets what to start and what to read. It uses `lane` (the
//! part of a lane in memory), `scheduler` (which lane is next), `cursor` (how far the store has been read), `budget`,
//! and `breaker`. It sends, reads, and settles nothing.
//!
//! A waiting lane takes one entry in memory and holds no deliveries. Beyond a bound it takes no memory at all, because
//! the store lists by time what comes due.

#[cfg(test)]
mod cases;
mod intake;
mod policy;
mod states;
#[cfg(test)]
mod tests;

use super::backlog::Read;
use super::breaker::{Breaker, Moment, Permit, Transition};
use super::budget::MemoryShare;
use super::cursor::{Cursor, DueCursor};
use super::lane::{Key, Lane, State};
use super::rate_limit::RateLimiter;
use super::scheduler::Scheduler;
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
/// Ordered lanes in memory that wait for a retry or are due for one.
const RETRIES_LIMIT: usize = 10_000;
/// Deliveries without order in memory.
const UNORDERED_LIMIT_DELIVERIES: usize = 1024;
/// How many of them may wait for a retry.
const UNORDERED_WAITING_LIMIT_DELIVERIES: usize = 512;
/// With fewer than this ready to start, more are read from the store.
const UNORDERED_LOW_DELIVERIES: usize = 256;
/// Lower bound of the longest wait that is accepted from the store, whatever the retry schedule says.
const WAIT_LIMIT_MIN_SECONDS: u64 = 86_400;

/// What the actor starts. `finish` is called once for each.
#[derive(Debug)]
pub(super) enum Action {
    Attempt(PendingDelivery),
    /// It expired before it could start.
    GiveUp(PendingDelivery),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptEnd {
    pub next: NextStep,
    pub receiver: ReceiverState,
    /// `Retry-After` of the receiver.
    pub retry_after: Option<Duration>,
}

/// What the attempt shows about the receiver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ReceiverState {
    /// It responded, even if it refused the message.
    Up,
    Failed(Fault),
    /// It had no part in the attempt.
    Unknown,
}

struct Active {
    id: Uuid,
    delivery_key: i64,
    probe: bool,
    retry: bool,
    /// It bypasses the participant's channel, so its end shows nothing about the channel.
    bypass: bool,
    /// It ended elsewhere meanwhile and is not retried.
    forgotten: bool,
}

/// Lanes in memory, by class.
#[derive(Debug, Default)]
struct Counts {
    lanes: usize,
    retries: usize,
    unordered_ready: usize,
    unordered_retries: usize,
    unordered_waiting: usize,
    /// All deliveries without order, active ones included.
    unordered: usize,
}

pub(super) struct ParticipantQueue {
    pub settings: Arc<Participant>,
    pub paused: bool,
    /// No longer configured: the queue is removed after its last attempt.
    pub retired: bool,
    pub breaker: Breaker,
    pub reads: Vec<Read>,
    id: u64,
    reads_made: u64,
    lanes: HashMap<Key, Lane>,
    scheduler: Scheduler,
    waiting: BTreeSet<(Instant, Key)>,
    counts: Counts,
    share: MemoryShare,
    /// Active attempts by `seq`.
    active: HashMap<i64, Active>,
    active_retries: usize,
    active_bypassing: usize,
    rate_limiter: RateLimiter,
    /// The participant's rate limit allows no start before this.
    rate_limited_until: Option<Instant>,
    /// Number of the current streak of failures.
    streak: u64,
    /// When the breaker closes, everything that waits is due, not only what failed while it was open.
    all_due_on_close: bool,
    /// Lanes that the listing still brings are due, whatever their time.
    listed_are_due: bool,
    /// Lists the lanes in the order of their keys.
    listing: Cursor<Option<i64>>,
    /// Memory was full of lanes: the listing continues once half of it is free.
    listing_waits: bool,
    /// Deliveries without order that are due, by `seq`.
    unordered: Cursor<i64>,
    due_lanes: DueCursor,
    due_unordered: DueCursor,
    /// The highest `seq` that a read returned. An offered delivery with a lower one may have been read, sent, and
    /// settled already.
    loaded_seq: i64,
    /// As `loaded_seq`, for deliveries that ended elsewhere.
    forgotten_seq: i64,
    /// Deliveries without order that ended during a read that may bring them back.
    ended_meanwhile: HashSet<i64>,
}

impl ParticipantQueue {
    /// `id` is unique to each queue of the process.
    pub fn new(settings: Arc<Participant>, paused: bool, share: MemoryShare, id: u64) -> Self {
        Self {
            settings,
            paused,
            retired: false,
            breaker: Breaker::default(),
            reads: Vec::new(),
            id,
            reads_made: 0,
            lanes: HashMap::new(),
            scheduler: Scheduler::default(),
            waiting: BTreeSet::new(),
            counts: Counts::default(),
            share,
            active: HashMap::new(),
            active_retries: 0,
            active_bypassing: 0,
            rate_limiter: RateLimiter::default(),
            rate_limited_until: None,
            streak: 0,
            all_due_on_close: false,
            listed_are_due: false,
            listing: Cursor::from(None),
            listing_waits: false,
            unordered: Cursor::from(i64::MIN),
            due_lanes: DueCursor::none(),
            due_unordered: DueCursor::unread(),
            loaded_seq: i64::MIN,
            forgotten_seq: i64::MIN,
            ended_meanwhile: HashSet::new(),
        }
    }

    /// Starts everything that may start now, and asks for the reads that are needed.
    pub fn advance(&mut self, at: Moment, actions: &mut Vec<Action>) {
        if self.paused || self.retired {
            return;
        }
        self.wake(at);
        while self.active_bypassing < self.capacity()
            && let Some(key) = self.scheduler.next_bypassing()
        {
            self.start(key, false, at, actions);
        }
        while self.has_capacity() && self.rate_limiter.wait(self.settings.rate_per_second, at.now).is_none() {
            let probe = match self.breaker.permit(at.now) {
                Permit::No => break,
                Permit::Any => false,
                Permit::Probe => true,
            };
            let Some(key) = self.next_lane(probe) else { break };
            self.start(key, probe, at, actions);
        }
        self.rate_limited_until = self.rate_limiter.wait(self.settings.rate_per_second, at.now);
        self.read_on(at);
    }

    /// Concurrent attempts on the participant's channel. As many may bypass it.
    fn capacity(&self) -> usize {
        self.settings.concurrency.max(1)
    }

    fn has_capacity(&self) -> bool {
        self.active.len() - self.active_bypassing < self.capacity()
    }

    /// When `advance` has something to do next, unless something else happens first.
    pub fn next_wake(&self) -> Option<Instant> {
        if self.paused || self.retired {
            return None;
        }
        let waiting = self.waiting.first().map(|(until, _)| *until);
        // A lane that is being read reports when the read ends.
        let start = if !self.has_capacity() {
            None
        } else if !self.breaker.is_open() {
            self.rate_limited_until.filter(|_| self.scheduler.has_ready())
        } else if self.scheduler.has_ready() || (self.scheduler.is_empty() && self.first_waiting().is_some()) {
            self.breaker.next_probe().map(|probe| self.rate_limited_until.map_or(probe, |until| until.max(probe)))
        } else {
            None
        };
        let due =
            [self.due_lanes.wake(), self.due_unordered.wake()].map(|wake| wake.filter(|_| !self.breaker.is_open()));
        [waiting, start, due[0], due[1]].into_iter().flatten().min()
    }

    /// An attempt ended, or a delivery was given up (then `ended.next` is Done). Returns the breaker's transition.
    pub fn finish(
        &mut self,
        mut delivery: PendingDelivery,
        ended: AttemptEnd,
        random: f64,
        at: Moment,
    ) -> Option<Transition> {
        let active = self.active.remove(&delivery.seq)?;
        self.share.release(&delivery);
        self.active_retries -= usize::from(active.retry);
        self.active_bypassing -= usize::from(active.bypass);
        let streak = self.streak;
        let key = Key::of(&delivery);
        let transition = self.update_breaker(&active, &delivery, &ended, random, at);
        let (after, stored) = match ended.next {
            NextStep::Done => (None, true),
            NextStep::Postponed { after } => {
                delivery.is_probe = false;
                (Some(after), false)
            }
            NextStep::Retry { after } => {
                delivery.count_failed();
                delivery.due_at_us = at.now_us.saturating_add(i64::try_from(after.as_micros()).unwrap_or(i64::MAX));
                (Some(after), true)
            }
        };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = State::Idle;
        }
        match after {
            _ if self.retired || !self.carries(&delivery) => self.drop_lane(key),
            _ if active.forgotten => self.finish_forgotten(&delivery, after, at),
            Some(after) => self.wait_for_retry(delivery, at.now + after, ended.retry_after.is_some(), stored),
            None => {
                self.note_ended(key);
                self.reschedule(key, at);
            }
        }
        if transition == Some(Transition::Closed) {
            self.make_streak_due(streak);
            if std::mem::take(&mut self.all_due_on_close) {
                self.make_all_due(at);
            }
        }
        transition
    }

    /// The delivery ended elsewhere while its attempt was active. If it was retried meanwhile, it has another `seq`,
    /// and only the store knows what this attempt changed about it.
    fn finish_forgotten(&mut self, delivery: &PendingDelivery, after: Option<Duration>, at: Moment) {
        let key = Key::of(delivery);
        self.note_ended(key);
        self.unload(key);
        self.reschedule(key, at);
        let is_it = |lane: &Lane| lane.head().is_some_and(|head| head.delivery_key == delivery.delivery_key);
        if let Key::Unordered(_) = key
            && let Some(again) = self.lanes.iter().find(|(_, lane)| is_it(lane)).map(|(key, _)| *key)
        {
            self.drop_lane(again);
            self.unordered.mark_missed(delivery.seq);
            if let Some(after) = after {
                self.due_unordered.expect(at.now + after, delivery.due_at_us);
            }
        }
    }

    /// Removes a waiting delivery from memory. One with an active attempt is not retried.
    pub fn forget(&mut self, delivery: &PendingDelivery, at: Moment) {
        if let Some(active) = self.active.values_mut().find(|active| active.delivery_key == delivery.delivery_key) {
            active.forgotten = true;
            return;
        }
        let key = Key::of(delivery);
        self.note_ended(key);
        self.forgotten_seq = self.forgotten_seq.max(delivery.seq);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        match lane.state {
            State::Loading { .. } => lane.stale = true,
            State::Waiting { .. } if lane.waited_seq == Some(delivery.seq) || lane.head().is_some() => {
                self.detach(key);
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.waited_seq = None;
                }
                self.remove(key, delivery.delivery_key);
                self.reschedule(key, at);
            }
            State::Ready { .. } => {
                if self.remove(key, delivery.delivery_key) {
                    self.detach(key);
                    self.reschedule(key, at);
                }
            }
            State::Busy => drop(self.remove(key, delivery.delivery_key)),
            State::Waiting { .. } | State::Unread { .. } | State::Idle => {}
        }
    }

    /// Forgets everything but the active attempts: what waits is read from the store again, for the channel that now
    /// applies.
    pub fn reread(&mut self) {
        let keys: Vec<Key> = self.lanes.keys().copied().collect();
        for key in keys {
            if self.lanes.get(&key).is_some_and(|lane| lane.state == State::Busy) {
                self.unload(key);
            } else {
                self.drop_lane(key);
            }
        }
        self.listing = Cursor::from(None);
        self.listing_waits = false;
        self.unordered = Cursor::from(i64::MIN);
        (self.due_lanes, self.due_unordered) = (DueCursor::none(), DueCursor::unread());
        self.ended_meanwhile.clear();
    }

    /// Drops what waits from memory; it stays in the store.
    pub fn retire(&mut self) {
        self.retired = true;
        self.reread();
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

    /// Lanes with a delivery in memory; all deliveries without order count as one.
    pub fn lanes_count(&self) -> usize {
        self.lanes.len() - self.counts.unordered + usize::from(self.counts.unordered > 0)
    }

    fn start(&mut self, key: Key, probe: bool, at: Moment, actions: &mut Vec<Action>) {
        self.detach(key);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let Some(mut delivery) = lane.pop() else { return self.reschedule(key, at) };
        lane.state = State::Busy;
        lane.waited_seq = None;
        let expired = delivery.expires_at_us <= at.now_us;
        let (probe, retry) = (probe && !expired, delivery.attempts > 0 && !delivery.kind.bypasses_channel());
        let (id, delivery_key) = (delivery.delivery_id, delivery.delivery_key);
        let bypass = delivery.kind.bypasses_channel();
        self.active.insert(delivery.seq, Active { id, delivery_key, probe, retry, bypass, forgotten: false });
        // Bypassing deliveries have a capacity of their own.
        self.active_retries += usize::from(retry);
        self.active_bypassing += usize::from(bypass);
        delivery.is_probe = probe;
        if !expired && !bypass {
            self.rate_limiter.begin(self.settings.rate_per_second, at.now);
        }
        if probe {
            self.breaker.probe_started();
        }
        actions.push(if expired { Action::GiveUp(delivery) } else { Action::Attempt(delivery) });
    }

    /// Whether the courier sends this delivery. For a participant without a channel, that is callbacks and replies
    /// only; the others wait until they are read.
    fn carries(&self, delivery: &PendingDelivery) -> bool {
        delivery.kind.bypasses_channel() || self.settings.is_carried_to()
    }
}

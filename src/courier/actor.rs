//! The courier's task: it owns every desk, and starts the tasks that carry, conclude, give up and read.
//!
//! One loop: take what came, tell the desks, start what they say, wait. It never waits for the store or a receiver.

mod orders;
mod sweep;
mod tasks;

use super::breaker::{Moment, Transition};
use super::budget::Budget;
use super::desk::{Action, Desk, Ended, Verdict};
use super::handle::{Command, Inbox};
use super::load::{Page, Read, Shelf};
use super::{Carrier, Conclude, CourierSettings, ParticipantStatus};
use crate::clock::Clock;
use crate::delivery::{NextStep, PendingDelivery};
use crate::fault::Fault;
use crate::metrics::Metrics;
use crate::routing::Participant;
use crate::store::Unavailable;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use sweep::{SWEEP_SECONDS, Sweep};
use tasks::READS_LIMIT;

/// The store is asked again this long after it could not be reached.
const READ_RETRY_SECONDS: u64 = 1;
/// Commands taken at one time.
const BATCH_COMMANDS: usize = 256;

/// `CourierSettings` without the store, which the actor sees as a `Shelf` only.
pub(super) struct Settings {
    pub participants: Vec<Arc<Participant>>,
    pub paused: Vec<String>,
    pub memory_bytes: usize,
    pub clock: Clock,
    pub metrics: Metrics,
    pub carrier: Arc<dyn Carrier>,
    pub conclude: Arc<dyn Conclude>,
    pub stop: CancellationToken,
    pub grace: Duration,
}

impl From<CourierSettings> for Settings {
    fn from(settings: CourierSettings) -> Self {
        let CourierSettings {
            participants, paused, memory_bytes, clock, metrics, carrier, conclude, stop, grace, ..
        } = settings;
        Self { participants, paused, memory_bytes, clock, metrics, carrier, conclude, stop, grace }
    }
}

/// What the tasks report.
enum Report {
    Attempted { work: PendingDelivery, ended: Ended },
    GaveUp { work: PendingDelivery, swept: bool },
    Loaded { participant: Arc<str>, read: Read, page: Result<Page, Unavailable> },
    Expired(Result<Vec<PendingDelivery>, Unavailable>),
}

struct Slot {
    desk: Desk,
    wake: Option<Instant>,
}

pub(super) struct Actor {
    inbox: Inbox,
    settings: Settings,
    shelf: Arc<dyn Shelf>,
    budget: Arc<Budget>,
    slots: HashMap<Arc<str>, Slot>,
    /// Desks made so far.
    desks: u64,
    wakes: BTreeSet<(Instant, Arc<str>)>,
    touched: HashSet<Arc<str>>,
    paused: HashSet<String>,
    tasks: JoinSet<Report>,
    reads: VecDeque<(Arc<str>, Read)>,
    reading: usize,
    reads_from: Instant,
    sweep: Sweep,
    attempts: usize,
    random: u64,
}

impl Actor {
    pub fn new(inbox: Inbox, settings: Settings, shelf: Arc<dyn Shelf>) -> Self {
        let now = Instant::now();
        let paused = settings.paused.iter().cloned().collect();
        let participants = settings.participants.clone();
        let budget = Budget::new(settings.memory_bytes);
        let mut actor = Self {
            inbox,
            settings,
            shelf,
            budget,
            slots: HashMap::new(),
            desks: 0,
            wakes: BTreeSet::new(),
            touched: HashSet::new(),
            paused,
            tasks: JoinSet::new(),
            reads: VecDeque::new(),
            reading: 0,
            reads_from: now,
            sweep: Sweep { next: now, reading: false, giving_up: HashSet::new(), last_first: None },
            attempts: 0,
            random: RandomState::new().build_hasher().finish() | 1,
        };
        actor.reload(participants);
        actor
    }

    pub async fn run(mut self) {
        let stop = self.settings.stop.clone();
        let mut commands = Vec::with_capacity(BATCH_COMMANDS);
        let mut open = true;
        let timer = tokio::time::sleep_until(self.sweep.next);
        tokio::pin!(timer);
        loop {
            self.step(Vec::new());
            let wake = self.next_wake();
            if timer.deadline() != wake {
                timer.as_mut().reset(wake);
            }
            tokio::select! {
                () = stop.cancelled() => break,
                more = self.inbox.wait(&mut commands, BATCH_COMMANDS), if open => open = more,
                Some(report) = self.tasks.join_next() => self.reported(report),
                () = &mut timer => {}
            }
            self.take_aside();
            for command in commands.drain(..) {
                self.command(command);
            }
            while let Some(report) = self.tasks.try_join_next() {
                self.reported(report);
            }
        }
        self.drain().await;
    }

    /// Starts all that may start now.
    fn step(&mut self, mut actions: Vec<Action>) {
        let at = self.moment();
        while let Some((wake, id)) = self.wakes.first()
            && *wake <= at.now
        {
            self.touched.insert(id.clone());
            self.wakes.pop_first();
        }
        for id in std::mem::take(&mut self.touched) {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.desk.advance(at, &mut actions);
            self.reads.extend(slot.desk.reads.drain(..).map(|read| (id.clone(), read)));
            let wake = slot.desk.next_wake();
            if let Some(old) = std::mem::replace(&mut slot.wake, wake) {
                self.wakes.remove(&(old, id.clone()));
            }
            let participant = slot.desk.settings.clone();
            if let Some(wake) = wake {
                self.wakes.insert((wake, id));
            }
            for action in actions.drain(..) {
                match action {
                    Action::Attempt(work) => self.attempt(work, participant.clone()),
                    // By a clock that cannot be trusted, nothing has expired.
                    Action::GiveUp(work) if self.settings.clock.jump().is_some() => {
                        self.attempt(work, participant.clone());
                    }
                    Action::GiveUp(work) => self.give_up(work, false),
                }
            }
        }
        self.read_on(at.now);
        self.sweep_if_due(at);
    }

    fn next_wake(&self) -> Instant {
        let reads = (!self.reads.is_empty() && self.reading < READS_LIMIT).then_some(self.reads_from);
        let sweep = self.sweep.next.max(Instant::now());
        let sweep = if self.sweeping() { sweep + Duration::from_secs(SWEEP_SECONDS) } else { sweep };
        self.wakes.first().map(|(wake, _)| *wake).into_iter().chain(reads).fold(sweep, Instant::min)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Offer(works) => {
                let at = self.moment();
                for work in works {
                    let id = work.participant.clone();
                    if let Some(slot) = self.slots.get_mut(&id) {
                        slot.desk.offer(work, at);
                        self.touched.insert(id);
                    }
                }
            }
            Command::Forget(work) => self.forget(&work),
            // Who asked may have gone away meanwhile.
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Active(reply) => {
                drop(reply.send(self.slots.values().flat_map(|slot| slot.desk.active_ids()).collect()));
            }
        }
    }

    fn reported(&mut self, report: Result<Report, tokio::task::JoinError>) {
        let report = match report {
            Ok(report) => report,
            // The tasks catch the panics of what they call, and nobody aborts them before the end.
            Err(error) => {
                tracing::error!(
                    is_panic = error.is_panic(),
                    "a task of the courier was lost; its delivery waits for the next start"
                );
                return;
            }
        };
        match report {
            Report::Attempted { work, ended } => {
                self.attempts -= 1;
                self.finish(work, ended);
            }
            Report::GaveUp { work, swept: true } => {
                self.sweep.giving_up.remove(&work.delivery_key);
                self.forget(&work);
            }
            Report::GaveUp { work, swept: false } => {
                self.attempts -= 1;
                self.finish(work, Ended { next: NextStep::Done, verdict: Verdict::Nothing, asked: None });
            }
            Report::Loaded { participant, read, page } => self.loaded(participant, read, page),
            Report::Expired(works) => self.expired(works),
        }
    }

    fn finish(&mut self, work: PendingDelivery, ended: Ended) {
        let at = self.moment();
        let random = self.next_random();
        let id = work.participant.clone();
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let Some(transition) = slot.desk.finish(work, ended, random, at) {
            let opened = transition == Transition::Opened;
            self.settings.metrics.breaker(&id, opened);
            if opened {
                let fault = slot.desk.breaker.last_fault.map_or("", Fault::code);
                tracing::warn!(participant.id = %id, fault, "the breaker of {id} opened; only probes go out");
            } else {
                tracing::info!(participant.id = %id, "the breaker of {id} closed; deliveries go on");
            }
        }
        if slot.desk.retired && slot.desk.active_count() == 0 {
            self.drop_slot(&id);
        } else {
            self.touched.insert(id);
        }
    }

    fn drop_slot(&mut self, id: &Arc<str>) {
        if let Some(wake) = self.slots.remove(id).and_then(|slot| slot.wake) {
            self.wakes.remove(&(wake, id.clone()));
        }
    }

    fn loaded(&mut self, participant: Arc<str>, read: Read, page: Result<Page, Unavailable>) {
        self.reading -= 1;
        let at = self.moment();
        let Some(slot) = self.slots.get_mut(&participant) else { return };
        match page {
            Ok(page) => slot.desk.page(read, page, at),
            Err(error) => {
                tracing::warn!(participant.id = %participant, %error, "cannot read what waits; asking again soon");
                self.reads_from = at.now + Duration::from_secs(READ_RETRY_SECONDS);
                self.reads.push_back((participant, read));
                return;
            }
        }
        self.touched.insert(participant);
    }

    /// Waits for what is under way, and still answers those who ask.
    async fn drain(&mut self) {
        let deadline = Instant::now() + self.settings.grace;
        let mut commands = Vec::new();
        let mut open = true;
        while self.attempts > 0 || !self.sweep.giving_up.is_empty() {
            tokio::select! {
                Some(report) = self.tasks.join_next() => self.reported(report),
                more = self.inbox.wait(&mut commands, BATCH_COMMANDS), if open => open = more,
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!(attempts = self.attempts, "stopping with attempts under way; they are made again");
                    return;
                }
            }
            for command in commands.drain(..) {
                if matches!(command, Command::Status(_) | Command::Active(_)) {
                    self.command(command);
                }
            }
        }
    }

    fn status(&self) -> Vec<ParticipantStatus> {
        let mut all: Vec<ParticipantStatus> =
            self.slots.values().filter(|slot| !slot.desk.retired).map(|slot| status_of(&slot.desk)).collect();
        all.sort_by(|one, other| one.participant.cmp(&other.participant));
        all
    }

    fn moment(&self) -> Moment {
        Moment { now: Instant::now(), now_us: self.settings.clock.now_us() }
    }

    /// Xorshift: jitter needs no better.
    fn next_random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn status_of(desk: &Desk) -> ParticipantStatus {
    ParticipantStatus {
        participant: desk.settings.id.to_string(),
        paused: desk.paused,
        breaker: if desk.breaker.is_open() { "open" } else { "closed" },
        last_fault: desk.breaker.last_fault,
        last_failure_at_us: desk.breaker.last_failure_at_us,
        next_probe_at_us: desk.breaker.next_probe_at_us(),
        active: desk.active_count(),
        lanes: desk.lanes_count(),
    }
}

//! The courier's task: it owns every participant queue, and starts the tasks that send, settle, give up, and read.
//!
//! One loop: take commands and reports, update the queues, start what they ask for, wait. It never waits for the store
//! or a receiver.

mod commands;
mod sweep;
mod tasks;

use super::backlog::{BacklogSource, Page, Read};
use super::breaker::{Moment, Transition};
use super::budget::Budget;
use super::handle::{Command, Inbox};
use super::queue::{Action, AttemptEnd, ParticipantQueue, ReceiverState};
use super::{CourierSettings, DeliverySettler, ParticipantStatus, Transport};
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

/// Pause after a failed read of the store.
const READ_RETRY_SECONDS: u64 = 1;
/// Commands taken from the inbox at a time.
const BATCH_COMMANDS: usize = 256;

/// `CourierSettings` without the store, which the actor uses only through `BacklogSource`.
pub(super) struct Settings {
    pub participants: Vec<Arc<Participant>>,
    pub paused: Vec<String>,
    pub memory_bytes: usize,
    pub clock: Clock,
    pub metrics: Metrics,
    pub transport: Arc<dyn Transport>,
    pub settler: Arc<dyn DeliverySettler>,
    pub stop: CancellationToken,
    pub grace: Duration,
}

impl From<CourierSettings> for Settings {
    fn from(settings: CourierSettings) -> Self {
        let CourierSettings {
            participants, paused, memory_bytes, clock, metrics, transport, settler, stop, grace, ..
        } = settings;
        Self { participants, paused, memory_bytes, clock, metrics, transport, settler, stop, grace }
    }
}

/// What a finished task reports to the actor.
enum TaskReport {
    Attempted { delivery: PendingDelivery, ended: AttemptEnd },
    GaveUp { delivery: PendingDelivery, swept: bool },
    Loaded { participant: Arc<str>, read: Read, page: Result<Page, Unavailable> },
    Expired(Result<Vec<PendingDelivery>, Unavailable>),
}

struct Slot {
    queue: ParticipantQueue,
    wake: Option<Instant>,
}

pub(super) struct Actor {
    inbox: Inbox,
    settings: Settings,
    backlog: Arc<dyn BacklogSource>,
    budget: Arc<Budget>,
    slots: HashMap<Arc<str>, Slot>,
    /// Queues created so far; the source of their ids.
    queues_made: u64,
    wakes: BTreeSet<(Instant, Arc<str>)>,
    touched: HashSet<Arc<str>>,
    paused: HashSet<String>,
    tasks: JoinSet<TaskReport>,
    reads: VecDeque<(Arc<str>, Read)>,
    reading: usize,
    reads_from: Instant,
    sweep: Sweep,
    attempts: usize,
    random: u64,
}

impl Actor {
    pub fn new(inbox: Inbox, settings: Settings, backlog: Arc<dyn BacklogSource>) -> Self {
        let now = Instant::now();
        let paused = settings.paused.iter().cloned().collect();
        let participants = settings.participants.clone();
        let budget = Budget::new(settings.memory_bytes);
        let mut actor = Self {
            inbox,
            settings,
            backlog,
            budget,
            slots: HashMap::new(),
            queues_made: 0,
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
            self.take_coalesced();
            for command in commands.drain(..) {
                self.command(command);
            }
            while let Some(report) = self.tasks.try_join_next() {
                self.reported(report);
            }
        }
        self.drain().await;
    }

    /// Starts everything that may start now.
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
            slot.queue.advance(at, &mut actions);
            self.reads.extend(slot.queue.reads.drain(..).map(|read| (id.clone(), read)));
            let wake = slot.queue.next_wake();
            if let Some(old) = std::mem::replace(&mut slot.wake, wake) {
                self.wakes.remove(&(old, id.clone()));
            }
            let participant = slot.queue.settings.clone();
            if let Some(wake) = wake {
                self.wakes.insert((wake, id));
            }
            for action in actions.drain(..) {
                match action {
                    Action::Attempt(delivery) => self.attempt(delivery, participant.clone()),
                    // While the wall clock is wrong, nothing counts as expired.
                    Action::GiveUp(delivery) if self.settings.clock.jump().is_some() => {
                        self.attempt(delivery, participant.clone());
                    }
                    Action::GiveUp(delivery) => self.give_up(delivery, false),
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
            Command::Offer(deliveries) => {
                let at = self.moment();
                for delivery in deliveries {
                    let id = delivery.participant.clone();
                    if let Some(slot) = self.slots.get_mut(&id) {
                        slot.queue.offer(delivery, at);
                        self.touched.insert(id);
                    }
                }
            }
            Command::Forget(delivery) => self.forget(&delivery),
            // The caller may have stopped waiting.
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Active(reply) => {
                drop(reply.send(self.slots.values().flat_map(|slot| slot.queue.active_ids()).collect()));
            }
        }
    }

    fn reported(&mut self, report: Result<TaskReport, tokio::task::JoinError>) {
        let report = match report {
            Ok(report) => report,
            // The tasks catch panics of the code they call, and nothing aborts them before the end.
            Err(error) => {
                tracing::error!(
                    is_panic = error.is_panic(),
                    "a task of the courier was lost; its delivery is delivered after the next start"
                );
                return;
            }
        };
        match report {
            TaskReport::Attempted { delivery, ended } => {
                self.attempts -= 1;
                self.finish(delivery, ended);
            }
            TaskReport::GaveUp { delivery, swept: true } => {
                self.sweep.giving_up.remove(&delivery.delivery_key);
                self.forget(&delivery);
            }
            TaskReport::GaveUp { delivery, swept: false } => {
                self.attempts -= 1;
                self.finish(
                    delivery,
                    AttemptEnd { next: NextStep::Done, receiver: ReceiverState::Unknown, retry_after: None },
                );
            }
            TaskReport::Loaded { participant, read, page } => self.loaded(participant, read, page),
            TaskReport::Expired(deliveries) => self.expired(deliveries),
        }
    }

    fn finish(&mut self, delivery: PendingDelivery, ended: AttemptEnd) {
        let at = self.moment();
        let random = self.next_random();
        let id = delivery.participant.clone();
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let Some(transition) = slot.queue.finish(delivery, ended, random, at) {
            let opened = transition == Transition::Opened;
            self.settings.metrics.breaker(&id, opened);
            if opened {
                let fault = slot.queue.breaker.last_fault.map_or("", Fault::code);
                tracing::warn!(participant.id = %id, fault, "the breaker of {id} opened; only probes are sent");
            } else {
                tracing::info!(participant.id = %id, "the breaker of {id} closed; deliveries resume");
            }
        }
        if slot.queue.retired && slot.queue.active_count() == 0 {
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
            Ok(page) => slot.queue.page(read, page, at),
            Err(error) => {
                tracing::warn!(participant.id = %participant, %error, "cannot read the backlog; retrying soon");
                self.reads_from = at.now + Duration::from_secs(READ_RETRY_SECONDS);
                self.reads.push_back((participant, read));
                return;
            }
        }
        self.touched.insert(participant);
    }

    /// Waits for the active attempts to end, and still answers status queries.
    async fn drain(&mut self) {
        let deadline = Instant::now() + self.settings.grace;
        let mut commands = Vec::new();
        let mut open = true;
        while self.attempts > 0 || !self.sweep.giving_up.is_empty() {
            tokio::select! {
                Some(report) = self.tasks.join_next() => self.reported(report),
                more = self.inbox.wait(&mut commands, BATCH_COMMANDS), if open => open = more,
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!(attempts = self.attempts, "stopping with active attempts; they are retried after the next start");
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
            self.slots.values().filter(|slot| !slot.queue.retired).map(|slot| status_of(&slot.queue)).collect();
        all.sort_by(|one, other| one.participant.cmp(&other.participant));
        all
    }

    fn moment(&self) -> Moment {
        Moment { now: Instant::now(), now_us: self.settings.clock.now_us() }
    }

    /// Xorshift, which is good enough for jitter.
    fn next_random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn status_of(queue: &ParticipantQueue) -> ParticipantStatus {
    ParticipantStatus {
        participant: queue.settings.id.to_string(),
        paused: queue.paused,
        breaker: if queue.breaker.is_open() { "open" } else { "closed" },
        last_fault: queue.breaker.last_fault,
        last_failure_at_us: queue.breaker.last_failure_at_us,
        next_probe_at_us: queue.breaker.next_probe_at_us(),
        active: queue.active_count(),
        lanes: queue.lanes_count(),
    }
}

//! Replays: delivers stored messages again at an operator's request, in their original order and with their original identity.
//!
//! A worker reads the open replays from the store, also after a restart. For each message it creates new deliveries, linked to
//! the original ones, and passes them to the courier. The store advances a replay's cursor in the transaction that stores the
//! deliveries, so that a crash neither skips a message nor replays it twice.

mod message;

use crate::exchange::Exchange;
use crate::store::view::{MessageFilter, ReplayState, ReplayTurn, ReplayView, ViewError};
use crate::store::{Store, Unavailable};
use crate::supervisor::Supervisor;
use fhir::event::Category;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The highest rate limit that can be set; without one a replay runs as fast as the store accepts it.
pub const MAX_RATE_PER_SECOND: u32 = 100_000;
/// How many messages a replay takes per step, before it checks whether it was paused and lets other replays run.
const STEP_LIMIT: u32 = 100;
/// A rate-limited replay takes a tenth of its rate per step, so that receivers see an even flow.
const STEPS_PER_SECOND: u32 = 10;
/// How much time a rate-limited replay that fell behind may catch up.
const CATCH_UP_MILLISECONDS: u64 = 500;
/// How long the worker waits after an error of the store.
const STORE_AWAY_SECONDS: u64 = 2;
/// How many messages a dry run examines one by one; those beyond are only counted.
const EXAMINED_LIMIT: u64 = 50_000;
const PAGE_LIMIT: u32 = 500;

/// The running worker. Clones share it.
#[derive(Clone)]
pub struct Replays {
    changed: Arc<Notify>,
}

impl Replays {
    /// Starts the worker, which ends after `stop` between two steps.
    pub fn start(exchange: Arc<Exchange>, stop: CancellationToken, supervisor: &Supervisor) -> Replays {
        let changed = Arc::new(Notify::new());
        let worker = Worker { exchange, changed: changed.clone(), due: HashMap::new() };
        let expected = stop.clone();
        supervisor.spawn("replays", expected, async move {
            stop.run_until_cancelled(worker.run()).await;
        });
        Replays { changed }
    }

    /// Makes the worker look for replays that were ordered, paused, resumed, or ended.
    pub fn wake(&self) {
        self.changed.notify_one();
    }
}

/// Whether a replay has not ended.
pub fn is_open(state: ReplayState) -> bool {
    matches!(state, ReplayState::Running | ReplayState::Paused)
}

/// What a replay with this filter would deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub matched: u64,
    /// Of those examined: skipped without `force_consequence`.
    pub consequence: u64,
    /// Of those examined: skipped because retention removed their content.
    pub without_body: u64,
    /// How many were examined one by one, at most 50,000.
    pub examined: u64,
}

/// Counts what a replay would deliver, and changes nothing. Refused messages, and answers that the filter does not name, are
/// not replayed.
pub async fn count(store: &Store, filter: &MessageFilter) -> Result<Count, ViewError> {
    let filter = &filter.for_replay();
    let mut count = Count { matched: store.count_messages(filter).await?, ..Count::default() };
    let mut cursor = None;
    while count.examined < EXAMINED_LIMIT {
        let page = store.list_messages(filter, cursor.as_deref(), PAGE_LIMIT).await?;
        count.examined += page.items.len() as u64;
        count.without_body += page.items.iter().filter(|message| !message.body_kept).count() as u64;
        let is_consequence = |category| category == Some(Category::Consequence);
        count.consequence +=
            page.items.iter().filter(|message| is_consequence(message.metadata.category)).count() as u64;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(count)
}

struct Worker {
    exchange: Arc<Exchange>,
    changed: Arc<Notify>,
    /// When each rate-limited replay may take its next step.
    due: HashMap<Uuid, Instant>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let wait = match self.round().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "replays are waiting: the store does not answer");
                    Some(Duration::from_secs(STORE_AWAY_SECONDS))
                }
            };
            match wait {
                Some(wait) => {
                    // A wake-up only shortens the wait; a replay that is not due yet is not run.
                    let _ = tokio::time::timeout(wait, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Runs one step of each running replay that is due. Returns how long until the next is due; None if no replay is running.
    async fn round(&mut self) -> Result<Option<Duration>, Unavailable> {
        let open = self.exchange.store.open_replays().await?;
        self.due.retain(|id, _| open.iter().any(|replay| replay.order.id == *id));
        let mut next: Option<Duration> = None;
        for replay in open.iter().filter(|replay| replay.state == ReplayState::Running) {
            let now = Instant::now();
            let due = *self.due.entry(replay.order.id).or_insert(now);
            let wait = match due.checked_duration_since(now).filter(|wait| !wait.is_zero()) {
                Some(wait) => Some(wait),
                None => self.step(replay).await?,
            };
            next = match (next, wait) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        Ok(next)
    }

    /// Replays the next messages. Returns None if the replay has ended.
    async fn step(&mut self, replay: &ReplayView) -> Result<Option<Duration>, Unavailable> {
        let store = &self.exchange.store;
        let limit = step_limit(replay.order.rate_per_second);
        let candidates = match store.replay_candidates(replay.order.id, limit).await {
            Ok(candidates) => candidates,
            Err(ViewError::Unavailable(away)) => return Err(away),
            Err(slow @ ViewError::TooLong(_)) => return Err(Unavailable::Away(slow.to_string())),
            Err(ViewError::BadFilter(reason)) => {
                tracing::error!(replay.id = %replay.order.id, reason, "the replay cannot be read and is stopped");
                store.set_replay_state(replay.order.id, ReplayState::Stopped).await?;
                return Ok(None);
            }
        };
        if candidates.is_empty() {
            store.set_replay_state(replay.order.id, ReplayState::Done).await?;
            tracing::info!(replay.id = %replay.order.id, "the replay is done");
            return Ok(None);
        }
        let taken = candidates.len() as u32;
        let mut turns = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let deliveries = message::deliveries(&self.exchange, replay, &candidate).await?;
            turns.push(ReplayTurn { message_key: candidate.message_key, metadata: candidate.metadata, deliveries });
        }
        self.exchange.courier.offer(store.replay_deliver(replay.order.id, turns).await?);
        let now = Instant::now();
        let due = self.due.get(&replay.order.id).copied().unwrap_or(now);
        let due = next_due(due, now, taken, replay.order.rate_per_second);
        self.due.insert(replay.order.id, due);
        Ok(Some(due.saturating_duration_since(now)))
    }
}

fn step_limit(rate_per_second: Option<u32>) -> u32 {
    rate_per_second.map_or(STEP_LIMIT, |rate| (rate / STEPS_PER_SECOND).clamp(1, STEP_LIMIT))
}

/// When the next step is due, after one that was due at `due` and replayed `taken` messages until `now`. The time that a step
/// takes counts toward the rate; a delay is caught up within `CATCH_UP_MILLISECONDS`.
fn next_due(due: Instant, now: Instant, taken: u32, rate_per_second: Option<u32>) -> Instant {
    let Some(rate) = rate_per_second else { return now };
    let next = due + Duration::from_secs_f64(f64::from(taken) / f64::from(rate.max(1)));
    next.max(now.checked_sub(Duration::from_millis(CATCH_UP_MILLISECONDS)).unwrap_or(now))
}

#[cfg(test)]
mod tests;

//! The store: one seam of methods named after intent, each one transaction. SQLite behind it.
//!
//! Nothing is acknowledged before its transaction has committed. Accepts and settlements that arrive together share one
//! transaction (group commit). No SQL, no database type leaves this folder.

mod accept;
mod backup;
mod batch;
mod core;
mod due;
mod files;
mod filter;
mod health;
mod insert;
mod inspect;
mod lanes;
mod lookup;
mod open;
mod plan;
mod prepare;
mod recent;
mod reference;
mod replay;
mod restore;
mod retention;
mod retry;
mod row;
mod search;
mod settle;
mod standing;
mod term;
#[cfg(test)]
mod tests;
mod time;
mod timeline;
mod tries;
pub mod view;
mod watch;
mod writer;

pub use backup::backup_file;
pub use lanes::{DuePage, LaneHead};
pub use restore::{Restored, restore_file};
pub use retention::RetentionDays;
pub use tries::Redelivered;

use self::core::{Core, unavailable};
use self::writer::Job;
use crate::clock::Clock;
use crate::delivery::{
    Acceptance, DeliveryState, MessageState, Metadata, NewMessage, PendingDelivery, Settled, Settlement,
};
use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::supervisor::{PartGuard, Supervisor};
use crate::turn::Turn;
use fhir::identity::{IdentityKeys, Verdict};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How the store is opened.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The database file; its folder is made when missing.
    pub path: PathBuf,
    /// Less room than this on the disk refuses accepts.
    pub min_free_bytes: u64,
    /// How long identities are recognised; older ones count as new.
    pub identities_days: u32,
}

/// Why the store cannot be opened. Each is a plain sentence for exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Refused(String),
    #[error("cannot open the store {path}: {source}")]
    Database { path: String, source: sqlx::Error },
    #[error("cannot open the store {path}: {source}")]
    File { path: String, source: std::io::Error },
}

/// The store cannot take it now; nothing was kept. The caller answers 503 and the sender comes again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("no room: {0}")]
    Full(String),
    #[error("the store cannot be reached: {0}")]
    Away(String),
    /// A stored row that is needed cannot be read; it will not get better by itself.
    #[error("a stored row cannot be read: {0}")]
    Damaged(String),
}

/// The state of one message, as replies to its sender and the status URL need it.
#[derive(Clone, Debug)]
pub struct Standing {
    pub message_key: i64,
    pub metadata: Arc<Metadata>,
    pub state: MessageState,
    pub outcome: Option<Outcome>,
    /// Deliveries of kind Request, in the plan's order.
    pub deliveries: Vec<StandingDelivery>,
    /// The answer that Emberpost gave itself, where it was the receiver or refused.
    pub own_answer: Option<i64>,
    /// Ended by DELETE of the status URL.
    pub status_ended: bool,
}

#[derive(Clone, Debug)]
pub struct StandingDelivery {
    pub key: i64,
    pub id: Uuid,
    pub participant: String,
    pub state: DeliveryState,
    /// HTTP status of the last attempt.
    pub status: Option<u16>,
    pub fault: Option<Fault>,
    /// Key of the answer message, once there is one.
    pub answer: Option<i64>,
    /// What the receiver reported about the message when it took it: a JSON array of issues.
    pub receiver_issues: Option<String>,
}

/// A delivery that a response of its receiver may answer.
#[derive(Clone, Debug)]
pub struct SentRequest {
    pub delivery: PendingDelivery,
    pub answered: bool,
    /// SHA-256 of the request's content: the same request, sent again, has the same.
    pub content: [u8; 32],
}

/// The deliveries that an identifier may mean, newest first.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    pub deliveries: Vec<SentRequest>,
    /// There may be more: the identifier is used by so many messages that not all were looked at.
    pub is_cut: bool,
}

/// The open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    jobs: mpsc::Sender<Job>,
    /// Canceled once the writer may end.
    closing: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Jobs that may wait for the writer; who comes later waits to be let in.
const QUEUE_JOBS: usize = 4096;

const WRITER_THREAD: &str = "store-writer";

/// The writer has a thread and a runtime of its own: among the requests it would wait for its turn after every statement,
/// and everybody waits for it.
fn start_writer(core: Arc<Core>, queue: mpsc::Receiver<Job>, guard: PartGuard) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let run = move || {
        let _guard = guard;
        runtime.block_on(writer::run(core, queue));
    };
    std::thread::Builder::new().name(WRITER_THREAD.into()).spawn(run).map(drop)
}

impl Store {
    /// Opens or makes the store, runs migrations. Errs when another router has it, or a newer program wrote it.
    pub async fn open(settings: StoreSettings, clock: Clock) -> Result<Store, OpenError> {
        Store::open_supervised(settings, clock, &Supervisor::default()).await
    }

    /// As `open`; the supervisor is told when the writer ends without `close`.
    pub async fn open_supervised(
        settings: StoreSettings,
        clock: Clock,
        supervisor: &Supervisor,
    ) -> Result<Store, OpenError> {
        let core = Arc::new(open::open(settings, clock).await?);
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS);
        let closing = CancellationToken::new();
        let guard = supervisor.guard("store", closing.clone());
        let failed = |source| OpenError::File { path: WRITER_THREAD.into(), source };
        start_writer(core.clone(), queue, guard).map_err(failed)?;
        let inner = Arc::new(Inner { core, jobs, closing: closing.clone() });
        supervisor.spawn("store watch", closing, health::watch(Arc::downgrade(&inner)));
        Ok(Store { inner })
    }

    /// What a message with this identity would be, were it stored now: by the public id of the first one.
    pub async fn verdict(&self, metadata: &Metadata, identity: IdentityKeys) -> Result<Verdict<Uuid>, Unavailable> {
        let core = &self.inner.core;
        let now_us = core.clock.now_us();
        let (parties, from_us) = (core.known_parties(), core.identities_from_us(now_us));
        let found = async {
            let mut conn = core.readers.acquire().await?;
            batch::look(&mut conn, &core.recent, parties, (now_us, from_us), metadata, identity).await
        };
        found.await.map_err(|error| unavailable(&error))
    }

    /// Keeps a message with its deliveries, keys and own answer, or recognises a repeat. Returns after the commit.
    ///
    /// A response (`closes`) is always kept: as `Repeat` only where it was kept before and is not the first answer of its
    /// delivery; where an answer kept before becomes the first of this delivery, `New` names the kept message's key.
    pub async fn accept(&self, keep: NewMessage) -> Result<Acceptance, Unavailable> {
        self.accept_in_turn(keep, &mut Turn::free()).await
    }

    /// As `accept`, behind every message that has an earlier turn; errs where one of those could not be kept.
    pub async fn accept_in_turn(&self, keep: NewMessage, turn: &mut Turn) -> Result<Acceptance, Unavailable> {
        self.room()?;
        let message = prepare::keep(keep).await.map_err(unwritable)?;
        let broken = |_| Unavailable::Away("a message before this one could not be kept".into());
        turn.enter().await.map_err(broken)?;
        let (reply, answer) = oneshot::channel();
        self.send(Job::Accept(Box::new(message), turn.chain(), reply)).await?;
        turn.entered();
        answer.await.map_err(closed)?
    }

    /// Records an attempt and the delivery's new state, with the answer. Deliveries already settled stay as they are: the
    /// attempt is recorded all the same, and a receiver's answer becomes theirs where they have none.
    pub async fn settle(&self, settlement: Settlement) -> Result<Settled, Unavailable> {
        let settlement = prepare::settlement(settlement).await.map_err(unwritable)?;
        self.ask(|reply| Job::Settle(Box::new(settlement), reply)).await
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Unavailable>>) -> Job) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.send(job(reply)).await?;
        answer.await.map_err(closed)?
    }

    async fn send(&self, job: Job) -> Result<(), Unavailable> {
        self.inner.jobs.send(job).await.map_err(closed)
    }

    /// Whether a message would be accepted now, as the last commits and probes saw it. Waits for nothing.
    pub fn accepting(&self) -> Result<(), Unavailable> {
        if self.inner.jobs.is_closed() {
            return Err(Unavailable::Away("the store is closed".into()));
        }
        self.room()?;
        self.inner.core.health.state()
    }

    /// Waits until a file of the store is no longer the one at its path; gives the reason. Nothing is accepted from then on,
    /// and the process must end: what follows would be lost.
    pub async fn until_lost(&self) -> String {
        self.inner.core.health.until_lost().await
    }

    /// Accepts need room for what follows from them; settlements use what was left for them.
    fn room(&self) -> Result<(), Unavailable> {
        let least = self.settings().min_free_bytes;
        match self.inner.core.free_bytes() {
            Some(free) if free < least => Err(Unavailable::Full(format!(
                "{free} bytes are free on the store's disk, store.min_free_bytes is {least}"
            ))),
            _ => Ok(()),
        }
    }

    /// Commits what waits, moves the log into the database file and gives the store up. Whoever comes later is refused.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        let (closed, done) = oneshot::channel();
        if self.inner.jobs.send(Job::Close(closed)).await.is_ok() {
            // An error means that the writer has ended already: closed is what was asked for.
            let _ = done.await;
        }
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.core.clock
    }

    pub fn settings(&self) -> &StoreSettings {
        &self.inner.core.settings
    }
}

fn closed<E>(_: E) -> Unavailable {
    Unavailable::Away("the store is closed".into())
}

fn unwritable(error: serde_json::Error) -> Unavailable {
    Unavailable::Away(format!("the metadata cannot be written: {error}"))
}

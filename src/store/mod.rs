//! The store: persists messages, deliveries, and attempts. Its methods are named after intent, and each is one transaction.
//!
//! Nothing is acknowledged before its transaction has committed. Accepts and settlements that arrive together share one
//! transaction (group commit). The modules of this folder prepare and decide, and are pure; a backend
//! (`backend`) reads and writes. SQL is only in the folder of a backend.

mod accept;
pub mod archive;
mod archived;
mod backend;
mod batch;
mod clock_anchor;
mod codes;
mod columns;
mod context;
mod health;
mod lanes;
mod lists;
mod message_status;
#[cfg(test)]
pub(crate) mod model;
mod operations;
mod participants;
mod postgres;
mod prepare;
mod put_back;
mod queue;
mod reference;
mod retention;
mod rows;
mod settle;
mod sqlite;
mod stored;
mod sweep;
mod terms;
#[cfg(test)]
mod tests;
pub mod transfer;
mod tries;
pub mod view;
mod writer;
mod writers;

pub use archived::Archived;
pub use lanes::{DuePage, LaneHead};
pub use message_status::{Candidates, DeliveryStatus, MessageStatus, SentRequest};
pub use retention::{RetentionDays, RetentionRules};
pub use sqlite::backup::backup_file;
pub use sqlite::restore::{Restored, restore_file};
pub use tries::Redelivered;

use self::backend::Backend;
use self::prepare::WaitChange;
use self::queue::Job;
use self::writers::Writers;
use crate::clock::Clock;
use crate::delivery::{Acceptance, Metadata, NewMessage, Settled, Settlement};
use crate::store_url::StoreUrl;
use crate::supervisor::Supervisor;
use crate::turn::Turn;
use fhir::identity::{IdentityKeys, Verdict};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How the store is opened.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The database. The folder of a file is created if it is missing.
    pub url: StoreUrl,
    /// With less free disk space than this, messages are refused.
    pub min_free_bytes: u64,
    /// How long duplicates are recognized; later copies count as new. 0: forever.
    pub identities_days: u32,
}

/// Why the store cannot be opened. The text is shown to the operator, with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Refused(String),
    #[error("cannot open the store {path}: {source}")]
    Database { path: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot open the store {path}: {source}")]
    File { path: String, source: std::io::Error },
}

/// The store failed; nothing was stored. The caller answers 503, and the sender tries again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("the disk is full: {0}")]
    Full(String),
    #[error("the store is not available: {0}")]
    Away(String),
    /// A stored row cannot be read. Trying again does not help.
    #[error("a stored row cannot be read: {0}")]
    Damaged(String),
}

/// The open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    settings: StoreSettings,
    clock: Clock,
    writers: Writers,
    /// Canceled when the writers may end.
    closing: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Store {
    /// Opens or creates the store and migrates it. Errs if another router has it open, or if a newer program wrote it.
    pub async fn open(settings: StoreSettings, clock: Clock) -> Result<Store, OpenError> {
        Store::open_supervised(settings, clock, &Supervisor::default()).await
    }

    /// As `open`; reports to the supervisor if the writer ends without `close`.
    pub async fn open_supervised(
        settings: StoreSettings,
        clock: Clock,
        supervisor: &Supervisor,
    ) -> Result<Store, OpenError> {
        let backend = Backend::open(settings.clone(), clock.clone()).await?;
        let closing = CancellationToken::new();
        let writers = Writers::start(&backend, supervisor, &closing).await?;
        let inner = Arc::new(Inner { backend, settings, clock, writers, closing: closing.clone() });
        supervisor.spawn("store watch", closing, inner.backend.watch());
        Ok(Store { inner })
    }

    /// Whether a message with this identity would be new, a duplicate, or a conflict if it arrived now, with the public id of
    /// the first one.
    pub async fn verdict(&self, metadata: &Metadata, identity: IdentityKeys) -> Result<Verdict<Uuid>, Unavailable> {
        self.inner.backend.verdict(metadata, identity).await
    }

    /// Stores a message with its deliveries, keys, and the router's answer, or recognizes a duplicate. Returns after the commit.
    ///
    /// A response (`closes`) is always stored. It is a `Duplicate` only if it was stored before and is not the first answer of
    /// its delivery; if a stored response becomes the first answer, `New` has the key of the stored message.
    pub async fn accept(&self, new: NewMessage) -> Result<Acceptance, Unavailable> {
        self.accept_in_turn(new, &mut Turn::free()).await
    }

    /// As `accept`, after every message that has an earlier turn; errs if one of those could not be stored.
    pub async fn accept_in_turn(&self, new: NewMessage, turn: &mut Turn) -> Result<Acceptance, Unavailable> {
        self.check_free_space()?;
        let message = prepare::message(new).await.map_err(unwritable)?;
        let broken = |_| Unavailable::Away("an earlier message of the same queue could not be stored".into());
        turn.enter().await.map_err(broken)?;
        let (reply, answer) = oneshot::channel();
        self.send(Job::Accept(Box::new(message), turn.chain(), reply)).await?;
        turn.entered();
        answer.await.map_err(closed)?
    }

    /// Stores an attempt, the delivery's new state, and the answer. A delivery that was already settled keeps its state: the
    /// attempt is recorded, and a receiver's answer becomes its answer if it has none.
    pub async fn settle(&self, settlement: Settlement) -> Result<Settled, Unavailable> {
        let settlement = prepare::settlement(settlement).await.map_err(unwritable)?;
        self.run(|reply| Job::Settle(Box::new(settlement), reply)).await
    }

    /// Stores that a sender begins to wait on this node for the answer to a delivery, so that the node that stores the answer knows.
    /// Does nothing where a store belongs to one process.
    pub async fn begin_wait(&self, delivery_key: i64) -> Result<(), Unavailable> {
        if !self.inner.backend.stores_waits() {
            return Ok(());
        }
        self.run(|reply| Job::Wait(WaitChange { delivery_key, begins: true }, reply)).await.map(drop)
    }

    /// Stores that no sender waits on this node any more. False if an answer was stored for a sender that waits here: it has it now,
    /// and its return route waits until the sender has it.
    pub async fn end_wait(&self, delivery_key: i64) -> Result<bool, Unavailable> {
        if !self.inner.backend.stores_waits() {
            return Ok(true);
        }
        self.run(|reply| Job::Wait(WaitChange { delivery_key, begins: false }, reply)).await
    }

    async fn run<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Unavailable>>) -> Job) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.send(job(reply)).await?;
        answer.await.map_err(closed)?
    }

    async fn send(&self, job: Job) -> Result<(), Unavailable> {
        self.inner.writers.send(job).await.map_err(closed)
    }

    /// Errs if a message would be refused now, according to the last commits and probes. Does not wait.
    pub fn accepting(&self) -> Result<(), Unavailable> {
        if self.inner.writers.is_closed() {
            return Err(Unavailable::Away("the store is closed".into()));
        }
        self.check_free_space()?;
        self.inner.backend.health()
    }

    /// Waits until a file of the store is no longer the one at its path, and returns the reason. Nothing is accepted from then
    /// on, and the process must end: later writes would be lost.
    pub async fn until_lost(&self) -> String {
        self.inner.backend.until_lost().await
    }

    /// Accepts need free space, so that settlements, which do not check it, still succeed.
    fn check_free_space(&self) -> Result<(), Unavailable> {
        let least = self.settings().min_free_bytes;
        match self.inner.backend.free_bytes() {
            Some(free) if free < least => Err(Unavailable::Full(format!(
                "{free} bytes are free on the store's disk, store.min_free_bytes is {least}"
            ))),
            _ => Ok(()),
        }
    }

    /// Commits what waits, moves the log into the database file, and releases the store. Later calls err.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.writers.close().await;
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub fn settings(&self) -> &StoreSettings {
        &self.inner.settings
    }
}

fn closed<E>(_: E) -> Unavailable {
    Unavailable::Away("the store is closed".into())
}

fn unwritable(error: serde_json::Error) -> Unavailable {
    Unavailable::Away(format!("the metadata cannot be written: {error}"))
}

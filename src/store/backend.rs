//! The database behind the store.
//!
//! A backend assigns keys and sequence numbers, reads what a batch must know and writes what it decides in one transaction,
//! makes the lists, and gives out leases. All decisions are in the pure modules of this folder. There is one backend today;
//! `ARCHITECTURE.md` describes how PostgreSQL fits.

use super::batch::{BatchFailure, BatchResult};
use super::prepare::BatchJob;
use super::sqlite::Sqlite;
use super::{OpenError, StoreSettings, Unavailable};
use crate::clock::Clock;
use crate::delivery::Metadata;
use fhir::identity::{IdentityKeys, Verdict};
use uuid::Uuid;

#[derive(Clone)]
pub(super) enum Backend {
    Sqlite(Sqlite),
}

/// Calls a method of the store's backend, whichever it is.
macro_rules! on_backend {
    ($store:expr, $backend:ident => $call:expr) => {
        match &$store.inner.backend {
            $crate::store::backend::Backend::Sqlite($backend) => $call,
        }
    };
}
pub(super) use on_backend;

/// Work that one node at a time does in a shared database.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lease {
    /// The upkeep of the store: retention.
    Upkeep,
}

impl Backend {
    pub async fn open(settings: StoreSettings, clock: Clock) -> Result<Backend, OpenError> {
        Sqlite::open(settings, clock).await.map(Backend::Sqlite)
    }

    /// Decides and writes these jobs in one transaction. Returns a result for each after the commit.
    pub async fn commit(&self, jobs: &[BatchJob]) -> Result<Vec<BatchResult>, BatchFailure> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.commit(jobs).await,
        }
    }

    /// Compares the identity of a message with what is stored, without a transaction.
    pub async fn verdict(&self, metadata: &Metadata, identity: IdentityKeys) -> Result<Verdict<Uuid>, Unavailable> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.verdict(metadata, identity).await,
        }
    }

    /// Whether this process may do this work now. A SQLite store belongs to one process, which therefore holds every lease.
    pub fn holds(&self, _lease: Lease) -> bool {
        match self {
            Backend::Sqlite(_) => true,
        }
    }

    /// Errs if a message would be refused now, according to the last commits and probes.
    pub fn health(&self) -> Result<(), Unavailable> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.health.state(),
        }
    }

    /// Waits until what is committed would be lost, and returns the reason.
    pub async fn until_lost(&self) -> String {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.health.until_lost().await,
        }
    }

    /// Free space for messages in bytes, if it is known.
    pub fn free_bytes(&self) -> Option<u64> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.free_bytes(),
        }
    }

    /// Checks the database until it is closed.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.watch(),
        }
    }

    pub async fn close(&self) {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.close().await,
        }
    }
}

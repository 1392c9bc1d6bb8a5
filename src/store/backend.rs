//! The database behind the store.
//!
//! A backend assigns keys and sequence numbers, reads what a batch must know and writes what it decides in one transaction,
//! makes the lists, and gives out leases. All decisions are in the pure modules of this folder.

use super::batch::{BatchFailure, BatchResult};
use super::postgres::{self, Postgres};
use super::prepare::BatchJob;
use super::retention::{ArchivePlace, Scope};
use super::sqlite::Sqlite;
use super::transfer::row::{Cell, Row};
use super::transfer::table::Table;
use super::{OpenError, StoreSettings, Unavailable};
use crate::clock::Clock;
use crate::delivery::Metadata;
use crate::store_url::StoreUrl;
use fhir::identity::{IdentityKeys, Verdict};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;

#[derive(Clone)]
pub(super) enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// Calls a method of the store's backend, whichever it is.
macro_rules! on_backend {
    ($store:expr, $backend:ident => $call:expr) => {
        match &$store.inner.backend {
            $crate::store::backend::Backend::Sqlite($backend) => $call,
            $crate::store::backend::Backend::Postgres($backend) => $call,
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
        match settings.url.clone() {
            StoreUrl::Sqlite(path) => Sqlite::open(&path, settings, clock).await.map(Backend::Sqlite),
            StoreUrl::Postgres(url) => Postgres::open(&url, settings, clock).await.map(Backend::Postgres),
        }
    }

    /// For how many jobs a batch waits at most, if the batches before had as many: each commit costs an fsync. In PostgreSQL a batch
    /// of any size costs a millisecond of CPU time, too: with 48 jobs instead of 24 and one busy writer, a message from HTTP in to HTTP
    /// out takes 23 % less CPU time of server and router at 64 senders. SQLite gets slower from larger batches.
    pub fn expected_jobs(&self) -> usize {
        match self {
            Backend::Sqlite(_) => 24,
            Backend::Postgres(_) => 48,
        }
    }

    /// How many writers commit at the same time.
    pub fn writers(&self) -> usize {
        match self {
            Backend::Sqlite(_) => 1,
            Backend::Postgres(_) => postgres::WRITERS,
        }
    }

    /// Whether the store knows on which nodes senders wait.
    pub fn stores_waits(&self) -> bool {
        match self {
            Backend::Sqlite(_) => false,
            Backend::Postgres(_) => true,
        }
    }

    /// The handle of a writer, by its number.
    pub fn of_writer(&self, writer: usize) -> Backend {
        match self {
            Backend::Sqlite(sqlite) => Backend::Sqlite(sqlite.clone()),
            Backend::Postgres(postgres) => Backend::Postgres(postgres.of_writer(writer)),
        }
    }

    /// Decides and writes these jobs in one transaction. Returns a result for each after the commit.
    pub async fn commit(&self, jobs: &[BatchJob]) -> Result<Vec<BatchResult>, BatchFailure> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.commit(jobs).await,
            Backend::Postgres(postgres) => postgres.commit(jobs).await,
        }
    }

    /// Compares the identity of a message with what is stored, without a transaction.
    pub async fn verdict(&self, metadata: &Metadata, identity: IdentityKeys) -> Result<Verdict<Uuid>, Unavailable> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.verdict(metadata, identity).await,
            Backend::Postgres(postgres) => postgres.verdict(metadata, identity).await,
        }
    }

    /// Whether this process may do this work now. A store belongs to one process, which therefore holds every lease.
    pub fn holds(&self, _lease: Lease) -> bool {
        match self {
            Backend::Sqlite(_) | Backend::Postgres(_) => true,
        }
    }

    /// Reads what retention must know of the store before it looks for messages.
    pub async fn look_around(&self, scope: &mut Scope) -> Result<(), Unavailable> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.look_around(scope).await,
            Backend::Postgres(postgres) => postgres.look_around(scope).await,
        }
    }

    /// Messages that retention may delete, and where to continue; None after the last ones. May return a message twice.
    pub async fn to_archive(
        &self,
        place: ArchivePlace,
        scope: &Scope,
    ) -> Result<(Vec<i64>, Option<ArchivePlace>), Unavailable> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.to_archive(place, scope).await,
            Backend::Postgres(postgres) => postgres.to_archive(place, scope).await,
        }
    }

    /// These columns of the rows of a table in which `column` is one of `keys`.
    pub async fn select(
        &self,
        table: &Table,
        columns: &[&str],
        column: &str,
        keys: &[i64],
    ) -> Result<Vec<Row>, Unavailable> {
        let keys: Vec<Cell> = keys.iter().map(|key| Cell::Integer(*key)).collect();
        match self {
            Backend::Sqlite(sqlite) => sqlite.select(table, columns, column, &keys).await,
            Backend::Postgres(postgres) => postgres.select(table, columns, column, &keys).await,
        }
    }

    /// Errs if a message would be refused now, according to the last commits and probes.
    pub fn health(&self) -> Result<(), Unavailable> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.health.state(),
            Backend::Postgres(postgres) => postgres.core.health.state(),
        }
    }

    /// Waits until what is committed would be lost, and returns the reason.
    pub async fn until_lost(&self) -> String {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.health.until_lost().await,
            Backend::Postgres(postgres) => postgres.core.health.until_lost().await,
        }
    }

    /// Free space for messages in bytes, if it is known.
    pub fn free_bytes(&self) -> Option<u64> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.free_bytes(),
            // Its server has the disk.
            Backend::Postgres(_) => None,
        }
    }

    /// Checks the database until it is closed.
    pub fn watch(&self) -> BoxFuture<'static, ()> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.watch().boxed(),
            Backend::Postgres(postgres) => postgres.watch().boxed(),
        }
    }

    /// Opens the connection of the writer, on its thread. Returns what keeps it open until the store is closed.
    pub async fn attach(&self) -> Result<BoxFuture<'static, ()>, OpenError> {
        match self {
            Backend::Sqlite(_) => Ok(std::future::ready(()).boxed()),
            Backend::Postgres(postgres) => {
                postgres.core.attach(postgres.writer).await?;
                Ok(postgres.keep_attached().boxed())
            }
        }
    }

    /// Ends a writer, and with the first one the store.
    pub async fn close(&self) {
        match self {
            Backend::Sqlite(sqlite) => sqlite.core.close().await,
            Backend::Postgres(postgres) => postgres.close().await,
        }
    }
}

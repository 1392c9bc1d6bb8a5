//! What the handles of a store and its writer share: connections, keys of participants, counters, free disk space.

use super::error::unavailable;
use super::files::{self, beside};
use super::recent::Recent;
use super::retention::Sweep;
use super::watch::{FileChange, FileWatch};
use super::writer::Writer;
use crate::clock::Clock;
use crate::store::context::Context;
use crate::store::health::Health;
use crate::store::participants::Participants;
use crate::store::{StoreSettings, Unavailable};
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Connection, Error, Row};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const FREE_BYTES_VALID: Duration = Duration::from_secs(1);

pub(in crate::store) struct Core {
    pub settings: StoreSettings,
    /// The database file, with links resolved.
    pub path: PathBuf,
    pub clock: Clock,
    pub writer: tokio::sync::Mutex<Writer>,
    /// Moves the log. None once the store is closed.
    pub checkpointer: tokio::sync::Mutex<Option<SqliteConnection>>,
    /// For short reads by key.
    pub readers: SqlitePool,
    /// For lists, which may read many rows.
    pub searchers: SqlitePool,
    pub search_milliseconds: AtomicU64,
    /// How often searches checked the time, which is every 10,000 steps of SQLite: a measure of their cost.
    pub search_checks: Arc<AtomicU64>,
    /// Holds the lock on the store and checks its files. None once it is closed.
    pub watch: Mutex<Option<FileWatch>>,
    pub health: Health,
    pub recent: Recent,
    pub participants: Participants,
    pub free_bytes: Mutex<Option<(Instant, u64)>>,
    /// Transactions since the start, and the accepts and settlements that they committed.
    pub commits: AtomicU64,
    pub operations: AtomicU64,
    pub sweep: Mutex<Sweep>,
    /// Another router may have the file now: nothing may be written.
    pub closed: AtomicBool,
}

impl Core {
    /// The key of a participant that the store knows.
    pub fn participant_key(&self, id: &str) -> Option<i64> {
        self.participants.key(id)
    }

    /// Adds those participants that are new. Commits at once, outside of any transaction, so that no key is lost with a
    /// transaction.
    pub async fn add_participants<'n>(
        &self,
        conn: &mut SqliteConnection,
        ids: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), Error> {
        for id in self.participants.unknown(ids) {
            let insert = "INSERT INTO participant (id) VALUES (?) ON CONFLICT (id) DO UPDATE SET id = id RETURNING k";
            // Reads to the end: the row comes before the commit, which may still fail.
            let rows = sqlx::query(insert).bind(id.clone()).fetch_all(&mut *conn).await?;
            let row = rows.first().ok_or(Error::RowNotFound)?;
            self.participants.add([(Arc::from(id), row.try_get(0)?)]);
        }
        Ok(())
    }

    pub async fn read_participants(conn: &mut SqliteConnection) -> Result<Participants, Error> {
        let rows = sqlx::query("SELECT id, k FROM participant").fetch_all(conn).await?;
        let read = |row: &SqliteRow| Ok((Arc::from(row.try_get::<&str, _>(0)?), row.try_get(1)?));
        Ok(Participants::new(rows.iter().map(read).collect::<Result<Vec<_>, Error>>()?))
    }

    /// What a decision must know of this moment.
    pub fn context(&self) -> Context {
        Context::new(self.participants.keys(), &self.clock, self.settings.identities_days)
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Option<FileWatch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Errs if what is committed now would not be found at the store's path. Once that happened, the store is lost for good:
    /// later writes would be missing.
    pub fn check_files(&self) -> Result<(), Unavailable> {
        self.health.lost()?;
        match self.watched().as_ref().map_or(Ok(()), FileWatch::check) {
            Ok(()) => Ok(()),
            Err(FileChange::Unknown(text)) => Err(Unavailable::Away(text)),
            Err(FileChange::Lost(text)) => {
                tracing::error!("the store is lost while it is open: {text}; nothing more is accepted");
                self.health.lose(text);
                self.health.lost()
            }
        }
    }

    /// The open database file; None once the store is closed.
    pub fn database_file(&self) -> Option<Arc<File>> {
        self.watched().as_ref().and_then(FileWatch::database)
    }

    /// Free bytes on the store's disk, at most a second old. None if the system reports an error.
    pub fn free_bytes(&self) -> Option<u64> {
        let mut cached = self.free_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, bytes)) = *cached
            && at.elapsed() < FREE_BYTES_VALID
        {
            return Some(bytes);
        }
        let bytes = files::free_bytes(&self.path)?;
        *cached = Some((Instant::now(), bytes));
        Some(bytes)
    }

    /// Size of the log on disk; 0 if there is none.
    pub fn log_bytes(&self) -> u64 {
        beside(&self.path, "-wal").metadata().map_or(0, |data| data.len())
    }

    /// Runs one transaction on the writer's connection, in a task of its own: it completes even if the caller is dropped.
    pub async fn write<T, F>(self: &Arc<Self>, work: F) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: for<'w> FnOnce(&'w Core, &'w mut Writer) -> BoxFuture<'w, Result<T, Error>> + Send + 'static,
    {
        let core = self.clone();
        let task = tokio::spawn(async move {
            let mut writer = core.writer.lock().await;
            if core.closed.load(Ordering::Relaxed) {
                return Err(Error::PoolClosed);
            }
            let done = async {
                writer.begin().await?;
                let done = work(&core, &mut writer).await?;
                writer.commit().await?;
                Ok(done)
            }
            .await;
            if done.is_err() {
                writer.recover(&core.path).await;
            }
            done
        });
        match task.await {
            Ok(Ok(done)) => self.check_files().map(|()| done),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(error) => Err(Unavailable::Away(error.to_string())),
        }
    }

    /// Closes the readers, moves the log into the database file, and releases the lock.
    pub async fn close(&self) {
        self.readers.close().await;
        self.searchers.close().await;
        if let Some(conn) = self.checkpointer.lock().await.take()
            && let Err(error) = conn.close().await
        {
            tracing::warn!(%error, "the connection that moves the store's log could not be closed");
        }
        let mut writer = self.writer.lock().await;
        self.closed.store(true, Ordering::Relaxed);
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut writer.conn).await {
            tracing::warn!(%error, "the store's log could not be moved into its file; the next start reads it");
        }
        // Releases the lock.
        drop(self.watched().take());
    }
}

//! What store handles and the writer share: connections, party numbers, figures, the room on the disk.

use super::health::Health;
use super::recent::Recent;
use super::term;
use super::watch::{Changed, Watch};
use super::writer::Writer;
use super::{StoreSettings, Unavailable};
use crate::clock::Clock;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Error, Row};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

const FREE_BYTES_VALID: Duration = Duration::from_secs(1);
const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

type Parties = Arc<HashMap<Arc<str>, i64>>;

pub(super) struct Core {
    pub settings: StoreSettings,
    /// The database file, behind links.
    pub path: PathBuf,
    pub clock: Clock,
    pub writer: tokio::sync::Mutex<Writer>,
    /// For messages and deliveries: short reads by key.
    pub readers: SqlitePool,
    /// For lists, which may look at many rows.
    pub searchers: SqlitePool,
    pub search_milliseconds: AtomicU64,
    /// How often searches looked at the time: their work, in units of 10,000 steps.
    pub search_looks: Arc<AtomicU64>,
    /// Locks the store for its life, and knows its files. None once it is closed.
    pub watch: Mutex<Option<Watch>>,
    pub health: Health,
    pub recent: Recent,
    /// Numbers of participants. Replaced as a whole when one is new.
    pub party_keys: RwLock<Parties>,
    pub free_bytes: Mutex<Option<(Instant, u64)>>,
    /// Transactions since the start, and the accepts and settlements in them.
    pub commits: AtomicU64,
    pub operations: AtomicU64,
    pub sweep: Mutex<super::retention::Cursors>,
    /// Another router may have the file: nothing is written any more.
    pub closed: AtomicBool,
}

impl Core {
    pub fn known_parties(&self) -> Parties {
        self.party_keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of a participant that anything was ever kept for.
    pub fn party(&self, id: &str) -> Option<i64> {
        self.known_parties().get(id).copied()
    }

    /// Those of `names` that have no number yet, and the numbers of all others.
    pub fn new_parties<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> (Parties, Vec<String>) {
        let known = self.known_parties();
        let new = names.into_iter().filter(|name| !known.contains_key(*name)).map(str::to_owned).collect();
        (known, new)
    }

    /// Numbers new participants. Committed at once, outside of any transaction, so that none is lost with it.
    pub async fn number_all(
        &self,
        conn: &mut SqliteConnection,
        mut known: Parties,
        new: Vec<String>,
    ) -> Result<Parties, Error> {
        for name in new {
            let insert = "INSERT INTO party (id) VALUES (?) ON CONFLICT (id) DO UPDATE SET id = id RETURNING k";
            // To the end: the row comes before the commit, which may still fail.
            let rows = sqlx::query(insert).bind(name.clone()).fetch_all(&mut *conn).await?;
            let row = rows.first().ok_or(Error::RowNotFound)?;
            Arc::make_mut(&mut known).insert(Arc::from(name), row.try_get(0)?);
            *self.party_keys.write().unwrap_or_else(PoisonError::into_inner) = known.clone();
        }
        Ok(known)
    }

    pub async fn read_parties(conn: &mut SqliteConnection) -> Result<Parties, Error> {
        let rows = sqlx::query("SELECT id, k FROM party").fetch_all(conn).await?;
        let mut parties = HashMap::new();
        for row in rows {
            parties.insert(Arc::from(row.try_get::<&str, _>(0)?), row.try_get(1)?);
        }
        Ok(Arc::new(parties))
    }

    /// Identities of messages received before this are forgotten; 0 days: none is.
    pub fn identities_from_us(&self, now_us: i64) -> i64 {
        match self.settings.identities_days {
            // Until the clock is right, nothing counts as too old.
            _ if self.clock.jump().is_some() => i64::MIN,
            0 => i64::MIN,
            days => now_us.saturating_sub(i64::from(days) * MICROSECONDS_PER_DAY),
        }
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Option<Watch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what is committed now will be found at the store's path. Once it was not, the store is lost for good: what
    /// was written since would be missing.
    pub fn check_files(&self) -> Result<(), Unavailable> {
        self.health.lost()?;
        match self.watched().as_ref().map_or(Ok(()), Watch::check) {
            Ok(()) => Ok(()),
            Err(Changed::Unknown(text)) => Err(Unavailable::Away(text)),
            Err(Changed::Lost(text)) => {
                tracing::error!("the store is lost while it is open: {text}; nothing more is accepted");
                self.health.lose(text);
                self.health.lost()
            }
        }
    }

    /// Room on the store's disk in bytes, at most a second old. None where the system does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        let mut kept = self.free_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, bytes)) = *kept
            && at.elapsed() < FREE_BYTES_VALID
        {
            return Some(bytes);
        }
        let disk = rustix::fs::statvfs(folder(&self.path)).ok()?;
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        *kept = Some((Instant::now(), bytes));
        Some(bytes)
    }

    /// Size of the log on disk; 0 where there is none.
    pub fn log_bytes(&self) -> u64 {
        super::files::beside(&self.path, "-wal").metadata().map_or(0, |data| data.len())
    }

    /// Runs one transaction of its own on the writer, in a task of its own: a caller that hangs up does not cut it.
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
                core.recent.assure(&mut writer.conn).await?;
                writer.begin().await?;
                let done = work(&core, &mut writer).await?;
                writer.commit().await?;
                core.recent.committed();
                Ok(done)
            }
            .await;
            if done.is_err() {
                core.recent.unsure();
                // Terms that it wrote, and that memory let go of, are not written.
                writer.behind.unsure();
                writer.recover(&core).await;
            }
            done
        });
        match task.await {
            Ok(Ok(done)) => self.check_files().map(|()| done),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(error) => Err(Unavailable::Away(error.to_string())),
        }
    }

    /// Writes the terms of stored messages that have none yet: before a search that goes by terms.
    pub async fn write_terms(self: &Arc<Self>) -> Result<(), Unavailable> {
        self.write(|_, writer| term::write_behind(writer).boxed()).await
    }

    /// Ends the readers, moves the log into the database file, lets another router in.
    pub async fn shut(&self) {
        self.readers.close().await;
        self.searchers.close().await;
        let mut writer = self.writer.lock().await;
        self.closed.store(true, Ordering::Relaxed);
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut writer.conn).await {
            tracing::warn!(%error, "the store's log could not be moved into its file; the next start reads it");
        }
        // Gives up the lock.
        drop(self.watched().take());
    }
}

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The primary result code of SQLite.
pub(super) fn sqlite_code(error: &Error) -> Option<i64> {
    let code = error.as_database_error()?.code()?.parse::<i64>().ok()?;
    Some(code & 0xff)
}

/// Whether a failed transaction failed for one of its rows, so that the others may succeed without it.
pub(super) fn is_of_a_row(error: &Error) -> bool {
    const SQLITE_BUSY: i64 = 5;
    const SQLITE_LOCKED: i64 = 6;
    match error {
        Error::Database(_) => {
            let code = sqlite_code(error);
            !matches!(code, Some(SQLITE_BUSY | SQLITE_LOCKED | SQLITE_IOERR | SQLITE_FULL))
        }
        Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. } => true,
        _ => false,
    }
}

const SQLITE_IOERR: i64 = 10;
const SQLITE_FULL: i64 = 13;

/// What a caller hears of a database error. Texts of SQLite name no values.
pub(super) fn unavailable(error: &Error) -> Unavailable {
    match sqlite_code(error) {
        Some(SQLITE_IOERR | SQLITE_FULL) => Unavailable::Full(error.to_string()),
        None if matches!(error, Error::Decode(_) | Error::ColumnDecode { .. }) => {
            Unavailable::Damaged(error.to_string())
        }
        _ => Unavailable::Away(error.to_string()),
    }
}

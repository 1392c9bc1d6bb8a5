//! Opening: the folder, the lock, the schema's version, the connections.

use super::core::{Core, folder};
use super::insert::PREPARED_STATEMENTS;
use super::retention::Cursors;
use super::writer::{Keys, Writer};
use super::{OpenError, StoreSettings};
use crate::clock::Clock;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Error, Row};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

/// Each file brings the schema from the version before to its own; the last is the version that this program writes.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];

const READERS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// 40 MB of log, so that a page that changes often is written to the database file once for many commits.
const CHECKPOINT_PAGES: &str = "10000";

pub(super) async fn open(settings: StoreSettings, clock: Clock) -> Result<Core, OpenError> {
    let path = settings.path.clone();
    let database = |source| OpenError::Database { path: path.display().to_string(), source };
    make_folder(folder(&path)).map_err(|source| file_error(folder(&path), source))?;
    let lock = take_lock(&path)?;
    let mut conn = writer_options(&path).connect().await.map_err(database)?;
    migrate(&mut conn, &path).await?;
    // Attempts under way ended with their process. Rows say "waiting" through an attempt, so nothing is to be put back.
    let keys = Keys::read(&mut conn).await.map_err(database)?;
    let parties = Core::read_parties(&mut conn).await.map_err(database)?;
    let readers = readers(&path).await.map_err(database)?;
    Ok(Core {
        settings,
        clock,
        writer: tokio::sync::Mutex::new(Writer { conn, keys }),
        readers,
        lock,
        party_keys: RwLock::new(parties),
        free_bytes: Mutex::new(None),
        commits: AtomicU64::new(0),
        operations: AtomicU64::new(0),
        sweep: Mutex::new(Cursors::default()),
        closed: AtomicBool::new(false),
    })
}

pub(super) fn writer_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        // What SQLite keeps aside while a statement runs stays in memory: as a file it cost a tenth of all work.
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-32768")
        .statement_cache_capacity(PREPARED_STATEMENTS)
        .disable_statement_logging()
}

async fn readers(path: &Path) -> Result<SqlitePool, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", "-8192")
        .disable_statement_logging();
    SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(BUSY_TIMEOUT).connect_with(options).await
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

pub(super) fn file_error(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::File { path: path.display().to_string(), source }
}

/// Two routers on one file would each give out the same keys.
fn take_lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let file = File::create(&lock_path).map_err(|source| file_error(&lock_path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Refused(format!(
            "the store {} is in use by another emberpost (its lock file is {}); stop that one first, or give this one a \
             store of its own with store.url",
            path.display(),
            lock_path.display()
        ))),
        Err(TryLockError::Error(source)) => Err(file_error(&lock_path, source)),
    }
}

/// Brings the schema to this program's version, each step in a transaction with its version.
async fn migrate(conn: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { path: path.display().to_string(), source };
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = user_version(conn).await.map_err(database)?;
    if found > newest {
        return Err(OpenError::Refused(format!(
            "the store {} has schema version {found}, written by a newer emberpost; this one (emberpost {}) knows schema \
             versions up to {newest}; run the newer program, or restore a backup made before the upgrade",
            path.display(),
            env!("CARGO_PKG_VERSION")
        )));
    }
    for (version, text) in (1..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or_default()) {
        let step = format!("BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {version};\nCOMMIT;");
        sqlx::raw_sql(AssertSqlSafe(step)).execute(&mut *conn).await.map_err(database)?;
    }
    Ok(())
}

pub(super) async fn user_version(conn: &mut SqliteConnection) -> Result<i64, Error> {
    sqlx::query("PRAGMA user_version").fetch_one(conn).await?.try_get(0)
}

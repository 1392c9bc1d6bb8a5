//! How connections to the database file are opened: the writer's, readers', and those of commands on a closed store.

use super::insert::PREPARED_STATEMENTS;
use sqlx::ConnectOptions;
use sqlx::Error;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::path::Path;
use std::time::Duration;

pub(in crate::store) const BUSY_TIMEOUT_MILLISECONDS: u32 = 5_000;
const BUSY_TIMEOUT: Duration = Duration::from_millis(BUSY_TIMEOUT_MILLISECONDS as u64);
/// 62 MiB of log, after which the writer moves it into the database file itself: usually `checkpoint` has done so before.
const CHECKPOINT_PAGES: &str = "16000";
/// A log that grew beyond this, because a reader kept an old snapshot open or bodies were large, is truncated when it has been
/// moved.
pub(in crate::store) const LOG_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// For a file that nobody else has open. Without a log: everything is written to the file itself.
pub(in crate::store) fn plain_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .disable_statement_logging()
}

pub(in crate::store) fn writer_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_LIMIT_BYTES.to_string())
        // Temporary data of statements stays in memory: as a file it cost a tenth of the CPU time.
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-32768")
        .statement_cache_capacity(PREPARED_STATEMENTS)
        .disable_statement_logging()
}

/// Connections for reading only.
pub(in crate::store) async fn readers(path: &Path, count: u32) -> Result<SqlitePool, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", "-4096")
        .disable_statement_logging();
    SqlitePoolOptions::new().max_connections(count).acquire_timeout(BUSY_TIMEOUT).connect_with(options).await
}

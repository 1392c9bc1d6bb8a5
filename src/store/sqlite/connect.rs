//! How connections to the database file are opened: the writer's, readers', and those of commands on a closed store.

use super::files::free_bytes;
use super::insert::PREPARED_STATEMENTS;
use crate::store::health::is_low;
use sqlx::ConnectOptions;
use sqlx::Error;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::path::Path;
use std::time::Duration;

pub(in crate::store) const BUSY_TIMEOUT_MILLISECONDS: u32 = 5_000;
const BUSY_TIMEOUT: Duration = Duration::from_millis(BUSY_TIMEOUT_MILLISECONDS as u64);
/// 62 MiB of log, after which the writer moves it into the database file itself: usually `checkpoint` has done so before.
const CHECKPOINT_PAGES: u32 = 16_000;
/// The same while little space is free: 1 MiB. A longer log could fill the disk with old states of the same pages, and then it
/// cannot be moved either, because the database file has no room to grow.
const CHECKPOINT_PAGES_LOW_SPACE: u32 = 250;
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

/// After how many pages of log the writer moves it itself.
pub(in crate::store) fn checkpoint_pages(is_space_low: bool) -> u32 {
    if is_space_low { CHECKPOINT_PAGES_LOW_SPACE } else { CHECKPOINT_PAGES }
}

pub(in crate::store) fn writer_options(path: &Path) -> SqliteConnectOptions {
    let is_space_low = is_low(free_bytes(path));
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .pragma("wal_autocheckpoint", checkpoint_pages(is_space_low).to_string())
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

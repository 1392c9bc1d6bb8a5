//! Moves the log into the database file beside the writer, on a connection of its own.
//!
//! SQLite starts the log anew only when all of it is in the database file and that file is synced. The writer's own checkpoint of
//! 10,000 pages stopped all messages for 70 to 90 milliseconds, once or twice a second under load. Here the writer goes on
//! meanwhile, and waits only while the last pages are moved and synced.

use super::connect::writer_options;
use super::core::Core;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Error, Row};
use std::path::Path;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// 16 MiB of log, so that a page that changes often is written to the database file only once for many commits.
const LOG_PAGES: i64 = 4_000;
/// About this many pages are left to move while the writer waits.
const REST_PAGES: i64 = 400;
/// If the writer is faster than the disk, the rest does not become smaller with each pass. Then the writer is stopped for no
/// more than `REST_LIMIT_PAGES`, or moves the log itself once it has become too long.
const PASSES: usize = 6;
const REST_LIMIT_PAGES: i64 = 2_000;
const BUSY_INTERVAL: Duration = Duration::from_millis(50);
const IDLE_INTERVAL: Duration = Duration::from_millis(500);

/// Only counts.
const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";
/// Moves what it can without making anyone wait.
const MOVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Pages of the log, and how many of them are in the database file.
struct Log {
    pages: i64,
    moved: i64,
}

impl Log {
    fn rest(&self) -> i64 {
        self.pages - self.moved
    }
}

/// The connection for checkpoints. The writer's limit does not apply to it, since it writes nothing.
pub(in crate::store) async fn connect(path: &Path) -> Result<SqliteConnection, Error> {
    writer_options(path).connect().await
}

/// Moves the log whenever it is long enough. Ends with the store.
pub(in crate::store) async fn run(core: Weak<Core>) {
    let mut pages = 0;
    let mut failing = false;
    let mut interval = IDLE_INTERVAL;
    loop {
        tokio::time::sleep(interval).await;
        let Some(core) = core.upgrade() else { return };
        if core.closed.load(Ordering::Relaxed) {
            return;
        }
        let moved = move_log(&core).await;
        if let Err(error) = &moved
            && !failing
        {
            tracing::warn!(%error, "the store's log cannot be moved into its file; this is tried again twice a second");
        }
        failing = moved.is_err();
        let before = pages;
        pages = moved.unwrap_or(before);
        interval = if pages == before { IDLE_INTERVAL } else { BUSY_INTERVAL };
    }
}

/// Returns the pages that the log had before.
async fn move_log(core: &Core) -> Result<i64, Error> {
    let mut guard = core.checkpointer.lock().await;
    let Some(conn) = guard.as_mut() else { return Ok(0) };
    let found = run_pragma(conn, LOOK).await?;
    if found.pages < LOG_PAGES || found.rest() == 0 {
        return Ok(found.pages);
    }
    let mut rest = found.rest();
    for _ in 0..PASSES {
        run_pragma(conn, MOVE).await?;
        sync(core).await?;
        rest = run_pragma(conn, LOOK).await?.rest();
        if rest <= REST_PAGES {
            break;
        }
    }
    if rest <= REST_LIMIT_PAGES {
        let _writer = core.writer.lock().await;
        // All pages, unless a reader still needs an older state of one; then the next time tries again.
        run_pragma(conn, MOVE).await?;
    }
    Ok(found.pages)
}

/// Syncs the database file before the writer waits: SQLite itself syncs it only with the last page of the log.
async fn sync(core: &Core) -> Result<(), Error> {
    let Some(file) = core.database_file() else { return Ok(()) };
    let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
    synced.map_err(|error| Error::Io(std::io::Error::other(error)))?.map_err(Error::Io)
}

async fn run_pragma(conn: &mut SqliteConnection, pragma: &'static str) -> Result<Log, Error> {
    let row = sqlx::query(pragma).fetch_one(conn).await?;
    Ok(Log { pages: row.try_get(1)?, moved: row.try_get(2)? })
}

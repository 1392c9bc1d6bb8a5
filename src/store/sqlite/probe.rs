//! Checks an open store each second: its files, the clock, the size of its log, and, while there are no commits, whether it can
//! be written.

use super::connect::{BUSY_TIMEOUT_MILLISECONDS, LOG_LIMIT_BYTES, checkpoint_pages};
use super::core::Core;
use super::error::{is_busy, unavailable};
use super::time;
use super::writer::Writer;
use crate::store::clock_anchor;
use crate::store::health::{ProbeFailure, WATCH_INTERVAL, is_low};
use sqlx::Error;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// A probe must not delay messages by waiting for a lock that they would wait for themselves.
const PROBE_BUSY_MILLISECONDS: u32 = 250;

/// Checks the store's files each second, and probes while there are no commits. Ends with the store.
pub(in crate::store) async fn watch(core: Weak<Core>) {
    let mut logged_wrong_clock = core.upgrade().is_some_and(|core| core.clock.jump().is_some());
    let mut was_space_low = None;
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let Some(core) = core.upgrade() else { return };
        if core.closed.load(Ordering::Relaxed) {
            return;
        }
        let checked = core.clone();
        // A disk that hangs must not block a thread of the runtime. `check_files` logs a failure itself.
        let _ = tokio::task::spawn_blocking(move || checked.check_files()).await;
        clock_anchor::watch(&core.clock, &mut logged_wrong_clock);
        let is_space_low = is_low(core.free_bytes());
        if was_space_low != Some(is_space_low) {
            limit_log(&core, is_space_low).await;
            was_space_low = Some(is_space_low);
        }
        if core.log_bytes() > LOG_LIMIT_BYTES {
            cut_log(&core).await;
        }
        if let Some(write) = core.health.due(core.free_bytes()) {
            let result = probe(&core, write).await;
            let result = result.map_err(|error| match is_busy(&error) {
                true => ProbeFailure::Locked,
                false => ProbeFailure::Unavailable(unavailable(&error)),
            });
            core.health.probed(result, write.is_some());
        }
    }
}

/// Takes the write lock, and writes `write` bytes if given.
async fn probe(core: &Arc<Core>, write: Option<i64>) -> Result<(), Error> {
    let mut writer = core.writer.lock().await;
    if core.closed.load(Ordering::Relaxed) {
        return Ok(());
    }
    busy_timeout(&mut writer, PROBE_BUSY_MILLISECONDS).await?;
    let result = try_write(core, &mut writer, write).await;
    if result.is_err() {
        writer.recover(&core.path).await;
    }
    busy_timeout(&mut writer, BUSY_TIMEOUT_MILLISECONDS).await?;
    result
}

/// The log is shorter while little space is free.
async fn limit_log(core: &Arc<Core>, is_space_low: bool) {
    let mut writer = core.writer.lock().await;
    let pragma = format!("PRAGMA wal_autocheckpoint = {}", checkpoint_pages(is_space_low));
    if let Err(error) = sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&mut writer.conn).await {
        tracing::error!(%error, "the store's connection fails");
    }
}

/// Moves the log into the database file and truncates it, unless a reader prevents that.
async fn cut_log(core: &Arc<Core>) {
    let mut writer = core.writer.lock().await;
    if core.closed.load(Ordering::Relaxed) || busy_timeout(&mut writer, 0).await.is_err() {
        return;
    }
    // If a reader prevents it, the next second tries again; a disk error also fails the next commit.
    let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut writer.conn).await;
    if let Err(error) = busy_timeout(&mut writer, BUSY_TIMEOUT_MILLISECONDS).await {
        tracing::error!(%error, "the store's connection fails");
    }
}

async fn try_write(core: &Core, writer: &mut Writer, write: Option<i64>) -> Result<(), Error> {
    writer.lock().await?;
    let Some(bytes) = write else {
        return sqlx::query("ROLLBACK").execute(&mut writer.conn).await.map(drop);
    };
    let statement =
        "INSERT INTO probe (k, bytes) VALUES (1, zeroblob(?1)) ON CONFLICT (k) DO UPDATE SET bytes = zeroblob(?1)";
    sqlx::query(statement).bind(bytes).execute(&mut writer.conn).await?;
    time::save(&core.clock, &mut writer.conn).await?;
    writer.commit().await
}

async fn busy_timeout(writer: &mut Writer, milliseconds: u32) -> Result<(), Error> {
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {milliseconds}"));
    sqlx::query(pragma).execute(&mut writer.conn).await.map(drop)
}

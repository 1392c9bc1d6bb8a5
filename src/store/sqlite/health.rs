//! Whether messages would be accepted now, according to the last commits and probes.
//!
//! Every commit of messages reports its result. While there are none, a probe takes the write lock each second, and
//! sometimes writes. So readiness predicts what happens to a message, and never waits for the store.

use super::core::{Core, unavailable};
use super::writer::Writer;
use crate::store::Unavailable;
use sqlx::Error;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A commit that takes longer waits for a lock or a disk, and so will the next one.
const STALLED_AFTER: Duration = Duration::from_secs(2);
/// Between two probes that write, while commits succeed; these probes also store that the clock is right.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// With less free space than this, each probe writes.
const LOW_SPACE_BYTES: u64 = 64 * 1024 * 1024;
const SMALL_PROBE_BYTES: i64 = 16;
/// More than fits into pages of the log that can be overwritten without free space.
const LARGE_PROBE_BYTES: i64 = 64 * 1024;
/// A probe must not delay messages by waiting for a lock that they would wait for themselves.
const PROBE_BUSY_MILLISECONDS: u32 = 250;

#[derive(Default)]
pub(in crate::store) struct Health {
    lost: OnceLock<String>,
    lost_signal: CancellationToken,
    observed: Mutex<Observed>,
}

#[derive(Default)]
struct Observed {
    /// Why the last commit failed; None if it succeeded.
    failure: Option<Unavailable>,
    /// When the running commit began.
    running: Option<Instant>,
    /// Since when probes find the write lock taken.
    locked: Option<Instant>,
    ended: Option<Instant>,
    written: Option<Instant>,
}

/// A running commit.
pub(in crate::store) struct RunningCommit(Instant);

impl Health {
    fn observed(&self) -> std::sync::MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lose(&self, text: String) {
        // The first reason is kept.
        let _ = self.lost.set(text);
        self.lost_signal.cancel();
    }

    pub fn lost(&self) -> Result<(), Unavailable> {
        self.lost.get().map_or(Ok(()), |text| Err(Unavailable::Away(text.clone())))
    }

    pub async fn until_lost(&self) -> String {
        self.lost_signal.cancelled().await;
        self.lost.get().cloned().unwrap_or_default()
    }

    pub fn begin(&self) -> RunningCommit {
        let now = Instant::now();
        self.observed().running = Some(now);
        RunningCommit(now)
    }

    pub fn end(&self, RunningCommit(began): RunningCommit, failure: Option<&Unavailable>) {
        let mut observed = self.observed();
        let now = Instant::now();
        observed.running = observed.running.filter(|running| *running != began);
        observed.failure = failure.cloned();
        observed.ended = Some(now);
        if failure.is_none() {
            observed.locked = None;
        }
    }

    /// Whether a message would be accepted now.
    pub fn state(&self) -> Result<(), Unavailable> {
        self.lost()?;
        let observed = self.observed();
        let stalled = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() > STALLED_AFTER);
        if let Some(failure) = &observed.failure {
            return Err(failure.clone());
        }
        if stalled(observed.locked) {
            return Err(Unavailable::Away("another process holds the write lock of the store".into()));
        }
        if stalled(observed.running) {
            return Err(Unavailable::Away("the store takes longer than 2 s for a commit".into()));
        }
        Ok(())
    }

    /// Whether a probe is due, and the number of bytes that it should write, if any.
    fn due(&self, free_bytes: Option<u64>) -> Option<Option<i64>> {
        let observed = self.observed();
        let within = |at: Option<Instant>, limit| at.is_some_and(|at: Instant| at.elapsed() < limit);
        if observed.running.is_some() {
            return None;
        }
        if observed.failure.is_some() || free_bytes.is_some_and(|free| free < LOW_SPACE_BYTES) {
            return Some(Some(LARGE_PROBE_BYTES));
        }
        if !within(observed.written, WRITE_INTERVAL) {
            return Some(Some(SMALL_PROBE_BYTES));
        }
        (!within(observed.ended, WATCH_INTERVAL)).then_some(None)
    }

    fn probed(&self, result: Result<(), Error>, wrote: bool) {
        let mut observed = self.observed();
        let now = Instant::now();
        match result {
            // Getting the lock does not prove that writing succeeds again.
            Ok(()) if !wrote => observed.locked = None,
            Ok(()) => {
                (observed.locked, observed.failure) = (None, None);
                (observed.written, observed.ended) = (Some(now), Some(now));
            }
            Err(error) if is_busy(&error) => {
                observed.locked.get_or_insert(now);
            }
            Err(error) => observed.failure = Some(unavailable(&error)),
        }
    }
}

fn is_busy(error: &Error) -> bool {
    const SQLITE_BUSY: i64 = 5;
    super::core::sqlite_code(error) == Some(SQLITE_BUSY)
}

/// Checks the store's files each second, and probes while there are no commits. Ends with the store.
pub(in crate::store) async fn watch(core: Weak<Core>) {
    let mut logged_wrong_clock = core.upgrade().is_some_and(|core| core.clock.jump().is_some());
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let Some(core) = core.upgrade() else { return };
        if core.closed.load(Ordering::Relaxed) {
            return;
        }
        let checked = core.clone();
        // A disk that hangs must not block a thread of the runtime. `check_files` logs a failure itself.
        let _ = tokio::task::spawn_blocking(move || checked.check_files()).await;
        super::time::watch(&core.clock, &mut logged_wrong_clock);
        if core.log_bytes() > super::open::LOG_LIMIT_BYTES {
            cut_log(&core).await;
        }
        if let Some(write) = core.health.due(core.free_bytes()) {
            let result = probe(&core, write).await;
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
        writer.recover(core).await;
    }
    busy_timeout(&mut writer, super::open::BUSY_TIMEOUT_MILLISECONDS).await?;
    result
}

/// Moves the log into the database file and truncates it, unless a reader prevents that.
async fn cut_log(core: &Arc<Core>) {
    let mut writer = core.writer.lock().await;
    if core.closed.load(Ordering::Relaxed) || busy_timeout(&mut writer, 0).await.is_err() {
        return;
    }
    // If a reader prevents it, the next second tries again; a disk error also fails the next commit.
    let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut writer.conn).await;
    if let Err(error) = busy_timeout(&mut writer, super::open::BUSY_TIMEOUT_MILLISECONDS).await {
        tracing::error!(%error, "the store's connection fails");
    }
}

async fn try_write(core: &Core, writer: &mut Writer, write: Option<i64>) -> Result<(), Error> {
    writer.begin().await?;
    let Some(bytes) = write else {
        return sqlx::query("ROLLBACK").execute(&mut writer.conn).await.map(drop);
    };
    let statement =
        "INSERT INTO probe (k, bytes) VALUES (1, zeroblob(?1)) ON CONFLICT (k) DO UPDATE SET bytes = zeroblob(?1)";
    sqlx::query(statement).bind(bytes).execute(&mut writer.conn).await?;
    super::time::save(core, writer).await?;
    writer.commit().await
}

async fn busy_timeout(writer: &mut Writer, milliseconds: u32) -> Result<(), Error> {
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {milliseconds}"));
    sqlx::query(pragma).execute(&mut writer.conn).await.map(drop)
}

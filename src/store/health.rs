//! Whether messages would be accepted now, as the last commits saw it.
//!
//! Every commit of messages reports how it ended. While none comes, a probe takes the write lock each second, and now and
//! then writes; so readiness says what a message would meet, and never waits for the store itself.

use super::core::{Core, unavailable};
use super::writer::Writer;
use super::{Inner, Unavailable};
use sqlx::Error;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A commit that takes longer than this waits for a lock or a disk that others wait for as well.
const STALLED_AFTER: Duration = Duration::from_secs(2);
/// Between two probes that write, while all is well; they also note that the clock is right.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// With less room than this each probe writes.
const LITTLE_ROOM_BYTES: u64 = 64 * 1024 * 1024;
const SMALL_PROBE_BYTES: i64 = 16;
/// More than what a log of old pages that are written over would take without needing room.
const LARGE_PROBE_BYTES: i64 = 64 * 1024;
/// A probe does not hold up messages behind a lock that they would wait for themselves.
const PROBE_BUSY_MILLISECONDS: u32 = 250;

#[derive(Default)]
pub(super) struct Health {
    lost: OnceLock<String>,
    lost_signal: CancellationToken,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// How the last commit failed; None after one that did not.
    failure: Option<Unavailable>,
    /// When the oldest commit under way began.
    running: Option<Instant>,
    /// Since when probes find the write lock taken.
    locked: Option<Instant>,
    ended: Option<Instant>,
    written: Option<Instant>,
}

/// A commit under way.
pub(super) struct Began(Instant);

impl Health {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lose(&self, text: String) {
        // The first reason stands.
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

    pub fn begin(&self) -> Began {
        let now = Instant::now();
        self.seen().running = Some(now);
        Began(now)
    }

    pub fn end(&self, Began(began): Began, failure: Option<&Unavailable>) {
        let mut seen = self.seen();
        let now = Instant::now();
        seen.running = seen.running.filter(|running| *running != began);
        seen.failure = failure.cloned();
        seen.ended = Some(now);
        if failure.is_none() {
            seen.locked = None;
        }
    }

    /// What a message that comes now would meet.
    pub fn state(&self) -> Result<(), Unavailable> {
        self.lost()?;
        let seen = self.seen();
        let stalled = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() > STALLED_AFTER);
        if let Some(failure) = &seen.failure {
            return Err(failure.clone());
        }
        if stalled(seen.locked) {
            return Err(Unavailable::Away("another process holds the write lock of the store".into()));
        }
        if stalled(seen.running) {
            return Err(Unavailable::Away("the store takes longer than 2 s for a commit".into()));
        }
        Ok(())
    }

    /// Whether a probe is due, and whether it should write, and how much.
    fn due(&self, free_bytes: Option<u64>) -> Option<Option<i64>> {
        let seen = self.seen();
        let within = |at: Option<Instant>, limit| at.is_some_and(|at: Instant| at.elapsed() < limit);
        if seen.running.is_some() {
            return None;
        }
        if seen.failure.is_some() || free_bytes.is_some_and(|free| free < LITTLE_ROOM_BYTES) {
            return Some(Some(LARGE_PROBE_BYTES));
        }
        if !within(seen.written, WRITE_INTERVAL) {
            return Some(Some(SMALL_PROBE_BYTES));
        }
        (!within(seen.ended, WATCH_INTERVAL)).then_some(None)
    }

    fn probed(&self, result: Result<(), Error>, wrote: bool) {
        let mut seen = self.seen();
        let now = Instant::now();
        match result {
            // The lock alone does not say that writing succeeds again.
            Ok(()) if !wrote => seen.locked = None,
            Ok(()) => {
                (seen.locked, seen.failure) = (None, None);
                (seen.written, seen.ended) = (Some(now), Some(now));
            }
            Err(error) if is_busy(&error) => {
                seen.locked.get_or_insert(now);
            }
            Err(error) => seen.failure = Some(unavailable(&error)),
        }
    }
}

fn is_busy(error: &Error) -> bool {
    const SQLITE_BUSY: i64 = 5;
    super::core::sqlite_code(error) == Some(SQLITE_BUSY)
}

/// Looks at the store's files each second, and probes where no commit has told anything. Ends with the store.
pub(super) async fn watch(inner: Weak<Inner>) {
    let mut told_of_clock = inner.upgrade().is_some_and(|inner| inner.core.clock.jump().is_some());
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let Some(inner) = inner.upgrade() else { return };
        let core = inner.core.clone();
        if core.closed.load(Ordering::Relaxed) {
            return;
        }
        let looked = core.clone();
        // A disk that hangs must not hold up a thread of the runtime. A failed check is logged where it is latched.
        let _ = tokio::task::spawn_blocking(move || looked.check_files()).await;
        super::time::watch(&core.clock, &mut told_of_clock);
        if core.log_bytes() > super::open::LOG_LIMIT_BYTES {
            cut_log(&core).await;
        }
        if let Some(write) = core.health.due(core.free_bytes()) {
            let result = probe(&core, write).await;
            core.health.probed(result, write.is_some());
        }
    }
}

/// Takes the write lock, and writes `write` bytes where that is asked for.
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

/// Moves the log into the database file and cuts it, where no reader is in the way. Waits for none.
async fn cut_log(core: &Arc<Core>) {
    let mut writer = core.writer.lock().await;
    if core.closed.load(Ordering::Relaxed) || busy_timeout(&mut writer, 0).await.is_err() {
        return;
    }
    // Where a reader is in the way, the next second comes; an error of the disk shows in the next commit.
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

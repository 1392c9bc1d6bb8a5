//! Whether messages would be accepted now, according to the last commits and probes.
//!
//! Every commit of messages reports its result. While there are none, a probe of the backend takes the lock for writing, if it
//! has one, each second, and sometimes writes. So readiness predicts what happens to a message, and never waits for the store.

use super::Unavailable;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often the files are checked, and whether a probe is due.
pub(super) const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A commit that takes longer waits for a lock or a disk, and so will the next one.
const STALLED_AFTER: Duration = Duration::from_secs(2);
/// Between two probes that write, while commits succeed; these probes also store that the clock is right.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// With less free space than this, each probe writes, and logs of the database are kept short.
const LOW_SPACE_BYTES: u64 = 64 * 1024 * 1024;
const SMALL_PROBE_BYTES: i64 = 16;
/// More than fits into pages of the log that can be overwritten without free space.
const LARGE_PROBE_BYTES: i64 = 64 * 1024;

/// Whether little space is free. Unknown counts as enough.
pub(super) fn is_low(free_bytes: Option<u64>) -> bool {
    free_bytes.is_some_and(|free| free < LOW_SPACE_BYTES)
}

#[derive(Default)]
pub(super) struct Health {
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

/// Why a probe failed.
pub(super) enum ProbeFailure {
    /// Another process holds the lock for writing.
    Locked,
    Unavailable(Unavailable),
}

/// A running commit.
pub(super) struct RunningCommit(Instant);

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
    pub fn due(&self, free_bytes: Option<u64>) -> Option<Option<i64>> {
        let observed = self.observed();
        let within = |at: Option<Instant>, limit| at.is_some_and(|at: Instant| at.elapsed() < limit);
        if observed.running.is_some() {
            return None;
        }
        if observed.failure.is_some() || is_low(free_bytes) {
            return Some(Some(LARGE_PROBE_BYTES));
        }
        if !within(observed.written, WRITE_INTERVAL) {
            return Some(Some(SMALL_PROBE_BYTES));
        }
        (!within(observed.ended, WATCH_INTERVAL)).then_some(None)
    }

    /// Records the result of a probe.
    pub fn probed(&self, result: Result<(), ProbeFailure>, wrote: bool) {
        let mut observed = self.observed();
        let now = Instant::now();
        match result {
            // Getting the lock does not prove that writing succeeds again.
            Ok(()) if !wrote => observed.locked = None,
            Ok(()) => {
                (observed.locked, observed.failure) = (None, None);
                (observed.written, observed.ended) = (Some(now), Some(now));
            }
            Err(ProbeFailure::Locked) => {
                observed.locked.get_or_insert(now);
            }
            Err(ProbeFailure::Unavailable(failure)) => observed.failure = Some(failure),
        }
    }
}

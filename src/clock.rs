//! The wall clock, as an argument: what is stored and compared with the store reads it here.
//!
//! Waits inside one process use tokio's monotonic clock instead, so that a clock set back delays nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// UTC microseconds since 1970, with an offset that tests move.
#[derive(Clone, Default, Debug)]
pub struct Clock {
    offset_us: Arc<AtomicI64>,
}

impl Clock {
    /// Now, in UTC microseconds since 1970-01-01.
    pub fn now_us(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX) + self.offset_us.load(Ordering::Relaxed)
    }

    /// Moves this clock and its clones by `microseconds`, as an operator or NTP may move the machine's.
    pub fn shift(&self, microseconds: i64) {
        self.offset_us.fetch_add(microseconds, Ordering::Relaxed);
    }
}

//! The wall clock, passed as an argument: times that are stored or compared with stored times come from here.
//!
//! Waits within the process use tokio's monotonic clock instead, so that setting the clock back delays nothing.
//! Operations that a wrong wall clock would make destructive (expiring deliveries, dropping identities and bodies by
//! age) check `jump` first, which compares the progress of the wall clock with that of the machine's own clock.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;
use uuid::timestamp::context::ContextV7;

/// The wall clock may differ by this much from the machine's own clock; more is a jump.
pub const JUMP_US: i64 = 3_600_000_000;

/// UTC microseconds since 1970, with an offset for tests.
#[derive(Clone, Default, Debug)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Default, Debug)]
struct Shared {
    offset_us: AtomicI64,
    trust: Mutex<Trust>,
}

/// A moment on both clocks at which the wall clock was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// UTC microseconds since 1970.
    pub wall_us: i64,
    /// Microseconds since the machine started, including sleep.
    pub machine_us: i64,
    /// Identifies the machine's start; None if the system does not provide it.
    pub boot: Option<i64>,
}

#[derive(Default, Debug)]
struct Trust {
    anchor: Option<Anchor>,
    /// How far the wall clock is off, in microseconds.
    jump_us: Option<i64>,
    /// Offset of the clock when the store was opened, in tests: this much time counts as passed.
    passed_us: i64,
}

impl Clock {
    /// The current time in UTC microseconds since 1970-01-01; 0 while the system's clock is before that.
    pub fn now_us(&self) -> i64 {
        system_us().unwrap_or_default().saturating_add(self.shared.offset_us.load(Ordering::Relaxed))
    }

    /// Errs if the system's clock is before 1970, because no stored time would be meaningful.
    pub fn check(&self) -> Result<(), String> {
        match system_us() {
            Some(_) => Ok(()),
            None => Err("the system's clock is set to a time before 1970; correct it, and start again".into()),
        }
    }

    /// Moves this clock and its clones by `microseconds`, as an operator or NTP may move the machine's clock.
    pub fn shift(&self, microseconds: i64) {
        self.shared.offset_us.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// A new id that sorts by time.
    pub fn new_id(&self) -> Uuid {
        static SEQUENCE: Mutex<AssertUnwindSafe<ContextV7>> = Mutex::new(AssertUnwindSafe(ContextV7::new()));
        let now_us = self.now_us().max(0).unsigned_abs();
        let (seconds, microseconds) = (now_us / 1_000_000, (now_us % 1_000_000) as u32);
        Uuid::new_v7(uuid::Timestamp::from_unix(&SEQUENCE, seconds, microseconds * 1_000))
    }

    fn trust(&self) -> MutexGuard<'_, Trust> {
        self.shared.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the wall clock is off, in microseconds (positive: ahead), if that is more than an hour. Lasts until the
    /// clock is right again or an operator confirms it.
    pub fn jump(&self) -> Option<i64> {
        let mut trust = self.trust();
        let now = self.moment(&trust);
        let off_us = trust.anchor.map_or(0, |anchor| {
            let expected_us = anchor.wall_us.saturating_add(now.machine_us.saturating_sub(anchor.machine_us));
            now.wall_us.saturating_sub(expected_us)
        });
        trust.jump_us = (off_us.abs() > JUMP_US).then_some(off_us);
        if trust.jump_us.is_none() {
            // Follows the small corrections that keep a clock right.
            trust.anchor = Some(now);
        }
        trust.jump_us
    }

    /// Compares with the store's record of the time before the start: `last` is from `anchor`, and `newest_us` is the
    /// newest time in the store.
    pub fn resume(&self, last: Option<Anchor>, newest_us: Option<i64>) {
        let mut trust = self.trust();
        trust.passed_us = self.shared.offset_us.load(Ordering::Relaxed);
        let now = self.moment(&trust);
        trust.anchor = match (last, newest_us) {
            // Both clocks continued since then.
            (Some(last), _) if last.boot.is_some() && last.boot == now.boot => Some(last),
            // The machine was restarted, and how long it was off is unknown.
            (Some(last), _) => Some(Anchor { wall_us: last.wall_us, ..now }),
            // A store without a record of clocks: only a time in the future shows that one was wrong.
            (None, Some(newest_us)) if newest_us > now.wall_us => Some(Anchor { wall_us: newest_us, ..now }),
            (None, _) => Some(now),
        };
        drop(trust);
        self.jump();
    }

    /// The last moment at which the wall clock was right; None while it is wrong, and before the first check.
    pub fn anchor(&self) -> Option<Anchor> {
        self.jump().is_none().then(|| self.trust().anchor).flatten()
    }

    /// Accepts the wall clock's current time as right.
    pub fn confirm(&self) {
        let mut trust = self.trust();
        trust.anchor = Some(self.moment(&trust));
        trust.jump_us = None;
    }

    fn moment(&self, trust: &Trust) -> Anchor {
        Anchor { wall_us: self.now_us(), machine_us: machine_us().saturating_add(trust.passed_us), boot: boot() }
    }
}

fn system_us() -> Option<i64> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(target_os = "linux")]
fn machine_us() -> i64 {
    // Includes the machine's sleep, as the wall clock does.
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
}

#[cfg(not(target_os = "linux"))]
fn machine_us() -> i64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    i64::try_from(START.elapsed().as_micros()).unwrap_or(i64::MAX)
}

/// Identifies the machine's start.
fn boot() -> Option<i64> {
    use std::sync::LazyLock;
    static BOOT: LazyLock<Option<i64>> = LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = Uuid::try_parse(text.trim()).ok()?;
        Some(id.as_u64_pair().0.cast_signed())
    });
    *BOOT
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 24 * JUMP_US;

    fn resumed(last: Option<Anchor>, newest_us: Option<i64>) -> Clock {
        let clock = Clock::default();
        clock.resume(last, newest_us);
        clock
    }

    #[test]
    fn a_jump_lasts_until_the_clock_returns_or_an_operator_confirms_it() {
        for jump_us in [2 * DAY_US, -2 * DAY_US] {
            let clock = resumed(None, None);
            assert_eq!(clock.jump(), None);
            clock.shift(JUMP_US / 2);
            assert_eq!(clock.jump(), None, "half an hour is not a jump");
            clock.shift(jump_us);
            let off_us = clock.jump().expect("a jump");
            assert!((off_us - jump_us).abs() < 60_000_000, "{off_us}");
            assert_eq!(clock.anchor(), None);
            clock.shift(-jump_us);
            assert_eq!(clock.jump(), None, "the clock returned");
            clock.shift(jump_us);
            assert!(clock.jump().is_some());
            clock.confirm();
            assert_eq!(clock.jump(), None, "confirmed");
        }
    }

    #[test]
    fn a_start_compares_with_the_clocks_of_the_last_run() {
        let now = resumed(None, None).anchor().expect("a clock that is right");
        let ago = |wall_us: i64, machine_us: i64| Anchor {
            wall_us: now.wall_us - wall_us,
            machine_us: now.machine_us - machine_us,
            boot: now.boot,
        };
        let other_boot = |anchor: Anchor| Anchor { boot: Some(1), ..anchor };
        let cases = [
            ("stopped for two days", Some(ago(2 * DAY_US, 2 * DAY_US)), None, false),
            ("set ahead while it was down", Some(ago(2 * DAY_US, 0)), None, true),
            ("set back while it was down", Some(ago(-2 * DAY_US, 0)), None, true),
            ("another machine, a minute later", Some(other_boot(ago(60_000_000, 77))), None, false),
            ("another boot, two days later", Some(other_boot(ago(2 * DAY_US, 77))), None, true),
            ("another boot, two days before", Some(other_boot(ago(-2 * DAY_US, 77))), None, true),
            ("an old store, two days ago", None, Some(now.wall_us - 2 * DAY_US), false),
            ("an old store from the future", None, Some(now.wall_us + 2 * DAY_US), true),
        ];
        for (what, last, newest_us, jumped) in cases {
            assert_eq!(resumed(last, newest_us).jump().is_some(), jumped, "{what}");
        }
    }

    #[test]
    fn ids_sort_by_time_and_need_no_time_after_1970() {
        let clock = Clock::default();
        let ids: Vec<_> = (0..100).map(|_| clock.new_id()).collect();
        assert!(ids.is_sorted());
        clock.shift(-clock.now_us() - DAY_US);
        assert_eq!(clock.new_id().get_version_num(), 7);
    }
}

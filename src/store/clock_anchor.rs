//! A moment at which the clock was right, as a backend stores it, so that the next start detects a wrong clock.

use crate::clock::{Anchor, Clock};
use std::collections::HashMap;

pub(super) const WALL: &str = "clock_wall_us";
pub(super) const MACHINE: &str = "clock_machine_us";
pub(super) const BOOT: &str = "clock_boot";

/// Compares the clock with what the last run stored, and with when the newest message was committed.
pub(super) fn resume(clock: &Clock, found: &HashMap<String, i64>, newest_us: Option<i64>) {
    let last = found.get(WALL).zip(found.get(MACHINE)).map(|(wall_us, machine_us)| Anchor {
        wall_us: *wall_us,
        machine_us: *machine_us,
        boot: found.get(BOOT).copied(),
    });
    clock.resume(last, newest_us);
    if let Some(off_us) = clock.jump() {
        log_jump(off_us);
    }
}

/// What to store now. None while the clock is wrong: the next start compares with when it was right.
pub(super) fn rows(clock: &Clock) -> Option<[(&'static str, i64); 3]> {
    let Anchor { wall_us, machine_us, boot } = clock.anchor()?;
    Some([(WALL, wall_us), (MACHINE, machine_us), (BOOT, boot.unwrap_or_default())])
}

/// Logs once that the clock is wrong, or right again. `logged_wrong`: whether the last log line said that it is wrong.
pub(super) fn watch(clock: &Clock, logged_wrong: &mut bool) {
    match clock.jump() {
        Some(off_us) if !*logged_wrong => log_jump(off_us),
        None if *logged_wrong => {
            tracing::warn!("the clock is right again, or was confirmed; expiry and retention continue")
        }
        _ => return,
    }
    *logged_wrong = !*logged_wrong;
}

fn log_jump(off_us: i64) {
    tracing::error!(
        ahead_seconds = off_us / 1_000_000,
        "the clock differs by more than an hour from what the machine's own clock and the store say: nothing expires and \
         retention deletes nothing until it is right again or an operator confirms it (emberpost clock confirm)"
    );
}

//! Stores a moment at which the clock was right and renews it while it is, so that the next start detects a wrong clock.

use crate::clock::{Anchor, Clock};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Error, Row};
use std::collections::HashMap;

const WALL: &str = "clock_wall_us";
const MACHINE: &str = "clock_machine_us";
const BOOT: &str = "clock_boot";

/// Compares the clock with what the last run stored.
pub(in crate::store) async fn resume(clock: &Clock, conn: &mut SqliteConnection) -> Result<(), Error> {
    let rows =
        sqlx::query("SELECT name, value FROM progress WHERE name IN (?, ?, ?)").bind(WALL).bind(MACHINE).bind(BOOT);
    let mut found: HashMap<String, i64> = HashMap::new();
    for row in rows.fetch_all(&mut *conn).await? {
        found.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let last = found.get(WALL).zip(found.get(MACHINE)).map(|(wall_us, machine_us)| Anchor {
        wall_us: *wall_us,
        machine_us: *machine_us,
        boot: found.get(BOOT).copied(),
    });
    let newest = "SELECT committed_us FROM message ORDER BY k DESC LIMIT 1";
    let newest = sqlx::query(newest).fetch_optional(&mut *conn).await?;
    clock.resume(last, newest.map(|row| row.try_get(0)).transpose()?);
    if let Some(off_us) = clock.jump() {
        log_jump(off_us);
    }
    save(clock, conn).await
}

/// Logs once that the clock is wrong, or right again. `logged_wrong`: whether the last log line said that it is wrong.
pub(in crate::store) fn watch(clock: &Clock, logged_wrong: &mut bool) {
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

/// Nothing is written while the clock is wrong: the next start compares with when it was right.
pub(in crate::store) async fn save(clock: &Clock, conn: &mut SqliteConnection) -> Result<(), Error> {
    let Some(Anchor { wall_us, machine_us, boot }) = clock.anchor() else { return Ok(()) };
    let upsert = "INSERT INTO progress (name, value) VALUES (?, ?), (?, ?), (?, ?) \
                  ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    let query = sqlx::query(upsert).bind(WALL).bind(wall_us).bind(MACHINE).bind(machine_us);
    query.bind(BOOT).bind(boot.unwrap_or_default()).execute(conn).await.map(drop)
}

//! Stores a moment at which the clock was right and renews it while it is, so that the next start detects a wrong clock.

use super::filter::Bound;
use crate::clock::Clock;
use crate::store::clock_anchor::{self, BOOT, MACHINE, WALL};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Error, Row};
use std::collections::HashMap;

/// Compares the clock with what the last run stored.
pub(in crate::store) async fn resume(clock: &Clock, conn: &mut SqliteConnection) -> Result<(), Error> {
    let rows =
        sqlx::query("SELECT name, value FROM progress WHERE name IN (?, ?, ?)").bind(WALL).bind(MACHINE).bind(BOOT);
    let mut found: HashMap<String, i64> = HashMap::new();
    for row in rows.fetch_all(&mut *conn).await? {
        found.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let newest = "SELECT committed_us FROM message ORDER BY k DESC LIMIT 1";
    let newest = sqlx::query(newest).fetch_optional(&mut *conn).await?;
    clock_anchor::resume(clock, &found, newest.map(|row| row.try_get(0)).transpose()?);
    save(clock, conn).await
}

/// Nothing is written while the clock is wrong: the next start compares with when it was right.
pub(in crate::store) async fn save(clock: &Clock, conn: &mut SqliteConnection) -> Result<(), Error> {
    let Some(rows) = clock_anchor::rows(clock) else { return Ok(()) };
    let upsert = "INSERT INTO progress (name, value) VALUES (?, ?), (?, ?), (?, ?) \
                  ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    let bind = |query: Bound, (name, value)| query.bind(name).bind(value);
    rows.into_iter().fold(sqlx::query(upsert), bind).execute(conn).await.map(drop)
}

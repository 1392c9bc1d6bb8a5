//! Stores a moment at which the clock was right and renews it while it is, so that the next start detects a wrong clock.

use super::sql::{Sql, Value};
use crate::clock::Clock;
use crate::store::clock_anchor;
use sqlx::postgres::PgConnection;
use sqlx::{Error, Row};
use std::collections::HashMap;

/// Compares the clock with what the last run stored.
pub(in crate::store) async fn resume(clock: &Clock, conn: &mut PgConnection) -> Result<(), Error> {
    let mut found: HashMap<String, i64> = HashMap::new();
    for row in Sql::new("SELECT name, value FROM progress").all(conn).await? {
        found.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let newest = Sql::new("SELECT committed_us FROM message ORDER BY k DESC LIMIT 1").optional(conn).await?;
    clock_anchor::resume(clock, &found, newest.map(|row| row.try_get(0)).transpose()?);
    match save(clock) {
        Some(save) => save.execute(conn).await.map(drop),
        None => Ok(()),
    }
}

/// None while the clock is wrong: the next start compares with when it was right.
pub(in crate::store) fn save(clock: &Clock) -> Option<Sql> {
    let (names, values): (Vec<String>, Vec<i64>) =
        clock_anchor::rows(clock)?.into_iter().map(|(name, value)| (name.to_owned(), value)).unzip();
    let upsert = "INSERT INTO progress (name, value) SELECT * FROM unnest($1::text[], $2::bigint[]) \
                  ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    Some(Sql::new(upsert).bind(Value::Texts(names)).bind(values))
}

//! Stores a moment at which the clock was right and renews it while it is, so that the next start detects a wrong clock; and says
//! when the clock of the database differs.

use super::sql::{Sql, Value};
use crate::clock::Clock;
use crate::store::clock_anchor;
use sqlx::postgres::PgConnection;
use sqlx::{Error, Row};
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Clocks that are kept right differ by less.
const DIFFERENCE_LIMIT_US: i64 = 60_000_000;

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

/// The time of the database in microseconds, as an expression.
pub(in crate::store) const DATABASE_TIME: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Compares the clock of the database with that of the router.
#[derive(Default)]
pub(in crate::store) struct Comparison {
    logged_difference: bool,
}

impl Comparison {
    /// Logs once that the clocks differ, or no longer do. `asked`: the router's time before the question and after the answer.
    pub fn check(&mut self, database_us: i64, asked: &RangeInclusive<i64>) {
        // A slow answer is not a difference.
        let ahead_us = if database_us < *asked.start() {
            asked.start() - database_us
        } else {
            asked.end().saturating_sub(database_us).min(0)
        };
        let differs = ahead_us.abs() > DIFFERENCE_LIMIT_US;
        match (differs, self.logged_difference) {
            (true, false) => tracing::warn!(
                ahead_seconds = ahead_us / 1_000_000,
                "the clock of the router differs by more than a minute from that of the database: one of them is wrong. Messages are \
                 stored and delivered by the router's clock; what other programs of the database write has other times"
            ),
            (false, true) => tracing::warn!("the clocks of the router and of the database agree again"),
            _ => {}
        }
        self.logged_difference = differs;
    }
}

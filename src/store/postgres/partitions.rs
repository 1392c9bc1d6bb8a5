//! The partitions of bodies and attempts, by key. A new one is attached before the last one is full.
//!
//! A partition holds about a day: half a day or less, and the next one is twice as large; more than two days, and it is half as
//! large. So a busy store has few of them, and retention drops a day at a time.

use super::core::Core;
use super::sql::Sql;
use crate::store::Unavailable;
use crate::store::transfer::row::Extent;
use futures_util::FutureExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};
use std::sync::Arc;

/// The smallest and the largest partition, in keys.
const LEAST_KEYS: i64 = 1 << 16;
const MOST_KEYS: i64 = 1 << 24;
/// Partitions for copied rows: a plan must look at each.
const MOST_COPIED_PARTITIONS: i64 = 64;
const HALF_DAY_US: i64 = 43_200_000_000;
/// Waiting for the lock of a table stops everyone who comes after.
const LOCK_LIMIT: &str = "SET LOCAL lock_timeout = '200ms'";

/// Tables with partitions, and the sequence of their keys.
const TABLES: [(&str, &str); 2] = [("body", "message_key"), ("attempt", "delivery_key")];

/// The newest partition of a table, and the last key that was given out.
struct Newest {
    first: i64,
    end: i64,
    created_us: i64,
    last_key: i64,
}

impl Newest {
    /// Whether more than three quarters of the partition are used.
    fn is_almost_full(&self) -> bool {
        self.last_key > self.end - (self.end - self.first) / 4
    }

    /// The first key and the end of the next partition.
    fn next(&self, now_us: i64) -> (i64, i64) {
        let keys = self.end - self.first;
        let age_us = now_us.saturating_sub(self.created_us);
        let keys = if age_us < HALF_DAY_US {
            keys * 2
        } else if age_us > 4 * HALF_DAY_US {
            keys / 2
        } else {
            keys
        };
        (self.end, self.end + keys.clamp(LEAST_KEYS, MOST_KEYS))
    }
}

/// Adds partitions where the last one is almost full.
pub(in crate::store) async fn make_room(core: &Arc<Core>) -> Result<(), Unavailable> {
    for (table, sequence) in TABLES {
        let newest = core.readers.optional(&newest(table, sequence)).await;
        let newest = newest.and_then(|row| row.as_ref().map(read).transpose());
        let newest = newest.map_err(|error| super::error::unavailable(&error))?;
        if newest.is_some_and(|newest| newest.is_almost_full()) {
            let now_us = core.clock.now_us();
            core.maintain(move |conn| add(conn, table, sequence, now_us).boxed()).await?;
        }
    }
    Ok(())
}

/// Adds the first partition of each table to a new store, in a transaction of its own.
pub(in crate::store) async fn begin(conn: &mut PgConnection, now_us: i64) -> Result<(), Error> {
    for (table, sequence) in TABLES {
        if Sql::new("SELECT 1 FROM partition WHERE parent = $1").bind(table).optional(conn).await?.is_none() {
            Sql::new("BEGIN").execute(conn).await?;
            add(conn, table, sequence, now_us).await?;
            Sql::new("COMMIT").execute(conn).await?;
        }
    }
    Ok(())
}

/// Adds partitions for the rows that a copy will bring, in the caller's transaction: of about a day each.
pub(in crate::store) async fn prepare(conn: &mut PgConnection, extent: &Extent, now_us: i64) -> Result<(), Error> {
    let keys = [(extent.first_message, extent.last_message), (extent.first_delivery, extent.last_delivery)];
    for ((table, _), (first, last)) in TABLES.into_iter().zip(keys) {
        let empty = Sql::new("DELETE FROM partition WHERE parent = $1 RETURNING first_k").bind(table).all(conn).await?;
        for row in empty {
            Sql::new(format!("DROP TABLE {table}_{}", row.try_get::<i64, _>(0)?)).execute(conn).await?;
        }
        let keys = last.saturating_sub(first).max(0);
        let size = (keys / extent.days.clamp(1, MOST_COPIED_PARTITIONS)).max(LEAST_KEYS);
        let mut from = first;
        while from <= last.saturating_add(size / 2) {
            create(conn, table, (from, from + size), now_us).await?;
            from += size;
        }
        // What holds more than a day is not dropped as a whole: its oldest rows would stay too long.
        let holds_a_day = size <= keys / extent.days.max(1);
        let whole = Sql::new("UPDATE partition SET is_whole = $2 WHERE parent = $1").bind(table).bind(holds_a_day);
        whole.execute(conn).await?;
    }
    Ok(())
}

fn newest(table: &str, sequence: &str) -> Sql {
    // A sequence that gave out nothing says 1.
    let sql = format!(
        "SELECT p.first_k, p.end_k, p.created_us, (SELECT last_value FROM {sequence}) FROM partition p \
         WHERE p.parent = $1 ORDER BY p.first_k DESC LIMIT 1"
    );
    Sql::new(sql).bind(table)
}

fn read(row: &PgRow) -> Result<Newest, Error> {
    Ok(Newest { first: row.try_get(0)?, end: row.try_get(1)?, created_us: row.try_get(2)?, last_key: row.try_get(3)? })
}

/// Adds a partition, unless another process has done so: in the caller's transaction. Attaching takes a lock that stops no row.
async fn add(conn: &mut PgConnection, table: &'static str, sequence: &str, now_us: i64) -> Result<(), Error> {
    Sql::new(LOCK_LIMIT).execute(conn).await?;
    Sql::new("LOCK TABLE partition IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
    let newest = newest(table, sequence).optional(conn).await?.as_ref().map(read).transpose()?;
    let (first, end) = match newest {
        Some(newest) if !newest.is_almost_full() => return Ok(()),
        Some(newest) => newest.next(now_us),
        None => (1, 1 + LEAST_KEYS),
    };
    let key = if table == "body" { "message_k" } else { "delivery_k" };
    // Rows that came before their partition stay where they are: a partition begins after them.
    let kept = Sql::new(format!("SELECT max({key}) FROM {table}_kept")).one(conn).await?;
    let first = first.max(kept.try_get::<Option<i64>, _>(0)?.map_or(first, |kept| kept + 1));
    let end = end.max(first + LEAST_KEYS);
    create(conn, table, (first, end), now_us).await
}

async fn create(conn: &mut PgConnection, table: &str, (first, end): (i64, i64), now_us: i64) -> Result<(), Error> {
    let name = format!("{table}_{first}");
    for statement in [
        format!("CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"),
        format!("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({end})"),
    ] {
        Sql::new(statement).execute(conn).await?;
    }
    let record = "INSERT INTO partition (parent, first_k, end_k, created_us) VALUES ($1, $2, $3, $4)";
    Sql::new(record).bind(table).bind(first).bind(end).bind(now_us).execute(conn).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_come_to_hold_about_a_day() {
        let newest =
            |created_us| Newest { first: 1, end: 1 + 4 * LEAST_KEYS, created_us, last_key: 1 + 3 * LEAST_KEYS };
        let size = |age_us: i64| {
            let (first, end) = newest(0).next(age_us);
            assert_eq!(first, 1 + 4 * LEAST_KEYS);
            (end - first) / LEAST_KEYS
        };
        assert_eq!([size(1_000), size(2 * HALF_DAY_US), size(5 * HALF_DAY_US)], [8, 4, 2]);
        assert!(!newest(0).is_almost_full());
        assert!(Newest { last_key: 2 + 3 * LEAST_KEYS, ..newest(0) }.is_almost_full());
    }
}

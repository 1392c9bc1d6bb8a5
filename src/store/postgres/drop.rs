//! Retention of whole partitions: one that filled in less than a day is dropped when all of its messages are old, after what is still
//! needed of it has moved to the partition of what is kept. Rows of the others are deleted one by one.

use super::sql::Sql;
use crate::store::retention::STEP_COST;
use sqlx::postgres::PgConnection;
use sqlx::{Error, Row};

const DAY_US: i64 = 86_400_000_000;
/// Messages are stored in the order of their keys but for the time that their check takes.
const DISORDER_US: i64 = 3_600_000_000;
/// Waiting for the lock of the table stops everyone who comes after; a search may have it for seconds.
const LOCK_LIMIT: &str = "SET LOCAL lock_timeout = '200ms'";

/// Partitions that filled in less than a day, oldest first. The newest one is not full.
const WHOLE: &str = "SELECT first_k, end_k FROM ( \
         SELECT first_k, end_k, is_whole, created_us, lead(created_us, 1, $2) OVER (ORDER BY first_k) AS full_us, \
                lead(first_k) OVER (ORDER BY first_k) IS NOT NULL AS is_full FROM partition WHERE parent = $1) AS p \
     WHERE p.is_whole AND p.full_us - p.created_us < $3";

/// How a partition of bodies is dropped.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct DropKind {
    /// What is left is kept: whatever may go was archived and deleted.
    pub has_archive: bool,
    /// The store is too large: also one that is young, or took more than a day to fill.
    pub by_size: bool,
}

/// A partition, by its keys.
struct Partition {
    table: &'static str,
    first: i64,
    end: i64,
}

/// The key from which rows are not deleted one by one, because their partitions will be dropped.
pub(in crate::store) async fn first_whole(
    conn: &mut PgConnection,
    table: &'static str,
    now_us: i64,
) -> Result<i64, Error> {
    let sql = Sql::new(format!("{WHOLE} ORDER BY first_k LIMIT 1")).bind(table).bind(now_us).bind(DAY_US);
    sql.optional(conn).await?.map_or(Ok(i64::MAX), |row| row.try_get(0))
}

/// Drops the oldest partition of bodies if all of its messages were received before `before_us`. Keeps those of messages that
/// wait for a delivery, or have a dead letter that ended since `protected_since_us`; with an archive all that are left, since those
/// that may go are archived and deleted one by one. Returns about how many rows are gone.
pub(in crate::store) async fn bodies(
    conn: &mut PgConnection,
    now_us: i64,
    (before_us, protected_since_us): (i64, i64),
    DropKind { has_archive, by_size }: DropKind,
) -> Result<u64, Error> {
    let filled_within_us = if by_size { i64::MAX } else { DAY_US };
    let Some(partition) = oldest_full(conn, "body", now_us, filled_within_us).await? else { return Ok(0) };
    let newest = Sql::new("SELECT received_us FROM message WHERE k < $1 ORDER BY k DESC LIMIT 1").bind(partition.end);
    let newest: Option<i64> = newest.optional(conn).await?.map(|row| row.try_get(0)).transpose()?;
    if newest.is_some_and(|newest| newest >= before_us.saturating_sub(DISORDER_US)) {
        return Ok(0);
    }
    let needed = "SELECT message_k FROM delivery WHERE state = 0 AND message_k >= $1 AND message_k < $2 \
                  UNION SELECT message_k FROM delivery WHERE state >= 4 AND ended_us >= $3 AND message_k >= $1 AND message_k < $2";
    let needed = Sql::new(needed).bind(partition.first).bind(partition.end).bind(protected_since_us);
    let needed = if has_archive { partition.left() } else { needed };
    if has_archive && needed.all(conn).await?.len() as i64 > STEP_COST {
        return Ok(0);
    }
    let issues = "DELETE FROM receiver_issues WHERE delivery_k IN (SELECT r.delivery_k FROM receiver_issues r \
                  JOIN delivery d ON d.k = r.delivery_k WHERE d.message_k >= $1 AND d.message_k < $2 \
                  AND d.message_k <> ALL ($3))";
    let kept = partition.drop(conn, "message_k", needed).await?;
    if let Some((_, kept)) = &kept {
        let sql = Sql::new(issues).bind(partition.first).bind(partition.end).bind(kept.as_slice());
        sql.execute(conn).await?;
    }
    Ok(kept.map_or(0, |(rows, _)| rows))
}

/// Drops the oldest partition of attempts if few of its deliveries are left.
pub(in crate::store) async fn attempts(conn: &mut PgConnection, now_us: i64) -> Result<(), Error> {
    let Some(partition) = oldest_full(conn, "attempt", now_us, DAY_US).await? else { return Ok(()) };
    let left = "SELECT k FROM delivery WHERE k >= $1 AND k < $2 LIMIT $3";
    let left = Sql::new(left).bind(partition.first).bind(partition.end).bind(STEP_COST);
    if left.all(conn).await?.len() as i64 >= STEP_COST {
        return Ok(());
    }
    partition.drop(conn, "delivery_k", left).await.map(drop)
}

/// The end of the oldest full partition of bodies.
pub(in crate::store) fn end_of_oldest(now_us: i64) -> Sql {
    let sql = Sql::new(format!("SELECT end_k FROM ({WHOLE} AND p.is_full ORDER BY first_k LIMIT 1) AS oldest"));
    sql.bind("body").bind(now_us).bind(i64::MAX)
}

async fn oldest_full(
    conn: &mut PgConnection,
    table: &'static str,
    now_us: i64,
    filled_within_us: i64,
) -> Result<Option<Partition>, Error> {
    let sql = Sql::new(format!("{WHOLE} AND p.is_full ORDER BY first_k LIMIT 1"));
    let row = sql.bind(table).bind(now_us).bind(filled_within_us).optional(conn).await?;
    row.map(|row| Ok(Partition { table, first: row.try_get(0)?, end: row.try_get(1)? })).transpose()
}

impl Partition {
    /// The bodies that it still has, in the order of an index: entries of deleted ones are skipped there, and in the table read again.
    fn left(&self) -> Sql {
        let Partition { table, first, .. } = self;
        Sql::new(format!("SELECT message_k FROM {table}_{first} ORDER BY message_k LIMIT {}", STEP_COST + 1))
    }

    /// Drops it, but for the rows whose keys `needed` returns. None if these are too many to move while everyone waits: then its
    /// rows are deleted one by one from now on. Returns about how many rows it had, and the keys that are kept.
    async fn drop(&self, conn: &mut PgConnection, key: &str, needed: Sql) -> Result<Option<(u64, Vec<i64>)>, Error> {
        let Partition { table, first, end } = self;
        let name = format!("{table}_{first}");
        Sql::new(LOCK_LIMIT).execute(conn).await?;
        // From here on, nobody reads or writes the table: what is needed does not change any more.
        Sql::new(format!("ALTER TABLE {table} DETACH PARTITION {name}")).execute(conn).await?;
        let kept = needed.all(conn).await?.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, Error>>()?;
        if kept.len() as i64 > STEP_COST {
            let attach = format!("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({end})");
            Sql::new(attach).execute(conn).await?;
            let mark = Sql::new("UPDATE partition SET is_whole = false WHERE parent = $1 AND first_k = $2");
            mark.bind(*table).bind(*first).execute(conn).await?;
            return Ok(None);
        }
        let keep = format!("INSERT INTO {table} SELECT * FROM {name} WHERE {key} = ANY ($1)");
        let moved = Sql::new(keep).bind(kept.as_slice()).execute(conn).await?;
        let rows = Sql::new("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = $1::text::regclass");
        let rows: i64 = rows.bind(&*name).one(conn).await?.try_get(0)?;
        Sql::new(format!("DROP TABLE {name}")).execute(conn).await?;
        let forget = Sql::new("DELETE FROM partition WHERE parent = $1 AND first_k = $2");
        forget.bind(*table).bind(*first).execute(conn).await?;
        tracing::info!(table, first, end, moved, "a partition was dropped");
        Ok(Some((rows.unsigned_abs().saturating_sub(moved), kept)))
    }
}

//! What the courier reads: lanes with waiting deliveries, the deliveries of a lane, those that came due, and those that
//! expired. Only the courier knows which of them are active.
//!
//! `bypassing_only`: only answers that do not use the participant's channel (callbacks, reply queues), which are delivered to
//! participants without a channel, too. An index skips what waits for the reader of a mailbox.

use super::Sqlite;
use super::error::unavailable;
use super::row::{self, PENDING_COLUMNS};
use crate::delivery::PendingDelivery;
use crate::routing::lane::UNORDERED;
use crate::store::Unavailable;
use crate::store::lanes::{DuePage, LaneHead};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Error, Row};

const PENDING_TABLES: &str = "delivery d JOIN message m ON m.k = d.message_k JOIN participant p ON p.k = d.participant";

fn own_way(only: bool) -> &'static str {
    if only { " AND kind = 2" } else { "" }
}

impl Sqlite {
    pub async fn lanes(
        &self,
        participant: &str,
        after: Option<i64>,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<Vec<LaneHead>, Unavailable> {
        let Some(participant_key) = self.core.participant_key(participant) else { return Ok(Vec::new()) };
        let from = match after {
            Some(i64::MAX) => return Ok(Vec::new()),
            Some(after) => after + 1,
            None => i64::MIN,
        };
        // One step in the index per lane, whatever its length.
        let waiting = format!("FROM delivery WHERE state = 0{} AND participant = ?1", own_way(bypassing_only));
        let sql = format!(
            "WITH RECURSIVE l (lane) AS ( \
                 SELECT min(lane) {waiting} AND lane >= ?2 \
                 UNION ALL \
                 SELECT (SELECT min(lane) {waiting} AND lane > l.lane) FROM l WHERE l.lane IS NOT NULL), \
             h (lane, k) AS ( \
                 SELECT lane, (SELECT k {waiting} AND lane = l.lane ORDER BY seq LIMIT 1) FROM l \
                 WHERE lane IS NOT NULL AND lane <> 0 LIMIT ?3) \
             SELECT d.lane, d.seq, d.due_us, d.kind = 2 FROM h CROSS JOIN delivery d ON d.k = h.k"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(participant_key).bind(from).bind(limit);
        let rows = query.fetch_all(&self.core.readers).await;
        rows.and_then(|rows| rows.iter().map(head).collect()).map_err(|error| unavailable(&error))
    }

    pub async fn lane_deliveries(
        &self,
        participant: &str,
        lane: i64,
        after_seq: i64,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<Vec<PendingDelivery>, Unavailable> {
        let Some(participant_key) = self.core.participant_key(participant) else { return Ok(Vec::new()) };
        let which = if lane == UNORDERED { "d.lane = 0 AND d.due_us = 0" } else { "d.lane = ?4" };
        let sql = format!(
            "SELECT {PENDING_COLUMNS} FROM {PENDING_TABLES} \
             WHERE d.state = 0{} AND d.participant = ?1 AND {which} AND d.seq > ?2 ORDER BY d.seq LIMIT ?3",
            own_way(bypassing_only)
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(participant_key).bind(after_seq).bind(limit);
        let query = if lane == UNORDERED { query } else { query.bind(lane) };
        pending(query.fetch_all(&self.core.readers).await)
    }

    pub async fn due_lanes(
        &self,
        participant: &str,
        after: (i64, i64),
        through_us: i64,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<DuePage<LaneHead>, Unavailable> {
        let waiting = format!("d.state = 0{} AND d.participant = ?1 AND d.lane <> 0", own_way(bypassing_only));
        let rows = self.due(
            participant,
            &waiting,
            "d.lane, d.seq, d.due_us, d.kind = 2",
            "delivery d",
            (after, through_us, limit),
        );
        due_page(rows.await, limit, head)
    }

    pub async fn due_unordered(
        &self,
        participant: &str,
        after: (i64, i64),
        through_us: i64,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<DuePage<PendingDelivery>, Unavailable> {
        let waiting = format!("d.state = 0{} AND d.participant = ?1 AND d.lane = 0", own_way(bypassing_only));
        let rows = self.due(participant, &waiting, PENDING_COLUMNS, PENDING_TABLES, (after, through_us, limit));
        due_page(rows.await, limit, row::pending)
    }

    /// The rows that are due, and when the next one is.
    async fn due(
        &self,
        participant: &str,
        waiting: &str,
        columns: &str,
        tables: &str,
        (after, through_us, limit): ((i64, i64), i64, u32),
    ) -> Result<(Vec<SqliteRow>, Option<i64>), Error> {
        let Some(participant_key) = self.core.participant_key(participant) else { return Ok((Vec::new(), None)) };
        let readers = &self.core.readers;
        let sql = format!(
            "SELECT {columns} FROM {tables} \
             WHERE {waiting} AND d.due_us > 0 AND (d.due_us, d.seq) > (?2, ?3) AND d.due_us <= ?4 \
             ORDER BY d.due_us, d.seq LIMIT ?5"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(participant_key).bind(after.0).bind(after.1);
        let rows = query.bind(through_us).bind(limit).fetch_all(readers).await?;
        let next = format!("SELECT min(d.due_us) FROM delivery d WHERE {waiting} AND d.due_us > 0 AND d.due_us > ?2");
        let next = sqlx::query(AssertSqlSafe(next)).bind(participant_key).bind(through_us).fetch_one(readers).await?;
        Ok((rows, next.try_get(0)?))
    }

    pub async fn expired(&self, now_us: i64, limit: u32) -> Result<Vec<PendingDelivery>, Unavailable> {
        if self.core.clock.jump().is_some() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {PENDING_COLUMNS} FROM {PENDING_TABLES} \
             WHERE d.state = 0 AND d.expires_us < ? ORDER BY d.expires_us LIMIT ?"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(now_us).bind(limit);
        pending(query.fetch_all(&self.core.readers).await)
    }
}

fn pending(rows: Result<Vec<SqliteRow>, Error>) -> Result<Vec<PendingDelivery>, Unavailable> {
    rows.and_then(|rows| rows.iter().map(row::pending).collect()).map_err(|error| unavailable(&error))
}

fn due_page<T>(
    rows: Result<(Vec<SqliteRow>, Option<i64>), Error>,
    limit: u32,
    read: impl Fn(&SqliteRow) -> Result<T, Error>,
) -> Result<DuePage<T>, Unavailable> {
    let page = rows.and_then(|(rows, next)| {
        let items = rows.iter().map(read).collect::<Result<Vec<_>, Error>>()?;
        Ok(DuePage::new(items, next, limit))
    });
    page.map_err(|error| unavailable(&error))
}

fn head(row: &SqliteRow) -> Result<LaneHead, Error> {
    let (lane, seq, due_at_us) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(LaneHead { lane, seq, due_at_us, bypasses_channel: row.try_get(3)? })
}

//! What the courier reads: lanes with work, the work of a lane, what expired. Which of it is under way the courier knows.

use super::core::unavailable;
use super::row::{self, WORK_COLUMNS};
use super::{Store, Unavailable};
use crate::delivery::Work;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Error, Row};

impl Store {
    /// Lanes of a participant that have waiting deliveries, in key order after `after`, at most `limit`.
    pub async fn lanes(&self, participant: &str, after: Option<i64>, limit: u32) -> Result<Vec<i64>, Unavailable> {
        let Some(party) = self.inner.core.party(participant) else { return Ok(Vec::new()) };
        let from = match after {
            Some(i64::MAX) => return Ok(Vec::new()),
            Some(after) => after + 1,
            None => i64::MIN,
        };
        // One step in the index per lane, however long the lanes are.
        let rows = sqlx::query(
            "WITH RECURSIVE l (lane) AS ( \
                 SELECT min(lane) FROM delivery WHERE state = 0 AND party = ?1 AND lane >= ?2 \
                 UNION ALL \
                 SELECT (SELECT min(lane) FROM delivery WHERE state = 0 AND party = ?1 AND lane > l.lane) \
                 FROM l WHERE l.lane IS NOT NULL) \
             SELECT lane FROM l WHERE lane IS NOT NULL LIMIT ?3",
        )
        .bind(party)
        .bind(from)
        .bind(limit)
        .fetch_all(&self.inner.core.readers)
        .await;
        let lanes = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
        lanes.map_err(|error| unavailable(&error))
    }

    /// Waiting deliveries of one lane in order after `after_seq`, at most `limit`, without bodies.
    pub async fn lane_work(
        &self,
        participant: &str,
        lane: i64,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Work>, Unavailable> {
        let Some(party) = self.inner.core.party(participant) else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT {WORK_COLUMNS} FROM delivery d JOIN message m ON m.k = d.message_k JOIN party p ON p.k = d.party \
             WHERE d.state = 0 AND d.party = ? AND d.lane = ? AND d.seq > ? ORDER BY d.seq LIMIT ?"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(party).bind(lane).bind(after_seq).bind(limit);
        works(query.fetch_all(&self.inner.core.readers).await)
    }

    /// Waiting deliveries (carried or not) that expired before `now_us`, at most `limit`, oldest first.
    /// None while the clock cannot be trusted.
    pub async fn expired(&self, now_us: i64, limit: u32) -> Result<Vec<Work>, Unavailable> {
        if self.clock().jump().is_some() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {WORK_COLUMNS} FROM delivery d JOIN message m ON m.k = d.message_k JOIN party p ON p.k = d.party \
             WHERE d.state = 0 AND d.expires_us < ? ORDER BY d.expires_us LIMIT ?"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(now_us).bind(limit);
        works(query.fetch_all(&self.inner.core.readers).await)
    }
}

fn works(rows: Result<Vec<SqliteRow>, Error>) -> Result<Vec<Work>, Unavailable> {
    rows.and_then(|rows| rows.iter().map(row::work).collect()).map_err(|error| unavailable(&error))
}

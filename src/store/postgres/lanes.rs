//! What the courier reads: lanes with waiting deliveries, the deliveries of a lane, those that came due, and those that
//! expired. Only the courier knows which of them are active.
//!
//! `bypassing_only`: only answers that do not use the participant's channel (callbacks, reply queues), which are delivered to
//! participants without a channel, too. An index skips what waits for the reader of a mailbox.

use super::Postgres;
use super::error::unavailable;
use super::row::{self, PENDING_COLUMNS, PENDING_TABLES};
use super::sql::Sql;
use crate::delivery::PendingDelivery;
use crate::routing::lane::UNORDERED;
use crate::store::Unavailable;
use crate::store::lanes::{DuePage, LaneHead};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};

fn own_way(only: bool) -> &'static str {
    if only { " AND d.kind = 2" } else { "" }
}

impl Postgres {
    pub async fn lanes(
        &self,
        participant: &str,
        after: Option<i64>,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<Vec<LaneHead>, Unavailable> {
        let Some(participant_key) = self.core.participants.key(participant) else { return Ok(Vec::new()) };
        let from = match after {
            Some(i64::MAX) => return Ok(Vec::new()),
            Some(after) => after + 1,
            None => i64::MIN,
        };
        // One step in the index per lane, whatever its length.
        let waiting = format!("FROM delivery d WHERE d.state = 0{} AND d.participant = $1", own_way(bypassing_only));
        let sql = Sql::new(format!(
            "WITH RECURSIVE l (lane) AS ( \
                 SELECT min(d.lane) {waiting} AND d.lane >= $2 \
                 UNION ALL \
                 SELECT (SELECT min(d.lane) {waiting} AND d.lane > l.lane) FROM l WHERE l.lane IS NOT NULL), \
             h (lane, k) AS ( \
                 SELECT l.lane, (SELECT d.k {waiting} AND d.lane = l.lane ORDER BY d.seq LIMIT 1) FROM l \
                 WHERE l.lane IS NOT NULL AND l.lane <> 0 LIMIT $3) \
             SELECT d.lane, d.seq, d.due_us, d.kind = 2 FROM h JOIN delivery d ON d.k = h.k ORDER BY d.lane"
        ));
        let rows = self.core.readers.all(&sql.bind(participant_key).bind(from).bind(limit)).await;
        rows.and_then(|rows| row::all(&rows, head)).map_err(|error| unavailable(&error))
    }

    pub async fn lane_deliveries(
        &self,
        participant: &str,
        lane: i64,
        after_seq: i64,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<Vec<PendingDelivery>, Unavailable> {
        let Some(participant_key) = self.core.participants.key(participant) else { return Ok(Vec::new()) };
        let which = if lane == UNORDERED { "d.lane = 0 AND d.due_us = 0" } else { "d.lane = $4" };
        let sql = Sql::new(format!(
            "SELECT {PENDING_COLUMNS} FROM {PENDING_TABLES} \
             WHERE d.state = 0{} AND d.participant = $1 AND {which} AND d.seq > $2 ORDER BY d.seq LIMIT $3",
            own_way(bypassing_only)
        ));
        let sql = sql.bind(participant_key).bind(after_seq).bind(limit);
        let sql = if lane == UNORDERED { sql } else { sql.bind(lane) };
        pending(self.core.readers.all(&sql).await)
    }

    pub async fn due_lanes(
        &self,
        participant: &str,
        after: (i64, i64),
        through_us: i64,
        bypassing_only: bool,
        limit: u32,
    ) -> Result<DuePage<LaneHead>, Unavailable> {
        let waiting = format!("d.state = 0{} AND d.participant = $1 AND d.lane <> 0", own_way(bypassing_only));
        let shown = ("d.lane, d.seq, d.due_us, d.kind = 2", "delivery d");
        let rows = self.due(participant, &waiting, shown, (after, through_us, limit));
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
        let waiting = format!("d.state = 0{} AND d.participant = $1 AND d.lane = 0", own_way(bypassing_only));
        let shown = (PENDING_COLUMNS, PENDING_TABLES);
        let rows = self.due(participant, &waiting, shown, (after, through_us, limit));
        due_page(rows.await, limit, row::pending)
    }

    /// The rows that are due, and when the next one is.
    async fn due(
        &self,
        participant: &str,
        waiting: &str,
        (columns, tables): (&str, &str),
        (after, through_us, limit): ((i64, i64), i64, u32),
    ) -> Result<(Vec<PgRow>, Option<i64>), Error> {
        let Some(participant_key) = self.core.participants.key(participant) else { return Ok((Vec::new(), None)) };
        let readers = &self.core.readers;
        let due = Sql::new(format!(
            "SELECT {columns} FROM {tables} \
             WHERE {waiting} AND d.due_us > 0 AND (d.due_us, d.seq) > ($2, $3) AND d.due_us <= $4 \
             ORDER BY d.due_us, d.seq LIMIT $5"
        ));
        let due = due.bind(participant_key).bind(after.0).bind(after.1).bind(through_us).bind(limit);
        let next = format!("SELECT min(d.due_us) FROM delivery d WHERE {waiting} AND d.due_us > 0 AND d.due_us > $2");
        let next = Sql::new(next).bind(participant_key).bind(through_us);
        Ok((readers.all(&due).await?, readers.one(&next).await?.try_get(0)?))
    }

    pub async fn expired(&self, now_us: i64, limit: u32) -> Result<Vec<PendingDelivery>, Unavailable> {
        if self.core.clock.jump().is_some() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {PENDING_COLUMNS} FROM {PENDING_TABLES} \
             WHERE d.state + 0 = 0 AND d.expires_us < $1 ORDER BY d.expires_us LIMIT $2"
        );
        pending(self.core.readers.all(&Sql::new(sql).bind(now_us).bind(limit)).await)
    }
}

fn pending(rows: Result<Vec<PgRow>, Error>) -> Result<Vec<PendingDelivery>, Unavailable> {
    rows.and_then(|rows| row::all(&rows, row::pending)).map_err(|error| unavailable(&error))
}

fn due_page<T>(
    rows: Result<(Vec<PgRow>, Option<i64>), Error>,
    limit: u32,
    read: impl Fn(&PgRow) -> Result<T, Error>,
) -> Result<DuePage<T>, Unavailable> {
    let page = rows.and_then(|(rows, next)| Ok(DuePage::new(row::all(&rows, read)?, next, limit)));
    page.map_err(|error| unavailable(&error))
}

fn head(row: &PgRow) -> Result<LaneHead, Error> {
    let (lane, seq, due_at_us) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(LaneHead { lane, seq, due_at_us, bypasses_channel: row.try_get(3)? })
}

//! Figures of the store, and participants that an operator paused.

use super::Postgres;
use super::error::unavailable;
use super::sql::Sql;
use crate::store::Unavailable;
use crate::store::view::{Figures, ParticipantFigures};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use std::sync::atomic::Ordering;

/// Only the first delivery of a lane ever gets a time to wait for.
const OF_PARTICIPANTS: &str = "\
    SELECT p.id, coalesce(c.waiting, 0)::bigint, coalesce(c.dead, 0)::bigint, \
      CASE WHEN c.waiting > 0 THEN (SELECT count(*) FROM delivery d \
          WHERE d.state = 0 AND d.due_us > 0 AND d.lane <> 0 AND d.participant = p.k) ELSE 0 END, \
      CASE WHEN c.waiting > 0 THEN (SELECT d.created_us FROM delivery d WHERE d.state = 0 AND d.participant = p.k \
          ORDER BY d.seq LIMIT 1) END \
    FROM participant p LEFT JOIN (SELECT participant, sum(waiting) AS waiting, sum(dead) AS dead FROM participant_count \
      GROUP BY participant) c ON c.participant = p.k ORDER BY p.id";

impl Postgres {
    pub async fn paused(&self) -> Result<Vec<String>, Unavailable> {
        self.rows(&Sql::new("SELECT id FROM participant WHERE paused ORDER BY id"), |row| row.try_get(0)).await
    }

    pub async fn figures(&self) -> Result<Figures, Unavailable> {
        self.read_figures().await.map_err(|error| unavailable(&error))
    }

    async fn read_figures(&self) -> Result<Figures, Error> {
        let core = &self.core;
        let rows = core.readers.all(&Sql::new(OF_PARTICIPANTS)).await?;
        let participants = rows.iter().map(of_participant).collect::<Result<_, Error>>()?;
        let sizes =
            "SELECT coalesce((SELECT sum(stored) FROM message_count), 0)::bigint, pg_database_size(current_database())";
        let row = core.readers.one(&Sql::new(sizes)).await?;
        let (messages, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Figures {
            now_us: core.clock.now_us(),
            participants,
            messages: messages.unsigned_abs(),
            commits: core.commits.load(Ordering::Relaxed),
            operations: core.operations.load(Ordering::Relaxed),
            free_bytes: None,
            database_bytes: bytes.unsigned_abs(),
            log_bytes: 0,
        })
    }
}

fn of_participant(row: &PgRow) -> Result<ParticipantFigures, Error> {
    let number = |column: usize| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(ParticipantFigures {
        participant: row.try_get(0)?,
        waiting: number(1)?,
        dead: number(2)?,
        lanes_blocked: number(3)?,
        oldest_waiting_at_us: row.try_get(4)?,
    })
}

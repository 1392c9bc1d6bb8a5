//! The timeline of a message, made from its row, its deliveries, their attempts, and their answers.

use super::error::unavailable;
use super::sql::Sql;
use super::{Postgres, row};
use crate::delivery::{AttemptRow, DeliveryKind, DeliveryState};
use crate::store::view::{ATTEMPTS_SHOWN, TimelineEntry, UNREADABLE_SHOWN};
use crate::store::{Unavailable, codes};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

impl Postgres {
    pub async fn timeline(&self, message_id: Uuid) -> Result<Vec<TimelineEntry>, Unavailable> {
        self.read_timeline(message_id).await.map_err(|error| unavailable(&error))
    }

    async fn read_timeline(&self, message_id: Uuid) -> Result<Vec<TimelineEntry>, Error> {
        let found = Sql::new(
            "SELECT m.k, m.metadata, m.in_reply_to, m.committed_us, a.id, a.committed_us FROM message m \
             LEFT JOIN message a ON a.k = m.router_answer_k WHERE m.id = $1",
        );
        let found = self.core.readers.optional(&found.bind(message_id)).await?;
        let Some(found) = found else { return Ok(Vec::new()) };
        let committed_us: i64 = found.try_get(3)?;
        let metadata = codes::metadata(found.try_get(1)?, found.try_get(2)?)?;
        let mut entries = TimelineEntry::steps(&metadata, committed_us);
        if let Some(answer) = found.try_get::<Option<Uuid>, _>(4)? {
            let at_us = found.try_get::<Option<i64>, _>(5)?.unwrap_or(committed_us);
            entries.push(TimelineEntry { reference: Some(answer), ..TimelineEntry::new(at_us, "answered") });
        }
        let key: i64 = found.try_get(0)?;
        self.attempts(key, &mut entries).await?;
        self.deliveries(key, &mut entries).await?;
        self.unreadable(message_id, &mut entries).await?;
        // The sort is stable: events of the same microsecond stay in the order of the steps.
        entries.sort_by_key(|entry| entry.at_us);
        Ok(entries)
    }

    async fn attempts(&self, message_key: i64, entries: &mut Vec<TimelineEntry>) -> Result<(), Error> {
        let sql = Sql::new(
            "SELECT d.id, p.id, t.started_us, t.duration_us, t.status, t.result, t.fault, t.detail FROM delivery d \
             JOIN participant p ON p.k = d.participant JOIN attempt t ON t.delivery_k = d.k WHERE d.message_k = $1 \
             ORDER BY d.k, t.n LIMIT $2",
        );
        for row in self.core.readers.all(&sql.bind(message_key).bind(ATTEMPTS_SHOWN)).await? {
            let attempt = AttemptRow {
                started_at_us: row.try_get(2)?,
                duration_us: row.try_get(3)?,
                status: row::status(&row, 4)?,
                result: row.try_get(5)?,
                fault: codes::fault(row.try_get(6)?)?,
                detail: row.try_get(7)?,
            };
            let entry = TimelineEntry::new(attempt.started_at_us, "attempt");
            entries.push(TimelineEntry { attempt: Some(attempt), ..of_delivery(&row, entry)? });
        }
        Ok(())
    }

    async fn deliveries(&self, message_key: i64, entries: &mut Vec<TimelineEntry>) -> Result<(), Error> {
        let sql = Sql::new(
            "SELECT d.id, p.id, d.kind, d.kind_json, d.state, d.created_us, d.ended_us, a.id, a.committed_us FROM delivery d \
             JOIN participant p ON p.k = d.participant LEFT JOIN message a ON a.k = d.answer_k WHERE d.message_k = $1 ORDER BY d.k",
        );
        for row in self.core.readers.all(&sql.bind(message_key)).await? {
            if let DeliveryKind::Replay { replay, .. } = codes::kind(row::code(&row, 2)?, row.try_get(3)?)? {
                let entry = of_delivery(&row, TimelineEntry::new(row.try_get(5)?, "replayed"))?;
                entries.push(TimelineEntry { reference: Some(replay), ..entry });
            }
            let state = codes::state(row::code(&row, 4)?)?;
            let ended_us: Option<i64> = row.try_get(6)?;
            if let (DeliveryState::Dead | DeliveryState::Discarded, Some(ended_us)) = (state, ended_us) {
                entries.push(of_delivery(&row, TimelineEntry::new(ended_us, state.as_str()))?);
            }
            if let (Some(answer), Some(at_us)) = (row.try_get(7)?, row.try_get(8)?) {
                let entry = of_delivery(&row, TimelineEntry::new(at_us, "answered"))?;
                entries.push(TimelineEntry { reference: Some(answer), ..entry });
            }
        }
        Ok(())
    }

    /// Answers that could not be read; each is stored as a refused message.
    async fn unreadable(&self, message_id: Uuid, entries: &mut Vec<TimelineEntry>) -> Result<(), Error> {
        let sql =
            Sql::new("SELECT id, committed_us FROM message WHERE in_reply_to = $1 AND state = 1 ORDER BY k LIMIT $2");
        for row in self.core.readers.all(&sql.bind(message_id).bind(UNREADABLE_SHOWN)).await? {
            let entry = TimelineEntry::new(row.try_get(1)?, "unreadable");
            entries.push(TimelineEntry { reference: Some(row.try_get(0)?), ..entry });
        }
        Ok(())
    }
}

fn of_delivery(row: &PgRow, entry: TimelineEntry) -> Result<TimelineEntry, Error> {
    Ok(TimelineEntry { delivery: Some(row.try_get(0)?), participant: row.try_get(1)?, ..entry })
}

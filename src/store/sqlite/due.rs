//! Changes when waiting deliveries are due, other than by an attempt: after the clock was wrong, or for an operator.

use super::Sqlite;
use super::error::unavailable;
use super::insert::json;
use super::row;
use super::writer::Writer;
use crate::store::Unavailable;
use crate::store::lanes::latest_due_times;
use crate::store::view::FirstInLane;
use futures_util::FutureExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use std::collections::HashMap;
use uuid::Uuid;

impl Sqlite {
    pub async fn limit_waits(&self, pauses_us: HashMap<String, i64>) -> Result<u64, Unavailable> {
        let core = &self.core;
        let (keys, times) = latest_due_times(&core.participants.keys(), &pauses_us, core.clock.now_us());
        let limits: Vec<(i64, i64)> = keys.into_iter().zip(times).collect();
        core.write(move |_, writer| limit(writer, limits).boxed()).await
    }
}

impl Sqlite {
    pub async fn make_due(&self, delivery_key: i64) -> Result<bool, Unavailable> {
        let due = self.core.write(move |_, writer| {
            async move {
                let update = sqlx::query("UPDATE delivery SET due_us = 0 WHERE k = ? AND state = 0").bind(delivery_key);
                update.execute(&mut writer.conn).await.map(|done| done.rows_affected() > 0)
            }
            .boxed()
        });
        due.await
    }

    pub async fn first_in_lane(&self, deliveries: &[Uuid]) -> Result<HashMap<Uuid, FirstInLane>, Unavailable> {
        let ids: Vec<String> = deliveries.iter().map(|id| id.simple().to_string()).collect();
        let rows = sqlx::query(
            "SELECT d.id, h.id, h.attempts, h.due_us FROM json_each(?) j CROSS JOIN delivery d ON d.id = unhex(j.value) \
             CROSS JOIN delivery h ON h.k = (SELECT k FROM delivery INDEXED BY delivery_waiting \
                 WHERE state = 0 AND participant = d.participant AND lane = d.lane ORDER BY seq LIMIT 1) \
             WHERE d.state = 0 AND d.lane <> 0 AND h.k <> d.k",
        )
        .bind(json(&ids).map_err(|error| unavailable(&error))?)
        .fetch_all(&self.core.readers)
        .await;
        let first = |row: &SqliteRow| {
            let id = row::uuid(row.try_get(1)?)?;
            Ok((row::uuid(row.try_get(0)?)?, FirstInLane { id, attempts: row.try_get(2)?, due_at_us: row.try_get(3)? }))
        };
        rows.and_then(|rows| rows.iter().map(first).collect()).map_err(|error| unavailable(&error))
    }
}

async fn limit(writer: &mut Writer, limits: Vec<(i64, i64)>) -> Result<u64, Error> {
    let mut changed = 0;
    for (participant_key, latest_us) in limits {
        let update = "UPDATE delivery SET due_us = ?1 WHERE state = 0 AND participant = ?2 AND due_us > ?1";
        let done = sqlx::query(update).bind(latest_us).bind(participant_key).execute(&mut writer.conn).await?;
        changed += done.rows_affected();
    }
    Ok(changed)
}

//! When waiting deliveries are due, changed from outside an attempt: by a clock that was wrong, or by an operator.

use super::writer::Writer;
use super::{Store, Unavailable};
use futures_util::FutureExt;
use sqlx::Error;
use std::collections::HashMap;

/// Longest wait of a delivery to a participant that is not configured: one day, in microseconds.
const UNCONFIGURED_WAIT_US_MOST: i64 = 86_400_000_000;

impl Store {
    /// Brings every waiting delivery's due time to at most its participant's longest pause from now: what lies beyond was
    /// written under a clock that ran ahead. `pauses_us` holds the pauses by participant id, in microseconds. How many
    /// deliveries were changed.
    pub async fn limit_waits(&self, pauses_us: HashMap<String, i64>) -> Result<u64, Unavailable> {
        let core = &self.inner.core;
        let now_us = core.clock.now_us();
        let limits: Vec<(i64, i64)> = core
            .known_parties()
            .iter()
            .map(|(id, key)| (*key, pauses_us.get(&**id).copied().unwrap_or(UNCONFIGURED_WAIT_US_MOST)))
            .map(|(key, pause_us)| (key, now_us.saturating_add(pause_us)))
            .collect();
        core.write(move |_, writer| limit(writer, limits).boxed()).await
    }
}

async fn limit(writer: &mut Writer, limits: Vec<(i64, i64)>) -> Result<u64, Error> {
    let mut changed = 0;
    for (party, latest_us) in limits {
        let update = "UPDATE delivery SET due_us = ?1 WHERE state = 0 AND party = ?2 AND due_us > ?1";
        let done = sqlx::query(update).bind(latest_us).bind(party).execute(&mut writer.conn).await?;
        changed += done.rows_affected();
    }
    Ok(changed)
}

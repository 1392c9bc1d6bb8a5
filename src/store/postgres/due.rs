//! Changes when waiting deliveries are due, other than by an attempt: after the clock was wrong, or for an operator.

use super::Postgres;
use super::error::unavailable;
use super::row;
use super::sql::Sql;
use crate::store::Unavailable;
use crate::store::lanes::latest_due_times;
use crate::store::view::FirstInLane;
use futures_util::FutureExt;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use std::collections::HashMap;
use uuid::Uuid;

impl Postgres {
    pub async fn limit_waits(&self, pauses_us: HashMap<String, i64>) -> Result<u64, Unavailable> {
        let core = &self.core;
        let (keys, times) = latest_due_times(&core.participants.keys(), &pauses_us, core.clock.now_us());
        let update = Sql::new(
            "UPDATE delivery AS d SET due_us = l.latest FROM unnest($1::bigint[], $2::bigint[]) AS l (participant, latest) \
             WHERE d.state = 0 AND d.participant = l.participant AND d.due_us > l.latest",
        );
        let update = update.bind(keys).bind(times);
        core.command(move |conn| {
            let update = update.clone();
            async move { update.execute(conn).await }.boxed()
        })
        .await
    }

    pub async fn make_due(&self, delivery_key: i64) -> Result<bool, Unavailable> {
        self.core.command(move |conn| make_due(delivery_key).changes(conn).boxed()).await
    }

    pub async fn first_in_lane(&self, deliveries: &[Uuid]) -> Result<HashMap<Uuid, FirstInLane>, Unavailable> {
        let sql = Sql::new(
            "SELECT d.id, h.id, h.attempts, h.due_us FROM delivery d JOIN delivery h ON h.k = (SELECT w.k FROM delivery w \
                 WHERE w.state = 0 AND w.participant = d.participant AND w.lane = d.lane ORDER BY w.seq LIMIT 1) \
             WHERE d.id = ANY ($1) AND d.state = 0 AND d.lane <> 0 AND h.k <> d.k",
        );
        let rows = self.core.readers.all(&sql.bind(std::sync::Arc::<[Uuid]>::from(deliveries))).await;
        let first = |row: &PgRow| {
            let first = FirstInLane { id: row.try_get(1)?, attempts: row::count(row, 2)?, due_at_us: row.try_get(3)? };
            Ok((row.try_get(0)?, first))
        };
        let first = rows.and_then(|rows| rows.iter().map(first).collect::<Result<_, Error>>());
        first.map_err(|error| unavailable(&error))
    }
}

fn make_due(delivery_key: i64) -> Sql {
    Sql::new("UPDATE delivery SET due_us = 0 WHERE k = $1 AND state = 0").bind(delivery_key)
}

//! Operator commands: retry dead letters, pause participants, end a status URL, confirm the clock. A backup is made with the
//! tools of PostgreSQL.

use super::plan::ListedTable;
use super::row::{self, PENDING_COLUMNS};
use super::sql::{Sql, Value};
use super::{Postgres, core::COMMAND_SLOT, filter, lookup, time, write};
use crate::delivery::{DeliveryState, PendingDelivery};
use crate::store::put_back::{self, Ended, RETRY_LIMIT};
use crate::store::rows::count_changes;
use crate::store::view::{DeliveryFilter, ViewError};
use crate::store::{OpenError, Unavailable, codes};
use futures_util::FutureExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};
use std::path::Path;
use uuid::Uuid;

impl Postgres {
    pub async fn retry(
        &self,
        filter: &DeliveryFilter,
        limit: u32,
        expire_us: impl Fn(&str) -> i64,
    ) -> Result<Vec<PendingDelivery>, ViewError> {
        const LISTED: ListedTable =
            ListedTable::deliveries("JOIN message m ON m.k = d.message_k JOIN participant p ON p.k = d.participant");
        let core = &self.core;
        let mut conditions = filter::deliveries(core, filter).map_err(ViewError::BadFilter)?;
        conditions.ended();
        conditions.with_body();
        // A search finds them, so that a long one holds no locks; the transaction checks their states again.
        let found = self.search(async {
            let from = LISTED.plan(&conditions, None, &core.searchers).await?.from;
            let (conditions_sql, limit) = (conditions.sql_and([]), limit.min(RETRY_LIMIT));
            let sql = format!("SELECT {PENDING_COLUMNS} FROM {from}{conditions_sql} ORDER BY d.k LIMIT {limit}");
            let sql = Sql::new(sql).bind_all(conditions.values.clone());
            row::all(&core.searchers.all(&sql).await?, row::pending)
        });
        let mut deliveries = found.await?;
        let now_us = core.clock.now_us();
        for delivery in &mut deliveries {
            delivery.expires_at_us = now_us.saturating_add(expire_us(&delivery.participant));
        }
        let retried = core.command(move |conn| put_back(conn, deliveries.clone(), now_us).boxed());
        Ok(retried.await?)
    }

    pub async fn set_paused(&self, participant: &str, paused: bool) -> Result<(), Unavailable> {
        self.core.add_participants([participant]).await?;
        let update = Sql::new("UPDATE participant SET paused = $1 WHERE id = $2").bind(paused).bind(participant);
        self.core.command(move |conn| update.clone().changes(conn).boxed()).await.map(drop)
    }

    pub async fn end_status(&self, message_id: Uuid) -> Result<bool, Unavailable> {
        let update = Sql::new("UPDATE message SET status_ended = true WHERE id = $1").bind(message_id);
        self.core.command(move |conn| update.clone().changes(conn).boxed()).await
    }

    pub async fn confirm_clock(&self) -> Result<(), Unavailable> {
        let core = &self.core;
        core.clock.confirm();
        tracing::warn!(now_us = core.clock.now_us(), "an operator confirmed the clock; expiry and retention continue");
        let Some(save) = time::save(&core.clock) else { return Ok(()) };
        core.command(move |conn| save.clone().changes(conn).boxed()).await.map(drop)
    }

    pub async fn backup(&self, _to: &Path) -> Result<(), OpenError> {
        let text = "the store is in PostgreSQL, whose own tools save it: pg_dump, or a base backup with its log; see docs/backup.md";
        Err(OpenError::Refused(text.into()))
    }
}

async fn put_back(
    conn: &mut PgConnection,
    mut deliveries: Vec<PendingDelivery>,
    now_us: i64,
) -> Result<Vec<PendingDelivery>, Error> {
    let ended = ended(conn, &deliveries).await?;
    deliveries.retain(|delivery| ended.contains_key(&delivery.delivery_key));
    let (tails, mut keys) = lookup::tails(conn, &put_back::lanes(&deliveries, &ended), deliveries.len()).await?;
    put_back::append(&mut deliveries, &ended, tails, || keys.next_seq(now_us));
    let column = |value: fn(&PendingDelivery) -> i64| Value::from(deliveries.iter().map(value).collect::<Vec<i64>>());
    let prev_seqs: Vec<Option<i64>> = deliveries.iter().map(|delivery| delivery.prev_seq).collect();
    let update = Sql::new(
        "UPDATE delivery AS d SET state = 0, uncounted = attempts, seq = c.seq, prev_seq = c.prev_seq, due_us = 0, \
         expires_us = c.expires, ended_us = NULL \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS c (k, seq, prev_seq, expires) WHERE d.k = c.k",
    );
    let update = update.bind(column(|delivery| delivery.delivery_key)).bind(column(|delivery| delivery.seq));
    update.bind(prev_seqs).bind(column(|delivery| delivery.expires_at_us)).execute(conn).await?;
    let changes = ended.into_values().map(|(participant, state)| (participant, Some(state), DeliveryState::Waiting));
    write::counts(conn, &count_changes(changes), COMMAND_SLOT).await?;
    Ok(deliveries)
}

/// Locks those deliveries that are still dead or discarded.
async fn ended(conn: &mut PgConnection, deliveries: &[PendingDelivery]) -> Result<Ended, Error> {
    let keys: Vec<i64> = deliveries.iter().map(|delivery| delivery.delivery_key).collect();
    let sql = "SELECT k, participant, state FROM delivery WHERE state >= 4 AND k = ANY ($1) ORDER BY k FOR UPDATE";
    let rows = Sql::new(sql).bind(keys).all(conn).await?;
    let read = |row: &PgRow| Ok((row.try_get(0)?, (row.try_get(1)?, codes::state(row::code(row, 2)?)?)));
    rows.iter().map(read).collect()
}

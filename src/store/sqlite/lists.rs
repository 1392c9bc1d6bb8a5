//! Lists and single rows for the admin API: messages, deliveries, figures. Read-only.

use super::Sqlite;
use super::error::unavailable;
use super::filter::{self, Bound, Conditions};
use super::insert::json;
use super::plan::{ListedTable, MESSAGES};
use super::row;
use crate::delivery::{DeliveryState, PendingDelivery};
use crate::outcome::Outcome;
use crate::store::Unavailable;
use crate::store::rows;
use crate::store::view::{
    ANSWERS_SHOWN, DeliveryFilter, DeliveryView, Figures, MessageFilter, MessageView, PAGE_LIMIT, PAGE_LIMIT_BYTES,
    Page, ParticipantFigures, ViewError, key_of, shown,
};
use futures_util::{FutureExt, TryStreamExt};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Error, Row};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use uuid::Uuid;

const MESSAGE_COLUMNS: &str = "m.k, m.metadata, m.in_reply_to, m.state, m.committed_us, m.outcome, \
                               EXISTS (SELECT 1 FROM body b WHERE b.message_k = m.k), m.response_flags";

const DELIVERY_COLUMNS: &str = "d.k, d.id, m.id, p.id, d.destination, d.kind, d.kind_json, d.state, d.attempts, \
     CASE d.due_us WHEN 0 THEN d.created_us ELSE d.due_us END, d.expires_us, d.fault, d.status, a.id, d.replay_of, \
     (SELECT group_concat(hex(r.id)) FROM (SELECT id FROM delivery WHERE replay_of = d.id ORDER BY k LIMIT 100) r), \
     t.fault, t.detail, i.issues";

const DELIVERY_JOINS: &str = "JOIN message m ON m.k = d.message_k JOIN participant p ON p.k = d.participant \
                               LEFT JOIN message a ON a.k = d.answer_k \
                               LEFT JOIN attempt t ON t.delivery_k = d.k AND t.n = d.attempts \
                               LEFT JOIN receiver_issues i ON i.delivery_k = d.k";

/// Reads a row of a list.
type View<T> = fn(&SqliteRow) -> Result<T, Error>;

impl Sqlite {
    pub async fn list_messages(
        &self,
        filter: &MessageFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<MessageView>, ViewError> {
        let conditions = filter::messages(&self.core, filter).map_err(ViewError::BadFilter)?;
        let columns = (MESSAGE_COLUMNS, message_view as View<MessageView>);
        self.page(&MESSAGES, columns, conditions, cursor, limit).await
    }

    pub async fn count_messages(&self, filter: &MessageFilter) -> Result<u64, ViewError> {
        let conditions = filter::messages(&self.core, filter).map_err(ViewError::BadFilter)?;
        self.count(&MESSAGES, conditions).await
    }

    pub async fn message(&self, id: Uuid) -> Result<Option<MessageView>, Unavailable> {
        let sql = format!("SELECT {MESSAGE_COLUMNS} FROM message m WHERE m.id = ?");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(row::blob(id));
        self.optional(query, message_view).await
    }

    pub async fn answers_to(&self, id: Uuid) -> Result<Vec<MessageView>, Unavailable> {
        let sql = format!(
            "SELECT {MESSAGE_COLUMNS} FROM message m WHERE m.in_reply_to = ? AND m.state = 0 ORDER BY m.k LIMIT {ANSWERS_SHOWN}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(row::blob(id)).fetch_all(&self.core.readers).await;
        rows.and_then(|rows| rows.iter().map(message_view).collect()).map_err(|error| unavailable(&error))
    }

    pub async fn full_outcome(&self, id: Uuid) -> Result<Option<Outcome>, Unavailable> {
        let sql = "SELECT b.outcome FROM body b JOIN message m ON m.k = b.message_k WHERE m.id = ?";
        let found = self.optional(sqlx::query(sql).bind(row::blob(id)), |row| row::outcome(row.try_get(0)?)).await?;
        Ok(found.flatten())
    }

    pub async fn message_key(&self, id: Uuid) -> Result<Option<i64>, Unavailable> {
        let query = sqlx::query("SELECT k FROM message WHERE id = ?").bind(row::blob(id));
        self.optional(query, |row| row.try_get(0)).await
    }

    pub async fn list_deliveries(
        &self,
        filter: &DeliveryFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<DeliveryView>, ViewError> {
        let conditions = filter::deliveries(&self.core, filter).map_err(ViewError::BadFilter)?;
        const LISTED: ListedTable = ListedTable::deliveries(DELIVERY_JOINS);
        let columns = (DELIVERY_COLUMNS, delivery_view as View<DeliveryView>);
        self.page(&LISTED, columns, conditions, cursor, limit).await
    }

    pub async fn count_deliveries(&self, filter: &DeliveryFilter) -> Result<u64, ViewError> {
        let conditions = filter::deliveries(&self.core, filter).map_err(ViewError::BadFilter)?;
        const LISTED: ListedTable = ListedTable::deliveries("JOIN message m ON m.k = d.message_k");
        self.count(&LISTED, conditions).await
    }

    pub async fn deliveries_of(&self, message_id: Uuid) -> Result<Vec<DeliveryView>, Unavailable> {
        let sql = format!("SELECT {DELIVERY_COLUMNS} FROM delivery d {DELIVERY_JOINS} WHERE m.id = ? ORDER BY d.k");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(row::blob(message_id));
        let rows = query.fetch_all(&self.core.readers).await;
        rows.and_then(|rows| rows.iter().map(delivery_view).collect()).map_err(|error| unavailable(&error))
    }

    /// All deliveries of these messages, by the message's public id, in the order in which they were created.
    pub(in crate::store) async fn deliveries_of_all(
        &self,
        message_keys: &[i64],
    ) -> Result<HashMap<Uuid, Vec<DeliveryView>>, Unavailable> {
        let sql = format!(
            "SELECT {DELIVERY_COLUMNS} FROM delivery d {DELIVERY_JOINS} \
             WHERE d.message_k IN (SELECT value FROM json_each(?)) ORDER BY d.k"
        );
        let keys = json(&message_keys).map_err(|error| unavailable(&error))?;
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(keys).fetch_all(&self.core.readers).await;
        let mut all: HashMap<Uuid, Vec<DeliveryView>> = HashMap::new();
        for row in rows.map_err(|error| unavailable(&error))? {
            let view = delivery_view(&row).map_err(|error| unavailable(&error))?;
            all.entry(view.message).or_default().push(view);
        }
        Ok(all)
    }

    pub async fn pending_delivery(
        &self,
        delivery_id: Uuid,
    ) -> Result<Option<(PendingDelivery, DeliveryState)>, Unavailable> {
        let sql = format!(
            "SELECT {}, d.state FROM delivery d JOIN message m ON m.k = d.message_k JOIN participant p ON p.k = d.participant \
             WHERE d.id = ?",
            row::PENDING_COLUMNS
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(row::blob(delivery_id));
        self.optional(query, |row| Ok((row::pending(row)?, row::state(row.try_get(row::PENDING_COLUMNS_COUNT)?)?)))
            .await
    }

    pub async fn paused(&self) -> Result<Vec<String>, Unavailable> {
        let query = sqlx::query("SELECT id FROM participant WHERE paused = 1 ORDER BY id");
        let rows = query.fetch_all(&self.core.readers).await;
        rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect()).map_err(|error| unavailable(&error))
    }

    pub async fn figures(&self) -> Result<Figures, Unavailable> {
        self.read_figures().await.map_err(|error| unavailable(&error))
    }

    async fn read_figures(&self) -> Result<Figures, Error> {
        let core = &self.core;
        let mut conn = core.readers.acquire().await?;
        // Only the first delivery of a lane ever gets a time to wait for.
        let rows = sqlx::query(
            "SELECT id, waiting, dead, \
             CASE WHEN waiting > 0 THEN (SELECT count(*) FROM delivery INDEXED BY delivery_due \
                 WHERE state = 0 AND due_us > 0 AND lane <> 0 AND participant = p.k) ELSE 0 END, \
             CASE WHEN waiting > 0 THEN (SELECT created_us FROM (SELECT min(seq), created_us FROM delivery \
                 INDEXED BY delivery_waiting WHERE state = 0 AND participant = p.k)) END \
             FROM participant p ORDER BY id",
        )
        .fetch_all(&mut *conn)
        .await?;
        let mut participants = Vec::new();
        for row in rows {
            let (waiting, dead): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            let figures = ParticipantFigures {
                participant: row.try_get(0)?,
                waiting: waiting.unsigned_abs(),
                dead: dead.unsigned_abs(),
                lanes_blocked: row.try_get::<i64, _>(3)?.unsigned_abs(),
                oldest_waiting_at_us: row.try_get(4)?,
            };
            participants.push(figures);
        }
        let sizes = "SELECT coalesce((SELECT max(k) FROM message), 0), \
                     (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)";
        let row = sqlx::query(sizes).fetch_one(&mut *conn).await?;
        let (messages, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Figures {
            now_us: core.clock.now_us(),
            participants,
            messages: messages.unsigned_abs(),
            commits: core.commits.load(Ordering::Relaxed),
            operations: core.operations.load(Ordering::Relaxed),
            free_bytes: core.free_bytes(),
            database_bytes: bytes.unsigned_abs(),
            log_bytes: core.log_bytes(),
        })
    }

    async fn page<T>(
        &self,
        listed: &'static ListedTable,
        (columns, view): (&'static str, View<T>),
        mut conditions: Conditions,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<T>, ViewError>
    where
        T: Send + 'static,
    {
        let (limit, below) = (limit.clamp(1, PAGE_LIMIT), key_of(cursor)?);
        self.complete_terms(&mut conditions).await;
        let page = self.core.search(move |conn| {
            async move {
                let plan = listed.plan(&conditions, conn).await?;
                let below = below.map(|below| format!("{} < {below}", plan.key));
                let conditions_sql = conditions.sql_and(plan.condition.into_iter().chain(below));
                let (from, key, rows) = (plan.from, plan.key, limit + 1);
                let sql = format!("SELECT {columns} FROM {from}{conditions_sql} ORDER BY {key} DESC LIMIT {rows}");
                let mut rows = conditions.bind(sqlx::query(AssertSqlSafe(sql))).fetch(conn);
                let (mut items, mut bytes, mut last) = (Vec::new(), 0, 0_i64);
                while let Some(row) = rows.try_next().await? {
                    if items.len() == limit as usize || bytes >= PAGE_LIMIT_BYTES {
                        return Ok(Page { items, next: Some(last.to_string()) });
                    }
                    bytes += size_bytes(&row);
                    last = row.try_get(0)?;
                    items.push(view(&row)?);
                }
                Ok(Page { items, next: None })
            }
            .boxed()
        });
        page.await
    }

    /// Writes the missing terms before a search by terms; if that fails, the search does not use terms.
    async fn complete_terms(&self, conditions: &mut Conditions) {
        if !conditions.terms.is_empty() && self.core.write_terms().await.is_err() {
            conditions.terms.clear();
        }
    }

    pub(in crate::store) async fn count(
        &self,
        listed: &'static ListedTable,
        mut conditions: Conditions,
    ) -> Result<u64, ViewError> {
        self.complete_terms(&mut conditions).await;
        let count = self.core.search(move |conn| {
            async move {
                let plan = listed.plan(&conditions, conn).await?;
                let sql = format!("SELECT count(*) FROM {}{}", plan.from, conditions.sql_and(plan.condition));
                let query = conditions.bind(sqlx::query(AssertSqlSafe(sql)));
                query.fetch_one(conn).await?.try_get::<i64, _>(0).map(i64::unsigned_abs)
            }
            .boxed()
        });
        count.await
    }

    pub(in crate::store) async fn optional<T>(
        &self,
        query: Bound,
        read: impl FnOnce(&SqliteRow) -> Result<T, Error>,
    ) -> Result<Option<T>, Unavailable> {
        let row = query.fetch_optional(&self.core.readers).await;
        row.and_then(|row| row.as_ref().map(read).transpose()).map_err(|error| unavailable(&error))
    }
}

/// Approximate size of a row in a list: its texts.
fn size_bytes(row: &SqliteRow) -> usize {
    let text = |column| row.try_get::<Option<&str>, _>(column).ok().flatten().map_or(0, str::len);
    (0..row.len()).map(text).sum()
}

fn message_view(row: &SqliteRow) -> Result<MessageView, Error> {
    Ok(MessageView {
        metadata: shown(row::metadata(row.try_get(1)?, row.try_get(2)?)?),
        state: row::message_state(row.try_get(3)?)?,
        committed_at_us: row.try_get(4)?,
        outcome: row::outcome(row.try_get(5)?)?,
        body_kept: row.try_get(6)?,
        ambiguous: row.try_get::<i64, _>(7)? & rows::AMBIGUOUS != 0,
        further: row.try_get::<i64, _>(7)? & rows::FURTHER != 0,
    })
}

fn delivery_view(row: &SqliteRow) -> Result<DeliveryView, Error> {
    let replayed_by: Option<&str> = row.try_get(15)?;
    let replayed_by = replayed_by.into_iter().flat_map(|ids| ids.split(','));
    Ok(DeliveryView {
        id: row::uuid(row.try_get(1)?)?,
        message: row::uuid(row.try_get(2)?)?,
        participant: row.try_get(3)?,
        destination: row.try_get(4)?,
        kind: row::kind(row.try_get(5)?, row.try_get(6)?)?,
        state: row::state(row.try_get(7)?)?,
        attempts: row.try_get(8)?,
        due_at_us: row.try_get(9)?,
        expires_at_us: row.try_get(10)?,
        fault: row::fault(row.try_get(11)?)?,
        status: row.try_get(12)?,
        last_fault: row::fault(row.try_get(16)?)?,
        last_detail: row.try_get(17)?,
        receiver_issues: row::issues(row.try_get(18)?)?,
        answer: row::optional_uuid(row.try_get(13)?)?,
        replay_of: row::optional_uuid(row.try_get(14)?)?,
        waits: None,
        replayed_by: replayed_by.filter_map(|id| Uuid::try_parse(id).ok()).collect(),
    })
}

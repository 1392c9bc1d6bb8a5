//! Deletes what retention has chosen: messages with their deliveries, attempts, references, and terms, or only their bodies.

use super::sql::{Sql, Value};
use super::write::reference_keys;
use super::{core, drop, row, write};
use crate::store::codes;
use crate::store::retention::STEP_COST;
use crate::store::terms::{self, SearchFields};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};

/// Deletes attempts and deliveries of a message that has more of them than one step may delete. True once none is left.
pub(in crate::store) async fn delete_some(conn: &mut PgConnection, message_key: i64) -> Result<bool, Error> {
    let statements = [
        "DELETE FROM attempt WHERE (delivery_k, n) IN (SELECT t.delivery_k, t.n FROM delivery d \
         JOIN attempt t ON t.delivery_k = d.k WHERE d.message_k = $1 LIMIT $2)",
        "DELETE FROM receiver_issues WHERE delivery_k IN (SELECT r.delivery_k FROM delivery d \
         JOIN receiver_issues r ON r.delivery_k = d.k WHERE d.message_k = $1 LIMIT $2)",
    ];
    for statement in statements {
        if Sql::new(statement).bind(message_key).bind(STEP_COST).changes(conn).await? {
            return Ok(false);
        }
    }
    let delivery = "SELECT k, participant, state FROM delivery WHERE message_k = $1 ORDER BY k LIMIT $2";
    let rows = Sql::new(delivery).bind(message_key).bind(STEP_COST).all(conn).await?;
    let keys = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, Error>>()?;
    delete_deliveries(conn, "k", &keys).await.map(|deleted| deleted == 0)
}

pub(in crate::store) async fn delete_traces(
    conn: &mut PgConnection,
    now_us: i64,
    messages: &[i64],
) -> Result<u64, Error> {
    if messages.is_empty() {
        return Ok(0);
    }
    delete_terms(conn, messages).await?;
    let keys = reference_keys(conn, messages).await?;
    delete_references(conn, keys).await?;
    // Those in partitions that will be dropped stay until then.
    let attempts = "DELETE FROM attempt WHERE delivery_k < $2 AND delivery_k IN (SELECT k FROM delivery WHERE message_k = ANY ($1))";
    let below = drop::first_whole(conn, "attempt", now_us).await?;
    Sql::new(attempts).bind(messages).bind(below).execute(conn).await?;
    let issues = "DELETE FROM receiver_issues WHERE delivery_k IN (SELECT k FROM delivery WHERE message_k = ANY ($1))";
    Sql::new(issues).bind(messages).execute(conn).await?;
    delete_deliveries(conn, "message_k", messages).await?;
    Sql::new("DELETE FROM body WHERE message_k = ANY ($1)").bind(messages).execute(conn).await?;
    Sql::new("DELETE FROM message WHERE k = ANY ($1)").bind(messages).execute(conn).await
}

async fn delete_references(conn: &mut PgConnection, keys: [Value; 5]) -> Result<(), Error> {
    // The row does not tell whether its identity was already released.
    let delete = "DELETE FROM reference AS r USING \
                  unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[]) \
                  AS c (hash, sender, kind, content_head, message_k) \
                  WHERE r.hash = c.hash AND r.sender IN (0, c.sender) AND r.kind = c.kind AND r.content_head = c.content_head \
                  AND r.message_k = c.message_k";
    Sql::new(delete).bind_all(keys).execute(conn).await.map(drop)
}

/// Before the attempts and deliveries of these messages are deleted.
async fn delete_terms(conn: &mut PgConnection, messages: &[i64]) -> Result<(), Error> {
    let columns =
        "SELECT k, source, event, response_code, destinations, issue_labels, state FROM message WHERE k = ANY ($1)";
    let mut all: Vec<(i64, i64)> = Vec::new();
    for row in Sql::new(columns).bind(messages).all(conn).await? {
        let key: i64 = row.try_get(0)?;
        all.extend(fields(&row)?.terms().into_iter().map(|term| (term, key)));
    }
    let faults = "SELECT d.message_k, t.fault FROM delivery d JOIN attempt t ON t.delivery_k = d.k \
                  WHERE d.message_k = ANY ($1) AND t.fault IS NOT NULL \
                  UNION SELECT message_k, fault FROM delivery WHERE message_k = ANY ($1) AND fault IS NOT NULL";
    for row in Sql::new(faults).bind(messages).all(conn).await? {
        all.push((terms::issue_label(row.try_get(1)?), row.try_get(0)?));
    }
    let (hashes, keys): (Vec<i64>, Vec<i64>) = all.into_iter().unzip();
    let delete = "DELETE FROM term AS t USING unnest($1::bigint[], $2::bigint[]) AS c (hash, message_k) \
                  WHERE t.hash = c.hash AND t.message_k = c.message_k";
    Sql::new(delete).bind(hashes).bind(keys).execute(conn).await.map(drop)
}

fn fields(row: &PgRow) -> Result<SearchFields<'_>, Error> {
    Ok(SearchFields {
        source: row.try_get(1)?,
        event: row.try_get(2)?,
        response_code: row.try_get(3)?,
        destinations: row.try_get(4)?,
        issue_labels: row.try_get(5)?,
        state: codes::message_state(row::code(row, 6)?)?,
    })
}

/// Issues that receivers wrote about these messages may quote them.
pub(in crate::store) async fn delete_bodies(conn: &mut PgConnection, messages: &[i64]) -> Result<u64, Error> {
    if messages.is_empty() {
        return Ok(0);
    }
    let issues = "DELETE FROM receiver_issues WHERE delivery_k IN (SELECT k FROM delivery WHERE message_k = ANY ($1))";
    Sql::new(issues).bind(messages).execute(conn).await?;
    Sql::new("DELETE FROM body WHERE message_k = ANY ($1)").bind(messages).execute(conn).await
}

/// Deletes deliveries that have ended, and counts those that were dead.
async fn delete_deliveries(conn: &mut PgConnection, column: &str, keys: &[i64]) -> Result<u64, Error> {
    let delete = format!(
        "WITH gone AS (DELETE FROM delivery WHERE {column} = ANY ($1) RETURNING participant, state) \
         SELECT participant, count(*), count(*) FILTER (WHERE state = 4) FROM gone GROUP BY participant ORDER BY participant"
    );
    let (mut deleted, mut counts) = (0, Vec::new());
    for row in Sql::new(delete).bind(keys).all(conn).await? {
        deleted += row.try_get::<i64, _>(1)?.unsigned_abs();
        counts.push((row.try_get(0)?, 0, -row.try_get::<i64, _>(2)?));
    }
    write::counts(conn, &counts, core::UPKEEP_SLOT).await?;
    Ok(deleted)
}

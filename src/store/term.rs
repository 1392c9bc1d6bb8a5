//! Terms: what messages are searched by, as hashes in an index of their own.
//!
//! A term narrows a search down to messages that may match; the conditions on their rows decide. The hash is part of the
//! stored format and never changes.

use super::insert::json;
use super::reference::head;
use super::writer::Writer;
use crate::delivery::MessageState;
use crate::fhir::Fault;
use sha2::{Digest, Sha256};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Error, Row};

/// What a message is searched by, as its row has it.
pub(super) struct Searched<'m> {
    pub source: Option<&'m str>,
    pub event: Option<&'m str>,
    pub response_code: Option<&'m str>,
    /// Each between line feeds.
    pub destinations: &'m str,
    /// Each between spaces.
    pub marks: Option<&'m str>,
    pub state: MessageState,
}

/// Terms with their messages.
type Terms = Vec<(i64, i64)>;

const COLUMNS: &str = "k, source, event, response_code, destinations, marks, state";

/// Rows that one step of filling the index reads.
const FILL_ROWS: i64 = 1_000;

impl Searched<'_> {
    /// Each term once.
    pub fn terms(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.destinations.lines().filter(|line| !line.is_empty()).map(destination).collect();
        all.extend(self.marks.into_iter().flat_map(|marks| marks.split_whitespace().map(mark)));
        all.extend(self.source.map(source));
        all.extend(self.event.map(event));
        all.extend(self.response_code.map(response_code));
        all.extend((self.state == MessageState::Refused).then(refused));
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn term(kind: &str, value: &str) -> i64 {
    head(&Sha256::new().chain_update(kind).chain_update([0]).chain_update(value).finalize())
}

pub(super) fn destination(value: &str) -> i64 {
    term("destination", value)
}

pub(super) fn source(value: &str) -> i64 {
    term("source", value)
}

/// By the code of `system|code`, so that it is found with and without its system.
pub(super) fn event(value: &str) -> i64 {
    term("event", value.rsplit('|').next().unwrap_or(value))
}

pub(super) fn response_code(value: &str) -> i64 {
    term("response", value)
}

/// A fault, an issue code or a rule of its outcome, or a fault of one of its deliveries.
pub(super) fn mark(value: &str) -> i64 {
    term("mark", value)
}

pub(super) fn fault(fault: Fault) -> i64 {
    mark(fault.code())
}

pub(super) fn refused() -> i64 {
    term("refused", "")
}

/// Writes the terms of all that an earlier version stored.
pub(super) async fn fill(conn: &mut SqliteConnection) -> Result<(), Error> {
    let messages = format!("SELECT {COLUMNS} FROM message WHERE k > ? ORDER BY k LIMIT ?");
    fill_from(conn, messages, of_row).await?;
    let faults = "SELECT k, message_k, fault FROM delivery WHERE k > ? AND fault IS NOT NULL ORDER BY k LIMIT ?";
    fill_from(conn, faults.to_owned(), |row| Ok(vec![(mark(row.try_get(2)?), row.try_get(1)?)])).await
}

async fn fill_from(
    conn: &mut SqliteConnection,
    sql: String,
    terms_of: fn(&SqliteRow) -> Result<Terms, Error>,
) -> Result<(), Error> {
    let mut after = i64::MIN;
    loop {
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(after).bind(FILL_ROWS);
        let rows = query.fetch_all(&mut *conn).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.try_get(0)?;
        let mut terms = Vec::new();
        for row in &rows {
            terms.extend(terms_of(row)?);
        }
        terms.sort_unstable();
        let insert = "INSERT OR IGNORE INTO term (h, message_k) SELECT value->>0, value->>1 FROM json_each(?)";
        sqlx::query(insert).bind(json(&terms)?).execute(&mut *conn).await?;
    }
}

fn of_row(row: &SqliteRow) -> Result<Terms, Error> {
    let key = row.try_get(0)?;
    let searched = Searched {
        source: row.try_get(1)?,
        event: row.try_get(2)?,
        response_code: row.try_get(3)?,
        destinations: row.try_get(4)?,
        marks: row.try_get(5)?,
        state: super::row::message_state(row.try_get(6)?)?,
    };
    Ok(searched.terms().into_iter().map(|term| (term, key)).collect())
}

/// Drops the terms of messages, before their attempts, deliveries and rows are dropped.
pub(super) async fn drop_terms(writer: &mut Writer, messages: &[i64]) -> Result<(), Error> {
    let messages = json(&messages)?;
    let sql = format!("SELECT {COLUMNS} FROM message WHERE k IN (SELECT value FROM json_each(?))");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(messages.clone()).fetch_all(&mut writer.conn).await?;
    let mut terms = Vec::new();
    for row in &rows {
        terms.extend(of_row(row)?);
    }
    let faults = "SELECT DISTINCT d.message_k, t.fault FROM json_each(?) AS j \
                  CROSS JOIN delivery d ON d.message_k = j.value CROSS JOIN attempt t ON t.delivery_k = d.k \
                  WHERE t.fault IS NOT NULL \
                  UNION SELECT message_k, fault FROM delivery \
                  WHERE message_k IN (SELECT value FROM json_each(?)) AND fault IS NOT NULL";
    let faults = sqlx::query(faults).bind(messages.clone()).bind(messages).fetch_all(&mut writer.conn).await?;
    for row in &faults {
        terms.push((mark(row.try_get(1)?), row.try_get(0)?));
    }
    let delete = "DELETE FROM term WHERE (h, message_k) IN (SELECT value->>0, value->>1 FROM json_each(?))";
    sqlx::query(delete).bind(json(&terms)?).execute(&mut writer.conn).await.map(drop)
}

//! The index of terms (`store::terms`).
//!
//! Terms are written later than the messages, many at a time and sorted: written with each message, they would touch about one
//! page per term. A search first writes the missing terms, also those that a crash left unwritten.

use super::bulk::MANY_ROWS;
use super::insert::json;
use super::progress;
use crate::store::terms::{SearchFields, issue_label};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Error, Row};

/// Terms with their messages.
type Terms = Vec<(i64, i64)>;

pub(in crate::store) const COLUMNS: &str = "k, source, event, response_code, destinations, issue_labels, state";
/// The same columns as they were called in schema version 9.
pub(in crate::store) const COLUMNS_OF_VERSION_9: &str = "k, source, event, response_code, destinations, marks, state";

/// Rows that one query reads to fill the index.
const FILL_ROWS: i64 = 1_000;
/// Messages after which the terms in memory are sorted, to be written in a round of slices.
const MESSAGES_PER_ROUND: usize = 1_024;
/// A batch writes a slice of the round: at least so many terms, and at least this share of the round, so that a round takes at
/// most 16 batches, whose terms are the next round. All terms at once made one batch in fifty take five times as long as the
/// others.
const TERMS_PER_SLICE: usize = MANY_ROWS;
const SLICES_PER_ROUND: usize = 16;
/// The row of `progress` that says up to which message terms are written.
pub(in crate::store) const PROGRESS: &str = "terms";

/// Terms of stored messages that are not written yet.
#[derive(Default)]
pub(in crate::store) struct UnwrittenTerms {
    /// Those that wait for the next round.
    terms: Terms,
    /// The newest message with terms there.
    newest: i64,
    messages: usize,
    /// The rest of the round, in descending order.
    round: Terms,
    slice_terms: usize,
    /// The newest message with terms in the round.
    round_newest: i64,
    /// A transaction failed; only the store tells whether its messages are stored.
    is_stale: bool,
}

impl UnwrittenTerms {
    /// Terms that the last run left unwritten are written with the first ones of this run: a start needs no free disk space.
    pub fn at_start() -> UnwrittenTerms {
        UnwrittenTerms { is_stale: true, ..UnwrittenTerms::default() }
    }

    /// Adds the terms of a committed transaction, with its newest message.
    pub fn add(&mut self, terms: Terms, newest: i64, messages: usize) {
        self.terms.extend(terms);
        self.newest = self.newest.max(newest);
        self.messages += messages;
    }

    /// A transaction failed: the terms of what it stored are read from the store.
    pub fn invalidate(&mut self) {
        self.is_stale = true;
    }

    fn begin_round(&mut self) {
        self.round = std::mem::take(&mut self.terms);
        self.round.sort_unstable_by(|one, other| other.cmp(one));
        self.slice_terms = self.round.len().div_ceil(SLICES_PER_ROUND).max(TERMS_PER_SLICE);
        self.round_newest = self.newest;
        self.messages = 0;
    }
}

/// Writes the next slice of terms, if enough wait, in the caller's transaction. If that one fails, they are read from the store.
pub(in crate::store) async fn write_slice(
    conn: &mut SqliteConnection,
    unwritten: &mut UnwrittenTerms,
) -> Result<(), Error> {
    let is_due = unwritten.messages >= MESSAGES_PER_ROUND;
    if unwritten.is_stale {
        return if is_due { write_missing(conn, unwritten).await } else { Ok(()) };
    }
    if unwritten.round.is_empty() {
        if !is_due {
            return Ok(());
        }
        unwritten.begin_round();
    }
    let from = unwritten.round.len().saturating_sub(unwritten.slice_terms);
    let mut slice = unwritten.round.split_off(from);
    slice.reverse();
    super::insert::write_terms(conn, &mut slice).await?;
    if unwritten.round.is_empty() { progress::save(conn, PROGRESS, unwritten.round_newest).await } else { Ok(()) }
}

/// Writes the terms of all stored messages that have none yet, in the caller's transaction, and forgets them. If that one fails,
/// they are read from the store.
pub(in crate::store) async fn write_missing(
    conn: &mut SqliteConnection,
    unwritten: &mut UnwrittenTerms,
) -> Result<(), Error> {
    let UnwrittenTerms { mut terms, round, newest, is_stale, .. } = std::mem::take(unwritten);
    if is_stale {
        let written = progress::read(conn, PROGRESS).await?;
        let newest = fill_messages(conn, written).await?;
        return progress::save(conn, PROGRESS, newest).await;
    }
    if newest == 0 {
        return Ok(());
    }
    terms.extend(round);
    terms.sort_unstable();
    super::insert::write_terms(conn, &mut terms).await?;
    progress::save(conn, PROGRESS, newest).await
}

/// Writes the terms of everything that a schema version before terms stored.
/// `columns`: as the schema calls them at this version.
pub(in crate::store) async fn fill(conn: &mut SqliteConnection, columns: &str) -> Result<(), Error> {
    fill_from(conn, messages_after(columns), of_row, i64::MIN).await?;
    let faults = "SELECT k, message_k, fault FROM delivery WHERE k > ? AND fault IS NOT NULL ORDER BY k LIMIT ?";
    let of_row = |row: &SqliteRow| Ok(vec![(issue_label(row.try_get(2)?), row.try_get(1)?)]);
    fill_from(conn, faults.to_owned(), of_row, i64::MIN).await.map(drop)
}

/// Writes the terms of the messages after this key. Returns the newest of them, or `after`.
async fn fill_messages(conn: &mut SqliteConnection, after: i64) -> Result<i64, Error> {
    fill_from(conn, messages_after(COLUMNS), of_row, after).await
}

fn messages_after(columns: &str) -> String {
    format!("SELECT {columns} FROM message WHERE k > ? ORDER BY k LIMIT ?")
}

async fn fill_from(
    conn: &mut SqliteConnection,
    sql: String,
    terms_of: fn(&SqliteRow) -> Result<Terms, Error>,
    mut after: i64,
) -> Result<i64, Error> {
    loop {
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(after).bind(FILL_ROWS);
        let rows = query.fetch_all(&mut *conn).await?;
        let Some(last) = rows.last() else { return Ok(after) };
        after = last.try_get(0)?;
        let mut terms = Vec::new();
        for row in &rows {
            terms.extend(terms_of(row)?);
        }
        terms.sort_unstable();
        let insert = "INSERT OR IGNORE INTO term SELECT value->>0, value->>1 FROM json_each(?)";
        sqlx::query(insert).bind(json(&terms)?).execute(&mut *conn).await?;
    }
}

fn of_row(row: &SqliteRow) -> Result<Terms, Error> {
    let key = row.try_get(0)?;
    let fields = SearchFields {
        source: row.try_get(1)?,
        event: row.try_get(2)?,
        response_code: row.try_get(3)?,
        destinations: row.try_get(4)?,
        issue_labels: row.try_get(5)?,
        state: super::row::message_state(row.try_get(6)?)?,
    };
    Ok(fields.terms().into_iter().map(|term| (term, key)).collect())
}

/// Deletes the terms of messages, before their attempts, deliveries, and rows are deleted.
pub(in crate::store) async fn delete_messages(
    conn: &mut SqliteConnection,
    unwritten: &mut UnwrittenTerms,
    messages: &[i64],
) -> Result<(), Error> {
    // Otherwise they would be written after their messages were deleted.
    if messages.iter().max() > Some(&progress::read(conn, PROGRESS).await?) {
        write_missing(conn, unwritten).await?;
    }
    let messages = json(&messages)?;
    let sql = format!("SELECT {COLUMNS} FROM message WHERE k IN (SELECT value FROM json_each(?))");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(messages.clone()).fetch_all(&mut *conn).await?;
    let mut terms = Vec::new();
    for row in &rows {
        terms.extend(of_row(row)?);
    }
    let faults = "SELECT DISTINCT d.message_k, t.fault FROM json_each(?) AS j \
                  CROSS JOIN delivery d ON d.message_k = j.value CROSS JOIN attempt t ON t.delivery_k = d.k \
                  WHERE t.fault IS NOT NULL \
                  UNION SELECT message_k, fault FROM delivery \
                  WHERE message_k IN (SELECT value FROM json_each(?)) AND fault IS NOT NULL";
    let faults = sqlx::query(faults).bind(messages.clone()).bind(messages).fetch_all(&mut *conn).await?;
    for row in &faults {
        terms.push((issue_label(row.try_get(1)?), row.try_get(0)?));
    }
    let delete = "DELETE FROM term WHERE (hash, message_k) IN (SELECT value->>0, value->>1 FROM json_each(?))";
    sqlx::query(delete).bind(json(&terms)?).execute(conn).await.map(drop)
}

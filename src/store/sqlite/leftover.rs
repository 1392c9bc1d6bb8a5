//! References of messages that retention has deleted, or whose identities it has released: the table changes later than the
//! messages.
//!
//! The table is sorted by hash, so every reference of a message is on a page of its own, and changing them with each message wrote
//! more pages than everything else. Instead a pass over the whole table, in bounded slices and in the order of the table, changes
//! many on each page once there are many of them. Until then look-ups find rows of messages that are gone, and therefore read the
//! messages, too; the age of a message tells that its identity is released.

use super::progress;
use crate::store::retention::IDENTITIES_PROGRESS;
use crate::store::rows::ReferenceRow;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Error, Row};

/// The row of `progress` with the newest deleted message that may have left references.
pub(in crate::store) const NEWEST: &str = "leftover_newest";
/// The row of `progress` that counts the messages whose references a pass has to change.
const MESSAGES: &str = "leftover_messages";
/// A pass begins when they are an eighth of all messages: then it goes over about 30 rows for each of them.
const SHARE: i64 = 8;

/// How far a pass has come.
#[derive(Clone, Copy)]
pub(in crate::store) struct Pass {
    after: ReferenceRow,
    /// Of how many messages it changes the references. Those of others may be behind it already.
    messages: i64,
}

/// Notes that these messages were deleted, in the caller's transaction.
pub(in crate::store) async fn add_deleted(conn: &mut SqliteConnection, messages: &[i64]) -> Result<(), Error> {
    let Some(newest) = messages.iter().max() else { return Ok(()) };
    let save = "INSERT INTO progress (name, value) VALUES (?, ?) \
                ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)";
    sqlx::query(save).bind(NEWEST).bind(newest).execute(&mut *conn).await?;
    add_released(conn, messages.len()).await
}

/// Notes that so many identities were released, in the caller's transaction.
pub(in crate::store) async fn add_released(conn: &mut SqliteConnection, messages: usize) -> Result<(), Error> {
    count(conn, i64::try_from(messages).unwrap_or(i64::MAX)).await
}

async fn count(conn: &mut SqliteConnection, messages: i64) -> Result<(), Error> {
    let save = "INSERT INTO progress (name, value) VALUES (?, ?) \
                ON CONFLICT (name) DO UPDATE SET value = value + excluded.value";
    sqlx::query(save).bind(MESSAGES).bind(messages).execute(conn).await.map(drop)
}

/// A new pass if one is due.
pub(in crate::store) async fn due(conn: &mut SqliteConnection) -> Result<Option<Pass>, Error> {
    let messages = progress::read(conn, MESSAGES).await?;
    // Imported messages have negative keys with large gaps.
    let stored = "SELECT coalesce((SELECT max(k) FROM message) - (SELECT min(k) FROM message WHERE k > 0), 0)";
    let stored: i64 = sqlx::query(stored).fetch_one(&mut *conn).await?.try_get(0)?;
    Ok((messages > stored / SHARE).then_some(Pass { after: ReferenceRow::LEAST, messages }))
}

/// Goes over the next rows of the table, in the caller's transaction. Returns how many it has changed, and the rest of the pass.
pub(in crate::store) async fn go_on(
    conn: &mut SqliteConnection,
    pass: Pass,
    rows: u32,
) -> Result<(u64, Option<Pass>), Error> {
    let last = "SELECT hash, sender, kind, content_head, message_k FROM reference \
                WHERE (hash, sender, kind, content_head, message_k) > (?, ?, ?, ?, ?) \
                ORDER BY hash, sender, kind, content_head, message_k LIMIT 1 OFFSET ?";
    let row = bind(sqlx::query(last), &pass.after).bind(rows.saturating_sub(1)).fetch_optional(&mut *conn).await?;
    let last = row.map(|row| {
        let read = |column| row.try_get(column);
        Ok::<_, Error>(ReferenceRow {
            hash: read(0)?,
            sender: read(1)?,
            kind: read(2)?,
            content: read(3)?,
            message_key: read(4)?,
        })
    });
    let last = last.transpose()?;
    let until = last.unwrap_or(ReferenceRow::MOST);
    let changed = remove_deleted(conn, &pass.after, &until).await? + release(conn, &pass.after, &until).await?;
    if last.is_some() {
        return Ok((changed, Some(Pass { after: until, ..pass })));
    }
    count(conn, -pass.messages).await?;
    Ok((changed, None))
}

/// Goes over the whole table, in the caller's transaction.
pub(in crate::store) async fn finish(conn: &mut SqliteConnection) -> Result<(), Error> {
    let messages = progress::read(conn, MESSAGES).await?;
    go_on(conn, Pass { after: ReferenceRow::LEAST, messages }, u32::MAX).await.map(drop)
}

const RANGE: &str = "(hash, sender, kind, content_head, message_k) > (?, ?, ?, ?, ?) \
                     AND (hash, sender, kind, content_head, message_k) <= (?, ?, ?, ?, ?)";

async fn remove_deleted(conn: &mut SqliteConnection, after: &ReferenceRow, until: &ReferenceRow) -> Result<u64, Error> {
    // Most rows belong to messages that are too new to be deleted: these are not looked for.
    let delete = format!(
        "DELETE FROM reference WHERE {RANGE} AND message_k <= (SELECT value FROM progress WHERE name = ?) \
         AND NOT EXISTS (SELECT 1 FROM message WHERE k = message_k)"
    );
    let query = bind(bind(sqlx::query(sqlx::AssertSqlSafe(delete)), after), until).bind(NEWEST);
    Ok(query.execute(conn).await?.rows_affected())
}

async fn release(conn: &mut SqliteConnection, after: &ReferenceRow, until: &ReferenceRow) -> Result<u64, Error> {
    let update = format!(
        "UPDATE OR REPLACE reference SET sender = 0 WHERE {RANGE} AND sender <> 0 \
         AND message_k <= (SELECT value FROM progress WHERE name = ?)"
    );
    let query = bind(bind(sqlx::query(sqlx::AssertSqlSafe(update)), after), until).bind(IDENTITIES_PROGRESS);
    Ok(query.execute(conn).await?.rows_affected())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn bind<'q>(query: Query<'q>, row: &ReferenceRow) -> Query<'q> {
    query.bind(row.hash).bind(row.sender).bind(row.kind).bind(row.content).bind(row.message_key)
}

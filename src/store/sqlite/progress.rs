//! How far work that goes on step by step has come: one row of `progress` per kind of work, with the key of the last message done.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Error, Row};

/// The last message done; 0 before the first.
pub(in crate::store) async fn read(conn: &mut SqliteConnection, name: &str) -> Result<i64, Error> {
    let row =
        sqlx::query("SELECT value FROM progress WHERE name = ?").bind(name.to_owned()).fetch_optional(conn).await?;
    row.map_or(Ok(0), |row| row.try_get(0))
}

/// In the caller's transaction.
pub(in crate::store) async fn save(conn: &mut SqliteConnection, name: &str, last: i64) -> Result<(), Error> {
    let save = "INSERT OR REPLACE INTO progress (name, value) VALUES (?, ?)";
    sqlx::query(save).bind(name.to_owned()).bind(last).execute(conn).await.map(drop)
}

/// The key of the newest message; 0 if there is none.
pub(in crate::store) async fn newest_message(conn: &mut SqliteConnection) -> Result<i64, Error> {
    sqlx::query("SELECT coalesce(max(k), 0) FROM message").fetch_one(conn).await?.try_get(0)
}

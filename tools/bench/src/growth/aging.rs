//! Makes messages of a stopped router older than they are, so that its retention has something to delete.

use std::path::Path;

use anyhow::Result;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

const DAY_US: i64 = 86_400_000_000;

/// Moves the times of the older half of the messages and of their deliveries back by `days`.
pub fn make_older_half_old(database: &Path, days: u32) -> Result<()> {
    runtime()?.block_on(async {
        let mut connection = connect(database).await?;
        let by = i64::from(days) * DAY_US;
        let half: i64 =
            sqlx::query_scalar("SELECT k FROM message ORDER BY k LIMIT 1 OFFSET (SELECT count(*) FROM message) / 2")
                .fetch_one(&mut connection)
                .await?;
        for statement in [
            "UPDATE message SET received_us = received_us - ?1, committed_us = committed_us - ?1 WHERE k < ?2",
            "UPDATE delivery SET created_us = created_us - ?1, ended_us = ended_us - ?1 WHERE message_k < ?2",
        ] {
            sqlx::query(statement).bind(by).bind(half).execute(&mut connection).await?;
        }
        Ok(())
    })
}

/// How many messages are still older than half of `days`.
pub fn old_messages_left(database: &Path, days: u32) -> Result<u64> {
    runtime()?.block_on(async {
        let mut connection = connect(database).await?;
        let sql = "SELECT count(*) FROM message WHERE received_us < (SELECT max(received_us) FROM message) - ?1";
        let left: i64 = sqlx::query_scalar(sql).bind(i64::from(days) * DAY_US / 2).fetch_one(&mut connection).await?;
        Ok(u64::try_from(left)?)
    })
}

async fn connect(database: &Path) -> Result<SqliteConnection> {
    Ok(SqliteConnectOptions::new().filename(database).connect().await?)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

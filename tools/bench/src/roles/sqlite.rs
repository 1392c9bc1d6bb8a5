//! Bare durable commits: rows of a message's size into one table of an SQLite database that waits for the disk at
//! each commit.
//!
//! One connection, write-ahead log, `synchronous=FULL`: the best that disk and SQLite allow, through the same sqlx
//! as the store.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection};

use super::{Measured, RoleArgs, WARM_UP, percentiles};
use crate::message::{MAILBOX_ADDRESS, SENDER_ADDRESS, Template};
use crate::proc::Usage;

/// Commits for `time` after the warm-up, `width` rows each, and prints the measurements.
pub async fn run(args: RoleArgs, time: Duration) -> Result<()> {
    let path = args.folder.join("baseline.db");
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // As the store does: with the default of 1,000 pages the log would be checkpointed far more often.
        .pragma("wal_autocheckpoint", "10000")
        .connect()
        .await?;
    sqlx::query("CREATE TABLE message (key INTEGER PRIMARY KEY, body BLOB NOT NULL)").execute(&mut connection).await?;
    let insert = format!("INSERT INTO message (body) VALUES {}", vec!["(?)"; args.width].join(","));
    let row = Template::new(args.size_bytes, SENDER_ADDRESS, MAILBOX_ADDRESS)
        .fill(uuid::Uuid::new_v4(), uuid::Uuid::new_v4());

    let warm = commit_for(&mut connection, &insert, &row, (args.width, WARM_UP)).await?;
    println!("measuring");
    let before = Usage::of(std::process::id())?;
    let begun = Instant::now();
    let mut latencies_us = commit_for(&mut connection, &insert, &row, (args.width, time)).await?;
    let elapsed = begun.elapsed();
    let used = Usage::of(std::process::id())?.since(before);

    let (p50_us, p99_us) = percentiles(&mut latencies_us);
    let rows = |commits: usize| (commits * args.width) as u64;
    let measured = Measured {
        messages: rows(latencies_us.len()),
        messages_in_all: rows(warm.len() + latencies_us.len()),
        elapsed_us: elapsed.as_micros() as u64,
        p50_us,
        p99_us,
        cpu_us: used.cpu_us,
        written_bytes: used.written_bytes,
        ..Measured::default()
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// The duration of each commit, in microseconds.
async fn commit_for(
    connection: &mut SqliteConnection,
    insert: &str,
    row: &[u8],
    (width, time): (usize, Duration),
) -> Result<Vec<u32>> {
    let until = Instant::now() + time;
    let mut latencies_us = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        let mut statement = sqlx::query(AssertSqlSafe(insert.to_owned()));
        for _ in 0..width {
            statement = statement.bind(row);
        }
        statement.execute(&mut *connection).await?;
        latencies_us.push(begun.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
    }
    Ok(latencies_us)
}

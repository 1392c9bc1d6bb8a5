//! Bare durable commits: rows of a message's size into one table of an SQLite database that waits for the disk at
//! each commit.
//!
//! One connection, write-ahead log, `synchronous=FULL`: the best that disk and SQLite allow, through the same sqlx
//! as the store.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection};

use super::{Measured, RoleArgs};
use crate::latency::Latencies;
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

    let warm = commit_for(&mut connection, &insert, &row, (args.width, args.warm_up())).await?;
    println!("measuring");
    let before = Usage::of(std::process::id())?;
    let begun = Instant::now();
    let latencies = commit_for(&mut connection, &insert, &row, (args.width, time)).await?;
    let elapsed = begun.elapsed();
    let used = Usage::of(std::process::id())?.since(&before);

    let rows = |commits: u64| commits * args.width as u64;
    let measured = Measured {
        messages: rows(latencies.count()),
        messages_in_all: rows(warm.count() + latencies.count()),
        elapsed_us: elapsed.as_micros() as u64,
        latency: latencies.summary(),
        cpu_us: used.cpu_us,
        written_bytes: used.written_bytes,
        ..Measured::default()
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// The duration of each commit.
async fn commit_for(
    connection: &mut SqliteConnection,
    insert: &str,
    row: &[u8],
    (width, time): (usize, Duration),
) -> Result<Latencies> {
    let until = Instant::now() + time;
    let mut latencies = Latencies::new()?;
    while Instant::now() < until {
        let begun = Instant::now();
        let mut statement = sqlx::query(AssertSqlSafe(insert.to_owned()));
        for _ in 0..width {
            statement = statement.bind(row);
        }
        statement.execute(&mut *connection).await?;
        latencies.record(begun.elapsed());
    }
    Ok(latencies)
}

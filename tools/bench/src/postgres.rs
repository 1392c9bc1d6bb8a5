//! Databases of a running PostgreSQL for the routers that are measured, one per run, and what its write-ahead log (WAL)
//! grew by.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tokio::runtime::Runtime;

const DAY_US: i64 = 86_400_000_000;

/// A database for one run. It is dropped with the value.
pub struct Database {
    runtime: Runtime,
    options: PgConnectOptions,
    name: String,
    /// The URL for the router.
    pub url: String,
}

/// Counters of the server since its start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wal {
    pub bytes: f64,
    pub full_page_images: f64,
    pub fsyncs: f64,
}

impl Wal {
    pub fn since(self, before: Wal) -> Wal {
        Wal {
            bytes: self.bytes - before.bytes,
            full_page_images: self.full_page_images - before.full_page_images,
            fsyncs: self.fsyncs - before.fsyncs,
        }
    }
}

impl Database {
    /// Creates an empty database on the server of `url`, whose role must be a superuser. Errs if that fails.
    pub fn create(url: &str) -> Result<Database> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("emberpost_bench_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let options = PgConnectOptions::from_str(url).context("--postgres is not a URL of PostgreSQL")?;
        let options = options.disable_statement_logging();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let url = with_database(url, &name).context("--postgres must end with a database, such as /postgres")?;
        let create = execute(&options, format!("CREATE DATABASE {name}"));
        runtime.block_on(create).context("cannot create a database")?;
        Ok(Database { runtime, options, name, url })
    }

    /// The counters of `pg_stat_wal`.
    pub fn wal(&self) -> Result<Wal> {
        self.runtime.block_on(async {
            let mut connection = connect(&self.options).await?;
            let sql = "SELECT wal_bytes::float8, wal_fpi::float8, wal_sync::float8 FROM pg_stat_wal";
            let row = sqlx::query(sql).fetch_one(&mut connection).await?;
            Ok(Wal { bytes: row.try_get(0)?, full_page_images: row.try_get(1)?, fsyncs: row.try_get(2)? })
        })
    }

    /// Whether the server writes an image of each page that changes first after a checkpoint.
    pub fn set_full_page_writes(&self, is_on: bool) -> Result<()> {
        self.run(&format!("ALTER SYSTEM SET full_page_writes = {is_on}"))?;
        self.run("SELECT pg_reload_conf()")
    }

    pub fn size_bytes(&self) -> Result<u64> {
        self.number("SELECT pg_database_size(current_database())")
    }

    /// Moves the times of the older half of the messages and of their deliveries back by `days`, while no router uses it. The rows
    /// that this leaves behind are vacuumed: retention shall not find more of them than it makes.
    pub fn make_older_half_old(&self, days: u32) -> Result<()> {
        let by = i64::from(days) * DAY_US;
        let half = self.number("SELECT k FROM message ORDER BY k OFFSET (SELECT count(*) FROM message) / 2 LIMIT 1")?;
        for statement in [
            format!(
                "UPDATE message SET received_us = received_us - {by}, committed_us = committed_us - {by} WHERE k < {half}"
            ),
            format!(
                "UPDATE delivery SET created_us = created_us - {by}, ended_us = ended_us - {by} WHERE message_k < {half}"
            ),
            "VACUUM ANALYZE message, delivery".to_owned(),
            "CHECKPOINT".to_owned(),
        ] {
            self.runtime.block_on(execute(&self.own(), statement))?;
        }
        Ok(())
    }

    /// How many messages are still older than half of `days`.
    pub fn old_messages_left(&self, days: u32) -> Result<u64> {
        let by = i64::from(days) * DAY_US / 2;
        self.number(&format!(
            "SELECT count(*) FROM message WHERE received_us < (SELECT max(received_us) FROM message) - {by}"
        ))
    }

    /// What a query returns in this database: one number.
    fn number(&self, sql: &str) -> Result<u64> {
        self.runtime.block_on(async {
            let mut connection = connect(&self.own()).await?;
            let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut connection).await?;
            Ok(u64::try_from(row.try_get::<i64, _>(0)?)?)
        })
    }

    /// How this database is reached.
    fn own(&self) -> PgConnectOptions {
        self.options.clone().database(&self.name)
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.runtime.block_on(execute(&self.options, sql.to_owned()))
    }
}

/// The URL with another database. `None` if it names none.
fn with_database(url: &str, name: &str) -> Option<String> {
    let (address, parameters) = url.split_once('?').map_or((url, None), |(address, rest)| (address, Some(rest)));
    let (server, _) = address.rsplit_once('/').filter(|(server, _)| !server.ends_with('/'))?;
    Some(parameters.map_or(format!("{server}/{name}"), |rest| format!("{server}/{name}?{rest}")))
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    PgConnection::connect_with(options).await.context("cannot connect to PostgreSQL")
}

async fn execute(options: &PgConnectOptions, sql: String) -> Result<()> {
    let mut connection = connect(options).await?;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    Ok(())
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = self.run(&format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            eprintln!("bench: the database {} is left over: {error:#}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        for (url, expected) in [
            ("postgres://me@host:5433/postgres", Some("postgres://me@host:5433/bench")),
            ("postgres://host/old?sslmode=require", Some("postgres://host/bench?sslmode=require")),
            ("postgres://host", None),
        ] {
            assert_eq!(with_database(url, "bench").as_deref(), expected, "{url}");
        }
    }
}

//! Databases of a running PostgreSQL for the routers that are measured, one per run, and what its write-ahead log (WAL)
//! grew by.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tokio::runtime::Runtime;

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
        let url = options.clone().database(&name).to_url_lossy().to_string();
        let database = Database { runtime, options, name, url };
        database.run(&format!("CREATE DATABASE {}", database.name)).context("cannot create a database")?;
        Ok(database)
    }

    /// The counters of `pg_stat_wal`.
    pub fn wal(&self) -> Result<Wal> {
        self.runtime.block_on(async {
            let mut connection = self.connect().await?;
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

    fn run(&self, sql: &str) -> Result<()> {
        self.runtime.block_on(async {
            let mut connection = self.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
            Ok(())
        })
    }

    async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect_with(&self.options).await.context("cannot connect to PostgreSQL")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = self.run(&format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            eprintln!("bench: the database {} is left over: {error:#}", self.name);
        }
    }
}

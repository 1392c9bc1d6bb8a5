//! The schema's versions and its migrations, which sqlx's `Migrator` runs under an advisory lock: of several processes that start
//! together, one migrates, and the others wait for it.
//!
//! A migration widens first and narrows one release later, so that the previous release keeps running. A schema that is newer than
//! the program is refused if its oldest reader (`schema_reader`) is.

use super::connect::cannot_open;
use crate::store::OpenError;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Error, Executor, Row, SqlSafeStr};

/// Each file migrates the schema from the version before to its own; the last is the version that this program writes. A file
/// never changes once it is released: the migrator compares checksums.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql"), include_str!("migrations/0002.sql")];

/// Migrates the schema to this program's version. Refuses what a newer program wrote that this one does not understand.
pub(in crate::store) async fn run(conn: &mut PgConnection) -> Result<(), OpenError> {
    // Waiting for another process that migrates is not a statement that takes too long.
    conn.execute("SET statement_timeout = 0").await.map_err(cannot_open)?;
    let found = versions(conn).await.map_err(cannot_open)?;
    let newest = MIGRATIONS.len() as i64;
    if let Some((version, reader)) = found
        && reader > newest
    {
        return Err(OpenError::Refused(format!(
            "the store has schema version {version}, which programs that know version {reader} can use; this one (emberpost {}) \
             knows schema versions up to {newest}; run the newer program",
            env!("CARGO_PKG_VERSION")
        )));
    }
    migrator().run(&mut *conn).await.map_err(|error| cannot_open(error.into()))
}

/// Refuses a database without a store, and one of another version than this program's.
pub(in crate::store) async fn check_current(conn: &mut PgConnection) -> Result<(), OpenError> {
    let newest = MIGRATIONS.len();
    match versions(conn).await.map_err(cannot_open)? {
        Some((version, _)) if version == newest as i64 => Ok(()),
        Some((version, _)) => Err(OpenError::Refused(format!(
            "the store has schema version {version}, and this emberpost ({}) reads version {newest}; start the router of this version \
             on it once, which migrates it",
            env!("CARGO_PKG_VERSION")
        ))),
        None => Err(OpenError::Refused("the database does not hold a store of emberpost".into())),
    }
}

fn migrator() -> Migrator {
    let migration = |(version, text): (i64, &&str)| {
        let sql = AssertSqlSafe(*text).into_sql_str();
        Migration::new(version, format!("{version:04}.sql").into(), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations((1..).zip(MIGRATIONS).map(migration).collect());
    // The previous release runs on the next schema.
    migrator.set_ignore_missing(true);
    migrator
}

/// The schema's version, and the oldest version whose programs can use it. None before the first migration.
async fn versions(conn: &mut PgConnection) -> Result<Option<(i64, i64)>, Error> {
    let mut read = conn.begin().await?;
    let exists = read.fetch_one("SELECT to_regclass('schema_reader') IS NOT NULL").await?;
    if !exists.try_get::<bool, _>(0)? {
        return Ok(None);
    }
    let sql = "SELECT (SELECT max(version) FROM _sqlx_migrations), (SELECT version FROM schema_reader)";
    let row = read.fetch_one(sql).await?;
    Ok(Some((row.try_get(0)?, row.try_get(1)?)))
}

//! The schema's versions and its migrations, which sqlx's `Migrator` runs.
//!
//! `PRAGMA user_version` has the schema's version, too, written in the transaction of each migration. A store without sqlx's table
//! of migrations is taken over at its version.
//!
//! A migration widens first and narrows one release later, so that the previous release can use the store. It sets
//! `progress.schema_reader` to the oldest version whose programs can; without that row, only programs of the same version can.

use super::term;
use crate::store::OpenError;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Error, Row, SqlSafeStr};
use std::path::Path;

/// Each file migrates the schema from the version before to its own; the last is the version that this program writes. A file
/// never changes once it is released: the migrator compares checksums.
pub(in crate::store) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
    include_str!("migrations/0009.sql"),
    include_str!("migrations/0010.sql"),
    include_str!("migrations/0011.sql"),
    include_str!("migrations/0012.sql"),
    include_str!("migrations/0013.sql"),
    include_str!("migrations/0014.sql"),
    include_str!("migrations/0015.sql"),
];

/// The version that adds the table of terms, which the program then fills.
const TERMS_VERSION: i64 = 9;

/// Migrates the schema to this program's version. Refuses what is not a store, and what a newer program wrote.
pub(super) async fn run_checked(conn: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let database = |source: Error| OpenError::Database { path: path.display().to_string(), source: source.into() };
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = user_version(conn).await.map_err(database)?;
    if found > newest && oldest_reader(conn).await.is_none_or(|reader| reader > newest) {
        return Err(OpenError::Refused(format!(
            "the store {} has schema version {found}, written by a newer emberpost; this one (emberpost {}) knows schema \
             versions up to {newest}; run the newer program, or restore a backup made before the upgrade",
            path.display(),
            env!("CARGO_PKG_VERSION")
        )));
    }
    if found == 0 {
        return Err(OpenError::Refused(format!(
            "{} does not hold a store of emberpost: its schema has no version. Put a backup in its place with `emberpost \
             store restore FILE`, or remove the file to start with a new store",
            path.display()
        )));
    }
    run(conn, found).await.map_err(database)
}

/// Runs the migrations after the schema's version `found`; 0: all.
pub(super) async fn run(conn: &mut SqliteConnection, found: i64) -> Result<(), Error> {
    let migrator = migrator();
    // Records the migrations up to `found` as done, if that is not recorded yet.
    migrator.skip(&mut *conn, Some(found)).await?;
    if found <= TERMS_VERSION {
        migrator.run_to(TERMS_VERSION, &mut *conn).await?;
        // Again if the last start ended in between: terms that exist are ignored.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *conn).await?;
        term::fill(conn, term::COLUMNS_OF_VERSION_9).await?;
        sqlx::query("COMMIT").execute(&mut *conn).await?;
    }
    Ok(migrator.run(conn).await?)
}

fn migrator() -> Migrator {
    let migration = |(version, text): (i64, &&str)| {
        let sql = AssertSqlSafe(format!("{text}\nPRAGMA user_version = {version};")).into_sql_str();
        Migration::new(version, format!("{version:04}.sql").into(), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations((1..).zip(MIGRATIONS).map(migration).collect());
    // The previous release runs on the next schema.
    migrator.set_ignore_missing(true);
    migrator
}

/// The oldest version whose programs can use the schema, if a migration of a newer program says so. A database without the table is
/// not a store that this program knows.
async fn oldest_reader(conn: &mut SqliteConnection) -> Option<i64> {
    let row = sqlx::query("SELECT value FROM progress WHERE name = 'schema_reader'").fetch_one(conn).await.ok()?;
    row.try_get(0).ok()
}

pub(super) async fn user_version(conn: &mut SqliteConnection) -> Result<i64, Error> {
    sqlx::query("PRAGMA user_version").fetch_one(conn).await?.try_get(0)
}

//! Reads what retention may delete, for the archive.

use super::Sqlite;
use super::error::unavailable;
use super::progress;
use super::retention::{self, BODIES, TRACES};
use super::transfer::{bound, cell, marks};
use crate::store::Unavailable;
use crate::store::retention::{ArchivePlace, DeadLetterCursor, IMPORTED_PROGRESS, RESTORED_PROGRESS, Scope};
use crate::store::transfer::row::{Cell, Row};
use crate::store::transfer::table::Table;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Error, Row as _};
use std::sync::PoisonError;

/// Values that one statement compares.
const VALUES_PER_CALL: usize = 500;

impl Sqlite {
    /// Reads what a step must know of the store: when messages were last imported, and its size if that is limited.
    pub async fn look_around(&self, scope: &mut Scope) -> Result<(), Unavailable> {
        let deletes_traces =
            self.core.sweep.lock().unwrap_or_else(PoisonError::into_inner).cursors.deletes_traces_by_size;
        let read = async {
            let mut conn = self.core.readers.acquire().await?;
            let imported_us = progress::read(&mut conn, IMPORTED_PROGRESS).await?;
            scope.imported_us = (imported_us > 0).then_some(imported_us);
            scope.restored_key = progress::read(&mut conn, RESTORED_PROGRESS).await?;
            if scope.store_limit_bytes > 0 {
                scope.measure(used_bytes(&mut conn).await?, deletes_traces);
            }
            Ok(())
        };
        read.await.map_err(|error: Error| unavailable(&error))
    }

    pub async fn to_archive(
        &self,
        place: ArchivePlace,
        scope: &Scope,
    ) -> Result<(Vec<i64>, Option<ArchivePlace>), Unavailable> {
        let read = async {
            let mut conn = self.core.readers.acquire().await?;
            to_archive(&mut conn, place, scope).await
        };
        read.await.map_err(|error| unavailable(&error))
    }

    pub async fn select(
        &self,
        table: &Table,
        columns: &[&str],
        column: &str,
        values: &[Cell],
    ) -> Result<Vec<Row>, Unavailable> {
        let read = async {
            let mut conn = self.core.readers.acquire().await?;
            select(&mut conn, table, columns, column, values).await
        };
        read.await.map_err(|error| unavailable(&error))
    }
}

/// Without the pages that are free.
async fn used_bytes(conn: &mut SqliteConnection) -> Result<u64, Error> {
    let sql = "SELECT (page_count - freelist_count) * page_size \
               FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    sqlx::query(sql).fetch_one(conn).await?.try_get(0).map(i64::unsigned_abs)
}

async fn to_archive(
    conn: &mut SqliteConnection,
    place: ArchivePlace,
    scope: &Scope,
) -> Result<(Vec<i64>, Option<ArchivePlace>), Error> {
    let limits = scope.limits;
    let (listed, cursor, before) = match place {
        ArchivePlace::Traces(cursor) => (TRACES, cursor, limits.traces),
        ArchivePlace::Bodies(cursor) => (BODIES, cursor, limits.bodies),
        ArchivePlace::DeadLetters(after) => {
            let Some(before) = limits.dead_letters else { return Ok((Vec::new(), None)) };
            let (ended, cursor) = retention::dead_letters(conn, after, before, scope).await?;
            let next = (cursor != DeadLetterCursor::default()).then_some(ArchivePlace::DeadLetters(cursor));
            return Ok((ended, next));
        }
    };
    let Some(before) = before else { return Ok((Vec::new(), place.next_kind())) };
    let window = retention::window(conn, listed, cursor, before, scope).await?;
    let next = place.after(&window);
    Ok((window.ended, next))
}

/// These columns of the rows in which `column` is one of these values.
pub(in crate::store) async fn select(
    conn: &mut SqliteConnection,
    table: &Table,
    columns: &[&str],
    column: &str,
    values: &[Cell],
) -> Result<Vec<Row>, Error> {
    let mut all = Vec::new();
    for values in values.chunks(VALUES_PER_CALL) {
        let (names, marks) = (columns.join(", "), marks(values.len()));
        let sql = format!("SELECT {names} FROM {} WHERE {column} IN ({marks})", table.name);
        let rows = sqlx::query_with(AssertSqlSafe(sql), bound(values.iter())?).fetch_all(&mut *conn).await?;
        for row in &rows {
            let cells = columns.iter().enumerate().map(|(at, name)| cell(row, at, table.kind(name)));
            all.push(cells.collect::<Result<Row, Error>>()?);
        }
    }
    Ok(all)
}

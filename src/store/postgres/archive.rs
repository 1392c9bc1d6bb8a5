//! Reads what retention may delete, for the archive.

use super::error::unavailable;
use super::retention::{self, BODIES, TRACES};
use super::sql::{Sql, Value};
use super::transfer::{cell, read_column};
use super::{Postgres, drop};
use crate::store::Unavailable;
use crate::store::retention::{ArchivePlace, DeadLetterCursor, IMPORTED_PROGRESS, RESTORED_PROGRESS, Scope};
use crate::store::transfer::row::{Cell, Row};
use crate::store::transfer::table::{Kind, Table};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row as _};
use uuid::Uuid;

/// Tables with their indexes and large values; those of partitions are tables of their own.
const USED_BYTES: &str = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c \
                          WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace";

impl Postgres {
    /// Reads what a step must know of the store: when messages were last imported, and its size if that is limited. Deleted rows do not
    /// make a table smaller: by size, only whole partitions of bodies are dropped, and with an archive first emptied.
    pub async fn look_around(&self, scope: &mut Scope) -> Result<(), Unavailable> {
        let sql = Sql::new("SELECT value FROM progress WHERE name = $1").bind(IMPORTED_PROGRESS);
        scope.imported_us = self.optional(&sql, |row| row.try_get(0)).await?;
        let sql = Sql::new("SELECT value FROM progress WHERE name = $1").bind(RESTORED_PROGRESS);
        scope.restored_key = self.optional(&sql, |row| row.try_get(0)).await?.unwrap_or_default();
        if scope.store_limit_bytes == 0 {
            return Ok(());
        }
        let old = scope.limits.bodies;
        let used: i64 = self.optional(&Sql::new(USED_BYTES), |row| row.try_get(0)).await?.unwrap_or_default();
        scope.measure(used.unsigned_abs(), false);
        if scope.excess_bytes > 0 {
            match self.optional(&drop::end_of_oldest(scope.now_us), |row| row.try_get(0)).await? {
                Some(end) => scope.bodies_below = end,
                None => scope.limits.bodies = old,
            }
        }
        Ok(())
    }

    pub async fn to_archive(
        &self,
        place: ArchivePlace,
        scope: &Scope,
    ) -> Result<(Vec<i64>, Option<ArchivePlace>), Unavailable> {
        self.read_to_archive(place, scope).await.map_err(|error| unavailable(&error))
    }

    async fn read_to_archive(
        &self,
        place: ArchivePlace,
        scope: &Scope,
    ) -> Result<(Vec<i64>, Option<ArchivePlace>), Error> {
        let limits = scope.limits;
        let readers = &self.core.readers;
        let (listed, cursor, before) = match place {
            ArchivePlace::Traces(cursor) => (TRACES, cursor, limits.traces),
            ArchivePlace::Bodies(cursor) => (BODIES, cursor, limits.bodies),
            ArchivePlace::DeadLetters(after) => {
                let Some(before) = limits.dead_letters else { return Ok((Vec::new(), None)) };
                let rows = readers.all(&retention::dead_letters_sql(after, before, scope)).await?;
                let (ended, cursor) = retention::dead_letters(&rows, scope)?;
                let next = (cursor != DeadLetterCursor::default()).then_some(ArchivePlace::DeadLetters(cursor));
                return Ok((ended, next));
            }
        };
        let Some(before) = before else { return Ok((Vec::new(), place.next_kind())) };
        let below = if matches!(place, ArchivePlace::Bodies(_)) { scope.bodies_below } else { i64::MAX };
        let rows = readers.all(&retention::aged_sql(listed, below, cursor, before, scope)).await?;
        let window = retention::read_window(&rows, scope)?;
        let next = place.after(&window);
        Ok((window.ended, next))
    }

    pub async fn select(
        &self,
        table: &Table,
        columns: &[&str],
        column: &str,
        values: &[Cell],
    ) -> Result<Vec<Row>, Unavailable> {
        let rows = self.core.readers.all(&select(table, columns, column, values)).await;
        rows.and_then(|rows| read(&rows, table, columns)).map_err(|error| unavailable(&error))
    }
}

/// Reads these columns of the rows in which `column` is one of these values.
pub(in crate::store) fn select(table: &Table, columns: &[&str], column: &str, values: &[Cell]) -> Sql {
    let names: Vec<String> = columns.iter().map(|name| read_column(table, name, table.kind(name))).collect();
    let sql = format!("SELECT {} FROM {} t WHERE t.{column} = ANY ($1)", names.join(", "), table.name);
    Sql::new(sql).bind(array(values, table.kind(column)))
}

/// The rows of `select`.
pub(in crate::store) fn read(rows: &[PgRow], table: &Table, columns: &[&str]) -> Result<Vec<Row>, Error> {
    let read = |row: &PgRow| {
        columns.iter().enumerate().map(|(at, name)| cell(row, at, table.kind(name))).collect::<Result<Row, Error>>()
    };
    rows.iter().map(read).collect()
}

fn array(values: &[Cell], kind: Kind) -> Value {
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => Some(text.clone()),
        _ => None,
    };
    let id = |cell: &Cell| match cell {
        Cell::Bytes(bytes) => Uuid::from_slice(bytes).ok(),
        _ => None,
    };
    let integer = |cell: &Cell| match cell {
        Cell::Integer(value) => Some(*value),
        _ => None,
    };
    match kind {
        Kind::Text => Value::Texts(values.iter().filter_map(text).collect()),
        Kind::Id => Value::Ids(values.iter().filter_map(id).collect()),
        _ => Value::Integers(values.iter().filter_map(integer).collect()),
    }
}

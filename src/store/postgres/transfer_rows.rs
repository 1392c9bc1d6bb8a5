//! Inserts copied rows: one statement per page, with an array for each column.

use super::connect::within_limit;
use super::sql::text;
use crate::store::codes;
use crate::store::transfer::row::{Cell, Row};
use crate::store::transfer::table::{Kind, Table};
use fhir::event::Event;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments, AssertSqlSafe, Error};

/// Where the counters of participants are that a copy brings.
const COPY_SLOT: &str = "0";

/// In the caller's transaction.
pub(super) async fn insert(conn: &mut PgConnection, table: &Table, rows: &[Row]) -> Result<(), Error> {
    match table.name {
        "participant" => {
            insert_columns(conn, table, &["k", "id", "paused"], rows).await?;
            insert_counters(conn, table, rows).await
        }
        "message" => insert_messages(conn, table, rows).await,
        _ => {
            let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
            insert_columns(conn, table, &names, rows).await
        }
    }
}

async fn insert_columns(conn: &mut PgConnection, table: &Table, names: &[&str], rows: &[Row]) -> Result<(), Error> {
    let mut arguments = PgArguments::default();
    for name in names {
        add(&mut arguments, table, name, rows)?;
    }
    execute(conn, insert_text(table, names, &[]), arguments).await
}

/// The code of an event that is a coding has a column of its own here.
async fn insert_messages(conn: &mut PgConnection, table: &Table, rows: &[Row]) -> Result<(), Error> {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let mut arguments = PgArguments::default();
    for name in &names {
        add(&mut arguments, table, name, rows)?;
    }
    let codes: Result<Vec<Option<String>>, Error> = rows.iter().map(|row| event_code(table, row)).collect();
    arguments.add(codes?).map_err(Error::Encode)?;
    execute(conn, insert_text(table, &names, &["event_code"]), arguments).await
}

fn event_code(table: &Table, row: &Row) -> Result<Option<String>, Error> {
    match table.values(row, &["metadata"]).first() {
        Some(Cell::Text(metadata)) => Ok(match &codes::metadata(metadata, None)?.event {
            Some(Event::Coding { code, .. }) => Some(text(code).into_owned()),
            Some(Event::Uri(_)) | None => None,
        }),
        _ => Ok(None),
    }
}

async fn insert_counters(conn: &mut PgConnection, table: &Table, rows: &[Row]) -> Result<(), Error> {
    let mut arguments = PgArguments::default();
    for name in ["k", "waiting", "dead"] {
        add(&mut arguments, table, name, rows)?;
    }
    let sql = format!(
        "INSERT INTO participant_count (participant, slot, waiting, dead) \
         SELECT x.k, {COPY_SLOT}, x.waiting, x.dead FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS x (k, waiting, dead)"
    );
    execute(conn, sql, arguments).await
}

async fn execute(conn: &mut PgConnection, sql: String, arguments: PgArguments) -> Result<(), Error> {
    within_limit(sqlx::query_with(AssertSqlSafe(sql), arguments).execute(conn)).await.map(drop)
}

/// `texts`: further columns with texts, after those of the table.
fn insert_text(table: &Table, names: &[&str], texts: &[&str]) -> String {
    let kinds = names.iter().map(|name| (*name, table.kind(name))).chain(texts.iter().map(|name| (*name, Kind::Text)));
    let (mut columns, mut values, mut arrays) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (name, kind)) in kinds.enumerate() {
        let (value, array) = match kind {
            Kind::Integer => (format!("x.{name}"), "bigint"),
            Kind::Small => (format!("x.{name}::smallint"), "bigint"),
            Kind::Count => (format!("x.{name}::integer"), "bigint"),
            Kind::Flag => (format!("x.{name} <> 0"), "bigint"),
            Kind::Text => (format!("x.{name}"), "text"),
            Kind::Bytes => (format!("x.{name}"), "bytea"),
            Kind::Id => (format!("encode(x.{name}, 'hex')::uuid"), "bytea"),
        };
        columns.push(name);
        values.push(value);
        arrays.push(format!("${}::{array}[]", at + 1));
    }
    format!(
        "INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE SELECT {} FROM unnest({}) AS x ({columns})",
        table.name,
        values.join(", "),
        arrays.join(", "),
        columns = columns.join(", ")
    )
}

/// Adds a column of the rows as an array.
fn add(arguments: &mut PgArguments, table: &Table, name: &str, rows: &[Row]) -> Result<(), Error> {
    let place = table.columns.iter().position(|(column, _)| *column == name).unwrap_or_default();
    let cells = rows.iter().map(|row| row.get(place).unwrap_or(&Cell::Null));
    let added = match table.kind(name) {
        Kind::Text => {
            let text = |cell: &Cell| match cell {
                Cell::Text(text) => Some(text.clone()),
                _ => None,
            };
            arguments.add(cells.map(text).collect::<Vec<Option<String>>>())
        }
        Kind::Bytes | Kind::Id => {
            let bytes = |cell: &Cell| match cell {
                Cell::Bytes(bytes) => Some(bytes.clone()),
                _ => None,
            };
            arguments.add(cells.map(bytes).collect::<Vec<Option<Vec<u8>>>>())
        }
        Kind::Integer | Kind::Small | Kind::Count | Kind::Flag => {
            let integer = |cell: &Cell| match cell {
                Cell::Integer(value) => Some(*value),
                _ => None,
            };
            arguments.add(cells.map(integer).collect::<Vec<Option<i64>>>())
        }
    };
    added.map_err(Error::Encode)
}

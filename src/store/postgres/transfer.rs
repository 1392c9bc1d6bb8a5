//! A database that a command copies from or to, while no router uses it.
//!
//! The target of a copy has a table with notes about it until the copy is finished, and no router starts on it meanwhile.

use super::connect::{self, Connector, Purpose, cannot_open, within_limit};
use super::sql::{Sql, size_bytes};
use super::{lock, migrate, partitions};
use crate::secret::SecretUrl;
use crate::store::OpenError;
use crate::store::transfer::row::{Cell, Extent, Row as Cells};
use crate::store::transfer::table::{Kind, PAGE_BYTES, PAGE_ROWS, Table};
use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{Arguments, AssertSqlSafe, Error, Executor, Row};
use std::time::{Duration, Instant};

/// How long a command waits for the lock: the server ends a session a moment after its client.
const LOCK_LIMIT: Duration = Duration::from_secs(3);
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// An open database. For a copy its connection has the lock on the store.
pub(in crate::store) struct Database {
    pub name: String,
    pub conn: PgConnection,
}

/// Refuses the target of a copy that is not finished.
pub(in crate::store) async fn refuse_unfinished(conn: &mut PgConnection) -> Result<(), OpenError> {
    let row = Sql::new("SELECT to_regclass('copy_progress') IS NOT NULL").one(conn).await;
    if row.and_then(|row| row.try_get(0)).map_err(cannot_open)? {
        let text = "the database is the target of a copy that is not finished; run the same `emberpost store copy` again, which \
                    continues it, or use another database";
        return Err(OpenError::Refused(text.into()));
    }
    Ok(())
}

impl Database {
    pub async fn open_source(url: &SecretUrl) -> Result<Database, OpenError> {
        let mut database = Database::lock(url).await?;
        migrate::check_current(&mut database.conn).await?;
        refuse_unfinished(&mut database.conn).await?;
        Ok(database)
    }

    /// Opens a database to verify it, as it is at this moment. A router may use it.
    pub async fn open_to_check(url: &SecretUrl) -> Result<Database, OpenError> {
        let mut conn = Connector::new(url)?.connect(Purpose::Read).await.map_err(cannot_open)?;
        migrate::check_current(&mut conn).await?;
        refuse_unfinished(&mut conn).await?;
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(cannot_open)?;
        Ok(Database { name: url.to_string(), conn })
    }

    /// Opens the target of a copy, and creates its tables.
    pub async fn open_target(url: &SecretUrl) -> Result<Database, OpenError> {
        let mut database = Database::lock(url).await?;
        connect::check_server(&mut database.conn).await?;
        migrate::run(&mut database.conn).await?;
        migrate::check_current(&mut database.conn).await?;
        Ok(database)
    }

    async fn lock(url: &SecretUrl) -> Result<Database, OpenError> {
        let mut conn = Connector::new(url)?.connect(Purpose::Write).await.map_err(cannot_open)?;
        let begun = Instant::now();
        loop {
            match lock::take(&mut conn, None).await {
                Ok(_) => return Ok(Database { name: url.to_string(), conn }),
                Err(error) if !lock::is_taken(&error) => return Err(cannot_open(error)),
                Err(_) if begun.elapsed() < LOCK_LIMIT => tokio::time::sleep(LOCK_INTERVAL).await,
                Err(_) => {
                    let text = format!("the store {url} is in use by another emberpost; stop that one first");
                    return Err(OpenError::Refused(text));
                }
            }
        }
    }

    /// The rows after a key.
    pub async fn rows(&mut self, table: &Table, after: Option<&[Cell]>) -> Result<Vec<Cells>, Error> {
        let columns: Vec<String> = table.columns.iter().map(|(name, kind)| read_column(table, name, *kind)).collect();
        let sql = format!(
            "SELECT {} FROM {} t {} ORDER BY {} LIMIT {PAGE_ROWS}",
            columns.join(", "),
            table.name,
            after_key(table, after),
            keys(table)
        );
        let arguments = bound(after.into_iter().flatten())?;
        let page = async {
            let mut stream = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch(&mut self.conn);
            let (mut rows, mut bytes) = (Vec::new(), 0);
            while bytes < PAGE_BYTES
                && let Some(row) = stream.try_next().await?
            {
                bytes += size_bytes(&row);
                rows.push(cells(&row, table)?);
            }
            Ok(rows)
        };
        within_limit(page).await
    }

    /// Counting has no limit of time: a large table takes longer than other statements.
    pub async fn count(&mut self, table: &Table) -> Result<u64, Error> {
        self.conn.execute("SET statement_timeout = 0").await?;
        let sql = format!("SELECT count(*) FROM {}", table.name);
        let count: i64 = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.conn).await?.try_get(0)?;
        Ok(count.unsigned_abs())
    }

    pub async fn extent(&mut self) -> Result<Extent, Error> {
        // Imported rows, which have negative keys, need no partitions.
        let sql = "SELECT coalesce(min(k), 1), coalesce(max(k), 0), \
                   coalesce((max(received_us) - min(received_us)) / 86400000000, 0) FROM message WHERE k > 0";
        let message = Sql::new(sql).one(&mut self.conn).await?;
        let delivery = Sql::new("SELECT coalesce(min(k), 1), coalesce(max(k), 0) FROM delivery WHERE k > 0");
        let delivery = delivery.one(&mut self.conn).await?;
        Ok(Extent {
            first_message: message.try_get(0)?,
            last_message: message.try_get(1)?,
            first_delivery: delivery.try_get(0)?,
            last_delivery: delivery.try_get(1)?,
            days: message.try_get(2)?,
        })
    }

    /// A note about the copy; None if there is none, or no copy.
    pub async fn note(&mut self, name: &str) -> Result<Option<String>, Error> {
        let exists = Sql::new("SELECT to_regclass('copy_progress') IS NOT NULL").one(&mut self.conn).await?;
        if !exists.try_get::<bool, _>(0)? {
            return Ok(None);
        }
        let note = Sql::new("SELECT value FROM copy_progress WHERE name = $1").bind(name);
        note.optional(&mut self.conn).await?.map(|row| row.try_get(0)).transpose()
    }

    /// Marks an empty store as the target of a copy, and makes partitions for what it will hold.
    pub async fn begin_copy(&mut self, notes: &[(&str, String)], extent: &Extent, now_us: i64) -> Result<(), Error> {
        let begun = async {
            Sql::new("BEGIN").execute(&mut self.conn).await?;
            Sql::new("CREATE TABLE copy_progress (name text PRIMARY KEY, value text NOT NULL)")
                .execute(&mut self.conn)
                .await?;
            for (name, value) in notes {
                self.save_note(name, value).await?;
            }
            partitions::prepare(&mut self.conn, extent, now_us).await?;
            Sql::new("COMMIT").execute(&mut self.conn).await.map(drop)
        };
        let begun = begun.await;
        self.roll_back(begun).await
    }

    async fn save_note(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let save = "INSERT INTO copy_progress (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        Sql::new(save).bind(name).bind(value).execute(&mut self.conn).await.map(drop)
    }

    /// Writes rows and a note in one transaction.
    pub async fn write(&mut self, table: &Table, rows: &[Cells], (name, value): (&str, &str)) -> Result<(), Error> {
        let written = async {
            Sql::new("BEGIN").execute(&mut self.conn).await?;
            super::transfer_rows::insert(&mut self.conn, table, rows).await?;
            self.save_note(name, value).await?;
            Sql::new("COMMIT").execute(&mut self.conn).await.map(drop)
        };
        let written = written.await;
        self.roll_back(written).await
    }

    /// Makes the copy a store: new keys follow those that it has.
    pub async fn finish(&mut self) -> Result<(), Error> {
        self.conn.execute("SET statement_timeout = 0").await?;
        // A planner without figures would scan what it should search.
        self.conn.execute("ANALYZE").await?;
        let finished = async {
            Sql::new("BEGIN").execute(&mut self.conn).await?;
            for (sequence, column, table) in [
                ("'message_key'", "k", "message"),
                ("'delivery_key'", "k", "delivery"),
                ("'delivery_seq'", "seq", "delivery"),
                ("pg_get_serial_sequence('participant', 'k')", "k", "participant"),
                ("pg_get_serial_sequence('replay', 'k')", "k", "replay"),
            ] {
                let sql = format!(
                    "SELECT setval({sequence}, greatest(max({column}), 1), coalesce(max({column}) > 0, false)) FROM {table}"
                );
                self.conn.execute(AssertSqlSafe(sql)).await?;
            }
            // As SQLite counts them: by the newest key.
            let stored = "INSERT INTO message_count (slot, stored) SELECT 0, max(k) FROM message HAVING max(k) > 0 \
                          ON CONFLICT (slot) DO UPDATE SET stored = excluded.stored";
            Sql::new(stored).execute(&mut self.conn).await?;
            Sql::new("DROP TABLE copy_progress").execute(&mut self.conn).await?;
            Sql::new("COMMIT").execute(&mut self.conn).await.map(drop)
        };
        let finished = finished.await;
        self.roll_back(finished).await
    }

    /// Rolls back what failed. The first error is the one to report.
    pub(super) async fn roll_back(&mut self, done: Result<(), Error>) -> Result<(), Error> {
        if done.is_err() {
            let _ = Sql::new("ROLLBACK").execute(&mut self.conn).await;
        }
        done
    }

    pub async fn close(self) {
        connect::close(self.conn).await;
    }
}

/// The key's columns, in an order that does not depend on the database's locale.
pub(super) fn keys(table: &Table) -> String {
    let column = |name: &&'static str| match table.kind(name) {
        Kind::Text => format!("t.{name} COLLATE \"C\""),
        _ => format!("t.{name}"),
    };
    table.key.iter().map(column).collect::<Vec<_>>().join(", ")
}

pub(super) fn after_key(table: &Table, after: Option<&[Cell]>) -> String {
    let marks = |after: &[Cell]| (1..=after.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
    after.map_or(String::new(), |after| format!("WHERE ({}) > ({})", keys(table), marks(after)))
}

/// A column as an integer, a text, or bytes.
pub(super) fn read_column(table: &Table, name: &str, kind: Kind) -> String {
    if table.name == "participant" && ["waiting", "dead"].contains(&name) {
        return format!(
            "coalesce((SELECT sum(c.{name}) FROM participant_count c WHERE c.participant = t.k), 0)::bigint"
        );
    }
    match kind {
        Kind::Integer | Kind::Text | Kind::Bytes => format!("t.{name}"),
        Kind::Small | Kind::Count => format!("t.{name}::bigint"),
        Kind::Flag => format!("t.{name}::integer::bigint"),
        Kind::Id => format!("uuid_send(t.{name})"),
    }
}

pub(super) fn bound<'c>(cells: impl Iterator<Item = &'c Cell>) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    for cell in cells {
        let added = match cell {
            Cell::Null => arguments.add(None::<i64>),
            Cell::Integer(value) => arguments.add(*value),
            Cell::Text(text) => arguments.add(text),
            Cell::Bytes(bytes) => arguments.add(bytes),
        };
        added.map_err(Error::Encode)?;
    }
    Ok(arguments)
}

fn cells(row: &PgRow, table: &Table) -> Result<Cells, Error> {
    table.columns.iter().enumerate().map(|(at, (_, kind))| cell(row, at, *kind)).collect()
}

pub(super) fn cell(row: &PgRow, at: usize, kind: Kind) -> Result<Cell, Error> {
    Ok(match kind {
        Kind::Text => row.try_get::<Option<String>, _>(at)?.map(Cell::text),
        Kind::Bytes | Kind::Id => row.try_get::<Option<Vec<u8>>, _>(at)?.map(Cell::Bytes),
        Kind::Integer | Kind::Small | Kind::Count | Kind::Flag => row.try_get::<Option<i64>, _>(at)?.map(Cell::Integer),
    }
    .unwrap_or(Cell::Null))
}

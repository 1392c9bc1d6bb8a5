//! A store file that a command copies from, copies to, or verifies, while no router has it open.
//!
//! The target of a copy has a mark of its own until the copy is finished, and no router opens it. Notes about the copy are in a table
//! that is there only meanwhile.

use super::connect::{plain_options, writer_options};
use super::files::{self, BACKUP_MARK, COPY_MARK, STORE_MARK, StoreLock};
use super::migrate::{MIGRATIONS, user_version};
use super::recent::{self, Recent};
use super::term::{self, UnwrittenTerms};
use super::{leftover, open, progress};
use crate::store::OpenError;
use crate::store::transfer::row::{Cell, Extent, Row as Cells};
use crate::store::transfer::table::{Kind, PAGE_BYTES, PAGE_ROWS, Table};
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Error, Row};
use std::path::{Path, PathBuf};

/// Rows that one statement inserts.
const ROWS_PER_CALL: usize = 64;

/// An open store, with its lock.
pub(in crate::store) struct StoreFile {
    pub path: PathBuf,
    pub conn: SqliteConnection,
    lock: StoreLock,
}

impl StoreFile {
    /// Opens a store to copy it, and first writes what a running router writes later than its messages.
    pub async fn open_source(path: &Path) -> Result<StoreFile, OpenError> {
        let mut file = StoreFile::open(path, &[STORE_MARK], writer_options).await?;
        file.write_late().await.map_err(|error| file.failed(error))?;
        Ok(file)
    }

    /// Opens a store to verify it, read-only.
    pub async fn open_to_check(path: &Path) -> Result<StoreFile, OpenError> {
        let read_only = |path: &Path| plain_options(path).read_only(true);
        let mut file = StoreFile::open(path, &[STORE_MARK, BACKUP_MARK, 0], read_only).await?;
        sqlx::query("BEGIN").execute(&mut file.conn).await.map_err(|error| file.failed(error))?;
        Ok(file)
    }

    /// Opens the target of a copy, which is created if it is missing.
    pub async fn open_target(path: &Path) -> Result<StoreFile, OpenError> {
        files::make_folder(files::folder(path))?;
        let real = files::resolve(path)?;
        let mut lock = StoreLock::take(&real)?;
        if lock.database.is_none() {
            open::create(&mut lock, &real, COPY_MARK).await?;
        }
        drop(lock);
        StoreFile::open(path, &[STORE_MARK, COPY_MARK], writer_options).await
    }

    async fn open(
        path: &Path,
        marks: &[i32],
        options: impl FnOnce(&Path) -> sqlx::sqlite::SqliteConnectOptions,
    ) -> Result<StoreFile, OpenError> {
        if !path.is_file() {
            return Err(OpenError::Refused(format!("there is no store at {}", path.display())));
        }
        let path = files::resolve(path)?;
        let lock = StoreLock::take(&path)?;
        let found = lock.database.as_ref().map_or(Ok(0), |(file, _)| files::mark(file, &path))?;
        if !marks.contains(&found) {
            return Err(OpenError::Refused(match found {
                COPY_MARK => files::unfinished_copy(&path),
                BACKUP_MARK => {
                    format!("{} is a backup; put it in place with `emberpost store restore`", path.display())
                }
                _ => format!("{} is not a store of this emberpost", path.display()),
            }));
        }
        let conn = options(&path).connect().await;
        let conn =
            conn.map_err(|source| OpenError::Database { path: path.display().to_string(), source: source.into() })?;
        let mut file = StoreFile { path, conn, lock };
        let version = user_version(&mut file.conn).await.map_err(|error| file.failed(error))?;
        if version != MIGRATIONS.len() as i64 {
            return Err(OpenError::Refused(format!(
                "the store {} has schema version {version}, and this emberpost ({}) reads version {}; start the router of this \
                 version on it once, which migrates it",
                file.path.display(),
                env!("CARGO_PKG_VERSION"),
                MIGRATIONS.len()
            )));
        }
        Ok(file)
    }

    fn failed(&self, error: Error) -> OpenError {
        OpenError::Database { path: self.path.display().to_string(), source: error.into() }
    }

    /// References and terms that are not in their tables yet, or no longer.
    async fn write_late(&mut self) -> Result<(), Error> {
        let recent = Recent::default();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await?;
        recent.load(&mut self.conn).await?;
        recent::move_all(&recent, &mut self.conn).await?;
        leftover::finish(&mut self.conn).await?;
        term::write_missing(&mut self.conn, &mut UnwrittenTerms::at_start()).await?;
        sqlx::query("COMMIT").execute(&mut self.conn).await.map(drop)
    }

    /// The rows after a key.
    pub async fn rows(&mut self, table: &Table, after: Option<&[Cell]>) -> Result<Vec<Cells>, Error> {
        let (names, keys) = (names(table), table.key.join(", "));
        let after_key = after.map_or(String::new(), |after| format!("WHERE ({keys}) > ({})", marks(after.len())));
        let sql = format!("SELECT {names} FROM {} {after_key} ORDER BY {keys} LIMIT {PAGE_ROWS}", table.name);
        let mut stream =
            sqlx::query_with(AssertSqlSafe(sql), bound(after.into_iter().flatten())?).fetch(&mut self.conn);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES
            && let Some(row) = stream.try_next().await?
        {
            let cells = cells(&row, table)?;
            bytes += cells.iter().map(Cell::size_bytes).sum::<usize>();
            rows.push(cells);
        }
        Ok(rows)
    }

    pub async fn count(&mut self, table: &Table) -> Result<u64, Error> {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        let count: i64 = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.conn).await?.try_get(0)?;
        Ok(count.unsigned_abs())
    }

    pub async fn extent(&mut self) -> Result<Extent, Error> {
        // Imported rows, which have negative keys, need no partitions.
        let sql = "SELECT coalesce(min(k), 1), coalesce(max(k), 0), \
                   coalesce((max(received_us) - min(received_us)) / 86400000000, 0) FROM message WHERE k > 0";
        let message = sqlx::query(sql).fetch_one(&mut self.conn).await?;
        let sql = "SELECT coalesce(min(k), 1), coalesce(max(k), 0) FROM delivery WHERE k > 0";
        let delivery = sqlx::query(sql).fetch_one(&mut self.conn).await?;
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
        let exists = "SELECT 1 FROM sqlite_schema WHERE name = 'copy_progress'";
        if sqlx::query(exists).fetch_optional(&mut self.conn).await?.is_none() {
            return Ok(None);
        }
        let note = sqlx::query("SELECT value FROM copy_progress WHERE name = ?").bind(name.to_owned());
        note.fetch_optional(&mut self.conn).await?.map(|row| row.try_get(0)).transpose()
    }

    /// Marks an empty store as the target of a copy.
    pub async fn begin_copy(&mut self, notes: &[(&str, String)], _: &Extent, _now_us: i64) -> Result<(), Error> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await?;
        open::set_application_id(&mut self.conn, COPY_MARK).await?;
        let create = "CREATE TABLE copy_progress (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID";
        sqlx::query(create).execute(&mut self.conn).await?;
        for (name, value) in notes {
            self.save_note(name, value).await?;
        }
        sqlx::query("COMMIT").execute(&mut self.conn).await?;
        // The mark must be in the file itself, where the next start looks for it.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.conn).await.map(drop)
    }

    async fn save_note(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let save = sqlx::query("INSERT OR REPLACE INTO copy_progress (name, value) VALUES (?, ?)");
        save.bind(name.to_owned()).bind(value.to_owned()).execute(&mut self.conn).await.map(drop)
    }

    /// Writes rows and a note in one transaction.
    pub async fn write(&mut self, table: &Table, rows: &[Cells], (name, value): (&str, &str)) -> Result<(), Error> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await?;
        let written = async {
            insert(&mut self.conn, table, rows).await?;
            self.save_note(name, value).await?;
            sqlx::query("COMMIT").execute(&mut self.conn).await.map(drop)
        };
        let written: Result<(), Error> = written.await;
        if written.is_err() {
            // The first error is the one to report.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        }
        written
    }

    /// Makes the copy a store.
    pub async fn finish(&mut self) -> Result<(), Error> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await?;
        let newest =
            sqlx::query("SELECT coalesce(max(k), 0) FROM message").fetch_one(&mut self.conn).await?.try_get(0)?;
        // All terms are there.
        progress::save(&mut self.conn, term::PROGRESS, newest).await?;
        sqlx::query("DROP TABLE copy_progress").execute(&mut self.conn).await?;
        open::set_application_id(&mut self.conn, STORE_MARK).await?;
        sqlx::query("COMMIT").execute(&mut self.conn).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.conn).await?;
        self.lock.record_store(&self.path).map_err(|error| Error::Configuration(error.into()))
    }

    pub async fn close(self) {
        // What was committed is on disk; the next one that opens the file reads its log.
        let _ = self.conn.close().await;
    }
}

/// In the caller's transaction.
pub(super) async fn insert(conn: &mut SqliteConnection, table: &Table, rows: &[Cells]) -> Result<(), Error> {
    for chunk in rows.chunks(ROWS_PER_CALL) {
        let row = format!("({})", marks(table.columns.len()));
        let rows = vec![row; chunk.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES {rows}", table.name, names(table));
        let arguments = bound(chunk.iter().flatten())?;
        sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *conn).await?;
    }
    Ok(())
}

fn names(table: &Table) -> String {
    table.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

pub(super) fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

pub(super) fn bound<'c>(cells: impl Iterator<Item = &'c Cell>) -> Result<SqliteArguments, Error> {
    let mut arguments = SqliteArguments::default();
    for cell in cells {
        let added = match cell {
            Cell::Null => arguments.add(None::<i64>),
            Cell::Integer(value) => arguments.add(*value),
            Cell::Text(text) => arguments.add(text.clone()),
            Cell::Bytes(bytes) => arguments.add(bytes.clone()),
        };
        added.map_err(Error::Encode)?;
    }
    Ok(arguments)
}

fn cells(row: &SqliteRow, table: &Table) -> Result<Cells, Error> {
    table.columns.iter().enumerate().map(|(at, (_, kind))| cell(row, at, *kind)).collect()
}

pub(super) fn cell(row: &SqliteRow, at: usize, kind: Kind) -> Result<Cell, Error> {
    Ok(match kind {
        Kind::Text => row.try_get::<Option<String>, _>(at)?.map(Cell::text),
        Kind::Bytes | Kind::Id => row.try_get::<Option<Vec<u8>>, _>(at)?.map(Cell::Bytes),
        Kind::Integer | Kind::Small | Kind::Count | Kind::Flag => row.try_get::<Option<i64>, _>(at)?.map(Cell::Integer),
    }
    .unwrap_or(Cell::Null))
}

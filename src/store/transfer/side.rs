//! A database that a command has open, whichever it is. Its methods are those of the backends.

use super::row::{AnswerLink, Cell, Counters, Extent, LinkPage, Row, StoredBody, WaitingDelivery};
use super::table::{Link, Table};
use crate::store::OpenError;
use crate::store::postgres::error;
use crate::store::postgres::transfer::Database;
use crate::store::sqlite::transfer::StoreFile;
use crate::store_url::StoreUrl;
use sqlx::Error;

pub(super) enum Side {
    Sqlite(Box<StoreFile>),
    Postgres(Box<Database>),
}

macro_rules! on_side {
    ($side:expr, $open:ident => $call:expr) => {
        match $side {
            Side::Sqlite($open) => $call,
            Side::Postgres($open) => $call,
        }
    };
}

impl Side {
    pub async fn open_source(url: &StoreUrl) -> Result<Side, OpenError> {
        Ok(match url {
            StoreUrl::Sqlite(path) => Side::Sqlite(Box::new(StoreFile::open_source(path).await?)),
            StoreUrl::Postgres(url) => Side::Postgres(Box::new(Database::open_source(url).await?)),
        })
    }

    pub async fn open_target(url: &StoreUrl) -> Result<Side, OpenError> {
        Ok(match url {
            StoreUrl::Sqlite(path) => Side::Sqlite(Box::new(StoreFile::open_target(path).await?)),
            StoreUrl::Postgres(url) => Side::Postgres(Box::new(Database::open_target(url).await?)),
        })
    }

    pub async fn open_to_check(url: &StoreUrl) -> Result<Side, OpenError> {
        Ok(match url {
            StoreUrl::Sqlite(path) => Side::Sqlite(Box::new(StoreFile::open_to_check(path).await?)),
            StoreUrl::Postgres(url) => Side::Postgres(Box::new(Database::open_to_check(url).await?)),
        })
    }

    /// Opens a store to import into it; creates it if it is missing.
    pub async fn open_import(url: &StoreUrl, now_us: i64) -> Result<Side, OpenError> {
        Ok(match url {
            StoreUrl::Sqlite(path) => Side::Sqlite(Box::new(StoreFile::open_import(path).await?)),
            StoreUrl::Postgres(url) => Side::Postgres(Box::new(Database::open_import(url, now_us).await?)),
        })
    }

    /// Without a password.
    pub fn name(&self) -> String {
        match self {
            Side::Sqlite(file) => format!("sqlite:{}", file.path.display()),
            Side::Postgres(database) => database.name.clone(),
        }
    }

    pub async fn rows(&mut self, table: &Table, after: Option<&[Cell]>) -> Result<Vec<Row>, Error> {
        on_side!(self, open => open.rows(table, after).await)
    }

    pub async fn count(&mut self, table: &Table) -> Result<u64, Error> {
        on_side!(self, open => open.count(table).await)
    }

    pub async fn extent(&mut self) -> Result<Extent, Error> {
        on_side!(self, open => open.extent().await)
    }

    pub async fn note(&mut self, name: &str) -> Result<Option<String>, Error> {
        on_side!(self, open => open.note(name).await)
    }

    pub async fn begin_copy(&mut self, notes: &[(&str, String)], extent: &Extent, now_us: i64) -> Result<(), Error> {
        on_side!(self, open => open.begin_copy(notes, extent, now_us).await)
    }

    pub async fn write(&mut self, table: &Table, rows: &[Row], note: (&str, &str)) -> Result<(), Error> {
        on_side!(self, open => open.write(table, rows, note).await)
    }

    pub async fn finish(&mut self) -> Result<(), Error> {
        on_side!(self, open => open.finish().await)
    }

    pub async fn bodies(&mut self, after: i64) -> Result<Vec<StoredBody>, Error> {
        on_side!(self, open => open.bodies(after).await)
    }

    pub async fn dangling(&mut self, link: Link, after: Option<&[Cell]>) -> Result<LinkPage, Error> {
        on_side!(self, open => open.dangling(link, after).await)
    }

    pub async fn waiting(&mut self, after: (i64, i64, i64)) -> Result<Vec<WaitingDelivery>, Error> {
        on_side!(self, open => open.waiting(after).await)
    }

    pub async fn counters(&mut self) -> Result<Vec<Counters>, Error> {
        on_side!(self, open => open.counters().await)
    }

    pub async fn begin(&mut self) -> Result<(), Error> {
        on_side!(self, open => open.begin().await)
    }

    /// Commits a transaction, or rolls it back if what it did has failed.
    pub async fn end(&mut self, done: Result<(), Error>) -> Result<(), Error> {
        on_side!(self, open => open.end(done).await)
    }

    /// These columns of the rows in which `column` is one of these values.
    pub async fn select(
        &mut self,
        table: &str,
        columns: &[&str],
        column: &str,
        values: &[Cell],
    ) -> Result<Vec<Row>, Error> {
        let table = Table::named(table);
        on_side!(self, open => open.select(table, columns, column, values).await)
    }

    pub async fn insert(&mut self, table: &str, rows: &[Row]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let table = Table::named(table);
        on_side!(self, open => open.insert(table, rows).await)
    }

    /// Hashes of terms with their messages; some may be there.
    pub async fn add_terms(&mut self, terms: Vec<(i64, i64)>) -> Result<(), Error> {
        on_side!(self, open => open.add_terms(terms).await)
    }

    /// The key of a participant, which is added if it is new.
    pub async fn participant(&mut self, id: &str) -> Result<i64, Error> {
        on_side!(self, open => open.participant(id).await)
    }

    pub async fn count_dead(&mut self, participant: i64, dead: i64) -> Result<(), Error> {
        on_side!(self, open => open.count_dead(participant, dead).await)
    }

    /// Sets the answer of a delivery, or the router's answer of a message, unless it has one that exists.
    pub async fn link(&mut self, link: AnswerLink, answer: i64) -> Result<(), Error> {
        on_side!(self, open => open.link(link, answer).await)
    }

    pub async fn save_progress(&mut self, name: &str, value: i64) -> Result<(), Error> {
        on_side!(self, open => open.save_progress(name, value).await)
    }

    pub async fn close(self) {
        on_side!(self, open => open.close().await);
    }
}

/// What to show of an error: without values of rows.
pub(super) fn text(error: &Error) -> String {
    error::text(error)
}

//! Writes imported rows to a store that no router has open.

use super::files::{self, STORE_MARK, StoreLock};
use super::transfer::StoreFile;
use super::{archive, insert, open, progress, transfer};
use crate::store::OpenError;
use crate::store::transfer::row::{AnswerLink, Cell, Row as Cells};
use crate::store::transfer::table::Table;
use sqlx::{AssertSqlSafe, Error, Row};
use std::path::Path;

impl StoreFile {
    /// Opens a store, which is created if it is missing.
    pub async fn open_import(path: &Path) -> Result<StoreFile, OpenError> {
        files::make_folder(files::folder(path))?;
        let real = files::resolve(path)?;
        let mut lock = StoreLock::take(&real)?;
        if lock.database.is_none() {
            open::create(&mut lock, &real, STORE_MARK).await?;
        }
        drop(lock);
        StoreFile::open_source(path).await
    }

    pub async fn begin(&mut self) -> Result<(), Error> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await.map(drop)
    }

    pub async fn end(&mut self, done: Result<(), Error>) -> Result<(), Error> {
        let done = match done {
            Ok(()) => sqlx::query("COMMIT").execute(&mut self.conn).await.map(drop),
            Err(error) => Err(error),
        };
        if done.is_err() {
            // The first error is the one to report.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        }
        done
    }

    pub async fn select(
        &mut self,
        table: &Table,
        columns: &[&str],
        column: &str,
        values: &[Cell],
    ) -> Result<Vec<Cells>, Error> {
        archive::select(&mut self.conn, table, columns, column, values).await
    }

    pub async fn insert(&mut self, table: &Table, rows: &[Cells]) -> Result<(), Error> {
        transfer::insert(&mut self.conn, table, rows).await
    }

    pub async fn add_terms(&mut self, mut terms: Vec<(i64, i64)>) -> Result<(), Error> {
        terms.sort_unstable();
        insert::write_terms(&mut self.conn, &mut terms).await
    }

    pub async fn participant(&mut self, id: &str) -> Result<i64, Error> {
        let insert = "INSERT INTO participant (id) VALUES (?) ON CONFLICT (id) DO UPDATE SET id = id RETURNING k";
        sqlx::query(insert).bind(id.to_owned()).fetch_one(&mut self.conn).await?.try_get(0)
    }

    pub async fn count_dead(&mut self, participant: i64, dead: i64) -> Result<(), Error> {
        let update = sqlx::query("UPDATE participant SET dead = dead + ? WHERE k = ?").bind(dead).bind(participant);
        update.execute(&mut self.conn).await.map(drop)
    }

    pub async fn link(&mut self, link: AnswerLink, answer: i64) -> Result<(), Error> {
        let (table, column, key) = link.place();
        let sql = format!(
            "UPDATE {table} SET {column} = ? WHERE k = ? AND NOT EXISTS (SELECT 1 FROM message a WHERE a.k = {table}.{column})"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(answer).bind(key).execute(&mut self.conn).await.map(drop)
    }

    pub async fn save_progress(&mut self, name: &str, value: i64) -> Result<(), Error> {
        progress::save(&mut self.conn, name, value).await
    }
}

//! Writes imported rows to a database that no router uses.

use super::core::COMMAND_SLOT;
use super::sql::Sql;
use super::transfer::Database;
use super::{archive, partitions, transfer, transfer_rows, write};
use crate::secret::SecretUrl;
use crate::store::OpenError;
use crate::store::transfer::row::{AnswerLink, Cell, Row as Cells};
use crate::store::transfer::table::Table;
use sqlx::{Error, Row};

impl Database {
    /// Opens a store, whose tables are created if they are missing.
    pub async fn open_import(url: &SecretUrl, now_us: i64) -> Result<Database, OpenError> {
        let mut database = Database::open_target(url).await?;
        transfer::refuse_unfinished(&mut database.conn).await?;
        partitions::begin(&mut database.conn, now_us).await.map_err(super::connect::cannot_open)?;
        Ok(database)
    }

    pub async fn begin(&mut self) -> Result<(), Error> {
        Sql::new("BEGIN").execute(&mut self.conn).await.map(drop)
    }

    pub async fn end(&mut self, done: Result<(), Error>) -> Result<(), Error> {
        let done = match done {
            Ok(()) => Sql::new("COMMIT").execute(&mut self.conn).await.map(drop),
            Err(error) => Err(error),
        };
        self.roll_back(done).await
    }

    pub async fn select(
        &mut self,
        table: &Table,
        columns: &[&str],
        column: &str,
        values: &[Cell],
    ) -> Result<Vec<Cells>, Error> {
        let rows = archive::select(table, columns, column, values).all(&mut self.conn).await?;
        archive::read(&rows, table, columns)
    }

    pub async fn insert(&mut self, table: &Table, rows: &[Cells]) -> Result<(), Error> {
        transfer_rows::insert(&mut self.conn, table, rows).await
    }

    pub async fn add_terms(&mut self, terms: Vec<(i64, i64)>) -> Result<(), Error> {
        write::faults(&mut self.conn, terms).await
    }

    pub async fn participant(&mut self, id: &str) -> Result<i64, Error> {
        let insert =
            "INSERT INTO participant (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET id = excluded.id RETURNING k";
        Sql::new(insert).bind(id).one(&mut self.conn).await?.try_get(0)
    }

    pub async fn count_dead(&mut self, participant: i64, dead: i64) -> Result<(), Error> {
        write::counts(&mut self.conn, &[(participant, 0, dead)], COMMAND_SLOT).await
    }

    pub async fn link(&mut self, link: AnswerLink, answer: i64) -> Result<(), Error> {
        let (table, column, key) = link.place();
        let sql = format!(
            "UPDATE {table} SET {column} = $1 WHERE k = $2 AND NOT EXISTS (SELECT 1 FROM message a WHERE a.k = {table}.{column})"
        );
        Sql::new(sql).bind(answer).bind(key).execute(&mut self.conn).await.map(drop)
    }

    pub async fn save_progress(&mut self, name: &str, value: i64) -> Result<(), Error> {
        let save = "INSERT INTO progress (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        Sql::new(save).bind(name).bind(value).execute(&mut self.conn).await.map(drop)
    }
}

//! Runs searches on connections of their own and with a time limit, so that no list delays messages, deliveries, or readiness.

use super::Postgres;
use super::error::{is_canceled, unavailable};
use super::filter::Conditions;
use super::plan::ListedTable;
use super::sql::{Sql, size_bytes};
use crate::store::view::{PAGE_LIMIT, PAGE_LIMIT_BYTES, Page, ViewError, key_of};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use std::time::Duration;
use tokio::time::timeout;

/// Reads a row of a list.
pub(in crate::store) type View<T> = fn(&PgRow) -> Result<T, Error>;

impl Postgres {
    /// Errs if the search takes longer than 10 s.
    pub(in crate::store) async fn search<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, ViewError> {
        let limit = Duration::from_millis(self.core.search_milliseconds);
        match timeout(limit, work).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) if is_canceled(&error) => Err(ViewError::TooLong(limit)),
            Ok(Err(error)) => Err(unavailable(&error).into()),
            Err(_) => Err(ViewError::TooLong(limit)),
        }
    }

    /// A page of a list; the first column is the row's key.
    pub(in crate::store) async fn page<T>(
        &self,
        listed: &ListedTable,
        (columns, view): (&'static str, View<T>),
        conditions: Conditions,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<T>, ViewError> {
        let (limit, below) = (limit.clamp(1, PAGE_LIMIT), key_of(cursor)?);
        let searchers = &self.core.searchers;
        let page = async {
            let plan = listed.plan(&conditions, below, searchers).await?;
            let below = below.map(|below| format!("{} < {below}", plan.key));
            let conditions_sql = conditions.sql_and(below);
            let (from, key, rows) = (plan.from, plan.key, limit + 1);
            let sql =
                Sql::new(format!("SELECT {columns} FROM {from}{conditions_sql} ORDER BY {key} DESC LIMIT {rows}"));
            let rows = searchers.page(&sql.bind_all(conditions.values.clone()), PAGE_LIMIT_BYTES).await?;
            let shown = &rows[..shown_rows(&rows).min(limit as usize)];
            let next =
                shown.last().filter(|_| rows.len() > shown.len()).map(|row| row.try_get::<i64, _>(0)).transpose()?;
            let items = shown.iter().map(view).collect::<Result<Vec<T>, Error>>()?;
            Ok(Page { items, next: next.map(|key| key.to_string()) })
        };
        self.search(page).await
    }

    pub(in crate::store) async fn count(&self, listed: &ListedTable, conditions: Conditions) -> Result<u64, ViewError> {
        let searchers = &self.core.searchers;
        let count = async {
            let plan = listed.plan(&conditions, None, searchers).await?;
            let sql = Sql::new(format!("SELECT count(*) FROM {}{}", plan.from, conditions.sql_and([])));
            let row = searchers.one(&sql.bind_all(conditions.values.clone())).await?;
            row.try_get::<i64, _>(0).map(i64::unsigned_abs)
        };
        self.search(count).await
    }
}

/// How many rows a page may have; at least one.
fn shown_rows(rows: &[PgRow]) -> usize {
    let mut bytes = 0;
    let fits = |row: &&PgRow| {
        let fits = bytes < PAGE_LIMIT_BYTES;
        bytes += size_bytes(row);
        fits
    };
    rows.iter().take_while(fits).count()
}

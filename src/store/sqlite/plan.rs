//! Chooses the access path of a search: the rarest of its terms, a short time window, or the key, newest first.
//!
//! The store has no SQLite statistics, so SQLite cannot know which term is rare. A bounded count in an index per term finds out.

use super::filter::Conditions;
use crate::store::view::SHORT_ROWS;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Error, Row};

/// A table that lists are made from.
pub(in crate::store) struct ListedTable {
    name: &'static str,
    alias: &'static str,
    joins: &'static str,
    time: &'static str,
    time_index: &'static str,
}

pub(in crate::store) const MESSAGES: ListedTable =
    ListedTable { name: "message", alias: "m", joins: "", time: "received_us", time_index: "message_received" };

impl ListedTable {
    /// Deliveries `d`, with what `joins` adds to each.
    pub const fn deliveries(joins: &'static str) -> ListedTable {
        ListedTable { name: "delivery", alias: "d", joins, time: "created_us", time_index: "delivery_created" }
    }
}

/// The FROM clause, and the column that orders the rows.
pub(in crate::store) struct QueryPlan {
    pub from: String,
    pub key: String,
    /// One more condition.
    pub condition: Option<String>,
}

enum AccessPath {
    Term(i64),
    Time,
    Key,
}

impl ListedTable {
    /// Chooses among the access paths that the conditions allow.
    pub async fn plan(&self, conditions: &Conditions, conn: &mut SqliteConnection) -> Result<QueryPlan, Error> {
        let ListedTable { name, alias, joins, .. } = self;
        let plan = match self.access_path(conditions, conn).await? {
            AccessPath::Term(term) => QueryPlan {
                from: format!("term x CROSS JOIN {name} {alias} ON {alias}.k = x.message_k {joins}"),
                key: "x.message_k".into(),
                condition: Some(format!("x.hash = {term}")),
            },
            AccessPath::Time => QueryPlan {
                from: format!(
                    "({}) x CROSS JOIN {name} {alias} ON {alias}.k = x.k {joins}",
                    self.in_time_window(conditions)
                ),
                key: format!("{alias}.k"),
                condition: None,
            },
            AccessPath::Key => {
                let index = conditions.index.map(|index| format!("INDEXED BY {index} ")).unwrap_or_default();
                QueryPlan { from: format!("{name} {alias} {index}{joins}"), key: format!("{alias}.k"), condition: None }
            }
        };
        Ok(plan)
    }

    async fn access_path(&self, conditions: &Conditions, conn: &mut SqliteConnection) -> Result<AccessPath, Error> {
        let mut best = (SHORT_ROWS + 1, AccessPath::Key);
        for term in &conditions.terms {
            let rows = count(conn, &format!("SELECT 1 FROM term WHERE hash = {term}")).await?;
            // Even a common term skips the rows that lack it.
            if rows < best.0 || matches!(best.1, AccessPath::Key) {
                best = (rows, AccessPath::Term(*term));
            }
        }
        if conditions.times != (i64::MIN, i64::MAX) {
            let rows = count(conn, &self.in_time_window(conditions)).await?;
            if rows < best.0 {
                best = (rows, AccessPath::Time);
            }
        }
        Ok(best.1)
    }

    fn in_time_window(&self, conditions: &Conditions) -> String {
        let ListedTable { name, time, time_index, .. } = self;
        let (since_us, until_us) = conditions.times;
        format!("SELECT k FROM {name} INDEXED BY {time_index} WHERE {time} >= {since_us} AND {time} < {until_us}")
    }
}

/// The number of rows of a query, at most `SHORT_ROWS` + 1.
async fn count(conn: &mut SqliteConnection, query: &str) -> Result<i64, Error> {
    let sql = format!("SELECT count(*) FROM ({query} LIMIT {})", SHORT_ROWS + 1);
    sqlx::query(AssertSqlSafe(sql)).fetch_one(conn).await?.try_get(0)
}

//! Which way a search goes: by the rarest of its terms, by a short time, or by key from the newest on.
//!
//! SQLite keeps no statistics here, so it cannot know that one word is rare and another on every message. How rare each is
//! costs a bounded count in an index.

use super::filter::Conditions;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Error, Row};

/// Rows up to which a way counts as short.
const SHORT_ROWS: i64 = 10_000;

/// A table that is listed.
pub(super) struct Listed {
    name: &'static str,
    alias: &'static str,
    joins: &'static str,
    time: &'static str,
    time_index: &'static str,
}

pub(super) const MESSAGES: Listed =
    Listed { name: "message", alias: "m", joins: "", time: "received_us", time_index: "message_received" };

impl Listed {
    /// Deliveries `d`, with what `joins` adds to each.
    pub const fn deliveries(joins: &'static str) -> Listed {
        Listed { name: "delivery", alias: "d", joins, time: "created_us", time_index: "delivery_created" }
    }
}

/// What stands behind FROM, and the column by which the rows are in order.
pub(super) struct Plan {
    pub from: String,
    pub key: String,
    /// One more condition.
    pub condition: Option<String>,
}

enum Way {
    Term(i64),
    Time,
    Key,
}

impl Listed {
    /// Chooses among what the conditions offer.
    pub async fn plan(&self, conditions: &Conditions, conn: &mut SqliteConnection) -> Result<Plan, Error> {
        let Listed { name, alias, joins, .. } = self;
        let plan = match self.way(conditions, conn).await? {
            Way::Term(term) => Plan {
                from: format!("term x CROSS JOIN {name} {alias} ON {alias}.k = x.message_k {joins}"),
                key: "x.message_k".into(),
                condition: Some(format!("x.h = {term}")),
            },
            Way::Time => Plan {
                from: format!("({}) x CROSS JOIN {name} {alias} ON {alias}.k = x.k {joins}", self.within(conditions)),
                key: format!("{alias}.k"),
                condition: None,
            },
            Way::Key => Plan { from: format!("{name} {alias} {joins}"), key: format!("{alias}.k"), condition: None },
        };
        Ok(plan)
    }

    async fn way(&self, conditions: &Conditions, conn: &mut SqliteConnection) -> Result<Way, Error> {
        let mut best = (SHORT_ROWS + 1, Way::Key);
        for term in &conditions.terms {
            let rows = count(conn, &format!("SELECT 1 FROM term WHERE h = {term}")).await?;
            // Even a common term leads past what does not have it.
            if rows < best.0 || matches!(best.1, Way::Key) {
                best = (rows, Way::Term(*term));
            }
        }
        if conditions.times != (i64::MIN, i64::MAX) {
            let rows = count(conn, &self.within(conditions)).await?;
            if rows < best.0 {
                best = (rows, Way::Time);
            }
        }
        Ok(best.1)
    }

    fn within(&self, conditions: &Conditions) -> String {
        let Listed { name, time, time_index, .. } = self;
        let (since_us, until_us) = conditions.times;
        format!("SELECT k FROM {name} INDEXED BY {time_index} WHERE {time} >= {since_us} AND {time} < {until_us}")
    }
}

/// How many rows a query has, up to one more than a short way has.
async fn count(conn: &mut SqliteConnection, query: &str) -> Result<i64, Error> {
    let sql = format!("SELECT count(*) FROM ({query} LIMIT {})", SHORT_ROWS + 1);
    sqlx::query(AssertSqlSafe(sql)).fetch_one(conn).await?.try_get(0)
}

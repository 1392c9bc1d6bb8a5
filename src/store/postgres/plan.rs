//! Chooses the access path of a search: the shortest of its sources of keys, or the newest first.
//!
//! The planner would have to know how rare each value is, and reads from the newest row until enough match; a bounded count in an
//! index per source finds out.

use super::filter::{Conditions, Source};
use super::pool::Pool;
use super::sql::Sql;
use crate::store::view::SHORT_ROWS;
use sqlx::{Error, Row};

/// A table that lists are made from.
pub(in crate::store) struct ListedTable {
    name: &'static str,
    alias: &'static str,
    joins: &'static str,
}

pub(in crate::store) const MESSAGES: ListedTable = ListedTable { name: "message", alias: "m", joins: "" };

/// The FROM clause, and the column that orders the rows.
pub(in crate::store) struct QueryPlan {
    pub from: String,
    pub key: String,
}

impl ListedTable {
    /// Deliveries `d`, with what `joins` adds to each.
    pub const fn deliveries(joins: &'static str) -> ListedTable {
        ListedTable { name: "delivery", alias: "d", joins }
    }

    /// `below`: only rows with a smaller key are wanted.
    pub async fn plan(
        &self,
        conditions: &Conditions,
        below: Option<i64>,
        searchers: &Pool,
    ) -> Result<QueryPlan, Error> {
        let ListedTable { name, alias, joins } = self;
        let Some(source) = shortest(conditions, searchers).await? else {
            // OFFSET 0: where the planner expects hardly any row to match, it would sort all of them instead of reading the newest.
            let below = below.map_or(String::new(), |below| format!(" WHERE k < {below}"));
            let from = format!("(SELECT * FROM {name}{below} ORDER BY k DESC OFFSET 0) {alias} {joins}");
            return Ok(QueryPlan { from, key: format!("{alias}.k") });
        };
        // OFFSET 0: the planner reads the source on its own, in its order, and each row by its key.
        let from = format!(
            "({} OFFSET 0) x CROSS JOIN LATERAL (SELECT * FROM {name} r WHERE r.k = x.k OFFSET 0) {alias} {joins}",
            source.sql(below)
        );
        Ok(QueryPlan { from, key: "x.k".into() })
    }
}

/// The source with the fewest keys. Among long ones, one in the order of keys: even a common value skips the rows that lack it.
async fn shortest<'c>(conditions: &'c Conditions, searchers: &Pool) -> Result<Option<&'c Source>, Error> {
    if let [only] = conditions.sources.as_slice()
        && only.is_ordered()
    {
        return Ok(Some(only));
    }
    let count = |source: &Source| {
        format!(
            "(SELECT count(*) FROM (SELECT 1 FROM ({}) AS s LIMIT {}) AS counted)",
            source.sql(None),
            SHORT_ROWS + 1
        )
    };
    let counts: Vec<String> = conditions.sources.iter().map(count).collect();
    if counts.is_empty() {
        return Ok(None);
    }
    let sql = Sql::new(format!("SELECT {}", counts.join(", "))).bind_all(conditions.values.clone());
    let row = searchers.one(&sql).await?;
    let mut best: Option<(i64, &Source)> = None;
    for (column, source) in conditions.sources.iter().enumerate() {
        let rows: i64 = row.try_get(column)?;
        let is_usable = rows <= SHORT_ROWS || source.may_be_long();
        if is_usable && best.is_none_or(|(fewest, _)| rows < fewest) {
            best = Some((rows, source));
        }
    }
    Ok(best.map(|(_, source)| source))
}

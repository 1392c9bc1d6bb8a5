//! What `emberpost store check` reads of a database.

use super::connect::within_limit;
use super::sql::Sql;
use super::transfer::{Database, after_key, bound, cell, keys, read_column};
use crate::store::transfer::row::{Cell, Counters, LinkPage, StoredBody, WaitingDelivery};
use crate::store::transfer::table::{Link, PAGE_BYTES, PAGE_ROWS, Table};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Error, Executor, Row};

impl Database {
    /// The bodies after a message.
    pub async fn bodies(&mut self, after: i64) -> Result<Vec<StoredBody>, Error> {
        let sql = "SELECT b.message_k, m.id, b.size, b.codec::bigint, b.bytes, m.content_sha256 \
                   FROM body b JOIN message m ON m.k = b.message_k WHERE b.message_k > $1 ORDER BY b.message_k LIMIT $2";
        let rows = Sql::new(sql).bind(after).bind(PAGE_ROWS).page(&mut self.conn, PAGE_BYTES).await?;
        let read = |row: &PgRow| {
            Ok(StoredBody {
                message_key: row.try_get(0)?,
                message_id: row.try_get(1)?,
                size: row.try_get(2)?,
                codec: row.try_get(3)?,
                bytes: row.try_get(4)?,
                content_sha256: row.try_get(5)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Rows after a key, and which of them refer to nothing.
    pub async fn dangling(&mut self, link: Link, after: Option<&[Cell]>) -> Result<LinkPage, Error> {
        let table = Table::named(link.table);
        let columns: Vec<String> = table.key.iter().map(|name| read_column(table, name, table.kind(name))).collect();
        let sql = format!(
            "SELECT {}, NOT EXISTS (SELECT 1 FROM {} p WHERE p.k = t.{}) FROM {} t {} ORDER BY {} LIMIT {PAGE_ROWS}",
            columns.join(", "),
            link.to,
            link.column,
            link.table,
            after_key(table, after),
            keys(table)
        );
        let query = sqlx::query_with(AssertSqlSafe(sql), bound(after.into_iter().flatten())?);
        let mut page = LinkPage::default();
        for row in within_limit(query.fetch_all(&mut self.conn)).await? {
            let cells: Result<Vec<Cell>, Error> =
                table.key.iter().enumerate().map(|(at, name)| cell(&row, at, table.kind(name))).collect();
            let cells = cells?;
            page.rows += 1;
            if row.try_get(table.key.len())? {
                page.dangling.push(cells.clone());
            }
            page.last = Some(cells);
        }
        Ok(page)
    }

    /// Deliveries that wait in lanes with an order, in that order.
    pub async fn waiting(&mut self, after: (i64, i64, i64)) -> Result<Vec<WaitingDelivery>, Error> {
        let sql = "SELECT k, participant, lane, seq, prev_seq FROM delivery \
                   WHERE state = 0 AND (participant, lane, seq) > ($1, $2, $3) ORDER BY participant, lane, seq LIMIT $4";
        let sql = Sql::new(sql).bind(after.0).bind(after.1).bind(after.2).bind(PAGE_ROWS);
        let read = |row: &PgRow| {
            Ok(WaitingDelivery {
                key: row.try_get(0)?,
                participant: row.try_get(1)?,
                lane: row.try_get(2)?,
                seq: row.try_get(3)?,
                prev_seq: row.try_get(4)?,
            })
        };
        sql.all(&mut self.conn).await?.iter().map(read).collect()
    }

    /// One statement without a limit of time: it reads all deliveries that wait and are dead.
    pub async fn counters(&mut self) -> Result<Vec<Counters>, Error> {
        self.conn.execute("SET statement_timeout = 0").await?;
        let sql = "SELECT p.id, coalesce(c.waiting, 0)::bigint, coalesce(c.dead, 0)::bigint, coalesce(w.n, 0), coalesce(d.n, 0) \
                   FROM participant p \
                   LEFT JOIN (SELECT participant, sum(waiting) AS waiting, sum(dead) AS dead FROM participant_count GROUP BY participant) c \
                   ON c.participant = p.k \
                   LEFT JOIN (SELECT participant, count(*) AS n FROM delivery WHERE state = 0 GROUP BY participant) w \
                   ON w.participant = p.k \
                   LEFT JOIN (SELECT participant, count(*) AS n FROM delivery WHERE state = 4 GROUP BY participant) d \
                   ON d.participant = p.k ORDER BY p.k";
        let rows = sqlx::query(sql).fetch_all(&mut self.conn).await?;
        let read = |row: &PgRow| {
            Ok(Counters {
                participant: row.try_get(0)?,
                counted: (row.try_get(1)?, row.try_get(2)?),
                found: (row.try_get(3)?, row.try_get(4)?),
            })
        };
        rows.iter().map(read).collect()
    }
}

//! What `emberpost store check` reads of a store file.

use super::leftover;
use super::row;
use super::transfer::{StoreFile, bound, cell};
use crate::store::transfer::row::{Cell, Counters, LinkPage, StoredBody, WaitingDelivery};
use crate::store::transfer::table::{Link, PAGE_BYTES, PAGE_ROWS, Table};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Error, Row};

impl StoreFile {
    /// The bodies after a message.
    pub async fn bodies(&mut self, after: i64) -> Result<Vec<StoredBody>, Error> {
        let sql = "SELECT b.message_k, m.id, b.size, b.codec, b.bytes, m.content_sha256 \
                   FROM body b CROSS JOIN message m ON m.k = b.message_k WHERE b.message_k > ? ORDER BY b.message_k LIMIT ?";
        let mut stream = sqlx::query(sql).bind(after).bind(PAGE_ROWS).fetch(&mut self.conn);
        let (mut bodies, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES
            && let Some(row) = stream.try_next().await?
        {
            let body = StoredBody {
                message_key: row.try_get(0)?,
                message_id: row::uuid(row.try_get(1)?)?,
                size: row.try_get(2)?,
                codec: row.try_get(3)?,
                bytes: row.try_get(4)?,
                content_sha256: row.try_get(5)?,
            };
            bytes += body.bytes.len();
            bodies.push(body);
        }
        Ok(bodies)
    }

    /// Rows after a key, and which of them refer to nothing.
    pub async fn dangling(&mut self, link: Link, after: Option<&[Cell]>) -> Result<LinkPage, Error> {
        let table = Table::named(link.table);
        let keys = table.key;
        let names = keys.join(", ");
        let after_key =
            after.map_or(String::new(), |after| format!("WHERE ({names}) > ({})", vec!["?"; after.len()].join(", ")));
        // References of deleted messages are deleted later.
        let left_behind = match link.table {
            "reference" => format!(
                " AND t.message_k > coalesce((SELECT value FROM progress WHERE name = '{}'), 0)",
                leftover::NEWEST
            ),
            _ => String::new(),
        };
        let sql = format!(
            "SELECT {names}, NOT EXISTS (SELECT 1 FROM {} p WHERE p.k = t.{}){left_behind} FROM {} t {after_key} ORDER BY {names} LIMIT {PAGE_ROWS}",
            link.to, link.column, link.table
        );
        let query = sqlx::query_with(AssertSqlSafe(sql), bound(after.into_iter().flatten())?);
        let mut page = LinkPage::default();
        for row in query.fetch_all(&mut self.conn).await? {
            let cells: Result<Vec<Cell>, Error> =
                keys.iter().enumerate().map(|(at, name)| cell(&row, at, table.kind(name))).collect();
            let cells = cells?;
            page.rows += 1;
            if row.try_get(keys.len())? {
                page.dangling.push(cells.clone());
            }
            page.last = Some(cells);
        }
        Ok(page)
    }

    /// Deliveries that wait in lanes with an order, in that order.
    pub async fn waiting(&mut self, after: (i64, i64, i64)) -> Result<Vec<WaitingDelivery>, Error> {
        let sql = "SELECT k, participant, lane, seq, prev_seq FROM delivery INDEXED BY delivery_waiting \
                   WHERE state = 0 AND (participant, lane, seq) > (?, ?, ?) ORDER BY participant, lane, seq LIMIT ?";
        let query = sqlx::query(sql).bind(after.0).bind(after.1).bind(after.2).bind(PAGE_ROWS);
        let rows = query.fetch_all(&mut self.conn).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(WaitingDelivery {
                key: row.try_get(0)?,
                participant: row.try_get(1)?,
                lane: row.try_get(2)?,
                seq: row.try_get(3)?,
                prev_seq: row.try_get(4)?,
            })
        };
        rows.iter().map(read).collect()
    }

    pub async fn counters(&mut self) -> Result<Vec<Counters>, Error> {
        let sql = "SELECT p.id, p.waiting, p.dead, coalesce(w.n, 0), coalesce(d.n, 0) FROM participant p \
                   LEFT JOIN (SELECT participant, count(*) AS n FROM delivery WHERE state = 0 GROUP BY participant) w ON w.participant = p.k \
                   LEFT JOIN (SELECT participant, count(*) AS n FROM delivery WHERE state >= 4 AND state = 4 GROUP BY participant) d \
                   ON d.participant = p.k ORDER BY p.k";
        let rows = sqlx::query(sql).fetch_all(&mut self.conn).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Counters {
                participant: row.try_get(0)?,
                counted: (row.try_get(1)?, row.try_get(2)?),
                found: (row.try_get(3)?, row.try_get(4)?),
            })
        };
        rows.iter().map(read).collect()
    }
}

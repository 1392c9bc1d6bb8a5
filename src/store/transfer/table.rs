//! The tables of a store that every database has, their rows as plain values, and the digest of a table.
//!
//! What a database derives from them (counters by connection, a log of references, locks) is not part of it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The most rows of a page, and the bytes after which it ends.
pub(in crate::store) const PAGE_ROWS: u32 = 2_000;
pub(in crate::store) const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// A row: the values of the table's columns.
pub(in crate::store) type Row = Vec<Cell>;

/// The type of a column where a database distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Integer,
    /// 16 and 32 bits.
    Small,
    Count,
    Flag,
    Text,
    Bytes,
    /// A UUID: 16 bytes.
    Id,
}

use Kind::{Bytes, Count, Flag, Id, Integer, Small, Text};

pub(in crate::store) struct Table {
    pub name: &'static str,
    /// The primary key.
    pub key: &'static [&'static str],
    pub columns: &'static [(&'static str, Kind)],
}

/// In the order in which they are copied. `participant` has its counters, whatever holds them.
pub(in crate::store) const TABLES: [Table; 11] = [
    Table {
        name: "participant",
        key: &["k"],
        columns: &[("k", Integer), ("id", Text), ("paused", Flag), ("waiting", Integer), ("dead", Integer)],
    },
    Table {
        name: "message",
        key: &["k"],
        columns: &[
            ("k", Integer),
            ("id", Id),
            ("state", Small),
            ("status_ended", Flag),
            ("received_us", Integer),
            ("committed_us", Integer),
            ("sender", Integer),
            ("in_reply_to", Id),
            ("router_answer_k", Integer),
            ("response_flags", Small),
            ("content_sha256", Bytes),
            ("response_sha256", Bytes),
            ("source", Text),
            ("event", Text),
            ("response_code", Text),
            ("destinations", Text),
            ("issue_labels", Text),
            ("metadata", Text),
            ("outcome", Text),
        ],
    },
    Table {
        name: "body",
        key: &["message_k"],
        columns: &[("message_k", Integer), ("size", Integer), ("codec", Small), ("bytes", Bytes), ("outcome", Text)],
    },
    Table {
        name: "reference",
        key: &["hash", "sender", "kind", "content_head", "message_k"],
        columns: &[
            ("hash", Integer),
            ("message_k", Integer),
            ("kind", Small),
            ("sender", Integer),
            ("content_head", Integer),
        ],
    },
    Table { name: "term", key: &["hash", "message_k"], columns: &[("hash", Integer), ("message_k", Integer)] },
    Table {
        name: "delivery",
        key: &["k"],
        columns: &[
            ("k", Integer),
            ("id", Id),
            ("message_k", Integer),
            ("participant", Integer),
            ("lane", Integer),
            ("seq", Integer),
            ("prev_seq", Integer),
            ("due_us", Integer),
            ("expires_us", Integer),
            ("created_us", Integer),
            ("ended_us", Integer),
            ("answer_k", Integer),
            ("replay_of", Id),
            ("attempts", Count),
            ("uncounted", Count),
            ("status", Count),
            ("state", Small),
            ("kind", Small),
            ("destination", Text),
            ("fault", Text),
            ("kind_json", Text),
        ],
    },
    Table {
        name: "attempt",
        key: &["delivery_k", "n"],
        columns: &[
            ("delivery_k", Integer),
            ("n", Count),
            ("started_us", Integer),
            ("duration_us", Integer),
            ("status", Count),
            ("result", Text),
            ("fault", Text),
            ("detail", Text),
        ],
    },
    Table { name: "receiver_issues", key: &["delivery_k"], columns: &[("delivery_k", Integer), ("issues", Text)] },
    Table {
        name: "replay",
        key: &["k"],
        columns: &[
            ("k", Integer),
            ("id", Id),
            ("state", Small),
            ("order_json", Text),
            ("created_us", Integer),
            ("last_k", Integer),
            ("end_k", Integer),
            ("total", Integer),
            ("done", Integer),
            ("skipped", Integer),
        ],
    },
    Table {
        name: "redelivery",
        key: &["queue", "digest"],
        columns: &[("queue", Text), ("digest", Bytes), ("tries", Count), ("tried_us", Integer)],
    },
    Table { name: PROGRESS, key: &["name"], columns: &[("name", Text), ("value", Integer)] },
];

pub(in crate::store) const PROGRESS: &str = "progress";
/// A column, and the table to whose key `k` it refers.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Link {
    pub table: &'static str,
    pub column: &'static str,
    pub to: &'static str,
}

const fn link(table: &'static str, column: &'static str, to: &'static str) -> Link {
    Link { table, column, to }
}

/// What a row must not refer to in vain. Keys of answers are left out: retention
/// may delete an answer before its request.
pub(in crate::store) const LINKS: [Link; 8] = [
    link("message", "sender", "participant"),
    link("body", "message_k", "message"),
    link("reference", "message_k", "message"),
    link("term", "message_k", "message"),
    link("delivery", "message_k", "message"),
    link("delivery", "participant", "participant"),
    link("attempt", "delivery_k", "delivery"),
    link("receiver_issues", "delivery_k", "delivery"),
];

impl Table {
    pub fn named(name: &str) -> &'static Table {
        static ALL: [Table; 11] = TABLES;
        ALL.iter().find(|table| table.name == name).unwrap_or(&ALL[0])
    }

    pub fn kind(&self, column: &str) -> Kind {
        self.columns.iter().find(|(name, _)| *name == column).map_or(Integer, |(_, kind)| *kind)
    }

    /// The values of these columns.
    pub fn values(&self, row: &[Cell], columns: &[&str]) -> Vec<Cell> {
        let place = |column: &&str| self.columns.iter().position(|(name, _)| name == column);
        columns.iter().filter_map(place).filter_map(|place| row.get(place)).cloned().collect()
    }

    /// Whether a row belongs to the store rather than to the database or machine that it is on: how far SQLite is with what it writes
    /// later, and the clock of the machine, stay behind.
    pub fn moves(&self, row: &[Cell]) -> bool {
        let stays = |name: &str| ["terms", "references"].contains(&name) || name.starts_with("clock_");
        self.name != PROGRESS || !matches!(row.first(), Some(Cell::Text(name)) if stays(name))
    }
}

/// A value of a column. A UUID is its bytes, and a flag is 0 or 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    /// A text as every database can store it: without U+0000.
    pub fn text(text: String) -> Cell {
        Cell::Text(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text })
    }

    pub fn size_bytes(&self) -> usize {
        match self {
            Cell::Null | Cell::Integer(_) => 8,
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
        }
    }
}

/// The keys and times of a store's messages, by which another database prepares for them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct Extent {
    pub first_message: i64,
    pub last_message: i64,
    pub first_delivery: i64,
    pub last_delivery: i64,
    /// Between the oldest message and the newest.
    pub days: i64,
}

/// A body with what it must agree with.
pub(in crate::store) struct StoredBody {
    pub message_key: i64,
    pub message_id: Uuid,
    pub size: i64,
    pub codec: i64,
    pub bytes: Vec<u8>,
    pub content_sha256: Vec<u8>,
}

/// A delivery that waits, with its link, in the order of its lane.
#[derive(Clone, Debug)]
pub(in crate::store) struct WaitingDelivery {
    pub key: i64,
    pub participant: i64,
    pub lane: i64,
    pub seq: i64,
    pub prev_seq: Option<i64>,
}

/// How many deliveries of a participant wait and are dead, as its counters say and as they are.
pub(in crate::store) struct Counters {
    pub participant: String,
    pub counted: (i64, i64),
    pub found: (i64, i64),
}

/// A page of rows: how many there are, the key of the last one, and the keys of those that refer to nothing.
#[derive(Default)]
pub(in crate::store) struct LinkPage {
    pub rows: u64,
    pub last: Option<Row>,
    pub dangling: Vec<Row>,
}

/// The number of rows of a table, and the sum of their hashes: the same in whatever order they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct TableDigest {
    pub rows: u64,
    pub sum: u128,
}

impl TableDigest {
    pub fn add(&mut self, row: &[Cell]) {
        let mut hash = Sha256::new();
        for cell in row {
            let (tag, bytes): (u8, &[u8]) = match cell {
                Cell::Null => (0, &[]),
                Cell::Integer(value) => (1, &value.to_be_bytes()),
                Cell::Text(text) => (2, text.as_bytes()),
                Cell::Bytes(bytes) => (3, bytes),
            };
            hash.update([tag]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        let hash = hash.finalize();
        self.rows += 1;
        self.sum = hash.iter().take(16).fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte)).wrapping_add(self.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_every_value_and_not_on_the_order_of_rows() {
        let rows = [vec![Cell::Integer(1), Cell::text("a".into())], vec![Cell::Integer(2), Cell::Null]];
        let digest = |rows: &[&Vec<Cell>]| {
            let mut digest = TableDigest::default();
            rows.iter().for_each(|row| digest.add(row));
            digest
        };
        let [one, two] = &rows;
        assert_eq!(digest(&[one, two]), digest(&[two, one]));
        let changed = vec![Cell::Integer(2), Cell::Bytes(Vec::new())];
        assert_ne!(digest(&[one, two]), digest(&[one, &changed]));
        assert_ne!(digest(&[one, one]), digest(&[one]));
    }

    #[test]
    fn what_belongs_to_a_database_or_its_machine_stays_behind() {
        let progress = Table::named("progress");
        let moves = |name: &str| progress.moves(&[Cell::Text(name.into()), Cell::Integer(1)]);
        assert_eq!(["identities", "terms", "references", "clock_wall"].map(moves), [true, false, false, false]);
    }
}

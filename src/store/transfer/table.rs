//! The tables of a store that every database has.
//!
//! What a database derives from them (counters by connection, a log of references, locks) is not part of it.

use super::row::Cell;

/// The most rows of a page, and the bytes after which it ends.
pub(in crate::store) const PAGE_ROWS: u32 = 2_000;
pub(in crate::store) const PAGE_BYTES: usize = 8 * 1024 * 1024;

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

    pub fn set(&self, row: &mut [Cell], column: &str, cell: Cell) {
        let place = self.columns.iter().position(|(name, _)| *name == column);
        if let Some(found) = place.and_then(|place| row.get_mut(place)) {
            *found = cell;
        }
    }

    /// Whether a row belongs to the store rather than to the database or machine that it is on: how far SQLite is with what it writes
    /// and deletes later, who can use its schema, and the clock of the machine, stay behind.
    pub fn moves(&self, row: &[Cell]) -> bool {
        let stays = |name: &str| {
            ["terms", "references", "schema_reader"].contains(&name)
                || name.starts_with("leftover_")
                || name.starts_with("clock_")
        };
        self.name != PROGRESS || !matches!(row.first(), Some(Cell::Text(name)) if stays(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_database_or_its_machine_stays_behind() {
        let progress = Table::named("progress");
        let moves = |name: &str| progress.moves(&[Cell::Text(name.into()), Cell::Integer(1)]);
        assert_eq!(
            ["identities", "terms", "schema_reader", "leftover_newest", "clock_wall"].map(moves),
            [true, false, false, false, false]
        );
    }
}

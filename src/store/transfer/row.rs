//! Rows of a store's tables as plain values, what else the commands read, and the digest of a table.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// A row: the values of the table's columns.
pub(in crate::store) type Row = Vec<Cell>;

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

/// What an answer belongs to, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum AnswerLink {
    Delivery(i64),
    Message(i64),
}

impl AnswerLink {
    /// Table, column of the answer, and key.
    pub fn place(self) -> (&'static str, &'static str, i64) {
        match self {
            AnswerLink::Delivery(key) => ("delivery", "answer_k", key),
            AnswerLink::Message(key) => ("message", "router_answer_k", key),
        }
    }
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
}

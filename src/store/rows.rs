//! The rows that a batch has decided to write, as data. A backend writes all of them in the transaction in which it read.

use super::prepare::Packed;
use super::reference::{head, references};
use super::stored::DeliveryRecord;
use crate::delivery::{AttemptRow, DeliveryKind, DeliveryState, MessageState, Metadata};
use crate::nodes::NodeKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Flags of a response: it fits more than one request.
pub(super) const AMBIGUOUS: i64 = 1;
/// Flags of a response: its request already had a first answer.
pub(super) const FURTHER: i64 = 2;

pub(super) struct MessageRow {
    pub key: i64,
    pub state: MessageState,
    pub committed_us: i64,
    pub sender: i64,
    pub in_reply_to: Option<Uuid>,
    pub router_answer: Option<i64>,
    pub event: Option<Arc<str>>,
    pub destinations: Arc<str>,
    pub issue_labels: Option<Arc<str>>,
    pub content: [u8; 32],
    pub response_sha256: Option<[u8; 32]>,
    pub flags: i64,
    pub metadata: Arc<Metadata>,
    pub metadata_json: Arc<str>,
    /// The masked outcome, stored with the message, and the full one, stored with the body.
    pub outcome_json: Option<Arc<str>>,
    pub full_outcome_json: Option<Arc<str>>,
    /// Bytes of the body as received.
    pub size_bytes: i64,
    pub packed: Packed,
}

/// In the order of the table. As JSON it is an array of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "ReferenceColumns", from = "ReferenceColumns")]
pub(super) struct ReferenceRow {
    pub hash: i64,
    /// Key of the sender; 0 if the row identifies no message.
    pub sender: i64,
    pub kind: i64,
    pub content: i64,
    pub message_key: i64,
}

impl ReferenceRow {
    pub const LEAST: ReferenceRow = ReferenceRow::of(i64::MIN);
    pub const MOST: ReferenceRow = ReferenceRow::of(i64::MAX);

    const fn of(value: i64) -> ReferenceRow {
        ReferenceRow { hash: value, sender: value, kind: value, content: value, message_key: value }
    }

    /// All references of a message; `sender` is 0 where they identify no message.
    pub fn all(metadata: &Metadata, sender: i64, content: &[u8], message_key: i64) -> Vec<ReferenceRow> {
        let content = head(content);
        let row = |(hash, kind)| ReferenceRow { hash, sender, kind, content, message_key };
        let all = references(metadata, &Default::default());
        all.into_iter().map(|reference| row((reference.hash, reference.kind))).collect()
    }
}

type ReferenceColumns = (i64, i64, i64, i64, i64);

impl From<ReferenceRow> for ReferenceColumns {
    fn from(row: ReferenceRow) -> Self {
        (row.hash, row.sender, row.kind, row.content, row.message_key)
    }
}

impl From<ReferenceColumns> for ReferenceRow {
    fn from((hash, sender, kind, content, message_key): ReferenceColumns) -> Self {
        ReferenceRow { hash, sender, kind, content, message_key }
    }
}

pub(super) struct DeliveryRow {
    pub key: i64,
    pub id: Uuid,
    pub message_key: i64,
    pub participant_key: i64,
    pub lane: i64,
    pub seq: i64,
    pub prev_seq: Option<i64>,
    pub due_us: i64,
    pub expires_us: i64,
    pub created_us: i64,
    pub kind: DeliveryKind,
    pub destination: Option<String>,
    /// The node on which the sender waits for the answer.
    pub waiting: Option<NodeKey>,
}

/// Links a stored response to the request that it answers.
pub(super) struct ResponseLink {
    pub message_key: i64,
    pub request: Uuid,
    /// Flags to add.
    pub flags: i64,
    /// The new metadata; None if it does not change.
    pub metadata_json: Option<String>,
}

pub(super) struct NumberedAttempt {
    pub delivery_key: i64,
    pub n: i64,
    pub attempt: AttemptRow,
}

/// What one transaction writes.
#[derive(Default)]
pub(super) struct Rows {
    pub messages: Vec<MessageRow>,
    pub references: Vec<ReferenceRow>,
    /// Faults of deliveries as terms of their messages.
    pub faults: Vec<(i64, i64)>,
    pub deliveries: Vec<DeliveryRow>,
    pub attempts: Vec<NumberedAttempt>,
    /// Issues that receivers reported about messages that they accepted, by delivery.
    pub receiver_issues: Vec<(i64, String)>,
    pub linked_responses: Vec<ResponseLink>,
    /// Deliveries with their new state, by key.
    pub changed: Vec<(i64, DeliveryRecord)>,
    /// Messages whose identities are released: later copies count as new.
    pub released: Vec<i64>,
    /// Terms of the new messages, which a backend may write later.
    pub terms: Vec<(i64, i64)>,
}

/// By how many the deliveries of a participant change that wait, and those that are dead: key of the participant, waiting, dead.
pub(super) type CountChange = (i64, i64, i64);

/// The changes of counters for deliveries of participants that go from one state to another; None: they are new.
pub(super) fn count_changes(
    changes: impl Iterator<Item = (i64, Option<DeliveryState>, DeliveryState)>,
) -> Vec<CountChange> {
    let mut counts: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (participant, from, to) in changes {
        let change = |counted| i64::from(to == counted) - i64::from(from == Some(counted));
        let count = counts.entry(participant).or_default();
        count.0 += change(DeliveryState::Waiting);
        count.1 += change(DeliveryState::Dead);
    }
    let is_change = |(_, count): &(i64, (i64, i64))| *count != (0, 0);
    counts.into_iter().filter(is_change).map(|(participant, (waiting, dead))| (participant, waiting, dead)).collect()
}

impl Rows {
    pub fn count_changes(&self) -> Vec<CountChange> {
        let new = self.deliveries.iter().map(|row| (row.participant_key, None, DeliveryState::Waiting));
        let changed =
            self.changed.iter().map(|(_, record)| (record.participant_key, Some(record.stored_state), record.state));
        count_changes(new.chain(changed))
    }
}

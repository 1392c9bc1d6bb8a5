//! What a batch asks its backend for, and what the backend returns: keys, stored messages with the same identities, deliveries
//! to be settled, and the ends of lanes.
//!
//! The backend reads all of it in the transaction that it writes in, so that nothing changes in between: SQLite has a single
//! writer; a database with several writers locks what it reads.

use super::reference::{head, value};
use crate::delivery::{DeliveryState, Metadata};
use crate::fault::Fault;
use crate::nodes::NodeKey;
use fhir::identity::KeyKind;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// What a batch must know before it decides.
#[derive(Default)]
pub(super) struct BatchQuery {
    pub lookups: Vec<IdentityLookup>,
    /// Keys of the deliveries to be settled or answered.
    pub deliveries: Vec<i64>,
    /// Keys of the responses to be assigned, which must be ambiguous.
    pub assigned: Vec<i64>,
    /// Ordered lanes that get new deliveries.
    pub lanes: HashSet<LaneId>,
    /// Participants whose leases are compared with those of settlements.
    pub leases: HashSet<i64>,
    /// The most messages and deliveries that the batch inserts: a database may reserve keys for them.
    pub new_messages: usize,
    pub new_deliveries: usize,
}

/// The last keys and sequence number that were assigned.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastKeys {
    pub message: i64,
    pub delivery: i64,
    pub seq: i64,
}

/// Assigns keys and sequence numbers to what a batch inserts.
#[derive(Debug)]
pub(super) enum Keys {
    /// A single writer counts.
    Counted(LastKeys),
    /// A database with several writers has reserved them, each in descending order, as many as the query asked for.
    Reserved { messages: Vec<i64>, deliveries: Vec<i64>, seqs: Vec<i64> },
}

impl Default for Keys {
    fn default() -> Self {
        Keys::Counted(LastKeys::default())
    }
}

/// What is assigned beyond what was reserved: no row has this key, and the table refuses a second one.
const NOT_RESERVED: i64 = 0;

impl Keys {
    pub fn next_message(&mut self) -> i64 {
        match self {
            Keys::Counted(last) => {
                last.message += 1;
                last.message
            }
            Keys::Reserved { messages, .. } => messages.pop().unwrap_or(NOT_RESERVED),
        }
    }

    pub fn next_delivery(&mut self) -> i64 {
        match self {
            Keys::Counted(last) => {
                last.delivery += 1;
                last.delivery
            }
            Keys::Reserved { deliveries, .. } => deliveries.pop().unwrap_or(NOT_RESERVED),
        }
    }

    /// Grows even if the clock is set back.
    pub fn next_seq(&mut self, now_us: i64) -> i64 {
        match self {
            Keys::Counted(last) => last.next_seq(now_us),
            Keys::Reserved { seqs, .. } => seqs.pop().unwrap_or(NOT_RESERVED),
        }
    }
}

impl LastKeys {
    pub fn next_seq(&mut self, now_us: i64) -> i64 {
        self.seq = now_us.max(self.seq + 1);
        self.seq
    }
}

/// An identity key and the content of the message that has it, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct IdentityLookup {
    pub hash: i64,
    pub sender: i64,
    pub kind: i64,
    pub content: i64,
}

impl IdentityLookup {
    pub fn new(hash: i64, sender: i64, kind: KeyKind, content: &[u8; 32]) -> Self {
        IdentityLookup { hash, sender, kind: kind as i64, content: head(content) }
    }
}

/// A stored message that may be the same.
pub(super) struct Candidate {
    pub id: Uuid,
    pub content: [u8; 32],
    pub received_us: i64,
    pub metadata: Arc<Metadata>,
}

impl Candidate {
    pub fn has_key(&self, kind: KeyKind, wanted: &str) -> bool {
        value(&self.metadata, kind).is_some_and(|known| known == wanted)
    }
}

/// Stored messages by identity; an identity that is absent is new.
#[derive(Default)]
pub(super) struct KnownIdentities {
    /// The newest message with the same key and content, and a recent one with the same key.
    pub keys: HashMap<IdentityLookup, (Option<i64>, i64)>,
    pub candidates: HashMap<i64, Candidate>,
}

/// A delivery in its current state, which the batch changes.
#[derive(Clone, Debug)]
pub(super) struct DeliveryRecord {
    pub message_key: i64,
    pub message_id: Uuid,
    pub participant_key: i64,
    /// The state before the batch.
    pub stored_state: DeliveryState,
    pub state: DeliveryState,
    pub attempts: i64,
    pub status: Option<u16>,
    pub due_us: i64,
    pub fault: Option<Fault>,
    pub answer: Option<i64>,
    pub ended_us: Option<i64>,
    /// The answer is a transient-error: the next one counts as the first.
    pub transient: bool,
    /// The nodes on which senders wait for the answer.
    pub waiting: Vec<NodeKey>,
    /// The answers so far: their keys, and SHA-256 of their contents without their own identities.
    pub answers: Vec<(i64, Option<[u8; 32]>)>,
    pub changed: bool,
}

/// A lane: key of the participant and key of the lane.
pub(super) type LaneId = (i64, i64);

/// The `seq` of the newest waiting delivery of each lane that has one.
pub(super) type Tails = HashMap<LaneId, i64>;

/// What the store holds about the messages and deliveries of a batch.
#[derive(Default)]
pub(super) struct StoredState {
    /// Keys for what the batch inserts.
    pub keys: Keys,
    pub identities: KnownIdentities,
    /// The deliveries of the query, by key.
    pub deliveries: HashMap<i64, DeliveryRecord>,
    pub tails: Tails,
    /// The epochs of the leases of the query, by participant. Empty where a store belongs to one node.
    pub epochs: HashMap<i64, i64>,
    /// The responses of the query that are still ambiguous.
    pub ambiguous: HashSet<i64>,
}

//! A model of a database that several nodes share, for their simulation. Transactions take locks, read what was committed before,
//! decide as the backends do (`batch::decide`), and commit in any order that the locks allow; one step at a time, as the caller
//! chooses.

mod reads;
mod transaction;

pub(crate) use transaction::{Done, Step, TransactionId, Work};

use super::participants::ParticipantKeys;
use super::rows::ReferenceRow;
use crate::delivery::{DeliveryState, Metadata, PendingDelivery};
use crate::nodes::NodeKey;
use crate::nodes::lease::{Lease, LeaseId, LiveNode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use transaction::Transaction;
use uuid::Uuid;

/// A committed message.
struct StoredMessage {
    id: Uuid,
    content: [u8; 32],
    response_content: Option<[u8; 32]>,
    metadata: Arc<Metadata>,
    in_reply_to: Option<Uuid>,
}

/// A committed delivery.
#[derive(Clone)]
struct StoredDelivery {
    pending: PendingDelivery,
    participant_key: i64,
    state: DeliveryState,
    status: Option<u16>,
    answer: Option<i64>,
    transient: bool,
    waiting: Vec<NodeKey>,
}

/// What a transaction locks, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lock {
    Rounds,
    Lane(i64, i64),
    Identity(i64, i64, i64),
    Delivery(i64),
    /// Of a participant's queue. Batches share it.
    Lease(i64),
}

/// A node's row: it is live until this time, in microseconds of the database's clock.
struct NodeRow {
    live: LiveNode,
    until_us: i64,
}

/// The database: what is committed, and the transactions that run.
pub(crate) struct Model {
    pub now_us: i64,
    participants: ParticipantKeys,
    messages: BTreeMap<i64, StoredMessage>,
    references: BTreeSet<ReferenceRow>,
    deliveries: BTreeMap<i64, StoredDelivery>,
    /// The answers to each delivery in order of commit.
    answers: BTreeMap<i64, Vec<i64>>,
    nodes: BTreeMap<NodeKey, NodeRow>,
    leases: BTreeMap<LeaseId, Lease>,
    last_message: i64,
    last_delivery: i64,
    last_seq: i64,
    last_node: NodeKey,
    running: BTreeMap<TransactionId, Transaction>,
    locks: BTreeMap<Lock, Vec<TransactionId>>,
    last_transaction: TransactionId,
}

impl Model {
    /// An empty database that knows these participants; their keys count from 1.
    pub fn new(participants: &[&str], now_us: i64) -> Model {
        let participants: std::collections::HashMap<Arc<str>, i64> =
            (1..).zip(participants).map(|(key, id)| (Arc::from(*id), key)).collect();
        Model {
            now_us,
            participants: Arc::new(participants),
            messages: BTreeMap::new(),
            references: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            answers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_message: 0,
            last_delivery: 0,
            last_seq: 0,
            last_node: 0,
            running: BTreeMap::new(),
            locks: BTreeMap::new(),
            last_transaction: 0,
        }
    }
}

//! The transactions of the model: locks in a fixed order, then the read, the decision, and the commit, as a backend with several
//! writers makes them.

use super::{Lock, Model, StoredDelivery, StoredMessage};
use crate::delivery::{Acceptance, DeliveryState, NewMessage, PendingDelivery, Settled, Settlement};
use crate::nodes::NodeKey;
use crate::nodes::lease::{LEASE, Lease, LeaseId, LeaseKind, LiveNode, Round, View};
use crate::store::batch::{self, BatchResult, Decision};
use crate::store::context::Context;
use crate::store::prepare::{self, BatchJob, WaitChange};
use crate::store::rows::{DeliveryRow, ReferenceRow, Rows};
use crate::store::stored::{BatchQuery, Candidate, DeliveryRecord, IdentityLookup, Keys, KnownIdentities, StoredState};
use futures_util::FutureExt;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub(crate) type TransactionId = u64;

/// What a transaction is for.
pub(crate) enum Work {
    Accept(Box<NewMessage>),
    Settle(Settlement),
    Wait { delivery_key: i64, begins: bool },
    Round { live: LiveNode, releasing: BTreeSet<LeaseId>, released: BTreeSet<LeaseId> },
}

/// What it returns after the commit.
#[derive(Debug)]
pub(crate) enum Done {
    Accepted(Acceptance),
    Settled(Settled),
    Waits(bool),
    Round(Round),
}

/// A step of a transaction.
pub(crate) enum Step {
    /// Another transaction holds what it needs.
    Blocked,
    Moved,
    Committed(Done),
}

pub(super) struct Transaction {
    node: NodeKey,
    task: Task,
    wanted: Vec<Lock>,
    stage: Stage,
}

enum Task {
    Batch(BatchJob, BatchQuery),
    Round { live: LiveNode, releasing: BTreeSet<LeaseId>, released: BTreeSet<LeaseId> },
}

enum Stage {
    Locks,
    Read,
    Batch(BatchResult, Box<Rows>),
    Round(Round),
}

impl Model {
    fn context(&self, node: NodeKey) -> Context {
        Context {
            participants: self.participants.clone(),
            now_us: self.now_us,
            identities_from_us: i64::MIN,
            node: Some(node),
            live_nodes: Arc::new(self.live_nodes()),
        }
    }

    /// Begins a transaction of a node.
    pub fn begin(&mut self, node: NodeKey, work: Work) -> TransactionId {
        let job = match work {
            Work::Accept(new) => BatchJob::Accept(Box::new(ready(prepare::message(*new)))),
            Work::Settle(settlement) => BatchJob::Settle(Box::new(ready(prepare::settlement(settlement)))),
            Work::Wait { delivery_key, begins } => BatchJob::Wait(WaitChange { delivery_key, begins }),
            Work::Round { live, releasing, released } => {
                return self.add(node, Task::Round { live, releasing, released }, vec![Lock::Rounds]);
            }
        };
        let query = self.context(node).query(std::slice::from_ref(&job));
        let mut slots: Vec<Lock> =
            query.lanes.iter().map(|(participant, lane)| Lock::Lane(*participant, *lane)).collect();
        slots.extend(query.lookups.iter().map(|lookup| Lock::Identity(lookup.sender, lookup.hash, lookup.kind)));
        slots.sort_unstable();
        let mut deliveries: Vec<Lock> = query.deliveries.iter().map(|key| Lock::Delivery(*key)).collect();
        deliveries.sort_unstable();
        let leases = query.leases.iter().map(|key| Lock::Lease(*key));
        let mut wanted: Vec<Lock> = slots.into_iter().chain(deliveries).chain(leases).collect();
        wanted.dedup();
        self.add(node, Task::Batch(job, query), wanted)
    }

    fn add(&mut self, node: NodeKey, task: Task, wanted: Vec<Lock>) -> TransactionId {
        self.last_transaction += 1;
        let transaction = Transaction { node, task, wanted, stage: Stage::Locks };
        self.running.insert(self.last_transaction, transaction);
        self.last_transaction
    }

    /// One step: the next lock, the read with the decision, or the commit.
    pub fn step(&mut self, id: TransactionId) -> Step {
        let Some(mut transaction) = self.running.remove(&id) else { panic!("transaction {id} has ended") };
        let step = match transaction.stage {
            Stage::Locks => self.lock_next(id, &mut transaction),
            Stage::Read => {
                transaction.stage = self.read(&mut transaction);
                Step::Moved
            }
            Stage::Batch(result, rows) => {
                self.check_lease(&transaction.task, &rows);
                self.release(id);
                self.apply(*rows);
                return Step::Committed(match result {
                    BatchResult::Accept(accepted) => Done::Accepted(accepted),
                    BatchResult::Settle(settled) => Done::Settled(settled),
                    BatchResult::Wait(waits) => Done::Waits(waits),
                });
            }
            Stage::Round(round) => {
                self.release(id);
                return Step::Committed(Done::Round(round));
            }
        };
        self.running.insert(id, transaction);
        step
    }

    /// A node that another one has replaced must not end a delivery that the other one makes.
    fn check_lease(&self, task: &Task, rows: &Rows) {
        let Task::Batch(job, _) = task else { return };
        let Some(held) = job.lease() else { return };
        let id = LeaseId { kind: LeaseKind::Queue, key: self.participant_key(&held.participant) };
        let is_replaced = self.leases.get(&id).is_none_or(|lease| lease.epoch != held.epoch);
        let ends = |record: &DeliveryRecord| record.state == DeliveryState::Dead && record.stored_state != record.state;
        let ends = rows.changed.iter().any(|(_, record)| ends(record));
        assert!(!(is_replaced && ends), "a node gave a delivery up although another one makes it");
    }

    /// Rolls back: the connection is lost before the commit.
    pub fn abort(&mut self, id: TransactionId) {
        self.running.remove(&id);
        self.release(id);
    }

    fn release(&mut self, id: TransactionId) {
        self.locks.retain(|_, holders| {
            holders.retain(|holder| *holder != id);
            !holders.is_empty()
        });
    }

    fn lock_next(&mut self, id: TransactionId, transaction: &mut Transaction) -> Step {
        let held = transaction.wanted.iter().filter(|lock| self.is_held_by(**lock, id)).count();
        let Some(lock) = transaction.wanted.get(held).copied() else {
            transaction.stage = Stage::Read;
            return Step::Moved;
        };
        let holders = self.locks.entry(lock).or_default();
        // Batches share the lock on a lease; a round, which changes it, takes all leases and so waits for them.
        if !holders.is_empty() && !matches!(lock, Lock::Lease(_)) {
            return Step::Blocked;
        }
        holders.push(id);
        Step::Moved
    }

    fn is_held_by(&self, lock: Lock, id: TransactionId) -> bool {
        self.locks.get(&lock).is_some_and(|holders| holders.contains(&id))
    }

    fn read(&mut self, transaction: &mut Transaction) -> Stage {
        match &transaction.task {
            Task::Batch(job, query) => {
                let stored = self.stored(query);
                let context = self.context(transaction.node);
                let Decision { mut results, rows, .. } = batch::decide(&context, stored, std::slice::from_ref(job));
                let result = results.pop().unwrap_or_else(|| panic!("a job has no result"));
                Stage::Batch(result, Box::new(rows))
            }
            Task::Round { live, releasing, released } => {
                let (live, releasing, released) = (live.clone(), releasing.clone(), released.clone());
                match self.round(transaction.node, live, &releasing, &released) {
                    Some(round) => Stage::Round(round),
                    None => Stage::Read,
                }
            }
        }
    }

    fn live_nodes(&self) -> BTreeSet<NodeKey> {
        self.nodes.iter().filter(|(_, row)| row.until_us > self.now_us).map(|(key, _)| *key).collect()
    }

    /// A round changes rows only where no batch holds their locks; else it waits.
    fn round(
        &mut self,
        node: NodeKey,
        live: LiveNode,
        releasing: &BTreeSet<LeaseId>,
        released: &BTreeSet<LeaseId>,
    ) -> Option<Round> {
        let row = self.nodes.get_mut(&node)?;
        row.live = live;
        row.until_us = self.now_us + i64::try_from(LEASE.as_micros()).ok()?;
        let mut leases = self.leases.clone();
        for id in released {
            if let Some(lease) = leases.get_mut(id).filter(|lease| lease.holder == Some(node)) {
                lease.holder = None;
            }
        }
        let live = self.live_nodes();
        let nodes = self.nodes.iter().filter(|(key, _)| live.contains(*key));
        let nodes = nodes.map(|(key, row)| (*key, row.live.clone())).collect();
        let view = View { nodes, leases };
        let mut round = view.round(node, releasing);
        // Skips what a batch holds: the next round takes it.
        let locks = &self.locks;
        round.taken.retain(|id| !locks.contains_key(&Lock::Lease(id.key)));
        let mut leases = view.leases;
        round.held.retain(|id, epoch| {
            let is_taken = round.taken.contains(id);
            if is_taken {
                leases.insert(*id, Lease { holder: Some(node), epoch: *epoch });
            }
            is_taken || leases.get(id).is_some_and(|lease| lease.holder == Some(node))
        });
        self.leases = leases;
        Some(round)
    }

    fn stored(&mut self, query: &BatchQuery) -> StoredState {
        let tail = |(participant, lane): &(i64, i64)| {
            let waits = self.deliveries.values().filter(|delivery| {
                delivery.state == DeliveryState::Waiting
                    && delivery.participant_key == *participant
                    && delivery.pending.lane == *lane
            });
            Some(((*participant, *lane), waits.map(|delivery| delivery.pending.seq).max()?))
        };
        let epoch = |participant: &i64| {
            let id = LeaseId { kind: LeaseKind::Queue, key: *participant };
            Some((*participant, self.leases.get(&id)?.epoch))
        };
        let record = |key: &i64| Some((*key, self.record(*key)?));
        StoredState {
            identities: self.identities(&query.lookups),
            deliveries: query.deliveries.iter().filter_map(record).collect(),
            tails: query.lanes.iter().filter_map(tail).collect(),
            epochs: query.leases.iter().filter_map(epoch).collect(),
            ambiguous: Default::default(),
            keys: self.keys(query),
        }
    }

    fn keys(&mut self, query: &BatchQuery) -> Keys {
        fn take(last: &mut i64, count: usize) -> Vec<i64> {
            let first = *last + 1;
            *last += i64::try_from(count).unwrap_or_default();
            (first..=*last).rev().collect()
        }
        Keys::Reserved {
            messages: take(&mut self.last_message, query.new_messages),
            deliveries: take(&mut self.last_delivery, query.new_deliveries),
            seqs: take(&mut self.last_seq, query.new_deliveries),
        }
    }

    fn record(&self, key: i64) -> Option<DeliveryRecord> {
        let delivery = self.deliveries.get(&key)?;
        let answers = self.answers.get(&key).into_iter().flatten();
        Some(DeliveryRecord {
            message_key: delivery.pending.message_key,
            message_id: self.messages.get(&delivery.pending.message_key)?.id,
            participant_key: delivery.participant_key,
            stored_state: delivery.state,
            state: delivery.state,
            attempts: i64::from(delivery.pending.attempts),
            status: delivery.status,
            due_us: delivery.pending.due_at_us,
            fault: None,
            answer: delivery.answer,
            ended_us: None,
            transient: delivery.transient,
            waiting: delivery.waiting.clone(),
            answers: answers
                .map(|key| (*key, self.messages.get(key).and_then(|message| message.response_content)))
                .collect(),
            changed: false,
        })
    }

    fn identities(&self, lookups: &[IdentityLookup]) -> KnownIdentities {
        let mut known = KnownIdentities { keys: HashMap::new(), candidates: HashMap::new() };
        for lookup in lookups {
            let same_key =
                |row: &&ReferenceRow| (row.hash, row.sender, row.kind) == (lookup.hash, lookup.sender, lookup.kind);
            let rows: Vec<&ReferenceRow> = self.references.iter().filter(same_key).collect();
            let Some(recent) = rows.iter().map(|row| row.message_key).max() else { continue };
            let same = rows.iter().filter(|row| row.content == lookup.content).map(|row| row.message_key).max();
            known.keys.insert(*lookup, (same, recent));
            for key in same.into_iter().chain([recent]) {
                if let Some(message) = self.messages.get(&key) {
                    let metadata = message.metadata.clone();
                    let candidate = Candidate { id: message.id, content: message.content, received_us: 0, metadata };
                    known.candidates.insert(key, candidate);
                }
            }
        }
        known
    }

    /// What a commit changes.
    fn apply(&mut self, rows: Rows) {
        for row in rows.messages {
            let message = StoredMessage {
                id: row.metadata.id,
                content: row.content,
                response_content: row.response_sha256,
                metadata: row.metadata,
                in_reply_to: row.in_reply_to,
            };
            self.messages.insert(row.key, message);
        }
        self.references.extend(rows.references);
        for row in rows.deliveries {
            self.insert_delivery(row);
        }
        for (key, record) in rows.changed {
            let Some(delivery) = self.deliveries.get_mut(&key) else { continue };
            delivery.state = record.state;
            delivery.status = record.status;
            delivery.pending.attempts = u32::try_from(record.attempts).unwrap_or_default();
            delivery.pending.due_at_us = record.due_us;
            delivery.transient = record.transient;
            delivery.waiting = record.waiting;
            delivery.answer = record.answer;
            self.answers.insert(key, record.answers.iter().map(|(answer, _)| *answer).collect());
        }
        for key in rows.released {
            let of_it: Vec<ReferenceRow> =
                self.references.iter().filter(|row| row.message_key == key).copied().collect();
            for row in of_it {
                self.references.remove(&row);
                self.references.insert(ReferenceRow { sender: 0, ..row });
            }
        }
    }

    fn insert_delivery(&mut self, row: DeliveryRow) {
        let Some(message) = self.messages.get(&row.message_key) else { panic!("a delivery without a message") };
        let participant = self.participants.iter().find(|(_, key)| **key == row.participant_key);
        let pending = PendingDelivery {
            delivery_key: row.key,
            delivery_id: row.id,
            message_key: row.message_key,
            participant: participant.map(|(id, _)| id.clone()).unwrap_or_default(),
            lane: row.lane,
            seq: row.seq,
            prev_seq: row.prev_seq,
            kind: row.kind,
            attempts: 0,
            uncounted_attempts: 0,
            is_probe: false,
            due_at_us: row.due_us,
            expires_at_us: row.expires_us,
            metadata: message.metadata.clone(),
            body: None,
        };
        let delivery = StoredDelivery {
            pending,
            participant_key: row.participant_key,
            state: DeliveryState::Waiting,
            status: None,
            answer: None,
            transient: false,
            waiting: row.waiting.into_iter().collect(),
        };
        self.deliveries.insert(row.key, delivery);
    }
}

/// What is prepared for the writer never waits if it is small.
fn ready<T, E: std::fmt::Debug>(prepared: impl Future<Output = Result<T, E>>) -> T {
    prepared.now_or_never().expect("small messages are prepared at once").expect("metadata can be written")
}

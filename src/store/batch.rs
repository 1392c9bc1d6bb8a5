//! Decides a batch of accepts and settlements that share a transaction. Pure: the backend first reads what `Context::query` asks for, and
//! afterwards writes the rows that `decide` returns.
//!
//! Jobs are decided in order of arrival, each with the effects of those before it.

use super::Unavailable;
use super::context::Context;
use super::prepare::{BatchJob, Prepared, WaitChange};
use super::reference::{head, value};
use super::rows::{DeliveryRow, MessageRow, ReferenceRow, Rows};
use super::stored::{DeliveryRecord, Keys, KnownIdentities, StoredState, Tails};
use super::terms;
use crate::delivery::{Acceptance, HeldLease, Metadata, NewDelivery, PendingDelivery, Settled};
use crate::nodes::NodeKey;
use bytes::Bytes;
use fhir::identity::{KeyKind, Seen, Verdict, judge};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

pub(super) enum BatchResult {
    Accept(Acceptance),
    Settle(Settled),
    /// See `Batch::wait`.
    Wait(bool),
}

/// A stored message: its key and public id.
pub(super) type MessageRef = (i64, Uuid);

/// Sender, kind of key, normalized value.
type IdentityOf = (i64, KeyKind, String);

/// What a transaction has read and will write.
pub(super) struct Batch {
    context: Context,
    pub now_us: i64,
    keys: Keys,
    identities: KnownIdentities,
    /// Messages of this batch, by sender, kind, and value of their identity keys.
    new_identities: HashMap<IdentityOf, Vec<([u8; 32], MessageRef)>>,
    pub deliveries: HashMap<i64, DeliveryRecord>,
    epochs: HashMap<i64, i64>,
    /// Responses that this batch assigns and that are not assigned yet.
    pub ambiguous: HashSet<i64>,
    /// The ends of the lanes that this batch may add to.
    tails: Tails,
    /// Messages whose identity this batch releases.
    pub released: HashSet<i64>,
    pub rows: Rows,
}

/// The outcome of a batch: a result for each job, the rows to write, and the last keys that they use.
pub(super) struct Decision {
    pub results: Vec<BatchResult>,
    pub rows: Rows,
    pub keys: Keys,
}

/// Why a batch was not committed.
pub(super) enum BatchFailure {
    /// One of the rows caused it: the other jobs may succeed without it.
    OfRow(Unavailable),
    OfBatch(Unavailable),
}

/// Decides all jobs by what is stored. Pure: the backend reads before, and writes the rows after.
pub(super) fn decide(context: &Context, stored: StoredState, jobs: &[BatchJob]) -> Decision {
    let mut batch = Batch::new(context.clone(), stored);
    let decide = |job: &BatchJob| match job {
        BatchJob::Accept(message) => BatchResult::Accept(batch.accept(message)),
        BatchJob::Settle(settlement) => BatchResult::Settle(batch.settle(settlement)),
        BatchJob::Wait(change) => BatchResult::Wait(batch.wait(*change)),
    };
    let results = jobs.iter().map(decide).collect();
    let (rows, keys) = batch.finish();
    Decision { results, rows, keys }
}

/// Compares the identity of a message with what is stored: the verdict has the public id of the first message.
pub(super) fn verdict(context: Context, identities: KnownIdentities, message: &Prepared) -> Verdict<Uuid> {
    let batch = Batch::new(context, StoredState { identities, ..StoredState::default() });
    match batch.verdict(message) {
        Verdict::New => Verdict::New,
        Verdict::Duplicate((_, first)) => Verdict::Duplicate(first),
        Verdict::Conflict((_, first)) => Verdict::Conflict(first),
    }
}

impl Batch {
    pub fn new(context: Context, stored: StoredState) -> Batch {
        let StoredState { keys, identities, deliveries, tails, epochs, ambiguous } = stored;
        Batch {
            now_us: context.now_us,
            context,
            keys,
            identities,
            new_identities: HashMap::new(),
            deliveries,
            epochs,
            ambiguous,
            tails,
            released: HashSet::new(),
            rows: Rows::default(),
        }
    }

    /// The rows to write, and the last keys that they use.
    pub fn finish(mut self) -> (Rows, Keys) {
        self.rows.changed = self.deliveries.into_iter().filter(|(_, delivery)| delivery.changed).collect();
        let changed = self.rows.changed.iter();
        let faults = changed.filter_map(|(_, delivery)| Some((terms::fault(delivery.fault?), delivery.message_key)));
        self.rows.faults.extend(faults);
        self.rows.released.extend(self.released);
        (self.rows, self.keys)
    }

    /// Whether another node has taken the queue since the attempt began.
    pub fn is_stale(&self, lease: &HeldLease) -> bool {
        let current = self.epochs.get(&self.context.participant_key(&lease.participant));
        current.is_some_and(|epoch| *epoch != lease.epoch)
    }

    /// A sender begins to wait on this node: true if the delivery is stored. Or it ends to wait: false if an answer has claimed it
    /// meanwhile, which the sender then gets.
    fn wait(&mut self, change: WaitChange) -> bool {
        let (Some(node), Some(delivery)) = (self.context.node, self.deliveries.get_mut(&change.delivery_key)) else {
            return false;
        };
        let is_waiting = delivery.waiting.contains(&node);
        match change.begins {
            true if is_waiting => return true,
            true => delivery.waiting.push(node),
            false if !is_waiting => return false,
            false => delivery.waiting.retain(|waiting| *waiting != node),
        }
        delivery.changed = true;
        true
    }

    /// Ends all waits for the answer to a delivery. Returns the nodes that run and on which senders waited.
    pub fn end_waits(&mut self, delivery_key: i64) -> Vec<NodeKey> {
        let Some(delivery) = self.deliveries.get_mut(&delivery_key) else { return Vec::new() };
        delivery.changed |= !delivery.waiting.is_empty();
        let mut waiting = std::mem::take(&mut delivery.waiting);
        waiting.retain(|node| self.context.live_nodes.contains(node));
        waiting
    }

    /// Whether a message is new, a duplicate, or a conflict, by `judge`.
    pub fn verdict(&self, message: &Prepared) -> Verdict<MessageRef> {
        let identity = &message.identity;
        let seen = |key: &Option<(KeyKind, String)>| {
            key.as_ref().map_or(Seen { same: None, any: None }, |(kind, _)| self.seen(message, *kind))
        };
        judge(identity.strict, message.metadata.category, seen(&identity.transmission), seen(&identity.message))
    }

    fn seen(&self, message: &Prepared, kind: KeyKind) -> Seen<MessageRef> {
        let sender = self.context.participant_key(&message.metadata.sender);
        let (Some(lookup), Some(wanted)) = (self.context.lookup(message, kind), value(&message.metadata, kind)) else {
            return Seen { same: None, any: None };
        };
        let content = &message.identity.content;
        let valid = |key: i64| {
            let candidate = self.identities.candidates.get(&key)?;
            let is_valid = candidate.has_key(kind, &wanted)
                && candidate.received_us >= self.context.identities_from_us
                && !self.released.contains(&key);
            is_valid.then_some((candidate, (key, candidate.id)))
        };
        let (same, any) = self.identities.keys.get(&lookup).copied().unzip();
        let same = same.flatten().and_then(valid).filter(|(candidate, _)| candidate.content == *content);
        let any = any.and_then(valid);
        let new = self.new_identities.get(&(sender, kind, wanted)).map(Vec::as_slice).unwrap_or_default();
        let new_same = new.iter().find(|(known, _)| known == content).map(|(_, message)| *message);
        let new_any = new.last().map(|(_, message)| *message);
        let same = new_same.or(same.map(|(_, message)| message));
        Seen { same, any: new_any.or(any.map(|(_, message)| message)).or(same) }
    }

    /// A stored message with this key, if this batch has read it.
    pub fn candidate(&self, key: i64) -> Option<&Arc<Metadata>> {
        self.identities.candidates.get(&key).map(|candidate| &candidate.metadata)
    }

    /// Adds the rows of a message, of the router's answer to it, and of all deliveries. `has_identity`: whether later copies are
    /// recognized.
    pub fn insert(&mut self, message: &Prepared, has_identity: bool, flags: i64) -> (i64, Vec<PendingDelivery>) {
        self.insert_with(message, &message.metadata, &message.deliveries, has_identity, flags)
    }

    /// As `insert`, with other metadata or deliveries than those of the message.
    pub fn insert_with(
        &mut self,
        message: &Prepared,
        metadata: &Arc<Metadata>,
        deliveries: &[NewDelivery],
        has_identity: bool,
        flags: i64,
    ) -> (i64, Vec<PendingDelivery>) {
        let key = self.keys.next_message();
        let sender = self.context.participant_key(&metadata.sender);
        let released = message.answer.as_ref().is_some_and(|answer| answer.releases_request);
        let has_identity = has_identity && !released;
        if has_identity {
            self.add_identity(message, sender, key);
        }
        self.rows.terms.extend(message.terms.iter().map(|term| (*term, key)));
        self.add_references(message, if has_identity { sender } else { 0 }, key);
        let mut pending = self.deliver(key, metadata, &message.plain, deliveries);
        let router_answer = message.answer.as_ref().map(|answer| {
            let (answer_key, answer_pending) = self.insert(answer, false, 0);
            pending.extend(answer_pending);
            answer_key
        });
        let size_bytes = i64::try_from(message.plain.len()).unwrap_or(i64::MAX);
        self.rows.messages.push(MessageRow {
            key,
            state: message.state,
            committed_us: self.now_us,
            sender,
            in_reply_to: metadata.in_reply_to,
            router_answer,
            event: message.event.clone(),
            destinations: message.destinations.clone(),
            issue_labels: message.issue_labels.clone(),
            content: message.identity.content,
            response_sha256: message.identity.response_content,
            flags,
            metadata: metadata.clone(),
            metadata_json: message.metadata_json.clone(),
            outcome_json: message.outcome_json.clone(),
            full_outcome_json: message.full_outcome_json.clone(),
            size_bytes,
            packed: message.packed.clone(),
        });
        (key, pending)
    }

    /// Adds the identity for the next jobs of this batch.
    fn add_identity(&mut self, message: &Prepared, sender: i64, key: i64) {
        let identity = &message.identity;
        for (kind, _) in [&identity.transmission, &identity.message].into_iter().flatten() {
            if let Some(value) = value(&message.metadata, *kind) {
                let known = self.new_identities.entry((sender, *kind, value)).or_default();
                known.push((identity.content, (key, message.metadata.id)));
            }
        }
    }

    fn add_references(&mut self, message: &Prepared, sender: i64, message_key: i64) {
        let content = head(&message.identity.content);
        self.rows.references.extend(message.references.iter().map(|reference| ReferenceRow {
            hash: reference.hash,
            sender: if reference.identity { sender } else { 0 },
            kind: reference.kind,
            content,
            message_key,
        }));
    }

    /// Adds deliveries of a message at the end of their lanes (`tails` must hold them), and returns them as the courier holds
    /// them. The courier decides whether it makes them, because the channel may change meanwhile.
    pub fn deliver(
        &mut self,
        key: i64,
        metadata: &Arc<Metadata>,
        body: &Bytes,
        new: &[NewDelivery],
    ) -> Vec<PendingDelivery> {
        let mut pending = Vec::with_capacity(new.len());
        for delivery in new {
            let seq = self.keys.next_seq(self.now_us);
            let prev_seq = self.context.lane_of(delivery).and_then(|lane| self.tails.insert(lane, seq));
            let row = DeliveryRow {
                key: self.keys.next_delivery(),
                id: delivery.id,
                message_key: key,
                participant_key: self.context.participant_key(&delivery.participant),
                lane: delivery.lane,
                seq,
                prev_seq,
                due_us: delivery.due_at_us,
                expires_us: delivery.expires_at_us,
                created_us: self.now_us,
                kind: delivery.kind.clone(),
                destination: delivery.destination.clone(),
                waiting: self.context.node.filter(|_| delivery.is_awaited),
            };
            pending.push(PendingDelivery {
                delivery_key: row.key,
                delivery_id: row.id,
                message_key: key,
                participant: delivery.participant.clone(),
                lane: row.lane,
                seq,
                prev_seq,
                kind: delivery.kind.clone(),
                attempts: 0,
                uncounted_attempts: 0,
                is_probe: false,
                due_at_us: row.due_us,
                expires_at_us: row.expires_us,
                metadata: metadata.clone(),
                body: Some(body.clone()),
            });
            self.rows.deliveries.push(row);
        }
        pending
    }
}

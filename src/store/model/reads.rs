//! What nodes read from the model without a transaction: the backlog of a participant, the feed, and the status of a message.

use super::{Model, NodeRow, StoredDelivery};
use crate::delivery::{DeliveryState, PendingDelivery};
use crate::nodes::NodeKey;
use crate::nodes::feed::Snapshot;
use crate::store::{DuePage, LaneHead};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A delivery that the feed shows.
#[derive(Clone, Debug)]
pub(crate) struct Hint {
    pub key: i64,
    pub delivery: PendingDelivery,
}

/// How far a request with a single receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub delivery_key: i64,
    pub state: DeliveryState,
    /// The id of its answer.
    pub answer: Option<Uuid>,
    /// The delivery of the answer to the sender's channel, and whether it still waits.
    pub return_delivery: Option<(i64, bool)>,
}

impl Model {
    /// A router starts.
    pub fn register(&mut self) -> NodeKey {
        self.last_node += 1;
        self.nodes.insert(self.last_node, NodeRow { live: Default::default(), until_us: 0 });
        self.last_node
    }

    pub fn participant_key(&self, id: &str) -> i64 {
        self.participants.get(id).copied().unwrap_or_default()
    }

    fn waiting(&self, participant: &str) -> impl Iterator<Item = &PendingDelivery> {
        let waits = |delivery: &&StoredDelivery| delivery.state == DeliveryState::Waiting;
        let all = self.deliveries.values().filter(waits).map(|delivery| &delivery.pending);
        let mut all: Vec<&PendingDelivery> = all.filter(|pending| &*pending.participant == participant).collect();
        all.sort_by_key(|pending| pending.seq);
        all.into_iter()
    }

    pub fn lanes(&self, participant: &str, after: Option<i64>, limit: usize) -> Vec<LaneHead> {
        let mut heads: BTreeMap<i64, LaneHead> = BTreeMap::new();
        for pending in self.waiting(participant).filter(|pending| pending.lane != 0) {
            if after.is_none_or(|after| pending.lane > after) {
                heads.entry(pending.lane).or_insert(head(pending));
            }
        }
        heads.into_values().take(limit).collect()
    }

    /// In the lane without order, only what is due whatever the clock says.
    pub fn lane(&self, participant: &str, lane: i64, after_seq: i64, limit: usize) -> Vec<PendingDelivery> {
        let of_lane = self.waiting(participant).filter(|pending| pending.lane == lane && pending.seq > after_seq);
        of_lane.filter(|pending| lane != 0 || pending.due_at_us == 0).take(limit).cloned().collect()
    }

    pub fn due_lanes(&self, participant: &str, after: (i64, i64), through_us: i64, limit: usize) -> DuePage<LaneHead> {
        let page = self.due(participant, true, after, through_us, limit);
        DuePage { items: page.items.iter().map(head).collect(), next_due_at_us: page.next_due_at_us, more: page.more }
    }

    pub fn due_unordered(
        &self,
        participant: &str,
        after: (i64, i64),
        through_us: i64,
        limit: usize,
    ) -> DuePage<PendingDelivery> {
        self.due(participant, false, after, through_us, limit)
    }

    fn due(
        &self,
        participant: &str,
        is_ordered: bool,
        after: (i64, i64),
        through_us: i64,
        limit: usize,
    ) -> DuePage<PendingDelivery> {
        let waits = self.waiting(participant).filter(|pending| (pending.lane != 0) == is_ordered);
        let mut waits: Vec<PendingDelivery> = waits.filter(|pending| pending.due_at_us > 0).cloned().collect();
        waits.sort_by_key(|pending| (pending.due_at_us, pending.seq));
        let next = waits.iter().map(|pending| pending.due_at_us).find(|due_at_us| *due_at_us > through_us);
        waits.retain(|pending| (pending.due_at_us, pending.seq) > after && pending.due_at_us <= through_us);
        waits.truncate(limit);
        let more = waits.len() == limit;
        DuePage { items: waits, next_due_at_us: next.filter(|_| !more), more }
    }

    /// The snapshot of now, and the waiting deliveries with keys above `after`.
    pub fn feed(&self, after: i64) -> (Snapshot, Vec<Hint>) {
        let next_transaction = self.last_transaction + 1;
        let oldest_running = self.running.keys().next().copied().unwrap_or(next_transaction);
        let snapshot = Snapshot { oldest_running, next_transaction, last_key: self.last_delivery };
        let rows = self.deliveries.range(after + 1..);
        let waits = rows.filter(|(_, delivery)| delivery.state == DeliveryState::Waiting);
        (snapshot, waits.map(|(key, delivery)| Hint { key: *key, delivery: delivery.pending.clone() }).collect())
    }

    /// How far a request is; None if it is not stored.
    pub fn progress(&self, message: Uuid) -> Option<Progress> {
        let (message_key, _) = self.messages.iter().find(|(_, stored)| stored.id == message)?;
        let is_its = |(_, delivery): &(&i64, &StoredDelivery)| delivery.pending.message_key == *message_key;
        let (key, delivery) = self.deliveries.iter().find(is_its)?;
        let of_answer = |answer: i64| {
            let mut all = self.deliveries.iter().filter(move |(_, back)| back.pending.message_key == answer);
            all.next().map(|(key, back)| (*key, back.state == DeliveryState::Waiting))
        };
        Some(Progress {
            delivery_key: *key,
            state: delivery.state,
            answer: delivery.answer.and_then(|answer| Some(self.messages.get(&answer)?.id)),
            return_delivery: delivery.answer.and_then(of_answer),
        })
    }

    /// A delivery as the courier holds it.
    pub fn pending(&self, key: i64) -> Option<PendingDelivery> {
        self.deliveries.get(&key).map(|delivery| delivery.pending.clone())
    }

    /// The Bundle id of a message that was stored twice.
    pub fn stored_twice(&self) -> Option<&str> {
        let requests = self.messages.values().filter(|message| message.in_reply_to.is_none());
        let mut ids = BTreeSet::new();
        requests.filter_map(|message| message.metadata.bundle_id.as_deref()).find(|id| !ids.insert(*id))
    }

    /// Whether the delivery of a request, or that of its answer, was given up.
    pub fn is_given_up(&self, bundle_id: &str) -> bool {
        let is_dead = |delivery: &&StoredDelivery| delivery.state == DeliveryState::Dead;
        self.deliveries.values().filter(is_dead).any(|delivery| {
            let id = delivery.pending.metadata.bundle_id.as_deref().unwrap_or_default();
            id == bundle_id || id.strip_prefix("answer-to-") == Some(bundle_id)
        })
    }

    /// Deliveries that wait.
    pub fn open(&self) -> usize {
        self.deliveries.values().filter(|delivery| delivery.state == DeliveryState::Waiting).count()
    }
}

fn head(pending: &PendingDelivery) -> LaneHead {
    LaneHead {
        lane: pending.lane,
        seq: pending.seq,
        due_at_us: pending.due_at_us,
        bypasses_channel: pending.kind.bypasses_channel(),
    }
}

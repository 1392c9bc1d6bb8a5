//! What a node does by the clock: its rounds for leases, the feed, its queues, and its senders.

use super::clients::{has_channel, participants};
use super::node::Then;
use super::world::{WakeUp, World};
use crate::courier::simulated::SimulatedQueue;
use crate::delivery::PendingDelivery;
use crate::nodes::feed::{Feed, News};
use crate::nodes::lease::{LEASE, LeaseId, LeaseKind, LiveNode, MARGIN, ROUND_INTERVAL, Round};
use crate::store::model::Work;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl World {
    /// Whatever is due on one node.
    pub fn tick(&mut self) {
        let Some(index) = self.any_node() else { return };
        let now = self.at().now;
        if now >= self.nodes[index].next_round && !self.nodes[index].round_runs {
            self.begin_round(index);
        }
        if now >= self.nodes[index].next_poll {
            self.nodes[index].next_poll = now + POLL_INTERVAL;
            self.read_feed(index);
        }
        if self.nodes[index].has_left() {
            return self.kill(index);
        }
        self.look_after_senders(index);
        self.start_attempts(index);
        self.end_released(index);
    }

    fn begin_round(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.round_runs = true;
        let queue = |id: &&str| LeaseId { kind: LeaseKind::Queue, key: self.model.participant_key(id) };
        let serves = participants().iter().filter(|id| has_channel(id)).map(queue).collect();
        let live = LiveNode { leaving: node.leaving, serves };
        let releasing = node.releasing.keys().copied().collect();
        let released = std::mem::take(&mut node.released);
        node.releasing.retain(|id, _| !released.contains(id));
        let sent = self.at().now;
        self.nodes[index].next_round = sent + ROUND_INTERVAL;
        self.begin(index, Work::Round { live, releasing, released }, Then::Round { sent });
    }

    pub fn end_round(&mut self, index: usize, sent: Instant, round: Round) {
        let node = &mut self.nodes[index];
        node.round_runs = false;
        // From the time when it was sent: the row lives at least that long.
        node.deadline = sent + LEASE - MARGIN;
        let lost: Vec<LeaseId> =
            node.held.iter().filter(|(id, epoch)| round.held.get(id) != Some(epoch)).map(|(id, _)| *id).collect();
        for id in lost {
            let participant = self.participant_of(id);
            self.drop_queue(index, id, &participant);
        }
        for (id, epoch) in &round.held {
            if self.nodes[index].held.insert(*id, *epoch).is_none() {
                let participant = self.participant_of(*id);
                let queue = SimulatedQueue::new(super::clients::participant(&participant), self.next_queue_id());
                self.nodes[index].queues.insert(participant, queue);
            }
        }
        for id in round.to_release {
            let participant = self.participant_of(id);
            if let Some(queue) = self.nodes[index].queues.get_mut(&participant) {
                queue.retire();
            }
            self.nodes[index].releasing.insert(id, participant);
        }
    }

    fn participant_of(&self, id: LeaseId) -> Arc<str> {
        let found = participants().into_iter().find(|name| self.model.participant_key(name) == id.key);
        Arc::from(found.unwrap_or_default())
    }

    /// The lease belongs to another node: what runs is aborted, and what it has not recorded may not count.
    fn drop_queue(&mut self, index: usize, id: LeaseId, participant: &Arc<str>) {
        let node = &mut self.nodes[index];
        node.held.remove(&id);
        node.releasing.remove(&id);
        node.queues.remove(participant);
        node.reads.retain(|(of, _)| of != participant);
        node.attempts.retain(|attempt| attempt.delivery.participant != *participant);
    }

    /// Queues that are given up and have no attempt any more: the next round releases their leases.
    fn end_released(&mut self, index: usize) {
        let node = &self.nodes[index];
        let is_done = |(_, participant): &(&LeaseId, &Arc<str>)| {
            node.queues.get(*participant).is_none_or(|queue| queue.active() == 0)
        };
        let done: Vec<(LeaseId, Arc<str>)> =
            node.releasing.iter().filter(is_done).map(|(id, participant)| (*id, participant.clone())).collect();
        for (id, participant) in done {
            let node = &mut self.nodes[index];
            node.queues.remove(&participant);
            node.reads.retain(|(of, _)| *of != participant);
            node.held.remove(&id);
            node.released.insert(id);
        }
    }

    /// Reads what other nodes have committed.
    pub fn read_feed(&mut self, index: usize) {
        let at = self.at();
        let node = &mut self.nodes[index];
        let Some(feed) = &mut node.feed else {
            node.feed = Some(Feed::new(self.model.feed(i64::MAX - 1).0));
            return;
        };
        let (snapshot, hints) = self.model.feed(feed.after());
        match feed.read(snapshot, hints.iter().map(|hint| hint.key)) {
            News::Everything => node.queues.values_mut().for_each(SimulatedQueue::reread),
            News::Keys(keys) => {
                for hint in hints.iter().filter(|hint| keys.contains(&hint.key)) {
                    if let Some(queue) = node.queues.get_mut(&hint.delivery.participant) {
                        queue.hint(&hint.delivery, at);
                    }
                }
            }
        }
    }

    /// New deliveries: into the queues of this node, and a hint to all others.
    pub fn offer(&mut self, index: usize, deliveries: Vec<PendingDelivery>) {
        let at = self.at();
        if deliveries.is_empty() {
            return;
        }
        for delivery in deliveries {
            if let Some(queue) = self.nodes[index].queues.get_mut(&delivery.participant) {
                queue.offer(delivery, at);
            }
        }
        let others: Vec<_> = self.nodes.iter().map(|node| node.key).collect();
        let own = self.nodes[index].key;
        self.wake_ups.extend(others.into_iter().filter(|key| *key != own).map(|key| (key, WakeUp::Feed)));
    }

    /// A delivery has ended without an attempt.
    pub fn forget(&mut self, index: usize, delivery: &PendingDelivery) {
        let at = self.at();
        match self.nodes[index].queues.get_mut(&delivery.participant) {
            Some(queue) => queue.forget(delivery, at),
            None => {
                let others: Vec<_> = self.nodes.iter().map(|node| node.key).collect();
                self.wake_ups.extend(others.into_iter().map(|key| (key, WakeUp::Forget(Box::new(delivery.clone())))));
            }
        }
    }
}

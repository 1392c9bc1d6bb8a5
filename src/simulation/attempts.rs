//! Attempts: deliveries start, arrive or get lost, are answered at once or later, and are recorded.

use super::clients::{answer, has_channel, return_delivery};
use super::node::{Attempt, Then};
use super::tasks::settlement;
use super::world::{Faults, World};
use crate::delivery::{DeliveryKind, DeliveryState, HeldLease, NewMessage, NextStep, PendingDelivery, Settlement};
use crate::nodes::lease::{LeaseId, LeaseKind};
use crate::store::model::Work;
use std::time::Duration;

const RETRY: Duration = Duration::from_secs(1);

impl World {
    fn lease_of(&self, participant: &str) -> LeaseId {
        LeaseId { kind: LeaseKind::Queue, key: self.model.participant_key(participant) }
    }

    /// Starts what may start on a node, while its leases hold.
    pub fn start_attempts(&mut self, node: usize) {
        let at = self.at();
        if at.now >= self.nodes[node].deadline {
            return;
        }
        for participant in self.nodes[node].queues.keys().cloned().collect::<Vec<_>>() {
            let lease = self.lease_of(&participant);
            let node = &mut self.nodes[node];
            let Some(epoch) = node.held.get(&lease).copied() else { continue };
            let Some(queue) = node.queues.get_mut(&participant) else { continue };
            let started = queue.start(at);
            node.reads.extend(queue.reads().into_iter().map(|read| (participant.clone(), read)));
            node.attempts.extend(started.into_iter().map(|delivery| Attempt { delivery, epoch, arrived: false }));
        }
    }

    pub fn step_read(&mut self) {
        let at = self.at();
        let Some(node) = self.any_node().filter(|node| !self.nodes[*node].reads.is_empty()) else { return };
        let index = self.random.below(self.nodes[node].reads.len());
        let (participant, mut read) = self.nodes[node].reads.swap_remove(index);
        let Some(queue) = self.nodes[node].queues.get_mut(&participant) else { return };
        if !queue.advance(&mut read, &self.model, at) {
            self.nodes[node].reads.push((participant, read));
        }
    }

    /// A step of one attempt, or of an answer that its receiver sends later.
    pub fn step_attempt(&mut self) {
        if !self.later_answers.is_empty() && self.random.once_in(4) {
            return self.answer_later();
        }
        let Some(node) = self.any_node().filter(|node| !self.nodes[*node].attempts.is_empty()) else { return };
        let index = self.random.below(self.nodes[node].attempts.len());
        let attempt = self.nodes[node].attempts.swap_remove(index);
        // Another node may deliver it now.
        if self.at().now >= self.nodes[node].deadline {
            return self.postpone(node, attempt.delivery);
        }
        let fails = self.faults == Faults::All && !self.calm && self.random.once_in(5);
        if !attempt.arrived {
            if fails {
                return self.failed(node, attempt);
            }
            self.arrive(&attempt.delivery);
            self.nodes[node].attempts.push(Attempt { arrived: true, ..attempt });
        } else if fails {
            self.failed(node, attempt);
        } else {
            self.accepted(node, attempt);
        }
    }

    fn postpone(&mut self, node: usize, delivery: PendingDelivery) {
        let at = self.at();
        if let Some(queue) = self.nodes[node].queues.get_mut(&delivery.participant) {
            queue.finish(delivery, NextStep::Postponed { after: RETRY }, at);
        }
    }

    fn arrive(&mut self, delivery: &PendingDelivery) {
        if delivery.kind == DeliveryKind::Request {
            self.trace(self.request_of(delivery), || format!("arrives as {}", delivery.seq));
        }
        if !self.arrivals.deliveries.contains_key(&delivery.delivery_key) {
            self.check_order(delivery);
        }
        *self.arrivals.deliveries.entry(delivery.delivery_key).or_default() += 1;
        if delivery.kind == DeliveryKind::Request {
            let bundle_id = delivery.metadata.bundle_id.clone().unwrap_or_default();
            *self.arrivals.requests.entry(bundle_id).or_default() += 1;
        } else if self.arrivals.deliveries.get(&delivery.delivery_key) == Some(&1) {
            // An answer has reached the channel of its sender.
            let number = self.number_of(delivery);
            self.requests[number].delivered.push(delivery.metadata.id);
        }
    }

    fn settle(&mut self, node: usize, attempt: Attempt, settlement: Settlement, then: Then) {
        let delivery = attempt.delivery;
        let lease = Some(HeldLease { participant: delivery.participant, epoch: attempt.epoch });
        let settlement = Settlement { delivery_key: delivery.delivery_key, lease, ..settlement };
        self.begin(node, Work::Settle(settlement), then);
    }

    /// The attempt failed, now and then for good.
    fn failed(&mut self, node: usize, attempt: Attempt) {
        let state = if self.random.once_in(6) { DeliveryState::Dead } else { DeliveryState::Waiting };
        // Long enough that another node takes the queue before this is recorded.
        if state == DeliveryState::Dead && self.random.once_in(3) {
            self.nodes[node].paused = true;
        }
        let due_at_us = self.model.now_us + i64::try_from(RETRY.as_micros()).unwrap_or_default();
        let settlement = Settlement { due_at_us, ..settlement(state) };
        let next = NextStep::Retry { after: RETRY };
        let then = Then::Settled { delivery: attempt.delivery.clone(), claim: None, next };
        self.settle(node, attempt, settlement, then);
    }

    fn accepted(&mut self, node: usize, attempt: Attempt) {
        let delivery = attempt.delivery.clone();
        if delivery.kind != DeliveryKind::Request {
            let then = Then::Settled { delivery, claim: None, next: NextStep::Done };
            return self.settle(node, attempt, settlement(DeliveryState::Delivered), then);
        }
        if self.random.once_in(2) {
            self.later_answers.push(delivery.clone());
            let then = Then::Settled { delivery, claim: None, next: NextStep::Done };
            return self.settle(node, attempt, settlement(DeliveryState::Delivered), then);
        }
        let mut answer = answer(&delivery, self.model.now_us);
        let claim = self.claim_or_route(node, &delivery, &mut answer);
        let settlement = Settlement { answer: Some(Box::new(answer)), ..settlement(DeliveryState::Answered) };
        let then = Then::Settled { delivery, claim, next: NextStep::Done };
        self.settle(node, attempt, settlement, then);
    }

    fn request_of(&self, delivery: &PendingDelivery) -> usize {
        let bundle_id = delivery.metadata.bundle_id.clone().unwrap_or_default();
        self.requests.iter().position(|request| request.bundle_id() == bundle_id).unwrap_or(usize::MAX)
    }

    /// The request that an answer belongs to.
    fn number_of(&self, answer: &PendingDelivery) -> usize {
        let bundle_id = answer.metadata.bundle_id.clone().unwrap_or_default();
        let is_its = |request: &super::clients::Request| bundle_id == format!("answer-to-{}", request.bundle_id());
        self.requests.iter().position(is_its).unwrap_or_else(|| panic!("{bundle_id} answers nothing"))
    }

    /// Claims the senders that wait on this node; if there are none, the answer goes to the sender's channel.
    fn claim_or_route(
        &mut self,
        node: usize,
        request: &PendingDelivery,
        answer: &mut NewMessage,
    ) -> Option<crate::exchange::replies::Claim> {
        let claim = self.nodes[node].claim(request.metadata.id);
        let key = self.nodes[node].key;
        self.trace(self.request_of(request), || format!("answered at node {key}, claimed: {}", claim.is_some()));
        if claim.is_none() && has_channel(&request.metadata.sender) {
            answer.deliveries = vec![return_delivery(&request.metadata.sender, self.model.now_us)];
        }
        claim
    }

    /// A receiver posts its answer to any node.
    fn answer_later(&mut self) {
        let Some(node) = self.any_node() else { return };
        let index = self.random.below(self.later_answers.len());
        let request = self.later_answers.swap_remove(index);
        let mut answer = answer(&request, self.model.now_us);
        let claim = self.claim_or_route(node, &request, &mut answer);
        answer.closes = Some(request.delivery_key);
        self.begin(node, Work::Accept(Box::new(answer)), Then::AnswerStored { request, claim });
    }
}

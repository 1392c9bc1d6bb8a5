//! The tasks of a node: what follows a commit, and the senders that wait for answers.

use super::node::{Sender, Task, Then};
use super::world::{WakeUp, World};
use crate::delivery::{Acceptance, DeliveryState, NextStep, Settlement};
use crate::exchange::replies::{Claim, Completion, Waiter};
use crate::nodes::NodeKey;
use crate::store::model::{Done, Step, Work};
use bytes::Bytes;
use std::time::Duration;
use uuid::Uuid;

/// How long a sender waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// Senders that have waited longer than this look into the store themselves, in case a wake-up was lost.
const LOOK_AFTER: Duration = Duration::from_secs(1);

fn completion(answer: Uuid) -> Completion {
    Completion::Answer {
        bytes: Bytes::copy_from_slice(answer.as_bytes()),
        media_type: String::new(),
        version: None,
        converted: false,
        code: None,
    }
}

fn answer_of(completion: &Completion) -> Option<Uuid> {
    match completion {
        Completion::Answer { bytes, .. } => Uuid::from_slice(bytes).ok(),
        Completion::Taken { .. } => None,
    }
}

impl World {
    pub fn begin(&mut self, node: usize, work: Work, then: Then) {
        let transaction = self.model.begin(self.nodes[node].key, work);
        self.nodes[node].tasks.push(Task { transaction, done: None, then });
    }

    /// A message arrives at a node, and its sender waits for the answer.
    pub fn receive(&mut self, node: usize, number: usize) {
        let id = super::clients::new_id();
        let message = self.requests[number].message(id, self.model.now_us);
        self.requests[number].open += 1;
        self.requests[number].sent += 1;
        let receiver = message.deliveries[0].participant.clone();
        // Before the message is stored: an answer that arrives right afterwards must find its sender waiting.
        let waiter = self.nodes[node].waiters.register(id, &receiver);
        self.begin(node, Work::Accept(Box::new(message)), Then::Received { number, id, waiter });
    }

    /// One step of one transaction of one node: a lock, its read, its commit, or what its caller does with the result.
    pub fn step_task(&mut self) {
        let Some(node) = self.any_node().filter(|node| !self.nodes[*node].tasks.is_empty()) else { return };
        let index = self.random.below(self.nodes[node].tasks.len());
        let task = &mut self.nodes[node].tasks[index];
        if task.done.is_some() {
            let task = self.nodes[node].tasks.swap_remove(index);
            if let Some(done) = task.done {
                self.follow(node, task.then, done);
            }
            return;
        }
        if let Step::Committed(done) = self.model.step(task.transaction) {
            self.nodes[node].tasks[index].done = Some(done);
            self.check_stored();
        }
    }

    fn follow(&mut self, node: usize, then: Then, done: Done) {
        match (then, done) {
            (Then::Received { number, id, waiter }, Done::Accepted(Acceptance::New { deliveries, .. })) => {
                self.offer(node, deliveries);
                self.wait(node, number, id, waiter);
            }
            (Then::Received { number, waiter, .. }, Done::Accepted(Acceptance::Duplicate { message_id })) => {
                drop(waiter);
                let receiver = self.requests[number].receiver.into();
                let waiter = self.nodes[node].waiters.register(message_id, &receiver);
                let Some((waiter, progress)) = waiter.zip(self.model.progress(message_id)) else { return };
                let work = Work::Wait { delivery_key: progress.delivery_key, begins: true };
                self.begin(node, work, Then::Joined { number, original: message_id, waiter });
            }
            (Then::Joined { number, original, waiter }, Done::Waits(_)) => {
                match self.model.progress(original).and_then(|progress| progress.answer) {
                    Some(answer) => {
                        drop(waiter);
                        self.reply(node, number, original, Some(answer));
                    }
                    None => self.wait(node, number, original, Some(waiter)),
                }
            }
            (Then::Left { number, message }, Done::Waits(left)) => {
                let progress = if left { None } else { self.model.progress(message) };
                self.reply(node, number, message, progress.and_then(|progress| progress.answer));
            }
            (Then::Settled { delivery, claim, next }, Done::Settled(settled)) => {
                let request = delivery.metadata.id;
                let at = self.at();
                if let Some(queue) = self.nodes[node].queues.get_mut(&delivery.participant) {
                    queue.finish(delivery, if settled.is_stale { NextStep::Done } else { next }, at);
                }
                self.offer(node, settled.deliveries);
                self.wake(settled.woken, request);
                self.give(node, request, claim);
            }
            (Then::AnswerStored { request, claim }, Done::Accepted(accepted)) => {
                if let Acceptance::New { deliveries, first_answer, woken, .. } = accepted {
                    self.offer(node, deliveries);
                    self.wake(woken, request.metadata.id);
                    if first_answer {
                        self.forget(node, &request);
                    }
                }
                self.give(node, request.metadata.id, claim);
            }
            (Then::Round { sent }, Done::Round(round)) => self.end_round(node, sent, round),
            (Then::ReturnEnded { delivery }, _) => self.forget(node, &delivery),
            (_, done) => panic!("a result of the wrong kind: {done:?}"),
        }
    }

    fn wait(&mut self, node: usize, number: usize, message: Uuid, waiter: Option<Waiter<'static>>) {
        let now = self.at().now;
        match waiter {
            Some(waiter) => self.nodes[node].senders.push(Sender { number, message, waiter, since: now, looked: now }),
            None => self.reply(node, number, message, None),
        }
    }

    /// Gives the stored answer to the senders that were claimed for it, and to those that registered meanwhile.
    fn give(&mut self, node: usize, request: Uuid, claim: Option<Claim>) {
        let answer = self.model.progress(request).and_then(|progress| progress.answer);
        let claims = [claim, answer.and_then(|_| self.nodes[node].claim(request))];
        for claim in claims.into_iter().flatten() {
            match answer {
                Some(answer) => claim.deliver(completion(answer)),
                None => self.nodes[node].waiters.unclaim(request, claim),
            }
        }
    }

    /// Another node has stored the answer to a request.
    pub fn announce(&mut self, node: usize, request: Uuid) {
        self.give(node, request, None);
    }

    fn wake(&mut self, woken: Vec<NodeKey>, request: Uuid) {
        self.wake_ups.extend(woken.into_iter().map(|node| (node, WakeUp::Answered(request))));
    }

    /// Senders that have their answer, and those whose time is up.
    pub fn look_after_senders(&mut self, node: usize) {
        let now = self.at().now;
        let mut waiting = Vec::new();
        for mut sender in std::mem::take(&mut self.nodes[node].senders) {
            if let Some(completion) = sender.waiter.take() {
                self.reply(node, sender.number, sender.message, answer_of(&completion));
            } else if now >= sender.since + ANSWER_TIMEOUT && sender.waiter.leave() {
                self.leave(node, sender.number, sender.message);
            } else {
                if now >= sender.looked + LOOK_AFTER {
                    sender.looked = now;
                    self.announce(node, sender.message);
                }
                waiting.push(sender);
            }
        }
        self.nodes[node].senders.extend(waiting);
    }

    fn leave(&mut self, node: usize, number: usize, message: Uuid) {
        let Some(progress) = self.model.progress(message) else { return };
        let work = Work::Wait { delivery_key: progress.delivery_key, begins: false };
        self.begin(node, work, Then::Left { number, message });
    }

    /// The reply reaches the sender: with the answer, or with 202.
    fn reply(&mut self, node: usize, number: usize, message: Uuid, answer: Option<Uuid>) {
        self.trace(number, || format!("reply of node {} answer {answer:?}", self.nodes[node].key));
        let request = &mut self.requests[number];
        request.open -= 1;
        request.acknowledged = true;
        assert!(self.model.progress(message).is_some(), "{} is acknowledged and not stored", request.bundle_id());
        request.on_the_line.extend(answer);
        if answer.is_none() {
            return;
        }
        let Some((delivery_key, true)) = self.model.progress(message).and_then(|progress| progress.return_delivery)
        else {
            return;
        };
        let settlement = Settlement { delivery_key, ..settlement(DeliveryState::Delivered) };
        let Some(delivery) = self.model.pending(delivery_key) else { return };
        self.begin(node, Work::Settle(settlement), Then::ReturnEnded { delivery: Box::new(delivery) });
    }

    /// The process ends. Its transactions are rolled back unless they have committed, and its senders send again.
    pub fn kill(&mut self, index: usize) {
        let node = self.nodes.swap_remove(index);
        for task in &node.tasks {
            if task.done.is_none() {
                self.model.abort(task.transaction);
            }
            match &task.then {
                Then::Received { number, .. } | Then::Joined { number, .. } | Then::Left { number, .. } => {
                    self.cut(*number);
                }
                Then::AnswerStored { request, .. } => self.later_answers.push(request.clone()),
                Then::Settled { .. } | Then::ReturnEnded { .. } | Then::Round { .. } => {}
            }
        }
        for sender in &node.senders {
            self.cut(sender.number);
        }
    }

    fn cut(&mut self, number: usize) {
        self.trace(number, || "cut".into());
        self.requests[number].open -= 1;
        self.requests[number].to_send += 1;
    }
}

pub fn settlement(state: DeliveryState) -> Settlement {
    Settlement {
        delivery_key: 0,
        state,
        due_at_us: 0,
        attempt: None,
        fault: None,
        answer: None,
        receiver_issues: None,
        shares_with: None,
        ends_waits: false,
        lease: None,
    }
}

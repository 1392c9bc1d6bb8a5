//! A node: what it holds in memory, the tasks that it runs, and the senders that wait on it.

use super::world::{WakeUp, World};
use crate::courier::simulated::{At, SimulatedQueue, SimulatedRead};
use crate::delivery::{Acceptance, DeliveryState, NextStep, PendingDelivery, Settlement};
use crate::exchange::replies::{Claim, Completion, Waiter, Waiters};
use crate::nodes::NodeKey;
use crate::nodes::feed::Feed;
use crate::nodes::lease::LeaseId;
use crate::store::model::{Done, Step, TransactionId, Work};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a sender waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// Senders that have waited longer than this look into the store themselves, in case a wake-up was lost.
const LOOK_AFTER: Duration = Duration::from_secs(1);

pub struct Node {
    pub key: NodeKey,
    pub paused: bool,
    pub leaving: bool,
    waiters: &'static Waiters,
    pub queues: BTreeMap<Arc<str>, SimulatedQueue>,
    pub reads: Vec<(Arc<str>, SimulatedRead)>,
    pub attempts: Vec<Attempt>,
    pub tasks: Vec<Task>,
    senders: Vec<Sender>,
    pub held: BTreeMap<LeaseId, i64>,
    /// Other nodes may take its leases after this.
    pub deadline: Instant,
    /// What it gives up; and what has ended, which the next round releases.
    pub releasing: BTreeMap<LeaseId, Arc<str>>,
    pub released: BTreeSet<LeaseId>,
    pub next_round: Instant,
    pub round_runs: bool,
    pub feed: Option<Feed>,
    pub next_poll: Instant,
}

/// An attempt at a receiver.
pub struct Attempt {
    pub delivery: PendingDelivery,
    pub epoch: i64,
    /// The receiver has it.
    pub arrived: bool,
}

/// A transaction, and what follows its commit.
pub struct Task {
    pub transaction: TransactionId,
    pub done: Option<Done>,
    pub then: Then,
}

pub enum Then {
    /// A message was stored, or recognized.
    Received {
        number: usize,
        id: Uuid,
        waiter: Option<Waiter<'static>>,
    },
    /// The sender of a copy waits with the original.
    Joined {
        number: usize,
        original: Uuid,
        waiter: Waiter<'static>,
    },
    /// A sender's time was up.
    Left {
        number: usize,
        message: Uuid,
    },
    /// An attempt was recorded.
    Settled {
        delivery: PendingDelivery,
        claim: Option<Claim>,
        next: NextStep,
    },
    /// An answer that came as a message of its own was stored.
    AnswerStored {
        request: PendingDelivery,
        claim: Option<Claim>,
    },
    /// The answer is with its sender, and its delivery needs not be made.
    ReturnEnded,
    Round {
        sent: Instant,
    },
}

/// A sender that waits for an answer.
struct Sender {
    number: usize,
    message: Uuid,
    waiter: Waiter<'static>,
    since: Instant,
    looked: Instant,
}

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

impl Node {
    pub fn new(key: NodeKey, at: At) -> Node {
        Node {
            key,
            paused: false,
            leaving: false,
            // Waiters borrow it, and a test ends soon.
            waiters: Box::leak(Box::new(Waiters::new(1_000))),
            queues: BTreeMap::new(),
            reads: Vec::new(),
            attempts: Vec::new(),
            tasks: Vec::new(),
            senders: Vec::new(),
            held: BTreeMap::new(),
            deadline: at.now,
            releasing: BTreeMap::new(),
            released: BTreeSet::new(),
            next_round: at.now,
            round_runs: false,
            feed: None,
            next_poll: at.now,
        }
    }

    pub fn is_idle(&self) -> bool {
        let is_round = |task: &Task| matches!(task.then, Then::Round { .. });
        self.senders.is_empty() && self.attempts.is_empty() && self.tasks.iter().all(is_round)
    }

    /// It was asked to stop, and has handed everything over.
    pub fn has_left(&self) -> bool {
        self.leaving && self.held.is_empty() && self.released.is_empty() && self.is_idle()
    }

    pub fn claim(&self, request: Uuid) -> Option<Claim> {
        self.waiters.claim(request)
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
            (Then::ReturnEnded, _) => {}
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
        self.begin(node, Work::Settle(settlement), Then::ReturnEnded);
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
                Then::Settled { .. } | Then::ReturnEnded | Then::Round { .. } => {}
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

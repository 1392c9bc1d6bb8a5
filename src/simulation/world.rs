//! The world: the database, the nodes, the parties, and the scheduler that chooses the next step.

use super::clients::{Arrivals, RECEIVERS, Request, SENDERS, participants};
use super::node::Node;
use super::random::Random;
use crate::courier::simulated::At;
use crate::delivery::PendingDelivery;
use crate::nodes::NodeKey;
use crate::store::model::Model;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Only wake-ups get lost.
    LostWakeUps,
    /// Nodes also hang, die, stop, and start; attempts and replies get lost.
    All,
}

/// A hint from one node to another.
pub enum WakeUp {
    /// Look at the feed.
    Feed,
    /// The request has its answer, and a sender waits for it here.
    Answered(Uuid),
    /// The delivery has ended without an attempt.
    Forget(Box<PendingDelivery>),
}

pub struct World {
    pub faults: Faults,
    pub random: Random,
    pub model: Model,
    begun: Instant,
    elapsed: Duration,
    pub nodes: Vec<Node>,
    pub requests: Vec<Request>,
    pub arrivals: Arrivals,
    pub wake_ups: Vec<(NodeKey, WakeUp)>,
    /// Answers that receivers send later, as messages of their own: the delivery of the request.
    pub later_answers: Vec<PendingDelivery>,
    queues_made: u64,
    traced: Option<usize>,
    /// Nothing goes wrong any more, so that everything can end.
    pub calm: bool,
}

const STEPS: usize = 4_000;
const REQUESTS: usize = 30;
const NODES: usize = 3;
const BEGIN_US: i64 = 1_000_000_000_000_000;
/// More steps than this to the end mean that something waits without end.
const STEPS_LIMIT: usize = 400_000;

impl World {
    pub fn new(seed: u64, faults: Faults) -> World {
        let mut world = World {
            faults,
            random: Random::new(seed),
            model: Model::new(&participants(), BEGIN_US),
            begun: Instant::now(),
            elapsed: Duration::ZERO,
            nodes: Vec::new(),
            requests: Vec::new(),
            arrivals: Arrivals::default(),
            wake_ups: Vec::new(),
            later_answers: Vec::new(),
            queues_made: 0,
            traced: std::env::var("EMBERPOST_SIMULATION_TRACE").ok().and_then(|number| number.parse().ok()),
            calm: false,
        };
        for _ in 0..NODES {
            world.start_node();
        }
        world
    }

    pub fn at(&self) -> At {
        At { now: self.begun + self.elapsed, now_us: self.model.now_us }
    }

    pub fn next_queue_id(&mut self) -> u64 {
        self.queues_made += 1;
        self.queues_made
    }

    pub fn start_node(&mut self) {
        let key = self.model.register();
        let node = Node::new(key, self.at());
        self.nodes.push(node);
    }

    /// Plays the seed to its end.
    pub fn play(mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.calm = true;
        self.nodes.iter_mut().for_each(|node| node.paused = false);
        while self.nodes.iter().filter(|node| !node.leaving).count() < NODES {
            self.start_node();
        }
        let mut steps = 0;
        while !self.has_ended() {
            self.step();
            steps += 1;
            if steps > STEPS_LIMIT {
                break;
            }
        }
        self.check_end();
    }

    fn has_ended(&self) -> bool {
        let is_done = |request: &Request| request.acknowledged && request.open == 0 && request.to_send == 0;
        self.requests.iter().all(is_done)
            && self.model.open() == 0
            && self.later_answers.is_empty()
            && self.nodes.iter().all(Node::is_idle)
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..40 => self.step_task(),
            40..60 => self.step_attempt(),
            60..70 => self.step_read(),
            70..78 => self.wake_up(),
            78..84 => self.send(),
            84..95 => self.tick(),
            95..99 => self.pass_time(),
            _ => self.fail_something(),
        }
    }

    /// Prints what happens to one request: EMBERPOST_SIMULATION_TRACE is its number.
    pub fn trace(&self, number: usize, what: impl FnOnce() -> String) {
        if self.traced == Some(number) {
            println!("{:>9.3} {}", self.elapsed.as_secs_f64(), what());
        }
    }

    /// A node that runs.
    pub fn any_node(&mut self) -> Option<usize> {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|index| !self.nodes[*index].paused).collect();
        if running.is_empty() { None } else { Some(running[self.random.below(running.len())]) }
    }

    fn pass_time(&mut self) {
        // Without other faults, nothing takes so long that a deadline passes unnoticed.
        let longest = if self.faults == Faults::All && !self.calm { 3_000 } else { 60 };
        let passed = Duration::from_millis(1 + self.random.below(longest) as u64);
        self.elapsed += passed;
        self.model.now_us += i64::try_from(passed.as_micros()).unwrap_or_default();
    }

    fn wake_up(&mut self) {
        if self.wake_ups.is_empty() {
            return;
        }
        let index = self.random.below(self.wake_ups.len());
        let (to, wake_up) = self.wake_ups.swap_remove(index);
        let Some(node) = self.nodes.iter().position(|node| node.key == to && !node.paused) else { return };
        if !self.calm && self.random.once_in(4) {
            return;
        }
        match wake_up {
            WakeUp::Feed => self.read_feed(node),
            WakeUp::Answered(request) => self.announce(node, request),
            WakeUp::Forget(delivery) => {
                let at = self.at();
                if let Some(queue) = self.nodes[node].queues.get_mut(&delivery.participant) {
                    queue.forget(&delivery, at);
                }
            }
        }
    }

    /// A new message, or a copy of one for which no reply came.
    fn send(&mut self) {
        let Some(node) = self.any_node().filter(|node| !self.nodes[*node].leaving) else { return };
        let again: Vec<usize> = (0..self.requests.len()).filter(|index| self.requests[*index].to_send > 0).collect();
        let number = if !again.is_empty() && self.random.once_in(2) {
            again[self.random.below(again.len())]
        } else if self.requests.len() < REQUESTS && !self.calm {
            self.new_request()
        } else {
            let Some(number) = again.first() else { return };
            *number
        };
        self.requests[number].to_send = self.requests[number].to_send.saturating_sub(1);
        // Sometimes a sender sends two copies at once.
        if !self.calm && self.random.once_in(6) {
            self.requests[number].to_send += 1;
        }
        self.receive(node, number);
    }

    fn new_request(&mut self) -> usize {
        let number = self.requests.len();
        self.requests.push(Request {
            number,
            sender: SENDERS[self.random.below(SENDERS.len())],
            receiver: RECEIVERS[self.random.below(RECEIVERS.len())],
            lane: self.random.below(3) as i64,
            sent: 0,
            open: 0,
            acknowledged: false,
            on_the_line: Vec::new(),
            delivered: Vec::new(),
            to_send: 1,
        });
        number
    }

    fn fail_something(&mut self) {
        if self.faults != Faults::All || self.calm || self.nodes.is_empty() {
            return;
        }
        let index = self.random.below(self.nodes.len());
        match self.random.below(8) {
            0 => self.kill(index),
            1 | 2 if self.nodes.len() <= NODES => self.start_node(),
            3 => self.nodes[index].leaving = true,
            4 => self.nodes[index].paused = true,
            _ => self.nodes[index].paused = false,
        }
    }
}

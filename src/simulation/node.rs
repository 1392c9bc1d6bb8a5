//! A node: what it holds in memory, the tasks that it runs, and the senders that wait on it.

use crate::courier::simulated::{At, SimulatedQueue, SimulatedRead};
use crate::delivery::{NextStep, PendingDelivery};
use crate::exchange::replies::{Claim, Waiter, Waiters};
use crate::nodes::NodeKey;
use crate::nodes::feed::Feed;
use crate::nodes::lease::LeaseId;
use crate::store::model::{Done, TransactionId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;
use uuid::Uuid;

pub struct Node {
    pub key: NodeKey,
    pub paused: bool,
    pub leaving: bool,
    pub waiters: &'static Waiters,
    pub queues: BTreeMap<Arc<str>, SimulatedQueue>,
    pub reads: Vec<(Arc<str>, SimulatedRead)>,
    pub attempts: Vec<Attempt>,
    pub tasks: Vec<Task>,
    pub senders: Vec<Sender>,
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
    ReturnEnded {
        delivery: Box<PendingDelivery>,
    },
    Round {
        sent: Instant,
    },
}

/// A sender that waits for an answer.
pub struct Sender {
    pub number: usize,
    pub message: Uuid,
    pub waiter: Waiter<'static>,
    pub since: Instant,
    pub looked: Instant,
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

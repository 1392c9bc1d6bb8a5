//! A participant queue for the simulation of several nodes: the queue that the courier's actor drives, driven step by step.

use super::backlog::{LANE_PAGE, LANES_PAGE, Page, Query, Read, UNORDERED_PAGE};
use super::breaker::Moment;
use super::budget::{Budget, MemoryShare};
use super::queue::{Action, AttemptEnd, ParticipantQueue, ReceiverState};
use crate::delivery::{NextStep, PendingDelivery};
use crate::routing::Participant;
use crate::store::model::Model;
use std::sync::Arc;
use tokio::time::Instant;

const MEMORY_BYTES: usize = 1 << 20;

/// The time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub now: Instant,
    pub now_us: i64,
}

impl From<At> for Moment {
    fn from(At { now, now_us }: At) -> Moment {
        Moment { now, now_us }
    }
}

pub(crate) struct SimulatedQueue {
    queue: ParticipantQueue,
}

/// A read on its way: asked, then made, then reported.
pub(crate) struct SimulatedRead {
    read: Read,
    page: Option<Page>,
}

impl SimulatedQueue {
    /// `id` is unique in the process of the node.
    pub fn new(participant: Participant, id: u64) -> SimulatedQueue {
        let share = MemoryShare::new(Budget::new(MEMORY_BYTES));
        SimulatedQueue { queue: ParticipantQueue::new(Arc::new(participant), false, share, id) }
    }

    pub fn offer(&mut self, delivery: PendingDelivery, at: At) {
        self.queue.offer(delivery, at.into());
    }

    pub fn hint(&mut self, delivery: &PendingDelivery, at: At) {
        self.queue.hint(delivery, at.into());
    }

    pub fn forget(&mut self, delivery: &PendingDelivery, at: At) {
        self.queue.forget(delivery, at.into());
    }

    /// Everything that waits is read again.
    pub fn reread(&mut self) {
        self.queue.mark_incomplete();
    }

    pub fn retire(&mut self) {
        self.queue.retire();
    }

    /// What starts now. Nothing expires in the simulation.
    pub fn start(&mut self, at: At) -> Vec<PendingDelivery> {
        let mut actions = Vec::new();
        self.queue.advance(at.into(), &mut actions);
        let started = |action| match action {
            Action::Attempt(delivery) | Action::GiveUp(delivery) => delivery,
        };
        actions.into_iter().map(started).collect()
    }

    pub fn finish(&mut self, delivery: PendingDelivery, next: NextStep, at: At) {
        let ended = AttemptEnd { next, receiver: ReceiverState::Unknown, retry_after: None };
        self.queue.finish(delivery, ended, 0.0, at.into());
    }

    pub fn active(&self) -> usize {
        self.queue.active_count()
    }

    pub fn reads(&mut self) -> Vec<SimulatedRead> {
        self.queue.reads.drain(..).map(|read| SimulatedRead { read, page: None }).collect()
    }

    /// Makes a read, or reports what was read. True once it has been reported.
    pub fn advance(&mut self, read: &mut SimulatedRead, model: &Model, at: At) -> bool {
        match read.page.take() {
            Some(page) => {
                self.queue.page(read.read, page, at.into());
                true
            }
            None => {
                read.page = Some(page(model, &self.queue.settings.id, read.read.query));
                false
            }
        }
    }
}

fn page(model: &Model, participant: &str, query: Query) -> Page {
    match query {
        Query::Lanes { after } => Page::Lanes(model.lanes(participant, after, LANES_PAGE as usize)),
        Query::Lane { lane, after_seq } => {
            Page::Deliveries(model.lane(participant, lane, after_seq, LANE_PAGE as usize))
        }
        Query::Unordered { after_seq } => {
            Page::Deliveries(model.lane(participant, 0, after_seq, UNORDERED_PAGE as usize))
        }
        Query::DueLanes { after, through_us } => {
            Page::DueLanes(model.due_lanes(participant, after, through_us, LANES_PAGE as usize))
        }
        Query::DueUnordered { after, through_us } => {
            Page::DueUnordered(model.due_unordered(participant, after, through_us, UNORDERED_PAGE as usize))
        }
    }
}

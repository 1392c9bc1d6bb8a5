//! A participant queue against a model of the store: whatever happens in whatever order, each delivery starts in the
//! order of its lane, once per attempt, and none is left behind.

use super::super::backlog::{LANE_PAGE, LANES_PAGE, Page, Query, UNORDERED_PAGE};
use super::super::budget::Budget;
use super::*;
use crate::routing::Channel;
use crate::store::{DuePage, LaneHead};
use crate::testing::{participant, pending};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CONCURRENCY: usize = 8;
const RETRY_SECONDS: u64 = 5;

#[derive(Clone, Debug)]
enum Step {
    /// Deliveries are committed to this lane, and offered in order, out of order, late, or never.
    Commit {
        lane: i64,
        count: usize,
        arrival: Arrival,
    },
    /// Deliveries that were committed earlier are offered now.
    Arrive,
    /// The store answers the reads; the pages arrive with `Step::Deliver`, after whatever happens in between.
    Read,
    Deliver,
    Finish {
        pick: usize,
        how: How,
    },
    Wait,
    /// An operator discards a waiting delivery, and perhaps retries it.
    Discard {
        pick: usize,
        again: bool,
    },
    /// The participant's configuration changes: without a channel, or removed for a while.
    Reload {
        carried: bool,
        gone: bool,
    },
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Arrival {
    Now,
    Disorder,
    Late,
    Never,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Done,
    Again,
    Postponed,
}

fn step() -> impl Strategy<Value = Step> {
    let arrival = prop_oneof![
        6 => Just(Arrival::Now),
        2 => Just(Arrival::Disorder),
        2 => Just(Arrival::Late),
        1 => Just(Arrival::Never)
    ];
    let how = prop_oneof![6 => Just(How::Done), 2 => Just(How::Again), 1 => Just(How::Postponed)];
    prop_oneof![
        6 => (0..6_i64, 1..90_usize, arrival)
            .prop_map(|(lane, count, arrival)| Step::Commit { lane, count, arrival }),
        2 => Just(Step::Arrive),
        6 => Just(Step::Read),
        6 => Just(Step::Deliver),
        16 => (0..8_usize, how).prop_map(|(pick, how)| Step::Finish { pick, how }),
        2 => Just(Step::Wait),
        3 => (0..400_usize, any::<bool>()).prop_map(|(pick, again)| Step::Discard { pick, again }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(carried, gone)| Step::Reload { carried, gone }),
        1 => Just(Step::Restart),
    ]
}

fn queue_of(concurrency: usize, id: u64) -> ParticipantQueue {
    let share = MemoryShare::new(Budget::new(1 << 20));
    ParticipantQueue::new(Arc::new(participant("lab", concurrency)), false, share, id)
}

fn moment() -> Moment {
    Moment { now: Instant::now(), now_us: 1_000_000_000_000 }
}

struct Model {
    queue: ParticipantQueue,
    queues_made: u64,
    at: Moment,
    /// By `seq`.
    waiting: BTreeMap<i64, PendingDelivery>,
    active: Vec<PendingDelivery>,
    late: Vec<PendingDelivery>,
    pages: Vec<(Read, Page)>,
    next_seq: i64,
    carried: bool,
    started: usize,
}

impl Model {
    fn new() -> Self {
        Model {
            queue: queue_of(CONCURRENCY, 1),
            queues_made: 1,
            at: moment(),
            waiting: BTreeMap::new(),
            active: Vec::new(),
            late: Vec::new(),
            pages: Vec::new(),
            next_seq: 0,
            carried: true,
            started: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Commit { lane, count, arrival } => self.commit(lane, count, arrival),
            Step::Arrive => {
                for delivery in std::mem::take(&mut self.late) {
                    self.queue.offer(delivery, self.at);
                }
            }
            Step::Read => {
                for read in std::mem::take(&mut self.queue.reads) {
                    let page = self.answer(read);
                    self.pages.push((read, page));
                }
            }
            Step::Deliver => {
                for (read, page) in std::mem::take(&mut self.pages) {
                    self.queue.page(read, page, self.at);
                }
            }
            Step::Finish { pick, how } => self.finish(pick, how),
            Step::Wait => {
                self.at.now += Duration::from_secs(2 * RETRY_SECONDS);
                // The wall clock is set back.
                self.at.now_us -= 3_000_000;
            }
            Step::Discard { pick, again } => self.discard(pick, again),
            Step::Reload { carried, gone } => self.reload(carried, gone),
            Step::Restart => {
                self.queues_made += 1;
                self.queue = queue_of(CONCURRENCY, self.queues_made);
                self.reconfigure(self.carried);
                self.active.clear();
                self.late.clear();
            }
        }
        self.advance();
    }

    fn commit(&mut self, lane: i64, count: usize, arrival: Arrival) {
        let mut deliveries: Vec<PendingDelivery> = (0..count).map(|_| self.insert(pending("lab", lane, 0))).collect();
        if !self.carried {
            return;
        }
        match arrival {
            Arrival::Now => deliveries.into_iter().for_each(|delivery| self.queue.offer(delivery, self.at)),
            Arrival::Disorder => {
                deliveries.reverse();
                deliveries.into_iter().for_each(|delivery| self.queue.offer(delivery, self.at));
            }
            Arrival::Late => self.late.extend(deliveries),
            Arrival::Never => self.queue.mark_incomplete(),
        }
    }

    /// As the store does: behind what waits in its lane.
    fn insert(&mut self, delivery: PendingDelivery) -> PendingDelivery {
        self.next_seq += 1;
        let same = |other: &&PendingDelivery| delivery.lane != 0 && other.lane == delivery.lane;
        let prev_seq = self.waiting.values().rev().find(same).map(|last| last.seq);
        let delivery_key = if delivery.delivery_key == 0 { self.next_seq } else { delivery.delivery_key };
        let delivery = PendingDelivery { seq: self.next_seq, delivery_key, prev_seq, due_at_us: 0, ..delivery };
        self.waiting.insert(delivery.seq, delivery.clone());
        delivery
    }

    fn answer(&self, read: Read) -> Page {
        let all = || self.waiting.values().filter(|_| !read.bypassing_only).cloned();
        let head = |delivery: PendingDelivery| LaneHead {
            lane: delivery.lane,
            seq: delivery.seq,
            due_at_us: delivery.due_at_us,
            bypasses_channel: delivery.kind.bypasses_channel(),
        };
        match read.query {
            Query::Lanes { after } => {
                let mut heads: BTreeMap<i64, LaneHead> = BTreeMap::new();
                for delivery in
                    all().filter(|delivery| delivery.lane != 0 && after.is_none_or(|after| delivery.lane > after))
                {
                    heads.entry(delivery.lane).or_insert(head(delivery));
                }
                Page::Lanes(heads.into_values().take(LANES_PAGE as usize).collect())
            }
            Query::Lane { lane, after_seq } => {
                let deliveries = all().filter(|delivery| delivery.lane == lane && delivery.seq > after_seq);
                Page::Deliveries(deliveries.take(LANE_PAGE as usize).collect())
            }
            Query::Unordered { after_seq } => {
                let deliveries =
                    all().filter(|delivery| delivery.lane == 0 && delivery.due_at_us == 0 && delivery.seq > after_seq);
                Page::Deliveries(deliveries.take(UNORDERED_PAGE as usize).collect())
            }
            Query::DueLanes { after, through_us } => {
                let page = due(all().filter(|delivery| delivery.lane != 0), after, through_us, LANES_PAGE as usize);
                let items = page.items.into_iter().map(head).collect();
                Page::DueLanes(DuePage { items, next_due_at_us: page.next_due_at_us, more: page.more })
            }
            Query::DueUnordered { after, through_us } => Page::DueUnordered(due(
                all().filter(|delivery| delivery.lane == 0),
                after,
                through_us,
                UNORDERED_PAGE as usize,
            )),
        }
    }

    fn finish(&mut self, pick: usize, how: How) {
        if self.active.is_empty() {
            return;
        }
        let delivery = self.active.swap_remove(pick % self.active.len());
        let after = Duration::from_secs(RETRY_SECONDS);
        // A delivery that was settled otherwise meanwhile stays as it is; one that was retried has another `seq`.
        let row = self.waiting.values_mut().find(|other| other.delivery_key == delivery.delivery_key);
        let next = match how {
            How::Done => {
                let seq = row.map(|row| row.seq);
                seq.map(|seq| self.waiting.remove(&seq));
                NextStep::Done
            }
            How::Again => {
                if let Some(row) = row {
                    row.due_at_us = self.at.now_us + after.as_micros() as i64;
                    row.attempts += 1;
                }
                NextStep::Retry { after }
            }
            How::Postponed => NextStep::Postponed { after },
        };
        self.queue.finish(delivery, AttemptEnd { next, receiver: ReceiverState::Up, retry_after: None }, 0.0, self.at);
    }

    fn discard(&mut self, pick: usize, again: bool) {
        let Some(seq) = self.waiting.keys().nth(pick % self.waiting.len().max(1)).copied() else { return };
        let Some(delivery) = self.waiting.remove(&seq) else { return };
        self.queue.forget(&delivery, self.at);
        if again {
            let delivery = self.insert(PendingDelivery { body: None, ..delivery });
            if self.carried {
                self.queue.offer(delivery, self.at);
            }
        }
    }

    fn reload(&mut self, carried: bool, gone: bool) {
        if gone {
            self.queue.retire();
            self.advance();
            self.queue.retired = false;
        }
        self.reconfigure(carried);
        self.queue.reread();
    }

    fn reconfigure(&mut self, carried: bool) {
        self.carried = carried;
        let channel = if carried { participant("lab", 1).channel } else { Some(Channel::Mailbox) };
        self.queue.settings = Arc::new(Participant { channel, ..participant("lab", CONCURRENCY) });
    }

    fn advance(&mut self) {
        let mut actions = Vec::new();
        self.queue.advance(self.at, &mut actions);
        for action in actions {
            let Action::Attempt(delivery) = action else { panic!("nothing expires here") };
            assert!(self.carried, "{} waits in the mailbox", delivery.seq);
            assert!(self.waiting.contains_key(&delivery.seq), "{} ended before", delivery.seq);
            assert!(self.active.iter().all(|other| other.seq != delivery.seq), "{} twice", delivery.seq);
            if delivery.lane != 0 {
                assert!(self.active.iter().all(|other| other.lane != delivery.lane), "one at a time in a lane");
                let first = self.waiting.values().find(|other| other.lane == delivery.lane).map(|first| first.seq);
                assert_eq!(first, Some(delivery.seq), "in order");
            }
            self.started += 1;
            self.active.push(delivery);
        }
        assert!(self.active.len() <= CONCURRENCY);
    }

    /// Continues until everything is delivered.
    fn drain(&mut self) {
        self.reload(true, false);
        for _ in 0..20_000 {
            if self.waiting.is_empty() && self.active.is_empty() {
                break;
            }
            let before = self.started;
            for step in [Step::Read, Step::Deliver, Step::Finish { pick: 0, how: How::Done }] {
                self.apply(step);
            }
            if self.started == before && self.active.is_empty() {
                self.apply(Step::Wait);
            }
        }
        self.apply(Step::Arrive);
        while !self.queue.reads.is_empty() || !self.pages.is_empty() {
            self.apply(Step::Read);
            self.apply(Step::Deliver);
        }
    }
}

fn due(
    deliveries: impl Iterator<Item = PendingDelivery>,
    after: (i64, i64),
    through_us: i64,
    limit: usize,
) -> DuePage<PendingDelivery> {
    let mut waits: Vec<PendingDelivery> = deliveries.filter(|delivery| delivery.due_at_us > 0).collect();
    waits.sort_by_key(|delivery| (delivery.due_at_us, delivery.seq));
    let next = waits.iter().map(|delivery| delivery.due_at_us).find(|due_at_us| *due_at_us > through_us);
    waits.retain(|delivery| (delivery.due_at_us, delivery.seq) > after && delivery.due_at_us <= through_us);
    waits.truncate(limit);
    let more = waits.len() == limit;
    DuePage { items: waits, next_due_at_us: next.filter(|_| !more), more }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]
    #[test]
    fn whatever_comes_each_work_is_delivered_in_its_lanes_order_and_none_is_left(
        steps in prop::collection::vec(step(), 1..150)
    ) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
        }
        model.drain();
        prop_assert!(model.waiting.is_empty(), "{} left behind", model.waiting.len());
        prop_assert_eq!(model.queue.share.used_bytes(), 0);
        prop_assert_eq!(model.queue.lanes_count(), 0);
        prop_assert_eq!(format!("{:?}", model.queue.counts), format!("{:?}", Counts::default()));
        prop_assert!(model.queue.scheduler.is_empty() && model.queue.waiting.is_empty());
    }
}

/// `EMBERPOST_QUEUE_CASES` runs more cases than the default.
fn cases() -> u32 {
    std::env::var("EMBERPOST_QUEUE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(128)
}

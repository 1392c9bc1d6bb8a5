//! The desk against a model of the store: whatever comes in whatever order, each work starts in its lane's order, once per
//! try, and nothing is left behind.

use super::super::budget::Budget;
use super::super::fixture::{participant, work};
use super::super::load::{FREE_PAGE, LANE_PAGE, LANES_PAGE, Page, What};
use super::*;
use crate::routing::Channel;
use crate::store::{DuePage, LaneHead};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CONCURRENCY: usize = 8;
const RETRY_SECONDS: u64 = 5;

#[derive(Clone, Debug)]
enum Step {
    /// So many works are committed to this lane, and offered, offered in disorder, or lost on the way to the courier.
    Commit {
        lane: i64,
        count: usize,
        arrival: Arrival,
    },
    /// Some works that were committed before are offered only now.
    Arrive,
    /// The store answers these reads; the pages are delivered after `Step::Deliver`, with what happens between.
    Read,
    Deliver,
    Finish {
        pick: usize,
        how: How,
    },
    Wait,
    /// An operator discards a waiting delivery, and orders it again.
    Discard {
        pick: usize,
        again: bool,
    },
    /// The participant is another one's configuration: without a channel, or gone for a while.
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

fn desk_of(concurrency: usize, id: u64) -> Desk {
    let share = Share::new(Budget::new(1 << 20));
    Desk::new(Arc::new(participant("lab", concurrency)), false, share, id)
}

fn moment() -> Moment {
    Moment { now: Instant::now(), now_us: 1_000_000_000_000 }
}

struct Model {
    desk: Desk,
    desks: u64,
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
            desk: desk_of(CONCURRENCY, 1),
            desks: 1,
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
                for work in std::mem::take(&mut self.late) {
                    self.desk.offer(work, self.at);
                }
            }
            Step::Read => {
                for read in std::mem::take(&mut self.desk.reads) {
                    let page = self.answer(read);
                    self.pages.push((read, page));
                }
            }
            Step::Deliver => {
                for (read, page) in std::mem::take(&mut self.pages) {
                    self.desk.page(read, page, self.at);
                }
            }
            Step::Finish { pick, how } => self.finish(pick, how),
            Step::Wait => {
                self.at.now += Duration::from_secs(2 * RETRY_SECONDS);
                // The wall clock stands still, or is set back.
                self.at.now_us -= 3_000_000;
            }
            Step::Discard { pick, again } => self.discard(pick, again),
            Step::Reload { carried, gone } => self.reload(carried, gone),
            Step::Restart => {
                self.desks += 1;
                self.desk = desk_of(CONCURRENCY, self.desks);
                self.reconfigure(self.carried);
                self.active.clear();
                self.late.clear();
            }
        }
        self.advance();
    }

    fn commit(&mut self, lane: i64, count: usize, arrival: Arrival) {
        let mut works: Vec<PendingDelivery> = (0..count).map(|_| self.insert(work("lab", lane, 0))).collect();
        if !self.carried {
            return;
        }
        match arrival {
            Arrival::Now => works.into_iter().for_each(|work| self.desk.offer(work, self.at)),
            Arrival::Disorder => {
                works.reverse();
                works.into_iter().for_each(|work| self.desk.offer(work, self.at));
            }
            Arrival::Late => self.late.extend(works),
            Arrival::Never => self.desk.rewind(),
        }
    }

    /// As the store: behind what waits in its lane.
    fn insert(&mut self, work: PendingDelivery) -> PendingDelivery {
        self.next_seq += 1;
        let same = |other: &&PendingDelivery| work.lane != 0 && other.lane == work.lane;
        let prev_seq = self.waiting.values().rev().find(same).map(|last| last.seq);
        let delivery_key = if work.delivery_key == 0 { self.next_seq } else { work.delivery_key };
        let work = PendingDelivery { seq: self.next_seq, delivery_key, prev_seq, due_at_us: 0, ..work };
        self.waiting.insert(work.seq, work.clone());
        work
    }

    fn answer(&self, read: Read) -> Page {
        let all = || self.waiting.values().filter(|_| !read.bypassing_only).cloned();
        let head = |work: PendingDelivery| LaneHead {
            lane: work.lane,
            seq: work.seq,
            due_at_us: work.due_at_us,
            bypasses_channel: work.kind.bypasses_channel(),
        };
        match read.what {
            What::Lanes { after } => {
                let mut heads: BTreeMap<i64, LaneHead> = BTreeMap::new();
                for work in all().filter(|work| work.lane != 0 && after.is_none_or(|after| work.lane > after)) {
                    heads.entry(work.lane).or_insert(head(work));
                }
                Page::Lanes(heads.into_values().take(LANES_PAGE as usize).collect())
            }
            What::Lane { lane, after_seq } => {
                let works = all().filter(|work| work.lane == lane && work.seq > after_seq);
                Page::Works(works.take(LANE_PAGE as usize).collect())
            }
            What::Free { after_seq } => {
                let works = all().filter(|work| work.lane == 0 && work.due_at_us == 0 && work.seq > after_seq);
                Page::Works(works.take(FREE_PAGE as usize).collect())
            }
            What::DueLanes { after, through_us } => {
                let page = due(all().filter(|work| work.lane != 0), after, through_us, LANES_PAGE as usize);
                let items = page.items.into_iter().map(head).collect();
                Page::DueLanes(DuePage { items, next_due_at_us: page.next_due_at_us, more: page.more })
            }
            What::DueFree { after, through_us } => {
                Page::DueFree(due(all().filter(|work| work.lane == 0), after, through_us, FREE_PAGE as usize))
            }
        }
    }

    fn finish(&mut self, pick: usize, how: How) {
        if self.active.is_empty() {
            return;
        }
        let work = self.active.swap_remove(pick % self.active.len());
        let after = Duration::from_secs(RETRY_SECONDS);
        // What was settled otherwise meanwhile stays as it is; what was ordered again has another place.
        let row = self.waiting.values_mut().find(|other| other.delivery_key == work.delivery_key);
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
        self.desk.finish(work, Ended { next, verdict: Verdict::Spoke, asked: None }, 0.0, self.at);
    }

    fn discard(&mut self, pick: usize, again: bool) {
        let Some(seq) = self.waiting.keys().nth(pick % self.waiting.len().max(1)).copied() else { return };
        let Some(work) = self.waiting.remove(&seq) else { return };
        self.desk.forget(&work, self.at);
        if again {
            let work = self.insert(PendingDelivery { body: None, ..work });
            if self.carried {
                self.desk.offer(work, self.at);
            }
        }
    }

    fn reload(&mut self, carried: bool, gone: bool) {
        if gone {
            self.desk.retire();
            self.advance();
            self.desk.retired = false;
        }
        self.reconfigure(carried);
        self.desk.read_again();
    }

    fn reconfigure(&mut self, carried: bool) {
        self.carried = carried;
        let channel = if carried { participant("lab", 1).channel } else { Some(Channel::Mailbox) };
        self.desk.settings = Arc::new(Participant { channel, ..participant("lab", CONCURRENCY) });
    }

    fn advance(&mut self) {
        let mut actions = Vec::new();
        self.desk.advance(self.at, &mut actions);
        for action in actions {
            let Action::Attempt(work) = action else { panic!("nothing expires here") };
            assert!(self.carried, "{} waits in the mailbox", work.seq);
            assert!(self.waiting.contains_key(&work.seq), "{} ended before", work.seq);
            assert!(self.active.iter().all(|other| other.seq != work.seq), "{} twice", work.seq);
            if work.lane != 0 {
                assert!(self.active.iter().all(|other| other.lane != work.lane), "one at a time in a lane");
                let first = self.waiting.values().find(|other| other.lane == work.lane).map(|first| first.seq);
                assert_eq!(first, Some(work.seq), "in order");
            }
            self.started += 1;
            self.active.push(work);
        }
        assert!(self.active.len() <= CONCURRENCY);
    }

    /// Goes on until all is delivered.
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
        while !self.desk.reads.is_empty() || !self.pages.is_empty() {
            self.apply(Step::Read);
            self.apply(Step::Deliver);
        }
    }
}

fn due(
    works: impl Iterator<Item = PendingDelivery>,
    after: (i64, i64),
    through_us: i64,
    limit: usize,
) -> DuePage<PendingDelivery> {
    let mut waits: Vec<PendingDelivery> = works.filter(|work| work.due_at_us > 0).collect();
    waits.sort_by_key(|work| (work.due_at_us, work.seq));
    let next = waits.iter().map(|work| work.due_at_us).find(|due_at_us| *due_at_us > through_us);
    waits.retain(|work| (work.due_at_us, work.seq) > after && work.due_at_us <= through_us);
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
        prop_assert_eq!(model.desk.share.used_bytes(), 0);
        prop_assert_eq!(model.desk.lanes_count(), 0);
        prop_assert_eq!(format!("{:?}", model.desk.counts), format!("{:?}", Counts::default()));
        prop_assert!(model.desk.turns.is_empty() && model.desk.waiting.is_empty());
    }
}

/// `EMBERPOST_DESK_CASES` runs more than a build does.
fn cases() -> u32 {
    std::env::var("EMBERPOST_DESK_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(128)
}

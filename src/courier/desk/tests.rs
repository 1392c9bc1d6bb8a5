//! The desk against a model of the store: whatever comes in whatever order, each work starts once per try and in order.

use super::super::fixture::{participant, work};
use super::super::load::page_of;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    /// So many works are committed to this lane, and offered, or lost on the way to the courier.
    Commit {
        lane: i64,
        count: usize,
        reaches: bool,
    },
    Read,
    Finish {
        pick: usize,
        again: bool,
    },
    Wait,
    Forget {
        pick: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_i64, 1..60_usize, prop::bool::weighted(0.8))
            .prop_map(|(lane, count, reaches)| Step::Commit { lane, count, reaches }),
        3 => Just(Step::Read),
        8 => (0..8_usize, prop::bool::weighted(0.2)).prop_map(|(pick, again)| Step::Finish { pick, again }),
        1 => Just(Step::Wait),
        1 => (0..100_usize).prop_map(|pick| Step::Forget { pick }),
    ]
}

struct Model {
    desk: Desk,
    at: Moment,
    waiting: BTreeMap<i64, Work>,
    active: Vec<Work>,
    next_seq: i64,
}

impl Model {
    fn apply(&mut self, step: Step) {
        match step {
            Step::Commit { lane, count, reaches } => {
                for _ in 0..count {
                    self.next_seq += 1;
                    let work = work("lab", lane, self.next_seq);
                    self.waiting.insert(work.seq, work.clone());
                    if reaches {
                        self.desk.offer(work, self.at);
                    }
                }
                if !reaches {
                    self.desk.rewind(self.at);
                }
            }
            Step::Read => self.read(),
            Step::Finish { pick, again } => self.finish(pick, again),
            Step::Wait => self.at.now += Duration::from_secs(10),
            Step::Forget { pick } => {
                let place = pick % self.waiting.len().max(1);
                let key = self.waiting.keys().nth(place).copied().filter(|key| !self.desk.is_active(*key));
                if let Some(key) = key {
                    self.waiting.remove(&key);
                    self.desk.forget(key, self.at);
                }
            }
        }
        self.advance();
    }

    fn read(&mut self) {
        for read in std::mem::take(&mut self.desk.reads) {
            match read {
                Read::Lanes { after } => {
                    let mut lanes: Vec<i64> = self.waiting.values().map(|work| work.lane).collect();
                    lanes.sort_unstable();
                    lanes.dedup();
                    lanes.retain(|lane| after.is_none_or(|after| *lane > after));
                    self.desk.listed(&lanes, self.at);
                }
                Read::Works { lane, after_seq } => {
                    let limit = page_of(lane) as usize;
                    let wanted = |work: &&Work| work.lane == lane && work.seq > after_seq;
                    let works: Vec<Work> = self.waiting.values().filter(wanted).take(limit).cloned().collect();
                    let full = works.len() == limit;
                    self.desk.loaded(lane, works, full, self.at);
                }
            }
        }
    }

    fn finish(&mut self, pick: usize, again: bool) {
        if self.active.is_empty() {
            return;
        }
        let work = self.active.swap_remove(pick % self.active.len());
        let next = if again { Next::Again { after: Duration::from_secs(5) } } else { Next::Done };
        if !again {
            self.waiting.remove(&work.seq);
        }
        self.desk.finish(work, Ended { next, verdict: Verdict::Spoke, asked: None }, 0.0, self.at);
    }

    fn advance(&mut self) {
        let mut actions = Vec::new();
        self.desk.advance(self.at, &mut actions);
        for action in actions {
            let Action::Attempt(work) = action else { panic!("nothing expires here") };
            assert!(self.waiting.contains_key(&work.seq), "{} ended before", work.seq);
            assert!(self.active.iter().all(|other| other.seq != work.seq), "{} twice", work.seq);
            if work.lane != 0 {
                assert!(self.active.iter().all(|other| other.lane != work.lane), "one at a time in a lane");
                let first = self.waiting.values().find(|other| other.lane == work.lane).map(|first| first.seq);
                assert_eq!(first, Some(work.seq), "in order");
            }
            self.active.push(work);
        }
        assert!(self.active.len() <= 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn whatever_comes_each_work_is_delivered_once_and_in_its_lanes_order(steps in prop::collection::vec(step(), 1..120)) {
        let at = Moment { now: Instant::now(), now_us: 0 };
        let desk = Desk::new(Arc::new(participant("lab", 8)), false);
        let mut model = Model { desk, at, waiting: BTreeMap::new(), active: Vec::new(), next_seq: 0 };
        for step in steps {
            model.apply(step);
        }
        for _ in 0..10_000 {
            if model.waiting.is_empty() {
                break;
            }
            for step in [Step::Read, Step::Finish { pick: 0, again: false }, Step::Wait] {
                model.apply(step);
            }
        }
        // Reads that were asked for before the end find nothing more.
        while !model.desk.reads.is_empty() {
            model.apply(Step::Read);
        }
        prop_assert!(model.waiting.is_empty(), "{} left behind", model.waiting.len());
        prop_assert_eq!(model.desk.bodies_bytes, 0);
        prop_assert_eq!(model.desk.lanes_count(), 0);
    }
}

#[test]
fn failing_works_without_order_beyond_the_bound_are_left_to_the_store_and_starve_nobody() {
    let at = Moment { now: Instant::now(), now_us: 0 };
    let mut desk = Desk::new(Arc::new(participant("lab", 1)), false);
    desk.reads.clear();
    let mut actions = Vec::new();
    for seq in 1..=intake::FREE_LATER_LIMIT_WORKS as i64 + 10 {
        desk.offer(work("lab", 0, seq), at);
        desk.advance(at, &mut actions);
        let Some(Action::Attempt(work)) = actions.pop() else { panic!("{seq} did not start") };
        let next = Next::Again { after: Duration::from_secs(60) };
        desk.finish(work, Ended { next, verdict: Verdict::Nothing, asked: None }, 0.0, at);
    }
    assert_eq!(desk.free.later, intake::FREE_LATER_LIMIT_WORKS);
    assert!(desk.reads.is_empty());
    let later = Moment { now: at.now + Duration::from_secs(60), ..at };
    desk.advance(later, &mut actions);
    for _ in 0..intake::FREE_LATER_LIMIT_WORKS {
        let Some(Action::Attempt(work)) = actions.pop() else { panic!("none came due") };
        desk.finish(work, Ended { next: Next::Done, verdict: Verdict::Spoke, asked: None }, 0.0, later);
        desk.advance(later, &mut actions);
    }
    assert_eq!(desk.reads, [Read::Works { lane: 0, after_seq: i64::MIN }]);
}

#[test]
fn a_clock_set_back_delays_a_stored_wait_by_a_day_at_most() {
    let at = Moment { now: Instant::now(), now_us: 0 };
    let mut desk = Desk::new(Arc::new(participant("lab", 1)), false);
    let far = Work { due_at_us: i64::MAX, ..work("lab", 1, 1) };
    desk.listed(&[1], at);
    desk.loaded(1, vec![far], false, at);
    desk.advance(at, &mut Vec::new());
    assert_eq!(desk.next_wake(), Some(at.now + Duration::from_secs(WAIT_LIMIT_MIN_SECONDS)));
}

#[test]
fn a_delivery_that_is_ordered_again_while_its_attempt_still_runs_is_tried_again() {
    let at = Moment { now: Instant::now(), now_us: 0 };
    let done = Ended { next: Next::Done, verdict: Verdict::Spoke, asked: None };
    for lane in [0, 7] {
        let mut desk = Desk::new(participant("lab", 4).into(), false);
        desk.listed(&[], at);
        let (first, mut actions) = (work("lab", lane, 1), Vec::new());
        desk.offer(first.clone(), at);
        desk.advance(at, &mut actions);
        assert!(matches!(actions[..], [Action::Attempt(_)]));
        desk.forget(first.delivery_key, at);
        let again = Work { seq: 2, ..first.clone() };
        desk.offer(again.clone(), at);
        desk.reads.clear();
        desk.finish(first, done, 0.0, at);
        assert!(matches!(desk.reads[..], [Read::Works { .. }]), "lane {lane}: {:?}", desk.reads);
        desk.loaded(lane, vec![again], false, at);
        actions.clear();
        desk.advance(at, &mut actions);
        assert!(matches!(&actions[..], [Action::Attempt(work)] if work.seq == 2), "lane {lane}: {actions:?}");
    }
}

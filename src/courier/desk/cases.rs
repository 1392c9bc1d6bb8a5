//! The desk case by case: what the model cannot say.

use super::super::budget::Budget;
use super::super::fixture::{participant, work};
use super::super::load::{Page, What};
use super::*;
use crate::store::{DuePage, LaneHead};

const HOUR: Duration = Duration::from_secs(3600);

fn desk(concurrency: usize) -> Desk {
    Desk::new(Arc::new(participant("lab", concurrency)), false, Share::new(Budget::new(64 << 20)), 1)
}

fn moment() -> Moment {
    Moment { now: Instant::now(), now_us: 1_000_000_000_000 }
}

fn later(at: Moment, wait: Duration) -> Moment {
    Moment { now: at.now + wait, now_us: at.now_us + wait.as_micros() as i64 }
}

/// Answers every read as a store in which nothing waits does.
fn read_nothing(desk: &mut Desk, at: Moment) {
    for read in std::mem::take(&mut desk.reads) {
        let page = match read.what {
            What::Lanes { .. } => Page::Lanes(Vec::new()),
            What::Lane { .. } | What::Free { .. } => Page::Works(Vec::new()),
            What::DueLanes { .. } => Page::DueLanes(DuePage { items: Vec::new(), next_due_at_us: None, more: false }),
            What::DueFree { .. } => Page::DueFree(DuePage { items: Vec::new(), next_due_at_us: None, more: false }),
        };
        desk.page(read, page, at);
    }
}

fn started(desk: &mut Desk, at: Moment) -> Vec<PendingDelivery> {
    let mut actions = Vec::new();
    desk.advance(at, &mut actions);
    let work = |action| match action {
        Action::Attempt(work) | Action::GiveUp(work) => work,
    };
    actions.into_iter().map(work).collect()
}

/// It failed, without a word about the receiver that would open the breaker.
fn fail(desk: &mut Desk, work: PendingDelivery, after: Duration, at: Moment) {
    desk.finish(work, Ended { next: NextStep::Retry { after }, verdict: Verdict::Nothing, asked: None }, 0.0, at);
}

/// A desk with so many lanes that failed and wait for an hour.
fn with_failing(lanes: i64, at: Moment) -> Desk {
    let mut desk = desk(8);
    started(&mut desk, at);
    read_nothing(&mut desk, at);
    for lane in 1..=lanes {
        desk.offer(work("lab", lane, lane), at);
        for work in started(&mut desk, at) {
            fail(&mut desk, work, HOUR, at);
        }
    }
    desk
}

#[test]
fn lanes_that_wait_take_no_place_among_those_that_can_run_whatever_their_number() {
    let at = moment();
    let mut desk = with_failing(12_000, at);
    assert!(desk.counts.retries <= RETRIES_LIMIT, "{:?}", desk.counts);
    assert!(desk.share.used_bytes() == 0, "what waits holds no works");
    for seq in 20_001..=20_300 {
        desk.offer(work("lab", seq, seq), at);
        let now = started(&mut desk, at);
        assert_eq!(now.iter().map(|work| work.seq).collect::<Vec<_>>(), [seq]);
        let done = Ended { next: NextStep::Done, verdict: Verdict::Spoke, asked: None };
        for work in now {
            desk.finish(work, done, 0.0, at);
        }
    }
}

#[test]
fn what_waits_beyond_the_bound_is_read_when_it_comes_due() {
    let at = moment();
    let mut desk = with_failing(12_000, at);
    let due = later(at, HOUR);
    let (mut seen, mut in_store) = (HashSet::new(), 0);
    for _ in 0..20_000 {
        for work in started(&mut desk, due) {
            assert!(seen.insert(work.lane), "{} twice", work.lane);
            let done = Ended { next: NextStep::Done, verdict: Verdict::Nothing, asked: None };
            desk.finish(work, done, 0.0, due);
        }
        for read in std::mem::take(&mut desk.reads) {
            let page = match read.what {
                What::Lane { lane, .. } => {
                    Page::Works(vec![PendingDelivery { attempts: 1, due_at_us: due.now_us, ..work("lab", lane, lane) }])
                }
                What::DueLanes { after, .. } => {
                    in_store += 1;
                    let from = if after.0 == 0 { 1 } else { after.1 + 1 };
                    let waits = (from..=12_000).filter(|lane| !seen.contains(lane));
                    let head = |lane| LaneHead { lane, seq: lane, due_at_us: due.now_us, bypasses_channel: false };
                    let items: Vec<LaneHead> = waits.take(256).map(head).collect();
                    let more = items.len() == 256;
                    Page::DueLanes(DuePage { items, next_due_at_us: None, more })
                }
                What::DueFree { .. } => Page::DueFree(DuePage { items: Vec::new(), next_due_at_us: None, more: false }),
                other => panic!("{other:?} is not needed"),
            };
            desk.page(read, page, due);
        }
        if seen.len() == 12_000 {
            break;
        }
    }
    assert_eq!(seen.len(), 12_000);
    assert!(in_store > 0, "the store was asked for those that memory had left to it");
}

#[test]
fn lanes_that_come_due_together_leave_half_of_the_places_and_every_second_turn_to_the_others() {
    let at = moment();
    let mut desk = with_failing(1_000, at);
    let due = later(at, HOUR);
    let mut running = Vec::new();
    for _ in 0..100 {
        running.extend(started(&mut desk, due));
        for read in std::mem::take(&mut desk.reads) {
            if let What::Lane { lane, .. } = read.what {
                let again = PendingDelivery { attempts: 1, due_at_us: due.now_us, ..work("lab", lane, lane) };
                desk.page(read, Page::Works(vec![again]), due);
            }
        }
    }
    assert_eq!(running.len(), 4, "slow failures hold half of the places");
    for seq in 20_001..=20_004 {
        desk.offer(work("lab", seq, seq), due);
    }
    let now = started(&mut desk, due);
    assert_eq!(now.iter().map(|work| work.seq).collect::<Vec<_>>(), [20_001, 20_002, 20_003, 20_004]);
}

#[test]
fn after_a_restart_lanes_that_wait_are_not_read_and_those_that_can_run_are() {
    let at = moment();
    let mut desk = desk(8);
    let (mut loaded, mut lanes_read) = (Vec::new(), 0);
    let head = |lane: i64| {
        let due_at_us = if lane % 100 == 0 { 0 } else { at.now_us + 60_000_000 };
        LaneHead { lane, seq: lane, due_at_us, bypasses_channel: false }
    };
    for _ in 0..2_000 {
        for work in started(&mut desk, at) {
            loaded.push(work.lane);
            let done = Ended { next: NextStep::Done, verdict: Verdict::Spoke, asked: None };
            desk.finish(work, done, 0.0, at);
        }
        for read in std::mem::take(&mut desk.reads) {
            let page = match read.what {
                What::Lanes { after } => {
                    let from = after.unwrap_or(0) + 1;
                    Page::Lanes((from..=30_000).take(256).map(head).collect())
                }
                What::Lane { lane, .. } => {
                    lanes_read += 1;
                    Page::Works(vec![work("lab", lane, lane)])
                }
                What::DueFree { .. } => Page::DueFree(DuePage { items: Vec::new(), next_due_at_us: None, more: false }),
                _ => Page::Works(Vec::new()),
            };
            desk.page(read, page, at);
        }
    }
    assert_eq!(loaded.len(), 300, "of 30,000 lanes");
    assert_eq!(lanes_read, 300);
    assert!(desk.lanes_count() <= RETRIES_LIMIT);
    assert!(desk.next_wake().is_some_and(|wake| wake <= later(at, Duration::from_secs(60)).now));
}

#[test]
fn failing_works_without_order_beyond_the_bound_are_left_to_the_store_and_starve_nobody() {
    let at = moment();
    let mut desk = desk(1);
    started(&mut desk, at);
    read_nothing(&mut desk, at);
    for seq in 1..=FREE_WAITING_LIMIT_WORKS as i64 + 10 {
        desk.offer(work("lab", 0, seq), at);
        let mut now = started(&mut desk, at);
        assert_eq!(now.len(), 1, "{seq} did not start");
        fail(&mut desk, now.remove(0), Duration::from_secs(60), at);
    }
    assert_eq!(desk.counts.free_waiting, FREE_WAITING_LIMIT_WORKS);
    assert_eq!(desk.counts.free, FREE_WAITING_LIMIT_WORKS);
    let due = later(at, Duration::from_secs(60));
    for _ in 0..FREE_WAITING_LIMIT_WORKS - FREE_LOW_WORKS + 1 {
        assert!(desk.reads.is_empty(), "memory has enough to go on with");
        for work in started(&mut desk, due) {
            let done = Ended { next: NextStep::Done, verdict: Verdict::Spoke, asked: None };
            desk.finish(work, done, 0.0, due);
        }
    }
    started(&mut desk, due);
    assert!(
        matches!(desk.reads[..], [Read { what: What::DueFree { through_us, .. }, .. }] if through_us == due.now_us),
        "{:?}",
        desk.reads
    );
}

#[test]
fn what_is_due_now_starts_whatever_the_clock_says() {
    for now_us in [i64::MIN, -1, 0, 1_000_000_000_000, i64::MAX] {
        let at = Moment { now: Instant::now(), now_us };
        let mut desk = desk(2);
        desk.offer(work("lab", 1, 1_700_000_000_000_000), at);
        assert_eq!(started(&mut desk, at).len(), 1, "{now_us}");
    }
}

#[test]
fn a_clock_set_back_delays_a_stored_wait_by_a_day_at_most_and_one_in_memory_not_at_all() {
    let at = moment();
    let mut desk = desk(1);
    started(&mut desk, at);
    let far = LaneHead { lane: 1, seq: 1, due_at_us: i64::MAX, bypasses_channel: false };
    for read in std::mem::take(&mut desk.reads) {
        if let What::Lanes { .. } = read.what {
            desk.page(read, Page::Lanes(vec![far]), at);
        }
    }
    started(&mut desk, at);
    assert_eq!(desk.next_wake(), Some(at.now + Duration::from_secs(WAIT_LIMIT_MIN_SECONDS)));
    desk.offer(work("lab", 2, 2), at);
    let mut now = started(&mut desk, at);
    fail(&mut desk, now.remove(0), Duration::from_secs(5), at);
    desk.reads.clear();
    let set_back = Moment { now: at.now + Duration::from_secs(5), now_us: 0 };
    assert!(started(&mut desk, set_back).is_empty(), "it is read first");
    let again = PendingDelivery { attempts: 1, due_at_us: at.now_us + 5_000_000, ..work("lab", 2, 2) };
    let read = desk.reads.remove(0);
    assert_eq!(read.what, What::Lane { lane: 2, after_seq: i64::MIN });
    desk.page(read, Page::Works(vec![again]), set_back);
    assert_eq!(started(&mut desk, set_back).len(), 1);
}

#[test]
fn a_participant_that_became_a_mailbox_keeps_what_its_old_channel_failed_to_take() {
    let at = moment();
    for carried_again in [false, true] {
        let mut desk = desk(1);
        desk.offer(work("lab", 1, 1), at);
        desk.offer(PendingDelivery { prev_seq: Some(1), ..work("lab", 1, 2) }, at);
        let mut now = started(&mut desk, at);
        let settings = desk.settings.clone();
        let mailbox = Some(crate::routing::Channel::Mailbox);
        desk.settings = Arc::new(Participant { channel: mailbox, ..participant("lab", 1) });
        desk.read_again();
        if carried_again {
            desk.settings = settings;
            desk.read_again();
        }
        fail(&mut desk, now.remove(0), Duration::from_secs(5), at);
        assert!(started(&mut desk, later(at, HOUR)).is_empty());
        let reads_lane = desk.reads.iter().any(|read| matches!(read.what, What::Lane { lane: 1, .. }));
        assert_eq!(reads_lane, carried_again, "{:?}", desk.reads);
    }
}

//! A participant queue, case by case: what the model in `tests` does not cover.

use super::super::backlog::{Page, Query};
use super::super::budget::Budget;
use super::*;
use crate::store::{DuePage, LaneHead};
use crate::testing::{participant, pending};

const HOUR: Duration = Duration::from_secs(3600);

fn queue(concurrency: usize) -> ParticipantQueue {
    ParticipantQueue::new(Arc::new(participant("lab", concurrency)), false, MemoryShare::new(Budget::new(64 << 20)), 1)
}

fn moment() -> Moment {
    Moment { now: Instant::now(), now_us: 1_000_000_000_000 }
}

fn later(at: Moment, wait: Duration) -> Moment {
    Moment { now: at.now + wait, now_us: at.now_us + wait.as_micros() as i64 }
}

/// Answers every read as an empty store does.
fn read_nothing(queue: &mut ParticipantQueue, at: Moment) {
    for read in std::mem::take(&mut queue.reads) {
        let page = match read.query {
            Query::Lanes { .. } => Page::Lanes(Vec::new()),
            Query::Lane { .. } | Query::Unordered { .. } => Page::Deliveries(Vec::new()),
            Query::DueLanes { .. } => Page::DueLanes(DuePage { items: Vec::new(), next_due_at_us: None, more: false }),
            Query::DueUnordered { .. } => {
                Page::DueUnordered(DuePage { items: Vec::new(), next_due_at_us: None, more: false })
            }
        };
        queue.page(read, page, at);
    }
}

fn started(queue: &mut ParticipantQueue, at: Moment) -> Vec<PendingDelivery> {
    let mut actions = Vec::new();
    queue.advance(at, &mut actions);
    let delivery = |action| match action {
        Action::Attempt(delivery) | Action::GiveUp(delivery) => delivery,
    };
    actions.into_iter().map(delivery).collect()
}

/// Fails an attempt without affecting the breaker.
fn fail(queue: &mut ParticipantQueue, delivery: PendingDelivery, after: Duration, at: Moment) {
    queue.finish(
        delivery,
        AttemptEnd { next: NextStep::Retry { after }, receiver: ReceiverState::Unknown, retry_after: None },
        0.0,
        at,
    );
}

/// A queue with this many lanes that failed and wait for an hour.
fn with_failing(lanes: i64, at: Moment) -> ParticipantQueue {
    let mut queue = queue(8);
    started(&mut queue, at);
    read_nothing(&mut queue, at);
    for lane in 1..=lanes {
        queue.offer(pending("lab", lane, lane), at);
        for delivery in started(&mut queue, at) {
            fail(&mut queue, delivery, HOUR, at);
        }
    }
    queue
}

#[test]
fn lanes_that_wait_take_no_place_among_those_that_can_run_whatever_their_number() {
    let at = moment();
    let mut queue = with_failing(12_000, at);
    assert!(queue.counts.retries <= RETRIES_LIMIT, "{:?}", queue.counts);
    assert!(queue.share.used_bytes() == 0, "what waits holds no deliveries");
    for seq in 20_001..=20_300 {
        queue.offer(pending("lab", seq, seq), at);
        let now = started(&mut queue, at);
        assert_eq!(now.iter().map(|delivery| delivery.seq).collect::<Vec<_>>(), [seq]);
        let done = AttemptEnd { next: NextStep::Done, receiver: ReceiverState::Up, retry_after: None };
        for delivery in now {
            queue.finish(delivery, done, 0.0, at);
        }
    }
}

#[test]
fn what_waits_beyond_the_bound_is_read_when_it_comes_due() {
    let at = moment();
    let mut queue = with_failing(12_000, at);
    let due = later(at, HOUR);
    let (mut seen, mut in_store) = (HashSet::new(), 0);
    for _ in 0..20_000 {
        for delivery in started(&mut queue, due) {
            assert!(seen.insert(delivery.lane), "{} twice", delivery.lane);
            let done = AttemptEnd { next: NextStep::Done, receiver: ReceiverState::Unknown, retry_after: None };
            queue.finish(delivery, done, 0.0, due);
        }
        for read in std::mem::take(&mut queue.reads) {
            let page = match read.query {
                Query::Lane { lane, .. } => Page::Deliveries(vec![PendingDelivery {
                    attempts: 1,
                    due_at_us: due.now_us,
                    ..pending("lab", lane, lane)
                }]),
                Query::DueLanes { after, .. } => {
                    in_store += 1;
                    let from = if after.0 == 0 { 1 } else { after.1 + 1 };
                    let waits = (from..=12_000).filter(|lane| !seen.contains(lane));
                    let head = |lane| LaneHead { lane, seq: lane, due_at_us: due.now_us, bypasses_channel: false };
                    let items: Vec<LaneHead> = waits.take(256).map(head).collect();
                    let more = items.len() == 256;
                    Page::DueLanes(DuePage { items, next_due_at_us: None, more })
                }
                Query::DueUnordered { .. } => {
                    Page::DueUnordered(DuePage { items: Vec::new(), next_due_at_us: None, more: false })
                }
                other => panic!("{other:?} is not needed"),
            };
            queue.page(read, page, due);
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
    let mut queue = with_failing(1_000, at);
    let due = later(at, HOUR);
    let mut running = Vec::new();
    for _ in 0..100 {
        running.extend(started(&mut queue, due));
        for read in std::mem::take(&mut queue.reads) {
            if let Query::Lane { lane, .. } = read.query {
                let again = PendingDelivery { attempts: 1, due_at_us: due.now_us, ..pending("lab", lane, lane) };
                queue.page(read, Page::Deliveries(vec![again]), due);
            }
        }
    }
    assert_eq!(running.len(), 4, "slow failures hold half of the places");
    for seq in 20_001..=20_004 {
        queue.offer(pending("lab", seq, seq), due);
    }
    let now = started(&mut queue, due);
    assert_eq!(now.iter().map(|delivery| delivery.seq).collect::<Vec<_>>(), [20_001, 20_002, 20_003, 20_004]);
}

#[test]
fn after_a_restart_lanes_that_wait_are_not_read_and_those_that_can_run_are() {
    let at = moment();
    let mut queue = queue(8);
    let (mut loaded, mut lanes_read) = (Vec::new(), 0);
    let head = |lane: i64| {
        let due_at_us = if lane % 100 == 0 { 0 } else { at.now_us + 60_000_000 };
        LaneHead { lane, seq: lane, due_at_us, bypasses_channel: false }
    };
    for _ in 0..2_000 {
        for delivery in started(&mut queue, at) {
            loaded.push(delivery.lane);
            let done = AttemptEnd { next: NextStep::Done, receiver: ReceiverState::Up, retry_after: None };
            queue.finish(delivery, done, 0.0, at);
        }
        for read in std::mem::take(&mut queue.reads) {
            let page = match read.query {
                Query::Lanes { after } => {
                    let from = after.unwrap_or(0) + 1;
                    Page::Lanes((from..=30_000).take(256).map(head).collect())
                }
                Query::Lane { lane, .. } => {
                    lanes_read += 1;
                    Page::Deliveries(vec![pending("lab", lane, lane)])
                }
                Query::DueUnordered { .. } => {
                    Page::DueUnordered(DuePage { items: Vec::new(), next_due_at_us: None, more: false })
                }
                _ => Page::Deliveries(Vec::new()),
            };
            queue.page(read, page, at);
        }
    }
    assert_eq!(loaded.len(), 300, "of 30,000 lanes");
    assert_eq!(lanes_read, 300);
    assert!(queue.lanes_count() <= RETRIES_LIMIT);
    assert!(queue.next_wake().is_some_and(|wake| wake <= later(at, Duration::from_secs(60)).now));
}

#[test]
fn failing_works_without_order_beyond_the_bound_are_left_to_the_store_and_starve_nobody() {
    let at = moment();
    let mut queue = queue(1);
    started(&mut queue, at);
    read_nothing(&mut queue, at);
    for seq in 1..=UNORDERED_WAITING_LIMIT_DELIVERIES as i64 + 10 {
        queue.offer(pending("lab", 0, seq), at);
        let mut now = started(&mut queue, at);
        assert_eq!(now.len(), 1, "{seq} did not start");
        fail(&mut queue, now.remove(0), Duration::from_secs(60), at);
    }
    assert_eq!(queue.counts.unordered_waiting, UNORDERED_WAITING_LIMIT_DELIVERIES);
    assert_eq!(queue.counts.unordered, UNORDERED_WAITING_LIMIT_DELIVERIES);
    let due = later(at, Duration::from_secs(60));
    for _ in 0..UNORDERED_WAITING_LIMIT_DELIVERIES - UNORDERED_LOW_DELIVERIES + 1 {
        assert!(queue.reads.is_empty(), "memory has enough to go on with");
        for delivery in started(&mut queue, due) {
            let done = AttemptEnd { next: NextStep::Done, receiver: ReceiverState::Up, retry_after: None };
            queue.finish(delivery, done, 0.0, due);
        }
    }
    started(&mut queue, due);
    assert!(
        matches!(queue.reads[..], [Read { query: Query::DueUnordered { through_us, .. }, .. }] if through_us == due.now_us),
        "{:?}",
        queue.reads
    );
}

#[test]
fn what_is_due_now_starts_whatever_the_clock_says() {
    for now_us in [i64::MIN, -1, 0, 1_000_000_000_000, i64::MAX] {
        let at = Moment { now: Instant::now(), now_us };
        let mut queue = queue(2);
        queue.offer(pending("lab", 1, 1_700_000_000_000_000), at);
        assert_eq!(started(&mut queue, at).len(), 1, "{now_us}");
    }
}

#[test]
fn a_clock_set_back_delays_a_stored_wait_by_a_day_at_most_and_one_in_memory_not_at_all() {
    let at = moment();
    let mut queue = queue(1);
    started(&mut queue, at);
    let far = LaneHead { lane: 1, seq: 1, due_at_us: i64::MAX, bypasses_channel: false };
    for read in std::mem::take(&mut queue.reads) {
        if let Query::Lanes { .. } = read.query {
            queue.page(read, Page::Lanes(vec![far]), at);
        }
    }
    started(&mut queue, at);
    assert_eq!(queue.next_wake(), Some(at.now + Duration::from_secs(WAIT_LIMIT_MIN_SECONDS)));
    queue.offer(pending("lab", 2, 2), at);
    let mut now = started(&mut queue, at);
    fail(&mut queue, now.remove(0), Duration::from_secs(5), at);
    queue.reads.clear();
    let set_back = Moment { now: at.now + Duration::from_secs(5), now_us: 0 };
    assert!(started(&mut queue, set_back).is_empty(), "it is read first");
    let again = PendingDelivery { attempts: 1, due_at_us: at.now_us + 5_000_000, ..pending("lab", 2, 2) };
    let read = queue.reads.remove(0);
    assert_eq!(read.query, Query::Lane { lane: 2, after_seq: i64::MIN });
    queue.page(read, Page::Deliveries(vec![again]), set_back);
    assert_eq!(started(&mut queue, set_back).len(), 1);
}

#[test]
fn a_participant_that_became_a_mailbox_keeps_what_its_old_channel_failed_to_take() {
    let at = moment();
    for carried_again in [false, true] {
        let mut queue = queue(1);
        queue.offer(pending("lab", 1, 1), at);
        queue.offer(PendingDelivery { prev_seq: Some(1), ..pending("lab", 1, 2) }, at);
        let mut now = started(&mut queue, at);
        let settings = queue.settings.clone();
        let mailbox = Some(crate::routing::Channel::Mailbox);
        queue.settings = Arc::new(Participant { channel: mailbox, ..participant("lab", 1) });
        queue.reread();
        if carried_again {
            queue.settings = settings;
            queue.reread();
        }
        fail(&mut queue, now.remove(0), Duration::from_secs(5), at);
        assert!(started(&mut queue, later(at, HOUR)).is_empty());
        let reads_lane = queue.reads.iter().any(|read| matches!(read.query, Query::Lane { lane: 1, .. }));
        assert_eq!(reads_lane, carried_again, "{:?}", queue.reads);
    }
}

#[test]
fn a_new_delivery_that_is_due_later_waits_with_an_order_and_without() {
    for lane in [0, 1] {
        let at = moment();
        let mut queue = queue(8);
        started(&mut queue, at);
        read_nothing(&mut queue, at);
        let delayed = PendingDelivery { due_at_us: at.now_us + 5_000_000, ..pending("lab", lane, 7) };
        queue.offer(delayed.clone(), at);
        let from = |at: Moment, seconds| later(at, Duration::from_secs(seconds));
        for seconds in 0..=4 {
            assert!(step_with(&mut queue, &delayed, from(at, seconds)).is_empty(), "lane {lane} after {seconds} s");
        }
        let seqs: Vec<i64> = (6..10).flat_map(|seconds| step_with(&mut queue, &delayed, from(at, seconds))).collect();
        assert_eq!(seqs, [7], "lane {lane}");
    }
}

/// What starts while the store has only this delivery, which waits for a time.
fn step_with(queue: &mut ParticipantQueue, only: &PendingDelivery, at: Moment) -> Vec<i64> {
    let mut seqs = Vec::new();
    for _ in 0..4 {
        seqs.extend(started(queue, at).into_iter().map(|delivery| delivery.seq));
        for read in std::mem::take(&mut queue.reads) {
            let has = |has: bool| if has { vec![only.clone()] } else { Vec::new() };
            let head = |delivery: PendingDelivery| LaneHead {
                lane: delivery.lane,
                seq: delivery.seq,
                due_at_us: delivery.due_at_us,
                bypasses_channel: false,
            };
            let next = |through_us: i64| (only.due_at_us > through_us).then_some(only.due_at_us);
            let page = match read.query {
                Query::Lanes { .. } => Page::Lanes(has(only.lane != 0).into_iter().map(head).collect()),
                Query::Lane { after_seq, .. } => Page::Deliveries(has(only.lane != 0 && only.seq > after_seq)),
                Query::Unordered { .. } => Page::Deliveries(Vec::new()),
                Query::DueLanes { through_us, .. } => {
                    let items = has(only.lane != 0 && only.due_at_us <= through_us).into_iter().map(head).collect();
                    Page::DueLanes(DuePage { items, next_due_at_us: next(through_us), more: false })
                }
                Query::DueUnordered { through_us, .. } => {
                    let items = has(only.lane == 0 && only.due_at_us <= through_us);
                    Page::DueUnordered(DuePage { items, next_due_at_us: next(through_us), more: false })
                }
            };
            queue.page(read, page, at);
        }
    }
    seqs
}

//! The courier as its neighbors see it, with fakes for the receivers, the exchange, and the store. Waits are
//! milliseconds where a real schedule has seconds.

use super::actor::{Actor, Settings};
use super::backlog::{BacklogSource, LANE_PAGE, LANES_PAGE, Page, Paged, Query, Read, UNORDERED_PAGE};
use super::*;
use crate::delivery::AttemptResult;
use crate::fault::Fault;
use crate::store::{DuePage, LaneHead, Unavailable};
use crate::testing::{participant, pending};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

type Reply = fn(&PendingDelivery) -> (AttemptResult, NextStep);

/// Receivers, exchange, and store in one, with a record of what happened.
#[derive(Default)]
struct World {
    /// Delivery keys in the order in which attempts began.
    carried: Mutex<Vec<i64>>,
    gave_up: Mutex<Vec<i64>>,
    waiting: Mutex<BTreeMap<i64, PendingDelivery>>,
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    replies: Mutex<Option<Reply>>,
    active: AtomicUsize,
    most_active: AtomicUsize,
    panics: AtomicUsize,
}

impl World {
    fn carried(&self) -> Vec<i64> {
        self.carried.lock().unwrap().clone()
    }

    /// Stores deliveries as the store would, and links them.
    fn keep(&self, deliveries: &mut [PendingDelivery]) {
        let mut waiting = self.waiting.lock().unwrap();
        for delivery in deliveries {
            let same = |other: &&PendingDelivery| {
                delivery.lane != 0 && other.lane == delivery.lane && other.participant == delivery.participant
            };
            delivery.prev_seq = waiting.values().rev().find(same).map(|last| last.seq);
            waiting.insert(delivery.seq, PendingDelivery { body: None, ..delivery.clone() });
        }
    }

    /// Attempts to this participant wait until the gate gets permits.
    fn gate(&self, participant: &str) -> Arc<Semaphore> {
        self.gates.lock().unwrap().entry(participant.into()).or_insert_with(|| Arc::new(Semaphore::new(0))).clone()
    }
}

impl Transport for World {
    fn send(&self, delivery: PendingDelivery, _participant: Arc<Participant>) -> BoxFuture<'_, Attempt> {
        Box::pin(async move {
            self.carried.lock().unwrap().push(delivery.delivery_key);
            let active = self.active.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_active.fetch_max(active, Ordering::SeqCst);
            let gate = self.gates.lock().unwrap().get(&*delivery.participant).cloned();
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            self.active.fetch_sub(1, Ordering::SeqCst);
            let left = self.panics.load(Ordering::SeqCst);
            if left > 0 {
                self.panics.store(left - 1, Ordering::SeqCst);
                panic!("a defect, made by the test");
            }
            let reply = *self.replies.lock().unwrap();
            let result = reply.map_or(AttemptResult::Accepted, |reply| reply(&delivery).0);
            Attempt { started_at_us: 0, duration_us: 0, status: None, result, resent: false }
        })
    }
}

impl DeliverySettler for World {
    fn settle_attempt(&self, delivery: PendingDelivery, _attempt: Attempt) -> BoxFuture<'_, NextStep> {
        let next = self.replies.lock().unwrap().map_or(NextStep::Done, |reply| reply(&delivery).1);
        let mut waiting = self.waiting.lock().unwrap();
        match next {
            NextStep::Done => drop(waiting.remove(&delivery.seq)),
            _ => drop(waiting.entry(delivery.seq).and_modify(|kept| kept.attempts += 1)),
        }
        drop(waiting);
        Box::pin(async move { next })
    }

    fn give_up(&self, delivery: PendingDelivery, fault: Fault) -> BoxFuture<'_, ()> {
        assert_eq!(fault, Fault::RecvExpired);
        self.waiting.lock().unwrap().remove(&delivery.seq);
        self.gave_up.lock().unwrap().push(delivery.delivery_key);
        Box::pin(async {})
    }
}

impl BacklogSource for World {
    /// The fake settler stores no times, so nothing ever comes due by the store.
    fn read(&self, id: Arc<str>, read: Read) -> Paged<'_> {
        let waiting = self.waiting.lock().unwrap();
        let deliveries = |lane: i64, after_seq: i64, limit: u32| {
            let wanted = |delivery: &&PendingDelivery| {
                delivery.participant == id && delivery.lane == lane && delivery.seq > after_seq
            };
            Page::Deliveries(waiting.values().filter(wanted).take(limit as usize).cloned().collect())
        };
        let page = match read.query {
            Query::Lanes { after } => {
                let mut heads = BTreeMap::new();
                for delivery in waiting.values().filter(|delivery| delivery.participant == id && delivery.lane != 0) {
                    heads.entry(delivery.lane).or_insert(LaneHead {
                        lane: delivery.lane,
                        seq: delivery.seq,
                        due_at_us: 0,
                        bypasses_channel: delivery.kind.bypasses_channel(),
                    });
                }
                let after = |head: &LaneHead| after.is_none_or(|after| head.lane > after);
                Page::Lanes(heads.into_values().filter(after).take(LANES_PAGE as usize).collect())
            }
            Query::Lane { lane, after_seq } => deliveries(lane, after_seq, LANE_PAGE),
            Query::Unordered { after_seq } => deliveries(0, after_seq, UNORDERED_PAGE),
            Query::DueLanes { .. } => Page::DueLanes(DuePage { items: Vec::new(), next_due_at_us: None, more: false }),
            Query::DueUnordered { .. } => {
                Page::DueUnordered(DuePage { items: Vec::new(), next_due_at_us: None, more: false })
            }
        };
        Box::pin(async move { Ok(page) })
    }

    fn expired(&self, now_us: i64, limit: u32) -> BoxFuture<'_, Result<Vec<PendingDelivery>, Unavailable>> {
        let waiting = self.waiting.lock().unwrap();
        let deliveries =
            waiting.values().filter(|delivery| delivery.expires_at_us < now_us).take(limit as usize).cloned().collect();
        Box::pin(async move { Ok(deliveries) })
    }
}

struct Running {
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(world: &Arc<World>, participants: Vec<Participant>, paused: &[&str]) -> Running {
    let (handle, inbox) = Handle::new();
    let stop = CancellationToken::new();
    let settings = Settings {
        participants: participants.into_iter().map(Arc::new).collect(),
        memory_bytes: 1 << 27,
        paused: paused.iter().map(|id| (*id).to_owned()).collect(),
        clock: Clock::default(),
        metrics: Metrics::default(),
        transport: world.clone(),
        settler: world.clone(),
        stop: stop.clone(),
        grace: Duration::from_secs(30),
    };
    let task = tokio::spawn(Actor::new(inbox, settings, world.clone()).run());
    Running { handle, stop, task }
}

/// Waits for a condition, with a deadline.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came true: {what}");
}

fn again(milliseconds: u64) -> (AttemptResult, NextStep) {
    let result = AttemptResult::Retryable { fault: Fault::RecvError, retry_after: None, detail: "500".into() };
    (result, NextStep::Retry { after: Duration::from_millis(milliseconds) })
}

#[tokio::test]
async fn a_lane_keeps_its_order_across_retries_and_others_go_on() {
    let world = Arc::new(World::default());
    *world.replies.lock().unwrap() = Some(|delivery| {
        if delivery.seq == 1 && delivery.attempts < 3 { again(10) } else { (AttemptResult::Accepted, NextStep::Done) }
    });
    let running = start(&world, vec![participant("lab", 8)], &[]);
    let mut deliveries: Vec<PendingDelivery> =
        [(1, 1), (2, 1), (3, 1), (4, 2)].map(|(seq, lane)| pending("lab", lane, seq)).into();
    world.keep(&mut deliveries);
    running.handle.offer(deliveries);
    until("all are delivered", || world.waiting.lock().unwrap().is_empty()).await;
    let carried = world.carried();
    let in_lane: Vec<i64> = carried.iter().copied().filter(|key| *key != 4).collect();
    assert_eq!(in_lane, [1, 1, 1, 1, 2, 3]);
    assert!(carried.iter().position(|key| *key == 4).unwrap() < 4, "{carried:?}");
}

#[tokio::test]
async fn in_the_lane_without_order_a_failing_work_waits_alone() {
    let world = Arc::new(World::default());
    *world.replies.lock().unwrap() = Some(|delivery| {
        if delivery.seq == 1 && delivery.attempts == 0 { again(50) } else { (AttemptResult::Accepted, NextStep::Done) }
    });
    let running = start(&world, vec![participant("lab", 1)], &[]);
    let mut deliveries: Vec<PendingDelivery> = (1..=3).map(|seq| pending("lab", 0, seq)).collect();
    world.keep(&mut deliveries);
    running.handle.offer(deliveries);
    until("all are delivered", || world.waiting.lock().unwrap().is_empty()).await;
    assert_eq!(world.carried(), [1, 2, 3, 1]);
}

#[tokio::test]
async fn no_more_than_the_participants_concurrency_is_under_way_and_a_slow_one_slows_no_other() {
    let world = Arc::new(World::default());
    let gate = world.gate("slow");
    let running = start(&world, vec![participant("slow", 3), participant("fast", 1)], &[]);
    let mut slow: Vec<PendingDelivery> = (1..=9).map(|seq| pending("slow", seq, seq)).collect();
    world.keep(&mut slow);
    running.handle.offer(slow);
    until("three are under way", || world.active.load(Ordering::SeqCst) == 3).await;
    let mut fast: Vec<PendingDelivery> = (11..=20).map(|seq| pending("fast", seq, seq)).collect();
    world.keep(&mut fast);
    running.handle.offer(fast);
    until("the fast one has all", || world.carried().iter().filter(|key| **key > 10).count() == 10).await;
    assert_eq!(running.handle.active().await.len(), 3);
    gate.add_permits(9);
    until("all are delivered", || world.waiting.lock().unwrap().is_empty()).await;
    assert_eq!(world.most_active.load(Ordering::SeqCst), 4, "three slow ones and a fast one");
    let status = running.handle.status().await;
    assert_eq!(status.iter().map(|one| one.participant.as_str()).collect::<Vec<_>>(), ["fast", "slow"]);
}

#[tokio::test]
async fn what_memory_does_not_hold_is_read_back_once_each_and_in_order() {
    let world = Arc::new(World::default());
    let running = start(&world, vec![participant("lab", 4)], &["lab"]);
    let mut deliveries: Vec<PendingDelivery> = (1..=500).map(|seq| pending("lab", 1, seq)).collect();
    let mut free: Vec<PendingDelivery> = (1_001..=4_000).map(|seq| pending("lab", 0, seq)).collect();
    world.keep(&mut deliveries);
    world.keep(&mut free);
    // More commands than the queue holds, before the courier's task runs at all.
    deliveries.into_iter().chain(free).for_each(|delivery| running.handle.offer(vec![delivery]));
    assert!(running.handle.status().await[0].paused);
    running.handle.pause("lab", false);
    until("all are delivered", || world.waiting.lock().unwrap().is_empty()).await;
    let carried = world.carried();
    let ordered: Vec<i64> = carried.iter().copied().filter(|key| *key <= 500).collect();
    assert_eq!(ordered, (1..=500).collect::<Vec<i64>>());
    let mut free: Vec<i64> = carried.into_iter().filter(|key| *key > 500).collect();
    free.sort_unstable();
    assert_eq!(free, (1_001..=4_000).collect::<Vec<i64>>());
}

#[tokio::test]
async fn what_waits_in_the_store_at_the_start_goes_before_what_is_offered() {
    let world = Arc::new(World::default());
    let mut deliveries: Vec<PendingDelivery> = (1..=200).map(|seq| pending("lab", 5, seq)).collect();
    world.keep(&mut deliveries);
    let running = start(&world, vec![participant("lab", 4)], &[]);
    let mut late = vec![pending("lab", 5, 201)];
    world.keep(&mut late);
    running.handle.offer(late);
    until("all are delivered", || world.waiting.lock().unwrap().is_empty()).await;
    assert_eq!(world.carried(), (1..=201).collect::<Vec<i64>>());
}

#[tokio::test]
async fn after_five_failures_only_probes_go_out_and_a_success_lets_all_go() {
    let world = Arc::new(World::default());
    *world.replies.lock().unwrap() = Some(|_| again(5_000));
    let running = start(&world, vec![participant("lab", 1)], &[]);
    let mut deliveries: Vec<PendingDelivery> = (1..=20).map(|seq| pending("lab", seq, seq)).collect();
    world.keep(&mut deliveries);
    running.handle.offer(deliveries);
    until("five failed", || world.carried().len() == 5).await;
    let mut status = running.handle.status().await;
    while status[0].breaker != "open" {
        tokio::task::yield_now().await;
        status = running.handle.status().await;
    }
    assert_eq!((status[0].last_fault, world.carried().len()), (Some(Fault::RecvError), 5));
    assert!(status[0].next_probe_at_us.is_some());
    *world.replies.lock().unwrap() = None;
    // The first interval of the schedule is a second; the blocked heads would wait for five.
    until("all are delivered", || world.waiting.lock().unwrap().is_empty()).await;
    assert_eq!(world.carried().len(), 25);
    assert_eq!(running.handle.status().await[0].breaker, "closed");
}

#[tokio::test]
async fn a_paused_participant_gets_nothing_but_its_deliveries_expire() {
    let world = Arc::new(World::default());
    let running = start(&world, vec![participant("lab", 1)], &["lab"]);
    let mut deliveries = vec![PendingDelivery { expires_at_us: 1, ..pending("lab", 1, 1) }, pending("lab", 1, 2)];
    // A mailbox has no queue; its deliveries expire all the same.
    world.keep(&mut [PendingDelivery { expires_at_us: 1, ..pending("mailbox", 1, 3) }]);
    world.keep(&mut deliveries);
    running.handle.offer(deliveries);
    until("both are given up", || world.gave_up.lock().unwrap().len() == 2).await;
    assert!(world.carried().is_empty());
    running.handle.pause("lab", false);
    until("the other is delivered", || world.waiting.lock().unwrap().is_empty()).await;
    assert_eq!(world.carried(), [2]);
    let mut gave_up = world.gave_up.lock().unwrap().clone();
    gave_up.sort_unstable();
    assert_eq!(gave_up, [1, 3]);
}

#[tokio::test]
async fn a_forgotten_delivery_frees_its_lane() {
    let world = Arc::new(World::default());
    *world.replies.lock().unwrap() =
        Some(|delivery| if delivery.seq == 1 { again(3_600_000) } else { (AttemptResult::Accepted, NextStep::Done) });
    let running = start(&world, vec![participant("lab", 1)], &[]);
    let mut deliveries = vec![pending("lab", 1, 1), pending("lab", 1, 2)];
    world.keep(&mut deliveries);
    running.handle.offer(deliveries);
    until("the first failed", || world.carried() == [1]).await;
    world.waiting.lock().unwrap().remove(&1);
    running.handle.forget(pending("lab", 1, 1));
    until("the second goes", || world.carried() == [1, 2]).await;
}

#[tokio::test]
async fn reloading_drops_who_is_gone_and_reads_who_is_new_from_the_store() {
    let world = Arc::new(World::default());
    let running = start(&world, vec![participant("old", 1)], &["old"]);
    let mut deliveries = vec![pending("old", 1, 1), pending("new", 1, 2)];
    world.keep(&mut deliveries);
    running.handle.offer(deliveries);
    running.handle.reload(vec![Arc::new(participant("new", 1))]);
    until("the new one has its own", || world.carried() == [2]).await;
    running.handle.reload(vec![Arc::new(participant("old", 1))]);
    running.handle.pause("old", false);
    until("the old one is back", || world.carried() == [2, 1]).await;
}

#[tokio::test]
async fn a_defect_in_an_attempt_does_not_end_the_courier() {
    let world = Arc::new(World::default());
    world.panics.store(1, Ordering::SeqCst);
    let running = start(&world, vec![participant("lab", 2)], &[]);
    let mut deliveries = vec![pending("lab", 1, 1), pending("lab", 2, 2)];
    world.keep(&mut deliveries);
    running.handle.offer(deliveries);
    until("both are delivered", || world.waiting.lock().unwrap().is_empty()).await;
    assert_eq!(world.carried().len(), 3);
}

#[tokio::test]
async fn stopping_starts_nothing_new_and_waits_for_what_is_under_way() {
    let world = Arc::new(World::default());
    let gate = world.gate("lab");
    let running = start(&world, vec![participant("lab", 1)], &[]);
    let mut deliveries = vec![pending("lab", 1, 1), pending("lab", 1, 2)];
    world.keep(&mut deliveries);
    running.handle.offer(deliveries);
    until("one is under way", || world.active.load(Ordering::SeqCst) == 1).await;
    running.stop.cancel();
    assert_eq!(running.handle.active().await.len(), 1);
    assert!(!running.task.is_finished());
    gate.add_permits(2);
    running.task.await.unwrap();
    assert_eq!(world.carried(), [1]);
    assert!(running.handle.status().await.is_empty());
}

use super::*;
use crate::delivery::DeliveryKind;
use crate::exchange::fixture::{Fixture, lane_of_ward};
use crate::store::view::{DeliveryFilter, DeliveryView, NewReplay};

fn order(event: &str) -> NewReplay {
    NewReplay {
        id: crate::clock::Clock::default().new_id(),
        filter: MessageFilter { event: Some(event.into()), ..MessageFilter::default() },
        to: None,
        rate_per_second: None,
        forward_answers: false,
        force_consequence: false,
    }
}

/// Steps until the replay has ended, without the worker's waits.
async fn finish(fixture: &Fixture, order: &NewReplay) -> ReplayView {
    let store = &fixture.exchange.store;
    store.create_replay(order).await.unwrap();
    let mut worker =
        Worker { exchange: fixture.exchange.clone(), changed: Arc::new(Notify::new()), due: HashMap::new() };
    while worker.round().await.unwrap().is_some() {}
    let view = store.replay(order.id).await.unwrap().unwrap();
    assert_eq!(view.state, ReplayState::Done);
    view
}

async fn replayed(fixture: &Fixture) -> Vec<DeliveryView> {
    let page = fixture.exchange.store.list_deliveries(&DeliveryFilter::default(), None, 500).await.unwrap();
    let mut found: Vec<DeliveryView> = page.items;
    found.retain(|delivery| matches!(delivery.kind, DeliveryKind::Replay { .. }));
    found.reverse();
    found
}

#[test]
fn steps_are_due_at_the_rate_whatever_time_the_work_takes() {
    let start = Instant::now();
    let after = |milliseconds| start + Duration::from_millis(milliseconds);
    let cases = [
        (None, 100, 7, 7),
        (Some(1), 1, 7, 1000),
        (Some(50), 5, 99, 100),
        (Some(2000), 100, 0, 50),
        (Some(2000), 100, 49, 50),
        // Late by 30 ms: the next step makes that up.
        (Some(2000), 100, 80, 50),
        // Late by ten seconds: half a second of that is made up.
        (Some(2000), 100, 10_000, 9_500),
    ];
    for (rate, step, now_ms, due_ms) in cases {
        assert_eq!(step_limit(rate), step);
        assert_eq!(next_due(start, after(now_ms), step, rate), after(due_ms), "{rate:?} at {now_ms}");
    }
}

#[tokio::test]
async fn steps_of_a_hundred_messages_leave_none_out() {
    let fixture = Fixture::new().await;
    for number in 0..250 {
        fixture.store(&format!("m-{number}"), "push", None).await;
    }
    let store = &fixture.exchange.store;
    let order = NewReplay { rate_per_second: Some(MAX_RATE_PER_SECOND), ..order("push") };
    store.create_replay(&order).await.unwrap();
    let mut worker =
        Worker { exchange: fixture.exchange.clone(), changed: Arc::new(Notify::new()), due: HashMap::new() };
    let mut rounds = 0;
    while worker.round().await.unwrap().is_some() {
        tokio::time::sleep_until(*worker.due.values().next().unwrap()).await;
        rounds += 1;
    }
    let view = store.replay(order.id).await.unwrap().unwrap();
    assert_eq!((view.state, view.done, rounds), (ReplayState::Done, 250, 3));
}

#[tokio::test]
async fn messages_go_again_in_their_order_and_lane_linked_to_the_originals() {
    let fixture = Fixture::new().await;
    let mut stored = Vec::new();
    for name in ["a", "b", "c"] {
        stored.push(fixture.store(name, "push", None).await);
    }
    fixture.store("d", "other", None).await;
    let view = finish(&fixture, &order("push")).await;
    assert_eq!((view.total, view.done, view.skipped), (3, 3, 0));
    let again = replayed(&fixture).await;
    let originals: Vec<Option<Uuid>> = again.iter().map(|delivery| delivery.replay_of).collect();
    assert_eq!(originals, stored.iter().map(|message| Some(message.delivery)).collect::<Vec<_>>());
    for delivery in &again {
        assert_eq!(delivery.participant, "lab");
        let (work, _) = fixture.exchange.store.pending_delivery(delivery.id).await.unwrap().unwrap();
        assert_eq!(work.lane, lane_of_ward());
    }
    let first = fixture.exchange.store.deliveries_of(stored[0].id).await.unwrap();
    let original = first.iter().find(|delivery| delivery.id == stored[0].delivery).unwrap();
    assert_eq!(original.replayed_by, vec![again[0].id]);
}

#[tokio::test]
async fn a_consequence_event_goes_again_only_when_forced() {
    let fixture = Fixture::new().await;
    fixture.store("a", "order", Some(Category::Consequence)).await;
    let view = finish(&fixture, &order("order")).await;
    assert_eq!((view.done, view.skipped), (0, 1));
    let view = finish(&fixture, &NewReplay { force_consequence: true, ..order("order") }).await;
    assert_eq!((view.done, view.skipped), (1, 0));
}

#[tokio::test]
async fn a_redirect_goes_to_one_participant_only() {
    let fixture = Fixture::new().await;
    let stored = fixture.store("a", "push", None).await;
    finish(&fixture, &NewReplay { to: Some("ward".into()), forward_answers: true, ..order("push") }).await;
    let again = replayed(&fixture).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].participant, "ward");
    let DeliveryKind::Replay { of, forward_answers, .. } = &again[0].kind else { panic!("no replay") };
    assert_eq!((*of, *forward_answers), (Some(stored.delivery), true));
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let fixture = Fixture::new().await;
    fixture.store("a", "push", Some(Category::Consequence)).await;
    fixture.store("b", "push", None).await;
    let count = count(&fixture.exchange.store, &order("push").filter).await.unwrap();
    assert_eq!(count, Count { matched: 2, consequence: 1, without_body: 0, examined: 2 });
    assert!(replayed(&fixture).await.is_empty());
}

#[tokio::test]
async fn the_worker_takes_what_was_ordered_before_it_started_and_after() {
    let fixture = Fixture::new().await;
    fixture.store("a", "push", None).await;
    let store = &fixture.exchange.store;
    let (before, after) = (order("push"), order("push"));
    store.create_replay(&before).await.unwrap();
    let stop = CancellationToken::new();
    let replays = Replays::start(fixture.exchange.clone(), stop.clone(), &Supervisor::default());
    store.create_replay(&after).await.unwrap();
    replays.wake();
    for id in [before.id, after.id] {
        let done = async {
            while store.replay(id).await.unwrap().unwrap().state != ReplayState::Done {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), done).await.expect("the replay ends");
    }
    stop.cancel();
    assert_eq!(replayed(&fixture).await.len(), 2);
}

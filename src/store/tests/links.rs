//! Links between the deliveries of a lane, deliveries that come due, and the counters.

use super::*;
use crate::store::RetentionDays;
use crate::store::view::DeliveryFilter;

async fn links(store: &Store, participant: &str, lane: i64) -> Vec<(i64, Option<i64>)> {
    let deliveries = store.lane_deliveries(participant, lane, i64::MIN, false, 100).await.unwrap();
    deliveries.iter().map(|delivery| (delivery.seq, delivery.prev_seq)).collect()
}

/// Waiting and dead deliveries as the store counts them.
async fn counts(store: &Store, participant: &str) -> (u64, u64) {
    let figures = store.figures().await.unwrap();
    let found = figures.participants.iter().find(|counts| counts.participant == participant);
    found.map_or((0, 0), |counts| (counts.waiting, counts.dead))
}

#[tokio::test]
async fn a_delivery_is_linked_to_the_newest_of_its_lane_that_waits_when_it_is_inserted() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let mut seqs = Vec::new();
    for number in 1..=3 {
        let (_, work) = fixture.accept_new(to("lab", 7, numbered(number))).await;
        assert_eq!(work[0].prev_seq, seqs.last().copied());
        assert_eq!(work[0].due_at_us, 0);
        seqs.push(work[0].seq);
    }
    let (_, other) = fixture.accept_new(to("lab", 8, numbered(4))).await;
    let (_, free) = fixture.accept_new(to("lab", 0, numbered(5))).await;
    let (_, free_too) = fixture.accept_new(to("lab", 0, numbered(6))).await;
    assert_eq!([other[0].prev_seq, free[0].prev_seq, free_too[0].prev_seq], [None; 3]);
    let all = store.lane_deliveries("lab", 7, 0, false, 9).await.unwrap();
    for work in &all {
        store.settle(settlement(work.delivery_key, DeliveryState::Delivered, None)).await.unwrap();
    }
    let (_, work) = fixture.accept_new(to("lab", 7, numbered(7))).await;
    assert_eq!(work[0].prev_seq, None, "those before it have ended");
    assert_eq!(links(store, "lab", 7).await, [(work[0].seq, None)]);
}

#[tokio::test]
async fn what_one_batch_puts_into_a_lane_is_linked_within_it_and_so_is_what_is_ordered_again() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let keeps = (0..50).map(|number| store.accept(to("lab", 7, numbered(number))));
    futures_util::future::join_all(keeps).await.into_iter().for_each(|accepted| drop(accepted.unwrap()));
    let before = links(store, "lab", 7).await;
    let expected: Vec<Option<i64>> =
        std::iter::once(None).chain(before.iter().map(|(seq, _)| Some(*seq))).take(50).collect();
    assert_eq!(before.iter().map(|(_, prev)| *prev).collect::<Vec<_>>(), expected);
    let works = store.lane_deliveries("lab", 7, 0, false, 50).await.unwrap();
    for work in &works[..3] {
        store.settle(settlement(work.delivery_key, DeliveryState::Dead, None)).await.unwrap();
    }
    let filter = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
    let back = store.retry(&filter, 10, |_| i64::MAX).await.unwrap();
    let after = links(store, "lab", 7).await;
    assert_eq!(after.len(), 50);
    assert_eq!(after[47], (back[0].seq, Some(before[49].0)));
    assert_eq!(after[48..], [(back[1].seq, Some(back[0].seq)), (back[2].seq, Some(back[1].seq))]);
    assert!(back.iter().all(|delivery| delivery.due_at_us == 0));
}

#[tokio::test]
async fn what_waits_for_a_time_is_listed_by_time() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    for (number, (lane, due_us)) in [(1, 30), (2, 10), (0, 20), (3, 0), (4, 50), (0, 40)].into_iter().enumerate() {
        let (_, work) = fixture.accept_new(to("lab", lane, numbered(number))).await;
        if due_us > 0 {
            let waits = settlement(work[0].delivery_key, DeliveryState::Waiting, None);
            store.settle(Settlement { due_at_us: due_us, ..waits }).await.unwrap();
        }
    }
    let start = (0, i64::MAX);
    let page = store.due_lanes("lab", start, 30, false, 10).await.unwrap();
    assert_eq!(page.items.iter().map(|head| head.lane).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((page.next_due_at_us, page.more), (Some(50), false));
    let page = store.due_lanes("lab", start, 30, false, 1).await.unwrap();
    assert!(page.more);
    let after = (page.items[0].due_at_us, page.items[0].seq);
    assert_eq!(store.due_lanes("lab", after, 30, false, 9).await.unwrap().items[0].lane, 1);
    let page = store.due_unordered("lab", start, 30, false, 10).await.unwrap();
    assert_eq!((page.items.len(), page.items[0].due_at_us, page.next_due_at_us), (1, 20, Some(40)));
    assert!(store.lane_deliveries("lab", 0, 0, false, 10).await.unwrap().is_empty(), "none is due now");
    let heads = store.lanes("lab", None, false, 10).await.unwrap();
    let heads: Vec<_> = heads.iter().map(|head| (head.lane, head.due_at_us)).collect();
    assert_eq!(heads, [(1, 30), (2, 10), (3, 0), (4, 50)]);
    assert!(store.lanes("lab", None, true, 10).await.unwrap().is_empty(), "none goes its own way");
}

#[tokio::test]
async fn waiting_and_dead_deliveries_are_counted_through_every_change() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let mut works = Vec::new();
    for number in 0..6 {
        works.extend(fixture.accept_new(to("lab", 1, numbered(number))).await.1);
    }
    assert_eq!(counts(store, "lab").await, (6, 0));
    let ends = [DeliveryState::Delivered, DeliveryState::Dead, DeliveryState::Dead, DeliveryState::Discarded];
    for (work, state) in works.iter().zip(ends) {
        store.settle(settlement(work.delivery_key, state, None)).await.unwrap();
    }
    assert_eq!(counts(store, "lab").await, (2, 2));
    let dead = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
    store.retry(&dead, 1, |_| i64::MAX).await.unwrap();
    assert_eq!(counts(store, "lab").await, (3, 1));
    let fixture = fixture.reopen().await;
    assert_eq!(counts(&fixture.store, "lab").await, (3, 1));
    let later_us = fixture.clock.now_us() + 2 * DAY_US;
    let days = RetentionDays { traces: 1, identities: 1, dead_letters: 1, ..RetentionDays::default() };
    fixture.store.sweep(later_us, days, 100).await.unwrap();
    assert_eq!(counts(&fixture.store, "lab").await, (3, 0), "traces that went are counted no more");
}

/// A store as the first schema wrote it: lane 5 with three that wait, one of them for a time, and one that ended.
const OLD_STORE: &str = "INSERT INTO party (k, id) VALUES (1, 'clinic'), (2, 'lab'); \
    INSERT INTO message (k, id, state, received_us, committed_us, sender, destinations, content, facts) \
      VALUES (1, randomblob(16), 0, 100, 100, 1, '', randomblob(32), '@metadata@'); \
    INSERT INTO delivery (k, id, message_k, party, lane, seq, state, due_us, expires_us, created_us, kind) VALUES \
      (1, randomblob(16), 1, 2, 5, 101, 0, 100, 9000000000000000, 100, 0), \
      (2, randomblob(16), 1, 2, 5, 102, 2, 100, 9000000000000000, 100, 0), \
      (3, randomblob(16), 1, 2, 5, 103, 0, 5000, 9000000000000000, 100, 0), \
      (4, randomblob(16), 1, 2, 5, 104, 0, 104, 9000000000000000, 100, 0), \
      (5, randomblob(16), 1, 2, 0, 105, 0, 100, 9000000000000000, 100, 0), \
      (6, randomblob(16), 1, 2, 6, 106, 4, 100, 9000000000000000, 100, 0); \
    PRAGMA user_version = 1;";

#[tokio::test]
async fn a_store_of_the_first_schema_gets_links_counters_and_due_times() {
    sqlite_only!();
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    std::fs::create_dir_all(file_of(&settings).parent().unwrap()).unwrap();
    let options = connect::writer_options(&file_of(&settings)).create_if_missing(true);
    let mut conn = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let metadata = serde_json::to_string(&numbered(1).metadata).unwrap();
    for text in [migrate::MIGRATIONS[0], &OLD_STORE.replace("@metadata@", &metadata)] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned())).execute(&mut conn).await.unwrap();
    }
    sqlx::Connection::close(conn).await.unwrap();
    let store = Store::open(settings, Clock::default()).await.unwrap();
    assert_eq!(links(&store, "lab", 5).await, [(101, None), (103, Some(101)), (104, Some(103))]);
    let works = store.lane_deliveries("lab", 5, 0, false, 9).await.unwrap();
    assert_eq!(works.iter().map(|delivery| delivery.due_at_us).collect::<Vec<_>>(), [0, 5000, 0]);
    let free = store.lane_deliveries("lab", 0, 0, false, 9).await.unwrap();
    assert_eq!((free.len(), free[0].prev_seq, free[0].due_at_us), (1, None, 0));
    assert_eq!(counts(&store, "lab").await, (4, 1));
    let Acceptance::New { deliveries, .. } = store.accept(to("lab", 5, numbered(2))).await.unwrap() else {
        panic!("not new")
    };
    assert_eq!(deliveries[0].prev_seq, Some(104));
}

#[tokio::test]
async fn the_end_of_a_lane_is_found_by_its_index_though_nothing_waited_at_the_last_vacuum() {
    postgres_only!();
    let fixture = Fixture::new().await;
    let path = fixture.folder.path().join("data/emberpost.db");
    let run = |sql: &str| crate::testing::postgres::shared().run_at(&path, sql);
    let insert = |first: i64, count: i64, participant: i64, state: i64| {
        run(&format!(
            "INSERT INTO delivery (k, message_k, participant, lane, seq, due_us, expires_us, created_us, id, state, kind) \
             SELECT g, g, {participant}, g % 1000, g, 0, 9000000000000000, 1, gen_random_uuid(), {state}, 0 \
             FROM generate_series({first}, {}) g",
            first + count - 1
        ))
    };
    insert(1_000, 50_000, 1, 3);
    run("VACUUM ANALYZE delivery");
    insert(100_000, 10_000, 2, 0);
    let plan = run("EXPLAIN SELECT max(d.seq) FROM delivery d WHERE d.state = 0 AND d.participant = 1 AND d.lane = 7");
    assert!(plan.contains("delivery_waiting"), "{plan}");
}

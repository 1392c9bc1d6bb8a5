//! What the courier reads: order within lanes, retries, what expired.

use super::*;
use crate::store::view::DeliveryFilter;

#[tokio::test]
async fn lanes_are_listed_in_pages_and_their_deliveries_are_in_order() {
    let fixture = Fixture::new().await;
    for number in 0..12 {
        let lane = [-7, 0, 3][number % 3];
        fixture.accept_new(to("lab", lane, numbered(number))).await;
        // A clock set back must not change the order.
        fixture.clock.shift(-1_000_000);
    }
    fixture.accept_new(to("ward", 9, numbered(99))).await;
    let store = &fixture.store;
    let lanes = async |participant, after, limit| {
        let heads = store.lanes(participant, after, false, limit).await.unwrap();
        heads.iter().map(|head| head.lane).collect::<Vec<_>>()
    };
    assert_eq!(lanes("lab", None, 10).await, [-7, 3]);
    assert_eq!(lanes("lab", None, 1).await, [-7]);
    assert_eq!(lanes("lab", Some(-7), 10).await, [3]);
    assert!(lanes("nobody", None, 10).await.is_empty());
    let work = store.lane_deliveries("lab", 3, 0, false, 10).await.unwrap();
    let ids: Vec<_> = work.iter().map(|delivery| delivery.metadata.header_id.clone().unwrap()).collect();
    assert_eq!(ids, ["header-2", "header-5", "header-8", "header-11"]);
    assert!(work.windows(2).all(|pair| pair[0].seq < pair[1].seq) && work[0].body.is_none());
    assert_eq!(
        store.lane_deliveries("lab", 3, work[1].seq, false, 1).await.unwrap()[0].delivery_key,
        work[2].delivery_key
    );
}

#[tokio::test]
async fn a_delivery_that_waits_again_keeps_its_place_and_counts_its_attempts() {
    let fixture = Fixture::new().await;
    let (_, first) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    fixture.accept_new(to("lab", 1, numbered(2))).await;
    let again = Settlement {
        due_at_us: 77,
        fault: Some(Fault::RecvBusy),
        ..settlement(first[0].delivery_key, DeliveryState::Waiting, None)
    };
    fixture.store.settle(again).await.unwrap();
    let work = fixture.store.lane_deliveries("lab", 1, 0, false, 10).await.unwrap();
    let head = (work[0].delivery_key, work[0].attempts, work[0].due_at_us);
    assert_eq!((head, work.len()), ((first[0].delivery_key, 1, 77), 2));
}

#[tokio::test]
async fn a_retried_dead_letter_is_put_at_the_end_of_its_lane() {
    let fixture = Fixture::new().await;
    let (_, first) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    fixture.accept_new(to("lab", 1, numbered(2))).await;
    let dead =
        Settlement { fault: Some(Fault::RecvRefused), ..settlement(first[0].delivery_key, DeliveryState::Dead, None) };
    fixture.store.settle(dead).await.unwrap();
    let filter = DeliveryFilter { fault: Some("RECV_REFUSED".into()), ..Default::default() };
    assert_eq!(fixture.store.count_deliveries(&filter).await.unwrap(), 1);
    let before_us = fixture.clock.now_us();
    let back =
        fixture.store.retry(&filter, 10, |participant| i64::from(participant == "lab") * 1_000_000).await.unwrap();
    assert_eq!((back.len(), back[0].attempts, back[0].uncounted_attempts), (1, 1, 1));
    let lasts_us = back[0].expires_at_us - before_us;
    assert!((1_000_000..60_000_000).contains(&lasts_us), "counted from the retry, as its participant says: {lasts_us}");
    let work = fixture.store.lane_deliveries("lab", 1, 0, false, 10).await.unwrap();
    assert_eq!(work.iter().map(|delivery| delivery.delivery_key).collect::<Vec<_>>()[1], first[0].delivery_key);
    assert_eq!(
        (work[1].seq, work[1].expires_at_us, work[1].uncounted_attempts),
        (back[0].seq, back[0].expires_at_us, 1)
    );
    assert!(fixture.store.retry(&filter, 10, |_| 1).await.unwrap().is_empty(), "what waits is not put back again");
}

#[tokio::test]
async fn what_expired_is_found_oldest_first() {
    let fixture = Fixture::new().await;
    for number in [1, 2] {
        let mut new = to("lab", 1, numbered(number));
        new.deliveries[0].expires_at_us = 1_000 - number as i64;
        fixture.accept_new(new).await;
    }
    fixture.accept_new(to("lab", 1, numbered(3))).await;
    let expired = fixture.store.expired(2_000, 10).await.unwrap();
    let times: Vec<_> = expired.iter().map(|delivery| delivery.expires_at_us).collect();
    assert_eq!(times, [998, 999]);
    assert_eq!(fixture.store.expired(2_000, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_pause_is_stored() {
    let fixture = Fixture::new().await;
    fixture.store.set_paused("lab", true).await.unwrap();
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.store.paused().await.unwrap(), ["lab"]);
    fixture.store.set_paused("lab", false).await.unwrap();
    assert!(fixture.store.paused().await.unwrap().is_empty());
}

/// The counters of `lab`: deliveries that wait and dead ones, as counted and by its rows.
async fn counters(fixture: &Fixture) -> [(i64, i64); 2] {
    let query = "SELECT waiting, dead, (SELECT count(*) FROM delivery WHERE participant = p.k AND state = 0), \
                 (SELECT count(*) FROM delivery WHERE participant = p.k AND state = 4) FROM participant p WHERE id = 'lab'";
    let row = sqlx::query(query).fetch_one(&fixture.store.core().readers).await.unwrap();
    let column = |number: usize| sqlx::Row::get::<i64, _>(&row, number);
    [(column(0), column(1)), (column(2), column(3))]
}

#[tokio::test]
async fn the_counters_of_a_participant_follow_its_deliveries_through_all_states() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let mut keys = Vec::new();
    for number in 0..5 {
        let (_, work) = fixture.accept_new(to("lab", 1, numbered(number))).await;
        keys.push(work[0].delivery_key);
    }
    assert_eq!(counters(&fixture).await, [(5, 0); 2]);
    let settle = async |key: i64, state| {
        fixture.store.settle(settlement(key, state, None)).await.unwrap();
    };
    settle(keys[0], DeliveryState::Waiting).await;
    settle(keys[1], DeliveryState::Delivered).await;
    settle(keys[2], DeliveryState::Dead).await;
    settle(keys[3], DeliveryState::Dead).await;
    assert_eq!(counters(&fixture).await, [(2, 2); 2]);
    // A second settlement changes nothing.
    settle(keys[2], DeliveryState::Delivered).await;
    assert_eq!(counters(&fixture).await, [(2, 2); 2]);
    fixture.store.retry(&DeliveryFilter::default(), 1, |_| i64::MAX).await.unwrap();
    assert_eq!(counters(&fixture).await, [(3, 1); 2]);
    let fixture = fixture.reopen().await;
    fixture.clock.shift(40 * DAY_US);
    fixture.clock.confirm();
    let days = RetentionDays { bodies: 0, traces: 1, identities: 0, dead_letters: 1 };
    fixture.store.sweep(fixture.clock.now_us(), days, 100).await.unwrap();
    assert_eq!(counters(&fixture).await, [(3, 0); 2]);
}

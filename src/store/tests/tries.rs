//! Tries of redelivered messages: counted across restarts, by queue and message, and bounded.

use super::*;
use crate::store::{Redelivered, RetentionDays};

const ONE: [u8; 32] = [1; 32];
const OTHER: [u8; 32] = [2; 32];

#[tokio::test]
async fn tries_are_counted_by_message_across_a_restart_until_the_message_is_settled() {
    let fixture = Fixture::new().await;
    let message = |queue: &str, digest| Redelivered { queue: queue.into(), digest };
    let tries =
        async |store: &Store, queue: &str, digest| store.record_try(message(queue, digest), Vec::new()).await.unwrap();
    assert_eq!(tries(&fixture.store, "in", ONE).await, 1);
    assert_eq!(tries(&fixture.store, "in", ONE).await, 2);
    assert_eq!(tries(&fixture.store, "in", OTHER).await, 1);
    assert_eq!(tries(&fixture.store, "answers", ONE).await, 1);
    fixture.store.close().await;
    let store = Store::open(settings(fixture.folder.path()), Clock::default()).await.unwrap();
    assert_eq!(tries(&store, "in", ONE).await, 3);
    store.take_back_try(message("in", ONE)).await.unwrap();
    assert_eq!(tries(&store, "in", ONE).await, 3);
    store.forget_tries(vec![message("in", ONE)]).await.unwrap();
    assert_eq!(tries(&store, "in", ONE).await, 1);
    let settled = vec![message("in", ONE), message("answers", ONE)];
    assert_eq!(store.record_try(message("in", OTHER), settled).await.unwrap(), 2);
    assert_eq!((tries(&store, "in", ONE).await, tries(&store, "answers", ONE).await), (1, 1));
}

#[tokio::test]
async fn records_without_a_recent_try_are_deleted_after_a_week() {
    let fixture = Fixture::new().await;
    let one = || Redelivered { queue: "in".into(), digest: ONE };
    fixture.store.record_try(one(), Vec::new()).await.unwrap();
    let now_us = fixture.store.clock().now_us();
    let days = RetentionDays { bodies: 0, dead_letters: 0, traces: 0, identities: 30 };
    let week_us = 7 * 86_400_000_000;
    fixture.store.sweep(now_us + week_us - 1_000_000, days, 10).await.unwrap();
    assert_eq!(fixture.store.record_try(one(), Vec::new()).await.unwrap(), 2);
    fixture.store.sweep(now_us + week_us + 60_000_000, days, 10).await.unwrap();
    assert_eq!(fixture.store.record_try(one(), Vec::new()).await.unwrap(), 1);
}

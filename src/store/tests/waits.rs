//! Senders that wait are stored where several nodes may store the answer.

use super::*;

/// A request to `lab` whose sender waits: keys of the message and of the delivery.
async fn awaited(fixture: &Fixture, number: usize) -> (i64, i64) {
    let new = to("lab", 5, numbered(number));
    let deliveries = new.deliveries.into_iter().map(|delivery| NewDelivery { is_awaited: true, ..delivery }).collect();
    let accepted = fixture.store.accept(NewMessage { deliveries, ..new }).await.unwrap();
    let awaited = accepted.awaited().expect("its sender waits");
    match accepted {
        Acceptance::New { message_key, deliveries, .. } => {
            assert_eq!(deliveries[0].delivery_key, awaited);
            (message_key, awaited)
        }
        other => panic!("{other:?}"),
    }
}

async fn answered(fixture: &Fixture, delivery_key: i64, id: &str) -> Settled {
    let settlement = settlement(delivery_key, DeliveryState::Answered, Some(answer("lab", id, 9)));
    fixture.store.settle(settlement).await.unwrap()
}

#[tokio::test]
async fn an_answer_for_which_a_sender_waits_takes_its_return_route_later_and_the_sender_is_claimed_for_it() {
    postgres_only!();
    let fixture = Fixture::new().await;
    let (_, delivery_key) = awaited(&fixture, 1).await;
    let before_us = fixture.clock.now_us();
    let settled = answered(&fixture, delivery_key, "a1").await;
    assert_eq!(settled.woken.len(), 1);
    assert!(settled.deliveries[0].due_at_us > before_us + 4_000_000, "{}", settled.deliveries[0].due_at_us);
    assert!(!fixture.store.end_wait(delivery_key).await.unwrap(), "the answer has claimed it");
}

#[tokio::test]
async fn an_answer_after_the_wait_takes_its_return_route_at_once() {
    postgres_only!();
    let fixture = Fixture::new().await;
    let (_, delivery_key) = awaited(&fixture, 1).await;
    assert!(fixture.store.end_wait(delivery_key).await.unwrap());
    let settled = answered(&fixture, delivery_key, "a1").await;
    assert_eq!((settled.woken.len(), settled.deliveries[0].due_at_us), (0, 0));
}

#[tokio::test]
async fn the_sender_of_a_copy_waits_as_well() {
    postgres_only!();
    let fixture = Fixture::new().await;
    let (_, delivery_key) = awaited(&fixture, 1).await;
    assert!(fixture.store.end_wait(delivery_key).await.unwrap());
    fixture.store.begin_wait(delivery_key).await.unwrap();
    assert_eq!(answered(&fixture, delivery_key, "a1").await.woken.len(), 1);
}

#[tokio::test]
async fn what_ends_without_an_answer_ends_the_wait_only_if_none_is_owed() {
    postgres_only!();
    let fixture = Fixture::new().await;
    let (_, delivery_key) = awaited(&fixture, 1).await;
    let delivered = settlement(delivery_key, DeliveryState::Delivered, None);
    assert_eq!(fixture.store.settle(delivered.clone()).await.unwrap().woken.len(), 0);
    let completed = Settlement { ends_waits: true, ..delivered };
    assert_eq!(fixture.store.settle(completed).await.unwrap().woken.len(), 1);
}

#[tokio::test]
async fn nobody_waits_on_a_router_that_has_ended() {
    postgres_only!();
    let fixture = Fixture::new().await;
    let (_, delivery_key) = awaited(&fixture, 1).await;
    let fixture = fixture.reopen().await;
    let settled = answered(&fixture, delivery_key, "a1").await;
    assert_eq!((settled.woken.len(), settled.deliveries[0].due_at_us), (0, 0));
}

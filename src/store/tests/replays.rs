//! Replays: order, links to the originals, and progress after a restart.

use super::*;
use crate::store::view::{MessageFilter, NewReplay, ReplayState, ReplayTurn};

fn order() -> NewReplay {
    NewReplay {
        id: Clock::default().new_id(),
        filter: MessageFilter { sender: Some("clinic".into()), ..Default::default() },
        to: None,
        rate_per_second: Some(10),
        forward_answers: false,
        force_consequence: false,
    }
}

fn repeating(order: &NewReplay, of: Uuid) -> Vec<NewDelivery> {
    let kind = DeliveryKind::Replay { replay: order.id, of: Some(of), forward_answers: false };
    vec![NewDelivery { kind, ..delivery("lab", 1) }]
}

#[tokio::test]
async fn a_replay_delivers_the_messages_stored_before_it_in_order_and_links_both_ways() {
    let fixture = Fixture::new().await;
    for number in 0..5 {
        fixture.accept_new(to("lab", 1, numbered(number))).await;
    }
    fixture.accept_new(message("ward", "other", "other", 1)).await;
    fixture.accept_new(NewMessage { state: MessageState::Refused, ..numbered(50) }).await;
    let order = order();
    assert_eq!(fixture.store.create_replay(&order).await.unwrap().total, 5);
    fixture.accept_new(to("lab", 1, numbered(60))).await;

    let mut turns = Vec::new();
    let mut fixture = fixture;
    loop {
        let candidates = fixture.store.replay_candidates(order.id, 2).await.unwrap();
        let Some(candidate) = candidates.into_iter().next() else { break };
        let skipped = turns.len() == 1;
        let original = candidate.originals[0].id;
        let deliveries = if skipped { Vec::new() } else { repeating(&order, original) };
        let key = candidate.message_key;
        let turn = ReplayTurn { message_key: key, metadata: candidate.metadata.clone(), deliveries };
        let work = fixture.store.replay_deliver(order.id, vec![turn.clone()]).await.unwrap();
        assert_eq!(work.len(), usize::from(!skipped));
        let again = fixture.store.replay_deliver(order.id, vec![turn]).await.unwrap();
        assert!(again.is_empty(), "a message has one turn");
        turns.push((candidate.metadata.header_id.clone().unwrap(), candidate.metadata.id, original));
        fixture = fixture.reopen().await;
    }
    let names: Vec<_> = turns.iter().map(|turn| turn.0.as_str()).collect();
    assert_eq!(names, ["header-0", "header-1", "header-2", "header-3", "header-4"]);
    let view = fixture.store.replay(order.id).await.unwrap().unwrap();
    assert_eq!((view.done, view.skipped, view.state), (4, 1, ReplayState::Running));

    let deliveries = fixture.store.deliveries_of(turns[0].1).await.unwrap();
    assert_eq!(deliveries[1].replay_of, Some(turns[0].2));
    assert_eq!(deliveries[0].replayed_by, [deliveries[1].id]);
    let timeline = fixture.store.timeline(turns[0].1).await.unwrap();
    assert!(timeline.iter().any(|entry| entry.what == "replayed" && entry.reference == Some(order.id)));
    assert_eq!(fixture.store.message_status(turns[0].1).await.unwrap().unwrap().deliveries.len(), 1);
}

#[tokio::test]
async fn a_replay_that_pauses_delivers_nothing_and_one_that_ended_stays_so() {
    let fixture = Fixture::new().await;
    let (key, work) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    let order = order();
    fixture.store.create_replay(&order).await.unwrap();
    let set = async |state| fixture.store.set_replay_state(order.id, state).await.unwrap();
    let deliver = async || {
        let deliveries = repeating(&order, work[0].delivery_id);
        let turn = ReplayTurn { message_key: key, metadata: work[0].metadata.clone(), deliveries };
        fixture.store.replay_deliver(order.id, vec![turn]).await.unwrap().len()
    };
    assert!(set(ReplayState::Paused).await);
    assert_eq!((deliver().await, fixture.store.open_replays().await.unwrap().len()), (0, 1));
    assert!(set(ReplayState::Running).await);
    assert_eq!(deliver().await, 1);
    assert!(set(ReplayState::Stopped).await && !set(ReplayState::Running).await);
    assert!(fixture.store.open_replays().await.unwrap().is_empty());
    assert!(fixture.store.replay(Clock::default().new_id()).await.unwrap().is_none());
}

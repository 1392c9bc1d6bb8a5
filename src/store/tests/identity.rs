//! Duplicates and conflicts, as `judge` decides them, through whole transactions (MSG-60 to MSG-70).

use super::*;

fn r5(identifier: &str, content: u8) -> NewMessage {
    let mut new =
        message("clinic", &Clock::default().new_id().to_string(), &Clock::default().new_id().to_string(), content);
    let known = Identifier { system: Some("urn:ietf:rfc:3986".into()), value: identifier.into() };
    new.identity.transmission = None;
    new.identity.message = Some((KeyKind::BundleIdentifier, known.to_string()));
    new.identity.strict = true;
    new.metadata.bundle_identifier = Some(known);
    new
}

fn word(accepted: &Acceptance) -> &'static str {
    match accepted {
        Acceptance::New { .. } => "new",
        Acceptance::Duplicate { .. } => "duplicate",
        Acceptance::Conflict { .. } => "conflict",
    }
}

#[tokio::test]
async fn each_case_of_the_table_is_decided_by_what_is_stored() {
    use Category::{Consequence, Notification};
    let cases = [
        ("both known, same content", message("clinic", "b", "h", 1), "duplicate"),
        ("both known, other content", message("clinic", "b", "h", 2), "conflict"),
        ("Bundle.id known, header new", message("clinic", "b", "h2", 2), "conflict"),
        ("Bundle.id new, header known, same content", message("clinic", "b2", "h", 1), "duplicate"),
        ("Bundle.id new, header known, other content", message("clinic", "b3", "h", 2), "new"),
        ("the same of a notification", category(message("clinic", "b4", "h", 3), Notification), "new"),
        ("the same of a consequence", category(message("clinic", "b5", "h", 4), Consequence), "conflict"),
        ("another sender's ids", message("lab", "b", "h", 2), "new"),
        ("ids as urn:uuid", message("clinic", "urn:uuid:b", "urn:uuid:h", 1), "duplicate"),
        ("ids in other case", message("clinic", "B", "H", 2), "new"),
        ("R5 first", r5("i", 1), "new"),
        ("R5 identifier known, same content", r5("i", 1), "duplicate"),
        ("R5 identifier known, other content", r5("i", 2), "conflict"),
    ];
    let fixture = Fixture::new().await;
    let first = message("clinic", "b", "h", 1);
    let first_id = first.metadata.id;
    fixture.accept_new(first).await;
    for (case, new, expected) in cases {
        let accepted = fixture.store.accept(new).await.unwrap();
        assert_eq!(word(&accepted), expected, "{case}");
        if let Acceptance::Duplicate { message_id } = accepted
            && !case.starts_with("R5")
        {
            assert_eq!(message_id, first_id, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_copies_at_once_one_is_new_and_the_others_are_its_duplicates() {
    let fixture = Fixture::new().await;
    let copies = (0..100).map(|_| {
        let (store, new) = (fixture.store.clone(), to("lab", 1, message("clinic", "b", "h", 1)));
        tokio::spawn(async move { (new.metadata.id, store.accept(new).await.unwrap()) })
    });
    let mut new = Vec::new();
    let mut repeated = Vec::new();
    for copy in futures_util::future::join_all(copies).await {
        match copy.unwrap() {
            (id, Acceptance::New { deliveries, .. }) => new.push((id, deliveries.len())),
            (_, Acceptance::Duplicate { message_id }) => repeated.push(message_id),
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!((new.len(), repeated.len(), new[0].1), (1, 99, 1));
    assert!(repeated.iter().all(|id| *id == new[0].0));
    assert_eq!(fixture.store.count_deliveries(&Default::default()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_message_whose_answer_released_its_identity_is_new_when_it_arrives_again() {
    let fixture = Fixture::new().await;
    let own = |new: NewMessage, releases_request| {
        let mut own =
            message(prepare::ROUTER, &Clock::default().new_id().to_string(), &Clock::default().new_id().to_string(), 9);
        own.releases_request = releases_request;
        NewMessage { answer: Some(Box::new(own)), ..new }
    };
    fixture.accept_new(own(message("clinic", "b", "h", 1), true)).await;
    fixture.accept_new(own(message("clinic", "b", "h", 1), false)).await;
    let accepted = fixture.store.accept(message("clinic", "b", "h", 1)).await.unwrap();
    assert_eq!(word(&accepted), "duplicate");

    // The same, by a later settlement of its delivery.
    let (_, work) = fixture.accept_new(to("lab", 1, message("clinic", "b2", "h2", 1))).await;
    let mut transient = message(prepare::ROUTER, "a", "a", 9);
    transient.releases_request = true;
    let settled = fixture.store.settle(settlement(work[0].delivery_key, DeliveryState::Dead, Some(transient))).await;
    assert!(settled.unwrap().first_answer);
    assert_eq!(word(&fixture.store.accept(message("clinic", "b2", "h2", 1)).await.unwrap()), "new");
}

#[tokio::test]
async fn refused_messages_and_old_identities_are_not_recognized() {
    let fixture = Fixture::new().await;
    let refused = message("clinic", "b", "h", 1);
    let refused = NewMessage { state: MessageState::Refused, identity: IdentityKeys::default(), ..refused };
    fixture.accept_new(refused).await;
    fixture.accept_new(message("clinic", "b", "h", 1)).await;
    assert_eq!(word(&fixture.store.accept(message("clinic", "b", "h", 1)).await.unwrap()), "duplicate");
    fixture.clock.shift(31 * DAY_US);
    fixture.clock.confirm();
    assert_eq!(word(&fixture.store.accept(message("clinic", "b", "h", 1)).await.unwrap()), "new");
}

/// Batches are as large as they get: in PostgreSQL one of them locks all others out, instead of each of its lanes and identities.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_copies_in_large_batches_at_the_same_time_one_is_new() {
    let fixture = Fixture::new().await;
    let accepting = (0..1_800).map(|number| {
        let (store, number) = (fixture.store.clone(), number % 600);
        let lane = i64::try_from(number + 1).unwrap();
        tokio::spawn(async move { (number, store.accept(to("lab", lane, numbered(number))).await.unwrap()) })
    });
    let mut new = vec![0; 600];
    for accepted in futures_util::future::join_all(accepting.collect::<Vec<_>>()).await {
        let (number, accepted) = accepted.unwrap();
        match word(&accepted) {
            "new" => new[number] += 1,
            other => assert_eq!(other, "duplicate"),
        }
    }
    assert!(new.iter().all(|count| *count == 1), "{new:?}");
}

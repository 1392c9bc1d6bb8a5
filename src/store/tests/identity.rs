//! Repeats and conflicts, as `judge` words them, through whole transactions (MSG-60 to MSG-70).

use super::*;

fn r5(identifier: &str, content: u8) -> NewMessage {
    let mut keep =
        message("clinic", &Clock::default().new_id().to_string(), &Clock::default().new_id().to_string(), content);
    let known = Identifier { system: Some("urn:ietf:rfc:3986".into()), value: identifier.into() };
    keep.identity.transmission = None;
    keep.identity.message = Some((KeyKind::BundleIdentifier, known.to_string()));
    keep.identity.strict = true;
    keep.metadata.bundle_identifier = Some(known);
    keep
}

fn word(kept: &Acceptance) -> &'static str {
    match kept {
        Acceptance::New { .. } => "new",
        Acceptance::Duplicate { .. } => "repeat",
        Acceptance::Conflict { .. } => "conflict",
    }
}

#[tokio::test]
async fn each_case_of_the_table_is_decided_by_what_is_kept() {
    use Category::{Consequence, Notification};
    let cases = [
        ("both known, same content", message("clinic", "b", "h", 1), "repeat"),
        ("both known, other content", message("clinic", "b", "h", 2), "conflict"),
        ("Bundle.id known, header new", message("clinic", "b", "h2", 2), "conflict"),
        ("Bundle.id new, header known, same content", message("clinic", "b2", "h", 1), "repeat"),
        ("Bundle.id new, header known, other content", message("clinic", "b3", "h", 2), "new"),
        ("the same of a notification", category(message("clinic", "b4", "h", 3), Notification), "new"),
        ("the same of a consequence", category(message("clinic", "b5", "h", 4), Consequence), "conflict"),
        ("another sender's ids", message("lab", "b", "h", 2), "new"),
        ("ids as urn:uuid", message("clinic", "urn:uuid:b", "urn:uuid:h", 1), "repeat"),
        ("ids in other case", message("clinic", "B", "H", 2), "new"),
        ("R5 first", r5("i", 1), "new"),
        ("R5 identifier known, same content", r5("i", 1), "repeat"),
        ("R5 identifier known, other content", r5("i", 2), "conflict"),
    ];
    let fixture = Fixture::new().await;
    let first = message("clinic", "b", "h", 1);
    let first_id = first.metadata.id;
    fixture.keep(first).await;
    for (case, keep, expected) in cases {
        let kept = fixture.store.accept(keep).await.unwrap();
        assert_eq!(word(&kept), expected, "{case}");
        if let Acceptance::Duplicate { message_id } = kept
            && !case.starts_with("R5")
        {
            assert_eq!(message_id, first_id, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_copies_at_once_one_is_new_and_the_others_repeat_it() {
    let fixture = Fixture::new().await;
    let copies = (0..100).map(|_| {
        let (store, keep) = (fixture.store.clone(), to("lab", 1, message("clinic", "b", "h", 1)));
        tokio::spawn(async move { (keep.metadata.id, store.accept(keep).await.unwrap()) })
    });
    let mut new = Vec::new();
    let mut repeated = Vec::new();
    for copy in futures_util::future::join_all(copies).await {
        match copy.unwrap() {
            (id, Acceptance::New { work, .. }) => new.push((id, work.len())),
            (_, Acceptance::Duplicate { message_id }) => repeated.push(message_id),
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!((new.len(), repeated.len(), new[0].1), (1, 99, 1));
    assert!(repeated.iter().all(|id| *id == new[0].0));
    assert_eq!(fixture.store.count_deliveries(&Default::default()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_message_whose_answer_gave_its_identity_up_is_new_when_it_comes_again() {
    let fixture = Fixture::new().await;
    let own = |keep: NewMessage, releases_request| {
        let mut own =
            message(batch::OWN, &Clock::default().new_id().to_string(), &Clock::default().new_id().to_string(), 9);
        own.releases_request = releases_request;
        NewMessage { answer: Some(Box::new(own)), ..keep }
    };
    fixture.keep(own(message("clinic", "b", "h", 1), true)).await;
    fixture.keep(own(message("clinic", "b", "h", 1), false)).await;
    let kept = fixture.store.accept(message("clinic", "b", "h", 1)).await.unwrap();
    assert_eq!(word(&kept), "repeat");

    // The same, said later by the settlement of its delivery.
    let (_, work) = fixture.keep(to("lab", 1, message("clinic", "b2", "h2", 1))).await;
    let mut transient = message(batch::OWN, "a", "a", 9);
    transient.releases_request = true;
    let settled = fixture.store.settle(settlement(work[0].delivery_key, DeliveryState::Dead, Some(transient))).await;
    assert!(settled.unwrap().first_answer);
    assert_eq!(word(&fixture.store.accept(message("clinic", "b2", "h2", 1)).await.unwrap()), "new");
}

#[tokio::test]
async fn refused_messages_and_identities_of_long_ago_are_not_remembered() {
    let fixture = Fixture::new().await;
    let refused = message("clinic", "b", "h", 1);
    let refused = NewMessage { state: MessageState::Refused, identity: IdentityKeys::default(), ..refused };
    fixture.keep(refused).await;
    fixture.keep(message("clinic", "b", "h", 1)).await;
    assert_eq!(word(&fixture.store.accept(message("clinic", "b", "h", 1)).await.unwrap()), "repeat");
    fixture.clock.shift(31 * DAY_US);
    fixture.clock.confirm();
    assert_eq!(word(&fixture.store.accept(message("clinic", "b", "h", 1)).await.unwrap()), "new");
}

//! First answers, late answers, the router's own answers; settlements that come too late.

use super::*;
use crate::delivery::Further;
use sqlx::{ConnectOptions, Connection};

/// A request with one delivery to `lab`.
async fn asked(fixture: &Fixture) -> (Uuid, PendingDelivery) {
    let new = to("lab", 1, numbered(1));
    let id = new.metadata.id;
    let (_, mut work) = fixture.accept_new(new).await;
    (id, work.remove(0))
}

fn closing(delivery_key: i64, new: NewMessage) -> NewMessage {
    NewMessage { closes: Some(delivery_key), ..new }
}

fn first(accepted: &Acceptance) -> bool {
    matches!(accepted, Acceptance::New { first_answer: true, .. })
}

#[tokio::test]
async fn an_answer_is_stored_linked_and_delivered_with_its_settlement() {
    let fixture = Fixture::new().await;
    let (request, work) = asked(&fixture).await;
    let answered = answer("lab", "a", 2);
    let answer_id = answered.metadata.id;
    let settle = settlement(work.delivery_key, DeliveryState::Answered, Some(answered));
    let settled = fixture.store.settle(settle).await.unwrap();
    assert!(settled.first_answer);
    assert_eq!((settled.answer_id, settled.deliveries.len()), (Some(answer_id), 1));
    let status = fixture.store.message_status(request).await.unwrap().unwrap();
    let delivery = &status.deliveries[0];
    assert_eq!((delivery.state, delivery.status), (DeliveryState::Answered, Some(200)));
    let (metadata, body) = fixture.store.content(delivery.answer.unwrap()).await.unwrap().unwrap();
    assert_eq!((metadata.id, metadata.in_reply_to, &body[..]), (answer_id, Some(request), &b"{}"[..]));
}

#[tokio::test]
async fn a_later_answer_is_stored_and_linked_but_not_delivered() {
    let fixture = Fixture::new().await;
    let (request, work) = asked(&fixture).await;
    assert!(first(&fixture.store.accept(closing(work.delivery_key, answer("lab", "a", 2))).await.unwrap()));
    let late = answer("lab", "b", 3);
    let late_id = late.metadata.id;
    let accepted = fixture.store.accept(closing(work.delivery_key, late)).await.unwrap();
    assert!(matches!(&accepted, Acceptance::New { first_answer: false, deliveries, .. } if deliveries.is_empty()));
    assert_eq!(fixture.store.message(late_id).await.unwrap().unwrap().metadata.in_reply_to, Some(request));
    assert!(fixture.store.deliveries_of(late_id).await.unwrap().is_empty());

    let settle = settlement(work.delivery_key, DeliveryState::Delivered, None);
    assert!(!fixture.store.settle(settle).await.unwrap().first_answer);
    assert_eq!(fixture.state(request, 0).await, DeliveryState::Answered);
    let attempts = fixture.store.timeline(request).await.unwrap();
    assert_eq!(attempts.iter().filter(|entry| entry.what == "attempt").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_answers_that_race_exactly_one_is_the_first() {
    let fixture = Fixture::new().await;
    let (request, work) = asked(&fixture).await;
    let race = (0..20_u8).map(|number| {
        let (store, key) = (fixture.store.clone(), work.delivery_key);
        let new = answer("lab", &format!("a{number}"), number);
        tokio::spawn(async move {
            if number % 2 == 0 {
                first(&store.accept(closing(key, new)).await.unwrap())
            } else {
                let settle = settlement(key, DeliveryState::Answered, Some(new));
                store.settle(settle).await.unwrap().first_answer
            }
        })
    });
    let firsts = futures_util::future::join_all(race).await;
    assert_eq!(firsts.into_iter().filter(|first| *first.as_ref().unwrap()).count(), 1);
    assert_eq!(fixture.store.lane_deliveries("clinic", 0, 0, false, 10).await.unwrap().len(), 1);
    assert_eq!(fixture.state(request, 0).await, DeliveryState::Answered);
}

#[tokio::test]
async fn a_delivered_dead_or_discarded_delivery_still_takes_a_late_answer() {
    for state in [DeliveryState::Delivered, DeliveryState::Dead, DeliveryState::Discarded] {
        let fixture = Fixture::new().await;
        let (request, work) = asked(&fixture).await;
        fixture.store.settle(settlement(work.delivery_key, state, None)).await.unwrap();
        assert_eq!(fixture.state(request, 0).await, state);
        assert!(first(&fixture.store.accept(closing(work.delivery_key, answer("lab", "a", 2))).await.unwrap()));
        assert_eq!(fixture.state(request, 0).await, DeliveryState::Answered);
    }
}

#[tokio::test]
async fn the_sender_gets_one_answer_that_the_router_gave_up() {
    let fixture = Fixture::new().await;
    let (request, work) = asked(&fixture).await;
    let own = |id: &str| Some(message(prepare::ROUTER, id, id, 9));
    let give_up = |id| settlement(work.delivery_key, DeliveryState::Dead, own(id));
    assert!(fixture.store.settle(give_up("x")).await.unwrap().first_answer);
    assert_eq!(fixture.state(request, 0).await, DeliveryState::Dead);
    let again = fixture.store.settle(give_up("y")).await.unwrap();
    assert!(!again.first_answer && again.answer_id.is_none());
    // The receiver's answer after that is accepted, and not forwarded.
    let accepted = fixture.store.accept(closing(work.delivery_key, answer("lab", "a", 2))).await.unwrap();
    assert!(matches!(&accepted, Acceptance::New { first_answer: false, deliveries, .. } if deliveries.is_empty()));
}

#[tokio::test]
async fn an_answer_that_arrives_twice_is_stored_once_and_one_with_reused_ids_is_not_lost() {
    let fixture = Fixture::new().await;
    let (_, work) = asked(&fixture).await;
    let kept_first = answer("lab", "a", 2);
    let first_id = kept_first.metadata.id;
    fixture.store.accept(closing(work.delivery_key, kept_first)).await.unwrap();
    let settle = settlement(work.delivery_key, DeliveryState::Answered, Some(answer("lab", "a", 2)));
    let settled = fixture.store.settle(settle).await.unwrap();
    assert_eq!((settled.first_answer, settled.answer_id), (false, Some(first_id)));

    let (_, other) = fixture.accept_new(to("lab", 1, numbered(2))).await;
    let reused = fixture.store.accept(closing(other[0].delivery_key, answer("lab", "a", 3))).await.unwrap();
    assert!(first(&reused));
}

#[tokio::test]
async fn the_routers_own_answer_is_linked_to_its_request() {
    let fixture = Fixture::new().await;
    let own = answer(prepare::ROUTER, "own", 9);
    let new = NewMessage { answer: Some(Box::new(own)), ..numbered(1) };
    let id = new.metadata.id;
    let (_, work) = fixture.accept_new(new).await;
    assert_eq!(work.len(), 1);
    let status = fixture.store.message_status(id).await.unwrap().unwrap();
    let (metadata, _) = fixture.store.content(status.router_answer.unwrap()).await.unwrap().unwrap();
    assert_eq!((metadata.sender.as_str(), metadata.in_reply_to), (prepare::ROUTER, Some(id)));
    assert!(fixture.store.end_status(id).await.unwrap());
    assert!(fixture.store.message_status(id).await.unwrap().unwrap().status_ended);
}

#[tokio::test]
async fn a_response_finds_its_request_by_any_id_and_only_at_its_receiver() {
    let fixture = Fixture::new().await;
    let mut new = to("lab", 1, message("clinic", "bundle-1", "6F2A0A6E-0C3A-4F3F-9A50-3D1A3F1C9A11", 1));
    new.metadata.header_uuid = Some("0b9f6a3e-8f3c-4c52-9a7d-1f5b6c7d8e9f".into());
    new.metadata.bundle_identifier = Some(Identifier { system: Some("urn:sys".into()), value: "urn:uuid:i-1".into() });
    fixture.accept_new(new).await;
    let uuid = "6f2a0a6e-0c3a-4f3f-9a50-3d1a3f1c9a11";
    let header_uuid = "0b9f6a3e-8f3c-4c52-9a7d-1f5b6c7d8e9f";
    let named = [uuid, &format!("urn:uuid:{uuid}"), header_uuid, &format!("urn:uuid:{}", header_uuid.to_uppercase())];
    for known in named.into_iter().chain(["bundle-1", "i-1", "urn:uuid:i-1"]) {
        let asked = fixture.store.sent_requests("lab", known).await.unwrap();
        assert_eq!((asked.deliveries.len(), asked.is_cut), (1, false), "{known}");
        assert!(!asked.deliveries[0].answered);
    }
    assert!(fixture.store.sent_requests("lab", "Bundle-1").await.unwrap().deliveries.is_empty());
    assert!(fixture.store.sent_requests("clinic", "bundle-1").await.unwrap().deliveries.is_empty());
}

#[tokio::test]
async fn an_identifier_of_too_many_requests_is_reported_as_cut() {
    let fixture = Fixture::new().await;
    let mut keeps = Vec::new();
    for number in 0..258 {
        keeps.push(to("lab", 1, message("clinic", &format!("b-{number}"), "shared", 1)));
    }
    futures_util::future::join_all(keeps.into_iter().enumerate().map(|(number, mut new)| {
        new.identity.content = [u8::try_from(number % 256).unwrap(); 32];
        new.identity.content[0] = u8::try_from(number / 256).unwrap();
        fixture.accept_new(new)
    }))
    .await;
    let asked = fixture.store.sent_requests("lab", "shared").await.unwrap();
    assert_eq!((asked.deliveries.len(), asked.is_cut), (256, true));
}

/// An answer to the delivery with the content `said` and an identity of its own, and its delivery as a further answer.
fn saying(delivery_key: i64, id: &str, said: u8, code: ResponseCode) -> NewMessage {
    let mut new = closing(delivery_key, answer("lab", id, said));
    new.identity.response_content = Some([said; 32]);
    new.identity.content[1] = id.len() as u8;
    new.metadata.response.as_mut().unwrap().code = Some(code);
    new.releases_request = code == ResponseCode::TransientError;
    let home = NewDelivery { kind: DeliveryKind::Answer, ..delivery("clinic", 5) };
    new.further = Some(Further { delivery: Some(home) });
    new
}

async fn flags(fixture: &Fixture, message: Uuid) -> (bool, bool) {
    let view = fixture.store.message(message).await.unwrap().unwrap();
    (view.ambiguous, view.further)
}

#[tokio::test]
async fn a_further_answer_is_delivered_after_the_first_and_a_duplicate_is_not() {
    use ResponseCode::{FatalError, Ok, TransientError};
    // What the answers say, their codes, and for each: whether it is the first, and the lanes of its deliveries.
    let (first, further, again) = ((true, vec![0]), (false, vec![5]), (false, vec![]));
    for (answers, wanted) in [
        (vec![(1, Ok), (2, Ok)], vec![&first, &further]),
        (vec![(1, Ok), (1, Ok)], vec![&first, &again]),
        (vec![(1, FatalError), (2, Ok), (2, Ok), (1, FatalError)], vec![&first, &further, &again, &again]),
        (vec![(1, TransientError), (2, Ok), (3, Ok)], vec![&first, &first, &further]),
        (vec![(1, TransientError), (1, TransientError)], vec![&first, &again]),
        (vec![(1, TransientError), (2, Ok), (1, TransientError)], vec![&first, &first, &again]),
    ] {
        let fixture = Fixture::new().await;
        let (request, work) = asked(&fixture).await;
        for (index, ((said, code), wanted)) in answers.iter().zip(wanted).enumerate() {
            let new = saying(work.delivery_key, &"x".repeat(index + 1), *said, *code);
            let id = new.metadata.id;
            let Acceptance::New { deliveries, first_answer, .. } = fixture.store.accept(new).await.unwrap() else {
                panic!("each has an identity of its own")
            };
            let lanes: Vec<i64> = deliveries.iter().map(|delivery| delivery.lane).collect();
            assert_eq!((first_answer, lanes), *wanted, "answer {index} of {answers:?}");
            assert_eq!(flags(&fixture, id).await.1, *wanted == further, "answer {index} of {answers:?}");
        }
        let listed = fixture.store.answers_to(request).await.unwrap();
        assert_eq!(listed.len(), answers.len());
    }
}

#[tokio::test]
async fn a_further_answer_under_a_used_identity_is_flagged_and_not_delivered() {
    let fixture = Fixture::new().await;
    let (_, work) = asked(&fixture).await;
    let key = work.delivery_key;
    fixture.store.accept(saying(key, "x", 1, ResponseCode::Ok)).await.unwrap();
    let reused = saying(key, "x", 2, ResponseCode::Ok);
    let id = reused.metadata.id;
    let accepted = fixture.store.accept(reused).await.unwrap();
    assert!(matches!(&accepted, Acceptance::New { first_answer: false, deliveries, .. } if deliveries.is_empty()));
    assert_eq!(flags(&fixture, id).await, (false, true));
}

#[tokio::test]
async fn an_ambiguous_response_is_assigned_once_and_then_reads_as_an_answer() {
    let fixture = Fixture::new().await;
    let (request, work) = asked(&fixture).await;
    let (_, other) = fixture.accept_new(to("lab", 1, numbered(2))).await;
    let mut ambiguous = NewMessage { deliveries: Vec::new(), ..answer("lab", "a", 2) };
    ambiguous.metadata.ambiguous = true;
    let id = ambiguous.metadata.id;
    let (key, _) = fixture.accept_new(ambiguous.clone()).await;
    assert_eq!(flags(&fixture, id).await, (true, false));
    let filter = view::MessageFilter { ambiguous: Some(true), ..Default::default() };
    assert_eq!(fixture.store.count_messages(&filter).await.unwrap(), 1);
    // A duplicate is recognized, and is still delivered to nobody.
    assert!(
        matches!(fixture.store.accept(ambiguous.clone()).await.unwrap(), Acceptance::Duplicate { message_id } if message_id == id)
    );

    let assigning = |delivery_key| {
        let mut new =
            closing(delivery_key, NewMessage { deliveries: answer("lab", "a", 2).deliveries, ..ambiguous.clone() });
        new.metadata.request_format =
            new.metadata.request_format().or(Some(Box::new(crate::delivery::RequestFormat {
                format: fhir::Format::Xml,
                version: fhir::FhirVersion::R4,
                header_id: None,
                bundle_identifier: None,
            })));
        new.assigns = Some((key, id));
        new
    };
    let both = [work.delivery_key, other[0].delivery_key].map(|key| fixture.store.accept(assigning(key)));
    let [one, two] = futures_util::future::join_all(both).await.try_into().unwrap();
    assert!(matches!(one.unwrap(), Acceptance::New { first_answer: true, deliveries, .. } if deliveries.len() == 1));
    assert!(matches!(two.unwrap(), Acceptance::Conflict { message_id } if message_id == id));
    assert_eq!(flags(&fixture, id).await, (false, false));
    let (metadata, _) = fixture.store.content(key).await.unwrap().unwrap();
    assert_eq!((metadata.in_reply_to, metadata.request_format.is_some()), (Some(request), true));
    assert_eq!(fixture.state(request, 0).await, DeliveryState::Answered);
}

#[tokio::test]
async fn a_store_of_the_first_schema_keeps_its_answers_and_compares_new_ones() {
    sqlite_only!();
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    std::fs::create_dir_all(file_of(&settings).parent().unwrap()).unwrap();
    std::fs::write(file_of(&settings), "").unwrap();
    let mut conn = connect::plain_options(&file_of(&settings)).connect().await.unwrap();
    sqlx::raw_sql(migrate::MIGRATIONS[0]).execute(&mut conn).await.unwrap();
    let metadata = serde_json::to_string(&answer("lab", "old", 1).metadata).unwrap();
    let insert = "INSERT INTO message (k, id, state, received_us, committed_us, sender, destinations, content, facts) \
                  VALUES (1, zeroblob(16), 0, 1, 1, 1, '', zeroblob(32), ?)";
    sqlx::query(insert).bind(metadata).execute(&mut conn).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 1").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let store = Store::open(settings, Clock::default()).await.unwrap();
    let view = store.message(Uuid::nil()).await.unwrap().unwrap();
    assert_eq!((view.ambiguous, view.further), (false, false));
}

#[tokio::test]
async fn a_settlement_reports_whether_the_delivery_was_open_with_or_without_an_answer() {
    let fixture = Fixture::new().await;
    let (_, work) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    let key = work[0].delivery_key;
    let waiting = fixture.store.settle(settlement(key, DeliveryState::Waiting, None)).await.unwrap();
    let ended = fixture.store.settle(settlement(key, DeliveryState::Discarded, None)).await.unwrap();
    let late = fixture.store.settle(settlement(key, DeliveryState::Delivered, None)).await.unwrap();
    let answered = settlement(key, DeliveryState::Answered, Some(answer("lab", "late", 2)));
    let answered = fixture.store.settle(answered).await.unwrap();
    assert_eq!([waiting.changed, ended.changed, late.changed, answered.changed], [true, true, false, false]);
}

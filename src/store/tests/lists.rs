//! Lists, filters, pages and timelines.

use super::*;
use crate::fhir::{Issue, IssueCode};
use crate::store::view::{DeliveryFilter, MessageFilter, ViewError};
use std::sync::atomic::Ordering;

async fn found(fixture: &Fixture, filter: serde_json::Value) -> Vec<String> {
    let filter: MessageFilter = serde_json::from_value(filter).unwrap();
    let page = fixture.store.list_messages(&filter, None, 100).await.unwrap();
    assert_eq!(fixture.store.count_messages(&filter).await.unwrap(), page.items.len() as u64);
    page.items.iter().rev().map(|item| item.facts.header_id.clone().unwrap()).collect()
}

#[tokio::test]
async fn each_filter_finds_what_it_names() {
    let fixture = Fixture::new().await;
    let mut one = to("lab", 1, message("clinic", "b1", "h1", 1));
    one.facts.received_at_us = 1_000_000;
    one.facts.bundle_identifier = Some(Identifier { system: Some("urn:sys".into()), value: "i1".into() });
    let id = one.facts.id;
    let (_, work) = fixture.keep(one).await;
    let dead = settlement(work[0].delivery_key, DeliveryState::Dead, None);
    fixture.store.settle(Settlement { fault: Some(Fault::RecvTimeout), ..dead }).await.unwrap();
    let mut two = message("ward", "b2", "h2", 2);
    two.state = MessageState::Refused;
    two.facts.event = Some(Event::Uri("urn:other".into()));
    two.facts.destinations = vec!["urn:oid:1.2".into(), "urn:oid:1.2.3".into()];
    two.outcome = Some(Issue::error(IssueCode::Required, Fault::SendStructure, "no source").rule("MSG-03").into());
    fixture.keep(two).await;
    let mut three = answer("lab", "b3", 3);
    three.deliveries.clear();
    fixture.keep(three).await;

    use serde_json::json;
    let cases = [
        (json!({}), "h1 h2 header-of-b3"),
        (json!({ "id": id }), "h1"),
        (json!({ "header_id": "urn:uuid:h1" }), "h1"),
        (json!({ "header_id": "b1" }), ""),
        (json!({ "bundle_id": "b1" }), "h1"),
        (json!({ "bundle_identifier": "urn:sys|i1" }), "h1"),
        (json!({ "bundle_identifier": "i1" }), "h1"),
        (json!({ "event": "urn:events|patient-link" }), "h1 header-of-b3"),
        (json!({ "event": "patient-link" }), "h1 header-of-b3"),
        (json!({ "event": "link" }), ""),
        (json!({ "event": "urn:other" }), "h2"),
        (json!({ "source": "https://ward.example/fhir" }), "h2"),
        (json!({ "destination": "urn:oid:1.2" }), "h2"),
        (json!({ "destination": "urn:oid:1" }), ""),
        (json!({ "sender": "clinic" }), "h1"),
        (json!({ "sender": "nobody" }), ""),
        (json!({ "state": "refused" }), "h2"),
        (json!({ "response_code": "ok" }), "header-of-b3"),
        (json!({ "until": "1970-01-02T00:00:00Z" }), "h1"),
        (json!({ "since": "1970-01-02T00:00:00+01:00" }), "h2 header-of-b3"),
        (json!({ "fault": "SEND_STRUCTURE" }), "h2"),
        (json!({ "fault": "RECV_TIMEOUT" }), "h1"),
        (json!({ "issue": "required" }), "h2"),
        (json!({ "rule": "MSG-03" }), "h2"),
        (json!({ "rule": "MSG-0" }), ""),
        (json!({ "rule": "MSG-03", "sender": "clinic" }), ""),
    ];
    for (filter, expected) in cases {
        assert_eq!(found(&fixture, filter.clone()).await.join(" "), expected, "{filter}");
    }
}

#[tokio::test]
async fn a_time_or_cursor_that_is_none_is_the_callers_to_correct() {
    let fixture = Fixture::new().await;
    let filter = MessageFilter { since: Some("yesterday".into()), ..Default::default() };
    let error = fixture.store.list_messages(&filter, None, 10).await.unwrap_err();
    assert!(matches!(&error, ViewError::BadFilter(text) if text.starts_with("since")), "{error}");
    let error = fixture.store.list_deliveries(&DeliveryFilter::default(), Some("x"), 10).await.unwrap_err();
    assert!(matches!(error, ViewError::BadFilter(_)));
}

#[tokio::test]
async fn pages_have_no_gap_and_no_repeat_while_messages_come_in() {
    let fixture = Fixture::new().await;
    for number in 0..25 {
        fixture.keep(to("lab", 1, numbered(number))).await;
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let page = fixture.store.list_messages(&MessageFilter::default(), cursor.as_deref(), 5).await.unwrap();
        seen.extend(page.items.iter().map(|item| item.facts.header_id.clone().unwrap()));
        pages += 1;
        fixture.keep(numbered(100 + pages)).await;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..25).rev().map(|number| format!("header-{number}")).collect();
    assert_eq!((seen, pages), (expected, 5));
    let deliveries = fixture.store.list_deliveries(&DeliveryFilter::default(), None, 10).await.unwrap();
    assert!(deliveries.items.len() == 10 && deliveries.next.is_some());
}

#[tokio::test]
async fn deliveries_are_found_by_message_participant_state_and_event() {
    let fixture = Fixture::new().await;
    let first = to("lab", 1, numbered(1));
    let id = first.facts.id;
    let (_, work) = fixture.keep(first).await;
    fixture.keep(to("ward", 1, numbered(2))).await;
    fixture.store.settle(settlement(work[0].delivery_key, DeliveryState::Delivered, None)).await.unwrap();
    let count = async |filter: DeliveryFilter| fixture.store.count_deliveries(&filter).await.unwrap();
    let any = DeliveryFilter::default;
    assert_eq!(count(DeliveryFilter { message: Some(id), ..any() }).await, 1);
    assert_eq!(count(DeliveryFilter { participant: Some("ward".into()), ..any() }).await, 1);
    assert_eq!(count(DeliveryFilter { state: Some(DeliveryState::Delivered), ..any() }).await, 1);
    assert_eq!(count(DeliveryFilter { state: Some(DeliveryState::Waiting), ..any() }).await, 1);
    assert_eq!(count(DeliveryFilter { event: Some("patient-link".into()), ..any() }).await, 2);
    assert_eq!(count(DeliveryFilter { since: Some("2000-01-01T00:00:00Z".into()), ..any() }).await, 2);
    let (found, state) = fixture.store.delivery_work(work[0].delivery_id).await.unwrap().unwrap();
    assert_eq!((found.delivery_key, state), (work[0].delivery_key, DeliveryState::Delivered));
    let figures = fixture.store.figures().await.unwrap();
    let ward = figures.participants.iter().find(|party| party.participant == "ward").unwrap();
    assert_eq!((ward.waiting, figures.messages, figures.operations), (1, 2, 3));
}

#[tokio::test]
async fn a_timeline_tells_everything_in_order() {
    let fixture = Fixture::new().await;
    let keep = to("lab", 1, numbered(1));
    let id = keep.facts.id;
    let (_, work) = fixture.keep(keep).await;
    let waiting = settlement(work[0].delivery_key, DeliveryState::Waiting, None);
    fixture.store.settle(Settlement { attempt: attempt("retry", 503), ..waiting }).await.unwrap();
    let answered = answer("lab", "a", 2);
    let answer_id = answered.facts.id;
    let settle = settlement(work[0].delivery_key, DeliveryState::Answered, Some(answered));
    fixture.store.settle(settle).await.unwrap();
    let entries = fixture.store.timeline(id).await.unwrap();
    let what: Vec<_> = entries.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(what, ["received", "checked", "planned", "committed", "attempt", "attempt", "answered"]);
    assert_eq!(entries[6].reference, Some(answer_id));
    assert_eq!(entries[4].attempt.as_ref().unwrap().status, Some(503));
    assert_eq!(entries[4].participant.as_deref(), Some("lab"));
    assert!(fixture.store.timeline(Clock::default().new_id()).await.unwrap().is_empty());
}

#[tokio::test]
async fn searches_end_in_time_and_nothing_else_waits_for_them() {
    let fixture = Fixture::new().await;
    let core = &fixture.store.inner.core;
    let (key, _) = fixture.keep(to("lab", 1, numbered(0))).await;
    let rows = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                INSERT INTO message (k, id, state, received_us, committed_us, sender, source, event, destinations, content, \
                facts) SELECT -i, randomblob(16), state, received_us, committed_us, sender, source, event, destinations, \
                content, facts FROM message, n";
    sqlx::raw_sql(rows).execute(&mut core.writer.lock().await.conn).await.unwrap();
    core.search_milliseconds.store(0, Ordering::Relaxed);
    let filter = MessageFilter { event: Some("no-such-event".into()), ..Default::default() };
    for _ in 0..3 {
        let error = fixture.store.count_messages(&filter).await.unwrap_err();
        assert!(matches!(error, ViewError::TooLong(_)), "{error:?}");
        assert!(error.to_string().contains("narrow it, with since and until"), "{error}");
    }
    core.search_milliseconds.store(60_000, Ordering::Relaxed);

    // All connections for searches are taken.
    let busy = [core.searchers.acquire().await.unwrap(), core.searchers.acquire().await.unwrap()];
    let waiting = tokio::spawn({
        let (store, filter) = (fixture.store.clone(), filter.clone());
        async move { store.count_messages(&filter).await }
    });
    assert!(matches!(fixture.store.accept(numbered(20_001)).await.unwrap(), Kept::New { .. }));
    assert!(matches!(fixture.store.accept(numbered(20_001)).await.unwrap(), Kept::Repeat { .. }));
    assert!(fixture.store.content(key).await.unwrap().is_some());
    assert_eq!(fixture.store.lane_work("lab", 1, 0, false, 9).await.unwrap().len(), 1);
    fixture.store.figures().await.unwrap();
    fixture.store.accepting().unwrap();
    assert!(!waiting.is_finished(), "the search waits for a connection of its own kind");
    drop(busy);
    assert_eq!(waiting.await.unwrap().unwrap(), 0);
}

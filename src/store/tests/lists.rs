//! Lists, filters, pages and timelines.

use super::*;
use crate::outcome::{Issue, IssueCode};
use crate::store::view::{DeliveryFilter, MessageFilter, ViewError};
use std::sync::atomic::Ordering;

async fn found(fixture: &Fixture, filter: serde_json::Value) -> Vec<String> {
    let filter: MessageFilter = serde_json::from_value(filter).unwrap();
    let page = fixture.store.list_messages(&filter, None, 100).await.unwrap();
    assert_eq!(fixture.store.count_messages(&filter).await.unwrap(), page.items.len() as u64);
    page.items.iter().rev().map(|item| item.metadata.header_id.clone().unwrap()).collect()
}

#[tokio::test]
async fn each_filter_finds_what_it_names() {
    let fixture = Fixture::new().await;
    let mut one = to("lab", 1, message("clinic", "b1", "h1", 1));
    one.metadata.received_at_us = 1_000_000;
    one.metadata.bundle_identifier = Some(Identifier { system: Some("urn:sys".into()), value: "i1".into() });
    let id = one.metadata.id;
    let (_, work) = fixture.accept_new(one).await;
    let dead = settlement(work[0].delivery_key, DeliveryState::Dead, None);
    fixture.store.settle(Settlement { fault: Some(Fault::RecvTimeout), ..dead }).await.unwrap();
    let mut two = message("ward", "b2", "h2", 2);
    two.state = MessageState::Refused;
    two.metadata.event = Some(Event::Uri("urn:other".into()));
    two.metadata.destinations = vec!["urn:oid:1.2".into(), "urn:oid:1.2.3".into()];
    two.outcome = Some(Issue::error(IssueCode::Required, Fault::SendStructure, "no source").rule("MSG-03").into());
    fixture.accept_new(two).await;
    let mut three = answer("lab", "b3", 3);
    three.deliveries.clear();
    fixture.accept_new(three).await;

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
async fn an_invalid_time_or_cursor_is_reported_as_a_bad_filter() {
    let fixture = Fixture::new().await;
    let filter = MessageFilter { since: Some("yesterday".into()), ..Default::default() };
    let error = fixture.store.list_messages(&filter, None, 10).await.unwrap_err();
    assert!(matches!(&error, ViewError::BadFilter(text) if text.starts_with("since")), "{error}");
    let error = fixture.store.list_deliveries(&DeliveryFilter::default(), Some("x"), 10).await.unwrap_err();
    assert!(matches!(error, ViewError::BadFilter(_)));
}

#[tokio::test]
async fn pages_have_no_gap_and_no_duplicate_while_messages_arrive() {
    let fixture = Fixture::new().await;
    for number in 0..25 {
        fixture.accept_new(to("lab", 1, numbered(number))).await;
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let page = fixture.store.list_messages(&MessageFilter::default(), cursor.as_deref(), 5).await.unwrap();
        seen.extend(page.items.iter().map(|item| item.metadata.header_id.clone().unwrap()));
        pages += 1;
        fixture.accept_new(numbered(100 + pages)).await;
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
    let id = first.metadata.id;
    let (_, work) = fixture.accept_new(first).await;
    fixture.accept_new(to("ward", 1, numbered(2))).await;
    fixture.store.settle(settlement(work[0].delivery_key, DeliveryState::Delivered, None)).await.unwrap();
    let count = async |filter: DeliveryFilter| fixture.store.count_deliveries(&filter).await.unwrap();
    let any = DeliveryFilter::default;
    assert_eq!(count(DeliveryFilter { message: Some(id), ..any() }).await, 1);
    assert_eq!(count(DeliveryFilter { participant: Some("ward".into()), ..any() }).await, 1);
    assert_eq!(count(DeliveryFilter { state: Some(DeliveryState::Delivered), ..any() }).await, 1);
    assert_eq!(count(DeliveryFilter { state: Some(DeliveryState::Waiting), ..any() }).await, 1);
    assert_eq!(count(DeliveryFilter { event: Some("patient-link".into()), ..any() }).await, 2);
    assert_eq!(count(DeliveryFilter { since: Some("2000-01-01T00:00:00Z".into()), ..any() }).await, 2);
    let (found, state) = fixture.store.pending_delivery(work[0].delivery_id).await.unwrap().unwrap();
    assert_eq!((found.delivery_key, state), (work[0].delivery_key, DeliveryState::Delivered));
    let figures = fixture.store.figures().await.unwrap();
    let ward = figures.participants.iter().find(|participant_key| participant_key.participant == "ward").unwrap();
    assert_eq!((ward.waiting, figures.messages, figures.operations), (1, 2, 3));
}

#[tokio::test]
async fn a_timeline_has_all_events_in_order() {
    let fixture = Fixture::new().await;
    let new = to("lab", 1, numbered(1));
    let id = new.metadata.id;
    let (_, work) = fixture.accept_new(new).await;
    let waiting = settlement(work[0].delivery_key, DeliveryState::Waiting, None);
    fixture.store.settle(Settlement { attempt: attempt("retry", 503), ..waiting }).await.unwrap();
    let answered = answer("lab", "a", 2);
    let answer_id = answered.metadata.id;
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
    sqlite_only!();
    let fixture = Fixture::new().await;
    let core = fixture.store.core();
    let (key, _) = fixture.accept_new(to("lab", 1, numbered(0))).await;
    let rows = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                INSERT INTO message (k, id, state, received_us, committed_us, sender, source, event, destinations, content_sha256, \
                metadata) SELECT -i, randomblob(16), state, received_us, committed_us, sender, source, event, destinations, \
                content_sha256, metadata FROM message, n";
    sqlx::raw_sql(rows).execute(&mut core.writer.lock().await.conn).await.unwrap();
    core.search_milliseconds.store(0, Ordering::Relaxed);
    let filter = MessageFilter { sender: Some("nobody".into()), ..Default::default() };
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
    assert!(matches!(fixture.store.accept(numbered(20_001)).await.unwrap(), Acceptance::New { .. }));
    assert!(matches!(fixture.store.accept(numbered(20_001)).await.unwrap(), Acceptance::Duplicate { .. }));
    assert!(fixture.store.content(key).await.unwrap().is_some());
    assert_eq!(fixture.store.lane_deliveries("lab", 1, 0, false, 9).await.unwrap().len(), 1);
    fixture.store.figures().await.unwrap();
    fixture.store.accepting().unwrap();
    assert!(!waiting.is_finished(), "the search waits for a connection of its own kind");
    drop(busy);
    assert_eq!(waiting.await.unwrap().unwrap(), 0);
}

/// 20,000 accepted messages that are alike, and as many deliveries; then one of its own kind.
async fn many_and_one() -> (Fixture, String) {
    let fixture = Fixture::new().await;
    let (_, work) = fixture.accept_new(to("lab", 1, numbered(0))).await;
    fixture.store.settle(settlement(work[0].delivery_key, DeliveryState::Delivered, None)).await.unwrap();
    let rows = "CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 20001) \
                SELECT i FROM n; \
                INSERT INTO message (k, id, state, received_us, committed_us, sender, source, event, destinations, content_sha256, \
                metadata) SELECT i, randomblob(16), state, received_us, committed_us, sender, source, event, destinations, \
                content_sha256, metadata FROM message, n; \
                INSERT INTO term SELECT hash, i FROM term, n; \
                INSERT INTO delivery (k, id, message_k, participant, lane, seq, state, due_us, expires_us, created_us, kind) \
                SELECT i, randomblob(16), i, participant, lane, seq, state, due_us, expires_us, created_us, kind \
                FROM delivery, n";
    sqlx::raw_sql(rows).execute(&mut fixture.store.core().writer.lock().await.conn).await.unwrap();
    let fixture = fixture.reopen().await;
    fixture.clock.shift(60_000_000);
    let mut rare = to("lab", 2, message("clinic", "rare-bundle", "rare-header", 1));
    rare.metadata.received_at_us += 60_000_000;
    rare.metadata.source = Some("https://rare.example/fhir".into());
    rare.metadata.destinations.push("https://other.example/fhir".into());
    rare.metadata.event = Some(Event::Coding { system: Some("urn:events".into()), code: "rare".into() });
    let issue = Issue::error(IssueCode::NotFound, Fault::SendUnknownDestination, "").rule("MSG-22");
    rare.outcome = Some(issue.into());
    rare.state = MessageState::Refused;
    let (_, work) = fixture.accept_new(rare).await;
    let failed = Settlement {
        fault: Some(Fault::RecvExpired),
        ..settlement(work[0].delivery_key, DeliveryState::Waiting, None)
    };
    fixture.store.settle(failed).await.unwrap();
    // 20,000 more after it.
    let rows = rows_again();
    sqlx::raw_sql(rows).execute(&mut fixture.store.core().writer.lock().await.conn).await.unwrap();
    let since = jiff::Timestamp::from_microsecond(fixture.clock.now_us() - 30_000_000).unwrap().to_string();
    (fixture, since)
}

fn rows_again() -> &'static str {
    "CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 20010 UNION ALL SELECT i + 1 FROM n WHERE i < 40000) \
     SELECT i FROM n; \
     INSERT INTO message (k, id, state, received_us, committed_us, sender, source, event, destinations, content_sha256, metadata) \
     SELECT i, randomblob(16), state, received_us, committed_us, sender, source, event, destinations, content_sha256, metadata \
     FROM message, n WHERE message.k = 1; \
     INSERT INTO term SELECT hash, i FROM term, n WHERE message_k = 1"
}

#[tokio::test]
async fn one_delivered_among_many_answered_deliveries_is_found_at_once_and_the_other_way_around() {
    sqlite_only!();
    for (many, one) in
        [(DeliveryState::Answered, DeliveryState::Delivered), (DeliveryState::Delivered, DeliveryState::Answered)]
    {
        let fixture = Fixture::new().await;
        let (store, core) = (&fixture.store, fixture.store.core());
        for (number, state) in [(1, one), (2, many)] {
            let (_, work) = fixture.accept_new(to("lab", 1, numbered(number))).await;
            store.settle(settlement(work[0].delivery_key, state, None)).await.unwrap();
        }
        let more = "WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
                    INSERT INTO delivery (k, id, message_k, participant, lane, seq, state, due_us, expires_us, created_us, \
                    ended_us, kind) SELECT i, randomblob(16), message_k, participant, lane, seq + i, state, due_us, \
                    expires_us, created_us, ended_us, kind FROM delivery, n WHERE k = 2";
        sqlx::raw_sql(more).execute(&mut core.writer.lock().await.conn).await.unwrap();
        let before = core.search_checks.load(Ordering::Relaxed);
        let filter = DeliveryFilter { state: Some(one), ..DeliveryFilter::default() };
        let found = store.list_deliveries(&filter, None, 10).await.unwrap().items;
        assert_eq!(found.len(), 1);
        // The many among which one has an id, or one message has one delivery.
        let with_id = DeliveryFilter { id: Some(found[0].id), ..filter.clone() };
        let with_message = DeliveryFilter { message: Some(found[0].message), state: Some(many), ..filter };
        assert_eq!(store.list_deliveries(&with_id, None, 10).await.unwrap().items.len(), 1);
        assert_eq!(store.list_deliveries(&with_message, None, 10).await.unwrap().items.len(), 0);
        let looks = core.search_checks.load(Ordering::Relaxed) - before;
        // Through all 100,000 it would be a million steps: a hundred looks.
        assert!(looks <= 16, "{one:?}: {looks} times 10,000 steps");
    }
}

#[tokio::test]
async fn a_search_for_what_is_rare_looks_at_little_among_many() {
    sqlite_only!();
    let (fixture, since) = many_and_one().await;
    let (store, core) = (&fixture.store, fixture.store.core());
    let filters = [
        serde_json::json!({"destination": "https://other.example/fhir"}),
        serde_json::json!({"source": "https://rare.example/fhir"}),
        serde_json::json!({"event": "urn:events|rare"}),
        serde_json::json!({"event": "rare"}),
        serde_json::json!({"fault": "SEND_UNKNOWN_DESTINATION"}),
        serde_json::json!({"fault": "RECV_EXPIRED"}),
        serde_json::json!({"issue": "not-found"}),
        serde_json::json!({"rule": "MSG-22"}),
        serde_json::json!({"state": "refused"}),
        serde_json::json!({"since": since}),
        serde_json::json!({"since": since, "sender": "clinic"}),
        serde_json::json!({"header_id": "rare-header"}),
        serde_json::json!({"destination": "https://lab.example/fhir", "fault": "RECV_EXPIRED"}),
    ];
    for filter in filters {
        let before = core.search_checks.load(Ordering::Relaxed);
        assert_eq!(found(&fixture, filter.clone()).await, ["rare-header"], "{filter}");
        let looks = core.search_checks.load(Ordering::Relaxed) - before;
        // Through all 40,000 it would be some hundred thousand steps: dozens of looks.
        assert!(looks <= 16, "{filter}: {looks} times 10,000 steps");
    }
    let filters = [
        serde_json::json!({"fault": "RECV_EXPIRED"}),
        serde_json::json!({"since": since}),
        serde_json::json!({"state": "waiting"}),
    ];
    for filter in filters {
        let before = core.search_checks.load(Ordering::Relaxed);
        let wanted: DeliveryFilter = serde_json::from_value(filter.clone()).unwrap();
        assert_eq!(store.list_deliveries(&wanted, None, 10).await.unwrap().items.len(), 1, "{filter}");
        let looks = core.search_checks.load(Ordering::Relaxed) - before;
        assert!(looks <= 16, "{filter}: {looks} times 10,000 steps");
    }
    // What is common is found at once, too: the newest are the first.
    let before = core.search_checks.load(Ordering::Relaxed);
    let common: MessageFilter = serde_json::from_value(serde_json::json!({"event": "patient-link"})).unwrap();
    let page = store.list_messages(&common, None, 10).await.unwrap();
    let next = store.list_messages(&common, page.next.as_deref(), 10).await.unwrap();
    assert_eq!((page.items.len(), next.items.len()), (10, 10));
    assert!(core.search_checks.load(Ordering::Relaxed) - before <= 32);
}

#[tokio::test]
async fn terms_of_messages_of_earlier_versions_are_written_and_deleted_with_their_messages() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let (_, work) = fixture.accept_new(to("lab", 1, numbered(0))).await;
    for fault in [Fault::RecvTimeout, Fault::RecvRefused] {
        let mut failed = settlement(work[0].delivery_key, DeliveryState::Dead, None);
        (failed.fault, failed.attempt.as_mut().unwrap().fault) = (Some(fault), Some(fault));
        if fault == Fault::RecvTimeout {
            failed.state = DeliveryState::Waiting;
        }
        fixture.store.settle(failed).await.unwrap();
    }
    fixture.accept_new(numbered(1)).await;
    let core = fixture.store.core();
    let terms = async || {
        core.write_terms().await.unwrap();
        let rows =
            sqlx::query("SELECT hash, message_k FROM term ORDER BY 1, 2").fetch_all(&core.readers).await.unwrap();
        rows.iter().map(|row| (sqlx::Row::get(row, 0), sqlx::Row::get(row, 1))).collect::<Vec<(i64, i64)>>()
    };
    let mut written = terms().await;
    {
        let conn = &mut core.writer.lock().await.conn;
        sqlx::query("DELETE FROM term").execute(&mut *conn).await.unwrap();
        term::fill(conn, term::COLUMNS).await.unwrap();
    }
    // Earlier faults are stored with the attempts only.
    written.retain(|(hash, _)| *hash != terms::fault(Fault::RecvTimeout));
    assert_eq!(terms().await, written);
    let later_us = fixture.clock.now_us() + 2 * DAY_US;
    let days = RetentionDays { bodies: 0, traces: 1, identities: 0, dead_letters: 1 };
    assert_eq!(fixture.store.sweep(later_us, days, 100).await.unwrap().traces, 1);
    assert!(terms().await.iter().all(|(_, message)| *message == 2), "{:?}", terms().await);
}

//! References that are removed later than their messages: nothing takes them for a message meanwhile, and none is left at the end.

use super::*;
use crate::store::view::MessageFilter;
use crate::store::{Candidates, transfer};

const DAYS: RetentionDays = RetentionDays { bodies: 0, traces: 1, identities: 0, dead_letters: 1 };

async fn accept_and_move(fixture: &Fixture, messages: impl IntoIterator<Item = NewMessage>) {
    for new in messages {
        fixture.accept_new(new).await;
    }
    // A round that is under way, and a whole one.
    for _ in 0..1100 {
        fixture.store.core().move_references().await.unwrap();
    }
}

async fn references(fixture: &Fixture) -> i64 {
    let query = sqlx::query("SELECT count(*) FROM reference");
    sqlx::Row::get(&query.fetch_one(&fixture.store.core().readers).await.unwrap(), 0)
}

#[tokio::test]
async fn references_that_deleted_messages_left_are_not_found_and_a_pass_removes_them() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let each = (0..80).map(|number| to("lab", 1, numbered(number)));
    accept_and_move(&fixture, each).await;
    for work in fixture.store.lane_deliveries("lab", 1, 0, false, 80).await.unwrap() {
        fixture.store.settle(settlement(work.delivery_key, DeliveryState::Delivered, None)).await.unwrap();
    }
    let later_us = fixture.clock.now_us() + 2 * DAY_US;
    let all = references(&fixture).await;
    assert_eq!(fixture.store.sweep(later_us, DAYS, 5).await.unwrap().traces, 5);
    assert_eq!(references(&fixture).await, all, "too few for a pass");
    let header = || Some("header-0".to_owned());
    let filter = MessageFilter { header_id: header(), ..MessageFilter::default() };
    assert_eq!(fixture.store.count_messages(&filter).await.unwrap(), 0);
    let sent: Candidates = fixture.store.sent_requests("lab", "header-0").await.unwrap();
    assert!(sent.deliveries.is_empty());
    let again = numbered(0);
    assert_eq!(fixture.store.verdict(&again.metadata, again.identity).await.unwrap(), Verdict::New);

    let fixture = fixture.reopen().await;
    assert_eq!(references(&fixture).await, all);
    while !fixture.store.sweep(later_us, DAYS, 5).await.unwrap().is_done() {}
    assert_eq!(references(&fixture).await, 2, "those of the newest message");
    assert!(matches!(fixture.store.accept(numbered(79)).await.unwrap(), Acceptance::Duplicate { .. }));
    assert!(matches!(fixture.store.accept(numbered(0)).await.unwrap(), Acceptance::New { .. }));
}

#[tokio::test]
async fn a_pass_releases_identities_and_leaves_those_of_younger_messages() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    accept_and_move(&fixture, (0..20).map(numbered)).await;
    let now_us = fixture.clock.now_us() + 2 * DAY_US;
    let mut young = numbered(20);
    young.metadata.received_at_us = now_us;
    accept_and_move(&fixture, [young]).await;
    let days = RetentionDays { traces: 0, identities: 1, ..DAYS };
    while !fixture.store.sweep(now_us, days, 3).await.unwrap().is_done() {}
    let query = sqlx::query("SELECT count(*) FROM reference WHERE sender <> 0");
    let row = query.fetch_one(&fixture.store.core().readers).await.unwrap();
    let identities = sqlx::Row::get::<i64, _>(&row, 0);
    assert!(
        (2..=2 + 2 * 20 / 8).contains(&identities),
        "{identities}: of the young message and at most an eighth of the others"
    );
    assert!(matches!(fixture.store.accept(numbered(20)).await.unwrap(), Acceptance::Duplicate { .. }));
    assert!(matches!(fixture.store.accept(numbered(7)).await.unwrap(), Acceptance::New { .. }));
}

#[tokio::test]
async fn an_id_that_is_reused_conflicts_however_many_deleted_messages_had_it() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let reused = |number: u8| {
        let mut new = message("clinic", &format!("bundle-{number}"), "the-same-header", number);
        new.identity.strict = number == 0;
        new
    };
    accept_and_move(&fixture, (1..100).map(reused)).await;
    assert_eq!(fixture.store.sweep(fixture.clock.now_us() + 2 * DAY_US, DAYS, 12).await.unwrap().traces, 12);
    let again = reused(50);
    let bundle = Some((KeyKind::BundleId, "bundle-50".to_owned()));
    let other =
        NewMessage { identity: IdentityKeys { transmission: bundle, content: [0; 32], ..again.identity }, ..again };
    assert!(matches!(fixture.store.accept(other).await.unwrap(), Acceptance::Conflict { .. }));
}

#[tokio::test]
async fn a_store_with_such_references_is_sound_and_its_copy_has_none() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    accept_and_move(&fixture, (0..80).map(numbered)).await;
    assert_eq!(fixture.store.sweep(fixture.clock.now_us() + 2 * DAY_US, DAYS, 5).await.unwrap().traces, 5);
    fixture.store.close().await;
    let from = fixture.store.settings().url.clone();
    let report = transfer::check(&from, &mut |_| {}).await.unwrap();
    let links = report.checks.iter().find(|check| check.what == "references between tables").unwrap();
    assert_eq!(links.examples, Vec::<String>::new());
    let to = StoreUrl::Sqlite(fixture.folder.path().join("copy.db"));
    transfer::copy(&from, &to, fixture.clock.now_us(), &mut |_| {}).await.unwrap();
    let settings = StoreSettings { url: to, ..fixture.store.settings().clone() };
    let copy = Store::open(settings, fixture.clock.clone()).await.unwrap();
    let query = sqlx::query("SELECT count(*) FROM reference");
    let row = query.fetch_one(&copy.core().readers).await.unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), 150);
}

#[tokio::test]
async fn a_copy_is_recognized_however_many_deleted_messages_had_its_id() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let numbers = 0..80_u8;
    let reused = |number: u8| message("clinic", &format!("bundle-{number}"), "the-same-header", number + 1);
    accept_and_move(&fixture, numbers.map(reused)).await;
    assert_eq!(fixture.store.sweep(fixture.clock.now_us() + 2 * DAY_US, DAYS, 5).await.unwrap().traces, 5);
    {
        // As if the deleted messages were many.
        let mut writer = fixture.store.core().writer.lock().await;
        let many = "INSERT INTO reference (hash, sender, kind, content_head, message_k) \
                    SELECT r.hash, r.sender, r.kind, r.content_head - n.value, r.message_k FROM reference r, \
                    (WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 1100) SELECT value FROM n) n \
                    WHERE r.message_k = 1 AND r.kind = 1";
        assert_eq!(sqlx::raw_sql(many).execute(&mut writer.conn).await.unwrap().rows_affected(), 1100);
    }
    // Its sender sends it again, as another transmission.
    let again = message("clinic", "bundle-again", "the-same-header", 70 + 1);
    assert!(matches!(fixture.store.accept(again).await.unwrap(), Acceptance::Duplicate { .. }));
}

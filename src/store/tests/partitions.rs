//! Partitions of PostgreSQL, on a server that these tests start whatever store the others use.

use super::*;
use crate::store::postgres::partitions;
use crate::testing::postgres;

/// None, with a line that says so, without a server.
async fn fixture() -> Option<Fixture> {
    if !postgres::is_installed() {
        eprintln!("skipped: PostgreSQL is not installed (tests/run installs it)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = postgres::shared().url_of(folder.path());
    let settings = StoreSettings { url: StoreUrl::Postgres(url.into()), min_free_bytes: 0, identities_days: 30 };
    let clock = Clock::default();
    let store = Store::open(settings, clock.clone()).await.unwrap();
    Some(Fixture { folder, store, clock })
}

impl Fixture {
    fn sql(&self, sql: &str) -> String {
        postgres::shared().run_at(self.folder.path(), sql)
    }

    async fn make_room(&self) {
        let Backend::Postgres(backend) = &self.store.inner.backend else { panic!("PostgreSQL") };
        partitions::make_room(&backend.core).await.unwrap();
    }

    async fn accept_ended(&self, number: usize) -> i64 {
        let (key, work) = self.accept_new(to("lab", 1, numbered(number))).await;
        self.store.settle(settlement(work[0].delivery_key, DeliveryState::Delivered, None)).await.unwrap();
        key
    }
}

const PARTITIONS: &str = "SELECT string_agg(parent || first_k, ' ' ORDER BY parent, first_k) FROM partition";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_day_is_dropped_whole_but_for_what_is_still_needed() {
    let Some(fixture) = fixture().await else { return };
    let store = &fixture.store;
    let ended = fixture.accept_ended(1).await;
    let (open, _) = fixture.accept_new(to("lab", 1, numbered(2))).await;
    let (dead, work) = fixture.accept_new(to("lab", 2, numbered(3))).await;
    store.settle(settlement(work[0].delivery_key, DeliveryState::Dead, None)).await.unwrap();
    fixture.sql("SELECT setval('message_key', 60000), setval('delivery_key', 60000)");
    fixture.make_room().await;
    fixture.sql("SELECT setval('message_key', 70000), setval('delivery_key', 70000)");
    let young = fixture.accept_ended(4).await;
    assert_eq!(fixture.sql(PARTITIONS), "attempt1 attempt65537 body1 body65537");

    let (now_us, days) =
        (fixture.clock.now_us(), |bodies, traces| RetentionDays { bodies, traces, identities: 0, dead_letters: 9 });
    store.sweep(now_us + DAY_US, days(1, 0), 100).await.unwrap();
    assert!(store.content(ended).await.unwrap().is_some(), "a body in a partition waits until all of it is old");
    store.sweep(now_us + 2 * DAY_US, days(1, 0), 100).await.unwrap();
    assert_eq!(fixture.sql(PARTITIONS), "attempt1 attempt65537 body65537");
    assert!(store.content(ended).await.unwrap().is_none());
    for kept in [open, dead] {
        assert!(store.content(kept).await.unwrap().is_some(), "it may still be delivered");
    }
    assert_eq!(fixture.sql("SELECT count(*) FROM body_kept"), "2");
    assert!(
        store.content(young).await.unwrap().is_none(),
        "the newest partition is not full, and loses rows one by one"
    );

    // Traces go one by one, their attempts with the partition; those of the dead letter are kept.
    store.sweep(now_us + 2 * DAY_US, days(0, 1), 100).await.unwrap();
    store.sweep(now_us + 2 * DAY_US, days(0, 1), 100).await.unwrap();
    assert_eq!(fixture.sql(PARTITIONS), "attempt65537 body65537");
    assert_eq!(fixture.sql("SELECT count(*) FROM attempt_kept"), "1");
    assert_eq!(store.lane_deliveries("lab", 1, 0, false, 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_too_large_loses_its_oldest_full_partition_however_young() {
    let Some(fixture) = fixture().await else { return };
    let store = &fixture.store;
    let ended = fixture.accept_ended(1).await;
    let (open, _) = fixture.accept_new(to("lab", 1, numbered(2))).await;
    fixture.sql("SELECT setval('message_key', 60000)");
    fixture.make_room().await;
    fixture.sql("SELECT setval('message_key', 70000)");
    let young = fixture.accept_ended(3).await;
    let rules = |store_limit_bytes| RetentionRules { days: RetentionDays::default(), store_limit_bytes };
    let now_us = fixture.clock.now_us();
    let swept = store.sweep_archived(now_us, rules(1 << 40), 100, None).await.unwrap();
    assert_eq!((swept.bodies, swept.excess_bytes), (0, 0));
    // With an archive, what may go is archived and deleted first, and then the partition is dropped.
    let archive = fixture.folder.path().join("archive");
    let file = store.archive(now_us, rules(1), &archive).await.unwrap();
    assert_eq!(file.messages, 1);
    let swept = store.sweep_archived(now_us, rules(1), 100, Some(Arc::new(file.archived))).await.unwrap();
    assert!(swept.excess_bytes > 0);
    store.sweep_archived(now_us, rules(1), 100, Some(Arc::default())).await.unwrap();
    assert_eq!(fixture.sql("SELECT string_agg(first_k::text, ' ') FROM partition WHERE parent = 'body'"), "65537");
    assert!(store.content(ended).await.unwrap().is_none());
    for kept in [open, young] {
        assert!(store.content(kept).await.unwrap().is_some());
    }
    let swept = store.sweep_archived(now_us, rules(1), 100, None).await.unwrap();
    assert!(swept.is_done() && swept.excess_bytes > 0, "the newest partition stays, and the store is too large");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_beyond_the_last_partition_are_stored_and_the_next_one_begins_after_them() {
    let Some(fixture) = fixture().await else { return };
    fixture.sql("SELECT setval('message_key', 100000)");
    let (beyond, _) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    assert_eq!(fixture.sql("SELECT count(*) FROM body_kept"), "1");
    fixture.make_room().await;
    let (after, _) = fixture.accept_new(to("lab", 1, numbered(2))).await;
    assert_eq!(fixture.sql("SELECT count(*) FROM body_kept"), "1");
    for key in [beyond, after] {
        assert!(fixture.store.content(key).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_see_what_was_committed_while_they_waited_whatever_the_default_of_the_database() {
    let Some(fixture) = fixture().await else { return };
    let database = fixture.sql("SELECT current_database()");
    fixture.sql(&format!("ALTER DATABASE \"{database}\" SET default_transaction_isolation = 'repeatable read'"));
    fixture.store.close().await;
    let store = Store::open(fixture.store.settings().clone(), fixture.clock.clone()).await.unwrap();
    let Backend::Postgres(backend) = &store.inner.backend else { panic!("PostgreSQL") };
    let asked = backend.core.command(|conn| {
        Box::pin(async move {
            let row = sqlx::query("SELECT current_setting('transaction_isolation')").fetch_one(conn).await?;
            sqlx::Row::try_get::<String, _>(&row, 0)
        })
    });
    assert_eq!(asked.await.unwrap(), "read committed");
    store.close().await;
}

//! What a store keeps through closing, copying, full disks and other routers; what retention drops.

use super::*;
use crate::store::view::DeliveryFilter;
use crate::store::view::MessageFilter;
use sqlx::Row;

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let fixture = Fixture::new().await;
    let mut new = to("lab", 5, numbered(1));
    new.bytes = Bytes::from("{\"resourceType\":\"Bundle\"} ".repeat(500));
    let (id, body) = (new.metadata.id, new.bytes.clone());
    let (key, work) = fixture.accept_new(new).await;
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.store.content(key).await.unwrap().unwrap().1, body);
    assert_eq!(fixture.store.message_key(id).await.unwrap(), Some(key));
    assert_eq!(fixture.store.lane_deliveries("lab", 5, 0, false, 9).await.unwrap()[0].seq, work[0].seq);
    let (next, _) = fixture.accept_new(numbered(2)).await;
    assert_eq!(next, key + 1);
    assert!(
        matches!(fixture.store.accept(numbered(1)).await.unwrap(), Acceptance::Duplicate { message_id } if message_id == id)
    );
}

#[tokio::test]
async fn a_newer_store_is_refused_with_both_versions_named() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    fixture.store.close().await;
    let settings = settings(fixture.folder.path());
    let mut conn = sqlx::ConnectOptions::connect(&connect::writer_options(&file_of(&settings))).await.unwrap();
    sqlx::query("PRAGMA user_version = 99").execute(&mut conn).await.unwrap();
    drop(conn);
    let error = Store::open(settings, Clock::default()).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, OpenError::Refused(_)));
    assert!(text.contains("version 99") && text.contains(&format!("up to {}", migrate::MIGRATIONS.len())), "{text}");
}

#[tokio::test]
async fn a_second_router_is_refused_until_the_first_has_closed() {
    let fixture = Fixture::new().await;
    let again = || Store::open(settings(fixture.folder.path()), Clock::default());
    let error = again().await.err().unwrap();
    assert!(error.to_string().contains("in use by another emberpost"), "{error}");
    fixture.store.close().await;
    assert!(again().await.is_ok());
    assert!(matches!(fixture.store.accept(numbered(1)).await, Err(Unavailable::Away(_))));
    assert!(fixture.store.accepting().is_err());
    assert!(fixture.store.set_paused("lab", true).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_made_while_writing_is_whole_and_opens() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    for number in 0..50 {
        fixture.accept_new(to("lab", 1, numbered(number))).await;
    }
    let writing = (50..150).map(|number| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.accept(to("lab", 1, numbered(number))).await.unwrap() })
    });
    let writing: Vec<_> = writing.collect();
    let file = fixture.folder.path().join("copy/emberpost.db");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    fixture.store.backup(&file).await.unwrap();
    assert!(matches!(fixture.store.backup(&file).await, Err(OpenError::Refused(_))));
    futures_util::future::join_all(writing).await;

    let settings = StoreSettings { url: StoreUrl::Sqlite(file), ..settings(fixture.folder.path()) };
    let copy = Store::open(settings, Clock::default()).await.unwrap();
    let count = copy.count_messages(&MessageFilter::default()).await.unwrap();
    assert!((50..=150).contains(&count));
    assert_eq!(copy.count_deliveries(&Default::default()).await.unwrap(), count);
    for number in 0..50 {
        assert!(matches!(copy.accept(numbered(number)).await.unwrap(), Acceptance::Duplicate { .. }));
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_leaves_nothing_half_done() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    fixture.accept_new(to("lab", 1, numbered(1))).await;
    let limit = async |pages: String| {
        let mut writer = fixture.store.core().writer.lock().await;
        let pragma = sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")));
        pragma.execute(&mut writer.conn).await.unwrap();
    };
    limit("1".into()).await;
    let mut large = to("lab", 1, numbered(2));
    // Text that does not compress, so that it needs pages.
    large.bytes = (0..20_000_u32).flat_map(|word| reference::hash(&word.to_string()).to_be_bytes()).collect();
    let again = large.clone();
    assert!(matches!(fixture.store.accept(large).await, Err(Unavailable::Full(_))));
    assert_eq!(fixture.store.count_messages(&Default::default()).await.unwrap(), 1);
    limit("1000000".into()).await;
    let (_, work) = fixture.accept_new(again).await;
    assert_eq!(work.len(), 1);
    assert_eq!(fixture.store.lane_deliveries("lab", 1, 0, false, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn too_little_room_refuses_accepts_and_lets_settlements_through() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let (_, work) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    fixture.store.close().await;
    let settings = StoreSettings { min_free_bytes: u64::MAX, ..settings(fixture.folder.path()) };
    let store = Store::open(settings, Clock::default()).await.unwrap();
    assert!(matches!(store.accept(numbered(2)).await, Err(Unavailable::Full(_))));
    store.settle(settlement(work[0].delivery_key, DeliveryState::Delivered, None)).await.unwrap();
}

fn days(bodies: u32, traces: u32, identities: u32) -> RetentionDays {
    RetentionDays { bodies, traces, identities, dead_letters: 1 }
}

#[tokio::test]
async fn the_content_of_a_dead_letter_is_kept_for_days_of_its_own() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let end = async |number: usize, states: &[DeliveryState]| {
        let deliveries = states.iter().map(|_| delivery("lab", 1)).collect();
        let (key, work) = fixture.accept_new(NewMessage { deliveries, ..numbered(number) }).await;
        for (work, state) in work.iter().zip(states) {
            store.settle(settlement(work.delivery_key, *state, None)).await.unwrap();
        }
        key
    };
    let died = end(1, &[DeliveryState::Dead, DeliveryState::Delivered]).await;
    let discarded = end(2, &[DeliveryState::Discarded]).await;
    let half_open = end(3, &[DeliveryState::Dead, DeliveryState::Waiting]).await;
    let delivered = end(4, &[DeliveryState::Delivered]).await;
    end(5, &[DeliveryState::Waiting]).await;
    let now_us = fixture.clock.now_us();
    let accepted = async || {
        let mut accepted = Vec::new();
        for key in [died, discarded, half_open, delivered] {
            accepted.push(store.content(key).await.unwrap().is_some());
        }
        accepted
    };
    // Bodies and traces of everything else are deleted after a day.
    for (dead_letters, at_days, left) in
        [(3, 2, [true, true, true, false]), (0, 400, [true, true, true, false]), (3, 4, [false, false, true, false])]
    {
        let days = RetentionDays { bodies: 1, traces: 1, identities: 1, dead_letters };
        // Bounded steps: several are needed.
        for _ in 0..10 {
            store.sweep(now_us + at_days * DAY_US, days, 2).await.unwrap();
        }
        assert_eq!(accepted().await, left, "{dead_letters} days for dead letters, after {at_days}");
    }
    let retried = store.retry(&DeliveryFilter::default(), 10, |_| DAY_US).await.unwrap();
    assert_eq!(
        retried.iter().map(|delivery| delivery.message_key).collect::<Vec<_>>(),
        [half_open],
        "what can be delivered"
    );
}

#[tokio::test]
async fn dead_letters_are_deleted_after_their_days_if_everything_else_is_kept_forever() {
    let fixture = Fixture::new().await;
    let (key, work) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    fixture.store.settle(settlement(work[0].delivery_key, DeliveryState::Dead, None)).await.unwrap();
    let days = RetentionDays { dead_letters: 90, ..RetentionDays::default() };
    let now_us = fixture.clock.now_us();
    assert_eq!(fixture.store.sweep(now_us + 89 * DAY_US, days, 10).await.unwrap().bodies, 0);
    assert_eq!(fixture.store.sweep(now_us + 91 * DAY_US, days, 10).await.unwrap().bodies, 1);
    assert!(fixture.store.content(key).await.unwrap().is_none());
}

#[tokio::test]
async fn a_sweep_drops_what_is_old_and_nothing_that_is_open() {
    let fixture = Fixture::new().await;
    let (closed, work) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    fixture.store.settle(settlement(work[0].delivery_key, DeliveryState::Delivered, None)).await.unwrap();
    let (open, _) = fixture.accept_new(to("lab", 1, numbered(2))).await;
    let (newest, _) = fixture.accept_new(numbered(3)).await;
    let store = &fixture.store;
    let now_us = fixture.clock.now_us();
    assert!(store.sweep(now_us, days(1, 1, 1), 100).await.unwrap().is_done(), "nothing is old yet");

    let later_us = now_us + 2 * DAY_US;
    let swept = store.sweep(later_us, days(1, 0, 1), 2).await.unwrap();
    assert_eq!((swept.bodies, swept.traces, swept.identities), (1, 0, 2));
    let swept = store.sweep(later_us, days(1, 0, 1), 2).await.unwrap();
    assert_eq!((swept.bodies, swept.identities), (1, 1));
    assert!(store.content(closed).await.unwrap().is_none() && store.content(newest).await.unwrap().is_none());
    assert!(store.content(open).await.unwrap().is_some());
    assert_eq!(
        store.sent_requests("lab", "bundle-1").await.unwrap().deliveries.len(),
        1,
        "forgotten identities still correlate"
    );
    assert!(matches!(store.accept(numbered(3)).await.unwrap(), Acceptance::New { .. }));

    let swept = store.sweep(later_us, days(0, 1, 0), 100).await.unwrap();
    assert_eq!(swept.traces, 2, "the open one stays, and the newest");
    assert_eq!(store.count_messages(&Default::default()).await.unwrap(), 2);
    assert!(store.sent_requests("lab", "bundle-1").await.unwrap().deliveries.is_empty());
    assert_eq!(store.lane_deliveries("lab", 1, 0, false, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_of_the_first_schema_opens_with_its_data() {
    sqlite_only!();
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    std::fs::create_dir(file_of(&settings).parent().unwrap()).unwrap();
    std::fs::write(file_of(&settings), "").unwrap();
    let mut conn = sqlx::ConnectOptions::connect(&connect::plain_options(&file_of(&settings))).await.unwrap();
    let insert = "PRAGMA user_version = 1; INSERT INTO party (id, paused) VALUES ('lab', 1)";
    for text in [migrate::MIGRATIONS[0], insert] {
        sqlx::raw_sql(text).execute(&mut conn).await.unwrap();
    }
    sqlx::Connection::close(conn).await.unwrap();

    let store = Store::open(settings, Clock::default()).await.unwrap();
    assert_eq!(store.paused().await.unwrap(), ["lab"]);
    assert!(matches!(store.accept(numbered(1)).await.unwrap(), Acceptance::New { .. }));
}

#[tokio::test]
async fn a_writer_that_ends_without_close_is_a_failure_and_a_closed_or_dropped_store_is_not() {
    use crate::supervisor::Supervisor;
    for (how, failed) in [("unasked", vec!["store"]), ("closed", vec![]), ("dropped", vec![])] {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::default();
        let store = Store::open_supervised(settings(folder.path()), Clock::default(), &supervisor).await.unwrap();
        match how {
            "unasked" => {
                let (closed, done) = tokio::sync::oneshot::channel();
                assert!(store.inner.writers.send(crate::store::queue::Job::Close(closed)).await.is_ok());
                done.await.unwrap();
                let limit = std::time::Duration::from_secs(10);
                tokio::time::timeout(limit, supervisor.failure()).await.expect("the end of the writer is reported");
            }
            "closed" => store.close().await,
            _ => {}
        }
        drop(store);
        assert_eq!(supervisor.failed(), failed, "{how}");
    }
}

#[tokio::test]
async fn one_bad_row_fails_its_own_caller_and_nobody_else_in_the_batch() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let accepted = numbered(0);
    let id = accepted.metadata.id;
    fixture.accept_new(accepted).await;
    // A public id that is in use already breaks a rule of the table.
    let bad = || {
        let mut new = numbered(1);
        new.metadata.id = id;
        new
    };
    let writer = fixture.store.core().writer.lock().await;
    // All of these are in the queue before the writer can begin.
    let accepts = (2..40).map(|number| match number {
        7 | 20 => bad(),
        _ => to("lab", 1, numbered(number)),
    });
    let accepts: Vec<_> = accepts
        .map(|new| {
            let store = fixture.store.clone();
            tokio::spawn(async move { store.accept(new).await })
        })
        .collect();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    drop(writer);
    let mut failed = Vec::new();
    for (number, accept) in (2..40).zip(accepts) {
        match accept.await.unwrap() {
            Ok(Acceptance::New { .. }) => {}
            Err(Unavailable::Away(_)) => failed.push(number),
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(failed, [7, 20]);
    assert_eq!(fixture.store.count_messages(&Default::default()).await.unwrap(), 37);
    fixture.store.accepting().unwrap();
}

/// Steps of SQLite's virtual machine that `work` takes on the writer's connection, in thousands.
async fn thousand_steps<T>(fixture: &Fixture, work: impl Future<Output = T>) -> (T, u64) {
    use std::sync::atomic::{AtomicU64, Ordering};
    let steps = Arc::new(AtomicU64::new(0));
    let counter = steps.clone();
    let core = fixture.store.core();
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        true
    };
    core.writer.lock().await.conn.lock_handle().await.unwrap().set_progress_handler(1_000, count);
    let done = work.await;
    core.writer.lock().await.conn.lock_handle().await.unwrap().remove_progress_handler();
    (done, steps.load(Ordering::Relaxed))
}

#[tokio::test]
async fn old_messages_that_are_protected_do_not_hold_up_retention_of_those_behind_them() {
    let fixture = Fixture::new().await;
    for number in 0..40 {
        fixture.accept_new(to("lab", number as i64, numbered(number))).await;
    }
    for number in 40..60 {
        fixture.accept_new(numbered(number)).await;
    }
    let later_us = fixture.clock.now_us() + 2 * DAY_US;
    let mut bodies = 0;
    loop {
        let step = fixture.store.sweep(later_us, days(1, 0, 0), 8).await.unwrap();
        bodies += step.bodies;
        if step.is_done() {
            break;
        }
    }
    assert_eq!(bodies, 20);
}

#[tokio::test]
async fn a_step_of_retention_costs_the_same_however_often_a_sender_reused_an_id() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    for number in 0..1_200 {
        let mut new = message("clinic", &format!("bundle-{number}"), "the-same-header", 1);
        new.identity.content[..4].copy_from_slice(&u32::to_be_bytes(number));
        new.identity.message = None;
        new.identity.transmission = Some((KeyKind::BundleId, format!("bundle-{number}")));
        fixture.accept_new(new).await;
    }
    let store = &fixture.store;
    let later_us = fixture.clock.now_us() + 2 * DAY_US;
    for (what, days) in [("identities", days(0, 0, 1)), ("traces", days(0, 1, 0))] {
        let (swept, steps) = thousand_steps(&fixture, store.sweep(later_us, days, 100)).await;
        let swept = swept.unwrap();
        assert_eq!(swept.identities + swept.traces, 100, "{what}");
        // About a hundred steps per row; by the id alone it would be a thousand rows for each.
        assert!(steps < 100, "{what}: {steps} thousand steps for 100 messages");
    }
}

#[tokio::test]
async fn a_step_of_retention_drops_a_bounded_number_of_rows_and_bytes() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let mut many = numbered(1);
    many.deliveries = (0..3).map(|lane| delivery("lab", lane)).collect();
    let (many, work) = fixture.accept_new(many).await;
    for delivery in &work {
        fixture.store.settle(settlement(delivery.delivery_key, DeliveryState::Delivered, None)).await.unwrap();
    }
    let attempts = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) \
                    INSERT INTO attempt SELECT delivery_k, i, started_us, duration_us, status, result, NULL, NULL \
                    FROM attempt, n WHERE n = 1; UPDATE delivery SET attempts = 4000";
    let core = fixture.store.core();
    sqlx::raw_sql(attempts).execute(&mut core.writer.lock().await.conn).await.unwrap();
    for number in 2..8 {
        let mut large = numbered(number);
        // Does not compress.
        large.bytes = (0..800_000_u32).flat_map(|word| reference::hash(&word.to_string()).to_be_bytes()).collect();
        fixture.accept_new(large).await;
    }
    let later_us = fixture.clock.now_us() + 2 * DAY_US;
    let count = async |table: &str| {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query(sql).fetch_one(&core.readers).await.unwrap().get::<i64, _>(0)
    };
    let (mut attempts, mut bodies, mut steps) = (count("attempt").await, count("body").await, 0);
    loop {
        let swept = fixture.store.sweep(later_us, days(1, 1, 0), 500).await.unwrap();
        let left = count("attempt").await;
        assert!(attempts - left <= 4_096, "{} attempts in one step", attempts - left);
        let accepted = count("body").await;
        assert!(bodies - accepted <= 5, "{} bodies of 6.4 MB in one step", bodies - accepted);
        (attempts, bodies) = (left, accepted);
        steps += 1;
        if swept.is_done() {
            break;
        }
    }
    assert!(steps > 3);
    assert_eq!((count("attempt").await, count("delivery").await, count("message").await), (0, 0, 1));
    assert!(fixture.store.content(many).await.unwrap().is_none());
}

#[tokio::test]
async fn after_a_jump_of_the_clock_nothing_is_dropped_or_forgotten_until_it_is_confirmed() {
    let fixture = Fixture::new().await;
    let (key, _) = fixture.accept_new(numbered(1)).await;
    fixture.accept_new(to("lab", 1, numbered(2))).await;
    let store = &fixture.store;
    fixture.clock.shift(40 * DAY_US);
    let now_us = fixture.clock.now_us();
    assert!(store.sweep(now_us, days(1, 1, 1), 100).await.unwrap().is_done());
    assert!(store.expired(now_us, 9).await.unwrap().is_empty());
    assert!(
        matches!(store.accept(numbered(1)).await.unwrap(), Acceptance::Duplicate { .. }),
        "an identity was forgotten"
    );

    assert!(store.content(key).await.unwrap().is_some());
    store.confirm_clock().await.unwrap();
    assert_eq!(store.expired(now_us, 9).await.unwrap().len(), 1);
    assert_eq!(store.sweep(now_us, days(1, 1, 1), 100).await.unwrap().traces, 1);
    assert!(store.content(key).await.unwrap().is_none());
}

#[tokio::test]
async fn a_log_that_grew_because_of_a_reader_is_truncated_when_the_reader_has_ended() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let options = connect::plain_options(&file_of(fixture.store.settings())).read_only(true);
    let mut reader = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM message").execute(&mut reader).await.unwrap();
    // Does not compress.
    let bytes: Bytes = (0..800_000_u32).flat_map(|word| reference::hash(&word.to_string()).to_be_bytes()).collect();
    let log_bytes = async || fixture.store.figures().await.unwrap().log_bytes;
    let mut number = 0;
    while log_bytes().await <= 2 * connect::LOG_LIMIT_BYTES {
        number += 1;
        fixture.accept_new(NewMessage { bytes: bytes.clone(), ..numbered(number) }).await;
        assert!(number < 100, "the log does not grow");
    }
    sqlx::query("COMMIT").execute(&mut reader).await.unwrap();
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while log_bytes().await > connect::LOG_LIMIT_BYTES {
        assert!(tokio::time::Instant::now() < until, "{} bytes of log", log_bytes().await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_participant_whose_key_was_not_committed_has_none() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let allow = async |allowed: bool| {
        let mut writer = fixture.store.core().writer.lock().await;
        writer.conn.lock_handle().await.unwrap().set_commit_hook(move || allowed);
    };
    allow(false).await;
    fixture.store.accept(to("lab", 1, numbered(1))).await.unwrap_err();
    allow(true).await;
    let (_, work) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    assert_eq!(fixture.store.lane_deliveries("lab", 1, 0, false, 9).await.unwrap().len(), work.len());
    let fixture = fixture.reopen().await;
    // Otherwise the next participants would get its key, and its deliveries.
    fixture.accept_new(to("ward", 1, message("mallory", "other", "other", 1))).await;
    assert_eq!(fixture.store.lane_deliveries("lab", 1, 0, false, 9).await.unwrap().len(), 1);
    assert_eq!(fixture.store.lane_deliveries("ward", 1, 0, false, 9).await.unwrap().len(), 1);
    assert!(matches!(fixture.store.accept(to("lab", 1, numbered(1))).await.unwrap(), Acceptance::Duplicate { .. }));
}

//! References of recent messages: look-ups find them in memory, in the table, and while they move.

use super::*;
use crate::store::view::MessageFilter;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// A new message, with an answer of our own that gives its identity up, or without.
    NewMessage(bool),
    /// So many slices move.
    Move(u16),
    Reopen,
    /// A transaction failed, and the table is read again.
    Invalidate,
    /// All commits fail for a while, as on a full disk.
    Fail,
    /// A search writes terms.
    Search,
    /// Everything older than a day is deleted.
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => any::<bool>().prop_map(Step::NewMessage),
        4 => prop_oneof![1u16..40, Just(512), Just(1100)].prop_map(Step::Move),
        1 => Just(Step::Reopen),
        1 => Just(Step::Invalidate),
        2 => Just(Step::Fail),
        1 => Just(Step::Search),
        1 => Just(Step::Sweep),
    ];
    proptest::collection::vec(step, 1..30)
}

/// For each number its message, and whether its identity was released. None: deleted.
type Model = Vec<Option<(Uuid, bool)>>;

async fn run(steps: Vec<Step>) {
    let mut fixture = Fixture::new().await;
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::NewMessage(is_given_up) => {
                let number = model.len();
                let mut new = numbered(number);
                new.metadata.received_at_us = fixture.clock.now_us();
                model.push(Some((new.metadata.id, is_given_up)));
                let mut own = message(prepare::ROUTER, &format!("own-{number}"), &format!("own-header-{number}"), 9);
                own.releases_request = is_given_up;
                fixture.accept_new(NewMessage { answer: Some(Box::new(own)), ..new }).await;
            }
            Step::Move(slices) => {
                for _ in 0..slices {
                    fixture.store.core().move_references().await.unwrap();
                }
            }
            Step::Reopen => fixture = fixture.reopen().await,
            Step::Invalidate => fixture.store.core().recent.invalidate(),
            Step::Fail => {
                fail_commits(&fixture, || false).await;
                let later_us = fixture.clock.now_us() + 2 * DAY_US;
                fixture.store.accept(message("clinic", "lost", "lost", 7)).await.unwrap_err();
                with_source(&fixture).await;
                let days = RetentionDays { bodies: 0, traces: 1, identities: 1, dead_letters: 1 };
                fixture.store.sweep(later_us, days, 100).await.unwrap_err();
                fixture.store.core().move_references().await.unwrap_err();
                fail_commits(&fixture, || true).await;
            }
            Step::Search => drop(with_source(&fixture).await),
            Step::Sweep => {
                fixture.clock.shift(2 * DAY_US);
                fixture.clock.confirm();
                let days = RetentionDays { bodies: 0, traces: 1, identities: 0, dead_letters: 1 };
                while fixture.store.sweep(fixture.clock.now_us(), days, 100).await.unwrap().traces > 0 {}
                let accepted = fixture.store.list_messages(&Default::default(), None, 1000).await.unwrap().items;
                for one in &mut model {
                    *one = one.filter(|(id, _)| accepted.iter().any(|accepted| accepted.metadata.id == *id));
                }
            }
        }
    }
    check(&fixture, &model).await;
}

async fn check(fixture: &Fixture, model: &Model) {
    let store = &fixture.store;
    for (number, known) in model.iter().enumerate() {
        let again = numbered(number);
        let header = again.metadata.header_id.clone().unwrap();
        let verdict = store.verdict(&again.metadata, again.identity.clone()).await.unwrap();
        let filter = MessageFilter { header_id: Some(header), ..Default::default() };
        let found = store.list_messages(&filter, None, 10).await.unwrap().items;
        match known {
            Some((id, is_given_up)) => {
                let expected = if *is_given_up { Verdict::New } else { Verdict::Duplicate(*id) };
                assert_eq!(verdict, expected, "message {number}");
                assert_eq!(found.iter().map(|one| one.metadata.id).collect::<Vec<_>>(), [*id], "message {number}");
            }
            None => assert_eq!((verdict, found.len()), (Verdict::New, 0), "message {number}"),
        }
    }
    assert_eq!(with_source(fixture).await, model.iter().flatten().count().min(100));
    // Nothing that was deleted is left, in either table or in memory.
    let core = store.core();
    for _ in 0..1100 {
        core.move_references().await.unwrap();
    }
    let dangling = "SELECT count(*) FROM (SELECT message_k FROM reference UNION ALL \
                    SELECT j.value->>4 FROM reference_log CROSS JOIN json_each(change, '$.add') AS j UNION ALL SELECT message_k FROM term) \
                    WHERE message_k NOT IN (SELECT k FROM message)";
    let row = sqlx::query(dangling).fetch_one(&core.readers).await.unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn references_are_found_wherever_they_are_and_deleted_with_their_messages(steps in steps()) {
        if crate::testing::postgres::is_chosen() {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test]
async fn moved_rows_are_deleted_from_the_log() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    for number in 0..20 {
        fixture.accept_new(numbered(number)).await;
    }
    let core = fixture.store.core();
    let counts = async || {
        let both = "SELECT (SELECT count(*) FROM reference), \
                    (SELECT count(*) FROM reference_log CROSS JOIN json_each(change, '$.add'))";
        let row = sqlx::query(both).fetch_one(&core.readers).await.unwrap();
        (sqlx::Row::get::<i64, _>(&row, 0), sqlx::Row::get::<i64, _>(&row, 1))
    };
    let (moved, recent) = counts().await;
    assert_eq!(moved, 0);
    for _ in 0..513 {
        core.move_references().await.unwrap();
    }
    assert_eq!(counts().await, (recent, 0));
}

/// Makes commits of the writer's connection fail while `may_commit` returns false, as a full disk does.
async fn fail_commits(fixture: &Fixture, may_commit: impl FnMut() -> bool + Send + 'static) {
    let mut writer = fixture.store.core().writer.lock().await;
    writer.conn.lock_handle().await.unwrap().set_commit_hook(may_commit);
}

#[tokio::test]
async fn a_slice_that_moves_is_found_before_during_and_after_its_commit() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    fixture.accept_new(to("lab", 1, numbered(1))).await;
    let core = fixture.store.core();
    let hash = reference::hash("header-1");
    let (recent, missed) = (core.recent.clone(), std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let counted = missed.clone();
    // While the slice is moved and not committed, readers do not see it in its table.
    fail_commits(&fixture, move || {
        let count = usize::from(recent.messages(hash, &[], 9).is_empty());
        counted.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        count == 0
    })
    .await;
    let is_moved = async || {
        let row =
            sqlx::query("SELECT count(*) FROM reference WHERE hash = ?").bind(hash).fetch_one(&core.readers).await;
        sqlx::Row::get::<i64, _>(&row.unwrap(), 0) > 0
    };
    for _ in 0..512 {
        if is_moved().await {
            break;
        }
        // A failed transaction is corrected by the next one.
        let _ = core.move_references().await;
        assert_eq!(fixture.store.sent_requests("lab", "header-1").await.unwrap().deliveries.len(), 1);
    }
    assert_eq!(missed.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_identity_is_released_only_by_a_commit() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let new = numbered(1);
    let id = new.metadata.id;
    fixture.accept_new(new).await;
    fixture.accept_new(numbered(2)).await;
    fail_commits(&fixture, || false).await;
    let at_us = fixture.clock.now_us() + 40 * DAY_US;
    for days in [
        RetentionDays { bodies: 0, traces: 0, identities: 30, dead_letters: 1 },
        RetentionDays { bodies: 0, traces: 35, identities: 0, dead_letters: 1 },
    ] {
        fixture.store.sweep(at_us, days, 10).await.unwrap_err();
        let again = numbered(1);
        let verdict = fixture.store.verdict(&again.metadata, again.identity.clone()).await.unwrap();
        assert_eq!(verdict, Verdict::Duplicate(id));
    }
}

async fn with_source(fixture: &Fixture) -> usize {
    let filter = MessageFilter { source: Some("https://clinic.example/fhir".into()), ..Default::default() };
    fixture.store.list_messages(&filter, None, 100).await.unwrap().items.len()
}

#[tokio::test]
async fn a_search_finds_all_messages_after_writing_terms_failed() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    fixture.accept_new(numbered(1)).await;
    // Both the message and the terms of a search fail, as on a full disk.
    fail_commits(&fixture, || false).await;
    fixture.store.accept(numbered(2)).await.unwrap_err();
    assert_eq!(with_source(&fixture).await, 1);
    fail_commits(&fixture, || true).await;
    fixture.accept_new(numbered(3)).await;
    assert_eq!(with_source(&fixture).await, 2);
    let fixture = fixture.reopen().await;
    assert_eq!(with_source(&fixture).await, 2);
}

#[tokio::test]
async fn a_search_finds_messages_whose_keys_were_lost_with_a_failure_before_a_restart() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let (_, work) = fixture.accept_new(to("lab", 1, numbered(1))).await;
    fail_commits(&fixture, || false).await;
    fixture.store.accept(numbered(2)).await.unwrap_err();
    fail_commits(&fixture, || true).await;
    assert_eq!(with_source(&fixture).await, 1);
    fixture.store.settle(settlement(work[0].delivery_key, DeliveryState::Delivered, None)).await.unwrap();
    assert_eq!(with_source(&fixture).await, 1);
    // Keys continue from the newest message, so that the lost one is assigned again.
    let fixture = fixture.reopen().await;
    fixture.accept_new(numbered(3)).await;
    assert_eq!(with_source(&fixture).await, 2);
}

#[tokio::test]
async fn rows_that_short_runs_left_are_moved_at_once() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    fixture.accept_new(numbered(0)).await;
    {
        let mut writer = fixture.store.core().writer.lock().await;
        // Hashes in all slices.
        let many = "WITH RECURSIVE n (value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n LIMIT 500000) \
                    INSERT INTO reference_log (change) SELECT json_object('add', json_group_array( \
                    json_array((value - 250000) * 36893488147419, 0, 1000 + value, 0, 1))) FROM n GROUP BY value / 1000";
        sqlx::query(many).execute(&mut writer.conn).await.unwrap();
    }
    let fixture = fixture.reopen().await;
    let recent = async || {
        let query = sqlx::query("SELECT count(*) FROM reference_log WHERE k <= 501");
        let row = query.fetch_one(&fixture.store.core().readers).await.unwrap();
        sqlx::Row::get::<i64, _>(&row, 0)
    };
    assert_eq!(recent().await, 501);
    for number in 1..520 {
        fixture.accept_new(numbered(number)).await;
    }
    assert_eq!(recent().await, 0);
    assert!(matches!(fixture.store.accept(numbered(0)).await.unwrap(), Acceptance::Duplicate { .. }));
}

#[tokio::test]
async fn a_store_with_unwritten_terms_starts_on_a_full_disk() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    fixture.accept_new(numbered(1)).await;
    let run = async |fixture: &Fixture, sql: &'static str| {
        sqlx::query(sql).execute(&mut fixture.store.core().writer.lock().await.conn).await.unwrap();
    };
    let full = "CREATE TRIGGER full BEFORE INSERT ON term BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    run(&fixture, full).await;
    let fixture = fixture.reopen().await;
    assert_eq!(with_source(&fixture).await, 1);
    fixture.accept_new(numbered(2)).await;
    run(&fixture, "DROP TRIGGER full").await;
    assert_eq!(with_source(&fixture).await, 2);
    let fixture = fixture.reopen().await;
    assert_eq!(with_source(&fixture).await, 2);
}

#[tokio::test]
async fn an_identity_that_is_released_while_its_slice_moves_stays_released() {
    sqlite_only!();
    for moving in ["bundle-1", "header-1"] {
        let fixture = Fixture::new().await;
        let (_, work) = fixture.accept_new(to("lab", 1, numbered(1))).await;
        fixture.store.core().recent.make_due(reference::hash(moving));
        let mut answer = answer("lab", "answer", 2);
        answer.releases_request = true;
        let settled = settlement(work[0].delivery_key, DeliveryState::Answered, Some(answer));
        fixture.store.settle(settled).await.unwrap();
        assert!(matches!(fixture.store.accept(numbered(1)).await.unwrap(), Acceptance::New { .. }), "{moving} moves");
        let fixture = fixture.reopen().await;
        let sql = "SELECT count(*) FROM reference WHERE hash = ? AND sender <> 0";
        let row =
            sqlx::query(sql).bind(reference::hash(moving)).fetch_one(&fixture.store.core().readers).await.unwrap();
        assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), 0, "{moving} moves");
    }
}

//! The log moves into the database file beside the writer, and terms are written in slices with the batches.

use super::*;
use crate::store::terms;
use sqlx::Row;
use std::time::Duration;

const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Bodies of 25 pages: more in all than the log may have before it is moved, and far fewer than the writer moves itself.
const BODY_BYTES: usize = 100_000;
const MESSAGES: usize = 200;
const WRITTEN_PAGES: i64 = 4_900;

/// Pages of the log, and how many of them are in the database file.
async fn log(fixture: &Fixture) -> (i64, i64) {
    let conn = &mut fixture.store.core().writer.lock().await.conn;
    let row = sqlx::query("PRAGMA wal_checkpoint(NOOP)").fetch_one(conn).await.unwrap();
    (row.get(1), row.get(2))
}

/// Accepts messages whose bodies cannot be compressed.
async fn lengthen_log(fixture: &Fixture) {
    for number in 0..MESSAGES {
        let random = std::iter::repeat_with(|| Uuid::new_v4().into_bytes()).flatten();
        let bytes = random.take(BODY_BYTES).collect::<Vec<_>>();
        fixture.accept_new(NewMessage { bytes: bytes.into(), ..numbered(number) }).await;
    }
}

/// Waits until the whole log is in the database file, unless a later commit has begun it anew.
async fn moved(fixture: &Fixture) {
    let done = tokio::time::timeout(WAIT_LIMIT, async {
        while !matches!(log(fixture).await, (pages, moved) if pages == moved || pages < WRITTEN_PAGES) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    done.await.expect("the log is moved");
}

#[tokio::test]
async fn a_long_log_is_moved_by_itself_and_begins_anew_with_the_next_commit() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    lengthen_log(&fixture).await;
    moved(&fixture).await;
    fixture.accept_new(numbered(MESSAGES)).await;
    assert!(log(&fixture).await.0 < WRITTEN_PAGES, "{:?}", log(&fixture).await);
}

#[tokio::test]
async fn a_reader_of_an_old_state_delays_the_move_and_nothing_else() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    fixture.accept_new(numbered(MESSAGES)).await;
    let mut reader = fixture.store.core().readers.begin().await.unwrap();
    let count = async |reader: &mut sqlx::SqliteConnection| {
        sqlx::query("SELECT count(*) FROM message").fetch_one(reader).await.unwrap().get::<i64, _>(0)
    };
    assert_eq!(count(&mut reader).await, 1);
    lengthen_log(&fixture).await;
    assert_eq!(count(&mut reader).await, 1);
    let (pages, moved_pages) = log(&fixture).await;
    assert!(pages > WRITTEN_PAGES && moved_pages < pages, "{moved_pages} of {pages}");
    reader.rollback().await.unwrap();
    moved(&fixture).await;
}

#[tokio::test]
async fn terms_are_complete_if_a_batch_fails_while_slices_of_them_are_written() {
    sqlite_only!();
    let fixture = Fixture::new().await;
    let core = fixture.store.core();
    let sources = async || {
        let query = sqlx::query("SELECT count(*) FROM term WHERE hash = ?");
        let row = query.bind(terms::source("https://clinic.example/fhir")).fetch_one(&core.readers).await.unwrap();
        row.get::<i64, _>(0)
    };
    let mut accepted = 0;
    // The first slice is written with the batch that completes a round of messages.
    while sources().await == 0 {
        fixture.accept_new(numbered(accepted)).await;
        accepted += 1;
    }
    let written = sources().await;
    assert!(written < accepted as i64, "a slice has not all of {accepted} terms");
    let fail = async |fails: bool| {
        core.writer.lock().await.conn.lock_handle().await.unwrap().set_commit_hook(move || !fails);
    };
    fail(true).await;
    fixture.store.accept(message("clinic", "lost", "lost", 7)).await.unwrap_err();
    fail(false).await;
    for number in accepted..accepted + 100 {
        fixture.accept_new(numbered(number)).await;
    }
    core.write_terms().await.unwrap();
    assert_eq!(sources().await, accepted as i64 + 100);
}

//! What `emberpost store check` finds in a damaged store, in SQLite and in PostgreSQL.

use std::path::Path;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::harness::postgres::{is_chosen, shared};
use crate::harness::{NodeConfig, Party, Sample, program};

/// Runs SQL on the store of a node that was stopped.
async fn change(store: &Path, sql: &str) {
    if is_chosen() {
        shared().run_at(store, sql);
        return;
    }
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(store).connect().await.unwrap();
    let changed = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    assert_eq!(changed.rows_affected(), 1, "{sql}");
    connection.close().await.unwrap();
}

/// Replaces a byte in the middle of the first body, which is stored as received.
fn flip() -> &'static str {
    if is_chosen() {
        "UPDATE body SET bytes = set_byte(bytes, position('Bundle'::bytea in bytes), 90) WHERE message_k = (SELECT min(message_k) FROM body)"
    } else {
        "UPDATE body SET bytes = CAST(replace(CAST(bytes AS TEXT), 'Bundle', 'BundlE') AS BLOB) \
         WHERE message_k = (SELECT min(message_k) FROM body)"
    }
}

fn miscount() -> &'static str {
    if is_chosen() {
        "INSERT INTO participant_count (participant, slot, waiting, dead) SELECT k, 99, 1, 0 FROM participant WHERE id = 'box'"
    } else {
        "UPDATE participant SET waiting = waiting + 1 WHERE id = 'box'"
    }
}

#[tokio::test]
async fn a_flipped_byte_a_row_without_its_message_a_broken_link_and_a_wrong_counter_are_found() {
    let mut node = NodeConfig::with_sender().participant(Party::new("box").mailbox()).start().await;
    for _ in 0..3 {
        let message = Sample::new().addressed_to("box");
        assert!(message.bytes().len() < 1000, "it is stored without compression");
        node.post(message.bytes()).await.expect_status(202);
    }
    assert!(node.terminate().await.success());
    let store = crate::harness::config::store_url(&node.store_path());
    let run = || {
        let output = program(node.folder()).args(["store", "check", "--store", &store]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let checked = text.lines().filter_map(|line| line.strip_suffix(" wrong")?.rsplit(' ').next()?.parse().ok());
        (output.status.code(), checked.collect::<Vec<usize>>(), text)
    };
    let check = |code: i32, wrong: [usize; 4]| {
        let (found, checked, text) = run();
        assert_eq!((found, checked.as_slice()), (Some(code), &wrong[..]), "{text}");
        text
    };
    check(0, [0, 0, 0, 0]);

    change(&node.store_path(), flip()).await;
    let text = check(1, [1, 0, 0, 0]);
    assert!(text.contains("its body does not have the hash that was stored with it"), "{text}");

    change(&node.store_path(), "UPDATE delivery SET prev_seq = NULL WHERE seq = (SELECT max(seq) FROM delivery)").await;
    let text = check(1, [1, 0, 1, 0]);
    assert!(text.contains("it has no link, and"), "{text}");

    change(&node.store_path(), miscount()).await;
    let text = check(1, [1, 0, 1, 1]);
    assert!(text.contains("participant box: counters say 4 waiting and 0 dead, and there are 3 and 0"), "{text}");

    change(&node.store_path(), "DELETE FROM message WHERE k = (SELECT max(k) FROM message)").await;
    let (code, wrong, text) = run();
    // Its body and its delivery, and in PostgreSQL also what it is found by, which SQLite writes later.
    assert!(code == Some(1) && wrong[1] >= 2, "{text}");
    assert!(
        text.contains("delivery k ") && text.contains("its message_k names a row that is not in message"),
        "{text}"
    );
}

#[tokio::test]
async fn a_backup_is_verified_where_it_is_and_can_still_be_restored() {
    crate::harness::sqlite_only!();
    let mut node = NodeConfig::with_sender().participant(Party::new("box").mailbox()).start().await;
    node.post(Sample::new().addressed_to("box").bytes()).await.expect_status(202);
    let folder = node.folder().to_owned();
    let run = |arguments: &[&str]| {
        let output = program(&folder).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let store = ["--store", "sqlite:store.db"];
    let (code, text) = run(&["store", "check", store[0], store[1]]);
    assert!(code == Some(2) && text.contains("in use by another emberpost"), "{text}");
    assert_eq!(run(&["store", "backup", "monday.db", store[0], store[1]]).0, Some(0));
    node.kill9();
    let (code, text) = run(&["store", "check", "--store", "monday.db"]);
    assert!(code == Some(0) && text.contains("the store is sound"), "{text}");
    let (code, text) = run(&["store", "restore", "monday.db", store[0], store[1]]);
    assert_eq!(code, Some(0), "{text}");
}

//! Readiness says what a message would meet: no room, a lock that another process holds.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection};

use crate::harness::{Node, NodeConfig, SOON, Sample, wait_until};
use crate::limits::SmallDisk;

/// A probe comes each second; a lock must have been held for more than two.
const NOTICED: Duration = Duration::from_secs(30);

async fn becomes(node: &Node, status: u16, store: &str) {
    wait_until(NOTICED, &format!("readiness says {status}, store {store}"), async || {
        let reply = node.get("/health/ready").await;
        reply.status == status && reply.json()["store"] == store
    })
    .await;
}

#[tokio::test]
async fn with_a_full_disk_the_router_is_not_ready_until_there_is_room_again() {
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: a full disk needs the right to mount a tmpfs, which this user does not have");
        return;
    };
    let url = toml::Value::String(format!("sqlite:{}", disk.path().join("store.db").display()));
    let node = NodeConfig::with_sender().store(&format!("url = {url}")).start().await;
    let ballast = disk.path().join("ballast");
    // Writes until nothing more fits.
    assert!(std::fs::write(&ballast, vec![1; 64 * 1024 * 1024]).is_err(), "the disk is small");

    becomes(&node, 503, "full").await;
    let message = Sample::new().padded(200_000).bytes();
    node.post(message.clone()).await.expect_status(503);
    std::fs::remove_file(&ballast).unwrap();

    becomes(&node, 200, "ready").await;
    assert!(node.post(message).await.status < 300);
}

#[tokio::test]
async fn while_another_process_holds_the_write_lock_the_router_is_not_ready() {
    crate::harness::sqlite_only!();
    let node = NodeConfig::with_sender().start().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(node.store_path());
    let mut other = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();

    becomes(&node, 503, "away").await;
    node.post(Sample::new().bytes()).await.expect_status(503);
    assert_eq!(node.get("/health/ready").await.expect_status(503).json()["store"], "away");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();

    becomes(&node, 200, "ready").await;
    assert!(node.post(Sample::new().bytes()).await.status < 300);
}

#[tokio::test]
async fn readiness_answers_at_once_while_messages_wait_for_the_lock() {
    crate::harness::sqlite_only!();
    let node = NodeConfig::with_sender().start().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(node.store_path());
    let mut other = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let posting = tokio::spawn(node.posting(Sample::new().bytes()).send());
    becomes(&node, 503, "away").await;
    assert!(!posting.is_finished(), "the message waits for the lock still");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let reply = tokio::time::timeout(SOON, posting).await.unwrap().unwrap().unwrap();
    assert!(reply.status().as_u16() < 300);
}

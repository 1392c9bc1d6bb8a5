//! The router on a PostgreSQL server whose disk is full: what it acknowledged is kept, what it cannot keep is refused, and it goes on
//! by itself when there is room.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::postgres::Server;
use crate::harness::{Node, Peer, SOON, Sample, wait_until};
use crate::limits::{SmallDisk, assert_no_store, is_kept, large};
use crate::postgres_faults::{DATABASE, config, is_no_store, needs_postgres, url_of};

/// The server has its tables and those of the store on a disk of this size, or its write-ahead log.
const TABLES_MEBIBYTES: usize = 64;
const LOG_MEBIBYTES: usize = 16;
/// A short log, which soon needs further segments.
const SHORT_LOG: [&str; 2] = ["min_wal_size=2MB", "max_wal_size=8MB"];

/// Two disks, the first for tables. None where the test may not mount.
fn disks() -> Option<(SmallDisk, SmallDisk)> {
    let disks = SmallDisk::mount_of(TABLES_MEBIBYTES).zip(SmallDisk::mount_of(LOG_MEBIBYTES));
    if disks.is_none() {
        println!("SKIPPED: a full disk needs the right to mount a tmpfs, which this user does not have");
    }
    disks
}

/// Fills a disk until nothing more fits.
fn fill(disk: &Path) -> PathBuf {
    let ballast = disk.join("ballast");
    assert!(std::fs::write(&ballast, vec![1; (2 * TABLES_MEBIBYTES) << 20]).is_err(), "the disk is small");
    ballast
}

async fn is_ready(node: &Node, status: u16) -> bool {
    node.get("/health/ready").await.status == status
}

/// Sends messages that need room until one is refused. Returns those that were accepted, and the refused one.
async fn send_until_refused(node: &Node) -> (Vec<Sample>, Sample) {
    let mut accepted = Vec::new();
    loop {
        let message = large();
        let reply = node.post(message.bytes()).await;
        if reply.status >= 300 {
            assert_no_store(&reply);
            return (accepted, message);
        }
        accepted.push(message);
        assert!(accepted.len() < 500, "the disk never fills");
    }
}

/// There is room: everything that was acknowledged is there and delivered, and what was refused is accepted as new.
async fn goes_on(node: &Node, lab: &Peer, accepted: &[Sample], refused: &Sample) {
    wait_until(SOON * 3, "it is ready again", async || is_ready(node, 200).await).await;
    let again = node.post(refused.bytes()).await;
    assert!(matches!(again.status, 200 | 202), "{}", again.text());
    assert_eq!(again.header("emberpost-repeat"), None, "a refusal left no identity");
    for message in accepted.iter().chain([refused]) {
        assert!(is_kept(node, message).await, "acknowledged, and not in the store");
        let bytes = message.bytes();
        let is_delivered = async || lab.received().iter().any(|received| received.body == bytes);
        wait_until(SOON, "what was acknowledged is delivered", is_delivered).await;
    }
    let waits = async || node.admin("deliveries?state=waiting").await["items"].as_array().map(Vec::len);
    wait_until(SOON * 3, "every delivery is settled", async || waits().await == Some(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_its_tables_messages_are_refused_and_the_router_is_not_ready_until_there_is_room() {
    needs_postgres!();
    let Some((tables, log)) = disks() else { return };
    let server = Server::start_on_two_disks(tables.path(), log.path(), &SHORT_LOG);
    let lab = Peer::ok().await;
    let node = config(&url_of(&server), &lab).start().await;
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    // A later probe could overwrite what the first one wrote.
    let has_probed = async || server.run_at(DATABASE.as_ref(), "SELECT count(*) FROM probe") == "1";
    wait_until(SOON, "the first probe has written", has_probed).await;
    let ballast = fill(tables.path());

    let (accepted, refused) = send_until_refused(&node).await;

    wait_until(SOON, "readiness says full", async || {
        let reply = node.get("/health/ready").await;
        reply.status == 503 && reply.json()["store"] == "full"
    })
    .await;
    // A probe comes each second: what must not happen is given the time of several.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(is_ready(&node, 503).await, "a probe found room where there is none");
    }
    assert_no_store(&node.post(large().bytes()).await);
    node.get("/health/live").await.expect_status(200);
    assert!(!node.admin("messages").await["items"].as_array().unwrap().is_empty(), "reading needs no room");
    std::fs::remove_file(ballast).unwrap();

    goes_on(&node, &lab, &accepted, &refused).await;
}

/// PostgreSQL ends when it cannot write its log, and does not start again by itself before there is room.
#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_its_log_the_server_ends_and_the_router_goes_on_when_it_is_back() {
    needs_postgres!();
    let Some((tables, log)) = disks() else { return };
    let server = Server::start_on_two_disks(tables.path(), log.path(), &SHORT_LOG);
    let lab = Peer::ok().await;
    let node = config(&url_of(&server), &lab).start().await;
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    let ballast = fill(log.path());

    let (accepted, refused) = send_until_refused(&node).await;

    assert!(server.log().contains("No space left on device"), "{}", server.log());
    wait_until(SOON * 3, "it is not ready", async || is_ready(&node, 503).await).await;
    assert!(is_no_store(&node.post(large().bytes()).await));
    node.get("/health/live").await.expect_status(200);
    std::fs::remove_file(ballast).unwrap();
    server.start_if_ended();

    goes_on(&node, &lab, &accepted, &refused).await;
}

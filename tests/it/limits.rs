//! At the limits: no room, no place, no time, one store for two. What was acknowledged stays, and the rest is told why.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::json;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use crate::bad_input::assert_faults;
use crate::harness::config::store_url;
use crate::harness::raw::{RawConnection, half_a_body};
use crate::harness::{Answer, Gate, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_until};

const LARGE_BYTES: usize = 100_000;

fn with_lab(lab: &Peer) -> NodeConfig {
    let lab = Party::new("lab").at(lab).with("retry_schedule_seconds = [1]").with("order = \"none\"");
    NodeConfig::with_sender().participant(lab).server("answer_timeout_ms = 300")
}

/// Not kept, the operator must make room, and when to come again.
#[track_caller]
pub fn assert_no_store(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.faults(), ["ROUTE_NO_STORE"]);
    assert_eq!(reply.issue_codes(), ["no-store"]);
    assert!(reply.header("retry-after").is_some());
}

/// A small disk, until it is dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Of 8 MiB. None where the test may not mount.
    pub fn mount() -> Option<SmallDisk> {
        SmallDisk::mount_of(8)
    }

    pub fn mount_of(mebibytes: usize) -> Option<SmallDisk> {
        let folder = TempDir::with_prefix("emberpost-it-disk-").unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "emberpost-it"]).arg(folder.path());
        let done = mount.output().is_ok_and(|output| output.status.success());
        done.then(|| SmallDisk(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Does not compress, so that the store needs all of its bytes; about `LARGE_BYTES`.
pub fn large() -> Sample {
    let sample = Sample::new().addressed_to("lab");
    let mut state = u64::from_le_bytes(sample.bundle_id().as_bytes()[28..].try_into().unwrap());
    let letters = (0..LARGE_BYTES).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 58) as u8)
    });
    let name: String = letters.filter(|letter| *letter != '\\').collect();
    sample.set("/entry/1/resource/name/0/family", json!(name))
}

pub async fn is_kept(node: &Node, message: &Sample) -> bool {
    let found = node.admin(&format!("messages?bundle_id={}&sender=sender", message.bundle_id())).await;
    let Some(id) = found["items"][0]["id"].as_str().map(str::to_owned) else { return false };
    node.get(&format!("/admin/v1/messages/{id}/content")).await.expect_status(200).body == message.bytes()
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_loses_nothing_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: a full disk needs the right to mount a tmpfs, which this user does not have");
        return;
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 4 * 1024 * 1024]).unwrap();
    let lab = Peer::ok().await;
    let url = toml::Value::String(format!("sqlite:{}", disk.path().join("store.db").display()));
    let node = with_lab(&lab).store(&format!("url = {url}")).start().await;

    let mut acknowledged = Vec::new();
    let refused = loop {
        let message = large();
        let reply = node.post(message.bytes()).await;
        if reply.status >= 300 {
            break (reply, message);
        }
        assert!(acknowledged.len() < 100, "the disk never fills");
        acknowledged.push(message);
    };
    assert!(!acknowledged.is_empty());
    assert_no_store(&refused.0);
    for _ in 0..3 {
        assert_no_store(&node.post(large().bytes()).await);
    }
    node.get("/health/live").await.expect_status(200);
    assert!(!node.admin("messages").await["items"].as_array().unwrap().is_empty());
    assert!(is_kept(&node, &acknowledged[0]).await);

    std::fs::remove_file(&ballast).unwrap();

    wait_until(SOON, "messages are taken again", async || matches!(node.post(large().bytes()).await.status, 200 | 202))
        .await;
    let again = node.post(refused.1.bytes()).await;
    assert!(matches!(again.status, 200 | 202), "{}", again.text());
    assert_eq!(again.header("emberpost-repeat"), None, "a refusal left no identity");
    for message in &acknowledged {
        assert!(is_kept(&node, message).await, "acknowledged, and not in the store");
        wait_until(SOON, "what was acknowledged is delivered", async || {
            lab.received().iter().any(|received| received.body == message.bytes())
        })
        .await;
    }
    wait_until(SOON, "every delivery is settled", async || {
        node.admin("deliveries?state=waiting").await["items"] == json!([])
    })
    .await;
}

/// Each commit writes the same index pages again: a log of 16 MiB would fill the disk after a hundred small messages.
#[tokio::test]
async fn on_a_small_disk_the_log_leaves_room_for_messages() {
    crate::harness::sqlite_only!();
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: a small disk needs the right to mount a tmpfs, which this user does not have");
        return;
    };
    let url = toml::Value::String(format!("sqlite:{}", disk.path().join("store.db").display()));
    let lab = Peer::ok().await;
    let node = with_lab(&lab).store(&format!("url = {url}")).start().await;

    let mut written_bytes = 0;
    for _ in 0..300 {
        let message = Sample::new().addressed_to("lab").bytes();
        written_bytes += message.len();
        let reply = node.post(message).await;
        assert!(matches!(reply.status, 200 | 202), "after {written_bytes} bytes: {}", reply.text());
    }
}

#[tokio::test]
async fn below_min_free_bytes_nothing_new_is_taken_and_deliveries_go_on() {
    crate::harness::sqlite_only!();
    let mut lab = Peer::ok().await;
    lab.down().await;
    let mut node = with_lab(&lab).start().await;
    let kept = Sample::new().addressed_to("lab");
    node.post(kept.bytes()).await.expect_status(202);
    // The key is read at start.
    node.reload(with_lab(&lab).store("min_free_bytes = 9_000_000_000_000_000"));
    node.restart_unready().await;

    assert_eq!(node.get("/health/ready").await.expect_status(503).json()["store"], "full");
    assert_no_store(&node.post(Sample::new().addressed_to("lab").bytes()).await);
    assert_no_store(&node.post(kept.bytes()).await);
    lab.up().await;

    assert_eq!(lab.wait_for(1, SOON).await[0].body, kept.bytes());
    wait_until(SOON, "the delivery is settled", async || {
        node.admin("deliveries").await["items"][0]["state"] == "answered"
    })
    .await;
    assert_eq!(node.admin("messages?sender=sender").await["items"].as_array().map(Vec::len), Some(1));
}

fn store_at(url: String) -> NodeConfig {
    NodeConfig::with_sender().store(&format!("url = {}", toml::Value::String(url)))
}

#[tokio::test]
async fn a_second_router_on_the_same_store_refuses_to_start_and_says_why() {
    let first = NodeConfig::with_sender().start().await;
    let second = store_at(store_url(&first.store_path())).try_start().await;
    let failure = second.err().expect("two routers on one store");
    assert_eq!(failure.exit_code, Some(2));
    assert!(failure.log.contains("in use by another emberpost"), "{}", failure.log);
    assert!(failure.log.contains("store"), "{}", failure.log);
    first.post(Sample::new().to(&first.url("/fhir")).bytes()).await.expect_status(200);
}

#[tokio::test]
async fn an_older_program_refuses_a_newer_store_and_names_both_versions() {
    crate::harness::sqlite_only!();
    let mut node = NodeConfig::with_sender().start().await;
    assert!(node.terminate().await.success());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(node.store_path());
    let mut connection = options.connect().await.unwrap();
    sqlx::query("PRAGMA user_version = 4711").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let failure =
        store_at(store_url(&node.store_path())).try_start().await.err().expect("an older program on a newer store");

    assert_eq!(failure.exit_code, Some(2));
    for named in ["schema version 4711", "up to ", env!("CARGO_PKG_VERSION")] {
        assert!(failure.log.contains(named), "{named}: {}", failure.log);
    }
}

#[tokio::test]
async fn a_store_that_is_no_database_is_refused_and_left_as_it_is() {
    let folder = TempDir::with_prefix("emberpost-it-").unwrap();
    let path = folder.path().join("notes.db");
    let notes = "not a database at all. ".repeat(1_000);
    std::fs::write(&path, &notes).unwrap();
    let failure =
        store_at(format!("sqlite:{}", path.display())).try_start().await.err().expect("a store that is no database");
    assert_eq!(failure.exit_code, Some(2));
    assert!(failure.log.contains("notes.db"), "{}", failure.log);
    assert_eq!(std::fs::read_to_string(path).unwrap(), notes);
}

#[tokio::test]
async fn beyond_max_in_flight_a_message_is_told_to_come_again() {
    let lab = Peer::ok().await;
    let node = with_lab(&lab).server("max_in_flight = 1").start().await;
    // Where the whole message comes first, the half one is refused: then both try again.
    let (half, busy) = crate::harness::wait_for(SOON, "the one place is taken", async || {
        let half = half_a_body(node.address(), &Sample::new().addressed_to("lab").bytes()).await;
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await;
        (reply.status != 200).then_some((half, reply))
    })
    .await;
    let busy = busy.expect_status(503);
    assert_eq!(busy.faults(), ["ROUTE_BUSY"]);
    assert_faults(&busy);
    assert!(busy.header("retry-after").is_some());
    node.get("/health/ready").await.expect_status(200);

    half.hang_up();

    wait_until(SOON, "the place is free again", async || {
        node.post(Sample::new().addressed_to("lab").bytes()).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_sender_that_waits_for_its_answer_holds_no_place() {
    let gate = Gate::closed();
    let lab = Peer::answering(Answer::Ok.behind(&gate)).await;
    let node = with_lab(&lab).server("max_in_flight = 1").server("answer_timeout_ms = 30000").start().await;
    let post = async || node.post(Sample::new().addressed_to("lab").bytes()).await;
    let (first, second, ()) = tokio::join!(
        post(),
        async {
            lab.wait_for(1, SOON).await;
            post().await
        },
        async {
            lab.wait_for(2, SOON).await;
            gate.open();
        }
    );
    assert_eq!((first.status, second.status), (200, 200), "{}", second.text());
}

#[tokio::test]
async fn beyond_max_waiting_a_sender_gets_202_at_once() {
    let gate = Gate::closed();
    let lab = Peer::answering(Answer::Ok.behind(&gate)).await;
    // Half of the places, one, may wait for one receiver.
    let node = with_lab(&lab).server("max_waiting = 2").server("answer_timeout_ms = 60000").start().await;
    let (first, ()) = tokio::join!(node.post(Sample::new().addressed_to("lab").bytes()), async {
        lab.wait_for(1, SOON).await;
        let start = Instant::now();
        let second = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(202);
        assert!(second.header("content-location").is_some());
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        lab.wait_for(2, SOON).await;
        gate.open();
    });
    assert_eq!(first.expect_status(200).response_code().as_deref(), Some("ok"));
}

#[tokio::test]
async fn headers_that_never_end_hold_nobody_up() {
    let lab = Peer::ok().await;
    let node = with_lab(&lab).server("max_in_flight = 4").start().await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut connection = RawConnection::open(node.address()).await;
        connection.send(b"POST /fhir/$process-message HTTP/1.1\r\nHost: slow\r\nX-Slow: ").await;
        slow.push(connection);
    }
    for _ in 0..5 {
        node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    }
    for connection in &mut slow {
        connection.send(b"x").await;
    }
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
}

#[tokio::test]
async fn a_header_without_bound_is_refused() {
    let node = NodeConfig::with_sender().start().await;
    let mut connection = RawConnection::open(node.address()).await;
    connection.send(b"POST /fhir/$process-message HTTP/1.1\r\nHost: a\r\nX-Long: ").await;
    let piece = [b'x'; 64 * 1024];
    // The router stops reading, answers and closes long before 64 MiB.
    let mut pieces = 0;
    while pieces < 1024 && connection.send(&piece).await {
        pieces += 1;
    }
    assert!(pieces < 1024, "64 MiB of header were taken");
    node.get("/health/ready").await.expect_status(200);
}

#[tokio::test]
async fn sigterm_lets_attempts_end_and_waiting_senders_go_and_loses_nothing() {
    let gate = Gate::closed();
    let lab = Peer::answering(Answer::Ok.behind(&gate)).await;
    let mut down = Peer::ok().await;
    down.down().await;
    let config = NodeConfig::with_sender()
        .participant(Party::new("lab").at(&lab))
        .participant(Party::new("down").at(&down).with("retry_schedule_seconds = [1]"))
        .server("answer_timeout_ms = 60000");
    let mut node = config.start().await;
    let (answered, kept) = (Sample::new().addressed_to("lab"), Sample::new().addressed_to("down"));
    let post = |message: &Sample| {
        let request = node.posting(message.bytes());
        tokio::spawn(async move { Reply::of(request.send().await.expect("no reply while draining")).await })
    };
    let (to_lab, to_down) = (post(&answered), post(&kept));
    lab.wait_for(1, SOON).await;
    wait_until(SOON, "both messages are kept", async || {
        node.admin("messages?sender=sender").await["items"].as_array().map(Vec::len) == Some(2)
    })
    .await;

    node.signal("TERM");
    wait_until(SOON, "the router is stopping", async || node.log().contains("stopping")).await;

    for sender in [to_lab, to_down] {
        assert!(sender.await.unwrap().expect_status(202).header("content-location").is_some());
    }
    gate.open();
    let status = node.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", node.log());

    down.up().await;
    node.restart().await;
    assert_eq!(down.wait_for(1, SOON).await[0].body, kept.bytes());
    let repeat = node.post(answered.bytes()).await.expect_status(200);
    assert_eq!(repeat.header("emberpost-repeat"), Some("true"));
    assert_eq!(repeat.response_identifier(), Some(answered.header_id()));
    assert_eq!(lab.count(), 1, "the attempt under way ended within the grace");
}

#[tokio::test]
async fn sigterm_ends_an_attempt_at_its_timeout_and_the_next_start_makes_it_again() {
    let lab = Peer::answering(Answer::Hang).await;
    let party = Party::new("lab").at(&lab).with("attempt_timeout_seconds = 1").with("retry_schedule_seconds = [1]");
    let mut node = NodeConfig::with_sender().participant(party).server("answer_timeout_ms = 100").start().await;
    let message = Sample::new().addressed_to("lab");
    node.post(message.bytes()).await.expect_status(202);
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.log());
    let before = lab.count();
    lab.answer(Answer::Ok);
    node.restart().await;
    assert_eq!(lab.wait_for(before + 1, SOON).await[before].body, message.bytes());
}

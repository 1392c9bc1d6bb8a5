//! A wall clock that jumps: nothing expires, is forgotten, or is dropped by it until it is right again or confirmed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Node, NodeConfig, Party, Peer, SOON, Sample, free_address, program, wait_until};
use crate::limits::large;

/// Sweeps for what expired run each second: what must not happen is given the time of several.
const SEVERAL_SWEEPS: Duration = Duration::from_secs(4);

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// The library that moves a process's wall clock (Debian's package libfaketime); None where it is not installed.
pub fn library() -> Option<&'static str> {
    let found = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        println!("SKIPPED: moving a process's clock needs libfaketime");
    }
    found
}

/// A node whose wall clock is moved by what `set` writes, such as `+2d`.
async fn node(library: &str, lab: &Peer, folder: &Path) -> Node {
    let party = Party::new("lab").at(lab).with("expire_after_seconds = 86400").with("retry_schedule_seconds = [1]");
    NodeConfig::with_sender()
        .participant(party)
        .server("answer_timeout_ms = 100")
        .retention("bodies_days = 1")
        .retention("identities_days = 1")
        .variable("LD_PRELOAD", library)
        .variable("FAKETIME_TIMESTAMP_FILE", folder.join("time").to_str().unwrap())
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("DONT_FAKE_MONOTONIC", "1")
        .start()
        .await
}

pub fn set(folder: &Path, offset: &str) {
    fs::write(folder.join("time"), offset).unwrap();
}

async fn clock_is(node: &Node, status: &str, clock: serde_json::Value) {
    wait_until(SOON, &format!("readiness says {status}, clock {clock}"), async || {
        let ready = node.get("/health/ready").await.expect_status(200).json();
        ready["status"] == status && ready["clock"] == clock
    })
    .await;
}

async fn states(node: &Node) -> Vec<String> {
    let listed = node.admin("deliveries").await;
    listed["items"].as_array().unwrap().iter().map(|item| item["state"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_jump_of_the_wall_clock_expires_and_drops_nothing_and_ends_when_the_clock_returns() {
    let Some(library) = library() else { return };
    let time = tempfile::TempDir::with_prefix("emberpost-it-").unwrap();
    set(time.path(), "+0");
    let mut lab = Peer::ok().await;
    lab.down().await;
    let mut node = node(library, &lab, time.path()).await;
    let message = Sample::new().addressed_to("lab");
    node.post(message.bytes()).await.expect_status(202);

    set(time.path(), "+9d");
    clock_is(&node, "degraded", json!("jumped")).await;
    tokio::time::sleep(SEVERAL_SWEEPS).await;
    assert_eq!(states(&node).await, ["waiting"]);
    node.post(message.bytes()).await.expect_status(202);
    assert_eq!(states(&node).await, ["waiting"], "the repeat was recognized");
    let shown = node.command(&["clock"]);
    assert_eq!(shown.status.code(), Some(1), "{}", String::from_utf8_lossy(&shown.stdout));

    node.restart().await;
    clock_is(&node, "degraded", json!("jumped")).await;
    tokio::time::sleep(SEVERAL_SWEEPS).await;
    assert_eq!(states(&node).await, ["waiting"], "set ahead while it was down");

    set(time.path(), "+0");
    clock_is(&node, "ready", json!(null)).await;
    lab.up().await;
    assert_eq!(lab.wait_for(1, SOON).await[0].body, message.bytes());
    assert_eq!(node.command(&["clock"]).status.code(), Some(0));
}

#[tokio::test]
async fn an_operator_confirms_a_clock_that_was_set_right_and_what_is_old_expires() {
    let Some(library) = library() else { return };
    let time = tempfile::TempDir::with_prefix("emberpost-it-").unwrap();
    set(time.path(), "+0");
    let mut lab = Peer::ok().await;
    lab.down().await;
    let node = node(library, &lab, time.path()).await;
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(202);
    set(time.path(), "+9d");
    clock_is(&node, "degraded", json!("jumped")).await;

    let confirmed = node.command(&["clock", "confirm"]);
    assert_eq!(confirmed.status.code(), Some(0), "{}", String::from_utf8_lossy(&confirmed.stderr));

    clock_is(&node, "ready", json!(null)).await;
    wait_until(SOON, "the delivery expires", async || states(&node).await == ["dead"]).await;
}

#[tokio::test]
async fn a_clock_before_1970_is_an_error_at_start_and_no_panic_later() {
    let Some(library) = library() else { return };
    let folder = tempfile::TempDir::with_prefix("emberpost-it-").unwrap();
    let address = free_address().to_string();
    let mut command = program(folder.path());
    command.args(["serve", "--listen", &address]).env("LD_PRELOAD", library).env("FAKETIME", "1969-05-05 05:05:05");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("before 1970"), "{text}");

    set(folder.path(), "+0");
    let lab = Peer::ok().await;
    let node = node(library, &lab, folder.path()).await;
    set(folder.path(), "-70y");
    clock_is(&node, "degraded", json!("jumped")).await;
    let reply = node.post(Sample::new().addressed_to("lab").bytes()).await;
    assert!(reply.status < 300, "{}", reply.text());
}

#[tokio::test]
async fn a_limit_on_the_size_of_files_refuses_messages_and_ends_nothing() {
    crate::harness::sqlite_only!();
    let lab = Peer::ok().await;
    let node = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).start().await;
    let limit = |bytes: &str| {
        let pid = node.pid().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status();
        assert!(done.unwrap().success());
    };
    limit("1000000");
    let mut refused = 0;
    for _ in 0..30 {
        let reply = node.post(large().bytes()).await;
        assert!(matches!(reply.status, 200 | 202 | 503), "{}", reply.text());
        refused += u32::from(reply.status == 503);
    }
    assert!(refused > 0, "the limit was never reached");
    wait_until(SOON, "readiness names the store", async || {
        let reply = node.get("/health/ready").await;
        reply.status == 503 && reply.json()["store"] == "full"
    })
    .await;
    limit("unlimited");
    wait_until(SOON, "messages are accepted again", async || node.post(large().bytes()).await.status < 300).await;
}

//! Everything that goes wrong at once: few descriptors, more waiting senders than those, receivers that are gone with much to
//! get, a log that cannot be written, and a disk without room. Deliveries to others go on, and the causes have their names.
//!
//! Two minutes and a gigabyte of messages, so it is left out of every day's run:
//!
//!     cargo test --release --test it strain -- --ignored --nocapture

use std::process::Command;
use std::time::Duration;

use crate::harness::script::Answer;
use crate::harness::{Node, NodeConfig, Party, Peer, SOON, Sample, free_address, wait_for, wait_until};

const DESCRIPTORS: usize = 1024;
const WAITING_SENDERS: usize = 1100;
const DEAD_RECEIVERS: usize = 12;
const MESSAGES_EACH: usize = 80;
const MESSAGE_BYTES: usize = 1024 * 1024;
const MEMORY_LIMIT_KIB: u64 = 300 * 1024;
const LIMIT: Duration = Duration::from_secs(240);
/// Room on the disk below which nothing new is taken.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;
const DISK_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// A file system of a size of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None where the test may not mount.
    fn mount() -> Option<Disk> {
        let folder = tempfile::TempDir::with_prefix("emberpost-it-strain-").unwrap();
        let size = format!("size={DISK_BYTES}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "emberpost-it"]).arg(folder.path()).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Disk(folder))
    }

    /// Takes all room but a little less than the router wants to be free; the ballast goes with the disk.
    fn fill(&self) {
        let free = Command::new("df").args(["--output=avail", "-B1"]).arg(self.0.path()).output().unwrap();
        let free: u64 = String::from_utf8(free.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap();
        let length = (free - MIN_FREE_BYTES / 2).to_string();
        let ballast = self.0.path().join("ballast");
        assert!(Command::new("fallocate").args(["-l", &length]).arg(ballast).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn memory_kib(node: &Node, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Text that does not compress, so that the store holds all of it.
fn noise(seed: u64) -> String {
    let mut state = seed.wrapping_mul(2) + 1;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(state >> 58) as usize])
    };
    (0..MESSAGE_BYTES).map(letter).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes and a gigabyte; see the top of the file"]
async fn what_works_goes_on_while_everything_else_fails() {
    let Some(disk) = Disk::mount() else {
        println!("SKIPPED: needs the right to mount a tmpfs, which this user does not have");
        return;
    };
    // The test itself holds one end of all these connections.
    let own = std::process::id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &own, "--nofile=8192"]).status().unwrap().success());
    let (lab, slow) = (Peer::ok().await, Peer::answering(Answer::Hang).await);
    let mut config = NodeConfig::with_sender()
        .participant(Party::new("lab").at(&lab))
        .participant(Party::new("slow").at(&slow).with("concurrency = 1"))
        .server("answer_timeout_ms = 600000")
        .store(&format!("url = \"sqlite:{}\"", disk.0.path().join("store.db").display()))
        .store(&format!("min_free_bytes = {MIN_FREE_BYTES}"))
        .prelude(&format!("ulimit -Sn {DESCRIPTORS}; exec 2>/dev/full"));
    let gone: Vec<String> = (0..DEAD_RECEIVERS).map(|_| format!("http://{}/fhir", free_address())).collect();
    for (number, url) in gone.iter().enumerate() {
        config = config.participant(Party::new(&format!("gone-{number}")).url(url));
    }
    let node = config.start().await;

    for number in 0..DEAD_RECEIVERS * MESSAGES_EACH {
        let message = Sample::new()
            .addressed_to(&format!("gone-{}", number % DEAD_RECEIVERS))
            .set("/entry/1/resource/name/0/family", noise(number as u64).into());
        let request = node.posting(message.bytes()).header("prefer", "respond-async");
        node.ask(request).await.expect_status(202);
    }
    println!(
        "{DEAD_RECEIVERS} receivers are gone, each with {MESSAGES_EACH} MiB to get: {} KiB resident",
        memory_kib(&node, "VmRSS:")
    );

    let waiting: Vec<_> = (0..WAITING_SENDERS)
        .map(|_| {
            let request = node.posting(Sample::new().addressed_to("slow").bytes());
            tokio::spawn(async move { request.send().await.map(|reply| reply.status().as_u16()) })
        })
        .collect();
    wait_for(LIMIT, "every sender is stored, waits, or was refused for want of places", async || {
        let stats = node.admin("deliveries?participant=slow&limit=1").await;
        let waits = waiting.iter().filter(|one| !one.is_finished()).count();
        (!stats["items"].as_array().unwrap().is_empty() && waits > WAITING_SENDERS / 2).then_some(())
    })
    .await;

    // Others are served as if nothing were the matter.
    for _ in 0..20 {
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await;
        assert_eq!(reply.response_code().as_deref(), Some("ok"), "{} {}", reply.status, reply.text());
        node.get("/health/live").await.expect_status(200);
        node.get("/health/ready").await.expect_status(200);
    }
    let faults: Vec<String> = deliveries(&node, "gone-0").await;
    assert!(!faults.is_empty() && faults.iter().all(|fault| fault == "RECV_UNREACHABLE"), "{faults:?}");
    let (resident, peak) = (memory_kib(&node, "VmRSS:"), memory_kib(&node, "VmHWM:"));
    println!("{WAITING_SENDERS} senders wait: {resident} KiB resident, {peak} KiB at most");

    disk.fill();
    wait_until(SOON, "nothing new is taken, and readiness names the store", async || {
        let ready = node.get("/health/ready").await;
        let refused = node.post(Sample::new().addressed_to("lab").bytes()).await;
        ready.status == 503
            && ready.json()["store"] != "ready"
            && refused.status == 503
            && refused.faults() == ["ROUTE_NO_STORE"]
    })
    .await;
    node.get("/health/live").await.expect_status(200);
    // A receiver that comes back gets what waits for it, room or not.
    let attempts = slow.count();
    assert!(attempts > 0);
    let peak = memory_kib(&node, "VmHWM:");
    println!("the disk is full: {peak} KiB at most");
    if !cfg!(debug_assertions) {
        assert!(peak < MEMORY_LIMIT_KIB, "{peak} KiB");
    }
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The faults of the deliveries to a participant that were tried: the first of each lane.
async fn deliveries(node: &Node, participant: &str) -> Vec<String> {
    wait_for(SOON, "an attempt has failed", async || {
        let page = node.admin(&format!("deliveries?participant={participant}&limit=100")).await;
        let faults =
            page["items"].as_array().unwrap().iter().filter_map(|one| one["last_fault"].as_str().map(str::to_owned));
        Some(faults.collect::<Vec<_>>()).filter(|faults| !faults.is_empty())
    })
    .await
}

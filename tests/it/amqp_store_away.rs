//! A store that takes nothing: the queue keeps what it holds, nothing is spun, and later everything comes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::amqp_faults::{LATER, Queues, ids, ids_at, listed};
use crate::harness::{Broker, Node, Party, Peer, Sample, wait_until};
use crate::limits::{SmallDisk, large};

/// The consumer stopped and waits.
const STOPPED: &str = "the store accepts nothing";
/// As long as it is looked whether it spins.
const AWAY: Duration = Duration::from_secs(8);

fn stops(node: &Node) -> usize {
    node.log().lines().filter(|line| line.contains(STOPPED)).count()
}

/// Header ids, each once: what the disk had no room to record is attempted again.
fn arrived(peer: &Peer) -> BTreeSet<String> {
    ids_at(peer).into_iter().collect()
}

#[tokio::test]
async fn with_too_little_room_nothing_is_taken_from_the_queue_and_nothing_is_lost_or_spun() {
    crate::harness::sqlite_only!();
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let lab = Peer::ok().await;
    let config = queues.config().participant(Party::new("lab").at(&lab));
    let mut node = config.clone().store("min_free_bytes = 9_000_000_000_000_000").start_unready().await;
    let connected = async || node.get("/health/ready").await.json()["amqp"] == "ready";
    wait_until(LATER, "the queues are declared", connected).await;
    let messages: Vec<_> = (0..40).map(|_| Sample::new().addressed_to("lab")).collect();
    queues.send(&messages).await;
    wait_until(LATER, "consuming stops", async || stops(&node) >= 1).await;
    tokio::time::sleep(AWAY).await;
    assert!(stops(&node) <= 8, "{} sessions in {AWAY:?}", stops(&node));
    assert_eq!(listed(&node, "messages").await.len(), 0);
    assert_eq!(queues.client.depth(&queues.inbound).await, Some(40), "a message was taken and not kept");
    assert_eq!(node.get("/health/ready").await.expect_status(503).json()["store"], "full");

    // The key is read at start.
    node.reload(config);
    node.restart().await;

    lab.wait_for(messages.len(), LATER).await;
    queues.wait_until_taken(&node).await;
    assert_eq!(ids_at(&lab), ids(&messages));
    assert_eq!(listed(&node, "messages?sender=sender").await.len(), messages.len());
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_acknowledged_and_with_room_again_everything_comes_in_order() {
    crate::harness::sqlite_only!();
    let Some(broker) = Broker::shared().await else { return };
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: a full disk needs the right to mount a tmpfs, which this user does not have");
        return;
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 6 * 1024 * 1024]).unwrap();
    let queues = Queues::on(&broker).await;
    let lab = Peer::ok().await;
    let url = toml::Value::String(format!("sqlite:{}", disk.path().join("store.db").display()));
    let party = Party::new("lab").at(&lab).with("retry_schedule_seconds = [1]");
    let node = queues.config().participant(party).store(&format!("url = {url}")).start().await;
    // A small one may find room where the large one before it finds none.
    let messages: Vec<_> = (0..30).flat_map(|_| [large(), Sample::new().addressed_to("lab")]).collect();

    queues.send(&messages).await;
    wait_until(LATER, "consuming stops", async || stops(&node) >= 1).await;
    tokio::time::sleep(AWAY).await;
    let before = stops(&node);
    assert!(before <= 12, "{before} sessions in {AWAY:?}");
    let kept = listed(&node, "messages?sender=sender").await.len();
    assert!(kept < messages.len(), "the disk was never full");
    let waiting = queues.client.depth(&queues.inbound).await.unwrap() as u64;
    let unacked = queues.unacked(&node).await.unwrap();
    assert!(waiting + unacked >= (messages.len() - kept) as u64, "a message was acknowledged and not kept");
    std::fs::remove_file(&ballast).unwrap();

    queues.wait_until_taken(&node).await;
    wait_until(LATER, "everything arrives", async || arrived(&lab).len() == messages.len()).await;
    let mut seen = std::collections::HashSet::new();
    let first: Vec<_> = ids_at(&lab).into_iter().filter(|id| seen.insert(id.clone())).collect();
    assert_eq!(first, ids(&messages), "the order of first arrivals");
    assert_eq!(listed(&node, "messages?sender=sender").await.len(), messages.len());
}

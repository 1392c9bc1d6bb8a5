//! What is deleted of a store that is larger than its limit, and what never is.

use crate::harness::{Answer, NodeConfig, Party, Peer, SOON, Sample, sqlite_only, wait_until};
use crate::limits::large;
use crate::retention::{Aged, id_of};

fn hub(lab: &Peer, bad: &Peer) -> NodeConfig {
    let config = NodeConfig::with_sender().server("answer_timeout_ms = 5000");
    let config = config.participant(Party::new("lab").at(lab)).participant(Party::new("bad").at(bad));
    config.participant(Party::new("box").mailbox())
}

async fn excess(router: &Aged) -> u64 {
    let text = router.get("/metrics").await.expect_status(200).text();
    let line = text.lines().find(|line| line.starts_with("emberpost_store_excess_bytes "));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("the metric")
}

/// In PostgreSQL only whole partitions make room: `store::tests::partitions`.
#[tokio::test]
async fn above_its_limit_a_store_loses_its_oldest_bodies_but_nothing_that_is_needed() {
    sqlite_only!();
    let (lab, bad) = (Peer::ok().await, Peer::answering(Answer::Empty(422)).await);
    let folder = tempfile::TempDir::with_prefix("emberpost-it-").unwrap();
    let config = hub(&lab, &bad);
    let before = Aged::start(&config, folder.path(), 0).await;
    let waiting = Sample::new().addressed_to("box");
    let waiting_id = id_of(&before.post(&waiting).await.expect_status(202));
    let dead = Sample::new().addressed_to("bad");
    let dead_id = id_of(&before.post(&dead).await.expect_status(200));
    let mut sent = Vec::new();
    for _ in 0..20 {
        let message = large();
        sent.push((id_of(&before.post(&message).await.expect_status(200)), message));
    }
    before.running.stop().await;
    let bytes = std::fs::metadata(folder.path().join("store.db")).unwrap().len();

    let archive = toml::Value::String(folder.path().join("archive").display().to_string());
    let half = config.clone().retention(&format!("store_limit_bytes = {}", bytes / 2));
    let half = Aged::start(&half.retention(&format!("archive_dir = {archive}")), folder.path(), 0).await;
    let (oldest, newest) = (&sent[0], &sent[19]);
    wait_until(SOON, "the oldest content is deleted", async || half.content(&oldest.0).await.status == 410).await;
    wait_until(SOON, "it is small enough", async || excess(&half).await == 0).await;
    assert_eq!(half.content(&newest.0).await.expect_status(200).body, newest.1.bytes());
    let again = half.post(&oldest.1).await.expect_status(202);
    assert_eq!(again.header("emberpost-repeat"), Some("true"), "identities stay");
    half.running.stop().await;

    let least = config.retention("store_limit_bytes = 1");
    let least = Aged::start(&least, folder.path(), 0).await;
    wait_until(SOON, "all content that may go is deleted", async || least.content(&newest.0).await.status == 410).await;
    assert!(excess(&least).await > 0, "it cannot become small enough, and goes on");
    for (id, message) in [(&waiting_id, &waiting), (&dead_id, &dead)] {
        assert_eq!(least.content(id).await.expect_status(200).body, message.bytes());
    }
    least.message(&oldest.0).await.expect_status(200);
    least.post(&Sample::new().addressed_to("lab")).await.expect_status(200);
    least.running.stop().await;
    let printed = crate::harness::program(folder.path()).args(["import", "archive"]).output().unwrap();
    assert_eq!(printed.status.code(), Some(0), "{}", String::from_utf8_lossy(&printed.stdout));
    let back = Aged::start(&hub(&lab, &bad), folder.path(), 0).await;
    assert_eq!(back.content(&oldest.0).await.expect_status(200).body, oldest.1.bytes());
    back.running.stop().await;
}

//! The router on a PostgreSQL server whose clock says something else: the router goes by its own clock, and says so once.

use std::path::Path;

use crate::clock::{library, set};
use crate::harness::postgres::Server;
use crate::harness::{NodeConfig, Party, Peer, SOON, Sample, wait_until};
use crate::postgres_faults::{needs_postgres, url_of};

/// With a wall clock that is moved by what the file `time` in `folder` says.
fn with_clock(config: NodeConfig, library: &str, folder: &Path) -> NodeConfig {
    config
        .variable("LD_PRELOAD", library)
        .variable("FAKETIME_TIMESTAMP_FILE", folder.join("time").to_str().unwrap())
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("DONT_FAKE_MONOTONIC", "1")
}

async fn is_behind_or_ahead(offset: &str) {
    let Some(library) = library() else { return };
    let time = tempfile::TempDir::with_prefix("emberpost-it-").unwrap();
    set(time.path(), offset);
    let (server, mut lab, mut gone) = (Server::start(&[]), Peer::ok().await, Peer::ok().await);
    gone.down().await;
    let url = url_of(&server);
    let expires = Party::new("gone").at(&gone).with("expire_after_seconds = 3").with("retry_schedule_seconds = [1]");
    let retried = Party::new("retried").at(&lab).with("retry_schedule_seconds = [1]");
    let base = NodeConfig::with_sender().store(&format!("url = \"{url}\"")).server("answer_timeout_ms = 300");
    let config_of =
        || with_clock(base.clone().participant(retried.clone()).participant(expires.clone()), library, time.path());
    let mut node = config_of().start().await;
    let states = async |participant: &str| {
        let listed = node.admin(&format!("deliveries?participant={participant}")).await;
        let items = listed["items"].as_array().unwrap().iter().map(|item| item["state"].as_str().unwrap().to_owned());
        items.collect::<Vec<_>>()
    };
    lab.down().await;
    for receiver in ["retried", "gone"] {
        node.post(Sample::new().addressed_to(receiver).bytes()).await.expect_status(202);
    }

    wait_until(SOON, "it expires after its time", async || states("gone").await == ["dead"]).await;
    assert_eq!(states("retried").await, ["waiting"], "the other one has more time");
    lab.up().await;
    wait_until(SOON, "it is tried again", async || states("retried").await == ["answered"]).await;

    let second = config_of().try_start().await.err().expect("two routers on one database");
    assert!(second.log.contains("in use by another emberpost"), "{}", second.log);
    let says = |text: &str| node.log().matches(text).count();
    wait_until(SOON, "the difference is logged", async || says("differs by more than a minute") == 1).await;
    node.post(Sample::new().addressed_to("retried").bytes()).await.expect_status(200);

    set(time.path(), "+0");
    wait_until(SOON * 2, "the clocks agree", async || says("agree again") == 1).await;
    assert_eq!(says("differs by more than a minute"), 1, "it is logged once");
    assert!(node.terminate().await.success());
    node.restart().await;
    node.post(Sample::new().addressed_to("retried").bytes()).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_seven_minutes_ahead_of_the_database_changes_no_retry_and_no_expiry_and_is_logged_once() {
    needs_postgres!();
    is_behind_or_ahead("+7m").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_seven_minutes_behind_the_database_changes_no_retry_and_no_expiry_and_is_logged_once() {
    needs_postgres!();
    is_behind_or_ahead("-7m").await;
}

//! SIGTERM: who waits is let go first, what runs may end, and none of it takes longer than it was given.

use std::time::Instant;

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_until};

const WAITING: usize = 20;

fn with_lab(lab: &Peer) -> NodeConfig {
    let party = Party::new("lab").at(lab).with("order = \"none\"").with("retry_schedule_seconds = [1]");
    NodeConfig::with_sender().participant(party).server("answer_timeout_ms = 600000")
}

fn posting(node: &Node, message: &Sample) -> tokio::task::JoinHandle<Reply> {
    let request = node.posting(message.bytes());
    tokio::spawn(async move { Reply::of(request.send().await.expect("no reply while stopping")).await })
}

#[tokio::test]
async fn waiting_senders_get_202_before_running_attempts_have_ended() {
    let lab = Peer::answering(Answer::Hang).await;
    // Longer than this test may take: whoever gets a reply did not wait for the grace.
    let mut node = with_lab(&lab).server("shutdown_grace_seconds = 3600").start().await;
    let senders: Vec<_> = (0..WAITING).map(|_| posting(&node, &Sample::new().addressed_to("lab"))).collect();
    lab.wait_for(1, SOON).await;
    wait_until(SOON, "every message is stored", async || {
        node.admin("messages?sender=sender&limit=500").await["items"].as_array().map(Vec::len) == Some(WAITING)
    })
    .await;

    node.signal("TERM");

    for sender in senders {
        let reply = tokio::time::timeout(SOON, sender).await.expect("held by the hanging receiver").unwrap();
        assert!(reply.expect_status(202).header("content-location").is_some());
    }
    // New messages are refused while the attempt still runs, and readiness says why.
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(503);
    let ready = node.get("/health/ready").await.expect_status(503).json();
    assert_eq!(ready["router"], "stopping");
    node.kill9();
}

#[tokio::test]
async fn a_hanging_receiver_does_not_hold_the_end_up_beyond_the_grace() {
    let lab = Peer::answering(Answer::Hang).await;
    let mut node = with_lab(&lab).server("shutdown_grace_seconds = 1").start().await;
    let message = Sample::new().addressed_to("lab");
    let sender = posting(&node, &message);
    lab.wait_for(1, SOON).await;
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.log());
    sender.await.unwrap().expect_status(202);
    lab.answer(Answer::Ok);
    node.restart().await;
    assert_eq!(lab.wait_for(2, SOON).await[1].body, message.bytes(), "the attempt is made again");
}

#[tokio::test]
async fn during_the_delay_messages_are_accepted_while_readiness_says_503() {
    let lab = Peer::ok().await;
    let mut node = with_lab(&lab).server("shutdown_delay_seconds = 3600").start().await;
    node.signal("TERM");
    wait_until(SOON, "readiness says 503", async || node.get("/health/ready").await.status == 503).await;
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    node.kill9();
}

#[tokio::test]
async fn a_router_with_nothing_under_way_stops_without_waiting_for_delay_or_grace_to_pass() {
    let lab = Peer::ok().await;
    let mut node = with_lab(&lab).server("shutdown_grace_seconds = 3600").start().await;
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    let start = Instant::now();
    assert_eq!(node.terminate().await.code(), Some(0));
    assert!(start.elapsed() < SOON * 4);
}

//! The shortest way through the whole: a message, its receiver, its answer.

use crate::harness::{Answer, NodeConfig, Party, Peer, SOON, Sample, emberpost};

/// A node whose participant `lab` is this peer.
fn with_lab(peer: &Peer) -> NodeConfig {
    NodeConfig::with_sender().participant(Party::new("lab").at(peer))
}

#[tokio::test]
async fn a_message_reaches_its_receiver_untouched_and_its_sender_gets_the_answer() {
    let peer = Peer::ok().await;
    let node = with_lab(&peer).start().await;
    let message = Sample::new().addressed_to("lab");

    let reply = node.post(message.bytes()).await.expect_status(200);

    assert_eq!(reply.response_code().as_deref(), Some("ok"));
    assert_eq!(reply.response_identifier(), Some(message.header_id()));
    let received = peer.wait_for(1, SOON).await;
    assert_eq!(received[0].body, message.bytes());
    assert_eq!(received[0].path_and_query, "/fhir/$process-message");
}

#[tokio::test]
async fn a_message_to_an_unknown_destination_is_refused_and_reaches_nobody() {
    let peer = Peer::ok().await;
    let node = with_lab(&peer).start().await;

    let reply =
        node.post(Sample::new().addressed_to("lab").to("http://nobody.example/fhir").bytes()).await.expect_status(200);

    assert_eq!(reply.response_code().as_deref(), Some("fatal-error"));
    assert_eq!(reply.faults(), ["SEND_UNKNOWN_DESTINATION"]);
    assert!(reply.issue_codes().contains(&"not-found".to_owned()), "{}", reply.text());
    assert_eq!(peer.count(), 0);
}

#[tokio::test]
async fn a_repeat_gets_the_first_reply_word_for_word_also_after_a_crash() {
    let peer = Peer::answering(Answer::Fatal).await;
    let mut node = with_lab(&peer).start().await;
    let message = Sample::new().addressed_to("lab").bytes();

    let first = node.post(message.clone()).await.expect_status(200);
    assert_eq!(first.header("emberpost-repeat"), None);
    let second = node.post(message.clone()).await.expect_status(200);
    node.kill9();
    node.restart().await;
    let third = node.post(message).await.expect_status(200);

    for repeat in [second, third] {
        assert_eq!(repeat.header("emberpost-repeat"), Some("true"));
        assert_eq!(repeat.body, first.body);
    }
    assert_eq!(peer.count(), 1);
}

#[tokio::test]
async fn a_router_that_is_asked_to_stop_ends_well() {
    let mut node = NodeConfig::with_sender().start().await;
    assert_eq!(node.get("/health/live").await.status, 200);
    assert!(node.terminate().await.success(), "{}", node.log());
}

#[test]
fn wrong_usage_ends_with_exit_code_2() {
    assert_eq!(emberpost(&["no-such-command"]).status.code(), Some(2));
}

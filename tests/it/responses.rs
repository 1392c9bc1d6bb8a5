//! Response messages that arrive on their own: matched to their request, sent home, never answered.

use serde_json::json;

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, SOON, Sample, wait_until};

/// A node whose `lab` takes messages without a word and answers later, and whose `sender` is `home`.
async fn with_later_answers(home: &Peer, lab: &Peer) -> Node {
    let config = NodeConfig::new().participant(Party::sender().at(home));
    config.participant(Party::new("lab").at(lab)).start().await
}

fn from_lab() -> Sample {
    Sample::new().from("http://lab.example/fhir").to("http://sender.example/fhir")
}

async fn quiet(status: u16) -> Peer {
    Peer::answering(Answer::Empty(status)).await
}

/// Waits until the lab's latest delivery has this state; the lab's word may still be on its way to the store.
async fn becomes(node: &Node, state: &str) {
    wait_until(SOON, &format!("the delivery is {state}"), async || {
        node.admin("deliveries?participant=lab").await["items"][0]["state"] == state
    })
    .await;
}

#[tokio::test]
async fn a_response_is_known_by_any_identifier_of_its_request_and_goes_home() {
    let (home, lab) = (quiet(200).await, quiet(202).await);
    let node = with_later_answers(&home, &lab).await;
    let r4 = || Sample::new().addressed_to("lab");
    let r5 = || Sample::new().r5().addressed_to("lab");
    let bare = |identifier: String| identifier.trim_start_matches("urn:uuid:").to_owned();
    let (first, second, third, fourth, fifth) = (r4(), r4(), r5(), r5(), r4());
    let asked = [
        (first.clone(), first.header_id()),
        (second.clone(), second.bundle_id()),
        (third.clone(), third.identifier_value()),
        (fourth.clone(), bare(fourth.identifier_value())),
        (fifth.clone(), format!("urn:uuid:{}", fifth.header_id().to_uppercase())),
    ];
    for (count, (request, identifier)) in asked.into_iter().enumerate() {
        let taken = node.post(request.bytes()).await.expect_status(202);
        becomes(&node, "delivered").await;
        let is_r5 = request.value().get("identifier").is_some();
        let answer = if is_r5 { from_lab().r5() } else { from_lab() }.answering(&identifier, "ok");
        let reply = node.post(answer.bytes()).await.expect_status(200);
        assert!(reply.body.is_empty());
        let received = home.wait_for(count + 1, SOON).await;
        assert_eq!(received[count].body, answer.bytes(), "{identifier}");
        assert_eq!(received[count].path_and_query, "/fhir/$process-message?async=true");
        becomes(&node, "answered").await;
        let kept = node.admin(&format!("messages/{}", reply.header("emberpost-message-id").unwrap())).await;
        assert_eq!(kept["in_reply_to"], taken.header("emberpost-message-id").unwrap());
        assert_eq!(kept["unmatched"], false);
    }
}

#[tokio::test]
async fn a_request_that_waits_for_its_reader_is_settled_by_its_response() {
    let home = quiet(200).await;
    let config = NodeConfig::new().participant(Party::sender().at(&home));
    let node = config.participant(Party::new("lab").mailbox()).start().await;
    let request = Sample::new().addressed_to("lab");
    node.post(request.bytes()).await.expect_status(202);
    becomes(&node, "waiting").await;
    let answer = from_lab().answering(&request.header_id(), "ok").bytes();
    node.post(answer.clone()).await.expect_status(200);
    assert_eq!(home.wait_for(1, SOON).await[0].body, answer);
    becomes(&node, "answered").await;
}

#[tokio::test]
async fn the_same_response_again_is_a_repeat_and_is_not_sent_home_twice() {
    let (home, lab) = (quiet(200).await, quiet(202).await);
    let node = with_later_answers(&home, &lab).await;
    let request = Sample::new().addressed_to("lab");
    node.post(request.bytes()).await.expect_status(202);
    let answer = from_lab().answering(&request.header_id(), "ok").bytes();
    let first = node.post(answer.clone()).await.expect_status(200);
    let again = node.post(answer).await.expect_status(200);
    assert_eq!((first.header("emberpost-repeat"), again.header("emberpost-repeat")), (None, Some("true")));
    assert_eq!(again.header("emberpost-message-id"), first.header("emberpost-message-id"));
    home.wait_for(1, SOON).await;
    assert_eq!(node.admin("deliveries?participant=sender").await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_answer_follows_the_first_and_a_repeat_hears_the_first() {
    let (home, lab) = (quiet(200).await, quiet(202).await);
    let node = with_later_answers(&home, &lab).await;
    let request = Sample::new().addressed_to("lab");
    let taken = node.post(request.bytes()).await.expect_status(202);
    let first = from_lab().answering(&request.header_id(), "ok").bytes();
    node.post(first.clone()).await.expect_status(200);
    let second = from_lab().answering(&request.header_id(), "fatal-error").bytes();
    let late = node.post(second.clone()).await.expect_status(200);
    let received = home.wait_for(2, SOON).await;
    assert_eq!([&received[0].body, &received[1].body], [&first, &second]);
    let kept = node.admin(&format!("messages/{}", late.header("emberpost-message-id").unwrap())).await;
    assert_eq!(kept["in_reply_to"], taken.header("emberpost-message-id").unwrap());
    assert_eq!(kept["further"], true);
    // The sender that asks again still hears the first.
    let again = node.post(request.bytes()).await.expect_status(200);
    assert_eq!(again.body, first);
    assert_eq!(node.admin("deliveries?participant=sender").await["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_response_to_nothing_goes_where_it_is_addressed_and_is_flagged() {
    let (home, lab) = (quiet(200).await, quiet(202).await);
    let node = with_later_answers(&home, &lab).await;
    let stray = from_lab().answering("nobody-asked", "ok").bytes();
    let reply = node.post(stray.clone()).await.expect_status(200);
    assert!(reply.body.is_empty());
    assert_eq!(home.wait_for(1, SOON).await[0].body, stray);
    let kept = node.admin(&format!("messages/{}", reply.header("emberpost-message-id").unwrap())).await;
    assert_eq!((&kept["unmatched"], &kept["in_reply_to"]), (&json!(true), &json!(null)));
}

#[tokio::test]
async fn a_response_to_nothing_and_to_nobody_is_refused_by_status() {
    let (home, lab) = (quiet(200).await, quiet(202).await);
    let node = with_later_answers(&home, &lab).await;
    let stray = Sample::new().from("http://lab.example/fhir").to("http://nobody.example").answering("nothing", "ok");
    let reply = node.post(stray.bytes()).await.expect_status(422);
    assert_eq!(reply.faults(), ["SEND_UNKNOWN_DESTINATION"]);
}

#[tokio::test]
async fn a_response_to_nothing_that_its_receiver_cannot_read_is_refused_at_once() {
    let (home, lab) = (quiet(200).await, quiet(202).await);
    let sender = Party::sender().at(&home).with("fhir_version = \"5.0\"");
    let node = NodeConfig::new().participant(sender).participant(Party::new("lab").at(&lab)).start().await;
    let reply = node.post(from_lab().answering("nobody-asked", "ok").bytes()).await.expect_status(422);
    assert_eq!(reply.faults(), ["ROUTE_CONVERSION"]);
    assert_eq!(home.count(), 0);
}

#[tokio::test]
async fn a_response_from_another_party_does_not_answer_the_request() {
    let (home, lab) = (quiet(200).await, quiet(202).await);
    let config = NodeConfig::new().participant(Party::sender().at(&home)).participant(Party::new("ward"));
    let node = config.participant(Party::new("lab").at(&lab)).start().await;
    let request = Sample::new().addressed_to("lab");
    node.post(request.bytes()).await.expect_status(202);
    becomes(&node, "delivered").await;
    let foreign = Sample::new().from("http://ward.example/fhir").to("http://sender.example/fhir");
    let reply = node.post(foreign.answering(&request.header_id(), "ok").bytes()).await.expect_status(200);
    let kept = node.admin(&format!("messages/{}", reply.header("emberpost-message-id").unwrap())).await;
    assert_eq!(kept["unmatched"], true);
    becomes(&node, "delivered").await;
}

#[tokio::test]
async fn an_answer_that_comes_home_is_never_answered_whatever_the_home_says() {
    let (home, lab) = (Peer::ok().await, quiet(202).await);
    let node = with_later_answers(&home, &lab).await;
    let request = Sample::new().addressed_to("lab");
    node.post(request.bytes()).await.expect_status(202);
    node.post(from_lab().answering(&request.header_id(), "ok").bytes()).await.expect_status(200);
    home.wait_for(1, SOON).await;
    wait_until(SOON, "the answer is delivered", async || {
        node.admin("deliveries?participant=sender").await["items"][0]["state"] == "delivered"
    })
    .await;
    assert_eq!(lab.count(), 1);
}

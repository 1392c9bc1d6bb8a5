//! Whose answer it is, and what an operator is told of what was settled.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_for};

async fn post_async(node: &Node, query: &str, message: &Sample) -> Reply {
    let path = format!("/fhir/$process-message?async=true{query}");
    let request = node.request(Method::POST, &path).header("content-type", "application/fhir+json");
    node.ask(request.body(message.bytes())).await
}

/// Deliveries that the admin API lists for this participant.
async fn deliveries_to(node: &Node, participant: &str) -> Vec<Value> {
    let page = node.admin(&format!("/deliveries?participant={participant}")).await;
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_answer_goes_to_the_sender_it_is_addressed_to_where_two_senders_use_the_same_id() {
    let (alpha, beta, lab) = (Peer::ok().await, Peer::ok().await, Peer::answering(Answer::Empty(202)).await);
    let node = NodeConfig::new()
        .participant(Party::new("alpha").at(&alpha))
        .participant(Party::new("beta").at(&beta))
        .participant(Party::new("lab").at(&lab))
        .start()
        .await;
    for sender in ["alpha", "beta"] {
        let source = format!("http://{sender}.example/fhir");
        let message = Sample::new().from(&source).addressed_to("lab").with_header_id("m-1");
        post_async(&node, "", &message).await.expect_status(200);
    }
    lab.wait_for(2, SOON).await;

    let answer = Sample::new().from("http://lab.example/fhir").addressed_to("alpha").answering("m-1", "ok");
    post_async(&node, "", &answer).await.expect_status(200);

    let received = alpha.wait_for(1, SOON).await;
    assert_eq!(received[0].body, answer.bytes());
    assert_eq!(beta.count(), 0);
}

#[tokio::test]
async fn a_waiting_answer_that_is_discarded_is_reported_as_discarded() {
    let (sender, lab) = (Peer::answering(Answer::Empty(503)).await, Peer::ok().await);
    let node = NodeConfig::new()
        .participant(Party::new("alpha").at(&sender).with("retry_schedule_seconds = [600]"))
        .participant(Party::new("lab").at(&lab))
        .start()
        .await;
    post_async(&node, "", &Sample::new().from("http://alpha.example/fhir").addressed_to("lab"))
        .await
        .expect_status(200);
    sender.wait_for(1, SOON).await;
    let waiting = wait_for(SOON, "the answer to wait for its next try", async || {
        deliveries_to(&node, "alpha").await.into_iter().find(|delivery| delivery["state"] == "waiting")
    })
    .await;

    let id = waiting["id"].as_str().unwrap();
    let reply = node.admin_post(&format!("/deliveries/{id}/discard"), json!({})).await.expect_status(200);

    assert_eq!(reply.json()["state"], "discarded");
    node.admin_post(&format!("/deliveries/{id}/discard"), json!({})).await.expect_status(409);
    node.admin_post(&format!("/deliveries/{id}/retry"), json!({})).await.expect_status(200);
    sender.wait_for(2, SOON).await;
}

#[tokio::test]
async fn a_response_url_that_cannot_be_posted_to_is_refused() {
    let node = NodeConfig::new()
        .participant(Party::new("alpha").address("http://alpha.example/fhir").address("urn:oid:1.2.3"))
        .participant(Party::new("lab").at(&Peer::ok().await))
        .start()
        .await;
    let message = Sample::new().from("http://alpha.example/fhir").addressed_to("lab");
    let reply = post_async(&node, "&response-url=urn:oid:1.2.3", &message).await.expect_status(400);
    assert_eq!(reply.faults(), ["SEND_REQUEST"]);
}

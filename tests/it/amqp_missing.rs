//! Queues and exchanges that are deleted in use, that were never there, or that nothing is bound to.

use serde_json::{Value, json};

use crate::amqp_hub::{
    Hub, LONG, attempts, check_far_end, delivered, exchanges, list, messages, mistakes, party, promised, queues,
    until_amqp_is,
};
use crate::harness::{Broker, Node, Party, Props, Sample, wait_until};

/// Fault and detail of every failed attempt at a participant's messages.
async fn failures(node: &Node, participant: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for delivery in list(node, &format!("deliveries?participant={participant}")).await {
        let timeline = node.admin(&format!("messages/{}/timeline", delivery["message"].as_str().unwrap())).await;
        let entries = timeline["items"].as_array().or(timeline.as_array()).unwrap().clone();
        let failed = entries.into_iter().map(|mut entry| entry["attempt"].take()).filter(|it| it["fault"].is_string());
        found.extend(failed.map(|it| (it["fault"].as_str().unwrap().into(), it["detail"].as_str().unwrap().into())));
    }
    found
}

/// Waits for a failed attempt with this fault and these words.
async fn until_failed(node: &Node, participant: &str, fault: &str, words: &str) {
    let what = format!("{participant}: {fault}, {words}");
    let is_it = |(is, detail): &(String, String)| is == fault && detail.contains(words);
    wait_until(LONG, &what, async || failures(node, participant).await.iter().any(is_it)).await;
}

async fn breaker(node: &Node, participant: &str) -> Value {
    let all = node.admin("participants").await["items"].as_array().unwrap().clone();
    all.into_iter().find(|item| item["id"] == participant).unwrap()["breaker"].clone()
}

#[tokio::test]
async fn a_queue_deleted_under_its_consumer_is_declared_anew_and_read_on() {
    let Some(hub) = Hub::new().await else { return };
    let lab = Party::new("lab").amqp(&hub.exchange, "lab");
    let node = hub.bare("").participant(lab).start().await;
    let mut sent = messages(10, 2);
    hub.send(&sent).await;
    wait_until(LONG, "the first are there", async || delivered(&node, "lab").await == 10).await;

    for queue in [&hub.inbound, &hub.answers] {
        hub.direct.delete_queue(queue).await;
        wait_until(LONG, "it is declared anew", async || hub.direct.depth(queue).await.is_some()).await;
        assert_eq!(queues(&hub, &[queue]).await, [promised(queue)[0].clone()]);
    }
    let more = messages(10, 2);
    hub.send(&more).await;
    // An answer comes in by the answer queue.
    let answer = Sample::new()
        .from("http://lab.example/fhir")
        .to("http://sender.example/fhir")
        .answering(&sent[0].header_id(), "ok");
    assert!(hub.direct.publish("", &hub.answers, &answer.bytes(), Props::json()).await);
    sent.extend(more);
    assert_eq!(hub.count(&node, &sent).await, 0);
    let answered = async || list(&node, "deliveries?participant=lab&state=answered").await.len() == 1;
    wait_until(LONG, "the answer is taken", answered).await;
    until_amqp_is(&node, "ready").await;
}

#[tokio::test]
async fn an_exchange_deleted_in_use_fails_attempts_by_name_comes_back_and_disturbs_no_other() {
    let Some(hub) = Hub::new().await else { return };
    let (other, ward) = (Broker::name("other"), Broker::name("ward"));
    let node = hub.config().participant(party("ward", &other)).start().await;
    hub.direct.declare_quorum(&ward).await;
    hub.direct.bind(&ward, &other, "ward").await;
    let mut sent = messages(5, 1);
    hub.send(&sent).await;
    wait_until(LONG, "the first are there", async || delivered(&node, "lab").await == 5).await;

    hub.direct.delete_exchange(&hub.exchange).await;
    let more = messages(10, 2);
    hub.send(&more).await;
    until_failed(&node, "lab", "ROUTE_BROKER", &hub.exchange).await;
    let wards: Vec<_> = (0..10).map(|_| Sample::new().addressed_to("ward")).collect();
    hub.send(&wards).await;
    wait_until(LONG, "the ward is served", async || delivered(&node, "ward").await == 10).await;
    assert_eq!((breaker(&node, "ward").await, attempts(&node, "ward").await), (json!("closed"), vec![1; 10]));
    assert_eq!(hub.direct.take(&ward, 10, LONG).await.len(), 10);
    // Declared by Emberpost; its bindings are the receiver's.
    let back = async || exchanges(&hub).await.contains(&format!("{} topic true", hub.exchange));
    wait_until(LONG, "the exchange is back", back).await;
    hub.bind().await;

    sent.extend(more);
    let came = hub.delivered(&node, &sent).await;
    assert_eq!(check_far_end(&sent, &came), 0);
}

#[tokio::test]
async fn an_exchange_that_was_never_there_fails_attempts_by_name_until_the_operator_declares_it() {
    let Some(hub) = Hub::new().await else { return };
    let mut first = hub.bare("").start().await;
    first.terminate().await;
    let (missing, ward) = (Broker::name("missing"), Broker::name("ward"));
    let config = hub.config().participant(party("ward", &missing)).with_amqp("declare = false");
    let node = config.start_unready().await;
    let body = until_amqp_is(&node, "mismatch").await;
    assert!(mistakes(&body, "out").contains(&format!("exchange {missing} cannot be used: declare it")), "{body}");
    let wards: Vec<_> = (0..5).map(|_| Sample::new().addressed_to("ward")).collect();
    for message in &wards {
        node.post(message.bytes()).await.expect_status(202);
    }
    let sent = messages(10, 2);
    hub.send(&sent).await;
    until_failed(&node, "ward", "ROUTE_BROKER", &missing).await;
    wait_until(LONG, "the lab is served", async || delivered(&node, "lab").await == 10).await;
    assert_eq!((breaker(&node, "lab").await, attempts(&node, "lab").await), (json!("closed"), vec![1; 10]));

    hub.direct.declare_exchange(&missing).await;
    hub.direct.declare_quorum(&ward).await;
    hub.direct.bind(&ward, &missing, "ward").await;
    wait_until(LONG, "the ward is served", async || delivered(&node, "ward").await == 5).await;
    let came = hub.direct.take(&ward, 5, LONG).await;
    assert_eq!(check_far_end(&wards, &came), 0);
    assert_eq!(hub.direct.depth(&ward).await, Some(0));
    until_amqp_is(&node, "ready").await;
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_tried_again_until_one_is_bound() {
    let Some(hub) = Hub::new().await else { return };
    let (other, ward) = (Broker::name("other"), Broker::name("ward"));
    let node = hub.config().participant(party("ward", &other)).start().await;
    let (unbound, sent) = (Sample::new().addressed_to("ward"), messages(10, 2));
    hub.send(std::slice::from_ref(&unbound)).await;
    hub.send(&sent).await;
    until_failed(&node, "ward", "ROUTE_UNROUTABLE", &format!("exchange {other}, routing key ward")).await;
    wait_until(LONG, "it is tried again", async || attempts(&node, "ward").await[0] >= 2).await;
    hub.direct.declare_quorum(&ward).await;
    hub.direct.bind(&ward, &other, "ward").await;
    wait_until(LONG, "it is delivered", async || delivered(&node, "ward").await == 1).await;
    let came = hub.direct.take(&ward, 1, LONG).await;
    assert_eq!(check_far_end(&[unbound], &came), 0);
    assert_eq!(hub.delivered(&node, &sent).await.len(), 10);
    assert_eq!(attempts(&node, "lab").await, vec![1; 10]);
    for participant in ["lab", "ward"] {
        assert_eq!(breaker(&node, participant).await, "closed");
    }
}

//! Where answers to senders over AMQP go: the queue that they name, the source's channel, or the list of what is dead.

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use serde_json::Value;

use crate::harness::script::answer_to;
use crate::harness::{Amqp, Answer, Broker, Lines, Node, Party, Peer, Props, SOON, Sample, wait_for};

const DIRECT: &str = "amq.rabbitmq.reply-to";

fn to_lab() -> Sample {
    Sample::new().addressed_to("lab")
}

/// The newest delivery to the sender, when it has this state.
async fn home(node: &Node, state: &str) -> Value {
    wait_for(SOON, &format!("the answer's delivery is {state}"), async || {
        let delivery = node.admin("deliveries?participant=sender").await["items"][0].clone();
        (delivery["state"] == state).then_some(delivery)
    })
    .await
}

/// A channel of a requester that has its answers directly, and its consumer.
async fn direct(client: &Amqp) -> (Channel, lapin::Consumer) {
    let channel = client.channel().await;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consumer = channel.basic_consume(DIRECT.into(), "".into(), options, FieldTable::default()).await.unwrap();
    (channel, consumer)
}

async fn ask_directly(channel: &Channel, queue: &str, message: &[u8]) {
    let properties = lapin::BasicProperties::default()
        .with_content_type("application/fhir+json".into())
        .with_reply_to(DIRECT.into())
        .with_correlation_id("direct".into());
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, message, properties).await.unwrap();
}

#[tokio::test]
async fn an_answer_has_the_requests_correlation_id_else_its_message_id() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let _node = lines.config().start().await;
    let replies = lines.replies().await;
    let props = || Props::json().reply_to(&replies).message_id("message");
    for (props, wanted) in [
        (props().correlation_id("correlation"), Some("correlation")),
        (props(), Some("message")),
        (Props::json().reply_to(&replies), None),
    ] {
        lines.tell(&to_lab().bytes(), props).await;
        lines.lab_answers("ok").await;
        assert_eq!(lines.next(&replies).await.correlation_id(), wanted);
    }
}

#[tokio::test]
async fn without_a_reply_queue_or_when_it_is_gone_an_answer_goes_to_the_sources_channel_over_http() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, peer) = (Lines::on(&broker).await, Peer::answering(Answer::Empty(200)).await);
    let _node = lines.config_of(Party::sender().at(&peer)).participant(lines.lab()).start().await;
    let gone = Broker::name("gone");
    let ways = [Props::json(), Props::json().reply_to(&gone), Props::json().correlation_id("x")];
    for (count, props) in ways.into_iter().enumerate() {
        lines.tell(&to_lab().bytes(), props).await;
        let answer = lines.lab_answers("ok").await;
        let received = peer.wait_for(count + 1, SOON).await;
        assert_eq!(received[count].path_and_query, "/fhir/$process-message?async=true");
        assert_eq!(received[count].body, answer);
    }
}

#[tokio::test]
async fn without_a_reply_queue_or_when_it_is_gone_an_answer_goes_to_the_sources_channel_over_amqp() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, home) = (Lines::on(&broker).await, Broker::name("home"));
    let _node = lines.config_of(Party::sender().amqp("", &home)).participant(lines.lab()).start().await;
    let gone = Broker::name("gone");
    for props in [Props::json(), Props::json().reply_to(&gone)] {
        lines.tell(&to_lab().bytes(), props.correlation_id("mine")).await;
        let answer = lines.lab_answers("ok").await;
        let taken = lines.next(&home).await;
        assert_eq!((taken.body.as_slice(), taken.correlation_id()), (&*answer, Some("mine")));
        assert_eq!(taken.reply_to(), None);
    }
    // A refusal goes the same way, and so does the answer to what cannot be read, where its sender is known at all.
    lines.tell(&Sample::new().to("http://nobody.example").bytes(), Props::json().correlation_id("bad")).await;
    let refused = lines.next(&home).await;
    assert!(refused.text().contains("SEND_UNKNOWN_DESTINATION"), "{}", refused.text());
    assert_eq!(refused.correlation_id(), Some("bad"));
}

#[tokio::test]
async fn an_answer_that_has_nowhere_to_go_is_kept_and_listed() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    let gone = Broker::name("gone");
    lines.tell(&to_lab().bytes(), Props::json().reply_to(&gone)).await;
    let answer = lines.lab_answers("ok").await;
    let dead = home(&node, "dead").await;
    assert_eq!(node.admin("deliveries?state=dead").await["items"].as_array().unwrap().len(), 1);
    let content = node.get(&format!("/admin/v1/messages/{}/content", dead["message"].as_str().unwrap())).await;
    assert_eq!(content.expect_status(200).body, answer);
    // A queue that is there again can have it.
    lines.client.declare(&gone, &[]).await;
    let id = dead["id"].as_str().unwrap();
    assert!(node.admin_post(&format!("deliveries/{id}/retry"), serde_json::json!({})).await.status < 300);
    assert_eq!(lines.next(&gone).await.body, answer);
    // Without any queue there is no delivery to list, but the exchange has its answer.
    lines.tell(&to_lab().bytes(), Props::json()).await;
    let answer = lines.lab_answers("ok").await;
    let kept = wait_for(SOON, "the answer is kept", async || {
        let delivery = node.admin("deliveries?participant=lab").await["items"][0].clone();
        delivery["answer"].as_str().map(str::to_owned)
    });
    let content = node.get(&format!("/admin/v1/messages/{}/content", kept.await)).await;
    assert_eq!(content.expect_status(200).body, answer);
}

#[tokio::test]
async fn a_queue_of_the_router_or_of_a_participant_is_no_reply_queue() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, peer) = (Lines::on(&broker).await, Peer::answering(Answer::Empty(200)).await);
    let _node = lines.config_of(Party::sender().at(&peer)).participant(lines.lab()).start().await;
    let own = [&lines.inbound, &lines.answers, &lines.lab];
    let queues = own.into_iter().flat_map(|queue| [queue.clone(), format!("{queue}.dead")]);
    for (count, queue) in queues.enumerate() {
        lines.tell(&to_lab().bytes(), Props::json().reply_to(&queue)).await;
        let answer = lines.lab_answers("ok").await;
        assert_eq!(peer.wait_for(count + 1, SOON).await[count].body, answer, "{queue}");
        assert_eq!(lines.client.depth(&queue).await, Some(0), "{queue}");
    }
}

#[tokio::test]
async fn a_requester_has_its_answer_directly_or_is_gone() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    let request = to_lab();
    let (channel, mut answers) = direct(&lines.client).await;
    ask_directly(&channel, &lines.inbound, &request.bytes()).await;
    let answer = lines.lab_answers("ok").await;
    let taken = tokio::time::timeout(SOON, answers.next()).await.expect("an answer comes").unwrap().unwrap();
    assert_eq!(taken.data, answer);
    assert_eq!(taken.properties.correlation_id().as_ref().unwrap().as_str(), "direct");
    home(&node, "delivered").await;
    // The requester goes before its answer comes.
    ask_directly(&channel, &lines.inbound, &to_lab().bytes()).await;
    let asked = lines.asked().await;
    channel.close(200, "gone".into()).await.unwrap();
    let answer = lines.answer(&asked, "ok").await;
    let dead = home(&node, "dead").await;
    let content = node.get(&format!("/admin/v1/messages/{}/content", dead["message"].as_str().unwrap())).await;
    assert_eq!(content.expect_status(200).body, answer);
}

#[tokio::test]
async fn the_answer_to_a_requester_that_is_gone_goes_to_its_channel() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, peer) = (Lines::on(&broker).await, Peer::answering(Answer::Empty(200)).await);
    let _node = lines.config_of(Party::sender().at(&peer)).participant(lines.lab()).start().await;
    let (channel, _answers) = direct(&lines.client).await;
    ask_directly(&channel, &lines.inbound, &to_lab().bytes()).await;
    let asked = lines.asked().await;
    channel.close(200, "gone".into()).await.unwrap();
    let answer = lines.answer(&asked, "ok").await;
    assert_eq!(peer.wait_for(1, SOON).await[0].body, answer);
}

#[tokio::test]
async fn a_repeat_is_answered_in_the_queue_that_it_names() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let _node = lines.config().start().await;
    let request = to_lab();
    let (first, answer) = tokio::join!(lines.request(&request), lines.lab_answers("ok"));
    let again = lines.request(&request).await;
    assert_eq!((&first.body, &again.body), (&answer, &answer));
    assert_eq!(answer, answer_to(&request.bytes(), "ok"));
    assert_eq!(lines.client.depth(&lines.lab).await, Some(0));
}

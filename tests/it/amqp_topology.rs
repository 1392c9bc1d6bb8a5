//! Queues and exchanges: what Emberpost declares and what not, and what it says of those that are otherwise than they should be.

use serde_json::json;

use crate::amqp_hub::{Hub, LONG, exchanges, health, messages, mistakes, party, promised, queues, until_amqp_is};
use crate::harness::amqp::text;
use crate::harness::{Broker, Party, Props, Sample, wait_until};

#[tokio::test]
async fn everything_is_declared_as_promised_and_a_second_start_changes_nothing() {
    let Some(hub) = Hub::new().await else { return };
    let [exchange, own] = ["declared", "own"].map(Broker::name);
    let config = hub.config().participant(party("ward", &exchange)).participant(Party::new("clinic").amqp("", &own));
    let mut node = config.participant(Party::new("topic").amqp("amq.topic", "x")).start().await;
    let mut wanted: Vec<_> = [&hub.inbound, &hub.answers, &own].into_iter().flat_map(|name| promised(name)).collect();
    wanted.sort();
    let names: Vec<_> = [&hub.inbound, &hub.answers, &own]
        .into_iter()
        .flat_map(|name| [name.clone(), format!("{name}.dead")])
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for start in ["first", "second"] {
        assert_eq!(queues(&hub, &names).await, wanted, "{start} start");
        assert!(exchanges(&hub).await.contains(&format!("{exchange} topic true")), "{start} start");
        assert_eq!(health(&node).await.1["status"], "ready");
        node.restart().await;
    }
    assert!(!node.log().contains("cannot be declared"), "{}", node.log());
}

#[tokio::test]
async fn without_declare_nothing_is_declared_and_what_is_there_is_used() {
    let Some(hub) = Hub::new().await else { return };
    let mut first = hub.config().start().await;
    first.terminate().await;
    // Not quite as Emberpost would declare it: it is the operator's.
    hub.direct.delete_queue(&format!("{}.dead", hub.answers)).await;
    hub.direct.declare(&format!("{}.dead", hub.answers), &[]).await;
    let node = hub.config().with_amqp("declare = false").start().await;
    assert_eq!(health(&node).await.1["amqp"], "ready");
    let sent = messages(10, 2);
    hub.send(&sent).await;
    assert_eq!(hub.count(&node, &sent).await, 0);
    let dead = format!("{}.dead", hub.answers);
    assert_eq!(queues(&hub, &[&dead]).await, [format!("{dead} true []")]);
}

#[tokio::test]
async fn without_declare_a_missing_queue_is_told_and_used_once_somebody_declares_it() {
    let Some(hub) = Hub::new().await else { return };
    let mut first = hub.config().start().await;
    first.terminate().await;
    hub.direct.delete_queue(&hub.inbound).await;
    let node = hub.config().with_amqp("declare = false").start_unready().await;
    let body = until_amqp_is(&node, "mismatch").await;
    assert_eq!((health(&node).await.0, &body["status"]), (503, &json!("not ready")));
    let told = mistakes(&body, "in");
    for part in
        [&format!("queue {} cannot be used", hub.inbound), "declare it", "x-queue-type=quorum", "amqp.declare = true"]
    {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let unusable = format!("queue {} cannot be used", hub.inbound);
    wait_until(LONG, "it is logged", async || node.log().contains(&unusable)).await;
    assert_eq!(hub.direct.depth(&hub.inbound).await, None, "it was declared");

    hub.direct.declare_quorum(&hub.inbound).await;
    let sent = messages(5, 1);
    hub.send(&sent).await;
    assert_eq!(hub.count(&node, &sent).await, 0);
    until_amqp_is(&node, "ready").await;
    assert_eq!(health(&node).await.0, 200);
}

#[tokio::test]
async fn queues_that_are_otherwise_are_told_with_what_to_change_and_the_others_work() {
    let Some(hub) = Hub::new().await else { return };
    let [classic, brief, key, fine] = ["classic", "brief", "key", "fine"].map(Broker::name);
    hub.direct.declare(&classic, &[]).await;
    let (options, none) = (Default::default(), Default::default());
    hub.direct.channel().await.queue_declare(brief.as_str().into(), options, none).await.unwrap();
    let elsewhere =
        [("x-queue-type", "quorum"), ("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "other")];
    let elsewhere = elsewhere.map(|(name, value)| (name, text(value)));
    hub.direct.declare(&key, &elsewhere).await;
    let inbound = format!("inbound_queues = {:?}", [&classic, &brief, &key, &fine]);
    let node = hub.config().with_amqp(&inbound).start_unready().await;

    let body = until_amqp_is(&node, "mismatch").await;
    let told = mistakes(&body, "in");
    for queue in [&classic, &brief, &key] {
        let sentence = format!(
            "queue {queue} cannot be declared: it exists with other settings than durable, x-queue-type=quorum"
        );
        assert!(told.contains(&sentence), "{sentence} is not in {told}");
        wait_until(LONG, "it is logged", async || node.log().contains(&sentence)).await;
    }
    assert!(told.contains("delete it, or set amqp.declare = false"), "{told}");
    assert!(!told.contains(&format!("queue {fine} ")), "{told}");
    let sent = messages(5, 1);
    let all = sent.iter().map(|message| (message.bytes(), Props::json()));
    assert_eq!(hub.direct.publish_many("", &fine, all).await, sent.len());
    assert_eq!(hub.count_of(&fine, &node, &sent).await, 0);
    // The remedy that the sentence names.
    for queue in [&classic, &brief, &key] {
        hub.direct.delete_queue(queue).await;
    }
    until_amqp_is(&node, "ready").await;
    assert_eq!(queues(&hub, &[&classic]).await, [promised(&classic)[0].clone()]);
}

#[tokio::test]
async fn a_participant_that_a_reload_brings_is_declared_and_served_without_a_restart() {
    let Some(hub) = Hub::new().await else { return };
    let (exchange, own) = (Broker::name("later"), Broker::name("later-own"));
    let mut node = hub.config().start().await;
    node.reload(hub.config().participant(party("ward", &exchange)).participant(Party::new("clinic").amqp("", &own)));
    wait_until(LONG, "its queue is declared", async || hub.direct.depth(&own).await.is_some()).await;
    assert_eq!(queues(&hub, &[&own, &format!("{own}.dead")]).await, promised(&own));
    let ward = Broker::name("ward");
    hub.direct.declare_quorum(&ward).await;
    hub.direct.bind(&ward, &exchange, "ward").await;
    hub.send(&[Sample::new().addressed_to("ward"), Sample::new().addressed_to("clinic")]).await;
    assert_eq!(hub.direct.take(&ward, 1, LONG).await.len(), 1);
    assert_eq!(hub.direct.take(&own, 1, LONG).await.len(), 1);
    assert_eq!(until_amqp_is(&node, "ready").await["amqp_links"]["out"]["mistakes"], json!([]));
}

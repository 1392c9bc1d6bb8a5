//! A broker that allows little: few channels, small messages. And what client libraries write where nobody says anything.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::amqp_faults::{LATER, Queues, ids_of};
use crate::harness::lines::Lines;
use crate::harness::{Broker, NodeConfig, Party, Props, SOON, Sample, wait_until};

const SIZE_LIMIT_BYTES: usize = 100_000;

#[tokio::test]
async fn with_few_channels_messages_wait_for_a_free_one_and_none_is_a_failed_attempt() {
    let Some(broker) = Broker::start_with("channel_max = 16", &[]).await else { return };
    let queues = Queues::on(&broker).await;
    let lab = Broker::name("lab");
    queues.client.declare_quorum(&lab).await;
    let party = Party::new("lab").amqp("amq.topic", &lab).with("order = \"none\"").with("concurrency = 200");
    queues.client.bind(&lab, "amq.topic", &lab).await;
    let node = queues.config().participant(party).server("answer_timeout_ms = 1").start().await;
    let messages: Vec<Sample> = (0..300).map(|_| Sample::new().addressed_to("lab")).collect();

    queues.send(&messages).await;

    let arrived = queues.client.take(&lab, messages.len(), LATER).await;
    let mut ids = ids_of(&arrived);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), messages.len());
    wait_until(SOON, "all are settled", async || node.admin("deliveries?state=waiting").await["items"] == json!([]))
        .await;
    let metrics = node.get("/metrics").await.text();
    assert!(!metrics.contains("ROUTE_BROKER"), "{metrics}");
    assert!(!node.log().contains("the breaker of lab opened"));
    let items = node.admin("deliveries?limit=500").await["items"].as_array().unwrap().clone();
    assert!(items.iter().all(|delivery| delivery["attempts"] == 1), "an attempt failed");
}

#[tokio::test]
async fn a_message_above_the_brokers_size_is_a_dead_letter_that_names_size_and_limit_and_its_lane_goes_on() {
    let settings = format!("max_message_size = {SIZE_LIMIT_BYTES}");
    let Some(broker) = Broker::start_with(&settings, &[]).await else { return };
    let queues = Queues::on(&broker).await;
    let lab = Broker::name("lab");
    let config = NodeConfig::with_sender().amqp(&queues.url, &queues.inbound, &queues.answers);
    let node = config.participant(Party::new("lab").amqp("", &lab)).server("answer_timeout_ms = 5000").start().await;
    let large = Sample::new().addressed_to("lab").padded(2 * SIZE_LIMIT_BYTES);
    let size = large.bytes().len();

    let reply = node.post(large.bytes()).await.expect_status(200);

    assert_eq!(
        (reply.response_code().as_deref(), reply.faults()),
        (Some("fatal-error"), vec!["RECV_REFUSED".to_owned()])
    );
    let (size, limit) = (format!("{size} bytes"), format!("accepts {SIZE_LIMIT_BYTES} at most"));
    assert!(reply.text().contains(&size) && reply.text().contains(&limit), "{}", reply.text());
    let dead = node.admin("deliveries?state=dead").await["items"][0].clone();
    let detail = dead["last_detail"].as_str().unwrap();
    assert!(detail.contains(&size) && detail.contains(&limit), "{dead}");
    assert_eq!(dead["attempts"], 1);
    let small = Sample::new().addressed_to("lab");
    let (_, arrived) = tokio::join!(node.post(small.bytes()), queues.client.take(&lab, 1, LATER));
    assert_eq!(ids_of(&arrived), [small.header_id()]);
    assert!(node.admin("participants").await.to_string().contains("\"closed\""));
}

#[tokio::test]
async fn what_client_libraries_write_by_default_is_taken() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let _node = lines.config().start().await;
    let gzipped = |message: &Sample| crate::harness::raw::gzip(&message.bytes());
    for (what, properties, packed) in [
        ("kombu", Props::json().content_encoding("utf-8"), false),
        ("Celery", Props::none().content_type("application/json").content_encoding("binary"), false),
        ("Spring, text", Props::none().content_type("text/plain").content_encoding("UTF-8"), false),
        ("Spring, bytes", Props::none().content_type("application/octet-stream"), false),
        ("nothing", Props::none(), false),
        ("packed bytes", Props::none().content_type("application/octet-stream").content_encoding("gzip"), true),
    ] {
        let message = Sample::new().addressed_to("lab");
        let body = if packed { gzipped(&message) } else { message.bytes() };
        lines.tell(&body, properties).await;
        assert_eq!(ids_of(&[lines.asked().await]), [message.header_id()], "{what}");
    }
}

#[tokio::test]
async fn a_router_that_has_nothing_under_way_stops_without_waiting() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let mut node = lines.config().start().await;
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        assert!(node.terminate().await.success());
        fastest = fastest.min(started.elapsed());
        node.restart().await;
        wait_until(SOON, "it consumes", async || lines.client.consumers(&lines.inbound).await == 1).await;
    }
    // A wait would be one of whole seconds, each time.
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
}

//! The harness for AMQP, against a real broker: its faults are faults, and its client sees them.

use std::time::Duration;

use crate::harness::amqp::text;
use crate::harness::{Amqp, Broker, Cluster, Props, Proxy, SOON, wait_for, wait_until};

/// Long enough for a message that is there, short enough to wait for one that is not.
const SHORT: Duration = Duration::from_millis(500);
const MANY: usize = 3000;

fn numbered(count: usize) -> impl Iterator<Item = (Vec<u8>, Props)> {
    (0..count).map(|number| (number.to_string().into_bytes(), Props::json()))
}

#[tokio::test]
async fn thousands_are_confirmed_and_taken_in_order_with_their_properties() {
    let Some(broker) = Broker::shared().await else { return };
    let client = Amqp::connect(&broker.url()).await;
    let queue = Broker::name("many");
    client.declare_quorum(&queue).await;
    assert_eq!(client.publish_many("", &queue, numbered(MANY)).await, MANY);
    let props = Props::json().message_id("m").user_id("guest").kind("event").header("fhirVersion", "4.0");
    assert!(client.publish("", &queue, b"last", props).await);
    assert!(!client.publish("", "no-such-queue", b"lost", Props::none()).await, "an unroutable message was routed");

    let taken = client.take(&queue, MANY + 1, SOON).await;

    let bodies: Vec<_> = taken[..MANY].iter().map(|taken| taken.body.clone()).collect();
    assert_eq!(bodies, numbered(MANY).map(|(body, _)| body).collect::<Vec<_>>());
    assert_eq!(taken[MANY].header("fhirVersion").as_deref(), Some("4.0"));
    assert_eq!(client.depth(&queue).await, Some(0));
    client.delete_queue(&queue).await;
    assert_eq!(client.depth(&queue).await, None);
}

#[tokio::test]
async fn a_request_has_its_answer_and_a_full_queue_refuses() {
    let Some(broker) = Broker::shared().await else { return };
    let (client, party) = (Amqp::connect(&broker.url()).await, Amqp::connect(&broker.url()).await);
    let (exchange, queue) = (Broker::name("exchange"), Broker::name("requests"));
    party.declare_exchange(&exchange).await;
    let arguments = [("x-max-length", 1.into()), ("x-overflow", text("reject-publish"))];
    party.declare(&queue, &arguments).await;
    party.bind(&queue, &exchange, "lab.#").await;
    let answering = async {
        let asked = party.take(&queue, 1, SOON).await.remove(0);
        let props = Props::json().correlation_id(asked.correlation_id().unwrap());
        assert!(party.publish("", asked.reply_to().unwrap(), b"answer", props).await);
    };

    let (answer, ()) = tokio::join!(client.request(&exchange, "lab.x", b"ask", Props::json(), SOON), answering);

    assert_eq!(answer.unwrap().body, b"answer");
    assert!(client.publish(&exchange, "lab.x", b"fits", Props::json()).await);
    assert!(!client.publish(&exchange, "lab.x", b"does not fit", Props::json()).await);
    party.delete_exchange(&exchange).await;
}

#[tokio::test]
async fn a_bad_network_cuts_refuses_and_swallows() {
    let Some(broker) = Broker::shared().await else { return };
    let (proxy, direct) = (Proxy::before(broker.port()).await, Amqp::connect(&broker.url()).await);
    let queue = Broker::name("proxied");
    direct.declare_quorum(&queue).await;

    let client = Amqp::connect(&proxy.url()).await;
    let channel = client.channel().await;
    proxy.cut();
    wait_until(SOON, "the client sees the cut", async || !channel.status().connected()).await;
    proxy.refuse(true).await;
    assert!(Amqp::try_connect(&proxy.url()).await.is_err());
    proxy.refuse(false).await;

    // A confirm that gets lost: the message is there all the same.
    let client = Amqp::connect(&proxy.url()).await;
    let channel = client.channel().await;
    channel.confirm_select(Default::default()).await.unwrap();
    proxy.swallow_from_broker(true);
    let (key, props) = (queue.as_str().into(), Default::default());
    let confirm = channel.basic_publish("".into(), key, Default::default(), b"kept", props).await.unwrap();
    wait_until(SOON, "the message is kept", async || direct.depth(&queue).await == Some(1)).await;
    assert!(tokio::time::timeout(SHORT, confirm).await.is_err(), "the confirm was not swallowed");
    proxy.cut();
    proxy.swallow_from_broker(false);

    // An acknowledgement that gets lost: the message comes again.
    let client = Amqp::connect(&proxy.url()).await;
    let mut consuming = client.consume(&queue, 1).await;
    let delivery = consuming.next(SOON).await.unwrap();
    proxy.swallow_to_broker(true);
    let before = proxy.bytes_to_broker();
    consuming.ack(&delivery).await;
    wait_until(SOON, "the acknowledgement is swallowed", async || proxy.bytes_to_broker() > before).await;
    proxy.cut();
    proxy.swallow_to_broker(false);
    assert!(direct.take(&queue, 1, SOON).await[0].redelivered);
    assert_eq!(proxy.connections(), 3);
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_a_publish_leaves_no_message() {
    let Some(broker) = Broker::shared().await else { return };
    let (proxy, direct) = (Proxy::before(broker.port()).await, Amqp::connect(&broker.url()).await);
    let queue = Broker::name("half");
    direct.declare_quorum(&queue).await;
    let client = Amqp::connect(&proxy.url()).await;
    let channel = client.channel().await;
    channel.confirm_select(Default::default()).await.unwrap();
    let before = proxy.bytes_to_broker();
    proxy.cut_after_to_broker(10_000);
    let (key, body) = (queue.as_str().into(), [b'x'; 100_000]);
    let written = channel.basic_publish("".into(), key, Default::default(), &body, Default::default()).await;
    if let Ok(confirm) = written {
        assert!(confirm.await.is_err(), "half a message was confirmed");
    }
    wait_until(SOON, "the connection is cut", async || proxy.open() == 0).await;
    assert!(proxy.bytes_to_broker() >= before + 10_000);
    assert_eq!(direct.depth(&queue).await, Some(0));
    Amqp::connect(&proxy.url()).await;
}

#[tokio::test]
async fn a_broker_killed_and_started_again_has_what_it_confirmed_and_an_alarm_stops_publishers() {
    let Some(mut broker) = Broker::start().await else { return };
    let queue = Broker::name("kept");
    let client = Amqp::connect(&broker.url()).await;
    client.declare(&queue, &[]).await;
    broker.sync_tables().await;
    assert!(client.publish("", &queue, b"kept", Props::json()).await);
    broker.kill9();
    assert!(Amqp::try_connect(&broker.url()).await.is_err());
    broker.restart().await;

    let client = Amqp::connect(&broker.url()).await;
    assert_eq!(client.take(&queue, 1, SOON).await[0].body, b"kept");
    broker.memory_alarm(true).await;
    let publish = client.publish("", &queue, b"late", Props::json());
    tokio::pin!(publish);
    assert!(tokio::time::timeout(SHORT, &mut publish).await.is_err(), "the alarm let a publish through");
    broker.memory_alarm(false).await;
    assert!(tokio::time::timeout(SOON, publish).await.unwrap());
    broker.stop().await;
    broker.restart().await;
    assert_eq!(Amqp::connect(&broker.url()).await.depth(&queue).await, Some(1));
}

#[tokio::test]
async fn a_cluster_goes_on_without_one_of_its_nodes() {
    let Some(mut cluster) = Cluster::start(3).await else { return };
    let queue = Broker::name("replicated");
    let client = Amqp::connect(&cluster.urls()[1]).await;
    client.declare_quorum(&queue).await;
    assert!(client.publish("", &queue, b"before", Props::json()).await);
    cluster.kill9(0);
    cluster.wait_for_running(2).await;
    let taken = wait_for(SOON, "another node leads the queue", async || {
        let mut consuming = client.consume(&queue, 1).await;
        let delivery = consuming.next(SHORT).await?;
        consuming.ack(&delivery).await;
        Some(delivery.data)
    });
    assert_eq!(taken.await, b"before");
    assert!(client.publish("", &queue, b"after", Props::json()).await);
    cluster.restart(0).await;
    cluster.wait_for_running(3).await;
    let back = Amqp::connect(&cluster.urls()[0]).await;
    assert_eq!(back.take(&queue, 1, SOON).await[0].body, b"after");
}

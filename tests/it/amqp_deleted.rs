//! A queue of ours that somebody deletes.

use crate::harness::{Amqp, Broker, NodeConfig, Props, SOON, Sample, wait_until};

#[tokio::test]
async fn an_inbound_queue_that_is_deleted_is_declared_again_and_consumed() {
    let Some(broker) = Broker::shared().await else { return };
    let (inbound, answers) = (Broker::name("deleted"), Broker::name("answers"));
    let node = NodeConfig::with_sender().amqp(&broker.url(), &inbound, &answers).start().await;
    let client = Amqp::connect(&broker.url()).await;

    client.delete_queue(&inbound).await;

    let ended = "the consumer ended";
    wait_until(SOON, "the broker ends the consumer", async || node.log().contains(ended)).await;
    // The first may come before the queue is there again.
    wait_until(SOON * 2, "a message is taken", async || {
        client.publish("", &inbound, &Sample::new().bytes(), Props::json()).await;
        node.log().contains("result=")
    })
    .await;
}

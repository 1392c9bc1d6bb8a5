//! A queue of ours that somebody deletes.

use crate::harness::{Amqp, Broker, NodeConfig, Props, SOON, Sample, wait_until};

#[tokio::test]
async fn an_inbound_queue_that_is_deleted_is_declared_again_and_consumed() {
    let Some(broker) = Broker::shared().await else { return };
    let (inbound, answers) = (Broker::name("deleted"), Broker::name("answers"));
    let _node = NodeConfig::with_sender().amqp(&broker.url(), &inbound, &answers).start().await;
    let client = Amqp::connect(&broker.url()).await;

    client.delete_queue(&inbound).await;

    wait_until(SOON, "the queue is there again", async || client.depth(&inbound).await.is_some()).await;
    let answer = client.request("", &inbound, &Sample::new().bytes(), Props::json(), SOON).await;
    assert!(answer.is_some(), "nobody consumes the queue");
}

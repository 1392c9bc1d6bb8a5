//! The bare AMQP relay: consumes one queue, publishes to another with confirms, acknowledges, and neither checks nor
//! stores anything.

use anyhow::{Context, Result};
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicPublishOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};
use tokio::sync::mpsc;

use super::amqp_load::{PREFETCH_MESSAGES, confirmed, consume};

/// The maximum number of deliveries that one acknowledgement covers.
const ACK_MESSAGES: usize = 64;

/// Relays from `queue` to `peer` until the benchmark ends or the broker fails.
pub async fn run(broker: &str, queue: &str, peer: &str) -> Result<()> {
    let input = Connection::connect(broker, ConnectionProperties::default()).await.context("no broker")?;
    let output = Connection::connect(broker, ConnectionProperties::default()).await.context("no broker")?;
    let (taken, mut deliveries) = consume(&input, queue).await?;
    let published = output.create_channel().await?;
    published.confirm_select(Default::default()).await?;
    let (sent, confirms) = mpsc::channel(usize::from(PREFETCH_MESSAGES));
    let mut acknowledging = tokio::spawn(acknowledge(taken, confirms));
    println!("listening {queue}");
    super::end_with_parent();
    loop {
        let delivery = tokio::select! {
            delivery = deliveries.next() => delivery.context("the broker ended the consumer")??,
            ended = &mut acknowledging => return ended?,
        };
        let properties: BasicProperties = delivery.properties.with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirm = published.basic_publish("".into(), peer.into(), options, &delivery.data, properties).await?;
        sent.send((delivery.delivery_tag, confirm)).await.context("acknowledging ended")?;
    }
}

/// Confirms arrive in the order of publishing, so the last available one acknowledges all before it.
async fn acknowledge(taken: Channel, mut confirms: mpsc::Receiver<(u64, PublisherConfirm)>) -> Result<()> {
    while let Some((mut tag, confirm)) = confirms.recv().await {
        confirmed(confirm.await?)?;
        let mut held = None;
        for _ in 1..ACK_MESSAGES {
            let Ok((next, mut confirm)) = confirms.try_recv() else { break };
            match (&mut confirm).now_or_never() {
                Some(confirmation) => confirmed(confirmation?)?,
                None => {
                    held = Some((next, confirm));
                    break;
                }
            }
            tag = next;
        }
        taken.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        if let Some((tag, confirm)) = held {
            confirmed(confirm.await?)?;
            taken.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}

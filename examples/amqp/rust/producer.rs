//! Sends a push event to Emberpost over RabbitMQ: two patient records are the same person. Waits for the answer.

use anyhow::bail;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Without an answer by then, the message is kept all the same.
const ANSWER_SECONDS: u64 = 30;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let inbound_queue = variable("INBOUND_QUEUE", "fhir.inbound");
    let broker = variable("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let (id, bundle) = message();

    let connection = Connection::connect(&broker, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    // From now on the broker confirms each message once it has it.
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    // A queue of our own for the answer, gone with this connection.
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let replies = channel.queue_declare("".into(), own, FieldTable::default()).await?.name().clone();

    let properties = BasicProperties::default()
        .with_content_type("application/fhir+json".into())
        .with_delivery_mode(2) // on disk
        .with_message_id(id.as_str().into())
        .with_reply_to(replies.clone())
        .with_correlation_id(id.as_str().into());
    // Without `mandatory`, a message for a queue that is not there is lost without a word.
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let body = bundle.to_string();
    let written =
        channel.basic_publish("".into(), inbound_queue.as_str().into(), options, body.as_bytes(), properties).await?;
    match written.await? {
        Confirmation::Ack(None) => println!("sent {id}"),
        Confirmation::Ack(Some(_)) => bail!("the broker has no queue {inbound_queue}: is Emberpost running?"),
        other => bail!("the broker did not take the message: {other:?}"),
    }

    let answer = answer(&channel, replies, &id);
    match tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS), answer).await {
        Ok(told) => report(&told?),
        Err(_) => {
            println!("no answer yet: Emberpost or the broker has the message, and goes on with it");
            Ok(())
        }
    }
}

/// A new message has new ids. The same message, sent again, must keep its ids: so it is known as the same.
fn message() -> (String, Value) {
    let id = Uuid::new_v4().to_string();
    let [first, second] = [(); 2].map(|()| format!("urn:uuid:{}", Uuid::new_v4()));
    let patient = |identifier: &str| {
        json!({ "resourceType": "Patient",
                "identifier": [{ "system": "https://ward.example.org/patients", "value": identifier }] })
    };
    let header = json!({
        "resourceType": "MessageHeader",
        "id": id,
        "eventCoding": { "system": "http://hl7.org/fhir/message-events", "code": "patient-link" },
        "source": { "endpoint": "https://ward.example.org/fhir" },
        "destination": [{ "endpoint": "https://lab.example.org/fhir" }],
        "focus": [{ "reference": first }, { "reference": second }],
    });
    let bundle = json!({
        "resourceType": "Bundle",
        "id": Uuid::new_v4().to_string(),
        "type": "message",
        "timestamp": jiff::Timestamp::now().to_string(),
        "entry": [
            { "fullUrl": format!("urn:uuid:{id}"), "resource": header },
            { "fullUrl": first, "resource": patient("1001") },
            { "fullUrl": second, "resource": patient("1077") },
        ],
    });
    (id, bundle)
}

async fn answer(channel: &Channel, queue: ShortString, correlation_id: &str) -> anyhow::Result<Value> {
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut answers = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
    while let Some(came) = answers.next().await {
        let came = came?;
        if came.properties.correlation_id().as_ref().is_some_and(|id| id.as_str() == correlation_id) {
            return Ok(serde_json::from_slice(&came.data)?);
        }
    }
    bail!("the broker ended the connection")
}

fn report(told: &Value) -> anyhow::Result<()> {
    // To what could not even be read, the answer is a bare OperationOutcome.
    match told["entry"][0]["resource"]["response"]["code"].as_str() {
        Some("ok") => println!("answered ok"),
        _ => bail!("refused: {told}"),
    }
    Ok(())
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

//! Sends a pull event to Emberpost over RabbitMQ: which codes are in this value set? Prints the codes of the answer.

use anyhow::{Context, bail};
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

const ANSWER_SECONDS: u64 = 30;
const VALUE_SET: &str = "http://emberpost.org/fhir/ValueSet/pull-events";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let inbound_queue = variable("INBOUND_QUEUE", "fhir.inbound");
    let broker = variable("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f");
    // Who is asked: Emberpost itself, by its base_url.
    let (id, bundle) = request(&variable("DESTINATION", "http://127.0.0.1:8080/fhir"));

    let connection = Connection::connect(&broker, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let asking = ask(&channel, &inbound_queue, &id, &bundle);
    let told = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS), asking).await;
    let told = told.context("no answer in time; the same message, sent again, gets the same answer")??;

    // To what could not even be read, the answer is a bare OperationOutcome.
    if told["entry"][0]["resource"]["response"]["code"] != "ok" {
        bail!("refused: {told}");
    }
    println!("answered ok");
    let entries = told["entry"].as_array().into_iter().flatten();
    let found = entries.filter_map(|entry| entry.pointer("/resource/expansion/contains")?.as_array());
    for concept in found.flatten() {
        println!("{}", concept["code"].as_str().unwrap_or_default());
    }
    Ok(())
}

fn request(destination: &str) -> (String, Value) {
    let (id, focus) = (Uuid::new_v4().to_string(), format!("urn:uuid:{}", Uuid::new_v4()));
    let header = json!({
        "resourceType": "MessageHeader",
        "id": id,
        "eventCoding": { "system": "http://hl7.org/fhir/message-events", "code": "valueset-expand" },
        "source": { "endpoint": "https://ward.example.org/fhir" },
        "destination": [{ "endpoint": destination }],
        "focus": [{ "reference": focus }],
    });
    let value_set = json!({ "resourceType": "ValueSet", "url": VALUE_SET, "status": "active" });
    let bundle = json!({
        "resourceType": "Bundle",
        "id": Uuid::new_v4().to_string(),
        "type": "message",
        "timestamp": jiff::Timestamp::now().to_string(),
        "entry": [
            { "fullUrl": format!("urn:uuid:{id}"), "resource": header },
            { "fullUrl": focus, "resource": value_set },
        ],
    });
    (id, bundle)
}

/// Publishes with where to answer (`reply_to`) and a word to know the answer by (`correlation_id`), and waits for it.
async fn ask(channel: &Channel, queue: &str, id: &str, bundle: &Value) -> anyhow::Result<Value> {
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let replies = channel.queue_declare("".into(), own, FieldTable::default()).await?.name().clone();
    let properties = BasicProperties::default()
        .with_content_type("application/fhir+json".into())
        .with_delivery_mode(2)
        .with_message_id(id.into())
        .with_reply_to(replies.clone())
        .with_correlation_id(id.into());
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let body = bundle.to_string();
    let written = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties).await?;
    if written.await? != Confirmation::Ack(None) {
        bail!("the broker has no queue {queue}: is Emberpost running?");
    }
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut answers = channel.basic_consume(replies, "".into(), options, FieldTable::default()).await?;
    while let Some(came) = answers.next().await {
        let came = came?;
        if came.properties.correlation_id().as_ref().is_some_and(|of| of.as_str() == id) {
            return Ok(serde_json::from_slice(&came.data)?);
        }
    }
    bail!("the broker ended the connection")
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

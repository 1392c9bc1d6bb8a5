//! Receives the messages of the laboratory, a participant with an AMQP channel, and answers them. Ctrl-C ends it.

use anyhow::{Context, bail};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

const OWN_ADDRESS: &str = "https://lab.example.org/fhir";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let queue = variable("LAB_QUEUE", "lab.in");
    let broker = variable("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let connection = Connection::connect(&broker, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    // One at a time: they come in order, and stay in order.
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    // Not declared here: Emberpost declares the queue, with arguments of its own.
    let options = BasicConsumeOptions::default();
    let mut messages = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
    println!("waiting for messages in {queue}");

    // The answers given so far, by message. A consumer for daily use keeps them in its database, in the transaction of its
    // work: this one forgets them when it ends.
    let mut answers: HashMap<String, String> = HashMap::new();
    while let Some(came) = messages.next().await {
        let came = came?;
        let message: Value = serde_json::from_slice(&came.data)?;
        let key = identity(&message, &came);
        if answers.contains_key(&key) {
            println!("again {}", message["entry"][0]["resource"]["id"].as_str().unwrap_or_default());
        } else {
            work(&message);
        }
        let answer = answers.entry(key).or_insert_with(|| response(&message).to_string());
        reply(&channel, &came, answer).await?;
        // Last: whatever ends this program before here makes the broker bring the message again, and nothing is lost.
        came.ack(BasicAckOptions::default()).await?;
    }
    bail!("the broker ended the consumer; was the queue deleted?")
}

/// What stays the same when a message comes again. Ids are unique per sender, so the source belongs to it.
fn identity(message: &Value, came: &Delivery) -> String {
    let own = match header(came, "fhirVersion").starts_with('5') {
        true => json!([message["identifier"]["value"]]),
        false => json!([message["id"], message["entry"][0]["resource"]["id"]]),
    };
    format!("{} {own}", header(came, "source"))
}

fn work(message: &Value) {
    let header = &message["entry"][0]["resource"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    println!("took {} {}", text(&header["id"]), text(&header["eventCoding"]["code"]));
}

/// The answer: a message of the same event, whose response.identifier is the MessageHeader.id of the request (R4).
fn response(message: &Value) -> Value {
    let request = &message["entry"][0]["resource"];
    let id = Uuid::new_v4().to_string();
    let header = json!({
        "resourceType": "MessageHeader",
        "id": id,
        "eventCoding": request["eventCoding"],
        "source": { "endpoint": OWN_ADDRESS },
        "destination": [{ "endpoint": request["source"]["endpoint"] }],
        "response": { "identifier": request["id"], "code": "ok" },
    });
    json!({
        "resourceType": "Bundle",
        "id": Uuid::new_v4().to_string(),
        "type": "message",
        "timestamp": jiff::Timestamp::now().to_string(),
        "entry": [{ "fullUrl": format!("urn:uuid:{id}"), "resource": header }],
    })
}

/// Only requests that want an answer have reply_to; answers, for example, do not.
async fn reply(channel: &Channel, came: &Delivery, answer: &str) -> anyhow::Result<()> {
    let Some(queue) = came.properties.reply_to() else { return Ok(()) };
    let correlation_id = came.properties.correlation_id().clone().context("a request without correlation_id")?;
    let properties = BasicProperties::default()
        .with_content_type("application/fhir+json".into())
        .with_delivery_mode(2)
        .with_correlation_id(correlation_id);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let written = channel.basic_publish("".into(), queue.clone(), options, answer.as_bytes(), properties).await?;
    match written.await? {
        Confirmation::Ack(None) => Ok(()),
        other => bail!("the broker did not take the answer: {other:?}"),
    }
}

/// A header that is a text.
fn header(came: &Delivery, name: &str) -> String {
    let value = came.properties.headers().as_ref().and_then(|headers| headers.inner().get(name));
    match value {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    }
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

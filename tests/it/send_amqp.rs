//! `emberpost send` to a broker: what is waited for, and what each failure is called.

use std::process::Output;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

use crate::harness::{Broker, emberpost, free_address};

/// A party of the exchange: reads a queue of its own and answers each message with what `wanted` stands in it.
struct Party {
    queue: String,
    channel: Channel,
    _connection: Connection,
}

impl Party {
    /// With a queue that nobody reads yet.
    async fn new(broker: &Broker) -> Party {
        let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let queue = Broker::name("send");
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
        Party { queue, channel, _connection: connection }
    }

    async fn answering(self) -> Party {
        let queue = self.queue.as_str().into();
        let options = BasicConsumeOptions::default();
        let mut consumer = self.channel.basic_consume(queue, "".into(), options, FieldTable::default()).await.unwrap();
        let channel = self.channel.clone();
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let asked: Value = serde_json::from_slice(&delivery.data).unwrap();
                let correlation_id = delivery.properties.correlation_id().clone().unwrap();
                let mut properties = BasicProperties::default().with_correlation_id(correlation_id);
                if asked["wanted"]["resourceType"] == "OperationOutcome" {
                    properties = properties.with_type("OperationOutcome".into());
                }
                let (reply_to, body) = (delivery.properties.reply_to().clone(), asked["wanted"].to_string());
                if let Some(queue) = reply_to {
                    let options = BasicPublishOptions::default();
                    let written = channel.basic_publish("".into(), queue, options, body.as_bytes(), properties).await;
                    written.unwrap();
                }
                delivery.ack(BasicAckOptions::default()).await.unwrap();
            }
        });
        self
    }

    /// How many messages wait in its queue.
    async fn waiting(&self) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.channel.queue_declare(self.queue.as_str().into(), options, FieldTable::default()).await;
        queue.unwrap().message_count()
    }
}

fn response(code: &str) -> Value {
    json!({"resourceType": "Bundle", "entry": [{"resource": {"response": {"code": code}}}]})
}

/// Messages that each ask for an answer.
fn messages(wanted: &[Value]) -> String {
    wanted.iter().map(|wanted| format!("{}\n", json!({"wanted": wanted}))).collect()
}

async fn send(lines: &str, to: &str, flags: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.ndjson").display().to_string();
    std::fs::write(&path, lines).unwrap();
    let words = [&["send", &path, "--to", to, "--concurrency", "1"], flags].concat();
    let words: Vec<String> = words.into_iter().map(String::from).collect();
    // Not on this thread: the party answers here.
    let run = move || emberpost(&words.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[track_caller]
fn expect(output: &Output, code: i32, sentences: &[&str]) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "out: {out}\nerr: {err}");
    for sentence in sentences {
        assert!(out.contains(sentence) || err.contains(sentence), "{sentence} is not in\nout: {out}\nerr: {err}");
    }
    assert!(!out.contains("guest") && !err.contains("guest:"), "the password is shown\nout: {out}\nerr: {err}");
}

#[tokio::test]
async fn a_message_is_as_good_as_its_answer() {
    let Some(broker) = Broker::shared().await else { return };
    let party = Party::new(&broker).await.answering().await;
    let outcome = json!({"resourceType": "OperationOutcome", "issue": [
        {"severity": "error", "code": "structure", "diagnostics": "not readable"}]});
    let lines = messages(&[response("ok"), response("transient-error"), outcome]);
    let output = send(&lines, &broker.url(), &["--queue", &party.queue]).await;
    expect(&output, 1, &["ndjson:1 ok\n", "ndjson:2 transient-error\n", "ndjson:3 refused: not readable\n"]);
    let output = send(&messages(&[response("ok")]), &broker.url(), &["--queue", &party.queue]).await;
    expect(&output, 0, &["1 ok\n"]);
}

#[tokio::test]
async fn without_an_answer_a_message_is_in_custody_and_with_async_none_is_waited_for() {
    let Some(broker) = Broker::shared().await else { return };
    let party = Party::new(&broker).await;
    let output = send("{}\n", &broker.url(), &["--queue", &party.queue, "--timeout", "1"]).await;
    expect(&output, 0, &["ndjson:1 in custody (no answer in time)\n"]);
    let output = send("{}\n{}\n", &broker.url(), &["--queue", &party.queue, "--async"]).await;
    expect(&output, 0, &["ndjson:2 taken\n", ": 2 taken\n"]);
    assert_eq!(party.waiting().await, 3);
}

#[tokio::test]
async fn a_message_is_published_to_an_exchange_by_its_routing_key() {
    let Some(broker) = Broker::shared().await else { return };
    let party = Party::new(&broker).await;
    let (queue, options) = (party.queue.as_str(), lapin::options::QueueBindOptions::default());
    let bound =
        party.channel.queue_bind(queue.into(), "amq.topic".into(), queue.into(), options, FieldTable::default());
    bound.await.unwrap();
    let flags = ["--exchange", "amq.topic", "--async", "--routing-key"];
    expect(&send("{}\n", &broker.url(), &[&flags[..], &[queue]].concat()).await, 0, &["1 taken"]);
    let unbound = Broker::name("unbound");
    let output = send("{}\n", &broker.url(), &[&flags[..], &[unbound.as_str()]].concat()).await;
    expect(&output, 1, &["refused: no queue is bound to the exchange amq.topic"]);
    assert_eq!(party.waiting().await, 1);
}

#[tokio::test]
async fn what_the_broker_does_not_have_is_refused_message_by_message() {
    let Some(broker) = Broker::shared().await else { return };
    let nowhere = Broker::name("nowhere");
    let output = send("{}\n{}\n", &broker.url(), &["--queue", &nowhere]).await;
    expect(&output, 1, &[&format!("ndjson:1 refused: the broker has no queue {nowhere}"), ": 2 refused\n"]);
    let output = send("{}\n{}\n", &broker.url(), &["--exchange", &nowhere]).await;
    expect(&output, 1, &[&format!("ndjson:2 refused: the broker has no exchange {nowhere}"), ": 2 refused\n"]);
}

#[tokio::test]
async fn a_wrong_password_is_told_once_and_nothing_is_sent() {
    let Some(broker) = Broker::shared().await else { return };
    let to = broker.url().replace("guest:guest", "guest:s3cret");
    let output = send("{}\n{}\n", &to, &[]).await;
    expect(&output, 1, &["the broker refused the connection: ACCESS_REFUSED"]);
    assert!(output.stdout.is_empty() && !String::from_utf8_lossy(&output.stderr).contains("s3cret"));
}

#[tokio::test]
async fn a_broker_that_is_away_is_exit_code_3() {
    let output = send("{}\n", &format!("amqp://guest:guest@{}", free_address()), &[]).await;
    expect(&output, 3, &["ndjson:1 unreachable"]);
}

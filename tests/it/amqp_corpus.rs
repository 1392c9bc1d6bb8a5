//! Real messages of many publishers with AMQP on one side of the router or on both: byte for byte, and the same refusals as
//! over HTTP. `corpus` tells of the folder, the rounds and the page that both make.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::corpus::{Message, OVER_AMQP, Part, hold_to, read_all, rounds};
use crate::harness::{Answer, Broker, Lines, Node, NodeConfig, Party, Peer, Props, Reply, Taken, wait_until};
use fhir::format::convert;
use fhir::{FhirVersion, Format};

/// A round is some dozens of messages, on a machine that may be very busy.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// The files that were refused, each with the codes of its errors; none for responses, which are not told.
type Refused = BTreeMap<PathBuf, Option<BTreeSet<String>>>;

#[tokio::test(flavor = "multi_thread")]
async fn real_messages_cross_between_http_and_amqp_byte_for_byte() {
    let Some(folder) = std::env::var_os("EMBERPOST_CORPUS") else {
        println!("skipped: EMBERPOST_CORPUS names no folder of real messages");
        return;
    };
    let Some(broker) = Broker::shared().await else { return };
    let messages = read_all(Path::new(&folder));
    let all = messages.len();
    assert!(all > 0, "no messages in EMBERPOST_CORPUS");
    let mut refused = [0; 3];
    for round in rounds(messages) {
        let out = from_http_to_amqp(&broker, &round);
        let (out, inward, both) = tokio::join!(out, from_amqp_to_http(&broker, &round), over_amqp(&broker, &round));
        assert_eq!(inward, out, "over AMQP other messages are refused, or for another reason, than over HTTP");
        assert_eq!(both, inward);
        for (sum, count) in refused.iter_mut().zip([out.len(), inward.len(), both.len()]) {
            *sum += count;
        }
    }
    let ways = ["HTTP in, AMQP out", "AMQP in, HTTP out", "AMQP in, AMQP out"];
    let mut text = format!(
        "{OVER_AMQP}\nThe same messages with a broker on one side of the router or on both. Those refused are the same, for \
         the same reasons.\nMade by the test `amqp_corpus` in the same way.\n\n\
         | way | messages | taken | refused |\n|---|---|---|---|\n"
    );
    for (way, refused) in ways.iter().zip(refused) {
        text += &format!("| {way} | {all} | {} | {refused} |\n", all - refused);
    }
    hold_to(Part::OverAmqp, &text);
}

/// One participant owns every address, as in `corpus`.
fn config(lines: &Lines, everyone: Party) -> NodeConfig {
    let everyone = everyone.address("*").with("order = \"none\"");
    let config = lines
        .config_of(everyone)
        .shipped_definitions()
        .definitions("unknown_events = \"route\"")
        .validation("level = \"message\"");
    // Nobody answers, so that nobody is waited for.
    config.server("answer_timeout_ms = 1").toml("[[route]]\nto = [\"everyone\"]")
}

fn everyone() -> Party {
    Party::new("everyone")
}

async fn from_http_to_amqp(broker: &Broker, round: &[Message]) -> Refused {
    let lines = Lines::on(broker).await;
    let node = config(&lines, everyone().amqp("", &lines.lab)).start().await;
    let mut refused = Refused::new();
    for message in round {
        let reply = node.ask(node.posting(message.bytes.clone()).header("accept", "application/fhir+json")).await;
        assert!(reply.status < 500, "{}: {} {}", message.path.display(), reply.status, reply.text());
        if !reply.is_plain_success() {
            refused.insert(message.path.clone(), (!message.is_response).then(|| codes(&reply)));
        }
    }
    arrived_in_queue(&lines, round, &refused).await;
    refused
}

async fn from_amqp_to_http(broker: &Broker, round: &[Message]) -> Refused {
    let (lines, peer) = (Lines::on(broker).await, Peer::answering(Answer::Empty(204)).await);
    let node = config(&lines, everyone().at(&peer)).start().await;
    let replies = publish(&lines, round).await;
    wait_until(ROUND_LIMIT, "every message is delivered or refused", async || {
        peer.count() + refusals(&node).await.len() >= round.len()
    })
    .await;
    let refused = refused(&lines, &node, round, &replies).await;
    let received = peer.received().into_iter().map(|received| received.body.to_vec());
    is_all(received.collect(), round, &refused);
    refused
}

async fn over_amqp(broker: &Broker, round: &[Message]) -> Refused {
    let lines = Lines::on(broker).await;
    let node = config(&lines, everyone().amqp("", &lines.lab)).start().await;
    let replies = publish(&lines, round).await;
    wait_until(ROUND_LIMIT, "every message is delivered or refused", async || {
        let arrived = lines.client.depth(&lines.lab).await.unwrap() as usize;
        arrived + refusals(&node).await.len() >= round.len()
    })
    .await;
    let refused = refused(&lines, &node, round, &replies).await;
    arrived_in_queue(&lines, round, &refused).await;
    refused
}

/// Publishes a round, each message under its number; the queue for the answers.
async fn publish(lines: &Lines, round: &[Message]) -> String {
    let replies = lines.replies().await;
    let numbered = round.iter().enumerate().map(|(number, message)| {
        (
            message.bytes.clone(),
            Props::none()
                .content_type(Format::detect(&message.bytes).media_type())
                .message_id(&number.to_string())
                .reply_to(&replies),
        )
    });
    assert_eq!(lines.client.publish_many("", &lines.inbound, numbered).await, round.len());
    replies
}

/// Numbers of the messages that were refused, which is their request id.
async fn refusals(node: &Node) -> BTreeSet<usize> {
    let page = node.admin("messages?state=refused&limit=500").await;
    let messages = page["items"].as_array().unwrap();
    messages.iter().map(|message| message["request_id"].as_str().unwrap().parse().unwrap()).collect()
}

/// What was refused and why, as the sender is told in its queue.
async fn refused(lines: &Lines, node: &Node, round: &[Message], replies: &str) -> Refused {
    let numbers = refusals(node).await;
    let told = numbers.iter().filter(|number| !round[**number].is_response).count();
    let answers = if told > 0 { lines.client.take(replies, told, ROUND_LIMIT).await } else { Vec::new() };
    assert_eq!(lines.client.depth(replies).await, Some(0), "more answers than refusals");
    let mut refused: Refused = numbers.iter().map(|number| (round[*number].path.clone(), None)).collect();
    for answer in answers {
        let number: usize = answer.correlation_id().unwrap().parse().unwrap();
        refused.insert(round[number].path.clone(), Some(codes(&reply_of(&answer))));
    }
    refused
}

/// An answer has the format of its request: all are looked at in JSON.
fn reply_of(answer: &Taken) -> Reply {
    let body = convert(answer.body.clone().into(), Format::Json, FhirVersion::R4).unwrap();
    Reply { status: 200, headers: Default::default(), body }
}

/// Faults and rules of a reply's errors.
fn codes(reply: &Reply) -> BTreeSet<String> {
    let is_error = |issue: &Value| matches!(issue["severity"].as_str(), Some("error" | "fatal"));
    let errors: Vec<Value> = reply.issues().into_iter().filter(is_error).collect();
    let codings = errors.iter().flat_map(|issue| issue["details"]["coding"].as_array().into_iter().flatten());
    let codes: BTreeSet<_> = codings.filter_map(|coding| Some(coding["code"].as_str()?.to_owned())).collect();
    assert!(!codes.is_empty(), "refused without a reason: {}", reply.text());
    codes
}

async fn arrived_in_queue(lines: &Lines, round: &[Message], refused: &Refused) {
    let count = round.len() - refused.len();
    let taken = lines.client.take(&lines.lab, count, ROUND_LIMIT).await;
    is_all(taken.into_iter().map(|taken| taken.body).collect(), round, refused);
}

#[track_caller]
fn is_all(mut arrived: Vec<Vec<u8>>, round: &[Message], refused: &Refused) {
    let taken = round.iter().filter(|message| !refused.contains_key(&message.path));
    for message in taken {
        let place = arrived.iter().position(|bytes| *bytes == message.bytes);
        let place = place.unwrap_or_else(|| panic!("{} did not arrive byte for byte", message.path.display()));
        arrived.swap_remove(place);
    }
    assert_eq!(arrived.len(), 0, "more arrived than was sent");
}

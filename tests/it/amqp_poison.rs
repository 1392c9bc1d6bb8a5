//! What no queue should hold: each is answered, kept as it came and acknowledged, and holds back nobody.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::amqp_faults::{LATER, Queues, as_reply, ids, ids_at, ids_of, listed};
use crate::bad_input::link;
use crate::harness::amqp::Taken;
use crate::harness::lines::Lines;
use crate::harness::node::PROCESS_MESSAGE;
use crate::harness::raw::gzip_bomb;
use crate::harness::raw_amqp::publish_with_correlation;
use crate::harness::{Broker, Node, Party, Peer, Props, Reply, SOON, Sample, wait_until};

const MEBIBYTE: usize = 1024 * 1024;
const NAME: &str = "router.one";

/// How its sender hears of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    /// An OperationOutcome: there is no message that could be answered.
    Outcome,
    /// A response message, `fatal-error`.
    Message,
    /// Not at all: a response is never answered (MSG-41).
    Never,
}

struct Poison {
    what: &'static str,
    body: Vec<u8>,
    content_type: &'static str,
    encoding: Option<&'static str>,
    via: Option<String>,
    told: Told,
    fault: &'static str,
}

impl Poison {
    fn new(what: &'static str, body: impl Into<Vec<u8>>, told: Told, fault: &'static str) -> Poison {
        let body = body.into();
        Poison { what, body, content_type: "application/fhir+json", encoding: None, via: None, told, fault }
    }

    fn message(what: &'static str, message: &Sample, fault: &'static str) -> Poison {
        Poison::new(what, message.bytes(), Told::Message, fault)
    }

    fn encoded(self, encoding: &'static str) -> Poison {
        Poison { encoding: Some(encoding), ..self }
    }

    /// `id` as the message's own; every other one has a correlation, too.
    fn props(&self, number: usize, reply_to: &str) -> Props {
        let mut props = Props::none().content_type(self.content_type).reply_to(reply_to).message_id(&id(number));
        if number.is_multiple_of(2) {
            props = props.correlation_id(&correlation(number));
        }
        if let Some(encoding) = self.encoding {
            props = props.content_encoding(encoding);
        }
        match &self.via {
            Some(via) => props.header("via", via),
            None => props,
        }
    }

    /// The same over HTTP.
    async fn post(&self, node: &Node) -> Reply {
        let request = node.request(Method::POST, PROCESS_MESSAGE).header("content-type", self.content_type);
        let headers = [("content-encoding", self.encoding), ("via", self.via.as_deref())];
        let named = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let request = named.fold(request, |request, (name, value)| request.header(name, value));
        node.ask(request.body(self.body.clone())).await
    }
}

fn id(number: usize) -> String {
    format!("poison-{number}")
}

/// What the answer to this one must carry.
fn correlation(number: usize) -> String {
    if number.is_multiple_of(2) { format!("correlation-{number}") } else { id(number) }
}

/// All that is wrong with bytes and properties, not with a message.
fn unreadable() -> Vec<Poison> {
    let new = |what, body: Vec<u8>, fault| Poison::new(what, body, Told::Outcome, fault);
    let good = || link().bytes();
    vec![
        new("garbage", vec![0xff, 0x00, 0xc3, 0x28, 0x7f], "SEND_SYNTAX"),
        new("an empty body", Vec::new(), "SEND_SYNTAX"),
        Poison {
            content_type: "application/x-python-serialize",
            ..new("a wrong content type", good(), "SEND_MEDIA_TYPE")
        },
        new("an unknown encoding", good(), "SEND_MEDIA_TYPE").encoded("br"),
        new("gzip that is none", good(), "SEND_MEDIA_TYPE").encoded("gzip"),
        new("a gzip bomb", gzip_bomb(30 * MEBIBYTE), "SEND_TOO_LARGE").encoded("gzip"),
        new("JSON that is no Bundle", br#"{"resourceType":"Patient","id":"p1"}"#.to_vec(), "SEND_NOT_MESSAGE"),
        new("a transaction", link().set("/type", json!("transaction")).bytes(), "SEND_NOT_MESSAGE"),
        new("a message without source", link().without_source().bytes(), "SEND_UNKNOWN_SOURCE"),
    ]
}

/// All that can be read.
fn invalid() -> Vec<Poison> {
    let full_url = json!("urn:uuid:a0000000-0000-4000-8000-ffffffffffff");
    let not_asked = Sample::new().from("http://lab.example/fhir").to("http://nobody.example/fhir");
    let not_asked = not_asked.answering("never-asked", "ok").bytes();
    vec![
        Poison::message("against a rule", &link().set("/entry/1/fullUrl", full_url), "SEND_STRUCTURE"),
        Poison::message("against its definition", &Sample::new().addressed_to("lab"), "SEND_DEFINITION"),
        Poison::message("an unknown event", &link().event("no-such-event"), "SEND_UNKNOWN_EVENT"),
        Poison::message("an unknown source", &link().from("http://unknown.example/fhir"), "SEND_UNKNOWN_SOURCE"),
        Poison::new("a response nobody asked for", not_asked, Told::Never, "SEND_UNKNOWN_DESTINATION"),
        Poison { via: Some(format!("1.1 {NAME}")), ..Poison::message("a loop", &link(), "ROUTE_LOOP") },
    ]
}

/// The message as the store has it, refused, and its bytes.
async fn kept(node: &Node, number: usize) -> (Value, Vec<u8>) {
    let refused = listed(node, "messages?state=refused").await;
    let found: Vec<_> = refused.into_iter().filter(|message| message["request_id"] == id(number)).collect();
    assert_eq!(found.len(), 1, "{number} is kept once");
    let content = format!("/admin/v1/messages/{}/content", found[0]["id"].as_str().unwrap());
    let bytes = node.get(&content).await.expect_status(200).body.to_vec();
    (found[0].clone(), bytes)
}

/// Faults and codes of a kept outcome.
fn reasons(message: &Value) -> (Vec<String>, Vec<String>) {
    let issues = message["outcome"]["issues"].as_array().expect("a refusal without its outcome");
    let texts = |key: &str| issues.iter().map(|issue| issue[key].as_str().unwrap().to_owned()).collect();
    (texts("fault"), texts("code"))
}

#[track_caller]
fn assert_told(poison: &Poison, answer: Option<&Taken>) {
    let Some(answer) = answer else {
        assert_eq!(poison.told, Told::Never, "{} was not answered", poison.what);
        return;
    };
    let kind = answer.properties.kind().as_ref().map(|kind| kind.as_str().to_owned());
    let reply = as_reply(answer);
    let found = match (kind.as_deref(), reply.response_code().as_deref()) {
        (Some("OperationOutcome"), None) if reply.json()["resourceType"] == "OperationOutcome" => Told::Outcome,
        (_, Some("fatal-error")) => Told::Message,
        other => panic!("{}: {other:?}, {}", poison.what, reply.text()),
    };
    assert_eq!(found, poison.told, "{}: {}", poison.what, reply.text());
    assert_eq!(reply.faults().first().map(String::as_str), Some(poison.fault), "{}: {}", poison.what, reply.text());
}

#[tokio::test]
async fn a_property_that_is_no_text_is_dead_lettered_and_what_is_behind_it_comes() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let mut node = lines.config().start().await;
    assert!(node.terminate().await.success());
    // So many that some are not begun when the connection is lost, all of them there from the start.
    let messages: Vec<_> = (0..202).map(|_| Sample::new().addressed_to("lab")).collect();
    let (before, behind) = messages.split_at(200);
    let bodies: Vec<_> = before.iter().map(|message| (message.bytes(), Props::json())).collect();
    assert_eq!(lines.client.publish_many("", &lines.inbound, bodies).await, before.len());
    let (port, queue) = (broker.port(), lines.inbound.clone());
    // Latin-1 for café.
    tokio::task::spawn_blocking(move || publish_with_correlation(port, &queue, b"caf\xE9")).await.unwrap();
    for message in behind {
        lines.tell(&message.bytes(), Props::json()).await;
    }
    node.restart().await;
    let mut seen = std::collections::HashSet::new();
    let taken = lines.client.take(&lines.lab, messages.len(), LATER).await;
    let first: Vec<_> = ids_of(&taken).into_iter().filter(|id| seen.insert(id.clone())).collect();
    assert_eq!(first, ids(&messages));
    let dead = format!("{}.dead", lines.inbound);
    wait_until(LATER, "it is dead-lettered", async || lines.client.depth(&dead).await == Some(1)).await;
}

#[tokio::test]
async fn an_address_that_no_frame_holds_is_left_out_of_the_headers_and_everything_goes_on() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    let endless = format!("urn:{}", "x".repeat(200_000));
    let stranger = Sample::new().from(&endless).addressed_to("lab");
    let told = lines.request(&stranger).await;
    assert!(told.text().contains("SEND_LIMIT"), "{}", told.text());
    assert_eq!(told.header("destination"), None);

    lines.tell(&Sample::new().addressed_to("lab").bytes(), Props::json()).await;
    lines.client.take(&lines.lab, 1, SOON).await;
    assert!(!node.log().contains("was lost"), "a connection was lost");
}

#[tokio::test]
async fn poison_is_answered_kept_and_acknowledged_and_what_lies_between_is_processed_in_order() {
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let lab = Peer::ok().await;
    let config = queues.config().participant(Party::new("lab").at(&lab)).shipped_definitions();
    let node = config.server(&format!("name = \"{NAME}\"")).start().await;
    let mine = queues.replies().await;
    let all: Vec<Poison> = unreadable().into_iter().chain(invalid()).collect();
    let good: Vec<Sample> = (0..=all.len()).map(|_| link()).collect();
    let huge = vec![b' '; 30 * MEBIBYTE];

    let mut messages = Vec::new();
    for (number, poison) in all.iter().enumerate() {
        messages.push((good[number].bytes(), Props::json()));
        messages.push((poison.body.clone(), poison.props(number, &mine)));
        if number == all.len() / 2 {
            messages.push((huge.clone(), Props::json().message_id("huge").header("kind", "too large")));
        }
    }
    messages.push((good[all.len()].bytes(), Props::json()));
    let count = messages.len();
    assert_eq!(queues.client.publish_many("", &queues.inbound, messages).await, count);

    queues.wait_until_taken(&node).await;
    lab.wait_for(good.len(), LATER).await;
    assert_eq!(ids_at(&lab), ids(&good));
    let owed = all.iter().filter(|poison| poison.told != Told::Never).count();
    let answers = queues.client.take(&mine, owed, LATER).await;
    let answers: HashMap<_, _> =
        answers.iter().map(|answer| (answer.correlation_id().unwrap().to_owned(), answer)).collect();
    assert_eq!(answers.len(), owed, "one was answered twice");
    for (number, poison) in all.iter().enumerate() {
        assert_told(poison, answers.get(&correlation(number)).copied());
        let (message, bytes) = kept(&node, number).await;
        assert!(bytes == poison.body, "{} was not kept as it came", poison.what);
        let over_http = poison.post(&node).await;
        assert_eq!(reasons(&message), (over_http.faults(), over_http.issue_codes()), "{}", poison.what);
    }
    let dead = queues.client.take(&format!("{}.dead", queues.inbound), 1, LATER).await.remove(0);
    assert!(dead.body == huge, "the body that is too large was not kept");
    assert_eq!(dead.properties.message_id().as_ref().map(|id| id.as_str()), Some("huge"));
    assert_eq!(dead.header("kind").as_deref(), Some("too large"));
    assert_eq!(listed(&node, "messages?state=accepted&sender=sender").await.len(), good.len());
    assert_eq!(queues.client.depth(&mine).await, Some(0), "more answers than questions");
    assert_eq!(lab.count(), good.len());
}

#[tokio::test]
async fn what_lies_behind_a_body_that_is_too_large_does_not_overtake_what_lies_before_it() {
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let lab = Peer::ok().await;
    let config = queues.config().participant(Party::new("lab").at(&lab));
    let node = config.server("body_limit_bytes = 600000").start().await;
    // The first takes long to read, the last does not.
    let names: Value = (0..30_000).map(|_| json!({ "family": "x" })).collect();
    let large = || Sample::new().addressed_to("lab").set("/entry/1/resource/name", names.clone());
    let good: Vec<Sample> = (0..3).flat_map(|_| [large(), Sample::new().addressed_to("lab")]).collect();
    let huge = vec![b' '; 600_001];
    let mut messages = Vec::new();
    for pair in good.chunks(2) {
        messages.push((pair[0].bytes(), Props::json()));
        messages.push((huge.clone(), Props::json()));
        messages.push((pair[1].bytes(), Props::json()));
    }
    assert_eq!(queues.client.publish_many("", &queues.inbound, messages).await, 9);

    lab.wait_for(good.len(), LATER).await;

    assert_eq!(ids_at(&lab), ids(&good));
    queues.wait_until_taken(&node).await;
    wait_until(LATER, "all that is too large is put aside", async || {
        queues.client.depth(&format!("{}.dead", queues.inbound)).await == Some(3)
    })
    .await;
}

//! More than one answer to a request: the first closes it, a further one follows it where its requester may have several.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Broker, Lines, Node, NodeConfig, Party, Peer, Props, Reply, SOON, Sample, wait_until};

const SYSTEM: &str = "http://sender.example/events";

/// Definitions of the events `currency`, `notification`, and `consequence`, each of that category.
struct Events(tempfile::TempDir);

impl Events {
    fn new() -> Events {
        let folder = tempfile::TempDir::new().unwrap();
        for category in ["currency", "notification", "consequence"] {
            let definition = json!({
                "resourceType": "MessageDefinition", "id": category, "status": "active", "date": "2026-01-01",
                "url": format!("http://sender.example/MessageDefinition/{category}"), "category": category,
                "eventCoding": { "system": SYSTEM, "code": category },
            });
            std::fs::write(folder.path().join(format!("{category}.json")), definition.to_string()).unwrap();
        }
        Events(folder)
    }

    fn of(&self, config: NodeConfig) -> NodeConfig {
        config.definitions(&format!("paths = [{:?}]", self.0.path()))
    }
}

fn to_lab(event: &str) -> Sample {
    Sample::new().event_of(SYSTEM, event).addressed_to("lab")
}

/// An answer of the lab's that says `what`.
fn answer(request: &Sample, event: &str, code: &str, what: &str) -> Sample {
    let answer = Sample::new().from("http://lab.example/fhir").addressed_to("sender").event_of(SYSTEM, event);
    answer.about(what).answering(&request.header_id(), code)
}

/// The same words under identities of their own.
fn said_again(answer: &Sample, number: u32) -> Sample {
    let id = |kind: char| format!("{kind}0000000-0000-4000-9000-{number:012x}");
    answer.clone().with_bundle_id(&id('b')).with_header_id(&id('c'))
}

async fn post(node: &Node, message: &Sample) -> Reply {
    node.post(message.bytes()).await
}

async fn post_async(node: &Node, query: &str, message: &Sample) -> Reply {
    let request = node.request(Method::POST, &format!("/fhir/$process-message?async=true{query}"));
    node.ask(request.header("content-type", "application/fhir+json").body(message.bytes())).await.expect_status(200)
}

async fn message(node: &Node, reply: &Reply) -> Value {
    node.admin(&format!("messages/{}", reply.header("emberpost-message-id").unwrap())).await
}

#[tokio::test]
async fn further_answers_follow_the_first_by_category_and_the_same_words_do_not() {
    let (home, lab) = (Peer::answering(Answer::Empty(200)).await, Peer::answering(Answer::Empty(202)).await);
    let events = Events::new();
    let config = NodeConfig::new().participant(Party::sender().at(&home)).participant(Party::new("lab").at(&lab));
    let node = events.of(config).start().await;
    for (event, follows) in [("currency", true), ("notification", true), ("unknown", true), ("consequence", false)] {
        let before = home.count();
        let request = to_lab(event);
        let asked = post(&node, &request).await.expect_status(202);
        let asked = asked.header("emberpost-message-id").unwrap();
        let words = ["in treatment", "agreement", "paid"].map(|what| answer(&request, event, "ok", what));
        for words in &words {
            post(&node, words).await.expect_status(200);
        }
        for (number, words) in words.iter().enumerate() {
            let again = post(&node, &said_again(words, number as u32)).await.expect_status(200);
            let kept = message(&node, &again).await;
            assert_eq!((&kept["further"], &kept["in_reply_to"]), (&json!(false), &json!(asked)), "{event}: {kept}");
            assert_eq!(kept["deliveries"], json!([]), "{event}");
        }
        let expected = if follows { 3 } else { 1 };
        let received = home.wait_for(before + expected, SOON).await;
        let bodies: Vec<Vec<u8>> = received[before..].iter().map(|received| received.body.to_vec()).collect();
        assert_eq!(bodies, words.iter().take(expected).map(Sample::bytes).collect::<Vec<_>>(), "{event}");
        let shown = node.admin(&format!("messages/{asked}")).await;
        let flags: Vec<&Value> = shown["answers"].as_array().unwrap().iter().map(|answer| &answer["further"]).collect();
        assert_eq!(flags, [false, true, true, false, false, false], "{event}: all answers are listed");
    }
    assert_eq!(node.admin("messages?further=true").await["items"].as_array().unwrap().len(), 8);
    assert_eq!(home.count(), 10);
}

#[tokio::test]
async fn further_answers_are_in_order_behind_a_first_that_waits() {
    let (home, lab) = (Peer::answering(Answer::Empty(503)).await, Peer::answering(Answer::Empty(202)).await);
    let sender = Party::sender().at(&home).with("retry_schedule_seconds = [1]");
    let node = NodeConfig::new().participant(sender).participant(Party::new("lab").at(&lab)).start().await;
    let request = to_lab("e");
    post(&node, &request).await.expect_status(202);
    let words = ["1", "2", "3"].map(|what| answer(&request, "e", "ok", what));
    for words in &words {
        post(&node, words).await.expect_status(200);
    }
    let tried = home.wait_for(1, SOON).await.len();
    home.answer(Answer::Empty(200));
    wait_until(SOON * 2, "all are delivered", async || {
        let page = node.admin("deliveries?participant=sender&state=delivered").await;
        page["items"].as_array().unwrap().len() == 3
    })
    .await;
    let received = home.received();
    let bodies: Vec<_> = received[received.len() - 3..].iter().map(|received| received.body.to_vec()).collect();
    assert_eq!(bodies, words.iter().map(Sample::bytes).collect::<Vec<_>>());
    assert!(received.iter().take(tried).all(|received| received.body == words[0].bytes()));
}

#[tokio::test]
async fn after_a_first_answer_on_the_line_a_further_one_goes_to_the_channel() {
    let (home, lab) = (Peer::answering(Answer::Empty(200)).await, Peer::ok().await);
    let config = NodeConfig::new().participant(Party::sender().at(&home)).participant(Party::new("lab").at(&lab));
    let node = config.start().await;
    let request = Sample::new().addressed_to("lab");
    let first = post(&node, &request).await.expect_status(200);
    let further = answer(&request, "patient-link", "ok", "more");
    post(&node, &further).await.expect_status(200);
    assert_eq!(home.wait_for(1, SOON).await[0].body, further.bytes());
    assert_eq!(post(&node, &request).await.expect_status(200).body, first.body);
}

#[tokio::test]
async fn without_a_channel_or_with_a_status_url_a_further_answer_is_stored_listed_and_flagged() {
    let lab = Peer::answering(Answer::Empty(202)).await;
    let home = Peer::answering(Answer::Empty(200)).await;
    for (party, prefer) in [(Party::sender(), ""), (Party::sender().at(&home), "respond-async")] {
        let node = NodeConfig::new().participant(party).participant(Party::new("lab").at(&lab)).start().await;
        let request = to_lab("e");
        let asking = node.posting(request.bytes());
        let asking = if prefer.is_empty() { asking } else { asking.header("prefer", prefer) };
        let asked = node.ask(asking).await.expect_status(202);
        let asked = asked.header("emberpost-message-id").unwrap();
        let (first, further) = (answer(&request, "e", "ok", "1"), answer(&request, "e", "ok", "2"));
        post(&node, &first).await.expect_status(200);
        let reply = post(&node, &further).await.expect_status(200);
        let kept = message(&node, &reply).await;
        assert_eq!((&kept["further"], &kept["deliveries"]), (&json!(true), &json!([])), "{kept}");
        assert_eq!(node.admin("messages?further=true").await["items"][0]["id"], kept["id"]);
        let page = node.get(&format!("/fhir/async/{asked}")).await.expect_status(200).json();
        assert_eq!(page["entry"].as_array().unwrap().len(), 1);
        assert_eq!(page["entry"][0]["resource"], first.value());
    }
    assert_eq!(home.count(), 0);
}

#[tokio::test]
async fn after_a_transient_error_the_next_answer_counts_as_the_first() {
    let (home, lab) = (Peer::answering(Answer::Empty(200)).await, Peer::answering(Answer::Empty(202)).await);
    let events = Events::new();
    let config = NodeConfig::new().participant(Party::sender().at(&home)).participant(Party::new("lab").at(&lab));
    let node = events.of(config).start().await;
    // Also for consequence events, which have one answer.
    let request = to_lab("consequence");
    let asked = post(&node, &request).await.expect_status(202);
    let asked = asked.header("emberpost-message-id").unwrap();
    let transient = answer(&request, "consequence", "transient-error", "later");
    let first = answer(&request, "consequence", "ok", "done");
    let further = answer(&request, "consequence", "ok", "done twice");
    for answer in [&transient, &first, &further] {
        post(&node, answer).await.expect_status(200);
    }
    let received = home.wait_for(2, SOON).await;
    assert_eq!([&received[0].body, &received[1].body], [&transient.bytes(), &first.bytes()]);
    let page = node.get(&format!("/fhir/async/{asked}")).await.expect_status(200).json();
    assert_eq!(page["entry"][0]["resource"], first.value());
    let shown = node.admin(&format!("messages/{asked}")).await;
    let flags: Vec<&Value> = shown["answers"].as_array().unwrap().iter().map(|answer| &answer["further"]).collect();
    assert_eq!(flags, [false, false, true], "{shown}");
    assert_eq!(home.count(), 2);
}

#[tokio::test]
async fn a_further_answer_to_an_asynchronous_request_goes_where_the_first_went() {
    let (home, lab) = (Peer::answering(Answer::Empty(200)).await, Peer::answering(Answer::Empty(202)).await);
    let sender = Party::sender().at(&home).address("http://sender.example/*").address(&format!("{}/*", home.url()));
    let node = NodeConfig::new().participant(sender).participant(Party::new("lab").at(&lab)).start().await;
    for (query, path) in [("", "/fhir/$process-message?async=true"), ("&response-url=", "/fhir/here?async=true")] {
        let query = if query.is_empty() { String::new() } else { format!("{query}{}/here", home.url()) };
        let before = home.count();
        let request = to_lab("e");
        post_async(&node, &query, &request).await;
        let words = ["1", "2"].map(|what| answer(&request, "e", "ok", what));
        for words in &words {
            post(&node, words).await.expect_status(200);
        }
        let received = home.wait_for(before + 2, SOON).await;
        for (received, words) in received[before..].iter().zip(&words) {
            assert_eq!((&received.body[..], &*received.path_and_query), (&words.bytes()[..], path));
        }
    }
}

#[tokio::test]
async fn a_further_answer_reaches_the_reply_queue_of_a_sender_over_amqp() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    let replies = lines.replies().await;
    let request = to_lab("e");
    lines.tell(&request.bytes(), Props::json().reply_to(&replies).correlation_id("mine")).await;
    lines.asked().await;
    for what in ["1", "2", "2"] {
        let words = answer(&request, "e", "ok", what)
            .set("/entry/1/fullUrl", json!("urn:uuid:0b9f6a3e-8f3c-4c52-9a7d-1f5b6c7d8e9f"));
        let words =
            words.set("/entry/0/resource/focus/0/reference", json!("urn:uuid:0b9f6a3e-8f3c-4c52-9a7d-1f5b6c7d8e9f"));
        assert!(lines.client.publish("", &lines.answers, &words.bytes(), Props::json()).await);
        if what == "1" {
            let taken = lines.next(&replies).await;
            assert_eq!((&taken.body, taken.correlation_id()), (&words.bytes(), Some("mine")));
        }
    }
    assert_eq!(lines.next(&replies).await.correlation_id(), Some("mine"));
    wait_until(SOON, "the third is stored", async || {
        node.admin("messages?sender=lab").await["items"].as_array().unwrap().len() == 3
    })
    .await;
    assert_eq!(lines.client.depth(&replies).await, Some(0));
}

/// Answers out of a queue stand behind a message that takes long to read, when others to the same requests come over HTTP.
#[tokio::test]
async fn of_two_answers_that_race_the_sender_on_the_line_gets_one_and_its_channel_the_other() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, home) = (Lines::on(&broker).await, Peer::answering(Answer::Empty(200)).await);
    let lab = Peer::answering(Answer::Hang).await;
    let wide = Party::new("lab").at(&lab).with("concurrency = 32").with("order = \"none\"");
    let node = lines.config_of(Party::sender().at(&home)).participant(wide).start().await;
    let requests: Vec<Sample> = (0..10).map(|_| to_lab("e")).collect();
    let asking = futures_util::future::join_all(requests.iter().map(|request| node.post(request.bytes())));
    let racing = async {
        lab.wait_for(requests.len(), SOON).await;
        lines.tell(&long_to_read(), Props::json()).await;
        for request in &requests {
            let answer = answer(request, "e", "ok", "out of the queue").bytes();
            assert!(lines.client.publish("", &lines.inbound, &answer, Props::json()).await);
        }
        wait_until(SOON, "the router has the queue", async || lines.client.depth(&lines.inbound).await == Some(0))
            .await;
        for request in &requests {
            post(&node, &answer(request, "e", "ok", "over HTTP")).await.expect_status(200);
        }
    };
    let (replies, ()) = tokio::join!(asking, racing);
    let received = home.wait_for(10, SOON * 2).await;
    for (request, reply) in requests.iter().zip(replies) {
        assert_eq!(reply.status, 200, "{}", reply.text());
        let own: Vec<_> = received.iter().filter(|received| answers(&received.json(), request)).collect();
        assert_eq!(own.len(), 1, "one of the two answers is at home");
        assert_ne!(own[0].body, reply.body, "an answer came both ways");
    }
    assert_eq!(home.count(), 10);
}

/// A message of very many entries, each of which is checked.
fn long_to_read() -> Vec<u8> {
    let mut message = to_lab("e").value();
    let patient = |number: u32| {
        let full_url = format!("urn:uuid:0b9f6a3e-8f3c-4c52-9a7d-{number:012x}");
        json!({ "fullUrl": full_url, "resource": { "resourceType": "Patient", "name": [{ "family": "Many" }] } })
    };
    message["entry"].as_array_mut().unwrap().extend((0..6_000).map(patient));
    message.to_string().into_bytes()
}

fn answers(message: &Value, request: &Sample) -> bool {
    message["entry"][0]["resource"]["response"]["identifier"] == request.header_id()
}

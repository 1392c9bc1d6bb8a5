//! Whose an answer is: one that names its request without doubt reaches its requester and nobody else; one that fits several
//! is nobody's until an operator says whose it is.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Broker, Lines, Node, NodeConfig, Party, Peer, Props, Reply, SOON, Sample, wait_until};

/// Three senders with channels, and a lab that takes messages and answers later.
struct Hospital {
    node: Node,
    homes: Vec<(&'static str, Peer)>,
    lab: Peer,
}

impl Hospital {
    async fn new() -> Hospital {
        let lab = Peer::answering(Answer::Empty(202)).await;
        let mut config = NodeConfig::new().participant(Party::new("lab").at(&lab));
        let mut homes = Vec::new();
        for id in ["alpha", "beta", "gamma"] {
            let home = Peer::answering(Answer::Empty(200)).await;
            config = config.participant(Party::new(id).at(&home));
            homes.push((id, home));
        }
        Hospital { node: config.start().await, homes, lab }
    }

    fn home(&self, id: &str) -> &Peer {
        self.homes.iter().find(|(known, _)| *known == id).map(|(_, home)| home).unwrap()
    }

    /// Sends a message of this sender, asynchronously, and waits until the lab's word on it is stored; its message id.
    async fn send(&self, sender: &str, message: Sample) -> String {
        let message = message.from(&format!("http://{sender}.example/fhir")).addressed_to("lab");
        let reply = post(&self.node, &message).await.expect_status(200);
        let id = reply.header("emberpost-message-id").unwrap().to_owned();
        wait_until(SOON, "the lab has it", async || delivery(&self.node, &id).await["state"] == "delivered").await;
        id
    }

    /// What each home has got, beside those that expect something.
    fn nobody_but(&self, expected: &[(&str, usize)]) {
        for (id, home) in &self.homes {
            let wanted = expected.iter().find(|(known, _)| known == id).map_or(0, |(_, count)| *count);
            assert_eq!(home.count(), wanted, "{id} got something");
        }
    }
}

async fn post(node: &Node, message: &Sample) -> Reply {
    let request = node.request(Method::POST, "/fhir/$process-message?async=true");
    node.ask(request.header("content-type", "application/fhir+json").body(message.bytes())).await
}

/// The delivery of a message.
async fn delivery(node: &Node, message: &str) -> Value {
    node.admin(&format!("deliveries?message={message}")).await["items"][0].clone()
}

async fn message(node: &Node, reply: &Reply) -> Value {
    node.admin(&format!("messages/{}", reply.header("emberpost-message-id").unwrap())).await
}

async fn ids(node: &Node, query: &str) -> Vec<String> {
    let page = node.admin(&format!("messages?{query}")).await;
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

fn from_lab(identifier: &str) -> Sample {
    Sample::new().from("http://lab.example/fhir").answering(identifier, "ok")
}

#[tokio::test]
async fn an_answer_that_fits_two_senders_is_nobodys_until_it_is_assigned() {
    let hospital = Hospital::new().await;
    let node = &hospital.node;
    let alpha = hospital.send("alpha", Sample::new().with_header_id("1")).await;
    let beta = hospital.send("beta", Sample::new().with_header_id("1")).await;
    let answer = from_lab("1");
    let reply = node.post(answer.bytes()).await.expect_status(200);
    assert!(reply.body.is_empty());
    let kept = message(node, &reply).await;
    assert_eq!((&kept["ambiguous"], &kept["in_reply_to"]), (&json!(true), &Value::Null), "{kept}");
    assert_eq!(kept["outcome"]["issues"][0]["fault"], "RECV_AMBIGUOUS");
    let text = kept["outcome"]["issues"][0]["diagnostics"].as_str().unwrap();
    assert!(text.contains(&alpha) && text.contains(&beta), "{text}");
    let id = kept["id"].as_str().unwrap().to_owned();
    for query in ["ambiguous=true", "fault=RECV_AMBIGUOUS", "ambiguous=true&sender=lab"] {
        assert_eq!(ids(node, query).await, std::slice::from_ref(&id), "{query}");
    }
    assert!(!ids(node, "ambiguous=false").await.contains(&id));
    // It comes again: it is known, and still nobody's.
    let again = node.post(answer.bytes()).await.expect_status(200);
    assert_eq!((again.header("emberpost-repeat"), again.header("emberpost-message-id")), (Some("true"), Some(&*id)));
    hospital.nobody_but(&[]);
    for request in [&alpha, &beta] {
        assert_eq!(delivery(node, request).await["state"], "delivered");
    }

    let assign = async |to: &str| node.admin_post(&format!("messages/{id}/assign"), json!({ "to": to })).await;
    let assigned = assign(&beta).await.expect_status(200).json();
    assert_eq!((&assigned["ambiguous"], &assigned["in_reply_to"]), (&json!(false), &json!(beta)), "{assigned}");
    assert_eq!(hospital.home("beta").wait_for(1, SOON).await[0].body, answer.bytes());
    assert_eq!(delivery(node, &beta).await["answer"], id.as_str());
    assert_eq!(ids(node, "ambiguous=true").await, Vec::<String>::new());
    assign(&alpha).await.expect_status(409);
    hospital.nobody_but(&[("beta", 1)]);
}

#[tokio::test]
async fn only_an_ambiguous_response_can_be_assigned_and_only_to_a_request_that_its_sender_got() {
    let hospital = Hospital::new().await;
    let node = &hospital.node;
    let alpha = hospital.send("alpha", Sample::new().with_header_id("1")).await;
    hospital.send("beta", Sample::new().with_header_id("1")).await;
    let to_beta = Sample::new().from("http://alpha.example/fhir").addressed_to("beta");
    let foreign = post(node, &to_beta).await.expect_status(200).header("emberpost-message-id").unwrap().to_owned();
    let reply = node.post(from_lab("1").bytes()).await.expect_status(200);
    let id = reply.header("emberpost-message-id").unwrap();
    let unknown = "0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d";
    for (response, body, status) in [
        (id, json!({ "to": foreign }), 409),
        (id, json!({ "to": id }), 409),
        (id, json!({ "to": unknown }), 404),
        (id, json!({ "to": "lab" }), 400),
        (id, json!({}), 400),
        (id, json!({ "to": alpha, "force": true }), 400),
        (&*alpha, json!({ "to": alpha }), 409),
        (unknown, json!({ "to": alpha }), 404),
        (id, json!({ "to": alpha }), 200),
        (id, json!({ "to": alpha }), 409),
    ] {
        let reply = node.admin_post(&format!("messages/{response}/assign"), body.clone()).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
    }
    hospital.home("alpha").wait_for(1, SOON).await;
    hospital.nobody_but(&[("alpha", 1), ("beta", 1)]);
}

/// Who asked under the identifier, whether the lab has answered it, and to whom the answer in question is addressed.
#[tokio::test]
async fn what_was_answered_before_counts_and_a_destination_decides() {
    struct Case {
        what: &'static str,
        senders: &'static [&'static str],
        answered: bool,
        to: &'static [&'static str],
        wanted: Option<&'static str>,
    }
    let cases = [
        Case { what: "two, none answered", senders: &["alpha", "beta"], answered: false, to: &[], wanted: None },
        Case { what: "two, the first answered", senders: &["alpha", "beta"], answered: true, to: &[], wanted: None },
        Case { what: "three", senders: &["alpha", "beta", "gamma"], answered: false, to: &[], wanted: None },
        Case { what: "one sender twice", senders: &["alpha", "alpha"], answered: false, to: &["alpha"], wanted: None },
        Case {
            what: "one twice, answered",
            senders: &["alpha", "alpha"],
            answered: true,
            to: &["alpha"],
            wanted: None,
        },
        Case { what: "to both", senders: &["alpha", "beta"], answered: false, to: &["alpha", "beta"], wanted: None },
        Case { what: "to neither", senders: &["alpha", "beta"], answered: false, to: &["gamma"], wanted: None },
        Case { what: "one, to another", senders: &["alpha"], answered: false, to: &["beta"], wanted: None },
        Case { what: "to one", senders: &["alpha", "beta"], answered: false, to: &["beta"], wanted: Some("beta") },
        Case {
            what: "to the open one",
            senders: &["alpha", "beta"],
            answered: true,
            to: &["beta"],
            wanted: Some("beta"),
        },
        Case {
            what: "to the answered one",
            senders: &["alpha", "beta"],
            answered: true,
            to: &["alpha"],
            wanted: Some("alpha"),
        },
        Case { what: "one alone", senders: &["gamma"], answered: false, to: &[], wanted: Some("gamma") },
    ];
    let hospital = Hospital::new().await;
    let node = &hospital.node;
    for (number, case) in cases.into_iter().enumerate() {
        let identifier = format!("shared-{number}");
        let before: Vec<usize> = hospital.homes.iter().map(|(_, home)| home.count()).collect();
        let mut firsts = vec![0; before.len()];
        for (index, sender) in case.senders.iter().enumerate() {
            hospital.send(sender, Sample::new().with_header_id(&identifier)).await;
            if case.answered && index == 0 {
                node.post(from_lab(&identifier).bytes()).await.expect_status(200);
                let place = hospital.homes.iter().position(|(id, _)| id == sender).unwrap();
                firsts[place] = 1;
                hospital.homes[place].1.wait_for(before[place] + 1, SOON).await;
            }
        }
        let answer = case.to.iter().fold(from_lab(&identifier), |answer, to| answer.addressed_to(to));
        let reply = node.post(answer.bytes()).await.expect_status(200);
        let kept = message(node, &reply).await;
        assert_eq!(kept["ambiguous"], case.wanted.is_none(), "{}: {kept}", case.what);
        for (index, (id, home)) in hospital.homes.iter().enumerate() {
            let others = before[index] + firsts[index];
            if case.wanted == Some(*id) {
                assert_eq!(home.wait_for(others + 1, SOON).await[others].body, answer.bytes(), "{}", case.what);
            } else {
                assert_eq!(home.count(), others, "{}: {id}", case.what);
            }
        }
    }
    assert!(hospital.lab.count() > 0);
}

#[tokio::test]
async fn a_first_answer_that_comes_again_does_not_answer_another_request() {
    let hospital = Hospital::new().await;
    let node = &hospital.node;
    hospital.send("alpha", Sample::new().with_header_id("1")).await;
    let answer = from_lab("1").bytes();
    node.post(answer.clone()).await.expect_status(200);
    hospital.home("alpha").wait_for(1, SOON).await;
    let beta = hospital.send("beta", Sample::new().with_header_id("1")).await;
    let again = node.post(answer).await.expect_status(200);
    assert_eq!(again.header("emberpost-repeat"), Some("true"));
    assert_eq!(delivery(node, &beta).await["state"], "delivered");
    hospital.nobody_but(&[("alpha", 1)]);
}

#[tokio::test]
async fn a_request_sent_again_after_a_transient_error_is_one_request() {
    let hospital = Hospital::new().await;
    let node = &hospital.node;
    let request = Sample::new().with_header_id("1");
    let first = hospital.send("alpha", request.clone()).await;
    let transient = Sample::new().from("http://lab.example/fhir").answering("1", "transient-error");
    node.post(transient.bytes()).await.expect_status(200);
    hospital.home("alpha").wait_for(1, SOON).await;
    let second = hospital.send("alpha", request).await;
    assert_ne!(first, second);
    let answer = from_lab("1").bytes();
    node.post(answer.clone()).await.expect_status(200);
    assert_eq!(hospital.home("alpha").wait_for(2, SOON).await[1].body, answer);
    wait_until(SOON, "it is answered", async || delivery(node, &second).await["state"] == "answered").await;
}

#[tokio::test]
async fn an_answer_in_the_reply_to_a_delivery_is_its_requests_whatever_else_has_its_identifier() {
    let hospital = Hospital::new().await;
    hospital.send("alpha", Sample::new().with_header_id("1")).await;
    hospital.lab.answer(Answer::Ok);
    let request = Sample::new().with_header_id("1").from("http://beta.example/fhir").addressed_to("lab");
    let reply = hospital.node.post(request.bytes()).await.expect_status(200);
    assert_eq!(reply.response_identifier().as_deref(), Some("1"));
    hospital.nobody_but(&[]);
}

#[tokio::test]
async fn a_waiting_sender_gets_the_answer_that_an_operator_assigns_to_it() {
    let hospital = Hospital::new().await;
    let node = &hospital.node;
    hospital.send("alpha", Sample::new().with_header_id("1")).await;
    let url = "http://hl7.org/fhir/StructureDefinition/messageheader-response-request";
    let waiting = Sample::new().with_header_id("1").from("http://beta.example/fhir").addressed_to("lab");
    let waiting = waiting.set("/entry/0/resource/extension", json!([{ "url": url, "valueCode": "always" }]));
    let answer = from_lab("1").bytes();
    let (reply, ()) = tokio::join!(node.post(waiting.bytes()), async {
        hospital.lab.wait_for(2, SOON).await;
        let stored = node.post(answer.clone()).await.expect_status(200);
        let request = ids(node, "sender=beta").await.remove(0);
        let path = format!("messages/{}/assign", stored.header("emberpost-message-id").unwrap());
        node.admin_post(&path, json!({ "to": request })).await.expect_status(200);
    });
    assert_eq!(reply.expect_status(200).body, answer);
    hospital.nobody_but(&[]);
}

/// A receiver that knows requests by their header id alone repeats to the second sender what it said to the first.
#[tokio::test]
async fn a_reply_that_answers_another_senders_request_is_given_to_nobody_else() {
    for destination in [Some("http://alpha.example/fhir"), None] {
        let mut answer = from_lab("1").set("/entry/1/resource/name/0/family", json!("OFALPHA"));
        if let Some(destination) = destination {
            answer = answer.to(destination);
        }
        let lab = Peer::answering(Answer::Bytes(answer.bytes())).await;
        let mut config = NodeConfig::new().participant(Party::new("lab").at(&lab)).server("answer_timeout_ms = 500");
        for id in ["alpha", "beta"] {
            config = config.participant(Party::new(id).address(&format!("http://{id}.example/*")));
        }
        let node = config.start().await;
        let request = |sender: &str| {
            Sample::new().from(&format!("http://{sender}.example/fhir")).addressed_to("lab").with_header_id("1")
        };
        let first = node.post(request("alpha").bytes()).await.expect_status(200);
        assert!(first.text().contains("OFALPHA"));
        let second = node.post(request("beta").bytes()).await.expect_status(202);
        assert!(!second.text().contains("OFALPHA"), "{}", second.text());
        let id = second.header("emberpost-message-id").unwrap().to_owned();
        let waiting = delivery(&node, &id).await;
        assert_eq!(
            (&waiting["state"], &waiting["last_fault"]),
            (&json!("waiting"), &json!("RECV_BAD_ANSWER")),
            "{waiting}"
        );
        let status = node.get(&format!("/fhir/async/{id}")).await;
        assert!(!status.text().contains("OFALPHA"), "{}", status.text());
    }
}

#[tokio::test]
async fn over_amqp_the_correlation_id_decides_among_what_the_identifier_allows() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, alpha, beta) = (
        Lines::on(&broker).await,
        Peer::answering(Answer::Empty(200)).await,
        Peer::answering(Answer::Empty(200)).await,
    );
    let config = lines.config_of(Party::new("alpha").at(&alpha)).participant(Party::new("beta").at(&beta));
    let node = config.participant(lines.lab()).start().await;
    let mut correlations = Vec::new();
    for sender in ["alpha", "beta", "alpha"] {
        let source = format!("http://{sender}.example/fhir");
        let request = Sample::new().from(&source).addressed_to("lab").with_header_id("1");
        post(&node, &request).await.expect_status(200);
        correlations.push(lines.asked().await.correlation_id().unwrap().to_owned());
    }
    let tell = async |answer: &Sample, props: Props| {
        assert!(lines.client.publish("", &lines.answers, &answer.bytes(), props).await)
    };
    // The first request's, though two newer ones have its identifier.
    let first = from_lab("1");
    tell(&first, Props::json().correlation_id(&correlations[0])).await;
    assert_eq!(alpha.wait_for(1, SOON).await[0].body, first.bytes());
    let second = from_lab("1");
    tell(&second, Props::json().correlation_id(&correlations[1])).await;
    assert_eq!(beta.wait_for(1, SOON).await[0].body, second.bytes());
    // Without one, with one that is not ours, and with one of another message of ours: it fits several.
    for (count, correlation) in
        [None, Some("something"), Some(&*ids(&node, "sender=lab").await[0])].into_iter().enumerate()
    {
        let props = correlation.map_or_else(Props::json, |id| Props::json().correlation_id(id));
        tell(&from_lab("1"), props).await;
        wait_until(SOON, "it is stored", async || ids(&node, "ambiguous=true").await.len() == count + 1).await;
    }
    // A destination that contradicts the correlation leaves a doubt, whether the identifier names one or nobody.
    for (count, identifier) in ["1", "unknown"].into_iter().enumerate() {
        let answer = from_lab(identifier).to("http://beta.example/fhir");
        tell(&answer, Props::json().correlation_id(&correlations[0])).await;
        wait_until(SOON, "it is stored", async || ids(&node, "ambiguous=true").await.len() == count + 4).await;
    }
    assert_eq!((alpha.count(), beta.count()), (1, 1));
    assert_eq!(delivery(&node, &correlations[0]).await["state"], "answered");
    assert_eq!(delivery(&node, &correlations[2]).await["state"], "delivered");
}

#[tokio::test]
async fn a_request_without_header_id_is_known_by_the_uuid_of_its_headers_full_url() {
    let hospital = Hospital::new().await;
    let node = &hospital.node;
    let uuid = |number: u32| format!("0b9f6a3e-8f3c-4c52-9a7d-{number:012x}");
    let cases = [
        (format!("urn:uuid:{}", uuid(1)), uuid(1)),
        (format!("urn:uuid:{}", uuid(2)), format!("urn:uuid:{}", uuid(2).to_uppercase())),
        (format!("URN:UUID:{}", uuid(3).to_uppercase()), uuid(3)),
        (format!("http://alpha.example/fhir/MessageHeader/{}", uuid(4)), uuid(4)),
    ];
    for (count, (full_url, identifier)) in cases.into_iter().enumerate() {
        let request = Sample::new().unset("/entry/0/resource/id").set("/entry/0/fullUrl", json!(full_url));
        hospital.send("alpha", request).await;
        let answer = from_lab(&identifier);
        let reply = node.post(answer.bytes()).await.expect_status(200);
        assert_eq!(message(node, &reply).await["unmatched"], false, "{full_url}");
        assert_eq!(hospital.home("alpha").wait_for(count + 1, SOON).await[count].body, answer.bytes());
    }
    // Likewise where the header has an id, and in the reply itself.
    hospital.lab.answer(Answer::by(|received| {
        let full_url = received.json()["entry"][0]["fullUrl"].as_str().unwrap().to_owned();
        Answer::Bytes(from_lab(full_url.trim_start_matches("urn:uuid:")).bytes())
    }));
    let request = Sample::new().set("/entry/0/fullUrl", json!(format!("urn:uuid:{}", uuid(5))));
    let request = request.from("http://alpha.example/fhir").addressed_to("lab");
    assert_eq!(node.post(request.bytes()).await.expect_status(200).response_identifier(), Some(uuid(5)));
}

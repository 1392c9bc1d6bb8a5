//! Requests and answers that change from HTTP to AMQP and back on their way.

use serde_json::{Value, json};

use crate::harness::script::answer_to;
use crate::harness::{Answer, Broker, Lines, Node, Party, Peer, Props, Proxy, SOON, Sample, wait_until};

const RESPONSE_REQUEST: &str = "http://hl7.org/fhir/StructureDefinition/messageheader-response-request";

fn owing(message: Sample, when: &str) -> Sample {
    message.set("/entry/0/resource/extension", json!([{ "url": RESPONSE_REQUEST, "valueCode": when }]))
}

fn to_lab() -> Sample {
    Sample::new().addressed_to("lab")
}

/// A shipped sample, from `sender`.
fn shipped(name: &str, destination: &str) -> Vec<u8> {
    let path = format!("{}/message-definitions/samples/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut message: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let header = &mut message["entry"][0]["resource"];
    header["source"]["endpoint"] = json!("http://sender.example/fhir");
    header["destination"] = json!([{ "endpoint": destination }]);
    message.to_string().into_bytes()
}

/// Waits until the newest delivery to the lab has this state.
async fn becomes(node: &Node, state: &str) {
    wait_until(SOON, &format!("the delivery is {state}"), async || {
        node.admin("deliveries?participant=lab").await["items"][0]["state"] == state
    })
    .await;
}

/// How an answer comes: to which queue, with which `correlation_id`, and whether `response.identifier` is of any use.
#[derive(Clone, Copy, Debug)]
enum Way {
    Proper,
    Uncorrelated,
    Inbound,
    OnlyCorrelated,
    R5,
}

#[tokio::test]
async fn a_sender_over_http_gets_the_answer_of_a_receiver_over_amqp_whichever_way_it_comes() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    for way in [Way::Proper, Way::Uncorrelated, Way::Inbound, Way::OnlyCorrelated, Way::R5] {
        let request = if matches!(way, Way::R5) { to_lab().r5() } else { to_lab() };
        let answering = async {
            let asked = lines.asked().await;
            assert_eq!(asked.body, request.bytes());
            let correlated = Props::json().correlation_id(asked.correlation_id().unwrap());
            let answer = answer_to(&asked.body, "ok");
            let (queue, props, answer) = match way {
                Way::Proper | Way::R5 => (asked.reply_to().unwrap(), correlated, answer),
                Way::Uncorrelated => (asked.reply_to().unwrap(), Props::json(), answer),
                Way::Inbound => (&*lines.inbound, correlated, answer),
                Way::OnlyCorrelated => {
                    let answer = Sample::new().from("http://lab.example/fhir").answering("nobody-asked", "ok");
                    (asked.reply_to().unwrap(), correlated, answer.bytes())
                }
            };
            assert!(lines.client.publish("", queue, &answer, props).await);
            answer
        };
        let (reply, answer) = tokio::join!(node.post(request.bytes()), answering);
        assert_eq!(reply.expect_status(200).body, answer, "{way:?}");
        becomes(&node, "answered").await;
    }
}

#[tokio::test]
async fn an_answer_that_overtakes_the_brokers_confirm_is_heard() {
    let Some(broker) = Broker::shared().await else { return };
    let proxy = Proxy::before(broker.port()).await;
    let lines = Lines::on(&broker).await;
    let node = lines.config().amqp(&proxy.url(), &lines.inbound, &lines.answers).start().await;
    // A first message, so that the router has a channel to publish on and needs no word of the broker for it.
    let (first, _) = tokio::join!(node.post(to_lab().bytes()), lines.lab_answers("ok"));
    first.expect_status(200);
    proxy.swallow_from_broker(true);
    let (reply, answer) = tokio::join!(node.post(to_lab().bytes()), async {
        let asked = lines.asked().await;
        let answer = answer_to(&asked.body, "ok");
        node.post(answer.clone()).await.expect_status(200);
        answer
    });
    assert_eq!(reply.expect_status(200).body, answer);
    proxy.cut();
    proxy.swallow_from_broker(false);
    wait_until(SOON, "the router is back", async || {
        node.get("/health/ready").await.json()["status"] == "ready" && proxy.connections() >= 4
    })
    .await;
    becomes(&node, "answered").await;
}

#[tokio::test]
async fn a_late_answer_is_at_the_status_url_goes_home_and_is_given_to_a_repeat() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, home) = (Lines::on(&broker).await, Peer::answering(Answer::Empty(200)).await);
    let config = lines.config_of(Party::sender().at(&home)).participant(lines.lab());
    let node = config.server("answer_timeout_ms = 200").start().await;
    let request = to_lab();
    let custody = node.post(request.bytes()).await.expect_status(202);
    let status = format!("/fhir/async/{}", custody.header("emberpost-message-id").unwrap());
    assert_eq!(custody.header("content-location"), Some(&*node.url(&status)));
    assert_eq!(node.get(&status).await.status, 202);
    becomes(&node, "delivered").await;
    let answer = lines.lab_answers("ok").await;
    wait_until(SOON, "the answer is at the status URL", async || node.get(&status).await.status == 200).await;
    let page = node.get(&status).await.json();
    assert_eq!(page["type"], "batch-response");
    assert_eq!(page["entry"][0]["resource"], serde_json::from_slice::<Value>(&answer).unwrap());
    assert_eq!(home.wait_for(1, SOON).await[0].body, answer);
    let again = node.post(request.bytes()).await.expect_status(200);
    assert_eq!((again.header("emberpost-repeat"), &*again.body), (Some("true"), &*answer));
    assert_eq!(lines.client.depth(&lines.lab).await, Some(0));
}

#[tokio::test]
async fn a_sender_over_amqp_gets_the_answer_of_a_receiver_over_http() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, ward) = (Lines::on(&broker).await, Peer::ok().await);
    let node = lines.config().participant(Party::new("ward").at(&ward)).start().await;
    for (answer, code) in [(Answer::Ok, "ok"), (Answer::Fatal, "fatal-error")] {
        ward.answer(answer);
        let request = Sample::new().addressed_to("ward");
        let taken = lines.request(&request).await;
        assert_eq!(taken.body, answer_to(&request.bytes(), code));
    }
    assert_eq!(ward.received()[0].header("via"), Some(&*format!("1.1 {}", node.address())));
    // What the receiver took without a message has no answer; what it refused for good has ours.
    ward.answer(Answer::Outcome(422));
    let refused = lines.request(&Sample::new().addressed_to("ward")).await;
    assert!(refused.text().contains("RECV_REFUSED") && refused.text().contains("the peer was told to say so"));
}

#[tokio::test]
async fn a_sender_over_amqp_gets_the_answer_of_a_receiver_over_amqp_and_emberposts_own() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().shipped_definitions().start().await;
    // A push event and a pull event.
    for name in ["patient-link-request", "search-type-request"] {
        let request = shipped(name, "http://lab.example/fhir");
        let asking = lines.client.request("", &lines.inbound, &request, Props::json(), SOON);
        let answering = async {
            let asked = lines.asked().await;
            assert_eq!(asked.body, request);
            lines.answer(&asked, "ok").await
        };
        let (taken, answer) = tokio::join!(asking, answering);
        assert_eq!(taken.unwrap().body, answer, "{name}");
    }
    // Emberpost itself expands a value set.
    let own = shipped("valueset-expand-request", &node.url("/fhir"));
    let expanded = lines.client.request("", &lines.inbound, &own, Props::json(), SOON).await.unwrap();
    let expanded: Value = serde_json::from_slice(&expanded.body).unwrap();
    assert_eq!(expanded["entry"][0]["resource"]["response"]["code"], "ok", "{expanded}");
    let entries = expanded["entry"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["resource"]["expansion"]["contains"].is_array()), "{expanded}");
}

#[tokio::test]
async fn each_of_two_receivers_answers_a_sender_over_amqp() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, ward) = (Lines::on(&broker).await, Peer::ok().await);
    let _node = lines.config().participant(Party::new("ward").at(&ward)).start().await;
    let request = to_lab().addressed_to("ward");
    let replies = lines.replies().await;
    lines.tell(&request.bytes(), Props::json().reply_to(&replies).correlation_id("both")).await;
    let asked = lines.asked().await;
    // The lab's own answer: the helper's is the same for every receiver.
    let lab = Sample::new().from("http://lab.example/fhir").answering(&request.header_id(), "ok").bytes();
    assert!(lines.client.publish("", asked.reply_to().unwrap(), &lab, Props::json()).await);
    let taken = lines.client.take(&replies, 2, SOON).await;
    assert!(taken.iter().all(|answer| answer.correlation_id() == Some("both")));
    assert!(taken.iter().any(|answer| answer.body == lab), "the lab's answer did not come");
    let ward = answer_to(&request.bytes(), "ok");
    assert!(taken.iter().any(|answer| answer.body == ward), "the ward's answer did not come");
}

#[tokio::test]
async fn an_answer_that_is_not_wanted_is_not_asked_for_and_not_sent() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    let replies = lines.replies().await;
    let props = || Props::json().reply_to(&replies).correlation_id("q");
    // Never: the receiver is not told where to answer, and an answer all the same stays here.
    let request = owing(to_lab(), "never");
    lines.tell(&request.bytes(), props()).await;
    let asked = lines.asked().await;
    assert_eq!(asked.reply_to(), None);
    let unwanted = answer_to(&asked.body, "ok");
    assert!(lines.client.publish("", &lines.answers, &unwanted, Props::json()).await);
    becomes(&node, "answered").await;
    // On error: an error is told, success is not.
    for code in ["ok", "fatal-error"] {
        lines.tell(&owing(to_lab(), "on-error").bytes(), props()).await;
        lines.lab_answers(code).await;
        becomes(&node, "answered").await;
    }
    let taken = lines.next(&replies).await;
    assert!(taken.text().contains("fatal-error"), "{}", taken.text());
    assert_eq!(node.admin("deliveries?participant=sender").await["items"].as_array().unwrap().len(), 1);
    // Over HTTP a sender that wants none is not held.
    let kept = node.post(owing(to_lab(), "never").bytes()).await.expect_status(202);
    assert!(kept.body.is_empty());
    assert_eq!(lines.asked().await.reply_to(), None);
}

#[tokio::test]
async fn the_lab_that_does_not_answer_in_time_may_still_be_asked_by_others() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().server("answer_timeout_ms = 200").start().await;
    for _ in 0..3 {
        node.post(to_lab().bytes()).await.expect_status(202);
    }
    // Each was published though none was answered: a queue is no line that is held.
    assert_eq!(lines.client.take(&lines.lab, 3, SOON).await.len(), 3);
}

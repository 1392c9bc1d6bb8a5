//! What a waiting sender is told: the answer, the silence of its receiver, a refusal, custody.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Gate, Node, NodeConfig, Party, Peer, Reply, SOON, Sample, script::answer_to, wait_for};

const RESPONSE_REQUEST: &str = "http://hl7.org/fhir/StructureDefinition/messageheader-response-request";

/// The message with the extension that says when its sender wants an answer (MSG-49).
fn owing(message: Sample, when: &str) -> Sample {
    message.set("/entry/0/resource/extension", json!([{ "url": RESPONSE_REQUEST, "valueCode": when }]))
}

/// A node with `sender` and `lab`, who is this peer and whose failed attempts are repeated after a second.
fn with_lab(peer: &Peer) -> NodeConfig {
    NodeConfig::with_sender().participant(Party::new("lab").at(peer).with("retry_schedule_seconds = [1]"))
}

fn is_custody(reply: &Reply, node: &Node) {
    assert_eq!(reply.status, 202, "{}", reply.text());
    let id = reply.header("emberpost-message-id").unwrap();
    assert_eq!(reply.header("content-location"), Some(node.url(&format!("/fhir/async/{id}")).as_str()));
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(reply.issues()[0]["severity"], "information", "{}", reply.text());
    assert_eq!(reply.json()["resourceType"], "OperationOutcome");
}

#[tokio::test]
async fn an_answer_in_time_is_given_as_the_receiver_wrote_it_in_both_forms() {
    let peer = Peer::ok().await;
    let node = with_lab(&peer).start().await;
    for message in [Sample::new(), Sample::new().r5()] {
        let message = message.addressed_to("lab").bytes();
        let reply = node.post(message.clone()).await.expect_status(200);
        assert_eq!(reply.text(), String::from_utf8(answer_to(&message, "ok")).unwrap());
        assert!(reply.header("content-type").unwrap().starts_with("application/fhir+json"));
        assert!(reply.header("content-location").is_none());
    }
}

#[tokio::test]
async fn a_receiver_that_takes_it_without_a_message_ends_the_wait_with_its_own_status() {
    let peer = Peer::ok().await;
    let node = with_lab(&peer).start().await;
    for (answer, wanted) in [
        (Answer::Empty(200), 204),
        (Answer::Empty(204), 204),
        (Answer::Outcome(200), 204),
        (Answer::Empty(202), 202),
        (Answer::Outcome(202), 202),
    ] {
        peer.answer(answer);
        let reply = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(wanted);
        assert!(reply.body.is_empty());
        assert!(reply.header("content-location").is_none());
    }
}

#[tokio::test]
async fn an_answer_that_is_always_owed_is_waited_for_until_time_is_up() {
    let peer = Peer::answering(Answer::Empty(204)).await;
    let node = with_lab(&peer).server("answer_timeout_ms = 400").start().await;
    let started = std::time::Instant::now();
    let reply = node.post(owing(Sample::new().addressed_to("lab"), "always").bytes()).await;
    assert!(started.elapsed() >= Duration::from_millis(400));
    is_custody(&reply, &node);
    assert_eq!(peer.count(), 1);
}

#[tokio::test]
async fn an_answer_that_is_always_owed_may_come_on_its_own_while_its_sender_waits() {
    let peer = Peer::answering(Answer::Empty(202)).await;
    let node = with_lab(&peer).start().await;
    let request = owing(Sample::new().addressed_to("lab"), "always");
    let answer = Sample::new().from("http://lab.example/fhir").answering(&request.header_id(), "ok").bytes();
    let (reply, posted) = tokio::join!(node.post(request.bytes()), async {
        peer.wait_for(1, SOON).await;
        node.post(answer.clone()).await
    });
    assert_eq!(posted.expect_status(200).text(), "");
    assert_eq!(reply.expect_status(200).body, answer);
}

#[tokio::test]
async fn a_slow_receiver_leaves_its_sender_with_a_place_to_look() {
    let (gate, peer) = (Gate::closed(), Peer::ok().await);
    peer.answer(Answer::Ok.behind(&gate));
    let node = with_lab(&peer).server("answer_timeout_ms = 200").start().await;
    is_custody(&node.post(Sample::new().addressed_to("lab").bytes()).await, &node);
    gate.open();
}

#[tokio::test]
async fn a_refusal_is_a_valid_response_message_in_the_requests_form() {
    let node = NodeConfig::with_sender().start().await;
    // Another router that knows this one checks its answers as it checks any message.
    let router = Party::new("router").address(&node.url("/fhir"));
    let checking = NodeConfig::new().participant(router).participant(Party::sender().mailbox()).start().await;
    for (message, r5) in [(Sample::new(), false), (Sample::new().r5(), true)] {
        let message = message.to("http://nobody.example/fhir");
        let reply = node.post(message.bytes()).await.expect_status(200);
        let (bundle, header) = (reply.json(), reply.message_header().expect("a message"));
        let endpoint = if r5 { "endpointUrl" } else { "endpoint" };
        assert_eq!(header["source"][endpoint], node.url("/fhir"));
        assert_eq!(header["destination"][0][endpoint], "http://sender.example/fhir");
        assert_eq!(header["eventCoding"], message.value()["entry"][0]["resource"]["eventCoding"]);
        assert_eq!(header["response"]["code"], "fatal-error");
        match r5 {
            true => assert_eq!(header["response"]["identifier"], message.value()["identifier"]),
            false => assert_eq!(header["response"]["identifier"], message.header_id()),
        }
        let details = &header["response"]["details"]["reference"];
        let entries = bundle["entry"].as_array().unwrap();
        let outcome = entries.iter().find(|entry| entry["fullUrl"] == *details).expect("details resolves");
        assert_eq!(outcome["resource"]["resourceType"], "OperationOutcome");
        assert_eq!(reply.faults(), ["SEND_UNKNOWN_DESTINATION"]);
        let checked = checking.post(reply.body.to_vec()).await.expect_status(200);
        let kept = checking.admin(&format!("messages/{}", checked.header("emberpost-message-id").unwrap())).await;
        assert_eq!((&kept["state"], &kept["outcome"]), (&json!("accepted"), &Value::Null), "{kept}");
    }
}

#[tokio::test]
async fn a_sender_that_prefers_statuses_is_refused_by_status() {
    let party = Party::sender().with("rejections = \"status\"");
    let node = NodeConfig::new().participant(party).start().await;
    let reply = node.post(Sample::new().to("http://nobody.example/fhir").bytes()).await.expect_status(422);
    assert_eq!(reply.json()["resourceType"], "OperationOutcome");
    assert_eq!(reply.faults(), ["SEND_UNKNOWN_DESTINATION"]);
}

#[tokio::test]
async fn a_mailbox_receiver_is_not_waited_for() {
    let node = NodeConfig::with_sender().participant(Party::new("lab").mailbox()).start().await;
    let started = std::time::Instant::now();
    let reply = node.post(Sample::new().addressed_to("lab").bytes()).await;
    assert!(started.elapsed() < SOON);
    is_custody(&reply, &node);
    let deliveries = node.admin("deliveries?participant=lab").await;
    assert_eq!(deliveries["items"][0]["state"], "waiting", "{deliveries}");
}

#[tokio::test]
async fn who_owes_no_answer_or_only_errors_is_thanked_at_once_without_a_body() {
    let (gate, lab, home) = (Gate::closed(), Peer::ok().await, Peer::answering(Answer::Empty(200)).await);
    lab.answer(Answer::Ok.behind(&gate));
    let config = NodeConfig::new().participant(Party::sender().at(&home));
    let node = config.participant(Party::new("lab").at(&lab)).start().await;
    for when in ["never", "on-error"] {
        let reply = node.post(owing(Sample::new().addressed_to("lab"), when).bytes()).await.expect_status(202);
        assert!(reply.body.is_empty());
        assert!(reply.header("content-location").is_none());
    }
    gate.open();
    wait_for(SOON, "both are answered", async || {
        let answered = node.admin("deliveries?participant=lab&state=answered").await;
        (answered["items"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    assert_eq!(node.admin("deliveries?participant=sender").await["items"], json!([]));
}

#[tokio::test]
async fn where_only_errors_are_owed_an_error_goes_to_the_sources_channel() {
    let (lab, home) = (Peer::answering(Answer::Fatal).await, Peer::answering(Answer::Empty(200)).await);
    let config = NodeConfig::new().participant(Party::sender().at(&home));
    let node = config.participant(Party::new("lab").at(&lab)).start().await;
    let message = owing(Sample::new().addressed_to("lab"), "on-error").bytes();
    node.post(message.clone()).await.expect_status(202);
    let received = home.wait_for(1, SOON).await;
    assert_eq!(received[0].path_and_query, "/fhir/$process-message?async=true");
    assert_eq!(received[0].body, answer_to(&message, "fatal-error"));
}

#[tokio::test]
async fn where_only_success_is_owed_a_failure_is_told_by_status() {
    let peer = Peer::ok().await;
    let node = with_lab(&peer).start().await;
    for (answer, wanted) in [(Answer::Fatal, 422), (Answer::Transient, 503)] {
        peer.answer(answer);
        let message = owing(Sample::new().addressed_to("lab"), "on-success").bytes();
        let reply = node.post(message.clone()).await.expect_status(wanted);
        assert_eq!(reply.json()["resourceType"], "OperationOutcome");
        assert_eq!(reply.faults(), ["RECV_REFUSED"]);
        // The outcome of a failure for good is final; a transient one leaves the message to be sent again.
        let again = node.post(message).await.expect_status(wanted);
        assert_eq!(again.header("emberpost-repeat"), (wanted == 422).then_some("true"));
    }
    assert_eq!(peer.count(), 3);
    peer.answer(Answer::Ok);
    let message = owing(Sample::new().addressed_to("lab"), "on-success").bytes();
    assert_eq!(node.post(message).await.expect_status(200).response_code().as_deref(), Some("ok"));
}

#[tokio::test]
async fn each_of_several_receivers_has_an_entry_and_each_answer_goes_home() {
    let (lab, ward, home) =
        (Peer::ok().await, Peer::answering(Answer::Fatal).await, Peer::answering(Answer::Empty(204)).await);
    let config = NodeConfig::new().participant(Party::sender().at(&home)).participant(Party::new("lab").at(&lab));
    let route = "[[route]]\ndestination = \"http://all.example/*\"\nto = [\"lab\", \"ward\"]";
    let node = config.participant(Party::new("ward").at(&ward)).toml(route).start().await;
    let message = Sample::new().to("http://all.example/fhir").bytes();
    let reply = node.post(message.clone()).await;
    is_custody(&reply, &node);

    let received = home.wait_for(2, SOON).await;
    let mut bodies: Vec<_> = received.iter().map(|received| received.body.to_vec()).collect();
    bodies.sort();
    let mut wanted = vec![answer_to(&message, "ok"), answer_to(&message, "fatal-error")];
    wanted.sort();
    assert_eq!(bodies, wanted);
    assert!(received.iter().all(|received| received.path_and_query == "/fhir/$process-message?async=true"));
    let status = format!("/fhir/async/{}", reply.header("emberpost-message-id").unwrap());
    let page = node.get(&status).await.expect_status(200).json();
    assert_eq!(page["type"], "batch-response");
    let code = |index: usize| page["entry"][index]["resource"]["entry"][0]["resource"]["response"]["code"].clone();
    assert_eq!((code(0), code(1)), (json!("ok"), json!("fatal-error")));
    let again = node.post(message).await.expect_status(202);
    assert_eq!(again.header("emberpost-repeat"), Some("true"));
    assert_eq!(
        (again.body.clone(), again.header("content-location")),
        (reply.body.clone(), reply.header("content-location"))
    );
}

#[tokio::test]
async fn a_router_that_is_one_of_two_receivers_sends_its_own_answer_home_too() {
    let (lab, home) = (Peer::ok().await, Peer::answering(Answer::Empty(204)).await);
    let config = NodeConfig::new().participant(Party::sender().at(&home));
    let node = config.participant(Party::new("lab").at(&lab)).start().await;
    let message = Sample::new().to(&node.url("/fhir")).addressed_to("lab").bytes();
    let reply = node.post(message).await;
    is_custody(&reply, &node);
    home.wait_for(2, SOON).await;
    let status = format!("/fhir/async/{}", reply.header("emberpost-message-id").unwrap());
    assert_eq!(node.get(&status).await.expect_status(200).json()["entry"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_message_of_consequence_has_one_receiver_unless_its_event_may_fan_out() {
    let (lab, ward) = (Peer::ok().await, Peer::ok().await);
    let folder = tempfile::TempDir::new().unwrap();
    let definition = json!({
        "resourceType": "MessageDefinition", "id": "charge", "url": "http://sender.example/MessageDefinition/charge",
        "status": "active", "date": "2026-01-01", "category": "consequence",
        "eventCoding": { "system": "http://sender.example/events", "code": "charge" },
    });
    std::fs::write(folder.path().join("charge.json"), definition.to_string()).unwrap();
    let paths = format!("paths = [{:?}]", folder.path());
    let config = with_lab(&lab).participant(Party::new("ward").at(&ward)).definitions(&paths);
    let message = || Sample::new().event_of("http://sender.example/events", "charge").addressed_to("lab");

    let node = config.clone().start().await;
    let reply = node.post(message().addressed_to("ward").bytes()).await.expect_status(200);
    assert_eq!(reply.response_code().as_deref(), Some("fatal-error"));
    assert_eq!(reply.faults(), ["ROUTE_FAN_OUT"]);
    assert!(reply.text().contains("MSG-46"));
    assert_eq!(node.post(message().bytes()).await.expect_status(200).response_code().as_deref(), Some("ok"));

    let node = config.definitions("fan_out = [\"http://sender.example/events|charge\"]").start().await;
    node.post(message().addressed_to("ward").bytes()).await.expect_status(202);
    ward.wait_for(1, SOON).await;
    lab.wait_for(2, SOON).await;
}

#[tokio::test]
async fn every_reply_names_the_request_and_the_message() {
    let peer = Peer::ok().await;
    let node = with_lab(&peer).start().await;
    let good = Sample::new().addressed_to("lab").bytes();
    for body in [good, b"no JSON".to_vec()] {
        let given = node.ask(node.posting(body.clone()).header("x-request-id", "ward-7")).await;
        assert_eq!(given.header("x-request-id"), Some("ward-7"));
        let new = node.post(body).await;
        assert!(new.header("x-request-id").is_some_and(|id| !id.is_empty() && id != "ward-7"));
        for reply in [given, new] {
            assert_eq!(reply.header("emberpost-message-id").unwrap().len(), 36);
        }
    }
    let sent = peer.received();
    assert_eq!(sent[0].header("x-request-id"), Some("ward-7"));
}

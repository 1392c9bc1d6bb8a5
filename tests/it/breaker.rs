//! Receivers that fail: when only probes go out, what a delivery's own schedule and limit say, and what an operator can do.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, SOON, Sample, wait_until};

fn lab(peer: &Peer) -> Party {
    paused_for(peer, "1")
}

/// The lab, with these pauses between its attempts.
fn paused_for(peer: &Peer, seconds: &str) -> Party {
    Party::new("lab").at(peer).with(&format!("retry_schedule_seconds = [{seconds}]"))
}

async fn start(lab: Party) -> Node {
    NodeConfig::with_sender().participant(lab).server("answer_timeout_ms = 50").start().await
}

fn message() -> Sample {
    Sample::new().addressed_to("lab")
}

/// A message of a lane of its own.
fn of_source(number: usize) -> Sample {
    message().from(&format!("http://sender.example/{number}"))
}

async fn participant(node: &Node, id: &str) -> Value {
    let items = node.admin("participants").await["items"].as_array().unwrap().clone();
    items.into_iter().find(|item| item["id"] == id).expect("the participant is listed")
}

async fn breaker(node: &Node, id: &str) -> String {
    participant(node, id).await["breaker"].as_str().unwrap().to_owned()
}

async fn deliveries(node: &Node, filter: &str) -> Vec<Value> {
    node.admin(&format!("deliveries?limit=500&{filter}")).await["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_wrong_credential_or_url_opens_the_breaker_like_any_failure_and_kills_nothing() {
    let cases = [(401, "ROUTE_CREDENTIAL"), (403, "ROUTE_CREDENTIAL"), (404, "ROUTE_URL"), (407, "ROUTE_CREDENTIAL")];
    join_all(cases.map(async |(status, fault)| {
        let peer = Peer::answering(Answer::Empty(status)).await;
        let node = start(lab(&peer).with("attempts_limit = 1")).await;
        for number in 0..4 {
            node.post(of_source(number).bytes()).await.expect_status(202);
        }
        peer.wait_for(4, SOON).await;
        node.post(of_source(4).bytes()).await.expect_status(202);
        wait_until(SOON, "the breaker opens", async || breaker(&node, "lab").await == "open").await;
        assert_eq!(participant(&node, "lab").await["last_fault"], fault);
        for item in deliveries(&node, "participant=lab").await {
            assert!(["waiting", "active"].contains(&item["state"].as_str().unwrap()), "{status}: {item}");
        }
        peer.answer(Answer::Ok);
        wait_until(SOON, "all are answered", async || deliveries(&node, "state=answered").await.len() == 5).await;
        assert_eq!(breaker(&node, "lab").await, "closed");
        // Those attempts were attempts, too: each message's later ones say so.
        let received = peer.received();
        for (index, attempt) in received.iter().enumerate() {
            let before = received[..index].iter().filter(|before| before.body == attempt.body).count();
            let number = (before > 0).then(|| (before + 1).to_string());
            assert_eq!(attempt.header("emberpost-attempt"), number.as_deref(), "after {status}");
        }
    }))
    .await;
}

#[tokio::test]
async fn a_message_that_fails_as_often_as_the_limit_allows_is_a_dead_letter_and_its_sender_may_send_it_again() {
    for answer in [Answer::Empty(500), Answer::Empty(429), Answer::HangUp, Answer::ToAnotherRequest] {
        let peer = Peer::answering(answer).await;
        let config = NodeConfig::with_sender().participant(lab(&peer).with("attempts_limit = 2"));
        let node = config.server("answer_timeout_ms = 20000").start().await;
        let message = message();
        let reply = node.post(message.bytes()).await.expect_status(200);
        assert_eq!(reply.response_code().as_deref(), Some("transient-error"));
        assert_eq!((reply.faults(), reply.issue_codes()), (vec!["RECV_ATTEMPTS".into()], vec!["transient".into()]));
        assert_eq!(peer.count(), 2);
        let dead = deliveries(&node, "participant=lab").await.remove(0);
        assert_eq!((&dead["state"], &dead["fault"]), (&json!("dead"), &json!("RECV_ATTEMPTS")));

        // An operator's retry has attempts of its own.
        let id = dead["id"].as_str().unwrap();
        node.admin_post(&format!("deliveries/{id}/retry"), json!({})).await.expect_status(200);
        wait_until(SOON, "it died again", async || deliveries(&node, "state=dead").await.len() == 1).await;
        assert_eq!(peer.count(), 4);

        peer.answer(Answer::Ok);
        let again = node.post(message.bytes()).await.expect_status(200);
        assert_eq!((again.response_code().as_deref(), again.header("emberpost-repeat")), (Some("ok"), None));
    }
}

#[tokio::test]
async fn a_retried_delivery_expires_as_its_own_participant_says() {
    let peer = Peer::answering(Answer::Empty(422)).await;
    let lab = lab(&peer).with("expire_after_seconds = 600");
    let other = Party::new("other").mailbox().with("expire_after_seconds = 31536000");
    let node = NodeConfig::with_sender().participant(lab).participant(other).start().await;
    node.post(message().bytes()).await.expect_status(200);
    peer.answer(Answer::Empty(503));
    let dead = deliveries(&node, "state=dead").await.remove(0);
    let before_us = emberpost::clock::Clock::default().now_us();
    let path = format!("deliveries/{}/retry", dead["id"].as_str().unwrap());
    let retried = node.admin_post(&path, json!({})).await.expect_status(200).json();
    let left_us = retried["expires_at_us"].as_i64().unwrap() - before_us;
    assert!((600_000_000..660_000_000).contains(&left_us), "{left_us}");
}

async fn ids_of(node: &Node, sample: &Sample) -> String {
    let list = node.admin(&format!("messages?header_id={}", sample.header_id())).await;
    let message = list["items"][0]["id"].as_str().unwrap().to_owned();
    deliveries(node, &format!("message={message}")).await[0]["id"].as_str().unwrap().to_owned()
}

/// Answers these messages with 403, or 500 where that is given, and takes all others.
fn refusing(odd: &[&Sample], status: u16) -> Answer {
    let odd: Vec<String> = odd.iter().map(|sample| sample.header_id()).collect();
    Answer::by(move |request| match odd.contains(&request.header_id()) {
        true => Answer::Empty(status),
        false => Answer::Ok,
    })
}

fn attempts_at(peer: &Peer, sample: &Sample) -> usize {
    peer.received().iter().filter(|request| request.header_id() == sample.header_id()).count()
}

#[tokio::test]
async fn one_odd_message_keeps_its_schedule_and_never_opens_the_breaker_of_a_healthy_receiver() {
    join_all([403, 500].map(async |status| {
        let peer = Peer::ok().await;
        let node = start(paused_for(&peer, "1, 1, 600")).await;
        let odd = of_source(0);
        peer.answer(refusing(&[&odd], status));
        node.post(odd.bytes()).await.expect_status(202);
        // The receiver takes others all the while: more successes than the odd one has tries.
        for number in 0..60 {
            node.post(of_source(1 + number % 7).bytes()).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        wait_until(SOON, "it was tried as often as its schedule says", async || attempts_at(&peer, &odd) == 3).await;
        assert_eq!(attempts_at(&peer, &odd), 3, "{status}");
        assert_eq!(breaker(&node, "lab").await, "closed");
        assert!(!node.log().contains("the breaker of lab"), "{}", node.log());
    }))
    .await;
}

#[tokio::test]
async fn a_message_alone_in_its_lane_that_always_fails_holds_back_no_other_lane() {
    let peer = Peer::ok().await;
    let node = start(lab(&peer)).await;
    let poison = of_source(0);
    peer.answer(refusing(&[&poison], 500));
    node.post(poison.bytes()).await.expect_status(202);
    wait_until(SOON, "it failed more than five times", async || attempts_at(&peer, &poison) > 5).await;
    assert_eq!(breaker(&node, "lab").await, "closed");
    let healthy = of_source(1);
    node.post(healthy.bytes()).await;
    wait_until(SOON, "the other is delivered", async || attempts_at(&peer, &healthy) == 1).await;
}

/// Five messages in lanes of their own, all refused, so that the breaker is open and the next probe a minute away.
async fn opened(peer: &Peer, node: &Node) {
    peer.answer(Answer::Empty(503));
    for number in 0..5 {
        node.post(of_source(number).bytes()).await.expect_status(202);
    }
    wait_until(SOON, "the breaker opens", async || breaker(node, "lab").await == "open").await;
}

fn next_probe_us(status: &Value) -> i64 {
    status["next_probe_at_us"].as_i64().expect("a probe is planned")
}

#[tokio::test]
async fn probes_are_a_minute_apart_at_most_and_go_out_at_once_when_an_operator_says_so() {
    join_all(["probe", "resume", "reload", "retry"].map(async |order| {
        let peer = Peer::ok().await;
        let config = NodeConfig::with_sender().server("answer_timeout_ms = 50");
        let mut node = config.clone().participant(paused_for(&peer, "7200")).start().await;
        opened(&peer, &node).await;
        let now_us = emberpost::clock::Clock::default().now_us();
        let status = participant(&node, "lab").await;
        assert!(next_probe_us(&status) - now_us <= 60_000_000, "{status}");
        let waiting = deliveries(&node, "participant=lab").await;
        let before = peer.count();
        peer.answer(Answer::Ok);
        match order {
            "probe" => {
                let out = node.command(&["participants", "probe", "lab"]);
                assert!(out.status.success(), "{out:?}");
            }
            "resume" => {
                node.admin_post("participants/lab/pause", json!({})).await.expect_status(200);
                node.admin_post("participants/lab/resume", json!({})).await.expect_status(200);
            }
            "reload" => node.reload(config.participant(paused_for(&peer, "7200").with("concurrency = 4"))),
            _ => {
                let path = format!("deliveries/{}/retry", waiting[0]["id"].as_str().unwrap());
                node.admin_post(&path, json!({})).await.expect_status(200);
            }
        }
        wait_until(SOON, "all are delivered", async || deliveries(&node, "state=answered").await.len() == 5).await;
        assert_eq!((breaker(&node, "lab").await.as_str(), peer.count()), ("closed", before + 5), "{order}");
    }))
    .await;
}

#[tokio::test]
async fn what_waits_for_its_next_try_while_the_breaker_is_closed_is_tried_when_an_operator_says_so() {
    join_all(["probe", "resume", "reload", "retry"].map(async |order| {
        let peer = Peer::answering(Answer::Empty(503)).await;
        let config = NodeConfig::with_sender().server("answer_timeout_ms = 50");
        let mut node = config.clone().participant(paused_for(&peer, "7200")).start().await;
        let sent = [of_source(0), of_source(0)];
        for message in &sent {
            node.post(message.bytes()).await.expect_status(202);
        }
        peer.wait_for(1, SOON).await;
        let head = ids_of(&node, &sent[0]).await;
        wait_until(SOON, "it waits", async || deliveries(&node, &format!("id={head}")).await[0]["attempts"] == 1).await;
        peer.answer(Answer::Ok);
        match order {
            "probe" => drop(node.admin_post("participants/lab/probe", json!({})).await.expect_status(200)),
            "resume" => {
                node.admin_post("participants/lab/pause", json!({})).await.expect_status(200);
                node.admin_post("participants/lab/resume", json!({})).await.expect_status(200);
            }
            "reload" => node.reload(config.participant(paused_for(&peer, "7200").with("concurrency = 4"))),
            _ => drop(node.admin_post(&format!("deliveries/{head}/retry"), json!({})).await.expect_status(200)),
        }
        wait_until(SOON, "both are delivered", async || deliveries(&node, "state=answered").await.len() == 2).await;
        assert_eq!(peer.count(), 3, "{order}");
    }))
    .await;
}

#[tokio::test]
async fn a_dead_response_url_neither_opens_the_breaker_nor_waits_for_it() {
    let (mut home, lab_peer) = (Peer::ok().await, Peer::ok().await);
    let (dead, alive) = (Peer::answering(Answer::Empty(404)).await, Peer::answering(Answer::Empty(200)).await);
    let party = Party::sender().at(&home).with("retry_schedule_seconds = [1]").with("order = \"none\"");
    let party = party.address("http://sender.example/*");
    let party = party.address(&format!("{}*", dead.url())).address(&format!("{}*", alive.url()));
    let node = NodeConfig::new().participant(party).participant(lab(&lab_peer)).start().await;
    let ask = async |number: usize, url: String| {
        let url = url.replace(':', "%3A").replace('/', "%2F");
        let path = format!("/fhir/$process-message?async=true&response-url={url}");
        let request = node.request(reqwest::Method::POST, &path).header("content-type", "application/fhir+json");
        node.ask(request.body(of_source(number).bytes())).await.expect_status(200);
    };
    for number in 0..8 {
        ask(number, format!("{}/{number}", dead.url())).await;
    }
    wait_until(SOON, "all were tried twice", async || dead.count() >= 16).await;
    assert_eq!(breaker(&node, "sender").await, "closed");
    assert!(!node.log().contains("the breaker of sender"), "{}", node.log());

    // The participant's own channel is down: its breaker opens, and callbacks go on.
    home.down().await;
    for number in 0..5 {
        let request = node.request(reqwest::Method::POST, "/fhir/$process-message?async=true");
        let request = request.header("content-type", "application/fhir+json").body(of_source(number).bytes());
        node.ask(request).await.expect_status(200);
    }
    wait_until(SOON, "the breaker opens", async || breaker(&node, "sender").await == "open").await;
    for number in 0..20 {
        ask(number, format!("{}/{number}", alive.url())).await;
    }
    wait_until(SOON, "every callback arrives", async || alive.count() == 20).await;
    assert_eq!(breaker(&node, "sender").await, "open");
}

#[tokio::test]
async fn a_waiting_delivery_says_in_one_sentence_why() {
    let peer = Peer::answering(Answer::Empty(503)).await;
    let config = NodeConfig::with_sender().server("answer_timeout_ms = 50");
    let config = config.participant(paused_for(&peer, "7200"));
    let node = config.participant(Party::new("box").mailbox()).start().await;
    let (first, second, in_box) = (of_source(0), of_source(0), Sample::new().addressed_to("box"));
    for message in [&first, &second, &in_box] {
        node.post(message.bytes()).await.expect_status(202);
    }
    let (first, second, in_box) =
        (ids_of(&node, &first).await, ids_of(&node, &second).await, ids_of(&node, &in_box).await);
    let waits =
        async |id: &str| node.admin(&format!("deliveries/{id}")).await["waits"].as_str().unwrap_or("").to_owned();
    wait_until(SOON, "it failed", async || {
        waits(&first).await.contains("one attempt failed and the next is due at 20")
    })
    .await;
    let behind = waits(&second).await;
    assert!(behind.contains(&format!("behind delivery {first}")) && behind.contains("is due at 20"), "{behind}");
    assert!(waits(&in_box).await.contains("mailbox of box"), "{}", waits(&in_box).await);
    let refused = node.admin_post(&format!("deliveries/{second}/retry"), json!({})).await.expect_status(409);
    assert!(refused.text().contains(&format!("behind delivery {first}")), "{}", refused.text());
    let shown = node.command(&["deliveries", "show", &second]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&behind), "{shown:?}");

    node.admin_post("participants/lab/pause", json!({})).await.expect_status(200);
    wait_until(SOON, "it says paused", async || waits(&first).await.contains("paused until an operator resumes")).await;
    node.admin_post(&format!("deliveries/{first}/retry"), json!({})).await.expect_status(409);
    node.admin_post("participants/lab/resume", json!({})).await.expect_status(200);
    for number in 1..6 {
        node.post(of_source(number).bytes()).await.expect_status(202);
    }
    wait_until(SOON, "it says breaker", async || {
        let text = waits(&first).await;
        text.contains("the breaker of lab is open (RECV_BUSY)") && text.contains("goes out at 20")
    })
    .await;
    let metrics = node.get("/metrics").await.text();
    for line in
        ["emberpost_lanes_blocked{participant=\"lab\"}", "emberpost_oldest_waiting_seconds{participant=\"lab\"}"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn no_more_attempts_begin_in_a_second_than_the_rate_allows_also_in_a_replay() {
    let peer = Peer::ok().await;
    let node = start(lab(&peer).with("rate_per_second = 5").with("order = \"none\"").with("concurrency = 50")).await;
    for number in 0..12 {
        node.post(of_source(number).bytes()).await;
    }
    peer.wait_for(12, SOON).await;
    let order = json!({ "filter": { "sender": "sender" }, "rate_per_second": 1000 });
    node.admin_post("replays", order).await.expect_status(201);
    let received = peer.wait_for(24, SOON).await;
    for (first, last) in received.iter().zip(&received[6..]) {
        // Seven attempts: six intervals of 200 ms, of which timers that fire late may take 20 ms, and the way to the peer some.
        assert!((last.at - first.at).as_millis() >= 900, "seven attempts within {:?}", last.at - first.at);
    }
}

#[tokio::test]
async fn probes_of_an_open_breaker_do_not_count_toward_the_limit_of_attempts() {
    let peer = Peer::answering(Answer::Empty(503)).await;
    let node = start(paused_for(&peer, "1, 600").with("attempts_limit = 2")).await;
    for number in 0..5 {
        node.post(of_source(number).bytes()).await.expect_status(202);
    }
    wait_until(SOON, "the breaker opens", async || breaker(&node, "lab").await == "open").await;
    for _ in 0..4 {
        let before = peer.count();
        node.admin_post("participants/lab/probe", json!({})).await.expect_status(200);
        wait_until(SOON, "a probe went out", async || peer.count() > before).await;
    }
    wait_until(SOON, "the last probe is settled", async || breaker(&node, "lab").await == "open").await;
    assert_eq!(deliveries(&node, "state=dead").await.len(), 0);
    peer.answer(Answer::Ok);
    node.admin_post("participants/lab/probe", json!({})).await.expect_status(200);
    wait_until(SOON, "all are delivered", async || deliveries(&node, "state=answered").await.len() == 5).await;
}

//! Kept messages delivered again, on a person's order.

use serde_json::{Value, json};
use std::time::Duration;

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, SOON, Sample, wait_for, wait_until};

/// The sender has a channel at `home`, where late answers go; `lab` and `registry` receive.
fn hub(home: &Peer, lab: &Peer, registry: &Peer) -> NodeConfig {
    let party = |id: &str, peer: &Peer| Party::new(id).at(peer).with("retry_schedule_seconds = [1]");
    NodeConfig::new()
        .participant(Party::sender().at(home))
        .participant(party("lab", lab))
        .participant(party("registry", registry))
}

async fn send(node: &Node, message: &Sample) -> String {
    let reply = node.post(message.bytes()).await.expect_status(200);
    reply.header("emberpost-message-id").unwrap().to_owned()
}

/// Orders a replay and waits for its end; what it says of itself then.
async fn replayed(node: &Node, order: Value) -> Value {
    let replay = node.admin_post("replays", order).await.expect_status(201);
    let id = replay.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(replay.header("location"), Some(format!("/admin/v1/replays/{id}").as_str()));
    ended(node, &id).await
}

async fn ended(node: &Node, id: &str) -> Value {
    wait_for(SOON * 2, "the replay ends", async || {
        let replay = node.admin(&format!("replays/{id}")).await;
        (replay["state"] != "running").then_some(replay)
    })
    .await
}

async fn deliveries(node: &Node, message: &str) -> Vec<Value> {
    // Oldest first.
    let list = node.admin(&format!("deliveries?message={message}")).await;
    list["items"].as_array().unwrap().iter().rev().cloned().collect()
}

/// Waits until every delivery of the node is settled.
async fn settled(node: &Node) {
    wait_until(SOON, "every delivery is settled", async || {
        let open = node.admin("deliveries?state=waiting").await;
        open["items"].as_array().unwrap().is_empty()
    })
    .await;
}

fn header_ids(peer: &Peer, after: usize) -> Vec<String> {
    peer.received()[after..].iter().map(|received| received.header_id()).collect()
}

#[tokio::test]
async fn a_replay_by_id_brings_the_same_bytes_and_is_linked_both_ways() {
    let (home, lab) = (Peer::ok().await, Peer::ok().await);
    let node = hub(&home, &lab, &lab).start().await;
    let message = Sample::new().addressed_to("lab");
    let id = send(&node, &message).await;
    send(&node, &Sample::new().addressed_to("lab")).await;

    let replay = replayed(&node, json!({ "filter": { "id": id } })).await;
    assert_eq!((&replay["total"], &replay["done"], &replay["skipped"]), (&json!(1), &json!(1), &json!(0)), "{replay}");
    let received = lab.wait_for(3, SOON).await;
    assert_eq!(received[2].body, message.bytes());
    settled(&node).await;

    let of = deliveries(&node, &id).await;
    assert_eq!(of.len(), 2, "{of:?}");
    assert_eq!((&of[0]["replayed_by"], &of[1]["replay_of"]), (&json!([of[1]["id"]]), &of[0]["id"]));
    assert_eq!(of[1]["kind"]["Replay"]["replay"], replay["id"], "{}", of[1]);
    let timeline = node.admin(&format!("messages/{id}/timeline")).await;
    let entry = timeline["items"].as_array().unwrap().iter().find(|entry| entry["what"] == "replayed").unwrap();
    assert_eq!(entry["reference"], replay["id"]);
}

#[tokio::test]
async fn the_answer_to_a_replay_is_kept_and_linked_and_not_forwarded() {
    let (home, lab) = (Peer::ok().await, Peer::ok().await);
    let node = hub(&home, &lab, &lab).start().await;
    let message = Sample::new().addressed_to("lab");
    let reply = node.post(message.bytes()).await.expect_status(200);
    let id = reply.header("emberpost-message-id").unwrap().to_owned();
    // This time the laboratory says something else.
    lab.answer(Answer::Fatal);

    replayed(&node, json!({ "id": id })).await;
    lab.wait_for(2, SOON).await;
    settled(&node).await;
    let shown = node.admin(&format!("messages/{id}")).await;
    let answers = shown["answers"].as_array().unwrap();
    let codes: Vec<&Value> = answers.iter().map(|answer| &answer["response"]["code"]).collect();
    assert_eq!(codes, ["ok", "fatal-error"], "{shown}");
    assert!(answers.iter().all(|answer| answer["in_reply_to"] == id.as_str()), "{shown}");
    assert_eq!(home.count(), 0);
    // The first answer stays the one that a repeat gets.
    assert_eq!(node.post(message.bytes()).await.body, reply.body);

    replayed(&node, json!({ "filter": { "id": id }, "forward_answers": true })).await;
    let at_home = home.wait_for(1, SOON).await;
    assert_eq!(at_home[0].json()["entry"][0]["resource"]["response"]["code"], "fatal-error");
    assert_eq!(at_home[0].json()["entry"][0]["resource"]["response"]["identifier"], message.header_id());
    settled(&node).await;
    assert_eq!((home.count(), lab.count()), (1, 3));
}

#[tokio::test]
async fn a_filter_is_counted_first_and_then_replayed_in_the_old_order() {
    let (home, lab, registry) = (Peer::ok().await, Peer::ok().await, Peer::ok().await);
    let node = hub(&home, &lab, &registry).start().await;
    let mut expected = Vec::new();
    for number in 0..30 {
        let message = Sample::new().addressed_to(if number % 3 == 0 { "registry" } else { "lab" });
        let message = if number % 3 == 1 { message.event("admin-notify") } else { message };
        send(&node, &message).await;
        if number % 3 == 1 {
            expected.push(message.header_id());
        }
    }
    node.post(Sample::new().event("admin-notify").to("http://nobody.example").bytes()).await;
    let (before_lab, before_registry) = (lab.count(), registry.count());

    // The answers have the same event; they are not meant.
    let filter = json!({ "event": "admin-notify" });
    let count =
        node.admin_post("replays", json!({ "filter": filter, "dry_run": true })).await.expect_status(200).json();
    assert_eq!(count, json!({ "matched": 10, "consequence": 0, "without_body": 0, "examined": 10 }));
    assert_eq!((lab.count(), registry.count()), (before_lab, before_registry));

    let replay = replayed(&node, json!({ "filter": filter })).await;
    assert_eq!((&replay["total"], &replay["done"]), (&json!(10), &json!(10)), "{replay}");
    lab.wait_for(before_lab + 10, SOON).await;
    settled(&node).await;
    assert_eq!(header_ids(&lab, before_lab), expected);
    assert_eq!(registry.count(), before_registry);

    // A refused message stays refused, and everything at once is never a slip of the hand.
    let refused = json!({ "state": "refused" });
    let count =
        node.admin_post("replays", json!({ "filter": refused, "dry_run": true })).await.expect_status(200).json();
    assert_eq!(count["matched"], 0, "{count}");
    let replay = replayed(&node, refused).await;
    assert_eq!((&replay["total"], &replay["done"]), (&json!(0), &json!(0)), "{replay}");
    node.admin_post("replays", json!({})).await.expect_status(400);
    node.admin_post("replays", json!({ "filter": { "id": "7" } })).await.expect_status(400);
}

#[tokio::test]
async fn a_replay_is_redirected_to_one_participant() {
    let (home, lab, registry) = (Peer::ok().await, Peer::ok().await, Peer::ok().await);
    let node = hub(&home, &lab, &registry).start().await;
    let message = Sample::new().addressed_to("lab");
    let id = send(&node, &message).await;
    replayed(&node, json!({ "filter": { "event": "patient-link", "sender": "sender" }, "to": "registry" })).await;
    assert_eq!(registry.wait_for(1, SOON).await[0].body, message.bytes());
    settled(&node).await;
    assert_eq!(lab.count(), 1);
    let of = deliveries(&node, &id).await;
    assert_eq!((&of[1]["participant"], &of[1]["replay_of"]), (&json!("registry"), &of[0]["id"]));
    node.admin_post("replays", json!({ "id": id, "to": "nobody" })).await.expect_status(400);
}

#[tokio::test]
async fn a_rate_caps_a_replay_and_a_pause_holds_it() {
    let (home, lab) = (Peer::ok().await, Peer::ok().await);
    let node = hub(&home, &lab, &lab).start().await;
    for _ in 0..12 {
        send(&node, &Sample::new().addressed_to("lab")).await;
    }
    let order = json!({ "filter": { "sender": "sender" }, "rate_per_second": 10 });
    let id = node.admin_post("replays", order).await.expect_status(201).json()["id"].as_str().unwrap().to_owned();
    lab.wait_for(14, SOON).await;
    let paused = node.admin_post(&format!("replays/{id}/pause"), json!({})).await.expect_status(200).json();
    assert_eq!(paused["state"], "paused");
    settled(&node).await;
    let held = lab.count();
    assert!(held < 24, "nothing was left to pause");
    assert_eq!(node.admin_post(&format!("replays/{id}/resume"), json!({})).await.json()["state"], "running");
    let replay = ended(&node, &id).await;
    assert_eq!((&replay["state"], &replay["done"]), (&json!("done"), &json!(12)), "{replay}");
    let received = lab.wait_for(24, SOON).await;
    settled(&node).await;
    assert_eq!(lab.count(), 24);
    // Twelve messages at ten a second are eleven tenths apart; a busy machine only makes it longer.
    let took = received[23].at.duration_since(received[12].at);
    assert!(took >= Duration::from_millis(900), "{took:?}");
    node.admin_post(&format!("replays/{id}/pause"), json!({})).await.expect_status(409);
    node.admin_post("replays", json!({ "state": "accepted", "rate_per_second": 0 })).await.expect_status(400);
}

#[tokio::test]
async fn a_replay_that_is_ended_delivers_no_more() {
    let (home, lab) = (Peer::ok().await, Peer::ok().await);
    let node = hub(&home, &lab, &lab).start().await;
    for _ in 0..20 {
        send(&node, &Sample::new().addressed_to("lab")).await;
    }
    let order = json!({ "filter": { "sender": "sender" }, "rate_per_second": 10 });
    let id = node.admin_post("replays", order).await.expect_status(201).json()["id"].as_str().unwrap().to_owned();
    lab.wait_for(21, SOON).await;
    let request = node.request(reqwest::Method::DELETE, &format!("/admin/v1/replays/{id}"));
    assert_eq!(node.ask(request).await.expect_status(200).json()["state"], "stopped");
    settled(&node).await;
    let replay = node.admin(&format!("replays/{id}")).await;
    assert!(replay["done"].as_u64().unwrap() < 20, "{replay}");
    assert_eq!(lab.count() as u64, 20 + replay["done"].as_u64().unwrap());
    assert_eq!(node.get("/admin/v1/replays/none").await.status, 404);
}

#[tokio::test]
async fn a_consequence_event_is_replayed_only_by_force() {
    let lab = Peer::ok().await;
    let hospital = Party::new("hospital").address("https://ward.example.org/*");
    let route = "[[route]]\nto = [\"lab\"]";
    let config = NodeConfig::new().shipped_definitions().participant(hospital);
    let node = config.participant(Party::new("lab").at(&lab)).toml(route).start().await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("message-definitions/samples");
    let sample = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for name in ["MedicationAdministration-Recording-request.json", "patient-link-request.json"] {
        assert_eq!(node.post(sample(name)).await.response_code().as_deref(), Some("ok"), "{name}");
    }
    let filter = json!({ "sender": "hospital" });
    let count = node.admin_post("replays", json!({ "filter": filter, "dry_run": true })).await.json();
    assert_eq!((&count["matched"], &count["consequence"]), (&json!(2), &json!(1)), "{count}");
    let replay = replayed(&node, json!({ "filter": filter })).await;
    assert_eq!((&replay["done"], &replay["skipped"]), (&json!(1), &json!(1)), "{replay}");
    settled(&node).await;
    assert_eq!(lab.count(), 3);
    let replay = replayed(&node, json!({ "filter": filter, "force_consequence": true })).await;
    assert_eq!((&replay["done"], &replay["skipped"]), (&json!(2), &json!(0)), "{replay}");
    settled(&node).await;
    assert_eq!(lab.count(), 5);
    assert_eq!(lab.received()[3].body, sample("MedicationAdministration-Recording-request.json"));
}

#[tokio::test]
async fn a_replay_survives_a_crash_in_its_middle() {
    let (home, lab) = (Peer::ok().await, Peer::ok().await);
    let mut node = hub(&home, &lab, &lab).start().await;
    let (mut expected, mut messages) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let message = Sample::new().addressed_to("lab");
        messages.push(send(&node, &message).await);
        expected.push(message.header_id());
    }
    // Steps of five.
    let order = json!({ "filter": { "sender": "sender" }, "rate_per_second": 50 });
    let id = node.admin_post("replays", order).await.expect_status(201).json()["id"].as_str().unwrap().to_owned();
    lab.wait_for(52, SOON).await;
    node.kill9();
    assert!(lab.count() < 75, "the crash came too late to say anything");
    node.restart().await;
    let replay = ended(&node, &id).await;
    assert_eq!((&replay["state"], &replay["done"]), (&json!("done"), &json!(40)), "{replay}");
    settled(&node).await;

    for message in &messages {
        assert_eq!(deliveries(&node, message).await.len(), 2, "one delivery and one replay of it");
    }
    let again = header_ids(&lab, 40);
    let mut once = again.clone();
    once.dedup();
    assert_eq!(once, expected, "the old order, and a repeat only right behind its first");
    assert!(again.len() - once.len() <= 5, "{} repeats", again.len() - once.len());
}

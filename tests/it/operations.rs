//! What operators see and order, over the admin API.

use serde_json::{Value, json};

use crate::harness::{Answer, Gate, Node, NodeConfig, Party, Peer, SOON, Sample, wait_for, wait_until};

/// A router with `lab` and `registry` at their peers.
async fn hub(lab: &Peer, registry: &Peer) -> Node {
    hub_config(lab, registry).start().await
}

fn hub_config(lab: &Peer, registry: &Peer) -> NodeConfig {
    let party = |id: &str, peer: &Peer| Party::new(id).at(peer).with("retry_schedule_seconds = [1]");
    NodeConfig::with_sender().participant(party("lab", lab)).participant(party("registry", registry))
}

/// The ids of a list, newest first.
async fn ids(node: &Node, path: &str) -> Vec<String> {
    let list = node.admin(path).await;
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

async fn accepted(node: &Node, message: &Sample) -> String {
    let reply = node.post(message.bytes()).await;
    reply.header("emberpost-message-id").unwrap_or_else(|| panic!("no id: {}", reply.text())).to_owned()
}

/// The one delivery of a message, once it is in this state.
async fn delivery_in(node: &Node, message: &str, state: &str) -> Value {
    let what = format!("the delivery of {message} is {state}");
    wait_for(SOON, &what, async || {
        let list = node.admin(&format!("deliveries?message={message}")).await;
        list["items"].as_array().unwrap().iter().find(|item| item["state"] == state).cloned()
    })
    .await
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn every_filter_of_messages_finds_its_message_and_no_other() {
    let (lab, registry) = (Peer::ok().await, Peer::answering(Answer::Fatal).await);
    let node = hub(&lab, &registry).await;
    let before = jiff::Timestamp::now();
    let first = Sample::new().r5().addressed_to("lab");
    let first_id = accepted(&node, &first).await;
    // Times have their offset; in between lies a moment of its own.
    let between = wait_for(SOON, "the clock moves", async || {
        let now = jiff::Timestamp::now();
        (now.as_microsecond() > before.as_microsecond() + 1000).then_some(now)
    })
    .await;
    let second = Sample::new().event("admin-notify").from("http://sender.example/ward").addressed_to("registry");
    let second_id = accepted(&node, &second).await;
    let nobody = Sample::new().to("http://nobody.example/fhir");
    let third_id = accepted(&node, &nobody).await;
    // What breaks a rule is found by that rule.
    let loose = Sample::new().addressed_to("lab").set("/total", json!(2));
    let fourth_id = accepted(&node, &loose).await;
    let outcome = node.admin(&format!("messages/{fourth_id}")).await["outcome"].clone();
    let issue = &outcome["issues"][0];
    let rule = issue["rule"].as_str().unwrap_or_else(|| panic!("no rule: {outcome}")).to_owned();

    let identifier = format!("urn:ietf:rfc:3986|{}", first.identifier_value());
    let event = "http://hl7.org/fhir/message-events|admin-notify";
    let requests = |filter: String| format!("messages?sender=sender&{filter}");
    for (filter, expected) in [
        (format!("id={second_id}"), vec![&second_id]),
        (format!("header_id={}", first.header_id()), vec![&first_id]),
        (format!("bundle_id={}", second.bundle_id()), vec![&second_id]),
        (format!("bundle_identifier={}", encoded(&first.identifier_value())), vec![&first_id]),
        (format!("bundle_identifier={}", encoded(&identifier)), vec![&first_id]),
        ("event=admin-notify".to_owned(), vec![&second_id]),
        (format!("event={}", encoded(event)), vec![&second_id]),
        (format!("source={}", encoded("http://sender.example/ward")), vec![&second_id]),
        (format!("destination={}", encoded("http://lab.example/fhir")), vec![&fourth_id, &first_id]),
        ("state=refused".to_owned(), vec![&fourth_id, &third_id]),
        ("fault=SEND_UNKNOWN_DESTINATION".to_owned(), vec![&third_id]),
        ("issue=not-found".to_owned(), vec![&third_id]),
        (format!("rule={rule}"), vec![&fourth_id]),
        (format!("since={between}"), vec![&fourth_id, &third_id, &second_id]),
        (format!("until={between}"), vec![&first_id]),
        (format!("since={before}&until={between}&event=patient-link"), vec![&first_id]),
        ("event=no-such".to_owned(), vec![]),
    ] {
        let found = ids(&node, &requests(filter.clone())).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter}");
    }
    let answered = node.admin("messages?response_code=ok").await;
    assert_eq!(answered["items"].as_array().unwrap().len(), 1, "{answered}");
    assert_eq!(answered["items"][0]["in_reply_to"], first_id.as_str());
    let fatal = ids(&node, "messages?response_code=fatal-error&sender=registry").await;
    assert_eq!(fatal.len(), 1);
    for wrong in ["colour=red", "state=lost", "since=yesterday", "id=7", "limit=0", "limit=501", "cursor=nonsense"] {
        let reply = node.get(&format!("/admin/v1/messages?{wrong}")).await.expect_status(400);
        assert_eq!(reply.faults(), ["SEND_REQUEST"], "{wrong}");
    }
}

#[tokio::test]
async fn pages_have_every_message_once_also_while_others_arrive() {
    let lab = Peer::ok().await;
    let node = hub(&lab, &lab).await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.insert(0, accepted(&node, &Sample::new().addressed_to("lab")).await);
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = node.admin(&format!("messages?sender=sender&limit=2{cursor}")).await;
        found.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        accepted(&node, &Sample::new().addressed_to("lab")).await;
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={}", encoded(next));
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_message_is_shown_with_its_answer_its_bytes_and_its_timeline() {
    let lab = Peer::ok().await;
    let node = hub(&lab, &lab).await;
    lab.answer_first([Answer::Empty(503)]);
    let message = Sample::new().addressed_to("lab");
    // Spaces and order are the sender's, and stay.
    let bytes = format!(" {:#}\n", message.value()).into_bytes();
    let reply = node.post(bytes.clone()).await.expect_status(200);
    let id = reply.header("emberpost-message-id").unwrap().to_owned();

    let shown = node.admin(&format!("messages/{id}")).await;
    assert_eq!((&shown["state"], &shown["sender"]), (&json!("accepted"), &json!("sender")));
    assert_eq!((&shown["header_id"], &shown["size_bytes"]), (&json!(message.header_id()), &json!(bytes.len())));
    assert_eq!(
        (&shown["deliveries"][0]["state"], &shown["deliveries"][0]["attempts"]),
        (&json!("answered"), &json!(2))
    );
    let answer = shown["answers"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(shown["answers"][0]["in_reply_to"], id.as_str());

    let content = node.get(&format!("/admin/v1/messages/{id}/content")).await.expect_status(200);
    assert_eq!(content.body, bytes);
    assert_eq!(content.header("content-type"), Some("application/fhir+json"));
    let answer_content = node.get(&format!("/admin/v1/messages/{answer}/content")).await.expect_status(200);
    assert_eq!(answer_content.body, reply.body);

    let timeline = node.admin(&format!("messages/{id}/timeline")).await;
    let entries = timeline["items"].as_array().unwrap();
    let what: Vec<&str> = entries.iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["received", "checked", "planned", "committed", "attempt", "attempt", "answered"], "{timeline}");
    assert!(entries.windows(2).all(|pair| pair[0]["at_us"].as_i64() <= pair[1]["at_us"].as_i64()), "{timeline}");
    assert_eq!((&entries[4]["attempt"]["status"], &entries[5]["attempt"]["status"]), (&json!(503), &json!(200)));
    assert_eq!((&entries[6]["reference"], &entries[6]["participant"]), (&json!(answer), &json!("lab")));
    for unknown in ["messages/no-id", "messages/0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d/timeline"] {
        node.get(&format!("/admin/v1/{unknown}")).await.expect_status(404);
    }
}

#[tokio::test]
async fn deliveries_are_listed_by_every_filter() {
    let (lab, registry) = (Peer::ok().await, Peer::answering(Answer::Outcome(422)).await);
    let node = hub(&lab, &registry).await;
    let good = accepted(&node, &Sample::new().addressed_to("lab")).await;
    let dead = accepted(&node, &Sample::new().event("admin-notify").addressed_to("registry")).await;
    let good_delivery = delivery_in(&node, &good, "answered").await;
    let dead_delivery = delivery_in(&node, &dead, "dead").await;
    assert_eq!((&dead_delivery["fault"], &dead_delivery["status"]), (&json!("RECV_REFUSED"), &json!(422)));
    let (good_id, dead_id) = (good_delivery["id"].as_str().unwrap(), dead_delivery["id"].as_str().unwrap());
    for (filter, expected) in [
        (format!("id={good_id}"), vec![good_id]),
        (format!("message={dead}"), vec![dead_id]),
        ("participant=lab".to_owned(), vec![good_id]),
        ("state=dead".to_owned(), vec![dead_id]),
        ("state=answered".to_owned(), vec![good_id]),
        ("event=admin-notify".to_owned(), vec![dead_id]),
        ("fault=RECV_REFUSED".to_owned(), vec![dead_id]),
        ("since=2026-01-01T00:00:00Z".to_owned(), vec![dead_id, good_id]),
        ("until=2026-01-01T00:00:00Z".to_owned(), vec![]),
        ("participant=nobody".to_owned(), vec![]),
        ("limit=1".to_owned(), vec![dead_id]),
    ] {
        assert_eq!(ids(&node, &format!("deliveries?{filter}")).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn one_dead_letter_is_retried_and_all_that_match() {
    let (lab, registry) = (Peer::answering(Answer::Outcome(400)).await, Peer::ok().await);
    let node = hub(&lab, &registry).await;
    let mut messages = Vec::new();
    for _ in 0..4 {
        messages.push(accepted(&node, &Sample::new().addressed_to("lab")).await);
    }
    let first = delivery_in(&node, &messages[0], "dead").await["id"].as_str().unwrap().to_owned();
    lab.answer(Answer::Ok);
    node.admin_post(&format!("deliveries/{first}/retry"), json!({})).await.expect_status(200);
    delivery_in(&node, &messages[0], "answered").await;
    node.admin_post(&format!("deliveries/{first}/retry"), json!({})).await.expect_status(409);

    let filter = json!({ "participant": "lab", "state": "dead" });
    let dry = node.admin_post("deliveries/retry", json!({ "filter": filter, "dry_run": true })).await;
    assert_eq!(dry.expect_status(200).json(), json!({ "matched": 3, "done": 0 }));
    assert_eq!(lab.count(), 5);
    let done = node.admin_post("deliveries/retry", json!({ "filter": filter })).await.expect_status(200).json();
    assert_eq!(done, json!({ "matched": 3, "done": 3 }));
    for message in &messages {
        delivery_in(&node, message, "answered").await;
    }
    assert_eq!(lab.count(), 8);
    node.admin_post("deliveries/retry", json!({ "state": "answered" })).await.expect_status(400);
}

#[tokio::test]
async fn a_discard_frees_the_lane_and_tells_the_sender() {
    let lab = Peer::answering(Answer::Empty(503)).await;
    let node = hub_config(&lab, &lab).server("answer_timeout_ms = 20000").start().await;
    let (stuck, next) = (Sample::new().addressed_to("lab"), Sample::new().addressed_to("lab"));
    let posting = node.posting(stuck.bytes());
    let waiting = tokio::spawn(async move { crate::harness::Reply::of(posting.send().await.unwrap()).await });
    lab.wait_for(1, SOON).await;
    let posting = node.posting(next.bytes());
    let behind = tokio::spawn(async move { crate::harness::Reply::of(posting.send().await.unwrap()).await });
    let mut list = Vec::new();
    wait_until(SOON, "both wait", async || {
        list = node.admin("deliveries?state=waiting").await["items"].as_array().unwrap().clone();
        list.len() == 2
    })
    .await;
    let first = list[1]["id"].as_str().unwrap().to_owned();
    lab.answer(Answer::Ok);
    // An attempt that is under way at this moment ends first.
    let discarded = wait_for(SOON, "it is discarded", async || {
        let reply = node.admin_post(&format!("deliveries/{first}/discard"), json!({})).await;
        (reply.status == 200).then(|| reply.json())
    })
    .await;
    assert_eq!(discarded["state"], "discarded", "{discarded}");

    let told = waiting.await.unwrap().expect_status(200);
    assert_eq!(
        (told.response_code().as_deref(), told.faults()),
        (Some("fatal-error"), vec!["ROUTE_DISCARDED".to_owned()])
    );
    assert_eq!(told.response_identifier(), Some(stuck.header_id()));
    assert_eq!(behind.await.unwrap().response_code().as_deref(), Some("ok"));
    assert!(lab.received().iter().any(|received| received.header_id() == next.header_id()));
    node.admin_post(&format!("deliveries/{first}/discard"), json!({})).await.expect_status(409);
}

#[tokio::test]
async fn all_that_match_are_discarded_but_never_without_a_filter() {
    let lab = Peer::answering(Answer::Empty(503)).await;
    let node = hub_config(&lab, &lab).server("answer_timeout_ms = 50").start().await;
    node.admin_post("participants/lab/pause", json!({})).await.expect_status(200);
    for _ in 0..3 {
        node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(202);
    }
    node.admin_post("deliveries/discard", json!({})).await.expect_status(400);
    let order = |dry_run: bool| json!({ "filter": { "participant": "lab" }, "dry_run": dry_run });
    let dry = node.admin_post("deliveries/discard", order(true)).await.json();
    assert_eq!(dry, json!({ "matched": 3, "done": 0 }));
    let done = node.admin_post("deliveries/discard", order(false)).await.json();
    assert_eq!(done, json!({ "matched": 3, "done": 3 }));
    assert_eq!(ids(&node, "deliveries?state=discarded").await.len(), 3);
    assert_eq!(lab.count(), 0);
}

#[tokio::test]
async fn a_paused_participant_stays_paused_over_a_restart_and_is_resumed() {
    let (lab, registry) = (Peer::ok().await, Peer::ok().await);
    let mut node = hub_config(&lab, &registry).server("answer_timeout_ms = 50").start().await;
    node.admin_post("participants/lab/pause", json!({})).await.expect_status(200);
    node.admin_post("participants/nobody/pause", json!({})).await.expect_status(404);
    node.restart().await;
    let message = accepted(&node, &Sample::new().addressed_to("lab")).await;
    let other = node.post(Sample::new().addressed_to("registry").bytes()).await;
    assert!(matches!(other.status, 200 | 202), "{}", other.text());
    registry.wait_for(1, SOON).await;
    let lab_now = node.admin("participants").await["items"][1].clone();
    assert_eq!((&lab_now["id"], &lab_now["paused"], &lab_now["waiting"]), (&json!("lab"), &json!(true), &json!(1)));
    assert_eq!(lab.count(), 0);
    node.admin_post("participants/lab/resume", json!({})).await.expect_status(200);
    delivery_in(&node, &message, "answered").await;
    assert_eq!(node.admin("participants").await["items"][1]["paused"], false);
}

#[tokio::test]
async fn what_is_under_way_is_shown_as_active_and_counted() {
    let gate = Gate::closed();
    let lab = Peer::answering(Answer::Ok.behind(&gate)).await;
    let node = hub_config(&lab, &lab).server("answer_timeout_ms = 50").start().await;
    let message = accepted(&node, &Sample::new().addressed_to("lab")).await;
    lab.wait_for(1, SOON).await;
    delivery_in(&node, &message, "active").await;
    let stats = node.admin("stats").await;
    assert_eq!(stats["active"], 1, "{stats}");
    gate.open();
    delivery_in(&node, &message, "answered").await;
    let stats = node.admin("stats").await;
    assert_eq!((&stats["active"], &stats["store"]["messages"]), (&json!(0), &json!(2)), "{stats}");
    assert!(stats["store"]["commits"].as_u64() > Some(0), "{stats}");
    let nodes = node.admin("nodes").await;
    assert_eq!(nodes["items"][0]["version"], env!("CARGO_PKG_VERSION"));
    assert!(nodes["items"][0]["started_at_us"].is_i64(), "{nodes}");
}

#[tokio::test]
async fn the_api_describes_itself_and_says_what_is_not_built() {
    let node = NodeConfig::with_sender().start().await;
    let api = node.admin("openapi.json").await;
    assert!(api["openapi"].as_str().unwrap().starts_with("3."), "{}", api["openapi"]);
    let paths = api["paths"].as_object().unwrap();
    assert!(paths.keys().any(|path| path.ends_with("/messages/{id}/timeline")), "{:?}", paths.keys());
    let exchanges = node.get("/admin/v1/exchanges").await.expect_status(501);
    assert_eq!(exchanges.faults(), ["ROUTE_NOT_BUILT"]);
    assert!(exchanges.text().contains("not built yet"), "{}", exchanges.text());
    node.get("/admin/v1/no-such").await.expect_status(404);
    node.get("/admin/v1/route").await.expect_status(405);
}

#[tokio::test]
async fn the_plan_is_explained_and_nothing_is_kept() {
    let lab = Peer::ok().await;
    let node = hub(&lab, &lab).await;
    let explain = async |message: &Sample| node.admin_post("route", message.value()).await.expect_status(200).json();
    let plan = explain(&Sample::new().addressed_to("lab")).await;
    assert_eq!(
        (&plan["accepted"], &plan["sender"], &plan["outcome"]),
        (&json!(true), &json!("sender"), &Value::Null),
        "{plan}"
    );
    assert_eq!(plan["receivers"], json!(["lab"]), "{plan}");
    assert!(!plan["reasons"].as_array().unwrap().is_empty(), "{plan}");
    let plan = explain(&Sample::new().to("http://nobody.example")).await;
    assert_eq!((&plan["accepted"], &plan["receivers"]), (&json!(false), &json!([])), "{plan}");
    assert_eq!(plan["outcome"]["issue"][0]["code"], "not-found", "{plan}");
    let unreadable = node.admin_post("route", json!("no message")).await.expect_status(200).json();
    assert_eq!(unreadable["accepted"], false, "{unreadable}");
    assert_eq!(node.admin("messages").await["items"], json!([]));
    assert_eq!(lab.count(), 0);
}

#[tokio::test]
async fn the_metrics_have_the_figures() {
    let (lab, registry) = (Peer::ok().await, Peer::answering(Answer::Empty(400)).await);
    let node = hub(&lab, &registry).await;
    accepted(&node, &Sample::new().addressed_to("lab")).await;
    let dead = accepted(&node, &Sample::new().addressed_to("registry")).await;
    accepted(&node, &Sample::new().to("http://nobody.example/fhir")).await;
    delivery_in(&node, &dead, "dead").await;
    let reply = node.get("/metrics").await.expect_status(200);
    assert!(reply.header("content-type").unwrap().starts_with("application/openmetrics-text"), "{:?}", reply.headers);
    let text = reply.text();
    let figure = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
    };
    assert_eq!(figure("emberpost_messages_total{result=\"accepted\"}"), 2.0);
    assert_eq!(figure("emberpost_messages_total{result=\"refused\"}"), 1.0);
    assert_eq!(figure("emberpost_faults_total{code=\"SEND_UNKNOWN_DESTINATION\"}"), 1.0);
    assert_eq!(figure("emberpost_attempts_total{participant=\"lab\",result=\"answered\"}"), 1.0);
    assert_eq!(figure("emberpost_attempts_total{participant=\"registry\",result=\"refused\"}"), 1.0);
    assert_eq!(figure("emberpost_attempt_seconds_count"), 2.0);
    assert_eq!(figure("emberpost_reply_seconds_count{status=\"200\"}"), 3.0);
    assert_eq!(figure("emberpost_deliveries_dead{participant=\"registry\"}"), 1.0);
    assert!(figure("emberpost_store_commits_total") >= 3.0);
    assert!(figure("emberpost_store_operations_total") >= figure("emberpost_store_commits_total"));
    assert!(figure("emberpost_store_messages") >= 6.0, "{text}");
    assert!(figure("emberpost_store_database_bytes") > 0.0);
    assert!(text.ends_with("# EOF\n"), "{text}");
}

//! What a message's plan says and what becomes of the message agree; who decides what is refused.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Node, NodeConfig, Party, Peer, Reply, SOON, Sample};

const SYSTEM: &str = "http://sender.example/events";

/// A folder with definitions of the events `known`, whose answer is `known-response`, and `consequence`.
fn definitions() -> tempfile::TempDir {
    let folder = tempfile::TempDir::new().unwrap();
    let url = |id: &str| format!("http://sender.example/MessageDefinition/{id}");
    for (id, category) in
        [("known", "notification"), ("known-response", "notification"), ("consequence", "consequence")]
    {
        let mut definition = json!({
            "resourceType": "MessageDefinition", "id": id, "url": url(id), "status": "active", "date": "2026-01-01",
            "category": category, "eventCoding": { "system": SYSTEM, "code": id },
        });
        if id == "known" {
            definition["allowedResponse"] = json!([{ "message": url("known-response") }]);
        }
        std::fs::write(folder.path().join(format!("{id}.json")), definition.to_string()).unwrap();
    }
    folder
}

fn known() -> Sample {
    Sample::new().event_of(SYSTEM, "known")
}

async fn posted(node: &Node, path: &str, media_type: &str, body: &[u8]) -> Reply {
    let request =
        node.request(Method::POST, path).header("content-type", media_type).header("accept", "application/fhir+json");
    node.ask(request.body(body.to_vec())).await
}

/// The issues of a plan.
fn issues(plan: &Value) -> Vec<Value> {
    plan["outcome"]["issue"].as_array().cloned().unwrap_or_default()
}

fn faults(issues: &[Value]) -> Vec<&str> {
    let codings = issues.iter().flat_map(|issue| issue["details"]["coding"].as_array().into_iter().flatten());
    codings
        .filter(|coding| coding["system"] == "urn:emberpost:fault")
        .filter_map(|coding| coding["code"].as_str())
        .collect()
}

struct Case {
    what: &'static str,
    media_type: &'static str,
    body: Vec<u8>,
    /// The fault that refuses it; None: it is accepted.
    fault: Option<&'static str>,
}

fn case(what: &'static str, message: Sample, fault: Option<&'static str>) -> Case {
    Case { what, media_type: "application/fhir+json", body: message.bytes(), fault }
}

/// The message in XML, with text that JSON cannot say.
fn xml_with_text(destination: &str) -> Vec<u8> {
    format!(
        r#"<Bundle xmlns="http://hl7.org/fhir"><id value="x-1"/><type value="message"/><entry><fullUrl value="urn:uuid:0b9f6a3e-8f3c-4c52-9a7d-000000000001"/>
        <resource><MessageHeader><id value="h-1"/><eventCoding><system value="{SYSTEM}"/><code value="known"/></eventCoding><destination><endpoint value="{destination}"/></destination>
        <source><endpoint value="http://lenient.example"/></source></MessageHeader></resource></entry>
        <entry><fullUrl value="urn:uuid:0b9f6a3e-8f3c-4c52-9a7d-000000000002"/><resource><Basic>text<code><text value="c"/></code></Basic></resource></entry></Bundle>"#
    )
    .into_bytes()
}

#[tokio::test]
async fn the_plan_of_a_message_says_what_sending_it_does() {
    let folder = definitions();
    let lab = Peer::answering(Answer::Empty(202)).await;
    let node = NodeConfig::new()
        .definitions(&format!("paths = [{:?}]", folder.path()))
        .definitions("unknown_events = \"reject\"")
        .participant(Party::sender().with("rejections = \"status\""))
        .participant(Party::new("reader").with("may_send = [\"other\"]").with("rejections = \"status\""))
        .participant(Party::new("lenient").with("on_failure = \"report\"").with("rejections = \"status\""))
        .participant(Party::new("lab").at(&lab).with("rejections = \"status\""))
        .participant(Party::new("picky").at(&lab).with("may_receive = [\"other\"]"))
        .participant(Party::new("mute"))
        .participant(Party::new("json").at(&lab).with("format = \"json\"").with("level = \"message\""))
        .participant(Party::new("r4b").at(&lab).with("fhir_version = \"4.3\""))
        .participant(Party::new("r5").at(&lab).with("fhir_version = \"5.0\""))
        .participant(Party::new("bridged").at(&lab).with("fhir_version = \"5.0\"").with("bridge_versions = true"))
        .toml("[[route]]\ndestination = \"http://all.example/*\"\nto = [\"lab\", \"r4b\"]")
        .start()
        .await;
    let used = known().addressed_to("lab");
    posted(&node, "/fhir/$process-message", "application/fhir+json", &used.bytes()).await.expect_status(202);
    let telecom = json!({ "fullUrl": "urn:uuid:a0000000-0000-4000-8000-0000000000aa", "resource": {
        "resourceType": "Organization", "name": "O", "telecom": [{ "system": "phone", "value": "1" }] } });
    let (lab_says, reader) = (|| known().from("http://lab.example/fhir"), "http://reader.example/fhir");
    let cases = [
        case("one receiver", known().addressed_to("lab"), None),
        case("two receivers", known().addressed_to("lab").addressed_to("r4b"), None),
        case("a route", known().to("http://all.example/x"), None),
        case("ourselves", known().to(&node.url("/fhir")), None),
        case("R4 for R4B", known().addressed_to("r4b"), None),
        case("bridged", known().addressed_to("bridged"), None),
        case("a duplicate", used.clone(), None),
        case("a used identity", used.clone().about("someone else"), Some("SEND_REUSED_IDENTITY")),
        case(
            "invalid",
            known().addressed_to("lab").set("/entry/1/resource/gender", json!("x")),
            Some("SEND_STRUCTURE"),
        ),
        case(
            "invalid, of a lenient sender",
            known().from("http://lenient.example").addressed_to("lab").set("/entry/1/resource/gender", json!("x")),
            None,
        ),
        case("an unknown event", Sample::new().addressed_to("lab"), Some("SEND_UNKNOWN_EVENT")),
        case(
            "an unknown event of a lenient sender",
            Sample::new().from("http://lenient.example").addressed_to("lab"),
            Some("SEND_UNKNOWN_EVENT"),
        ),
        case(
            "an unknown source",
            known().from("http://stranger.example").addressed_to("lab"),
            Some("SEND_UNKNOWN_SOURCE"),
        ),
        case("no source", known().without_source().addressed_to("lab"), Some("SEND_UNKNOWN_SOURCE")),
        case("may not send", known().from(reader).addressed_to("lab"), Some("SEND_FORBIDDEN_EVENT")),
        case("may not receive", known().addressed_to("picky"), Some("ROUTE_FORBIDDEN")),
        case("no channel", known().addressed_to("mute"), Some("SEND_UNKNOWN_DESTINATION")),
        case("nobody's address", known().to("http://nobody.example"), Some("SEND_UNKNOWN_DESTINATION")),
        case("no destination", known(), Some("SEND_UNKNOWN_DESTINATION")),
        case(
            "consequence to two",
            Sample::new().event_of(SYSTEM, "consequence").addressed_to("lab").addressed_to("r4b"),
            Some("ROUTE_FAN_OUT"),
        ),
        case("another version", known().addressed_to("r5"), Some("ROUTE_CONVERSION")),
        case(
            "another version beyond the header",
            known().addressed_to("bridged").set("/entry/2", telecom),
            Some("ROUTE_CONVERSION"),
        ),
        case("R5 for R4B", known().r5().addressed_to("r4b"), Some("ROUTE_CONVERSION")),
        case("an answer to nothing", lab_says().addressed_to("lab").answering("nothing", "ok"), None),
        case(
            "an answer to nothing and nobody",
            lab_says().to("http://nobody.example").answering("nothing", "ok"),
            Some("SEND_UNKNOWN_DESTINATION"),
        ),
        case(
            "an answer to nothing, of an unknown event",
            Sample::new().from("http://lab.example/fhir").addressed_to("lab").answering("nothing", "ok"),
            Some("SEND_UNKNOWN_EVENT"),
        ),
        case(
            "an answer to nothing in another version",
            lab_says().addressed_to("r5").answering("nothing", "ok"),
            Some("ROUTE_CONVERSION"),
        ),
        case("an answer", lab_says().answering(&used.header_id(), "ok"), None),
        Case { what: "no JSON", media_type: "application/fhir+json", body: b"{".to_vec(), fault: Some("SEND_SYNTAX") },
        Case {
            what: "no message",
            media_type: "application/fhir+json",
            body: b"{\"resourceType\":\"Patient\"}".to_vec(),
            fault: Some("SEND_NOT_MESSAGE"),
        },
        Case {
            what: "another version than it says",
            media_type: "application/fhir+json; fhirVersion=5.0",
            body: known().addressed_to("lab").bytes(),
            fault: Some("SEND_VERSION"),
        },
        Case {
            what: "XML that JSON cannot say",
            media_type: "application/fhir+xml",
            body: xml_with_text("http://json.example/fhir"),
            fault: Some("ROUTE_CONVERSION"),
        },
    ];
    for Case { what, media_type, body, fault } in cases {
        let plan = posted(&node, "/admin/v1/route", media_type, &body).await.expect_status(200).json();
        let sent = posted(&node, "/fhir/$process-message", media_type, &body).await;
        assert_eq!(plan["accepted"] == true, sent.status < 300, "{what}: {plan} {}", sent.text());
        match fault {
            None => {
                let id = sent.header("emberpost-message-id").unwrap();
                let deliveries = node.admin(&format!("messages/{id}")).await["deliveries"].clone();
                let receivers: Vec<&Value> =
                    deliveries.as_array().unwrap().iter().map(|one| &one["participant"]).collect();
                assert_eq!(plan["receivers"].as_array().unwrap().iter().collect::<Vec<_>>(), receivers, "{what}");
            }
            Some(fault) => {
                assert_eq!((&plan["receivers"], &plan["to_self"]), (&json!([]), &json!(false)), "{what}: {plan}");
                assert_eq!(issues(&plan), sent.issues(), "{what}");
                assert!(faults(&sent.issues()).contains(&fault), "{what}: {}", sent.text());
            }
        }
    }
    let ids: Vec<Value> = node.admin("messages?limit=500").await["items"].as_array().unwrap().clone();
    assert!(ids.iter().all(|item| item["id"] != "00000000-0000-0000-0000-000000000000"), "a plan was stored");
}

#[tokio::test]
async fn where_senders_have_credentials_a_plan_of_a_response_says_whether_it_was_asked_for() {
    let lab = Peer::answering(Answer::Empty(202)).await;
    // The digests of "secret" and "operate".
    let token = "token_sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"";
    let operator = "[[operator]]\nname = \"duty\"\nrole = \"operator\"\n\
                    token_sha256 = \"2c29d39181de8f853de5e48ba983a5c88612b9dbaa5ab32c7748800a0840aeb8\"";
    let node =
        NodeConfig::with_sender().participant(Party::new("lab").at(&lab).with(token)).toml(operator).start().await;
    let stray =
        Sample::new().from("http://lab.example/fhir").to("http://sender.example/fhir").answering("nothing", "ok");
    let ask = async |path: &str, token: &str| {
        let request = node.request(Method::POST, path).header("content-type", "application/fhir+json");
        node.ask(request.header("authorization", format!("Bearer {token}")).body(stray.bytes())).await
    };
    let sent = ask("/fhir/$process-message", "secret").await.expect_status(403);
    let plan = ask("/admin/v1/route?sender=lab", "operate").await.expect_status(200).json();
    assert_eq!((&plan["accepted"], issues(&plan)), (&json!(false), sent.issues()));
    assert_eq!(sent.faults(), ["SEND_NOT_ASKED"]);
}

#[tokio::test]
async fn a_message_of_r4_is_delivered_unchanged_to_a_reader_of_r4b_if_it_is_valid_there() {
    let peer = Peer::ok().await;
    let party = |id: &str, version: &str| Party::new(id).at(&peer).with(&format!("fhir_version = \"{version}\""));
    let node = NodeConfig::with_sender().participant(party("r4b", "4.3")).participant(party("r4", "4.0")).start().await;
    for (to, said, read) in
        [("r4b", "", "4.3"), ("r4b", "; fhirVersion=4.0", "4.3"), ("r4", "; fhirVersion=4.3", "4.0")]
    {
        let message = Sample::new().addressed_to(to);
        let media_type = format!("application/fhir+json{said}");
        let before = peer.count();
        let reply = posted(&node, "/fhir/$process-message", &media_type, &message.bytes()).await.expect_status(200);
        assert_eq!(reply.response_code().as_deref(), Some("ok"), "{to} {said}: {}", reply.text());
        let received = peer.wait_for(before + 1, SOON).await.remove(before);
        assert_eq!(received.body, message.bytes(), "{to} {said}");
        assert!(received.header("content-type").unwrap().contains(&format!("fhirVersion={read}")), "{to} {said}");
        assert_eq!(received.header("x-intermediary"), None);
    }
    // What only one of the two versions has is refused for the other.
    let citation = json!({ "fullUrl": "urn:uuid:a0000000-0000-4000-8000-0000000000aa",
        "resource": { "resourceType": "MedicinalProduct", "name": [{ "productName": "P" }] } });
    let foreign = Sample::new().addressed_to("r4b").set("/entry/2", citation);
    let refused =
        posted(&node, "/fhir/$process-message", "application/fhir+json; fhirVersion=4.0", &foreign.bytes()).await;
    assert!(refused.faults().contains(&"ROUTE_CONVERSION".to_owned()), "{}", refused.text());
}

#[tokio::test]
async fn an_asynchronous_request_needs_a_place_for_its_answer_only_where_one_is_required() {
    let lab = Peer::ok().await;
    let node = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).start().await;
    let url = "http://hl7.org/fhir/StructureDefinition/messageheader-response-request";
    for (owed, status) in
        [(None, 200), (Some("never"), 200), (Some("always"), 400), (Some("on-error"), 400), (Some("on-success"), 400)]
    {
        let message = Sample::new().addressed_to("lab");
        let message = match owed {
            Some(owed) => message.set("/entry/0/resource/extension", json!([{ "url": url, "valueCode": owed }])),
            None => message,
        };
        let reply = posted(&node, "/fhir/$process-message?async=true", "application/fhir+json", &message.bytes()).await;
        assert_eq!(reply.status, status, "{owed:?}: {}", reply.text());
    }
    lab.wait_for(2, SOON).await;
}

#[tokio::test]
async fn the_status_url_has_the_status_that_the_synchronous_call_had() {
    let lab = Peer::ok().await;
    let node = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).start().await;
    let url = "http://hl7.org/fhir/StructureDefinition/messageheader-response-request";
    for (answer, owed, status) in [
        (Answer::Fatal, "on-success", 422),
        (Answer::Transient, "on-success", 503),
        (Answer::Outcome(422), "on-success", 422),
        (Answer::Ok, "on-success", 200),
        (Answer::Ok, "on-error", 202),
        (Answer::Ok, "never", 202),
        (Answer::Fatal, "never", 202),
        (Answer::Fatal, "always", 200),
    ] {
        lab.answer(answer);
        let message = Sample::new().addressed_to("lab");
        let message = message.set("/entry/0/resource/extension", json!([{ "url": url, "valueCode": owed }]));
        let reply = node.post(message.bytes()).await.expect_status(status);
        let path = format!("/fhir/async/{}", reply.header("emberpost-message-id").unwrap());
        let page = crate::harness::wait_for(SOON, "it is closed", async || {
            tokio::time::sleep(std::time::Duration::from_millis(110)).await;
            let page = node.get(&path).await;
            (page.status == 200).then(|| page.json())
        })
        .await;
        let entry = &page["entry"][0];
        assert!(entry["response"]["status"].as_str().unwrap().starts_with(&status.to_string()), "{owed}: {page}");
        if status == 200 {
            assert_eq!(entry["resource"], reply.json(), "{owed}");
        } else {
            assert_eq!(entry["resource"], Value::Null, "{owed}");
            assert_eq!(
                entry["response"]["outcome"]["issue"].as_array().map_or(Vec::new(), Clone::clone),
                reply.issues(),
                "{owed}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_the_definition_does_not_allow_is_delivered_and_stored_with_the_breach() {
    let folder = definitions();
    let (home, lab) = (Peer::answering(Answer::Empty(200)).await, Peer::answering(Answer::Empty(202)).await);
    for level in ["message", "structure", "profile"] {
        let node = NodeConfig::new()
            .definitions(&format!("paths = [{:?}]", folder.path()))
            .validation(&format!("level = \"{level}\""))
            .participant(Party::sender().at(&home))
            .participant(Party::new("lab").at(&lab))
            .start()
            .await;
        for (event, asked, breach) in [
            ("known-response", "known", false),
            ("known", "known", true),
            ("other", "known", true),
            ("consequence", "consequence", false),
            ("other", "consequence", true),
        ] {
            let breaches = |outcome: &Value| {
                let issues = outcome["issues"].as_array().cloned().unwrap_or_default();
                issues.iter().filter(|issue| issue["rule"] == "MSG-50").cloned().collect::<Vec<_>>()
            };
            let answer = |request: &Sample| {
                Sample::new()
                    .from("http://lab.example/fhir")
                    .event_of(SYSTEM, event)
                    .answering(&request.header_id(), "ok")
            };
            // On its own, and in the reply.
            lab.answer(Answer::Empty(202));
            let before = home.count();
            let request = Sample::new().event_of(SYSTEM, asked).addressed_to("lab");
            node.post(request.bytes()).await.expect_status(202);
            let own = answer(&request).bytes();
            let reply = node.post(own.clone()).await.expect_status(200);
            assert_eq!(home.wait_for(before + 1, SOON).await[before].body, own, "{level} {event}");
            let kept = node.admin(&format!("messages/{}", reply.header("emberpost-message-id").unwrap())).await;
            assert_eq!(breaches(&kept["outcome"]).len(), usize::from(breach), "{level} {event} to {asked}: {kept}");

            let request = Sample::new().event_of(SYSTEM, asked).addressed_to("lab");
            let in_reply = answer(&request).bytes();
            lab.answer(Answer::Bytes(in_reply.clone()));
            let reply = node.post(request.bytes()).await.expect_status(200);
            assert_eq!(reply.body, in_reply, "{level} {event}");
            let shown = node.admin(&format!("messages/{}", reply.header("emberpost-message-id").unwrap())).await;
            let found = breaches(&shown["answers"][0]["outcome"]);
            assert_eq!(found.len(), usize::from(breach), "{level} {event} to {asked}: {shown}");
            assert!(found.iter().all(|issue| issue["severity"] == "warning" && issue["fault"] == "RECV_BAD_ANSWER"));
        }
    }
}

#[tokio::test]
async fn unknown_events_and_content_are_decided_each_by_its_own_key() {
    let folder = definitions();
    let lab = Peer::ok().await;
    for (unknown_events, on_failure) in
        [("reject", "reject"), ("reject", "report"), ("route", "reject"), ("route", "report")]
    {
        let node = NodeConfig::with_sender()
            .definitions(&format!("paths = [{:?}]", folder.path()))
            .definitions(&format!("unknown_events = \"{unknown_events}\""))
            .validation(&format!("on_failure = \"{on_failure}\""))
            .participant(Party::new("lab").at(&lab))
            .start()
            .await;
        let broken = |message: Sample| message.set("/entry/1/resource/gender", json!("x"));
        for (message, passes) in [
            (known(), true),
            (broken(known()), on_failure == "report"),
            (Sample::new(), unknown_events == "route"),
            (broken(Sample::new()), unknown_events == "route" && on_failure == "report"),
        ] {
            let reply = node.post(message.addressed_to("lab").bytes()).await.expect_status(200);
            let wanted = if passes { "ok" } else { "fatal-error" };
            assert_eq!(
                reply.response_code().as_deref(),
                Some(wanted),
                "{unknown_events} {on_failure}: {}",
                reply.text()
            );
        }
    }
    assert_eq!(lab.count(), 9);
}

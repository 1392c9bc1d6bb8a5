//! What Emberpost says beside the body of what it publishes, and what it reads there.

use std::io::Write;

use lapin::types::AMQPValue;
use serde_json::json;

use fhir::format::convert;
use fhir::{FhirVersion, Format};

use crate::harness::sample::EVENT_SYSTEM;
use crate::harness::{Answer, Broker, Lines, Node, Party, Peer, Props, Reply, SOON, Sample, Taken, wait_for};

fn to_lab() -> Sample {
    Sample::new().addressed_to("lab")
}

/// When the newest message came, by the router's clock.
async fn came_at(node: &Node) -> u64 {
    node.admin("messages").await["items"][0]["received_at_us"].as_u64().unwrap() / 1_000_000
}

fn attempt(taken: &Taken) -> Option<i64> {
    match taken.properties.headers().as_ref()?.inner().get("attempt")? {
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

/// What every message of ours says, of a `patient-link`.
#[track_caller]
fn is_well_described(taken: &Taken, version: &str, message_id: &str, node: &Node, came_at: u64) {
    let properties = &taken.properties;
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    let content_type = format!("application/fhir+json; fhirVersion={version}");
    assert_eq!(text(properties.content_type()), Some(content_type));
    assert_eq!(text(properties.message_id()).as_deref(), Some(message_id));
    assert_eq!(text(properties.kind()).as_deref(), Some("patient-link"));
    assert_eq!(text(properties.app_id()).as_deref(), Some("emberpost"));
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert!(came_at.abs_diff(properties.timestamp().unwrap()) < 600, "seconds since 1970");
    assert_eq!(taken.header("fhirVersion").as_deref(), Some(version));
    assert_eq!(taken.header("event"), Some(format!("{EVENT_SYSTEM}|patient-link")));
    assert_eq!(taken.header("via"), Some(format!("1.1 {}", node.address())));
    assert_eq!(attempt(taken), Some(1));
}

#[tokio::test]
async fn a_message_and_its_answer_are_described_in_both_versions() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    for (request, version) in [(to_lab(), "4.0"), (to_lab().r5(), "5.0")] {
        let r5 = version == "5.0";
        let message_id = if r5 { request.identifier_value() } else { request.header_id() };
        let (answer, asked) = tokio::join!(lines.request(&request), async {
            let asked = lines.asked().await;
            lines.answer(&asked, "ok").await;
            asked
        });
        is_well_described(&asked, version, &message_id, &node, came_at(&node).await);
        assert_eq!(asked.header("source").as_deref(), Some("http://sender.example/fhir"));
        assert_eq!(asked.header("destination").as_deref(), Some("http://lab.example/fhir"));
        assert_eq!(asked.reply_to(), Some(&*lines.answers));
        let message = node.admin(&format!("messages/{}", asked.correlation_id().unwrap())).await;
        assert_eq!(message["header_id"], request.header_id(), "the correlation_id is our id of the message");
        let kind = if r5 { "ri" } else { "rh" };
        is_well_described(&answer, version, &format!("{kind}-{}", request.header_id()), &node, came_at(&node).await);
        assert_eq!(answer.header("source").as_deref(), Some("http://lab.example/fhir"));
        assert_eq!(answer.header("destination").as_deref(), Some("http://sender.example/fhir"));
        assert_eq!(answer.reply_to(), None);
    }
}

#[tokio::test]
async fn an_answer_on_the_sources_channel_asks_for_none() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, home, ward) = (Lines::on(&broker).await, Broker::name("home"), Peer::ok().await);
    let config = lines.config_of(Party::sender().amqp("", &home));
    let node = config.participant(Party::new("ward").at(&ward)).start().await;
    let request = Sample::new().addressed_to("ward");
    let reply = node
        .ask(
            node.request(reqwest::Method::POST, "/fhir/$process-message?async=true")
                .header("content-type", "application/fhir+json")
                .body(request.bytes()),
        )
        .await;
    reply.expect_status(200);
    let answer = lines.next(&home).await;
    is_well_described(&answer, "4.0", &format!("rh-{}", request.header_id()), &node, came_at(&node).await);
    assert_eq!(answer.reply_to(), None);
}

#[tokio::test]
async fn a_second_attempt_says_so_and_via_is_added_to() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let exchange = Broker::name("exchange");
    let lab = Party::new("lab").amqp(&exchange, "lab").with("retry_schedule_seconds = [1]");
    let node = lines.config_of(Party::sender()).participant(lab).start().await;
    let via = Props::json().header("via", "1.1 other, 1.1 another");
    lines.tell(&to_lab().bytes(), via).await;
    // Nothing is bound to the exchange yet: the first attempt is unroutable, and recorded.
    wait_for(SOON, "an attempt fails", async || {
        let delivery = node.admin("deliveries?participant=lab").await["items"][0].clone();
        (delivery["attempts"] == 1).then(|| assert_eq!(delivery["fault"], "ROUTE_UNROUTABLE"))
    })
    .await;
    lines.client.declare_quorum(&lines.lab).await;
    lines.client.bind(&lines.lab, &exchange, "lab").await;
    let taken = lines.asked().await;
    // How many attempts failed before the binding was there is the clock's affair.
    let attempts = wait_for(SOON, "the delivery is made", async || {
        let delivery = node.admin("deliveries?participant=lab").await["items"][0].clone();
        (delivery["state"] == "delivered").then(|| delivery["attempts"].as_i64())
    })
    .await;
    assert!(attempts >= Some(2), "{attempts:?}");
    assert_eq!(attempt(&taken), attempts);
    assert_eq!(taken.header("via"), Some(format!("1.1 other, 1.1 another, 1.1 {}", node.address())));
    // What holds our own name comes in a circle.
    let ours = Props::json().header("via", &format!("1.1 {}", node.address()));
    let answer = lines.client.request("", &lines.inbound, &to_lab().bytes(), ours, SOON).await.unwrap();
    assert!(answer.text().contains("ROUTE_LOOP"), "{}", answer.text());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_body_is_taken_in_every_spelling_that_its_properties_tell() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    let plain: fn(&[u8]) -> Vec<u8> = |bytes| bytes.to_vec();
    let zstd: fn(&[u8]) -> Vec<u8> = |bytes| zstd::encode_all(bytes, 1).unwrap();
    let none = Props::none;
    for (props, pack, version) in [
        (none(), plain, "4.0"),
        (none().content_type("application/json"), plain, "4.0"),
        (none().content_encoding("gzip"), gzip, "4.0"),
        (Props::json().content_encoding("zstd"), zstd, "4.0"),
        (none().header("fhirVersion", "4.3"), plain, "4.3"),
        (none().content_type("application/fhir+json; fhirVersion=4.3"), plain, "4.3"),
    ] {
        let request = to_lab();
        lines.tell(&pack(&request.bytes()), props).await;
        let asked = lines.asked().await;
        assert_eq!(asked.body, request.bytes());
        assert_eq!(asked.header("fhirVersion").as_deref(), Some(version));
        let kept = node.admin(&format!("messages/{}", asked.correlation_id().unwrap())).await;
        assert_eq!(kept["state"], "accepted");
    }
}

#[tokio::test]
async fn what_its_properties_do_not_explain_is_refused_with_an_outcome_and_kept() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let node = lines.config().start().await;
    let json = to_lab().bytes();
    let none = Props::none;
    let cases: [(Props, &[u8], &str); 7] = [
        (none(), b"resourceType: Bundle", "SEND_MEDIA_TYPE"),
        (
            none().content_type("application/fhir+xml"),
            b"<Bundle xmlns=\"http://hl7.org/fhir\"><type value=\"message\"/></Bundle>",
            "SEND_NOT_MESSAGE",
        ),
        (none().content_type("text/plain"), b"resourceType: Bundle", "SEND_MEDIA_TYPE"),
        (none().content_encoding("br"), &json, "SEND_MEDIA_TYPE"),
        (Props::json().content_encoding("gzip"), &json, "SEND_MEDIA_TYPE"),
        (Props::json().header("fhirVersion", "3.0"), &json, "SEND_VERSION"),
        (
            none().content_type("application/fhir+json; fhirVersion=4.0").header("fhirVersion", "5.0"),
            &json,
            "SEND_VERSION",
        ),
    ];
    for (count, (props, body, fault)) in cases.into_iter().enumerate() {
        let answer = lines.client.request("", &lines.inbound, body, props, SOON).await.unwrap();
        let kind = answer.properties.kind().as_ref().map(|kind| kind.as_str().to_owned());
        assert_eq!(kind.as_deref(), Some("OperationOutcome"), "{}", answer.text());
        assert_eq!(answer.properties.app_id().as_ref().unwrap().as_str(), "emberpost");
        // An answer has the format of its request; all are looked at in JSON.
        let outcome = convert(answer.body.into(), Format::Json, FhirVersion::R4).unwrap();
        let reply = Reply { status: 200, headers: Default::default(), body: outcome };
        assert_eq!(reply.json()["resourceType"], "OperationOutcome");
        assert_eq!(reply.faults(), [fault]);
        let refused = node.admin("messages?state=refused").await;
        assert_eq!(refused["items"].as_array().unwrap().len(), count + 1);
        let id = refused["items"][0]["id"].as_str().unwrap();
        let content = node.get(&format!("/admin/v1/messages/{id}/content")).await.expect_status(200);
        assert_eq!(&*content.body, body);
    }
    // A header that was read has an answer message in place of the outcome.
    let stray = Sample::new().to("http://nobody.example");
    let answer = lines.request(&stray).await;
    let answer = Reply { status: 200, headers: Default::default(), body: answer.body.into() };
    assert_eq!(
        (answer.response_code().as_deref(), answer.response_identifier()),
        (Some("fatal-error"), Some(stray.header_id()))
    );
    assert_eq!(answer.faults(), ["SEND_UNKNOWN_DESTINATION"]);
}

#[tokio::test]
async fn a_message_expires_when_its_sender_says_so() {
    let Some(broker) = Broker::shared().await else { return };
    let (lines, ward) = (Lines::on(&broker).await, Peer::answering(Answer::Empty(503)).await);
    let ward = Party::new("ward").at(&ward).with("retry_schedule_seconds = [1]");
    let _node = lines.config().participant(ward).start().await;
    let request = Sample::new().addressed_to("ward").bytes();
    let props = Props::json().expiration_ms(2000);
    let answer = lines.client.request("", &lines.inbound, &request, props, SOON * 2).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["entry"][0]["resource"]["response"]["code"], json!("transient-error"), "{answer}");
    assert!(answer.to_string().contains("RECV_EXPIRED"));
}

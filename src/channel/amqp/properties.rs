//! AMQP properties and headers: read from received messages, and set on published ones.

use crate::channel::via;
use crate::delivery::{DeliveryKind, Metadata, PendingDelivery};
use crate::routing::{EMBERPOST, Participant};
use fhir::FhirVersion;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use std::time::Duration;

/// The property `type` of an answer to something that is not a message.
const OUTCOME_TYPE: &str = "OperationOutcome";
/// `delivery_mode`: stored on disk.
const PERSISTENT: u8 = 2;
/// The length limit of AMQP's short strings.
const SHORT_LIMIT_BYTES: usize = 255;
/// Longer values are left out of the headers, because they are in the message. All properties together must fit into
/// one frame, usually of 128 KiB; the broker closes a connection that sends more.
const HEADER_LIMIT_BYTES: usize = 1024;
/// `via` grows with each router.
const VIA_LIMIT_BYTES: usize = 8 * 1024;
/// Headers with a meaning to the broker: carbon copies, and its own record of where a message has been.
const BROKER_HEADERS: [&str; 2] = ["CC", "BCC"];
const BROKER_HEADER_PREFIX: &str = "x-";

/// A text property.
pub(super) fn text(value: &Option<ShortString>) -> Option<&str> {
    value.as_ref().map(|value| value.as_str()).filter(|text| !text.is_empty())
}

/// A text header.
pub(super) fn header<'p>(properties: &'p BasicProperties, name: &str) -> Option<std::borrow::Cow<'p, str>> {
    let value = properties.headers().as_ref()?.inner().get(name)?;
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::ShortString(text) => Some(text.as_str().into()),
        _ => None,
    }
}

/// How often a quorum queue delivered this message before (RabbitMQ's `x-delivery-count`).
pub(super) fn delivery_count(properties: &BasicProperties) -> u64 {
    let count = properties.headers().as_ref().and_then(|headers| headers.inner().get("x-delivery-count"));
    let number = match count {
        Some(AMQPValue::LongLongInt(number)) => *number,
        Some(AMQPValue::LongInt(number)) => i64::from(*number),
        Some(AMQPValue::LongUInt(number)) => i64::from(*number),
        _ => 0,
    };
    number.unsigned_abs()
}

/// The sender's `expiration`: milliseconds as text, which the broker has checked.
pub(super) fn expires_after(properties: &BasicProperties) -> Option<Duration> {
    text(properties.expiration())?.parse().ok().map(Duration::from_millis)
}

/// The properties of a dead letter: as received, except for what the broker would act on. That is the user, because we
/// publish it as our own, the expiration, and headers for the broker.
pub(super) fn dead_letter(received: &BasicProperties, why: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in received.headers().iter().flat_map(|headers| headers.inner()) {
        let name_text = name.as_str();
        if !BROKER_HEADERS.contains(&name_text) && !name_text.starts_with(BROKER_HEADER_PREFIX) {
            headers.insert(name.clone(), value.clone());
        }
    }
    let mut note = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    note("emberpost-reason", why);
    if let Some(user) = text(received.user_id()) {
        note("emberpost-user-id", user);
    }
    if let Some(expiration) = text(received.expiration()) {
        note("emberpost-expiration", expiration);
    }
    let mut kept = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    type Setter = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<ShortString>, Setter); 7] = [
        (received.content_type(), BasicProperties::with_content_type),
        (received.content_encoding(), BasicProperties::with_content_encoding),
        (received.correlation_id(), BasicProperties::with_correlation_id),
        (received.reply_to(), BasicProperties::with_reply_to),
        (received.message_id(), BasicProperties::with_message_id),
        (received.kind(), BasicProperties::with_type),
        (received.app_id(), BasicProperties::with_app_id),
    ];
    for (value, set) in texts {
        if let Some(value) = value {
            kept = set(kept, value.clone());
        }
    }
    match received.timestamp() {
        Some(timestamp) => kept.with_timestamp(*timestamp),
        None => kept,
    }
}

/// The properties of a message to a participant or a reply queue. `now_us`: UTC microseconds.
pub(super) fn outbound(
    delivery: &PendingDelivery,
    participant: &Participant,
    answer_queue: &str,
    name: &str,
    now_us: i64,
) -> BasicProperties {
    let metadata = &*delivery.metadata;
    let correlation = match &delivery.kind {
        DeliveryKind::Reply(reply) => reply.correlation.clone(),
        _ => Some(metadata.id.to_string()),
    };
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(u64::try_from(now_us / 1_000_000).unwrap_or_default())
        .with_app_id(EMBERPOST.into())
        .with_headers(headers(delivery, participant, name));
    // A value that is too long for a property is in the message.
    if let Some(value) = short(&media_type(metadata)) {
        properties = properties.with_content_type(value);
    }
    if let Some(value) = message_id(metadata).and_then(short) {
        properties = properties.with_message_id(value);
    }
    if let Some(value) = correlation.as_deref().and_then(short) {
        properties = properties.with_correlation_id(value);
    }
    if let Some(value) = kind(metadata).and_then(short) {
        properties = properties.with_type(value);
    }
    if is_to_answer(delivery)
        && let Some(value) = short(answer_queue)
    {
        properties = properties.with_reply_to(value);
    }
    properties
}

fn short(text: &str) -> Option<ShortString> {
    (text.len() <= SHORT_LIMIT_BYTES).then(|| text.into())
}

fn media_type(metadata: &Metadata) -> String {
    match metadata.version {
        Some(version) => format!("{}; fhirVersion={}", metadata.media_type, version.short()),
        None => metadata.media_type.clone(),
    }
}

/// MessageHeader.id in R4, the value of Bundle.identifier in R5; if that is missing, another id of the message.
fn message_id(metadata: &Metadata) -> Option<&str> {
    let identifier = metadata.bundle_identifier.as_ref().map(|identifier| identifier.value.as_str());
    let header = metadata.header_id.as_deref();
    let own = if metadata.version == Some(FhirVersion::R5) { identifier.or(header) } else { header.or(identifier) };
    own.or(metadata.bundle_id.as_deref())
}

fn kind(metadata: &Metadata) -> Option<&str> {
    match &metadata.event {
        Some(event) => Some(event.code()),
        // Of Emberpost's own messages, only an answer to an unreadable message has no event.
        None => (metadata.sender == EMBERPOST).then_some(OUTCOME_TYPE),
    }
}

/// Whether the receiver may answer: requests, except those that want no answer. Answers are never answered (MSG-41).
fn is_to_answer(delivery: &PendingDelivery) -> bool {
    let never = delivery.metadata.owed == Some(fhir::event::ResponseRequired::Never);
    let request = matches!(delivery.kind, DeliveryKind::Request | DeliveryKind::Replay { .. });
    request && delivery.metadata.response.is_none() && !never
}

fn headers(delivery: &PendingDelivery, participant: &Participant, name: &str) -> FieldTable {
    let metadata = &*delivery.metadata;
    let mut headers = FieldTable::default();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| value.len() <= HEADER_LIMIT_BYTES) {
            headers.insert(key.into(), AMQPValue::LongString(value.into()));
        }
    };
    set("fhirVersion", metadata.version.map(|version| version.short().to_owned()));
    set("event", metadata.event.as_ref().map(ToString::to_string));
    set("source", metadata.source.clone());
    set(
        "destination",
        participant
            .owned_of(&metadata.destinations)
            .or(metadata.destinations.first())
            .map(|destination| destination.to_string()),
    );
    let came_through = via(metadata, name);
    let via = if came_through.len() <= VIA_LIMIT_BYTES { came_through } else { format!("1.1 {name}") };
    headers.insert("via".into(), AMQPValue::LongString(via.into()));
    let attempt = i32::try_from(delivery.attempts.saturating_add(1)).unwrap_or(i32::MAX);
    headers.insert("attempt".into(), AMQPValue::LongInt(attempt));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::ReplyQueue;
    use crate::testing;
    use fhir::event::{Identifier, ResponseRequired};
    use std::sync::Arc;

    fn properties_of(delivery: &PendingDelivery) -> BasicProperties {
        outbound(delivery, &Participant::new("lab"), "answers", "hub:1", 7_000_000)
    }

    #[test]
    fn a_request_carries_its_identity_and_where_to_answer() {
        let mut metadata = testing::metadata();
        metadata.header_id = Some("header".into());
        metadata.bundle_identifier = Some(Identifier { system: None, value: "identifier".into() });
        metadata.via = Some("1.1 other".into());
        let delivery =
            PendingDelivery { metadata: Arc::new(metadata.clone()), attempts: 2, ..testing::pending("lab", 1, 1) };
        let properties = properties_of(&delivery);
        assert_eq!(text(properties.message_id()), Some("header"));
        assert_eq!(text(properties.correlation_id()), Some(&*metadata.id.to_string()));
        assert_eq!(text(properties.reply_to()), Some("answers"));
        assert_eq!((properties.delivery_mode(), properties.timestamp()), (&Some(2), &Some(7)));
        assert_eq!(header(&properties, "via").as_deref(), Some("1.1 other, 1.1 hub:1"));
        assert_eq!(properties.headers().as_ref().unwrap().inner().get("attempt"), Some(&AMQPValue::LongInt(3)));

        metadata.version = Some(FhirVersion::R5);
        metadata.owed = Some(ResponseRequired::Never);
        let properties = properties_of(&PendingDelivery { metadata: Arc::new(metadata), ..delivery });
        assert_eq!(text(properties.message_id()), Some("identifier"));
        assert_eq!(text(properties.reply_to()), None);
    }

    #[test]
    fn what_is_too_long_for_a_frame_is_left_to_the_message() {
        let mut metadata = testing::metadata();
        (metadata.source, metadata.via) = (Some("s".repeat(200_000)), Some("1.1 x, ".repeat(50_000)));
        let properties =
            properties_of(&PendingDelivery { metadata: Arc::new(metadata), ..testing::pending("lab", 1, 1) });
        assert_eq!(header(&properties, "source"), None);
        assert_eq!(header(&properties, "via").as_deref(), Some("1.1 hub:1"));
    }

    #[test]
    fn what_is_put_aside_keeps_its_properties_but_for_what_the_broker_would_act_on() {
        let mut headers = FieldTable::default();
        for name in ["CC", "BCC", "x-delivery-count", "mine"] {
            headers.insert(name.into(), AMQPValue::LongString("value".into()));
        }
        let received = BasicProperties::default()
            .with_user_id("lab".into())
            .with_expiration("60000".into())
            .with_correlation_id("c".into())
            .with_type("t".into())
            .with_timestamp(7)
            .with_headers(headers);
        let kept = dead_letter(&received, "too large");
        assert_eq!((text(kept.user_id()), text(kept.expiration())), (None, None));
        assert_eq!(
            (text(kept.correlation_id()), text(kept.kind()), kept.timestamp()),
            (Some("c"), Some("t"), &Some(7))
        );
        let mut names: Vec<_> = kept.headers().as_ref().unwrap().inner().keys().map(|name| name.to_string()).collect();
        names.sort();
        assert_eq!(names, ["emberpost-expiration", "emberpost-reason", "emberpost-user-id", "mine"]);
    }

    #[test]
    fn a_reply_has_the_requests_correlation_and_an_outcome_says_what_it_is() {
        let mut metadata = testing::metadata();
        (metadata.sender, metadata.event) = (EMBERPOST.into(), None);
        let reply = ReplyQueue { queue: Some("q".into()), correlation: Some("mine".into()) };
        let delivery = PendingDelivery {
            kind: DeliveryKind::Reply(reply),
            metadata: Arc::new(metadata),
            ..testing::pending("lab", 1, 1)
        };
        let properties = properties_of(&delivery);
        assert_eq!((text(properties.correlation_id()), text(properties.reply_to())), (Some("mine"), None));
        assert_eq!(text(properties.kind()), Some("OperationOutcome"));
    }
}

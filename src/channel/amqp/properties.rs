//! AMQP properties and headers: what a message's sender says of it, and what we say of it on the way out (design 1.6).

use crate::channel::via;
use crate::delivery::{DeliveryKind, Metadata, PendingDelivery};
use crate::routing::{EMBERPOST, Participant};
use fhir::FhirVersion;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use std::time::Duration;

/// What the property `type` says of an answer to what is no message that could be answered.
const OUTCOME_TYPE: &str = "OperationOutcome";
/// `delivery_mode`: kept on disk.
const PERSISTENT: u8 = 2;
/// AMQP's short strings are no longer.
const SHORT_LIMIT_BYTES: usize = 255;
/// Longer values are left out of the headers: they stand in the message. All properties together must fit into one frame, of
/// 128 KiB as a rule; the broker closes a connection that sends more.
const HEADER_LIMIT_BYTES: usize = 1024;
/// `via` grows with each router.
const VIA_LIMIT_BYTES: usize = 8 * 1024;
/// Headers that mean something to the broker: carbon copies, and its own notes of where a message has been.
const BROKER_HEADERS: [&str; 2] = ["CC", "BCC"];
const BROKER_HEADER_PREFIX: &str = "x-";

/// A property that is a text.
pub(super) fn text(value: &Option<ShortString>) -> Option<&str> {
    value.as_ref().map(|value| value.as_str()).filter(|text| !text.is_empty())
}

/// A header that is a text.
pub(super) fn header<'p>(properties: &'p BasicProperties, name: &str) -> Option<std::borrow::Cow<'p, str>> {
    let value = properties.headers().as_ref()?.inner().get(name)?;
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::ShortString(text) => Some(text.as_str().into()),
        _ => None,
    }
}

/// How often a quorum queue brought this message before (RabbitMQ's `x-delivery-count`).
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

/// The sender's use by date: milliseconds as text, which the broker has checked.
pub(super) fn expires_after(properties: &BasicProperties) -> Option<Duration> {
    text(properties.expiration())?.parse().ok().map(Duration::from_millis)
}

/// The properties of a message that is put aside, as they came but for what the broker would act on: the user, because it is
/// published by ours, the expiration, and headers for the broker.
pub(super) fn put_aside(came: &BasicProperties, why: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in came.headers().iter().flat_map(|headers| headers.inner()) {
        let name_text = name.as_str();
        if !BROKER_HEADERS.contains(&name_text) && !name_text.starts_with(BROKER_HEADER_PREFIX) {
            headers.insert(name.clone(), value.clone());
        }
    }
    let mut note = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    note("emberpost-reason", why);
    if let Some(user) = text(came.user_id()) {
        note("emberpost-user-id", user);
    }
    if let Some(expiration) = text(came.expiration()) {
        note("emberpost-expiration", expiration);
    }
    let mut kept = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    type Setter = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<ShortString>, Setter); 7] = [
        (came.content_type(), BasicProperties::with_content_type),
        (came.content_encoding(), BasicProperties::with_content_encoding),
        (came.correlation_id(), BasicProperties::with_correlation_id),
        (came.reply_to(), BasicProperties::with_reply_to),
        (came.message_id(), BasicProperties::with_message_id),
        (came.kind(), BasicProperties::with_type),
        (came.app_id(), BasicProperties::with_app_id),
    ];
    for (value, set) in texts {
        if let Some(value) = value {
            kept = set(kept, value.clone());
        }
    }
    match came.timestamp() {
        Some(timestamp) => kept.with_timestamp(*timestamp),
        None => kept,
    }
}

/// What is said of a message on its way to a participant or a reply queue. `now_us`: UTC microseconds.
pub(super) fn outbound(
    work: &PendingDelivery,
    participant: &Participant,
    answer_queue: &str,
    name: &str,
    now_us: i64,
) -> BasicProperties {
    let metadata = &*work.metadata;
    let correlation = match &work.kind {
        DeliveryKind::Reply(reply) => reply.correlation.clone(),
        _ => Some(metadata.id.to_string()),
    };
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(u64::try_from(now_us / 1_000_000).unwrap_or_default())
        .with_app_id(EMBERPOST.into())
        .with_headers(headers(work, participant, name));
    // What is too long for a property came with the message, and stands in it.
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
    if is_to_answer(work)
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

/// MessageHeader.id in R4, the value of Bundle.identifier in R5; where that is missing, what else the message is known by.
fn message_id(metadata: &Metadata) -> Option<&str> {
    let identifier = metadata.bundle_identifier.as_ref().map(|identifier| identifier.value.as_str());
    let header = metadata.header_id.as_deref();
    let own = if metadata.version == Some(FhirVersion::R5) { identifier.or(header) } else { header.or(identifier) };
    own.or(metadata.bundle_id.as_deref())
}

fn kind(metadata: &Metadata) -> Option<&str> {
    match &metadata.event {
        Some(event) => Some(event.code()),
        // Of what we write ourselves only an answer to what could not be read has no event.
        None => (metadata.sender == EMBERPOST).then_some(OUTCOME_TYPE),
    }
}

/// Whether the receiver may answer: requests, but for those that want none; answers are never answered (MSG-41).
fn is_to_answer(work: &PendingDelivery) -> bool {
    let never = work.metadata.owed == Some(fhir::event::ResponseRequired::Never);
    let request = matches!(work.kind, DeliveryKind::Request | DeliveryKind::Replay { .. });
    request && work.metadata.response.is_none() && !never
}

fn headers(work: &PendingDelivery, participant: &Participant, name: &str) -> FieldTable {
    let metadata = &*work.metadata;
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
    let attempt = i32::try_from(work.attempts.saturating_add(1)).unwrap_or(i32::MAX);
    headers.insert("attempt".into(), AMQPValue::LongInt(attempt));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::courier::fixture;
    use crate::delivery::ReplyQueue;
    use fhir::event::{Identifier, ResponseRequired};
    use std::sync::Arc;

    fn said(work: &PendingDelivery) -> BasicProperties {
        outbound(work, &Participant::new("lab"), "answers", "hub:1", 7_000_000)
    }

    #[test]
    fn a_request_carries_its_identity_and_where_to_answer() {
        let mut metadata = fixture::metadata();
        metadata.header_id = Some("header".into());
        metadata.bundle_identifier = Some(Identifier { system: None, value: "identifier".into() });
        metadata.via = Some("1.1 other".into());
        let work =
            PendingDelivery { metadata: Arc::new(metadata.clone()), attempts: 2, ..fixture::pending("lab", 1, 1) };
        let properties = said(&work);
        assert_eq!(text(properties.message_id()), Some("header"));
        assert_eq!(text(properties.correlation_id()), Some(&*metadata.id.to_string()));
        assert_eq!(text(properties.reply_to()), Some("answers"));
        assert_eq!((properties.delivery_mode(), properties.timestamp()), (&Some(2), &Some(7)));
        assert_eq!(header(&properties, "via").as_deref(), Some("1.1 other, 1.1 hub:1"));
        assert_eq!(properties.headers().as_ref().unwrap().inner().get("attempt"), Some(&AMQPValue::LongInt(3)));

        metadata.version = Some(FhirVersion::R5);
        metadata.owed = Some(ResponseRequired::Never);
        let properties = said(&PendingDelivery { metadata: Arc::new(metadata), ..work });
        assert_eq!(text(properties.message_id()), Some("identifier"));
        assert_eq!(text(properties.reply_to()), None);
    }

    #[test]
    fn what_is_too_long_for_a_frame_is_left_to_the_message() {
        let mut metadata = fixture::metadata();
        (metadata.source, metadata.via) = (Some("s".repeat(200_000)), Some("1.1 x, ".repeat(50_000)));
        let properties = said(&PendingDelivery { metadata: Arc::new(metadata), ..fixture::pending("lab", 1, 1) });
        assert_eq!(header(&properties, "source"), None);
        assert_eq!(header(&properties, "via").as_deref(), Some("1.1 hub:1"));
    }

    #[test]
    fn what_is_put_aside_keeps_its_properties_but_for_what_the_broker_would_act_on() {
        let mut headers = FieldTable::default();
        for name in ["CC", "BCC", "x-delivery-count", "mine"] {
            headers.insert(name.into(), AMQPValue::LongString("value".into()));
        }
        let came = BasicProperties::default()
            .with_user_id("lab".into())
            .with_expiration("60000".into())
            .with_correlation_id("c".into())
            .with_type("t".into())
            .with_timestamp(7)
            .with_headers(headers);
        let kept = put_aside(&came, "too large");
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
        let mut metadata = fixture::metadata();
        (metadata.sender, metadata.event) = (EMBERPOST.into(), None);
        let reply = ReplyQueue { queue: Some("q".into()), correlation: Some("mine".into()) };
        let work = PendingDelivery {
            kind: DeliveryKind::Reply(reply),
            metadata: Arc::new(metadata),
            ..fixture::pending("lab", 1, 1)
        };
        let properties = said(&work);
        assert_eq!((text(properties.correlation_id()), text(properties.reply_to())), (Some("mine"), None));
        assert_eq!(text(properties.kind()), Some("OperationOutcome"));
    }
}

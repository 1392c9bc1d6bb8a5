//! Lanes: the messages to one participant that keep their order share a lane key.
//!
//! A key is a hash, so that it is the same in every process and build, and needs no table of names.

use super::address;
use super::participant::Order;
use sha2::{Digest, Sha256};

/// The key of deliveries without order: they do not wait for each other.
pub const UNORDERED: i64 = 0;

/// Which messages to a participant keep their order among each other.
#[derive(Clone, Copy, Debug)]
pub enum OrderedBy<'a> {
    /// Messages from one source endpoint; without one, from one sending participant (its id).
    Sender { source: Option<&'a str>, sender: &'a str },
    /// Answers to one `response-url`. They are posted there whatever channel the participant has, so they share no lane with
    /// what goes over that channel.
    Callback(&'a str),
}

/// The lane key of a delivery to a participant with this order, live or replayed. `subject` (`Message::subject_key`) is called
/// only if the order needs it; answers have none.
pub fn lane(order: Order, by: OrderedBy<'_>, subject: impl FnOnce() -> Option<String>) -> i64 {
    match (order, by) {
        (Order::None, _) => UNORDERED,
        (_, OrderedBy::Callback(url)) => key("callback", &address::normalize(url)),
        (Order::Sender, OrderedBy::Sender { source, sender }) => key_of_sender(source, sender),
        (Order::Subject, OrderedBy::Sender { source, sender }) => match subject() {
            Some(subject) => key("subject", &subject),
            None => key_of_sender(source, sender),
        },
    }
}

fn key_of_sender(source: Option<&str>, sender: &str) -> i64 {
    match source.filter(|source| !source.is_empty()) {
        Some(source) => key("source", &address::normalize(source)),
        None => key("sender", sender),
    }
}

/// The first eight bytes of SHA-256, never `UNORDERED`.
fn key(kind: &str, text: &str) -> i64 {
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(text).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    match i64::from_be_bytes(first) {
        UNORDERED => 1,
        key => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use fhir::{Message, json};

    /// Two patients' observations: `a` names its subject by a reference, `b` by an identifier.
    const OBSERVATIONS: &str = r#"{"resourceType":"Bundle","type":"message","id":"1","entry":[
        {"fullUrl":"urn:uuid:h","resource":{"resourceType":"MessageHeader","eventUri":"urn:e",
            "source":{"endpoint":"https://lab.org/fhir"},"focus":[{"reference":"FOCUS"}]}},
        {"fullUrl":"urn:uuid:a","resource":{"resourceType":"Observation","subject":{"reference":"urn:uuid:p"}}},
        {"fullUrl":"urn:uuid:b","resource":{"resourceType":"Observation","subject":{"reference":"Patient/7"}}},
        {"fullUrl":"urn:uuid:p","resource":{"resourceType":"Patient","identifier":[{"system":"urn:s","value":"1"}]}}]}"#;

    fn message_about(focus: &str) -> Message {
        let bytes = Bytes::from(OBSERVATIONS.replace("FOCUS", focus));
        Message::read(json::parse(bytes).unwrap(), None, None).unwrap()
    }

    fn lane_of(order: Order, message: &Message, sender: &str) -> i64 {
        lane(order, OrderedBy::Sender { source: message.header.source_endpoint.as_deref(), sender }, || {
            message.subject_key()
        })
    }

    fn by_source(source: Option<&str>, sender: &str) -> i64 {
        lane(Order::Sender, OrderedBy::Sender { source, sender }, || None)
    }

    #[test]
    fn messages_about_one_patient_share_a_lane_whoever_sends_them() {
        let subject = |focus, sender| lane_of(Order::Subject, &message_about(focus), sender);
        assert_eq!(subject("urn:uuid:a", "lab"), subject("urn:uuid:p", "ward"));
        assert_ne!(subject("urn:uuid:a", "lab"), subject("urn:uuid:b", "lab"));
        assert_ne!(subject("urn:uuid:a", "lab"), lane_of(Order::Sender, &message_about("urn:uuid:a"), "lab"));
    }

    #[test]
    fn a_lane_is_the_same_for_every_spelling_of_the_source_and_in_every_build() {
        let lab = by_source(Some("https://lab.org/fhir"), "lab");
        assert_eq!(lab, by_source(Some("HTTPS://LAB.org:443/fhir/"), "other"));
        assert_ne!(lab, by_source(Some("https://ward.org/fhir"), "lab"));
        // Stored deliveries have their lane key: a change of the hash would break order across an upgrade.
        assert_eq!(lab, LANE_OF_LAB);
    }

    const LANE_OF_LAB: i64 = -2_331_795_821_140_005_485;

    #[test]
    fn without_source_the_sender_makes_the_lane_and_without_order_nothing_does() {
        assert_eq!(by_source(None, "lab"), by_source(Some(""), "lab"));
        assert_ne!(by_source(None, "lab"), by_source(None, "ward"));
        assert_eq!(lane(Order::None, OrderedBy::Sender { source: None, sender: "lab" }, || None), UNORDERED);
    }

    #[test]
    fn without_subject_the_order_is_that_of_the_sender() {
        let message = message_about("urn:uuid:none");
        assert_eq!(lane_of(Order::Subject, &message, "lab"), lane_of(Order::Sender, &message, "lab"));
    }

    #[test]
    fn a_callback_shares_no_lane_with_what_goes_over_the_channel() {
        let url = "https://lab.org/fhir";
        let callback = |order, url| lane(order, OrderedBy::Callback(url), || None);
        assert_ne!(callback(Order::Sender, url), by_source(Some(url), "lab"));
        assert_eq!(callback(Order::Subject, url), callback(Order::Sender, "HTTPS://lab.org/fhir/"));
        assert_eq!(callback(Order::None, url), UNORDERED);
    }
}

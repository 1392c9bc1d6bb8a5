//! Lanes: the key under which messages of one participant keep their order.
//!
//! A key is a hash, so that it is the same in every process and build, and needs no table of names.

use super::address;
use super::participant::Order;
use crate::fhir::Message;
use sha2::{Digest, Sha256};

/// The lane of no order: every delivery in it stands alone.
pub const UNORDERED: i64 = 0;

/// The lane key of a message for a participant with this order. `sender` is the sending participant's id, which stands
/// in for a missing source endpoint.
pub fn lane(order: Order, message: &Message, sender: &str) -> i64 {
    match order {
        Order::None => UNORDERED,
        Order::Sender => sender_lane(message, sender),
        Order::Subject => match subject_key(message) {
            Some(subject) => key("subject", &subject),
            None => sender_lane(message, sender),
        },
    }
}

fn sender_lane(message: &Message, sender: &str) -> i64 {
    match message.header.source_endpoint.as_deref().filter(|source| !source.is_empty()) {
        Some(source) => key("source", &address::normalize(source)),
        None => key("sender", sender),
    }
}

fn subject_key(_message: &Message) -> Option<String> {
    None
}

/// The lane key of an answer, which has no subject of its own: by its source, where the participant asks for order.
pub fn lane_of_source(order: Order, source: &str) -> i64 {
    match order {
        Order::None => UNORDERED,
        Order::Sender | Order::Subject => key("source", &address::normalize(source)),
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
    use crate::fhir::{FhirVersion, MessageHeader, json};
    use bytes::Bytes;

    fn message(source: Option<&str>) -> Message {
        Message {
            tree: json::parse(Bytes::from_static(b"{}")).unwrap(),
            version: FhirVersion::R4,
            header: MessageHeader { source_endpoint: source.map(str::to_owned), ..MessageHeader::default() },
            bundle_id: None,
            bundle_identifier: None,
        }
    }

    #[test]
    fn a_lane_is_the_same_for_every_spelling_of_the_source_and_in_every_build() {
        let lab = lane(Order::Sender, &message(Some("https://lab.org/fhir")), "lab");
        assert_eq!(lab, lane(Order::Sender, &message(Some("HTTPS://LAB.org:443/fhir/")), "other"));
        assert_ne!(lab, lane(Order::Sender, &message(Some("https://ward.org/fhir")), "lab"));
        // Kept deliveries hold their lane: a change of the hash would break order over an upgrade.
        assert_eq!(lab, LANE_OF_LAB);
    }

    const LANE_OF_LAB: i64 = -2_331_795_821_140_005_485;

    #[test]
    fn without_source_the_sender_makes_the_lane_and_without_order_nothing_does() {
        assert_eq!(lane(Order::Sender, &message(None), "lab"), lane(Order::Sender, &message(Some("")), "lab"));
        assert_ne!(lane(Order::Sender, &message(None), "lab"), lane(Order::Sender, &message(None), "ward"));
        assert_eq!(lane(Order::None, &message(None), "lab"), UNORDERED);
    }

    #[test]
    fn without_subject_the_order_is_that_of_the_sender() {
        let message = message(Some("https://lab.org/fhir"));
        assert_eq!(lane(Order::Subject, &message, "lab"), lane(Order::Sender, &message, "lab"));
    }
}

//! What a database reads for a batch as JSON: arrays of columns, which the statements of every backend write alike.

use super::codes;
use super::stored::{Candidate, DeliveryRecord, IdentityLookup, KnownIdentities, Tails};
use crate::nodes::NodeKey;
use fhir::event::ResponseCode;
use sqlx::Error;
use std::collections::HashMap;
use uuid::Uuid;

/// A delivery: key, message, the message's id, participant, state, attempts, status, due time, fault, answer, end, response code of
/// the answer, and earlier answers with their SHA-256 in hex.
type DeliveryColumns = (
    i64,
    i64,
    Uuid,
    i64,
    i64,
    i64,
    Option<u16>,
    i64,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<Vec<(i64, String)>>,
);

/// The deliveries of an array of columns, by key.
pub(super) fn deliveries(text: &str) -> Result<HashMap<i64, DeliveryRecord>, Error> {
    let all: Vec<DeliveryColumns> = codes::from_json(text)?;
    all.into_iter().map(delivery_record).collect()
}

/// The nodes on which senders wait for answers, as `waiting_text` writes them.
pub(super) fn add_waiting(deliveries: &mut HashMap<i64, DeliveryRecord>, text: Option<&str>) -> Result<(), Error> {
    let all: Vec<(i64, String)> = text.map_or(Ok(Vec::new()), codes::from_json)?;
    for (key, nodes) in all {
        if let Some(delivery) = deliveries.get_mut(&key) {
            delivery.waiting = nodes.split(' ').filter_map(|node| node.parse().ok()).collect();
        }
    }
    Ok(())
}

/// None if no sender waits.
pub(super) fn waiting_text(nodes: &[NodeKey]) -> Option<String> {
    (!nodes.is_empty()).then(|| nodes.iter().map(NodeKey::to_string).collect::<Vec<_>>().join(" "))
}

/// A message that may be the same: key, id, SHA-256 of the content in hex, time of receipt, metadata, and the request that it answers.
type CandidateColumns = (i64, Uuid, String, i64, String, Option<Uuid>);

/// What is known of these identities: arrays of place (from 1), newest message with the same content, and a recent message; and the
/// columns of the messages.
pub(super) fn identities(
    known: Option<&str>,
    candidates: Option<&str>,
    lookups: &[IdentityLookup],
) -> Result<KnownIdentities, Error> {
    let mut all = KnownIdentities::default();
    let known: Vec<(usize, Option<i64>, i64)> = known.map_or(Ok(Vec::new()), codes::from_json)?;
    for (place, same, recent) in known {
        if let Some(lookup) = lookups.get(place.wrapping_sub(1)) {
            all.keys.insert(*lookup, (same, recent));
        }
    }
    let candidates: Vec<CandidateColumns> = candidates.map_or(Ok(Vec::new()), codes::from_json)?;
    for (key, id, content, received_us, metadata, in_reply_to) in candidates {
        let content = from_hex(&content).ok_or_else(|| codes::decode("a content hash that is not 32 bytes".into()))?;
        let metadata = codes::metadata(&metadata, in_reply_to)?;
        all.candidates.insert(key, Candidate { id, content, received_us, metadata });
    }
    Ok(all)
}

/// The tails of an array of participant, lane, and `seq`.
pub(super) fn tails(text: &str) -> Result<Tails, Error> {
    let all: Vec<(i64, i64, Option<i64>)> = codes::from_json(text)?;
    Ok(all.into_iter().filter_map(|(participant_key, lane, tail)| Some(((participant_key, lane), tail?))).collect())
}

fn delivery_record(columns: DeliveryColumns) -> Result<(i64, DeliveryRecord), Error> {
    let (
        key,
        message_key,
        message_id,
        participant_key,
        state,
        attempts,
        status,
        due_us,
        fault,
        answer,
        ended_us,
        code,
        earlier,
    ) = columns;
    let (state, fault) = (codes::state(state)?, codes::fault(fault.as_deref())?);
    let transient = code.as_deref() == Some(ResponseCode::TransientError.as_str());
    let answers = earlier.unwrap_or_default().into_iter().map(|(key, digest)| (key, from_hex(&digest))).collect();
    let changed = false;
    let record = DeliveryRecord {
        message_key,
        message_id,
        participant_key,
        stored_state: state,
        state,
        attempts,
        status,
        due_us,
        fault,
        answer,
        ended_us,
        transient,
        waiting: Vec::new(),
        answers,
        changed,
    };
    Ok((key, record))
}

/// None for answers that were stored before answers were compared.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let pairs = text.as_bytes().chunks_exact(2);
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

//! Converts between rows and types: codes of states and kinds, ids, JSON columns. A value that cannot be read is an error.

use crate::delivery::{DeliveryKind, DeliveryState, MessageState, Metadata, PendingDelivery};
use crate::fault::Fault;
use crate::outcome::Outcome;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::sync::Arc;
use uuid::Uuid;

/// Columns of a delivery with its message's metadata, as `pending` reads them; `d` is delivery, `m` message, `p` participant.
pub(in crate::store) const PENDING_COLUMNS: &str = "d.k, d.id, d.message_k, p.id, d.lane, d.seq, d.kind, d.kind_json, d.attempts, \
                                       d.due_us, d.expires_us, m.metadata, m.in_reply_to, d.prev_seq, \
                                       d.uncounted + (SELECT count(*) FROM attempt a \
                                       WHERE a.delivery_k = d.k AND a.n > d.uncounted AND a.result = 'probe')";
/// The number of these columns, which is the index of the next one.
pub(in crate::store) const PENDING_COLUMNS_COUNT: usize = 15;

pub(in crate::store) fn state_code(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Waiting => 0,
        DeliveryState::Active => 1,
        DeliveryState::Delivered => 2,
        DeliveryState::Answered => 3,
        DeliveryState::Dead => 4,
        DeliveryState::Discarded => 5,
    }
}

pub(in crate::store) fn state(code: i64) -> Result<DeliveryState, sqlx::Error> {
    DeliveryState::ALL
        .into_iter()
        .find(|state| state_code(*state) == code)
        .ok_or_else(|| decode(format!("delivery state {code}")))
}

pub(in crate::store) fn message_state_code(state: MessageState) -> i64 {
    match state {
        MessageState::Accepted => 0,
        MessageState::Refused => 1,
    }
}

pub(in crate::store) fn message_state(code: i64) -> Result<MessageState, sqlx::Error> {
    match code {
        0 => Ok(MessageState::Accepted),
        1 => Ok(MessageState::Refused),
        _ => Err(decode(format!("message state {code}"))),
    }
}

pub(in crate::store) fn kind_code(kind: &DeliveryKind) -> i64 {
    match kind {
        DeliveryKind::Request => 0,
        DeliveryKind::Answer => 1,
        // An answer that does not use the participant's channel; the JSON says which.
        DeliveryKind::Callback { .. } | DeliveryKind::Reply(_) => 2,
        DeliveryKind::Replay { .. } => 3,
    }
}

/// The JSON column of a kind; None for kinds that the code describes completely.
pub(in crate::store) fn kind_json(kind: &DeliveryKind) -> Option<String> {
    match kind {
        DeliveryKind::Request | DeliveryKind::Answer => None,
        DeliveryKind::Callback { .. } | DeliveryKind::Replay { .. } | DeliveryKind::Reply(_) => {
            serde_json::to_string(kind).ok()
        }
    }
}

pub(in crate::store) fn kind(code: i64, json: Option<&str>) -> Result<DeliveryKind, sqlx::Error> {
    match (code, json) {
        (0, _) => Ok(DeliveryKind::Request),
        (1, _) => Ok(DeliveryKind::Answer),
        (_, Some(json)) => from_json(json),
        (code, None) => Err(decode(format!("delivery kind {code}"))),
    }
}

pub(in crate::store) fn uuid(bytes: &[u8]) -> Result<Uuid, sqlx::Error> {
    Uuid::from_slice(bytes).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(in crate::store) fn optional_uuid(bytes: Option<&[u8]>) -> Result<Option<Uuid>, sqlx::Error> {
    bytes.map(uuid).transpose()
}

pub(in crate::store) fn blob(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

pub(in crate::store) fn fault(code: Option<&str>) -> Result<Option<Fault>, sqlx::Error> {
    let Some(code) = code else { return Ok(None) };
    let fault = Fault::ALL.iter().copied().find(|fault| fault.code() == code);
    fault.map(Some).ok_or_else(|| decode(format!("fault {code}")))
}

/// FHIR issues as a receiver wrote them; empty if none are stored.
pub(in crate::store) fn issues(text: Option<&str>) -> Result<Vec<serde_json::Value>, sqlx::Error> {
    text.map_or(Ok(Vec::new()), from_json)
}

pub(in crate::store) fn outcome(text: Option<&str>) -> Result<Option<Outcome>, sqlx::Error> {
    text.map(from_json).transpose()
}

/// Metadata as stored; the request that a message answers comes from its own column, which may be newer.
pub(in crate::store) fn metadata(text: &str, in_reply_to: Option<&[u8]>) -> Result<Arc<Metadata>, sqlx::Error> {
    let mut metadata: Metadata = from_json(text)?;
    if let Some(request) = optional_uuid(in_reply_to)? {
        metadata.in_reply_to = Some(request);
    }
    Ok(Arc::new(metadata))
}

pub(in crate::store) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(in crate::store) fn decode(what: String) -> sqlx::Error {
    sqlx::Error::Decode(format!("unknown value in the store: {what}").into())
}

/// Reads `PENDING_COLUMNS`, without the body.
pub(in crate::store) fn pending(row: &SqliteRow) -> Result<PendingDelivery, sqlx::Error> {
    Ok(PendingDelivery {
        delivery_key: row.try_get(0)?,
        delivery_id: uuid(row.try_get(1)?)?,
        message_key: row.try_get(2)?,
        participant: Arc::from(row.try_get::<&str, _>(3)?),
        lane: row.try_get(4)?,
        seq: row.try_get(5)?,
        prev_seq: row.try_get(13)?,
        kind: kind(row.try_get(6)?, row.try_get(7)?)?,
        attempts: row.try_get(8)?,
        uncounted_attempts: row.try_get(14)?,
        is_probe: false,
        due_at_us: row.try_get(9)?,
        expires_at_us: row.try_get(10)?,
        metadata: metadata(row.try_get(11)?, row.try_get(12)?)?,
        body: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::ReplyQueue;

    #[test]
    fn states_and_kinds_are_restored_from_their_codes() {
        for wanted in DeliveryState::ALL {
            assert_eq!(state(state_code(wanted)).unwrap(), wanted);
        }
        let replay = DeliveryKind::Replay { replay: Uuid::nil(), of: Some(Uuid::max()), forward_answers: true };
        let callback = DeliveryKind::Callback { url: "https://sender.example/fhir".into() };
        let reply = DeliveryKind::Reply(ReplyQueue { queue: Some("q".into()), correlation: None });
        for wanted in [DeliveryKind::Request, DeliveryKind::Answer, callback, replay, reply] {
            assert_eq!(kind(kind_code(&wanted), kind_json(&wanted).as_deref()).unwrap(), wanted);
        }
        assert!(state(9).is_err() && kind(3, None).is_err() && fault(Some("NO_SUCH")).is_err());
    }
}

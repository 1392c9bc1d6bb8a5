//! How values of columns are written: codes of states and kinds, and JSON. The same in every database. A value that cannot be
//! read is an error.

use super::view::ReplayState;
use crate::delivery::{DeliveryKind, DeliveryState, MessageState, Metadata};
use crate::fault::Fault;
use crate::outcome::Outcome;
use serde::de::DeserializeOwned;
use sqlx::Error;
use std::sync::Arc;
use uuid::Uuid;

pub(super) fn state_code(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Waiting => 0,
        DeliveryState::Active => 1,
        DeliveryState::Delivered => 2,
        DeliveryState::Answered => 3,
        DeliveryState::Dead => 4,
        DeliveryState::Discarded => 5,
    }
}

pub(super) fn state(code: i64) -> Result<DeliveryState, Error> {
    DeliveryState::ALL
        .into_iter()
        .find(|state| state_code(*state) == code)
        .ok_or_else(|| decode(format!("delivery state {code}")))
}

pub(super) fn message_state_code(state: MessageState) -> i64 {
    match state {
        MessageState::Accepted => 0,
        MessageState::Refused => 1,
    }
}

pub(super) fn message_state(code: i64) -> Result<MessageState, Error> {
    match code {
        0 => Ok(MessageState::Accepted),
        1 => Ok(MessageState::Refused),
        _ => Err(decode(format!("message state {code}"))),
    }
}

pub(super) fn kind_code(kind: &DeliveryKind) -> i64 {
    match kind {
        DeliveryKind::Request => 0,
        DeliveryKind::Answer => 1,
        // An answer that does not use the participant's channel; the JSON says which.
        DeliveryKind::Callback { .. } | DeliveryKind::Reply(_) => 2,
        DeliveryKind::Replay { .. } => 3,
    }
}

/// The JSON column of a kind; None for kinds that the code describes completely.
pub(super) fn kind_json(kind: &DeliveryKind) -> Option<String> {
    match kind {
        DeliveryKind::Request | DeliveryKind::Answer => None,
        DeliveryKind::Callback { .. } | DeliveryKind::Replay { .. } | DeliveryKind::Reply(_) => {
            serde_json::to_string(kind).ok()
        }
    }
}

pub(super) fn kind(code: i64, json: Option<&str>) -> Result<DeliveryKind, Error> {
    match (code, json) {
        (0, _) => Ok(DeliveryKind::Request),
        (1, _) => Ok(DeliveryKind::Answer),
        (_, Some(json)) => from_json(json),
        (code, None) => Err(decode(format!("delivery kind {code}"))),
    }
}

pub(super) fn replay_state_code(state: ReplayState) -> i64 {
    match state {
        ReplayState::Running => 0,
        ReplayState::Paused => 1,
        ReplayState::Done => 2,
        ReplayState::Stopped => 3,
    }
}

pub(super) fn replay_state(code: i64) -> Result<ReplayState, Error> {
    let states = [ReplayState::Running, ReplayState::Paused, ReplayState::Done, ReplayState::Stopped];
    let state = states.into_iter().find(|state| replay_state_code(*state) == code);
    state.ok_or_else(|| decode(format!("replay state {code}")))
}

pub(super) fn fault(code: Option<&str>) -> Result<Option<Fault>, Error> {
    let Some(code) = code else { return Ok(None) };
    let fault = Fault::ALL.iter().copied().find(|fault| fault.code() == code);
    fault.map(Some).ok_or_else(|| decode(format!("fault {code}")))
}

/// FHIR issues as a receiver wrote them; empty if none are stored.
pub(super) fn issues(text: Option<&str>) -> Result<Vec<serde_json::Value>, Error> {
    text.map_or(Ok(Vec::new()), from_json)
}

pub(super) fn outcome(text: Option<&str>) -> Result<Option<Outcome>, Error> {
    text.map(from_json).transpose()
}

/// Metadata as stored; the request that a message answers comes from its own column, which may be newer.
pub(super) fn metadata(text: &str, in_reply_to: Option<Uuid>) -> Result<Arc<Metadata>, Error> {
    let mut metadata: Metadata = from_json(text)?;
    if in_reply_to.is_some() {
        metadata.in_reply_to = in_reply_to;
    }
    Ok(Arc::new(metadata))
}

/// A SHA-256 as stored.
pub(super) fn digest(bytes: &[u8]) -> Result<[u8; 32], Error> {
    bytes.try_into().map_err(|_| decode("a content hash that is not 32 bytes".into()))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Decode(error.into()))
}

pub(super) fn decode(what: String) -> Error {
    Error::Decode(format!("unknown value in the store: {what}").into())
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

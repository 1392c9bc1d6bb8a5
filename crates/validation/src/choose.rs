//! Selects the definition that governs a message (MSG-31, MSG-32, MSG-51).
//!
//! Relies on the look-ups of `Catalog`; where several definitions remain, their focus rules decide. Reports no
//! issues.

use super::focus;
use crate::definition::catalog::Catalog;
use crate::definition::message_definition::Definition;
use emberpost_fhir::Message;
use std::sync::Arc;

/// The result of selecting a definition for a message.
#[derive(Clone, Debug)]
pub enum Choice {
    /// This definition governs the message.
    One(Arc<Definition>),
    /// The event is known, but no definition has rules for this message: a response that no definition describes, or
    /// that several describe equally well.
    Undefined,
    /// Neither `MessageHeader.definition` nor the event leads to a loaded definition.
    Unknown,
    /// The event has several definitions, and the focus rules of none or of more than one fit.
    Ambiguous(Vec<Arc<Definition>>),
}

impl Catalog {
    /// The definition that `MessageHeader.definition` names, else the one of the event. If the event has several,
    /// the one whose focus rules fit. A definition that another definition of the same event names as its response
    /// is a candidate for responses only; a response never gets a request's definition by its event.
    pub fn choose(&self, message: &Message) -> Choice {
        if let Some(named) = message.header.definition.as_deref().and_then(|name| self.by_canonical(name)) {
            return Choice::One(named.clone());
        }
        let is_response = message.header.response.is_some();
        let Some(mut candidates) = message.header.event.as_ref().and_then(|event| self.candidates(event, is_response))
        else {
            return Choice::Unknown;
        };
        candidates.retain(|one| one.fhir_version.is_none_or(|version| version == message.version));
        match candidates.as_slice() {
            [] => Choice::Undefined,
            [only] => Choice::One((*only).clone()),
            several => among(message, several, is_response),
        }
    }
}

fn among(message: &Message, candidates: &[&Arc<Definition>], is_response: bool) -> Choice {
    let items = focus::read(message);
    let fitting =
        candidates.iter().filter(|one| focus::violations(message, one, &items).is_empty()).collect::<Vec<_>>();
    match fitting.as_slice() {
        [only] => Choice::One((**only).clone()),
        [_, _, ..] if is_response => Choice::Undefined,
        _ => Choice::Ambiguous(candidates.iter().map(|one| Arc::clone(one)).collect()),
    }
}

//! Checking messages: the rules that need no schema, and the MessageDefinition of their event.
//!
//! Pure: definitions come in as bytes, messages as trees.

pub mod definition;
pub mod expand;

use crate::fhir::{Issue, Message};
use definition::{Definition, Definitions};
use std::sync::Arc;

/// How strictly prose rules are held (`validation.prose_rules`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProseRules {
    #[default]
    Warning,
    Error,
}

#[derive(Clone, Copy, Debug)]
pub struct Checks {
    pub prose_rules: ProseRules,
    /// `definitions.unknown_events = "route"`.
    pub take_unknown_events: bool,
}

/// All issues of a message, and the definition that governs it.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub issues: Vec<Issue>,
    pub definition: Option<Arc<Definition>>,
}

/// Checks a message against every rule at level `message`; reports all issues at once.
pub fn check(_message: &Message, _definitions: &Definitions, _checks: Checks) -> Checked {
    Checked::default()
}

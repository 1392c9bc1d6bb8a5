//! `valueset-expand` and `CodeSystem-expand`, answered from the loaded definitions.

use super::definition::Definitions;
use crate::fhir::{Issue, Message};
use serde_json::Value;

/// The expanded resource for a request addressed to Emberpost itself: None where the event is neither of the two.
pub fn expand(_message: &Message, _definitions: &Definitions, _now_us: i64) -> Option<Result<Value, Issue>> {
    None
}

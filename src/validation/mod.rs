//! Checking messages: the rules that need no schema, and the MessageDefinition of their event.
//!
//! Pure: definitions come in as bytes, messages as trees. Reading order: `rules`, `bundle_rules`, `definition_rules`,
//! then `focus`, `choose`, `definition`, `load`, and `report`, which collects what they find. Structure and profiles
//! are other levels and not checked here.

mod bundle_rules;
pub mod choose;
mod compose;
pub mod definition;
pub mod definition_rules;
pub mod expand;
mod focus;
mod load;
pub mod report;
mod rules;
#[cfg(test)]
mod shipped;
pub mod structure;
#[cfg(test)]
mod tests;

use crate::fhir::{Issue, Message};
use definition::{Definition, Definitions};
use report::Report;
use std::sync::Arc;

pub use choose::Choice;
pub use definition_rules::allowed_response;

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

/// Rules of JSON that belong to the check of structure: empty values and stray nulls make no message unusable.
const STRUCTURE_RULES: [&str; 2] = ["JSN-03", "JSN-04"];

/// Checks a message against every rule at level `message`; reports all issues at once, each with rule and place.
/// Time is linear in the size of the message.
pub fn check(message: &Message, definitions: &Definitions, checks: Checks) -> Checked {
    let mut report = Report::new(&message.tree, checks.prose_rules);
    for note in &message.notes {
        if !note.rule.as_deref().is_some_and(|rule| STRUCTURE_RULES.contains(&rule)) {
            report.take(note.clone());
        }
    }
    rules::check_header(message, &mut report);
    bundle_rules::check(message, &mut report);
    let focus = focus::read(message);
    let definition = definition_rules::check(message, definitions, checks, &focus, &mut report);
    let counted = definition.as_ref().is_some_and(|definition| !definition.focus.is_empty());
    rules::check_focus(&focus, counted, &mut report);
    rules::check_details(message, &mut report);
    Checked { issues: report.finish(), definition }
}

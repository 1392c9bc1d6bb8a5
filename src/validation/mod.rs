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
mod forms;
mod full_url;
mod links;
mod load;
mod places;
pub mod package;
pub mod profile;
mod prose;
pub mod report;
mod rules;
pub mod structure;
#[cfg(test)]
mod shipped;
#[cfg(test)]
mod tests;

use crate::fhir::schema::Schema;
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

/// Rules of JSON and XML that belong to the check of structure: empty values, stray nulls, elements out of order and what
/// FHIR knows no place for make no message unusable.
const STRUCTURE_RULES: [&str; 6] = ["JSN-03", "JSN-04", "XML-01", "XML-02", "XML-03", "XML-05"];

/// Checks a message against every rule at level `message`; reports all issues at once, each with rule and place.
/// Time is linear in the size of the message.
pub fn check(message: &Message, definitions: &Definitions, checks: Checks) -> Checked {
    let mut report = Report::new(&message.tree, checks.prose_rules).of_version(message.version);
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
    if counted {
        rules::check_focus(&focus, &mut report);
    }
    rules::check_details(message, &mut report);
    links::check_message(message.tree.root(), message.version, counted, &mut report);
    prose::pass::resource(message.tree.root(), Schema::of(message.version), &mut report);
    Checked { issues: report.finish(), definition }
}

/// The issues of level `profile` alone, beyond `check`: what the message's definition and the claims of its resources
/// ask by profiles and graphs. Time is bounded by `profile`'s limit of work.
pub fn check_profiles(
    message: &Message,
    definition: Option<&Arc<Definition>>,
    (definitions, profiles): (&Definitions, &profile::Profiles),
    asked: profile::Asked,
) -> Vec<Issue> {
    let mut report = Report::new(&message.tree, ProseRules::default());
    profile::check_message(message, definition, (definitions, profiles), asked, &mut report);
    report.finish()
}

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
#[cfg(test)]
mod shipped;
pub mod structure;
#[cfg(test)]
mod tests;

use crate::fhir::form::read;
use crate::fhir::schema::Schema;
use crate::fhir::{FhirVersion, Form, Issue, Message};
use bytes::Bytes;
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

/// How deep a message is checked (`validation.level`); each level holds those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Envelope, header, event and MessageDefinition.
    Message,
    /// All of the base specification.
    #[default]
    Structure,
    /// Profiles and graphs.
    Profile,
}

/// What becomes of a message that fails (`validation.on_failure`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Reject,
    /// It is delivered, and its outcome kept with it.
    Report,
}

#[derive(Clone, Copy, Debug)]
pub struct Checks {
    pub level: Level,
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

/// Rules of JSON that the check of structure tells itself: empty values and stray nulls make no message unusable.
const TOLD_BY_STRUCTURE: [&str; 2] = ["JSN-03", "JSN-04"];
/// Rules of XML that belong to the check of structure: elements out of order and what FHIR knows no place for.
const XML_RULES: [&str; 4] = ["XML-01", "XML-02", "XML-03", "XML-05"];

/// Checks a message against every rule at level `message`; reports all issues at once, each with rule and place.
/// Time is linear in the size of the message.
pub fn check(message: &Message, definitions: &Definitions, checks: Checks) -> Checked {
    let mut report = Report::new(&message.tree, checks.prose_rules).of_version(message.version);
    take_notes(&message.notes, checks.level, &mut report);
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
    if checks.level >= Level::Structure {
        let options = structure::Options { skip_root_bundle: true };
        structure::check(&message.tree, Schema::of(message.version), options, &mut report);
    }
    Checked { issues: report.finish(), definition }
}

/// What reading found, as far as the level holds it.
fn take_notes(notes: &[Issue], level: Level, report: &mut Report) {
    for note in notes {
        let rule = note.rule.as_deref().unwrap_or_default();
        let is_of_structure = XML_RULES.contains(&rule) && level < Level::Structure;
        if !TOLD_BY_STRUCTURE.contains(&rule) && !is_of_structure {
            report.take(note.clone());
        }
    }
}

/// Reads and checks a document, whatever it is: what is no message gets the issues of its envelope. `version`: as which it is
/// read; None: as it shows. Returns the version, None when it is unreadable, and every issue.
pub fn check_document(
    bytes: Bytes,
    form: Form,
    version: Option<FhirVersion>,
    definitions: &Definitions,
    checks: Checks,
) -> (Option<FhirVersion>, Vec<Issue>) {
    let tree = match read(bytes, form, version, None) {
        Ok(tree) => tree,
        Err(issues) => return (None, issues),
    };
    match Message::read(tree.clone(), version, None) {
        Ok(message) => (Some(message.version), check(&message, definitions, checks).issues),
        Err(mut issues) => {
            let version = version.unwrap_or(FhirVersion::R4);
            let mut report = Report::new(&tree, checks.prose_rules).of_version(version);
            take_notes(&tree.notes, checks.level, &mut report);
            if checks.level >= Level::Structure {
                structure::check(&tree, Schema::of(version), structure::Options::default(), &mut report);
            }
            issues.extend(report.finish());
            (Some(version), issues)
        }
    }
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

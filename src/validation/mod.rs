//! Checking messages: the rules of messaging and the MessageDefinition of their event, the structure of the base
//! specification, and the profiles in force, each level on top of the one before.
//!
//! Pure: definitions come in as bytes, messages as trees. Reading order: `rules`, `bundle_rules`, `full_url`, `links`,
//! `definition_rules`, then `focus`, `choose`, `definition`, `load`; `structure` with `prose`; `profile`; and `report`,
//! which collects what they find, with `places`.

mod bundle_rules;
mod checks;
pub mod choose;
mod compose;
pub mod definition;
pub mod definition_rules;
pub mod document;
pub mod expand;
mod focus;
mod forms;
mod full_url;
mod links;
mod load;
pub mod package;
mod places;
pub mod profile;
mod prose;
pub mod report;
mod rules;
#[cfg(test)]
mod shipped;
pub mod structure;
#[cfg(test)]
mod tests;

use crate::fhir::schema::Schema;
use crate::fhir::tree::Tree;
use crate::fhir::{FhirVersion, Issue, Message};
use definition::{Definition, Definitions};
use report::Report;
use std::sync::Arc;

pub use checks::{Checks, Level, ProseRules};
pub use choose::Choice;
pub use definition_rules::allowed_response;

/// All issues of a message, and the definition that governs it.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub issues: Vec<Issue>,
    pub definition: Option<Arc<Definition>>,
}

/// What messages are held against, beyond FHIR itself.
#[derive(Clone, Copy, Debug)]
pub struct Against<'d> {
    pub definitions: &'d Definitions,
    /// Compiled from the definitions for the message's version; without them level `profile` asks no more than
    /// `structure`.
    pub profiles: Option<(&'d profile::Profiles, profile::Asked)>,
}

impl<'d> From<&'d Definitions> for Against<'d> {
    fn from(definitions: &'d Definitions) -> Self {
        Against { definitions, profiles: None }
    }
}

/// Rules of JSON and XML that belong to the check of structure: empty values, stray nulls, elements out of order and what
/// FHIR knows no place for make no message unusable.
const STRUCTURE_RULES: [&str; 6] = ["JSN-03", "JSN-04", "XML-01", "XML-02", "XML-03", "XML-05"];

/// Checks a message at the level that is asked; reports all issues at once, each with rule and place, by their place in
/// the source. Time is linear in the size of the message, but for constraints and profiles whose expressions are not.
pub fn check<'d>(message: &Message, against: impl Into<Against<'d>>, checks: Checks) -> Checked {
    let Against { definitions, profiles } = against.into();
    let mut report = Report::new(&message.tree, checks.prose_rules).of_version(message.version);
    take(&message.notes, checks.level, &mut report);
    let definition = message_rules(message, definitions, checks, &mut report);
    if checks.level >= Level::Structure {
        let options = structure::Options { skip_root_bundle: true };
        structure::check(&message.tree, Schema::of(message.version), options, &mut report);
    }
    if let Some((profiles, asked)) = profiles.filter(|_| checks.level >= Level::Profile) {
        profile::check_message(message, definition.as_ref(), (definitions, profiles), asked, &mut report);
    }
    Checked { issues: report.finish(), definition }
}

/// Checks what is no readable message: the reasons why it is none, and at level `structure` what `version` says of it as
/// any resource. `refused` is what `Message::read` erred with.
pub fn check_document(tree: &Tree, version: FhirVersion, refused: Vec<Issue>, checks: Checks) -> Vec<Issue> {
    let mut report = Report::new(tree, checks.prose_rules).of_version(version);
    for issue in refused {
        report.take(issue);
    }
    take(&tree.notes, checks.level, &mut report);
    if checks.level >= Level::Structure {
        structure::check(tree, Schema::of(version), structure::Options::default(), &mut report);
    }
    report.finish()
}

/// What the reader noted; what only the structure forbids is passed over at level `message`.
fn take(notes: &[Issue], level: Level, report: &mut Report) {
    let is_structure = |rule: &str| STRUCTURE_RULES.contains(&rule);
    for note in notes {
        if level >= Level::Structure || !note.rule.as_deref().is_some_and(is_structure) {
            report.take(note.clone());
        }
    }
}

fn message_rules(
    message: &Message,
    definitions: &Definitions,
    checks: Checks,
    report: &mut Report,
) -> Option<Arc<Definition>> {
    rules::check_header(message, report);
    bundle_rules::check(message, report);
    let focus = focus::read(message);
    let definition = definition_rules::check(message, definitions, checks, &focus, report);
    let counted = definition.as_ref().is_some_and(|definition| !definition.focus.is_empty());
    if counted {
        rules::check_focus(&focus, report);
    }
    rules::check_details(message, report);
    links::check_message(message.tree.root(), message.version, counted, report);
    definition
}

/// The issues of level `profile` alone, beyond `check`: what the message's definition and the claims of its resources
/// ask by profiles and graphs. Time is bounded by `profile`'s limit of work.
pub fn check_profiles(
    message: &Message,
    definition: Option<&Arc<Definition>>,
    (definitions, profiles): (&Definitions, &profile::Profiles),
    asked: profile::Asked,
) -> Vec<Issue> {
    let mut report = Report::new(&message.tree, ProseRules::default()).of_version(message.version);
    profile::check_message(message, definition, (definitions, profiles), asked, &mut report);
    report.finish()
}

#![doc = include_str!("../README.md")]
//!
//! Reading order: `rules`, `entries`, `bundle_rules`, `full_url`,
//! `links`, `definition_rules`, then `focus`, `choose`, `definition`, `load`; `around`; `structure` with `prose`; `profile`;
//! and `report`, which collects what they find, with `places`.

mod around;
mod bundle_rules;
mod checks;
mod choose;
mod compose;
pub mod definition;
mod definition_rules;
mod entries;
pub mod expand;
mod focus;
mod full_url;
mod links;
mod load;
pub mod package;
mod places;
mod profile;
mod prose;
mod report;
mod rules;
#[cfg(test)]
mod shipped;
mod structure;
#[cfg(test)]
mod tests;
mod uri;

use bytes::Bytes;
use definition::{Definition, Definitions};
use emberpost_fhir::format::read;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::Tree;
use emberpost_fhir::{FhirVersion, Format, Issue, Message};
use report::Report;
use std::cell::LazyCell;
use std::sync::Arc;

pub use checks::{Checks, Level, OnFailure, ProseRules};
pub use choose::Choice;
pub use definition_rules::allowed_response;
pub use structure::not_evaluated;

/// All issues of a message, and the definition that governs it.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub issues: Vec<Issue>,
    pub definition: Option<Arc<Definition>>,
    /// No definition names the event, and `definitions.unknown_events` refuses such messages, whatever becomes of others
    /// that fail.
    pub is_unknown_event: bool,
}

/// Rules that the check of structure tells itself: empty values and stray nulls make no message unusable.
const TOLD_BY_STRUCTURE: [&str; 3] = ["JSN-03", "JSN-04", "XML-02"];
/// Rules of XML that belong to the check of structure: elements out of order and what FHIR knows no place for.
const XML_RULES: [&str; 3] = ["XML-01", "XML-03", "XML-05"];

/// Checks a message at the level that is asked; reports all issues at once, each with rule and place, by their place in
/// the source. Profiles are held where the definitions have them compiled (`Definitions::compile`). Time is linear in the
/// size of the message, but for constraints and profiles whose expressions are not.
pub fn check(message: &Message, definitions: &Definitions, checks: Checks) -> Checked {
    let mut report = Report::new(&message.tree, checks.prose_rules).of_version(message.version);
    take_notes(&message.notes, checks.level, &mut report);
    let definition = message_rules(message, definitions, checks, &mut report);
    if checks.level >= Level::Structure {
        let replaced = Some(definitions.extensions(message.version));
        let options = structure::Options { is_message: true, replaced, ..structure::Options::default() };
        structure::check(&message.tree, Schema::of(message.version), options, &mut report);
    }
    if let Some(profiles) = definitions.profiles(message.version).filter(|_| checks.level >= Level::Profile) {
        let asked = profile::Asked { now_us: checks.now_us, must_support: false };
        profile::check_message(message, definition.as_ref(), (definitions, profiles), asked, &mut report);
    }
    let is_unknown_event = !checks.take_unknown_events && !definition_rules::knows_event(message, definitions);
    Checked { issues: report.finish(), definition, is_unknown_event }
}

fn message_rules(
    message: &Message,
    definitions: &Definitions,
    checks: Checks,
    report: &mut Report,
) -> Option<Arc<Definition>> {
    let entries = entries::of(message.tree.root(), Schema::of(message.version));
    rules::check_header(message, report);
    bundle_rules::check(message, &entries, report);
    let focus = LazyCell::new(|| focus::read(message));
    let definition = definition_rules::check(message, definitions, checks, &focus, report);
    let counted = definition.as_ref().is_some_and(|definition| !definition.focus.is_empty());
    if counted {
        rules::check_focus(&focus, report);
    }
    rules::check_details(message, report);
    links::check_message(message.tree.root(), entries, message.version, counted, report);
    definition
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

/// Reads and checks a document, whatever it is: what is no message gets the reasons why, and at level `structure` what its
/// version says of it as of any resource. `version`: as which it is read; None: as it shows. Returns the version, None when
/// it is unreadable or of STU3, and every issue.
pub fn check_document(
    bytes: Bytes,
    format: Format,
    version: Option<FhirVersion>,
    definitions: &Definitions,
    checks: Checks,
) -> (Option<FhirVersion>, Vec<Issue>) {
    let tree = match read(bytes, format, version, None) {
        Ok(tree) => Arc::new(tree),
        Err(issues) => return (None, issues),
    };
    if let Some(issue) = Message::stu3(&tree) {
        // What R4 says of it would mislead.
        return (None, vec![issue]);
    }
    match Message::read(tree.clone(), version, None) {
        Ok(message) => (Some(message.version), check(&message, definitions, checks).issues),
        Err(refused) => {
            let version = version.unwrap_or(FhirVersion::R4);
            (Some(version), check_no_message(&tree, version, refused, definitions, checks))
        }
    }
}

fn check_no_message(
    tree: &Tree,
    version: FhirVersion,
    refused: Vec<Issue>,
    definitions: &Definitions,
    checks: Checks,
) -> Vec<Issue> {
    let mut report = Report::new(tree, checks.prose_rules).of_version(version);
    for issue in refused {
        report.take(issue);
    }
    take_notes(&tree.notes, checks.level, &mut report);
    if checks.level >= Level::Structure {
        let replaced = Some(definitions.extensions(version));
        let options = structure::Options { replaced, ..structure::Options::default() };
        structure::check(tree, Schema::of(version), options, &mut report);
    }
    report.finish()
}

/// The issues of a resource that is not a message by the base specification of a version, as deep and as strict as `checks`
/// say; profiles are not validated. `definitions` replace extensions of the base specification.
pub fn check_resource(tree: &Tree, version: FhirVersion, definitions: &Definitions, checks: Checks) -> Vec<Issue> {
    check_no_message(tree, version, Vec::new(), definitions, checks)
}

/// The issues of a document by the base specification of a version alone, whatever it is; `definitions` replace the base's
/// extensions.
pub fn check_structure(tree: &Tree, version: FhirVersion, definitions: &Definitions) -> Vec<Issue> {
    let checks = Checks { level: Level::Structure, ..Checks::default() };
    check_no_message(tree, version, Vec::new(), definitions, checks)
}

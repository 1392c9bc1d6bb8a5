#![warn(missing_docs)]
#![doc = include_str!("../README.md")]
//!
//! Reading order: `rules`, `entries`, `bundle_rules`, `full_url`, `links`, `definition_rules`, then `focus`,
//! `choose`, `definition`; `document_index`; `structure` with `prose`; `profile`; and `collector`, which
//! collects the issues, with `expressions`.

mod bundle_rules;
mod checks;
mod choose;
mod collector;
mod compose;
mod contained;
pub mod definition;
mod definition_rules;
mod document_index;
mod entries;
pub mod expand;
mod expressions;
mod focus;
mod full_url;
mod links;
mod profile;
mod prose;
mod rules;
#[cfg(test)]
mod shipped;
mod structure;
#[cfg(test)]
mod tests;
mod uri;

use bytes::Bytes;
use collector::IssueCollector;
use definition::catalog::Catalog;
use definition::definitions::Definitions;
use definition::message_definition::Definition;
use emberpost_fhir::format::read;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::Tree;
use emberpost_fhir::{FhirVersion, Format, Issue, Message};
use std::cell::LazyCell;
use std::sync::Arc;

pub use checks::{Checks, Level, OnFailure, ProseRules};
pub use choose::Choice;
pub use definition_rules::allowed_response;
pub use structure::not_evaluated;

/// The issues of a message, and the definition that governs it.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Errors first, each with its rule.
    pub issues: Vec<Issue>,
    /// The definition that governs the message, if one is loaded.
    pub definition: Option<Arc<Definition>>,
    /// True if no definition names the event and `definitions.unknown_events` refuses such messages. `on_failure`
    /// does not apply to them.
    pub is_unknown_event: bool,
}

/// Rules that the structure check reports itself. Below that level, empty values and stray nulls do not make a
/// message unusable.
const REPORTED_BY_STRUCTURE: [&str; 3] = ["JSN-03", "JSN-04", "XML-02"];
/// Rules of XML that belong to the structure check: elements out of order, and content that FHIR does not define.
const XML_RULES: [&str; 3] = ["XML-01", "XML-03", "XML-05"];

/// Checks a message and returns all issues at once, each with its rule and expression, errors first, then by
/// position in the source.
///
/// Level `profile` enforces the profiles that `definitions` has compiled (`Definitions::compile`). Time is linear in
/// the size of the message, except for constraints and profiles whose expressions are not; those are limited in
/// steps.
pub fn check(message: &Message, definitions: &Definitions, checks: Checks) -> Checked {
    let mut collector = IssueCollector::new(&message.tree, checks.prose_rules).of_version(message.version);
    add_reader_notes(&message.notes, checks.level, &mut collector);
    let definition = message_rules(message, &definitions.catalog, checks, &mut collector);
    if checks.level >= Level::Structure {
        let replaced = Some(definitions.catalog.extensions(message.version));
        let options = structure::Options { is_message: true, replaced, ..structure::Options::default() };
        structure::check(&message.tree, Schema::of(message.version), options, &mut collector);
    }
    if let Some(profiles) = definitions.profiles(message.version).filter(|_| checks.level >= Level::Profile) {
        let options = profile::ProfileOptions { now_us: checks.now_us, must_support: false };
        profile::check_message(message, definition.as_ref(), (&definitions.catalog, profiles), options, &mut collector);
    }
    let is_unknown_event = !checks.take_unknown_events && !definition_rules::knows_event(message, &definitions.catalog);
    Checked { issues: collector.finish(), definition, is_unknown_event }
}

fn message_rules(
    message: &Message,
    catalog: &Catalog,
    checks: Checks,
    collector: &mut IssueCollector,
) -> Option<Arc<Definition>> {
    let entries = entries::of(message.tree.root(), Schema::of(message.version));
    rules::check_header(message, collector);
    bundle_rules::check(message, &entries, collector);
    let focus = LazyCell::new(|| focus::read(message));
    let definition = definition_rules::check(message, catalog, checks, &focus, collector);
    let counted = definition.as_ref().is_some_and(|definition| !definition.focus.is_empty());
    if counted {
        rules::check_focus(&focus, collector);
    }
    rules::check_details(message, collector);
    links::check_message(message.tree.root(), entries, message.version, counted, collector);
    definition
}

/// Adds the issues that the reader noted, as far as they belong to the level.
fn add_reader_notes(notes: &[Issue], level: Level, collector: &mut IssueCollector) {
    for note in notes {
        let rule = note.rule.as_deref().unwrap_or_default();
        let is_of_structure = XML_RULES.contains(&rule) && level < Level::Structure;
        if !REPORTED_BY_STRUCTURE.contains(&rule) && !is_of_structure {
            collector.add_issue(note.clone());
        }
    }
}

/// Parses and checks any document. If it is not a message, the issues say why; at level `structure` they also
/// include what the base specification says of it as of any resource.
///
/// `version`: the FHIR version to read it as; None: detect it. Returns the version (None if the document is
/// unreadable or of STU3) and every issue.
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
    match Message::read(tree.clone(), version, None) {
        Ok(message) => (Some(message.version), check(&message, definitions, checks).issues),
        // Checking STU3 content by R4 definitions would be misleading.
        Err(refused) if Message::stu3(&tree).is_some() => (None, refused),
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
    let mut collector = IssueCollector::new(tree, checks.prose_rules).of_version(version);
    for issue in refused {
        collector.add_issue(issue);
    }
    add_reader_notes(&tree.notes, checks.level, &mut collector);
    if checks.level >= Level::Structure {
        let replaced = Some(definitions.catalog.extensions(version));
        let options = structure::Options { replaced, ..structure::Options::default() };
        structure::check(tree, Schema::of(version), options, &mut collector);
    }
    collector.finish()
}

/// The issues of a resource that is not a message, by the base specification, at the level and strictness of `checks`;
/// level `profile` adds nothing. Extensions that `definitions` define replace those of the base packages.
pub fn check_resource(tree: &Tree, version: FhirVersion, definitions: &Definitions, checks: Checks) -> Vec<Issue> {
    check_no_message(tree, version, Vec::new(), definitions, checks)
}

/// The issues of any document by the base specification alone. Extensions that `definitions` define replace those of
/// the base packages.
pub fn check_structure(tree: &Tree, version: FhirVersion, definitions: &Definitions) -> Vec<Issue> {
    let checks = Checks { level: Level::Structure, ..Checks::default() };
    check_no_message(tree, version, Vec::new(), definitions, checks)
}

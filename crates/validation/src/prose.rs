//! Rules on single elements that the specification states in prose only: systems and URLs are absolute, identifiers
//! that are URIs are written as such, `urn:uuid:` is followed by a UUID.
//!
//! The structure check calls these for each element by its type. Allocates nothing unless something is wrong.

#[cfg(test)]
mod tests;

use super::collector::{IssueCollector, Violation, Weight};
use super::uri;
use emberpost_fhir::IssueCode;
use emberpost_fhir::schema::Primitive;
use emberpost_fhir::tree::Node;
use std::borrow::Cow;

/// The system of identifiers that are URIs.
const URI_SYSTEM: &str = "urn:ietf:rfc:3986";
/// What some senders use as the system of UUIDs.
const UUID_SYSTEM: &str = "https://tools.ietf.org/html/rfc4122";
/// The base URL of the base specification's value sets.
const VALUE_SETS: &str = "http://hl7.org/fhir/ValueSet/";

/// Data types with prose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Coding,
    Quantity,
    Identifier,
    Extension,
}

impl Subject {
    /// The data type with this `TypeDef::code`, if it has prose rules.
    pub fn of(code: &str) -> Option<Subject> {
        Some(match code {
            "Coding" => Subject::Coding,
            "Quantity" | "SimpleQuantity" | "MoneyQuantity" | "Age" | "Duration" | "Count" | "Distance" => {
                Subject::Quantity
            }
            "Identifier" => Subject::Identifier,
            "Extension" => Subject::Extension,
            _ => return None,
        })
    }
}

/// Checks an object of such a type. `is_inner`: it is an extension of an extension, whose url may be relative.
pub(super) fn object(subject: Subject, node: Node, is_inner: bool, collector: &mut IssueCollector) {
    match subject {
        Subject::Coding => coding(node, collector),
        Subject::Quantity => drop(system(node, collector)),
        Subject::Identifier => identifier(node, collector),
        Subject::Extension if !is_inner => extension(node, collector),
        Subject::Extension => {}
    }
}

/// Checks a uri, url, or canonical; `of` is its type.
pub(super) fn uri(of: Primitive, node: Node, text: &str, collector: &mut IssueCollector) {
    if let Some(wrong) = uri::wrong_urn(text) {
        return collector.add_at(
            Weight::Prose,
            node,
            Violation::new("urn", IssueCode::Value, format!("the uri {wrong}")),
        );
    }
    if of == Primitive::Canonical && !text.starts_with('#') && !uri::is_absolute(text) {
        let text = "a canonical must be absolute, or begin with # for a contained resource";
        collector.add_at(Weight::Prose, node, Violation::new("canonical-absolute", IssueCode::Value, text));
    }
}

/// Checks and returns `system`, if it is not absolute.
fn system<'t>(node: Node<'t>, collector: &mut IssueCollector) -> Option<Cow<'t, str>> {
    let member = node.get("system")?;
    let system = member.text()?;
    if !uri::is_absolute(&system) {
        let text = "system must be an absolute uri, such as http://loinc.org or urn:oid: and an OID";
        collector.add_at(Weight::Prose, member, Violation::new("system-absolute", IssueCode::Value, text));
        return None;
    }
    Some(system)
}

fn coding(node: Node, collector: &mut IssueCollector) {
    let Some(found) = system(node, collector) else { return };
    if found.starts_with(VALUE_SETS) {
        let text = "system names a value set of FHIR; give the code system that the code is from";
        collector.add_at(Weight::Prose, node, Violation::new("system-value-set", IssueCode::Value, text));
    }
}

fn identifier(node: Node, collector: &mut IssueCollector) {
    let Some(system) = system(node, collector) else { return };
    if !matches!(&*system, URI_SYSTEM | UUID_SYSTEM) {
        return;
    }
    let Some(member) = node.get("value") else { return };
    let Some(value) = member.text() else { return };
    if system == URI_SYSTEM {
        if !uri::is_absolute(&value) {
            let text = "with system urn:ietf:rfc:3986 the value is a whole URI; begin it with a scheme, such as urn:uuid: or urn:oid:";
            collector.add_at(Weight::Prose, member, Violation::new("identifier-uri", IssueCode::Value, text));
        }
        return;
    }
    let text = "the system of a UUID is urn:ietf:rfc:3986, with urn:uuid: before the value in lower case";
    let weight = if uri::is_uuid(value.as_bytes()) { Weight::Warning } else { Weight::Prose };
    collector.add_at(weight, member, Violation::new("identifier-uri", IssueCode::Value, text));
}

fn extension(node: Node, collector: &mut IssueCollector) {
    let Some(member) = node.get("url") else { return };
    if member.text().is_some_and(|url| !uri::is_absolute(&url)) {
        let text = "the url of an extension must be absolute; only one within another may be relative";
        collector.add_at(Weight::Prose, member, Violation::new("extension-absolute", IssueCode::Value, text));
    }
}

//! What the specification says in words of single elements and no definition expresses: systems and urls are absolute,
//! identifiers that are URIs are written as such, a `urn:uuid:` holds a UUID.
//!
//! For who walks the elements by their types. Nothing is made while nothing is wrong.

#[cfg(test)]
mod tests;

use super::report::{Broken, Gravity, Report};
use super::uri;
use emberpost_fhir::IssueCode;
use emberpost_fhir::schema::Primitive;
use emberpost_fhir::tree::Node;
use std::borrow::Cow;

/// The system of identifiers that are URIs.
const URI_SYSTEM: &str = "urn:ietf:rfc:3986";
/// What some take for the system of UUIDs.
const UUID_SYSTEM: &str = "https://tools.ietf.org/html/rfc4122";
/// Where the base specification keeps its value sets.
const VALUE_SETS: &str = "http://hl7.org/fhir/ValueSet/";

/// Data types with rules of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Coding,
    Quantity,
    Identifier,
    Extension,
}

impl Subject {
    /// By `TypeDef::code`.
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

/// Looks at an object of such a type. `is_inner`: an extension of an extension, whose url may be relative.
pub(super) fn object(subject: Subject, node: Node, is_inner: bool, report: &mut Report) {
    match subject {
        Subject::Coding => coding(node, report),
        Subject::Quantity => drop(system(node, report)),
        Subject::Identifier => identifier(node, report),
        Subject::Extension if !is_inner => extension(node, report),
        Subject::Extension => {}
    }
}

/// Looks at a uri, url or canonical; `of` is its type.
pub(super) fn uri(of: Primitive, node: Node, text: &str, report: &mut Report) {
    if let Some(wrong) = uri::wrong_urn(text) {
        return report.at(Gravity::Prose, node, Broken::new("urn", IssueCode::Value, format!("the uri {wrong}")));
    }
    if of == Primitive::Canonical && !text.starts_with('#') && !uri::is_absolute(text) {
        let text = "a canonical must be absolute, or begin with # for a contained resource";
        report.at(Gravity::Prose, node, Broken::new("canonical-absolute", IssueCode::Value, text));
    }
}

/// `system`, where it is not absolute.
fn system<'t>(node: Node<'t>, report: &mut Report) -> Option<Cow<'t, str>> {
    let member = node.get("system")?;
    let system = member.text()?;
    if !uri::is_absolute(&system) {
        let text = "system must be an absolute uri, such as http://loinc.org or urn:oid: and an OID";
        report.at(Gravity::Prose, member, Broken::new("system-absolute", IssueCode::Value, text));
        return None;
    }
    Some(system)
}

fn coding(node: Node, report: &mut Report) {
    let Some(found) = system(node, report) else { return };
    if found.starts_with(VALUE_SETS) {
        let text = "system names a value set of FHIR; give the code system that the code is from";
        report.at(Gravity::Prose, node, Broken::new("system-value-set", IssueCode::Value, text));
    }
}

fn identifier(node: Node, report: &mut Report) {
    let Some(system) = system(node, report) else { return };
    if !matches!(&*system, URI_SYSTEM | UUID_SYSTEM) {
        return;
    }
    let Some(member) = node.get("value") else { return };
    let Some(value) = member.text() else { return };
    if system == URI_SYSTEM {
        if !uri::is_absolute(&value) {
            let text = "with system urn:ietf:rfc:3986 the value is a whole URI; begin it with a scheme, such as urn:uuid: or urn:oid:";
            report.at(Gravity::Prose, member, Broken::new("identifier-uri", IssueCode::Value, text));
        }
        return;
    }
    let text = "the system of a UUID is urn:ietf:rfc:3986, with urn:uuid: before the value in lower case";
    let gravity = if uri::is_uuid(value.as_bytes()) { Gravity::Warning } else { Gravity::Prose };
    report.at(gravity, member, Broken::new("identifier-uri", IssueCode::Value, text));
}

fn extension(node: Node, report: &mut Report) {
    let Some(member) = node.get("url") else { return };
    if member.text().is_some_and(|url| !uri::is_absolute(&url)) {
        let text = "the url of an extension must be absolute; only one within another may be relative";
        report.at(Gravity::Prose, member, Broken::new("extension-absolute", IssueCode::Value, text));
    }
}

//! `Bundle.entry.fullUrl` in prose (MSG-10, MSG-11): it is there, absolute, and says what the resource says of itself.
//!
//! For the message and for every Bundle within it. Unique and without version are invariants (bdl-7, bdl-8) and told
//! elsewhere.

use super::forms;
use super::report::{Broken, Gravity, Report};
use crate::fhir::schema::Schema;
use crate::fhir::tree::{Kind, Node};
use crate::fhir::{FhirVersion, IssueCode};

/// Types of Bundles whose entries need no fullUrl: they may hold what has no identity yet.
const WITHOUT: [&str; 4] = ["transaction", "transaction-response", "batch", "batch-response"];

/// Whether the entries of this Bundle have a fullUrl.
pub(super) fn is_owed(bundle: Node) -> bool {
    let kind = bundle.get("type").and_then(Node::text);
    !kind.as_deref().is_some_and(|kind| WITHOUT.contains(&kind))
}

/// Looks at the fullUrl of an entry. In R5 a missing one is an error by bdl-15, which others tell.
pub(super) fn check(entry: Node, is_owed: bool, version: FhirVersion, report: &mut Report) {
    match entry.get("fullUrl") {
        Some(full_url) => form(entry, full_url, version, report),
        None if is_owed && version != FhirVersion::R5 && entry.get("_fullUrl").is_none() => {
            let text = "entry.fullUrl is missing, so references to the entry cannot be resolved; add one, such as urn:uuid and a new UUID";
            report.at(Gravity::Prose, entry, Broken::new("MSG-10", IssueCode::Required, text));
        }
        None => {}
    }
}

fn form(entry: Node, node: Node, version: FhirVersion, report: &mut Report) {
    let Some(full_url) = node.text() else {
        // The structure check says the same of any element; a null is in the reader's notes.
        if node.kind() != Kind::Null {
            report.at(
                Gravity::Error,
                node,
                Broken::new("MSG-11", IssueCode::Structure, "entry.fullUrl must be a string"),
            );
        }
        return;
    };
    if let Some(text) = forms::wrong_urn(&full_url) {
        report.at(Gravity::Prose, node, Broken::new("MSG-11", IssueCode::Value, format!("entry.fullUrl {text}")));
    } else if !forms::is_absolute(&full_url) {
        let text = "entry.fullUrl must be absolute; begin it with the server's base, or use a urn:uuid";
        report.at(Gravity::Prose, node, Broken::new("MSG-11", IssueCode::Value, text));
    } else if let Some(text) = disagrees(&full_url, entry.get("resource"), version) {
        report.at(Gravity::Prose, node, Broken::new("MSG-11", IssueCode::Value, text));
    }
}

/// Where a fullUrl looks like a RESTful URL and names another type or id than the resource has.
fn disagrees(full_url: &str, resource: Option<Node>, version: FhirVersion) -> Option<&'static str> {
    let resource = resource?;
    // Upper case is what tells types apart from other words, before the tables are asked.
    let is_type =
        |name: &str| name.starts_with(|c: char| c.is_ascii_uppercase()) && Schema::of(version).resource(name).is_some();
    let (_, kind, id) = forms::restful(full_url, is_type)?;
    let is = |name: &str, wanted: &str| resource.get(name).and_then(Node::text).is_some_and(|text| text == wanted);
    if !is("resourceType", kind) {
        return Some(
            "entry.fullUrl looks like a server's URL and names another type than its resource has; make the two agree, or use a urn:uuid",
        );
    }
    if resource.get("id").is_none() {
        return Some(
            "entry.fullUrl looks like a server's URL, and its resource has no id; give it the id that the URL ends with, or use a urn:uuid",
        );
    }
    (!is("id", id))
        .then_some("entry.fullUrl ends with another id than its resource has; make the two agree, or use a urn:uuid")
}

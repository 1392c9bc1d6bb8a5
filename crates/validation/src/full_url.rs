//! `Bundle.entry.fullUrl` in prose (MSG-10, MSG-11): it is there, absolute, and says what the resource says of itself.
//!
//! For the message and for every Bundle within it. Unique and without version are invariants (bdl-7, bdl-8) and told
//! elsewhere.

use super::entries::{Entry, FullUrl};
use super::report::{Broken, Gravity, Report};
use super::uri;
use emberpost_fhir::tree::{Kind, Node};
use emberpost_fhir::{FhirVersion, IssueCode};

/// Types of Bundles whose entries need no fullUrl: they may hold what has no identity yet.
const WITHOUT: [&str; 4] = ["transaction", "transaction-response", "batch", "batch-response"];

/// Whether the entries of this Bundle have a fullUrl.
pub(super) fn is_owed(bundle: Node) -> bool {
    let kind = bundle.get("type").and_then(Node::text);
    !kind.as_deref().is_some_and(|kind| WITHOUT.contains(&kind))
}

/// Looks at the fullUrl of an entry. In R5 a missing one is an error by bdl-15, which others tell.
pub(super) fn check(entry: &Entry, is_owed: bool, version: FhirVersion, report: &mut Report) {
    match &entry.full_url {
        Some(full_url) => form(entry, full_url, report),
        None if is_owed && version != FhirVersion::R5 && !entry.has_extra_url => {
            let text = "entry.fullUrl is missing, so references to the entry cannot be resolved; add one, such as urn:uuid and a new UUID";
            report.at(Gravity::Prose, entry.node, Broken::new("MSG-10", IssueCode::Required, text));
        }
        None => {}
    }
}

fn form(entry: &Entry, full_url: &FullUrl, report: &mut Report) {
    let node = full_url.node;
    let Some(full_url) = &full_url.text else {
        // The structure check says the same of any element; a null is in the reader's notes.
        if node.kind() != Kind::Null {
            report.at(
                Gravity::Error,
                node,
                Broken::new(
                    "MSG-11",
                    IssueCode::Structure,
                    match node.tree.is_xml() {
                        true => "entry.fullUrl must stand once and have the attribute value",
                        false => "entry.fullUrl must be a string",
                    },
                ),
            );
        }
        return;
    };
    if let Some(text) = uri::wrong_urn(full_url) {
        report.at(Gravity::Prose, node, Broken::new("MSG-11", IssueCode::Value, format!("entry.fullUrl {text}")));
    } else if !uri::is_absolute(full_url) {
        let text = "entry.fullUrl must be absolute; begin it with the server's base, or use a urn:uuid";
        report.at(Gravity::Prose, node, Broken::new("MSG-11", IssueCode::Value, text));
    } else if let Some(text) = disagrees(entry) {
        report.at(Gravity::Prose, node, Broken::new("MSG-11", IssueCode::Value, text));
    }
}

/// Where a fullUrl looks like a RESTful URL and names another type or id than the resource has.
fn disagrees(entry: &Entry) -> Option<&'static str> {
    entry.resource?;
    let (_, kind, id) = entry.restful()?;
    if entry.kind.as_deref() != Some(kind) {
        return Some(
            "entry.fullUrl looks like a server's URL and names another type than its resource has; make the two agree, or use a urn:uuid",
        );
    }
    let Some(own) = entry.id else {
        return Some(
            "entry.fullUrl looks like a server's URL, and its resource has no id; give it the id that the URL ends with, or use a urn:uuid",
        );
    };
    (own.text().as_deref() != Some(id))
        .then_some("entry.fullUrl ends with another id than its resource has; make the two agree, or use a urn:uuid")
}

//! `Bundle.entry.fullUrl` as the prose requires it (MSG-10, MSG-11): present, absolute, and consistent with the
//! resource.
//!
//! Applies to the message and to every Bundle within it. Uniqueness and the missing version are invariants (bdl-7,
//! bdl-8), which are checked elsewhere.

use super::collector::{IssueCollector, Violation, Weight};
use super::entries::{Entry, FullUrl};
use super::uri;
use emberpost_fhir::tree::{Kind, Node};
use emberpost_fhir::{FhirVersion, IssueCode};

/// Types of Bundles whose entries need no fullUrl, because their resources may not have an identity yet.
const WITHOUT: [&str; 4] = ["transaction", "transaction-response", "batch", "batch-response"];

/// Whether the entries of this Bundle need a fullUrl.
pub(super) fn is_required(bundle: Node) -> bool {
    let kind = bundle.get("type").and_then(Node::text);
    !kind.as_deref().is_some_and(|kind| WITHOUT.contains(&kind))
}

/// Checks the fullUrl of an entry. In R5 a missing one violates bdl-15, which the structure check reports.
pub(super) fn check(entry: &Entry, is_required: bool, version: FhirVersion, collector: &mut IssueCollector) {
    match &entry.full_url {
        Some(full_url) => check_syntax(entry, full_url, collector),
        None if is_required && version != FhirVersion::R5 && !entry.has_extra_url => {
            let text = "entry.fullUrl is missing, so references to the entry cannot be resolved; add one, such as urn:uuid and a new UUID";
            collector.add_at(Weight::Prose, entry.node, Violation::new("MSG-10", IssueCode::Required, text));
        }
        None => {}
    }
}

fn check_syntax(entry: &Entry, full_url: &FullUrl, collector: &mut IssueCollector) {
    let node = full_url.node;
    let Some(full_url) = &full_url.text else {
        // The structure check reports this for every element, and the reader notes nulls.
        if node.kind() != Kind::Null {
            collector.add_at(
                Weight::Error,
                node,
                Violation::new(
                    "MSG-11",
                    IssueCode::Structure,
                    match node.tree.is_xml() {
                        true => "entry.fullUrl must occur once and have the attribute value",
                        false => "entry.fullUrl must be a string",
                    },
                ),
            );
        }
        return;
    };
    if let Some(text) = uri::wrong_urn(full_url) {
        collector.add_at(
            Weight::Prose,
            node,
            Violation::new("MSG-11", IssueCode::Value, format!("entry.fullUrl {text}")),
        );
    } else if !uri::is_absolute(full_url) {
        let text = "entry.fullUrl must be absolute; begin it with the server's base URL, or use a urn:uuid";
        collector.add_at(Weight::Prose, node, Violation::new("MSG-11", IssueCode::Value, text));
    } else if let Some(text) = disagrees(entry) {
        collector.add_at(Weight::Prose, node, Violation::new("MSG-11", IssueCode::Value, text));
    }
}

/// What is inconsistent if a fullUrl looks like a RESTful URL but names another type or id than the resource has.
fn disagrees(entry: &Entry) -> Option<&'static str> {
    entry.resource?;
    let (_, kind, id) = entry.restful()?;
    if entry.kind.as_deref() != Some(kind) {
        return Some(
            "entry.fullUrl looks like a server's URL but names another type than its resource has; make the two agree, or use a urn:uuid",
        );
    }
    let Some(own) = entry.id else {
        return Some(
            "entry.fullUrl looks like a server's URL, but its resource has no id; give it the id that the URL ends with, or use a urn:uuid",
        );
    };
    (own.text().as_deref() != Some(id))
        .then_some("entry.fullUrl ends with another id than its resource has; make the two agree, or use a urn:uuid")
}

//! Rules of the message's own Bundle: its invariants (MSG-09) and its identifier (MSG-12).
//!
//! Invariants belong to the Bundle or to an entry as a whole, so the expression names that; line and column point to
//! the member at fault. Relies on `Message::read` for what makes a Bundle a message: type `message` and, by bdl-12,
//! a MessageHeader first. Does not check nested Bundles, which are content. One pass over the entries.

use super::collector::{IssueCollector, Violation};
use super::entries::Entry;
use super::full_url;
use emberpost_fhir::reference::split_version;
use emberpost_fhir::tree::Node;
use emberpost_fhir::{FhirVersion, IssueCode, Message};
use std::borrow::Cow;

/// What bdl-7 requires to be unique, fullUrl and versionId, with the entry's index and the node of the fullUrl.
type Name<'e, 'm> = (&'e str, Option<Cow<'m, str>>, usize, Node<'m>);

pub(super) fn check(message: &Message, entries: &[Entry], collector: &mut IssueCollector) {
    let bundle = message.tree.root();
    let is_r5 = message.version == FhirVersion::R5;
    if let Some(total) = bundle.get("total") {
        collector.error(
            "Bundle.total",
            Some(total),
            invariant("bdl-1", "total is for searchset and history Bundles; leave it out"),
        );
    }
    if is_r5 && message.bundle_identifier.is_none() {
        let text = "Bundle.identifier is the identity of an R5 message; without it answers cannot be matched to it. Give it a system and value";
        collector.warning("Bundle.identifier", Some(bundle), Violation::new("MSG-12", IssueCode::Required, text));
    }
    if is_r5 {
        issues(bundle, collector);
    }
    let mut names = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        parts(entry, index, is_r5, collector);
        match &entry.full_url {
            Some(_) => names.extend(named(entry, index, collector)),
            None if is_r5 => collector.error(
                at(index, ".fullUrl"),
                Some(entry.node),
                invariant(
                    "bdl-15",
                    "every entry of an R5 message has a fullUrl; add one, such as urn:uuid and a new UUID",
                ),
            ),
            None => {}
        }
        full_url::check(entry, true, message.version, collector);
    }
    repeated(names, collector);
}

/// `Bundle.issues` (R5) reports what happened while the Bundle was assembled; errors are not allowed in it.
fn issues(bundle: Node, collector: &mut IssueCollector) {
    let Some(outcome) = bundle.get("issues") else { return };
    let severities = outcome.get("issue").into_iter().flat_map(Node::items).filter_map(|issue| issue.get("severity"));
    let is_grave = |node: &Node| node.text().is_some_and(|text| text != "information" && text != "warning");
    for node in severities.filter(is_grave).take(1) {
        let text = "Bundle.issues holds only issues of severity information or warning";
        collector.error("Bundle.issues", Some(node), invariant("bdl-16", text));
    }
}

/// The FHIRPath expression of an entry, or of an element in it.
fn at(index: usize, element: &str) -> String {
    format!("Bundle.entry[{index}]{element}")
}

/// A violated Bundle invariant. The rule is the invariant's own key; MSG-09 lists those that apply to messages.
fn invariant(rule: &'static str, text: &str) -> Violation {
    Violation::new(rule, IssueCode::Invariant, format!("{text} (MSG-09)"))
}

fn parts(entry: &Entry, index: usize, is_r5: bool, collector: &mut IssueCollector) {
    let node = entry.node;
    if let Some(search) = entry.search {
        collector.error(
            at(index, ""),
            Some(search),
            invariant("bdl-2", "entry.search is for searchset Bundles; leave it out"),
        );
    }
    for (part, name, rule) in [(entry.request, "request", "bdl-3"), (entry.response, "response", "bdl-4")] {
        if let Some(part) = part {
            let rule = if is_r5 { "bdl-3a" } else { rule };
            let text = format!("entry.{name} is for batch, transaction and history Bundles; leave it out");
            collector.error(at(index, ""), Some(part), invariant(rule, &text));
        }
    }
    if entry.resource.is_none() {
        if is_r5 {
            collector.error(
                at(index, ""),
                Some(node),
                invariant("bdl-3a", "every entry of a message has a resource; add it or leave the entry out"),
            );
        }
        if entry.request.is_none() && entry.response.is_none() {
            collector.error(
                at(index, ""),
                Some(node),
                invariant("bdl-5", "an entry must have a resource; add it or leave the entry out"),
            );
        }
    }
}

/// Checks bdl-8 and returns the entry's name for bdl-7. `full_url` checks what only the prose requires of a fullUrl.
fn named<'e, 'm>(entry: &'e Entry<'m>, index: usize, collector: &mut IssueCollector) -> Option<Name<'e, 'm>> {
    let node = entry.full_url.as_ref()?.node;
    let full_url = entry.url()?;
    if split_version(full_url).1.is_some() {
        let text = "entry.fullUrl must not name a version; put it into resource.meta.versionId";
        collector.error(at(index, ".fullUrl"), Some(node), invariant("bdl-8", text));
    }
    Some((full_url, entry.version(), index, node))
}

/// Reports every entry whose name an earlier entry has (bdl-7). Sorts instead of hashing, because senders could
/// choose names that collide.
fn repeated(mut names: Vec<Name>, collector: &mut IssueCollector) {
    names.sort_unstable_by(|one, other| (&one.0, &one.1, one.2).cmp(&(&other.0, &other.1, other.2)));
    for pair in names.windows(2) {
        if let [one, other] = pair
            && (&one.0, &one.1) == (&other.0, &other.1)
        {
            let text = "entry.fullUrl is the same as in an earlier entry; give each entry its own, or differing meta.versionId";
            collector.error(format!("Bundle.entry[{}]", other.2), Some(other.3), invariant("bdl-7", text));
        }
    }
}

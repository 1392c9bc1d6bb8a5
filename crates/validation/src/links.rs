//! References within the Bundles of a message: each resolves to one entry (MSG-16, MSG-17), and a chain of
//! references in either direction joins every entry with the MessageHeader, or in a document with the Composition
//! (MSG-06, MSG-07, EXC-35).
//!
//! One pass over the nodes of each Bundle. References within a nested Bundle are resolved in that Bundle alone. A
//! missing focus that a definition counts, and the target of `response.details`, are checked in `rules`.

mod index;
#[cfg(test)]
mod tests;

use super::collector::{IssueCollector, Violation, Weight};
use super::entries::{self, Entry};
use super::full_url;
use emberpost_fhir::FhirVersion;
use emberpost_fhir::IssueCode;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Kind, Node};
use index::{Found, Index};
use std::ops::Range;

/// Members of a Composition whose references must resolve within the document.
const COMPOSITION_LINKS: [&str; 7] = ["subject", "author", "encounter", "custodian", "attester", "event", "section"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum BundleKind {
    Message,
    Document,
    /// A Bundle whose references are not checked.
    Other,
}

/// Checks the message and the Bundles within it. `counted`: the definition counts the focus, so `rules` reports a
/// missing one.
pub(super) fn check_message(
    bundle: Node,
    entries: Vec<Entry>,
    version: FhirVersion,
    counted: bool,
    collector: &mut IssueCollector,
) {
    check(bundle, entries, version, counted, collector);
}

/// Checks a nested Bundle and the fullUrls of its entries.
fn check_inner(bundle: Node, version: FhirVersion, collector: &mut IssueCollector) {
    let entries = entries::of(bundle, Schema::of(version));
    let is_required = full_url::is_required(bundle);
    for entry in &entries {
        full_url::check(entry, is_required, version, collector);
    }
    check(bundle, entries, version, false, collector);
}

fn check(bundle: Node, entries: Vec<Entry>, version: FhirVersion, counted: bool, collector: &mut IssueCollector) {
    let kind = match bundle.get("type").and_then(Node::text).as_deref() {
        Some("message") => BundleKind::Message,
        Some("document") => BundleKind::Document,
        _ => BundleKind::Other,
    };
    let mut scope = Scope::new(entries, kind, counted);
    for number in 0..scope.index.entries.len() {
        scope.entry(number, version, collector);
    }
    scope.unreached(collector);
}

struct Scope<'t> {
    kind: BundleKind,
    index: Index<'t>,
    groups: Groups,
    /// References of the header or Composition that must resolve within the Bundle.
    owed: Vec<Range<u32>>,
}

fn span(node: Node) -> Range<u32> {
    node.index..node.after()
}

impl<'t> Scope<'t> {
    fn new(entries: Vec<Entry<'t>>, kind: BundleKind, counted: bool) -> Self {
        let index = Index::of(entries);
        let first = index.resource(0);
        let mut owed = Vec::new();
        match (kind, first) {
            (BundleKind::Message, Some(header)) => {
                let details = header.get("response").and_then(|response| response.get("details"));
                owed.extend(header.get("focus").filter(|_| !counted).into_iter().chain(details).map(span));
            }
            (BundleKind::Document, Some(composition)) => {
                owed.extend(COMPOSITION_LINKS.iter().filter_map(|name| composition.get(name)).map(span));
            }
            _ => {}
        }
        let groups = Groups::new(index.entries.len());
        Scope { kind, index, groups, owed }
    }

    /// The references of one entry, and the Bundles nested in it.
    fn entry(&mut self, number: usize, version: FhirVersion, collector: &mut IssueCollector) {
        let Some(resource) = self.index.resource(number) else { return };
        let is_whole = self.index.entries[number].kind.as_deref() == Some("Bundle");
        if is_whole {
            check_inner(resource, version, collector);
        }
        let tree = resource.tree;
        // References within a nested Bundle are checked with that Bundle, but they still join this entry with
        // others.
        let mut nested = if is_whole { resource.after() } else { 0 };
        for index in resource.index + 1..resource.after() {
            let node = Node { tree, index };
            match node.kind() {
                Kind::String if node.has_key("reference") => {
                    let Some(reference) = node.text() else { continue };
                    if !reference.starts_with('#') {
                        self.reference(number, node, &reference, index < nested, collector);
                    }
                }
                Kind::Object if index >= nested && node.has_key("resource") && is_bundle(node) => {
                    nested = node.after();
                    check_inner(node, version, collector);
                }
                _ => {}
            }
        }
    }

    fn reference(&mut self, from: usize, node: Node, reference: &str, is_nested: bool, collector: &mut IssueCollector) {
        let found = self.index.resolve(from, reference);
        if let Found::Exact(entry) | Found::SameText(entry) | Found::Lenient(entry) = found {
            self.groups.join(from, entry);
        }
        if is_nested || self.kind == BundleKind::Other || matches!(found, Found::Exact(_) | Found::SameText(_)) {
            return;
        }
        match found {
            Found::Lenient(_) => {
                let text = "the reference does not match a fullUrl by the rules of Bundles, only the type and id of one entry; refer to the entry's fullUrl";
                collector.add_at(Weight::Prose, node, Violation::new("MSG-17", IssueCode::Value, text));
            }
            Found::Several => {
                let text = "the reference matches several entries; refer to the fullUrl of one";
                collector.add_at(Weight::Prose, node, Violation::new("MSG-16", IssueCode::MultipleMatches, text));
            }
            _ if self.owed.iter().any(|range| range.contains(&node.index)) => {
                let (rule, text) = match self.kind {
                    BundleKind::Document => (
                        "EXC-35",
                        "the resource that the Composition refers to is not in the document; add its entry, or refer to the fullUrl of one",
                    ),
                    _ => (
                        "MSG-04",
                        "the resource that the header refers to is not in the Bundle; add its entry, or refer to the fullUrl of one",
                    ),
                };
                collector.add_at(Weight::Prose, node, Violation::new(rule, IssueCode::NotFound, text));
            }
            _ if reference.starts_with("urn:uuid:") || reference.starts_with("urn:oid:") => {
                let text = "the reference is a urn that is not the fullUrl of any entry of the Bundle, so no receiver can resolve it";
                collector.add_at(Weight::Warning, node, Violation::new("MSG-16", IssueCode::NotFound, text));
            }
            _ => {}
        }
    }

    /// Reports entries that no chain of references joins with the first entry.
    fn unreached(&mut self, collector: &mut IssueCollector) {
        if self.kind == BundleKind::Other || self.groups.is_whole() {
            return;
        }
        self.weaker_links();
        if self.groups.is_whole() {
            return;
        }
        for (number, entry) in self.index.entries.iter().enumerate() {
            if entry.object().is_none() || self.groups.are_joined(0, number) {
                continue;
            }
            match self.kind {
                BundleKind::Document => {
                    let text = "no reference joins the entry with the Composition, in either direction; refer to the entry, or remove it";
                    collector.add_at(Weight::Prose, entry.node, Violation::new("EXC-35", IssueCode::Invariant, text));
                }
                _ => {
                    let text = "no reference joins the entry with the MessageHeader, in either direction; refer to the entry, or remove it";
                    collector.add_at(Weight::Warning, entry.node, Violation::new("MSG-06", IssueCode::Invariant, text));
                }
            }
        }
    }

    /// Joins entries by links that are not References: canonicals, uris, and narrative links that equal an entry's
    /// fullUrl.
    fn weaker_links(&mut self) {
        for number in 0..self.index.entries.len() {
            let Some(resource) = self.index.resource(number) else { continue };
            for index in resource.index + 1..resource.after() {
                let node = Node { tree: resource.tree, index };
                if node.kind() != Kind::String {
                    continue;
                }
                let is_div = node.has_key("div");
                // An escaped text is shorter than its source, so its length cannot rule it out.
                let (written, escaped) = node.span();
                if !is_div && !escaped && !self.index.may_name(written.len()) {
                    continue;
                }
                let Some(text) = node.text() else { continue };
                if is_div {
                    for link in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                        self.join(number, link);
                    }
                } else if memchr::memchr(b':', text.as_bytes()).is_some() {
                    self.join(number, &text);
                }
            }
        }
    }

    fn join(&mut self, number: usize, link: &str) {
        if let Some(entry) = self.index.exact(link) {
            self.groups.join(number, entry);
        }
    }
}

fn is_bundle(node: Node) -> bool {
    node.get("resourceType").and_then(Node::text).as_deref() == Some("Bundle")
}

/// Union-find over the entries that are joined by references.
struct Groups {
    parents: Vec<usize>,
    count: usize,
}

impl Groups {
    fn new(length: usize) -> Self {
        Groups { parents: (0..length).collect(), count: length }
    }

    fn root(&mut self, mut entry: usize) -> usize {
        while let Some(&parent) = self.parents.get(entry).filter(|parent| **parent != entry) {
            let above = self.parents.get(parent).copied().unwrap_or(parent);
            if let Some(own) = self.parents.get_mut(entry) {
                *own = above;
            }
            entry = parent;
        }
        entry
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        if one == other {
            return;
        }
        if let Some(parent) = self.parents.get_mut(one.max(other)) {
            *parent = one.min(other);
            self.count -= 1;
        }
    }

    fn are_joined(&mut self, one: usize, other: usize) -> bool {
        self.root(one) == self.root(other)
    }

    fn is_whole(&self) -> bool {
        self.count <= 1
    }
}

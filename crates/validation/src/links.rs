//! References within the Bundles of a message: they lead to one entry each (MSG-16, MSG-17), and every entry is linked to
//! the MessageHeader, or in a document to the Composition, in one direction or the other (MSG-06, MSG-07, EXC-35).
//!
//! One pass over the nodes of each Bundle. References within a nested Bundle are looked up in that one alone. Relies on
//! `rules` for a focus that is missing where a definition counts it, and for what `response.details` leads to.

mod index;
#[cfg(test)]
mod tests;

use super::entries::{self, Entry};
use super::full_url;
use super::report::{Broken, Gravity, Report};
use emberpost_fhir::FhirVersion;
use emberpost_fhir::IssueCode;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Kind, Node};
use index::{Found, Index};
use std::ops::Range;

/// Members of a Composition whose references lead into the document.
const COMPOSITION_LINKS: [&str; 7] = ["subject", "author", "encounter", "custodian", "attester", "event", "section"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Message,
    Document,
    /// Its references are not judged.
    Other,
}

/// Looks at the message and at the Bundles within it. `counted`: a missing focus is told elsewhere, as an error.
pub(super) fn check_message(
    bundle: Node,
    entries: Vec<Entry>,
    version: FhirVersion,
    counted: bool,
    report: &mut Report,
) {
    check(bundle, entries, version, counted, report);
}

/// A Bundle within, with the fullUrls of its entries.
fn check_inner(bundle: Node, version: FhirVersion, report: &mut Report) {
    let entries = entries::of(bundle, Schema::of(version));
    let is_owed = full_url::is_owed(bundle);
    for entry in &entries {
        full_url::check(entry, is_owed, version, report);
    }
    check(bundle, entries, version, false, report);
}

fn check(bundle: Node, entries: Vec<Entry>, version: FhirVersion, counted: bool, report: &mut Report) {
    let role = match bundle.get("type").and_then(Node::text).as_deref() {
        Some("message") => Role::Message,
        Some("document") => Role::Document,
        _ => Role::Other,
    };
    let mut scope = Scope::new(entries, role, counted);
    for number in 0..scope.index.entries.len() {
        scope.entry(number, version, report);
    }
    scope.unreached(report);
}

struct Scope<'t> {
    role: Role,
    index: Index<'t>,
    groups: Groups,
    /// References of header or Composition that must lead into the Bundle.
    owed: Vec<Range<u32>>,
}

fn span(node: Node) -> Range<u32> {
    node.index..node.after()
}

impl<'t> Scope<'t> {
    fn new(entries: Vec<Entry<'t>>, role: Role, counted: bool) -> Self {
        let index = Index::of(entries);
        let first = index.resource(0);
        let mut owed = Vec::new();
        match (role, first) {
            (Role::Message, Some(header)) => {
                let details = header.get("response").and_then(|response| response.get("details"));
                owed.extend(header.get("focus").filter(|_| !counted).into_iter().chain(details).map(span));
            }
            (Role::Document, Some(composition)) => {
                owed.extend(COMPOSITION_LINKS.iter().filter_map(|name| composition.get(name)).map(span));
            }
            _ => {}
        }
        let groups = Groups::new(index.entries.len());
        Scope { role, index, groups, owed }
    }

    /// The references of one entry, and the Bundles in it.
    fn entry(&mut self, number: usize, version: FhirVersion, report: &mut Report) {
        let Some(resource) = self.index.resource(number) else { return };
        let is_whole = self.index.entries[number].kind.as_deref() == Some("Bundle");
        if is_whole {
            check_inner(resource, version, report);
        }
        let tree = resource.tree;
        // References within a nested Bundle are its own; they still link the entry.
        let mut nested = if is_whole { resource.after() } else { 0 };
        for index in resource.index + 1..resource.after() {
            let node = Node { tree, index };
            match node.kind() {
                Kind::String if node.has_key("reference") => {
                    let Some(reference) = node.text() else { continue };
                    if !reference.starts_with('#') {
                        self.reference(number, node, &reference, index < nested, report);
                    }
                }
                Kind::Object if index >= nested && node.has_key("resource") && is_bundle(node) => {
                    nested = node.after();
                    check_inner(node, version, report);
                }
                _ => {}
            }
        }
    }

    fn reference(&mut self, from: usize, node: Node, reference: &str, is_nested: bool, report: &mut Report) {
        let found = self.index.resolve(from, reference);
        if let Found::Exact(entry) | Found::SameText(entry) | Found::Lenient(entry) = found {
            self.groups.join(from, entry);
        }
        if is_nested || self.role == Role::Other || matches!(found, Found::Exact(_) | Found::SameText(_)) {
            return;
        }
        match found {
            Found::Lenient(_) => {
                let text = "the reference matches no fullUrl by the rules of Bundles, but the type and id of one entry; refer to the entry's fullUrl";
                report.at(Gravity::Prose, node, Broken::new("MSG-17", IssueCode::Value, text));
            }
            Found::Several => {
                let text = "the reference fits several entries; refer to the fullUrl of one";
                report.at(Gravity::Prose, node, Broken::new("MSG-16", IssueCode::MultipleMatches, text));
            }
            _ if self.owed.iter().any(|range| range.contains(&node.index)) => {
                let (rule, text) = match self.role {
                    Role::Document => (
                        "EXC-35",
                        "the resource that the Composition refers to is not in the document; add its entry, or refer to the fullUrl of one",
                    ),
                    _ => (
                        "MSG-04",
                        "the resource that the header refers to is not in the Bundle; add its entry, or refer to the fullUrl of one",
                    ),
                };
                report.at(Gravity::Prose, node, Broken::new(rule, IssueCode::NotFound, text));
            }
            _ if reference.starts_with("urn:uuid:") || reference.starts_with("urn:oid:") => {
                let text =
                    "the reference is a urn that no entry of the Bundle has as its fullUrl, so nobody can resolve it";
                report.at(Gravity::Warning, node, Broken::new("MSG-16", IssueCode::NotFound, text));
            }
            _ => {}
        }
    }

    /// Entries that no chain of references joins with the first.
    fn unreached(&mut self, report: &mut Report) {
        if self.role == Role::Other || self.groups.is_whole() {
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
            match self.role {
                Role::Document => {
                    let text = "no reference joins the entry with the Composition, in either direction; refer to it, or leave it out";
                    report.at(Gravity::Prose, entry.node, Broken::new("EXC-35", IssueCode::Invariant, text));
                }
                _ => {
                    let text = "no reference joins the entry with the MessageHeader, in either direction; refer to it, or leave it out";
                    report.at(Gravity::Warning, entry.node, Broken::new("MSG-06", IssueCode::Invariant, text));
                }
            }
        }
    }

    /// Links that are no References: canonicals, uris and what narrative points to, where they are an entry's fullUrl.
    fn weaker_links(&mut self) {
        for number in 0..self.index.entries.len() {
            let Some(resource) = self.index.resource(number) else { continue };
            for index in resource.index + 1..resource.after() {
                let node = Node { tree: resource.tree, index };
                if node.kind() != Kind::String {
                    continue;
                }
                let is_div = node.has_key("div");
                // Escapes make a text shorter than it is written.
                let (written, escaped) = node.span();
                if !is_div && !escaped && !self.index.may_name(written.len()) {
                    continue;
                }
                let Some(text) = node.text() else { continue };
                if is_div {
                    for link in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                        self.join(number, link);
                    }
                } else if text.contains(':') {
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

/// Entries that hang together.
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

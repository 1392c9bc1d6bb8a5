//! Resolves references within a message, in its Bundle only (MSG-16), with the lenient interpretation of MSG-17.
//!
//! `resolve` scans the entries once per reference; for many references, build an `Index`. Nothing is fetched, and
//! canonicals are not references.

use super::reference::{self, split_version};
use super::tree::{Node, Tree};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

/// The target of a reference within the Bundle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resolved<'t> {
    /// The resource, and whether only the lenient interpretation (MSG-17) found it.
    Found(Node<'t>, bool),
    /// More than one resource matches.
    Ambiguous,
    /// No resource of the Bundle matches.
    Missing,
}

impl<'t> Resolved<'t> {
    /// The resource, however it was found.
    pub fn node(self) -> Option<Node<'t>> {
        match self {
            Resolved::Found(node, _) => Some(node),
            _ => None,
        }
    }
}

/// The values of `entry` in the message Bundle, of any kind.
pub(super) fn entries(tree: &Tree) -> impl Iterator<Item = Node<'_>> {
    entries_of(tree.root())
}

/// The values of `entry` in any Bundle, of any kind.
pub fn entries_of(bundle: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    bundle.get("entry").into_iter().flat_map(Node::items)
}

/// The text of a string member; None if it is absent, blank, or of another type.
pub(super) fn text(node: Node<'_>, name: &str) -> Option<String> {
    node.get(name).and_then(filled)
}

/// The text of a string; None if it is blank or of another type.
pub(super) fn filled(node: Node<'_>) -> Option<String> {
    node.text().filter(|text| !text.trim().is_empty()).map(Cow::into_owned)
}

/// Whether a string member has exactly this text.
fn is(node: Node<'_>, name: &str, wanted: &str) -> bool {
    node.get(name).and_then(Node::text).is_some_and(|text| text == wanted)
}

/// The maximum number of entries with the same name that are compared for one reference; two are already ambiguous,
/// or versions.
const SAME_NAME_LIMIT: usize = 64;

/// The entries of a Bundle by fullUrl and by `Type/id`, so that resolving many references takes linear time.
pub struct Index<'t> {
    entries: Vec<Node<'t>>,
    /// Built when the first reference is resolved.
    named: OnceCell<Named>,
}

/// Positions of entries by name.
type Named = HashMap<String, Vec<usize>>;

impl<'t> Index<'t> {
    /// An index of the message's Bundle.
    pub fn new(tree: &'t Tree) -> Self {
        Index::of(tree.root())
    }

    /// An index of any Bundle, also of one nested in the message.
    pub fn of(bundle: Node<'t>) -> Self {
        Index { entries: entries_of(bundle).collect(), named: OnceCell::new() }
    }

    fn named(&self) -> Named {
        let mut named = Named::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let resource = entry.get("resource");
            let kind = resource.and_then(|resource| resource.get("resourceType")?.text());
            let id = resource.and_then(|resource| resource.get("id")?.text());
            let relative = kind.zip(id).map(|(kind, id)| format!("{kind}/{id}"));
            let full_url = entry.get("fullUrl").and_then(Node::text).map(Cow::into_owned);
            for name in [full_url, relative].into_iter().flatten() {
                let same = named.entry(name).or_default();
                if same.len() < SAME_NAME_LIMIT {
                    same.push(index);
                }
            }
        }
        named
    }

    /// The entries in order.
    pub fn entries(&self) -> &[Node<'t>] {
        &self.entries
    }

    /// As `Message::resolve`: a reference in the header.
    pub fn resolve(&self, reference: &str) -> Resolved<'t> {
        self.resolve_from(0, reference)
    }

    /// As `Message::resolve_from`: a reference in the resource of this entry.
    pub fn resolve_from(&self, from: usize, reference: &str) -> Resolved<'t> {
        let entry = self.entries.get(from).copied();
        let (plain, _) = split_version(reference);
        let target = rebased(entry, plain);
        let names = [Some(plain), Some(reference), target.as_deref()].into_iter().flatten();
        let named = self.named.get_or_init(|| self.named());
        let mut candidates: Vec<usize> = names.filter_map(|name| named.get(name)).flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let candidates = candidates.into_iter().filter_map(|index| Some((index, *self.entries.get(index)?)));
        resolve_among((from, entry), reference, candidates).0
    }
}

/// Resolves a reference in the resource of entry `from`; also returns the entry of the target.
pub(super) fn resolve<'t>(tree: &'t Tree, from: usize, reference: &str) -> (Resolved<'t>, usize) {
    resolve_among((from, entries(tree).nth(from)), reference, entries(tree).enumerate())
}

/// Resolves a reference among these entries, given in order with their indexes.
fn resolve_among<'t>(
    (from, entry): (usize, Option<Node<'t>>),
    reference: &str,
    candidates: impl Iterator<Item = (usize, Node<'t>)>,
) -> (Resolved<'t>, usize) {
    if let Some(id) = reference.strip_prefix('#') {
        return (contained(entry, id), from);
    }
    let (plain, version) = split_version(reference);
    let absolute = reference::has_scheme(plain);
    let target = if absolute { Some(plain.to_owned()) } else { rebased(entry, plain) };
    let mut exact = Matches::default();
    let mut same_text = Matches::default();
    let mut same_id = Matches::default();
    for (index, entry) in candidates {
        let Some(resource) = entry.get("resource").filter(|resource| resource.is_object()) else { continue };
        let full_url = entry.get("fullUrl").and_then(Node::text);
        let full_url = full_url.as_deref();
        if full_url.is_some() && full_url == target.as_deref() && fits_version(resource, version) {
            exact.add(resource, index);
        }
        if absolute {
            continue;
        }
        if full_url == Some(reference) {
            same_text.add(resource, index);
        }
        if has_type_and_id(resource, plain) && fits_version(resource, version) {
            same_id.add(resource, index);
        }
    }
    let lenient = if same_text.count > 0 { same_text } else { same_id };
    if exact.count > 0 { exact.verdict(false) } else { lenient.verdict(true) }
}

/// The first of the resources that match, its entry, and how many match.
#[derive(Default)]
struct Matches<'t> {
    first: Option<(Node<'t>, usize)>,
    count: usize,
}

impl<'t> Matches<'t> {
    fn add(&mut self, resource: Node<'t>, entry: usize) {
        self.first = self.first.or(Some((resource, entry)));
        self.count += 1;
    }

    fn verdict(self, lenient: bool) -> (Resolved<'t>, usize) {
        match (self.first, self.count) {
            (Some((resource, entry)), 1) => (Resolved::Found(resource, lenient), entry),
            (None, _) => (Resolved::Missing, 0),
            _ => (Resolved::Ambiguous, 0),
        }
    }
}

/// A contained resource of an entry's resource; `#` alone is the resource itself.
fn contained<'t>(entry: Option<Node<'t>>, id: &str) -> Resolved<'t> {
    let Some(resource) = entry.and_then(|entry| entry.get("resource")) else { return Resolved::Missing };
    if id.is_empty() {
        return Resolved::Found(resource, false);
    }
    let mut fits = resource.get("contained").into_iter().flat_map(Node::items).filter(|inner| is(*inner, "id", id));
    match (fits.next(), fits.next()) {
        (Some(found), None) => Resolved::Found(found, false),
        (Some(_), Some(_)) => Resolved::Ambiguous,
        (None, _) => Resolved::Missing,
    }
}

/// A relative reference, resolved against the fullUrl of the referring entry if that is a RESTful URL (MSG-16, case
/// 4).
fn rebased(entry: Option<Node>, relative: &str) -> Option<String> {
    let full_url = entry?.get("fullUrl")?;
    // An escaped character takes up to six bytes.
    if full_url.span().0.len() > 6 * reference::BASE_LIMIT_BYTES {
        return None;
    }
    let full_url = full_url.text()?;
    let (base, _, _) = reference::restful(&full_url, reference::is_type_name)?;
    Some(format!("{base}{relative}"))
}

fn fits_version(resource: Node<'_>, version: Option<&str>) -> bool {
    version.is_none_or(|version| resource.get("meta").is_some_and(|meta| is(meta, "versionId", version)))
}

fn has_type_and_id(resource: Node<'_>, relative: &str) -> bool {
    relative.split_once('/').is_some_and(|(kind, id)| is(resource, "resourceType", kind) && is(resource, "id", id))
}

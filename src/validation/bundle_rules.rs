//! The Bundle of a message: its invariants (MSG-09), fullUrl (MSG-10, MSG-11) and identifier (MSG-12).
//!
//! Relies on `Message::read` for what makes it a message at all: type `message` and, by bdl-12, a MessageHeader first.
//! Nested Bundles are content and are not looked into. One pass over the entries.

use super::report::{Broken, Report};
use crate::fhir::tree::Node;
use crate::fhir::{FhirVersion, IssueCode, Message};
use std::borrow::Cow;
use std::collections::HashSet;

/// fullUrl and versionId, the pair that bdl-7 wants unique.
type Seen<'m> = HashSet<(Cow<'m, str>, Option<Cow<'m, str>>)>;

pub(super) fn check(message: &Message, report: &mut Report) {
    let bundle = message.tree.root();
    let is_r5 = message.version == FhirVersion::R5;
    if let Some(total) = bundle.get("total") {
        report.error(
            "Bundle.total",
            Some(total),
            invariant("bdl-1", "total is for searchset and history Bundles; leave it out"),
        );
    }
    if is_r5 && message.bundle_identifier.is_none() {
        let text = "Bundle.identifier is the identity of an R5 message; without it answers cannot be matched to it. Give it a system and value";
        report.prose("Bundle.identifier", Some(bundle), Broken::new("MSG-12", IssueCode::Required, text));
    }
    let mut seen = Seen::new();
    for (index, entry) in bundle.get("entry").into_iter().flat_map(Node::items).enumerate() {
        let place = Entry { index, node: entry };
        parts(&place, is_r5, report);
        match entry.get("fullUrl") {
            Some(full_url) => full_url_rules(&place, full_url, &mut seen, report),
            None => no_full_url(&place, is_r5, report),
        }
    }
}

/// An entry and where it stands.
struct Entry<'m> {
    index: usize,
    node: Node<'m>,
}

impl<'m> Entry<'m> {
    fn at(&self, element: &str) -> String {
        format!("Bundle.entry[{}]{element}", self.index)
    }

    fn resource(&self) -> Option<Node<'m>> {
        self.node.get("resource")
    }
}

/// A Bundle invariant: its own key is the rule, MSG-09 lists which of them bite on messages.
fn invariant(rule: &'static str, text: &str) -> Broken {
    Broken::new(rule, IssueCode::Invariant, format!("{text} (MSG-09)"))
}

fn parts(entry: &Entry, is_r5: bool, report: &mut Report) {
    let node = entry.node;
    if let Some(search) = node.get("search") {
        report.error(
            entry.at(".search"),
            Some(search),
            invariant("bdl-2", "entry.search is for searchset Bundles; leave it out"),
        );
    }
    for (name, rule) in [("request", "bdl-3"), ("response", "bdl-4")] {
        if let Some(part) = node.get(name) {
            let rule = if is_r5 { "bdl-3a" } else { rule };
            let text = format!("entry.{name} is for batch, transaction and history Bundles; leave it out");
            report.error(entry.at(&format!(".{name}")), Some(part), invariant(rule, &text));
        }
    }
    if entry.resource().is_none() {
        if is_r5 {
            report.error(
                entry.at(""),
                Some(node),
                invariant("bdl-3a", "every entry of a message has a resource; add it or leave the entry out"),
            );
        }
        if node.get("request").is_none() && node.get("response").is_none() {
            report.error(
                entry.at(""),
                Some(node),
                invariant("bdl-5", "an entry must have a resource; add it or leave the entry out"),
            );
        }
    }
}

fn no_full_url(entry: &Entry, is_r5: bool, report: &mut Report) {
    let place = entry.at(".fullUrl");
    if is_r5 {
        report.error(
            place,
            Some(entry.node),
            invariant("bdl-15", "every entry of an R5 message has a fullUrl; add one, such as urn:uuid and a new UUID"),
        );
    } else {
        let text = "entry.fullUrl is missing, so references to the entry cannot be resolved; add one, such as urn:uuid and a new UUID";
        report.prose(place, Some(entry.node), Broken::new("MSG-10", IssueCode::Required, text));
    }
}

fn full_url_rules<'m>(entry: &Entry<'m>, node: Node<'m>, seen: &mut Seen<'m>, report: &mut Report) {
    let place = entry.at(".fullUrl");
    let Some(full_url) = node.text() else {
        report.error(place, Some(node), Broken::new("MSG-11", IssueCode::Structure, "entry.fullUrl must be a string"));
        return;
    };
    if full_url.contains("/_history/") {
        report.error(
            &place,
            Some(node),
            invariant("bdl-8", "entry.fullUrl must not name a version; put it into resource.meta.versionId"),
        );
    }
    if let Some(text) = wrong_form(&full_url) {
        report.prose(&place, Some(node), Broken::new("MSG-11", IssueCode::Value, text));
    } else if disagrees(&full_url, entry.resource()) {
        let text = "entry.fullUrl ends with another id than its resource has; make the two agree, or use a urn:uuid";
        report.prose(&place, Some(node), Broken::new("MSG-11", IssueCode::Value, text));
    }
    let meta = entry.resource().and_then(|resource| resource.get("meta"));
    let version = meta.and_then(|meta| meta.get("versionId")).and_then(Node::text);
    if !seen.insert((full_url, version)) {
        let text =
            "entry.fullUrl stands in an earlier entry already; give each entry its own, or differing meta.versionId";
        report.error(place, Some(node), invariant("bdl-7", text));
    }
}

/// What is wrong with a fullUrl for itself: it is absolute, and a UUID or OID has the form of one.
fn wrong_form(full_url: &str) -> Option<&'static str> {
    if let Some(uuid) = full_url.strip_prefix("urn:uuid:") {
        // The hyphenated form only: the parser alone would take braces and bare digits too.
        let is_uuid = uuid.len() == 36 && uuid::Uuid::try_parse(uuid).is_ok();
        return (!is_uuid)
            .then_some("entry.fullUrl begins with urn:uuid: and is no UUID; use 8-4-4-4-12 hexadecimal digits");
    }
    if let Some(oid) = full_url.strip_prefix("urn:oid:") {
        return (!is_oid(oid))
            .then_some("entry.fullUrl begins with urn:oid: and is no OID; use numbers joined by dots");
    }
    let absolute = full_url.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.is_empty()
    });
    (!absolute).then_some("entry.fullUrl must be absolute; begin it with the server's base, or use a urn:uuid")
}

fn is_oid(oid: &str) -> bool {
    let mut numbers = oid.split('.');
    let root = numbers.next().is_some_and(|root| matches!(root, "0" | "1" | "2"));
    let is_number = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    root && oid.contains('.') && numbers.all(is_number)
}

/// Whether a RESTful fullUrl of the resource's own type ends with another id than the resource's.
fn disagrees(full_url: &str, resource: Option<Node>) -> bool {
    let text = |name| resource.and_then(|resource: Node| resource.get(name)).and_then(Node::text);
    let (Some(kind), Some(id)) = (text("resourceType"), text("id")) else { return false };
    let is_web = full_url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"));
    let mut parts = full_url.rsplit('/');
    let (last, before) = (parts.next(), parts.next());
    is_web && before == Some(&*kind) && last.is_some_and(|last| last != id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_url_is_absolute_and_its_uuid_or_oid_well_formed() {
        let cases = [
            ("urn:uuid:0c1646f0-656a-58bb-9b1f-a5b80b67484e", true),
            ("urn:uuid:0C1646F0-656A-58BB-9B1F-A5B80B67484E", true),
            ("urn:uuid:0c1646f0656a58bb9b1fa5b80b67484e", false),
            ("urn:uuid:1", false),
            ("urn:oid:1.2.840.0.1", true),
            ("urn:oid:1.02", false),
            ("urn:oid:3.1", false),
            ("https://x.example/fhir/Patient/1", true),
            ("mailto:x@y.example", true),
            ("Patient/1", false),
            ("Patient", false),
            ("http:", false),
            ("", false),
        ];
        for (full_url, good) in cases {
            assert_eq!(wrong_form(full_url).is_none(), good, "{full_url}");
        }
    }
}

//! The focus of a message: resolves the references of `MessageHeader.focus` and checks them against focus rules.
//!
//! Relies on `Message::resolve`. Returns what is violated; `rules` and `definition_rules` decide severity and
//! wording.

use crate::definition::message_definition::{Definition, FocusRule};
use emberpost_fhir::Message;
use emberpost_fhir::event::ResponseCode;
use emberpost_fhir::message::{Index, Resolved};
use emberpost_fhir::reference::{is_type_name, split_version};
use emberpost_fhir::tree::Node;
use std::borrow::Cow;

/// One item of `MessageHeader.focus`.
pub(super) struct Focus<'m> {
    pub node: Node<'m>,
    /// None if the item has no reference.
    pub found: Option<Resolved<'m>>,
    /// The type of the resource, else the type that the reference spells; None if neither is known.
    pub resource_type: Option<Cow<'m, str>>,
}

/// All focus items; positions correspond to the array.
pub(super) fn read(message: &Message) -> Vec<Focus<'_>> {
    let header = message.entry_resource(0);
    let items = header.and_then(|header| header.get("focus")).into_iter().flat_map(Node::items);
    // A message usually has one focus. Thousands of them in a Bundle of thousands of entries must not take quadratic
    // time.
    let index = (message.header.focus.len() > 1).then(|| Index::new(&message.tree));
    let resolve = |reference: &str| match &index {
        Some(index) => index.resolve(reference),
        None => message.resolve(reference),
    };
    items
        .map(|node| {
            let reference = node.get("reference").and_then(Node::text);
            let found = reference.as_deref().map(resolve);
            let resource_type = match &found {
                Some(Resolved::Found(resource, _)) => resource.get("resourceType").and_then(Node::text),
                _ => reference.as_deref().and_then(type_in_reference).map(|name| Cow::Owned(name.to_owned())),
            };
            Focus { node, found, resource_type }
        })
        .collect()
}

/// The type in `Patient/1`, `https://x/fhir/Patient/1`, or `Patient/1/_history/2`.
pub(super) fn type_in_reference(reference: &str) -> Option<&str> {
    let (unversioned, _) = split_version(reference);
    let (before, _id) = unversioned.rsplit_once('/')?;
    let name = before.rsplit('/').next()?;
    is_type_name(name).then_some(name)
}

/// How the focus of a message violates the rules of a definition.
#[derive(Debug, PartialEq)]
pub(super) enum FocusViolation {
    /// The item at this index has a type that no rule names.
    Type {
        index: usize,
    },
    TooFew {
        code: String,
        min: u64,
        found: usize,
    },
    TooMany {
        code: String,
        max: u64,
        found: usize,
    },
}

/// Every violation, in the order of the items and then of the rules. A definition without focus rules is never
/// violated. The limits of rules with the same code add up; items of unknown type count for any of them. A response
/// that reports an error carries no data, so minimums do not apply to it.
pub(super) fn violations(message: &Message, definition: &Definition, focus: &[Focus]) -> Vec<FocusViolation> {
    let rules = &definition.focus;
    if rules.is_empty() {
        return Vec::new();
    }
    let response = message.header.response.as_ref();
    let failed = response.is_some_and(|response| response.code != Some(ResponseCode::Ok));
    let known =
        |item: &Focus| item.resource_type.as_deref().is_none_or(|name| rules.iter().any(|rule| rule.code == name));
    let types =
        focus.iter().enumerate().filter(|(_, item)| !known(item)).map(|(index, _)| FocusViolation::Type { index });
    let mut found = types.collect::<Vec<_>>();
    let unknown = focus.iter().filter(|item| item.resource_type.is_none()).count();
    for (position, rule) in rules.iter().enumerate() {
        if rules[..position].iter().any(|earlier| earlier.code == rule.code) {
            continue;
        }
        let (min, max) = limits(rules, &rule.code);
        let count = focus.iter().filter(|item| item.resource_type.as_deref() == Some(&rule.code)).count();
        let code = || rule.code.clone();
        if !failed && ((count + unknown) as u64) < min {
            found.push(FocusViolation::TooFew { code: code(), min, found: count });
        }
        if let Some(max) = max.filter(|&max| count as u64 > max) {
            found.push(FocusViolation::TooMany { code: code(), max, found: count });
        }
    }
    found
}

/// The sums of min and max over the rules of a code; a rule without max makes the maximum unlimited.
fn limits(rules: &[FocusRule], code: &str) -> (u64, Option<u64>) {
    let same = || rules.iter().filter(|rule| rule.code == code);
    (same().map(|rule| u64::from(rule.min)).sum(), same().map(|rule| rule.max.map(u64::from)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_type_if_it_is_written_as_one() {
        let cases = [
            ("Patient/1", Some("Patient")),
            ("https://x.example/fhir/Patient/1/_history/2", Some("Patient")),
            ("urn:uuid:0c1646f0-656a-58bb-9b1f-a5b80b67484e", None),
            ("https://x.example/fhir/1", None),
            ("#contained", None),
        ];
        for (reference, wanted) in cases {
            assert_eq!(type_in_reference(reference), wanted, "{reference}");
        }
    }

    #[test]
    fn limits_of_one_code_add_up_and_one_star_takes_any_number() {
        let rule = |min, max| FocusRule { code: "Patient".into(), profile: None, min, max };
        assert_eq!(limits(&[rule(1, Some(1)), rule(0, Some(2))], "Patient"), (1, Some(3)));
        assert_eq!(limits(&[rule(1, Some(1)), rule(0, None)], "Patient"), (1, None));
    }
}

//! Whether a value is in a value set, or may be.

use super::codes::{Codes, Unlisted};
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::{Schema, TypeKind};
use emberpost_fhir::tree::Node;

/// Whether a value may be in a value set whose codes are not known: at least one coding has a system that it
/// includes.
pub(super) fn is_possible(schema: &Schema, element: Element, unlisted: &Unlisted) -> bool {
    let def = element.def(schema);
    let Some(node) = element.value else { return true };
    let is_of = |node: Node| match (node.get("system").and_then(Node::text), &unlisted.systems) {
        (Some(system), Some(systems)) => systems.iter().any(|known| **known == *system),
        (Some(_), None) => true,
        (None, _) => node.get("extension").is_some() || node.get("_system").is_some(),
    };
    let any_of = |concept: Node| {
        let mut codings = concept.get("coding").into_iter().flat_map(Node::items).peekable();
        match codings.peek() {
            Some(_) => codings.any(is_of),
            None => concept.get("extension").is_some(),
        }
    };
    match &*def.code {
        "CodeableConcept" => any_of(node),
        "CodeableReference" => node.get("concept").is_none_or(any_of),
        "Coding" => is_of(node),
        _ => true,
    }
}

/// Whether a value is in a value set; None if there is nothing to compare, such as an extension in place of the
/// code.
pub(super) fn is_member(schema: &Schema, element: Element, codes: &Codes) -> Option<bool> {
    let def = element.def(schema);
    if let TypeKind::Primitive(_) = def.kind {
        return element.text().map(|code| codes.has_code(&code));
    }
    let node = element.value?;
    match &*def.code {
        "CodeableConcept" => concept(node, codes),
        "CodeableReference" => concept(node.get("concept")?, codes),
        "Coding" | "Quantity" => coding(node, codes),
        _ => None,
    }
}

fn concept(node: Node, codes: &Codes) -> Option<bool> {
    let mut listed = node.get("coding").into_iter().flat_map(Node::items).peekable();
    if listed.peek().is_none() {
        return node.get("extension").is_none().then_some(false);
    }
    Some(listed.any(|one| coding(one, codes) != Some(false)))
}

fn coding(node: Node, codes: &Codes) -> Option<bool> {
    let text = |name: &str| node.get(name).and_then(Node::text);
    match (text("system"), text("code")) {
        (Some(system), Some(code)) => Some(codes.has(&system, &code)),
        (None, Some(_)) => Some(false),
        (_, None) if node.get("extension").is_some() || node.get("_code").is_some() => None,
        (_, None) => Some(false),
    }
}

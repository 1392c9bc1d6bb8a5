//! Required bindings: a code, a coding, or one of a concept's codings is in the value set.

use super::check::{Checker, ElementContext};
use super::codes::{Codes, Unlisted};
use super::named_path::NamedPath;
use super::rules::BindingRule;
use super::sink::{Found, Sink};
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::{Primitive, Schema, TypeKind};
use emberpost_fhir::tree::Node;
use std::borrow::Cow;

impl<'t> Checker<'t> {
    pub(super) fn binding(&'t self, at: ElementContext<'t>, rule: &BindingRule, path: &NamedPath, sink: &mut Sink) {
        let codes = match &rule.codes {
            Ok(codes) => codes,
            Err(unlisted) => {
                if is_possible(self.schema, at.element, unlisted) {
                    return self.limitations.unchecked(&rule.value_set, &unlisted.reason, path, at.element.node());
                }
                let text = "none of its codings has a system of the value set";
                return sink.error(found(at, path), || {
                    format!("{text} {}, which {} requires", rule.value_set, at.profile_name())
                });
            }
        };
        if is_member(self.schema, at.element, codes) != Some(false) {
            return;
        }
        sink.error(found(at, path), || {
            let what = match code_of(self.schema, at.element) {
                Some(code) => format!("the code {} is not", quote(&code)),
                None => "none of its codes is".to_owned(),
            };
            format!("{what} in the value set {}, which {} requires", rule.value_set, at.profile_name())
        });
    }
}

fn found<'p, 't>(at: ElementContext<'t>, path: &'p NamedPath<'p>) -> Found<'p, 't> {
    let rule = Cow::Borrowed("binding");
    Found { path, child: None, node: at.element.node(), rule, code: IssueCode::Value }
}

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

/// What an issue may quote: a code, never a text.
fn code_of(schema: &Schema, element: Element) -> Option<String> {
    let def = element.def(schema);
    let code = match (def.kind, &*def.code) {
        (TypeKind::Primitive(Primitive::Code), _) => element.text(),
        (_, "Coding" | "Quantity") => element.value.and_then(|node| node.get("code")?.text()),
        (_, "CodeableConcept") => {
            let mut codings = element.value?.get("coding")?.items();
            let only = codings.next().filter(|_| codings.next().is_none());
            only.and_then(|coding| coding.get("code")?.text())
        }
        _ => None,
    };
    code.map(Cow::into_owned)
}

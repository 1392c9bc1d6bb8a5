//! Required bindings: a code, a coding, or one of a concept's codings is in the value set.

use super::check::{At, Checker};
use super::codes::Codes;
use super::place::Place;
use super::rules::BindingRule;
use super::sink::{Found, Sink};
use crate::fhir::IssueCode;
use crate::fhir::element::Element;
use crate::fhir::schema::{Primitive, Schema, TypeKind};
use crate::fhir::tree::Node;
use std::borrow::Cow;

/// Longest code that an issue repeats, in characters.
const CODE_LIMIT: usize = 64;

impl<'t> Checker<'t> {
    pub(super) fn binding(&'t self, at: At<'t>, rule: &BindingRule, place: &Place, sink: &mut Sink) {
        let codes = match &rule.codes {
            Ok(codes) => codes,
            Err(reason) => return self.notes.unchecked(&rule.value_set, reason, place, at.element.node()),
        };
        if is_member(self.schema, at.element, codes) != Some(false) {
            return;
        }
        let found = Found {
            place,
            child: None,
            node: at.element.node(),
            rule: Cow::Borrowed("binding"),
            code: IssueCode::Value,
        };
        sink.error(found, || {
            let what = match code_of(self.schema, at.element) {
                Some(code) => format!("the code {code} is not"),
                None => "no code of it is".to_owned(),
            };
            format!("{what} in the value set {}, which {} requires", rule.value_set, at.who())
        });
    }
}

/// Whether a value is in a value set; None: it has nothing to judge by, such as an extension in place of the code.
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

/// What an issue may repeat: a code, never a text.
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
    code.filter(|code| code.chars().count() <= CODE_LIMIT).map(Cow::into_owned)
}

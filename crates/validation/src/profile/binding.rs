//! Required bindings: a code, a coding, or one of a concept's codings is in the value set.

use super::check::{Checker, ElementContext};
use super::membership::{is_member, is_possible};
use super::named_path::NamedPath;
use super::rules::BindingRule;
use super::sink::{Found, Sink};
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::{Primitive, Schema, TypeKind};
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

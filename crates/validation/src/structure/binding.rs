//! Required bindings.
//!
//! One coding in the value set is enough; an extension may replace the code. If the codes of a value set are not
//! available (MIME types, languages, SNOMED CT), a concept needs a coding from one of the systems that the set
//! includes; a code without a system is not checked.

use super::element_path::ElementPath;
use super::plan::Special;
use super::required_binding::RequiredBinding;
use super::walker::{Object, Walker, named};
use emberpost_fhir::IssueCode;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::Primitive;
use emberpost_fhir::tree::Node;

/// The maximum number of codes that an issue lists.
const LISTED: usize = 8;

impl<'t> Walker<'t, '_, '_> {
    /// Checks a bound primitive by its code alone.
    pub fn bound_text(
        &mut self,
        bound: &RequiredBinding,
        of: Primitive,
        node: Node<'t>,
        text: &[u8],
        path: &ElementPath,
    ) {
        if !matches!(of, Primitive::Code | Primitive::String) {
            return;
        }
        if !bound.has_code(text) {
            let shown = std::str::from_utf8(text).ok().filter(|_| of == Primitive::Code);
            self.not_in_set(bound, shown, node, path);
        }
    }

    /// Checks a bound object: Coding, CodeableConcept, Quantity, CodeableReference.
    pub fn bound_object(&mut self, bound: &'static RequiredBinding, object: &Object<'t, '_>) {
        let node = object.node;
        let is_met = match object.plan.special {
            Special::Coding => is_coded(bound, node),
            Special::Quantity => node.get("code").is_none() || is_coded(bound, node),
            Special::CodeableConcept => is_concept(bound, node),
            Special::CodeableReference => node.get("concept").is_none_or(|concept| is_concept(bound, concept)),
            _ => true,
        };
        if !is_met && !has_extension(node) {
            let coding = node.get("coding").and_then(|codings| codings.items().next()).unwrap_or(node);
            let code = coding.get("code").and_then(Node::text);
            self.not_in_set(bound, code.as_deref(), node, object.path);
        }
    }

    /// Checks the bound value of an extension by its JSON kind.
    pub fn bound_value(&mut self, bound: &RequiredBinding, node: Node<'t>, path: &ElementPath) {
        let is_met = match node.text() {
            Some(code) => bound.has_code(code.as_bytes()),
            None if node.get("coding").is_some() || node.get("text").is_some() => is_concept(bound, node),
            None if node.get("code").is_some() => is_coded(bound, node),
            None => true,
        };
        if !is_met {
            self.not_in_set(bound, None, node, path);
        }
    }

    #[cold]
    fn not_in_set(&mut self, bound: &RequiredBinding, code: Option<&str>, node: Node<'t>, path: &ElementPath) {
        self.fail(path, node, "binding", IssueCode::Value, || {
            let Some(codes) = bound.codes else {
                let systems = match bound.systems.is_empty() {
                    true => String::new(),
                    false => format!(" of the system {}", listed(bound.systems.iter().map(|system| &**system))),
                };
                return format!("{} must have a coding{systems}: the value set {} is required", named(path), bound.url);
            };
            let found = match code {
                Some(code) => format!("'{}' is not in", quote(code)),
                None => "has no code of".to_owned(),
            };
            let codes = listed(codes.codes.iter().map(|(code, _)| &**code));
            format!("{} {found} the required value set {}: {codes}", named(path), bound.url)
        });
    }
}

/// Joins the first of them.
fn listed<'c>(mut all: impl Iterator<Item = &'c str>) -> String {
    let first: Vec<&str> = all.by_ref().take(LISTED).collect();
    format!("{}{}", first.join(", "), if all.next().is_some() { " …" } else { "" })
}

/// Whether a Coding, or the coding within a Quantity, is valid. An extension may replace the code.
fn is_coded(bound: &RequiredBinding, coding: Node<'_>) -> bool {
    let system = coding.get("system").and_then(Node::text);
    match coding.get("code").and_then(Node::text) {
        Some(code) => bound.has(system.as_deref().unwrap_or_default(), &code),
        None => has_extension(coding) || coding.get("_code").is_some(),
    }
}

fn is_concept(bound: &RequiredBinding, concept: Node<'_>) -> bool {
    let mut codings = concept.get("coding").into_iter().flat_map(Node::items);
    codings.any(|coding| is_coded(bound, coding)) || (concept.get("coding").is_none() && has_extension(concept))
}

fn has_extension(node: Node<'_>) -> bool {
    node.get("extension").is_some()
}

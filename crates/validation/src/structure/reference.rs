//! References: their syntax, contained resources that they refer to (ref-1), and the types that an element allows as
//! targets.

use super::element_path::ElementPath;
use super::entries::{Entries, type_name};
use super::member::MemberPlan;
use super::walker::{Local, Object, Walker};
use crate::collector::Violation;
use emberpost_fhir::IssueCode;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::reference::has_scheme;
use emberpost_fhir::schema::TypeId;
use emberpost_fhir::tree::Node;
use std::borrow::Cow;

impl<'t> Walker<'t, '_, '_> {
    /// Records a `#id` in a reference, canonical, uri, or url.
    pub fn local(&mut self, node: Node<'t>, text: &[u8]) {
        if let Some(id) = std::str::from_utf8(text).ok().and_then(|text| text.strip_prefix('#')) {
            self.locals.push(Local { id: Cow::Owned(id.to_owned()), from: node.index });
        }
    }

    pub fn reference(&mut self, object: &Object<'t, '_>, member: Option<&'static MemberPlan>) {
        let targets: &'static [TypeId] = member.map_or(&[], |member| &member.of_type.targets);
        let node = object.node;
        let literal = node.get("reference").and_then(|literal| Some((literal, literal.text()?)));
        let declared = node.get("type").and_then(Node::text).filter(|declared| !declared.is_empty());
        let leads = match &literal {
            Some((literal, text)) if !text.is_empty() => self.leads(*literal, text, object.path),
            _ => None,
        };
        let actual = leads.as_deref();
        if let Some(actual) = actual {
            self.check_target(actual, targets, node, object.path, "leads to a resource of type");
        }
        let Some(declared) = declared else { return };
        if declared.contains(':') {
            return self.fail(object.path, node, "reference-type", IssueCode::Value, || {
                "the type of a reference must be the name of a resource type, such as Organization; only references in logical models have a URL there".to_owned()
            });
        }
        let declared = &*declared;
        self.check_target(declared, targets, node, object.path, "names the type");
        if actual.is_some_and(|actual| actual != declared) {
            self.fail(object.path, node, "target", IssueCode::Structure, || {
                "the reference leads to a resource of another type than its type says".to_owned()
            });
        }
    }

    /// Checks the syntax of the literal, and returns the name of the type that it refers to, if known.
    fn leads(&mut self, literal: Node<'t>, text: &str, path: &ElementPath) -> Option<Cow<'t, str>> {
        if let Some(id) = text.strip_prefix('#') {
            self.local(literal, text.as_bytes());
            let container = self.holder.container();
            if id.is_empty() {
                return type_name(container);
            }
            let found = self.contained_index.find(container, id);
            if found.is_none() {
                self.fail(path, literal, "ref-1", IssueCode::Invariant, || {
                    "the reference begins with # and no contained resource of the same container has that id".to_owned()
                });
            }
            return found.and_then(type_name);
        }
        if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
            self.fail(path, literal, "reference", IssueCode::Value, || {
                "the reference has white space in it; a reference is a URL".to_owned()
            });
            return None;
        }
        if let Some(found) = self.bundles.iter().rev().find_map(|entries| entries.find(text)) {
            return type_name(found);
        }
        let literal_type = type_of_url(text).filter(|name| self.plan.schema.resource(name).is_some());
        let is_conditional = || text.contains('?') && self.bundles.last().is_some_and(Entries::takes_conditions);
        let is_plain = || literal_type.is_some_and(|name| text.starts_with(name));
        if !has_scheme(text) && !is_plain() && !is_conditional() {
            // No definition requires this, and production messages contain other texts.
            let text = "a relative reference must be a type of resource, / and an id";
            let expression = path.expression(self.plan.schema);
            self.collector.prose(expression, Some(literal), Violation::new("reference", IssueCode::Value, text));
        }
        literal_type.map(|name| Cow::Owned(name.to_owned()))
    }

    fn check_target(
        &mut self,
        actual: &str,
        targets: &'static [TypeId],
        node: Node<'t>,
        path: &ElementPath,
        how: &str,
    ) {
        let schema = self.plan.schema;
        let fits = |type_id: TypeId| targets.iter().any(|target| schema.is_a(type_id, *target));
        if targets.is_empty() || schema.resource(actual).is_some_and(fits) {
            return;
        }
        self.fail(path, node, "target", IssueCode::Structure, || {
            let found = match schema.resource(actual) {
                Some(_) => actual.to_owned(),
                None => quote(actual).to_string(),
            };
            let names: Vec<&str> = targets.iter().take(8).map(|id| &*schema.def(*id).code).collect();
            let more = if targets.len() > names.len() { " …" } else { "" };
            format!("the reference {how} {found}; allowed are {}{more}", names.join(", "))
        });
    }
}

/// The type in a URL that ends with `Type/id`, with or without a version. In a relative URL the id may be malformed.
fn type_of_url(url: &str) -> Option<&str> {
    let plain = url.split_once('#').map_or(url, |(plain, _)| plain);
    let (mut before, mut id) = plain.rsplit_once('/')?;
    if let Some((resource, "_history")) = before.rsplit_once('/') {
        (before, id) = resource.rsplit_once('/')?;
    }
    let name = before.rsplit_once('/').map_or(before, |(_, name)| name);
    if !has_scheme(url) {
        return (!id.is_empty()).then_some(name);
    }
    let is_web = url.starts_with("http://") || url.starts_with("https://");
    (is_web && super::primitive::id(id.as_bytes())).then_some(name)
}

//! Resources in the document: their types, ids, and containers.

use super::element_path::ElementPath;
use super::member::MemberPlan;
use super::plan::Special;
use super::reference::Locals;
use super::walk::{Object, Walker};
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::message::entries_of;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::TypeId;
use emberpost_fhir::tree::Node;
use std::borrow::Cow;
use std::cell::OnceCell;

/// The resource that is being walked.
#[derive(Clone, Copy)]
pub(super) struct Holder<'t> {
    pub resource: Node<'t>,
    /// The container of a contained resource.
    pub container: Option<Node<'t>>,
    /// `%resource` and `%rootResource` of its invariants, looked up once; None before the walk begins.
    pub element: Option<Element<'t>>,
    pub root: Option<Element<'t>>,
}

impl<'t> Holder<'t> {
    /// The resource that has `contained`: `%rootResource`.
    pub fn container(&self) -> Node<'t> {
        self.container.unwrap_or(self.resource)
    }
}

/// The entries of a Bundle by fullUrl; built when the first reference needs it.
pub(super) struct Entries<'t> {
    bundle: Node<'t>,
    /// Sorted by fullUrl. Not hashed, so that senders cannot choose names that collide; most Bundles are small.
    named: OnceCell<Vec<(Cow<'t, str>, Node<'t>)>>,
}

impl<'t> Entries<'t> {
    pub fn new(bundle: Node<'t>) -> Self {
        Entries { bundle, named: OnceCell::new() }
    }

    /// The resource of the first entry with this fullUrl.
    pub fn find(&self, full_url: &str) -> Option<Node<'t>> {
        let named = self.named.get_or_init(|| self.named());
        let at = named.partition_point(|(name, _)| **name < *full_url);
        named.get(at).filter(|(name, _)| *name == full_url).map(|(_, resource)| *resource)
    }

    /// Whether references may be searches, such as `Patient?identifier=…`, that a server replaces.
    pub fn takes_conditions(&self) -> bool {
        let kind = self.bundle.get("type").and_then(Node::text);
        kind.is_some_and(|kind| matches!(&*kind, "transaction" | "batch"))
    }

    fn named(&self) -> Vec<(Cow<'t, str>, Node<'t>)> {
        let mut named: Vec<_> = entries_of(self.bundle)
            .filter_map(|entry| {
                let [full_url, resource] = entry.pick(["fullUrl", "resource"]);
                Some((full_url?.text()?, resource?))
            })
            .collect();
        // The sort is stable, so the first entry of each name comes first.
        named.sort_by(|one, other| one.0.cmp(&other.0));
        named
    }
}

/// The type that a resource names.
pub(super) fn type_name<'t>(resource: Node<'t>) -> Option<Cow<'t, str>> {
    resource.get("resourceType").and_then(Node::text)
}

impl<'t> Walker<'t, '_, '_> {
    pub fn root(mut self) {
        let node = self.tree.root();
        let name = type_name(node).unwrap_or_default();
        let type_id = self.plan.schema.resource(&name);
        let path = ElementPath::root(type_id);
        if !node.is_object() {
            return self.fail(&path, node, "type", IssueCode::Structure, || {
                "the document must be one JSON object, a resource".to_owned()
            });
        }
        self.resource(node, None, &path);
    }

    /// Checks an object that must be a resource: the root, the value of an element, or a contained one.
    pub fn resource(&mut self, node: Node<'t>, member: Option<&'static MemberPlan>, path: &ElementPath) {
        let Some(type_id) = self.resource_type(node, path) else { return };
        let path = &ElementPath { type_id: Some(type_id), ..*path };
        if let Some(member) = member
            && !self.plan.schema.is_a(type_id, member.type_id)
        {
            let code = &self.plan.schema.def(member.type_id).code;
            self.fail(path, node, "type", IssueCode::Structure, || {
                format!("a resource of type {code} is required here")
            });
        }
        let is_contained = path.name() == Some("contained") && path.parent.is_some();
        let container = is_contained.then(|| self.holder.container());
        let element = Some(Element { value: Some(node), extra: None, type_id });
        let root = if is_contained { self.holder.root } else { element };
        let outer = std::mem::replace(&mut self.holder, Holder { resource: node, container, element, root });
        let plan = self.plan.type_plan(type_id);
        let locals = Locals { from: self.locals.len() };
        if plan.special == Special::Bundle {
            self.bundles.push(Entries::new(node));
        }
        self.object(&Object { node, holder: None, plan, member, path }, false);
        if plan.special == Special::Bundle {
            self.bundles.pop();
        }
        match is_contained {
            true => self.contained(node, outer.container.is_some(), path),
            false => self.unused(node, locals, path),
        }
        self.holder = outer;
    }

    /// The resource's type; None if it is missing or not a type of resource, which is reported.
    fn resource_type(&mut self, node: Node<'t>, path: &ElementPath) -> Option<TypeId> {
        let Some(found) = node.get("resourceType") else {
            self.format_error(
                (path, node),
                ("resource-type", "a resource must have resourceType"),
                ("resource-type", "the element must hold a resource"),
            );
            return None;
        };
        let name = found.text();
        let type_id = name.as_ref().and_then(|name| self.plan.schema.resource(name));
        if type_id.is_none() {
            let what = if self.tree.is_xml() { "the element" } else { "resourceType" };
            self.fail(path, found, "resource-type", IssueCode::Structure, || match name {
                None => "resourceType must be a string".to_owned(),
                Some(name) => format!("{what} '{}' is not a type of resource in this version", quote(&name)),
            });
        }
        type_id
    }
}

//! Resources in the document: their types, ids, and containers.

use super::element_path::ElementPath;
use super::entries::{Entries, type_name};
use super::member::MemberPlan;
use super::plan::Special;
use super::walker::{Holder, Locals, Object, Walker};
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::TypeId;
use emberpost_fhir::tree::Node;

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

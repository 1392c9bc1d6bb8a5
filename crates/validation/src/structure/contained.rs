//! Contained resources: dom-2 to dom-5, and the container's side of ref-1.
//!
//! dom-3 follows the later expression, which R4B publishes: something in the container refers to the contained
//! resource by its id (a reference, canonical, uri, or url), or the contained resource refers to the container
//! (`#`).

use super::element_path::ElementPath;
use super::walker::Locals;
use super::walker::Walker;
use emberpost_fhir::IssueCode;
use emberpost_fhir::tree::Node;
use std::collections::HashSet;

impl<'t> Walker<'t, '_, '_> {
    /// Checks a contained resource after it was walked. `nested`: it is inside another contained resource.
    pub fn contained(&mut self, node: Node<'t>, nested: bool, path: &ElementPath) {
        if nested {
            self.fail(path.parent.unwrap_or(path), node, "dom-2", IssueCode::Invariant, || {
                "a contained resource must not contain others; let the outer resource contain them".to_owned()
            });
        }
        if node.get("id").is_none() {
            self.fail(path, node, "min", IssueCode::Required, || {
                "id is missing; a contained resource is referred to by its id".to_owned()
            });
        }
        let Some(meta) = node.get("meta") else { return };
        for (name, rule) in [("versionId", "dom-4"), ("lastUpdated", "dom-4"), ("security", "dom-5")] {
            if let Some(found) = meta.get(name) {
                self.fail(path, found, rule, IssueCode::Invariant, || {
                    format!(
                        "a contained resource must not have meta.{name}; it belongs to the resource that contains it"
                    )
                });
            }
        }
    }

    /// Reports contained resources that nothing refers to (dom-3), after the container was walked.
    pub fn unused(&mut self, node: Node<'t>, locals: Locals, path: &ElementPath) {
        let Some(contained) = node.get("contained") else {
            self.locals.truncate(locals.from);
            return;
        };
        let met = self.locals.split_off(locals.from.min(self.locals.len()));
        let used: HashSet<&str> = met.iter().map(|local| &*local.id).filter(|id| !id.is_empty()).collect();
        let mut to_container: Vec<u32> =
            met.iter().filter(|local| local.id.is_empty()).map(|local| local.from).collect();
        to_container.sort_unstable();
        let mut seen = HashSet::new();
        for (index, inner) in (0u32..).zip(contained.items()) {
            let id = inner.get("id").and_then(Node::text);
            if id.as_ref().is_some_and(|id| !seen.insert(id.clone())) {
                self.inner_fail(
                    (inner, index),
                    path,
                    "contained-id",
                    "another contained resource has this id; give each its own",
                );
            }
            let next = to_container.get(to_container.partition_point(|from| *from < inner.index));
            let refers = next.is_some_and(|from| *from < inner.after());
            if !refers && !id.is_some_and(|id| used.contains(&*id)) && inner.is_object() {
                let text = "nothing in the resource refers to this contained resource; refer to it by # and its id, or remove it";
                self.inner_fail((inner, index), path, "dom-3", text);
            }
        }
    }

    #[cold]
    fn inner_fail(
        &mut self,
        (inner, index): (Node<'t>, u32),
        path: &ElementPath,
        rule: &'static str,
        text: &'static str,
    ) {
        let plan = path.type_id.map(|id| self.plan.type_plan(id));
        let member = plan.and_then(|plan| plan.member(self.plan.schema, b"contained"));
        let inner_path = member.map(|member| path.element(member, index));
        self.fail(inner_path.as_ref().unwrap_or(path), inner, rule, IssueCode::Invariant, || text.to_owned());
    }
}

//! The elements of a tree by their types, for the rules of `prose`. What the schema does not know is passed over.

use super::Subject;
use crate::fhir::schema::{Schema, TypeDef, TypeKind};
use crate::fhir::tree::{Kind, Node};
use crate::validation::report::Report;

/// The whole resource; not deeper than the reader lets documents be nested.
pub(in crate::validation) fn resource(node: Node, schema: &Schema, report: &mut Report) {
    let name = node.get("resourceType").and_then(Node::text);
    if let Some(id) = name.and_then(|name| schema.resource(&name)) {
        members(node, schema.def(id), schema, report);
    }
}

fn members(node: Node, def: &TypeDef, schema: &Schema, report: &mut Report) {
    for child in node.children() {
        let Some(key) = child.key() else { continue };
        let name = key.strip_prefix('_').unwrap_or(&key);
        let Some((_, of_type)) = schema.member(def, name) else { continue };
        let target = schema.def(of_type.type_id);
        if child.is_array() {
            child.children().for_each(|item| value(item, target, def, schema, report));
        } else {
            value(child, target, def, schema, report);
        }
    }
}

fn value(node: Node, def: &TypeDef, holder: &TypeDef, schema: &Schema, report: &mut Report) {
    match (def.kind, node.kind()) {
        (TypeKind::Resource, Kind::Object) => resource(node, schema, report),
        (TypeKind::Primitive(of), Kind::String) => {
            if let Some(text) = node.text().filter(|_| super::is_uri(of)) {
                super::uri(of, node, &text, report);
            }
        }
        (_, Kind::Object) => {
            if let Some(subject) = Subject::of(&def.code) {
                super::object(subject, node, &*holder.code == "Extension", report);
            }
            members(node, def, schema, report);
        }
        _ => {}
    }
}

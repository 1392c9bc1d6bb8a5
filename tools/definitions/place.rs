//! Finds the types that the StructureDefinitions define, and where.

use crate::members::{each, is_true, last_segment, text};
use anyhow::{Context, Result};
use fhir::schema::{Primitive, TypeKind};
use serde_json::Value;

/// Where a type is defined: its StructureDefinition and the path of its root element.
pub struct Place<'v> {
    pub name: String,
    pub code: String,
    pub kind: TypeKind,
    pub is_abstract: bool,
    pub base: Option<String>,
    pub definition: &'v Value,
    pub path: String,
}

/// Whether a StructureDefinition defines a type. Profiles do not, except those of Quantity that elements refer to.
pub fn is_type(resource: &Value) -> bool {
    let is_kind = matches!(text(resource, "kind"), Some("resource" | "complex-type" | "primitive-type"));
    text(resource, "resourceType") == Some("StructureDefinition")
        && is_kind
        && (text(resource, "derivation") != Some("constraint") || is_quantity(resource))
}

fn is_quantity(resource: &Value) -> bool {
    text(resource, "type") == Some("Quantity") && text(resource, "kind") == Some("complex-type")
}

pub fn snapshot(definition: &Value) -> &[Value] {
    definition.get("snapshot").map(|snapshot| each(snapshot, "element")).unwrap_or_default()
}

pub fn root<'v>(place: &Place<'v>) -> Result<&'v Value> {
    let found = snapshot(place.definition).iter().find(|element| text(element, "path") == Some(&place.path));
    found.with_context(|| format!("no element {}", place.path))
}

pub fn has_children(definition: &Value, path: &str) -> bool {
    let below = |element: &Value| text(element, "path").is_some_and(|found| is_below(found, path));
    snapshot(definition).iter().any(below)
}

fn is_below(found: &str, path: &str) -> bool {
    found.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
}

/// The type that a StructureDefinition defines, and those of its backbone elements.
pub fn gather<'v>(definition: &'v Value, places: &mut Vec<Place<'v>>) -> Result<()> {
    let own = text(definition, "type").context("a definition without type")?;
    let is_profile = text(definition, "derivation") == Some("constraint");
    let name = if is_profile { text(definition, "id").unwrap_or(own) } else { own };
    let kind = match text(definition, "kind") {
        Some("primitive-type") => TypeKind::Primitive(Primitive::named(own).with_context(|| own.to_owned())?),
        Some("resource") => TypeKind::Resource,
        _ => TypeKind::Complex,
    };
    places.push(Place {
        name: name.to_owned(),
        code: own.to_owned(),
        kind,
        is_abstract: is_true(definition, "abstract"),
        base: text(definition, "baseDefinition").map(|url| last_segment(url).to_owned()),
        definition,
        path: own.to_owned(),
    });
    if matches!(kind, TypeKind::Primitive(_)) || is_profile {
        return Ok(());
    }
    for element in snapshot(definition) {
        let path = text(element, "path").context("an element without path")?;
        if path != own && has_children(definition, path) {
            let code = each(element, "type").first().and_then(|of_type| text(of_type, "code"));
            let code = code.with_context(|| format!("{path} has no type"))?;
            places.push(Place {
                name: path.to_owned(),
                code: code.to_owned(),
                kind: TypeKind::Backbone,
                is_abstract: false,
                base: Some(code.to_owned()),
                definition,
                path: path.to_owned(),
            });
        }
    }
    Ok(())
}

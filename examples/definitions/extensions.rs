//! The extensions that the packages define.

use crate::faults;
use crate::look::{each, is_true, last_segment, maximum, number, text, texts};
use crate::place::snapshot;
use crate::structures::Maker;
use anyhow::{Context as _, Result};
use emberpost::fhir::schema::{Context, ExtensionDef};
use serde_json::Value;

/// Every one, by url in ascending order.
pub fn make(maker: &mut Maker, resources: &[Value]) -> Result<Vec<ExtensionDef>> {
    let mut made = Vec::new();
    for definition in resources.iter().filter(|found| is_extension(found)) {
        let url = text(definition, "url").context("an extension without url")?;
        let mut extension = level(maker, definition, "Extension").with_context(|| url.to_owned())?;
        extension.url = url.into();
        extension.contexts = each(definition, "context").iter().filter_map(context).collect();
        extension.context_invariants = texts(definition, "contextInvariant")
            .map(|published| faults::mended(maker.version, last_segment(url), published).into())
            .collect();
        made.push(extension);
    }
    made.sort_by(|left, right| left.url.cmp(&right.url));
    made.dedup_by(|left, right| left.url == right.url);
    Ok(made)
}

fn is_extension(resource: &Value) -> bool {
    text(resource, "resourceType") == Some("StructureDefinition")
        && text(resource, "type") == Some("Extension")
        && text(resource, "derivation") == Some("constraint")
}

fn context(context: &Value) -> Option<Context> {
    let expression = text(context, "expression")?;
    Some(match text(context, "type")? {
        "extension" => Context::Extension(expression.into()),
        "fhirpath" => Context::Fhirpath(expression.into()),
        _ => Context::Element(expression.into()),
    })
}

/// The extension, or the nested one, whose elements have ids that begin with `id`.
fn level(maker: &mut Maker, definition: &Value, id: &str) -> Result<ExtensionDef> {
    let root = element(definition, id).with_context(|| format!("no element {id}"))?;
    let url = element(definition, &format!("{id}.url")).and_then(|url| text(url, "fixedUri"));
    let value = element(definition, &format!("{id}.value[x]")).filter(|value| maximum(value, "max") != Some(0));
    let mut made = ExtensionDef {
        url: url.or_else(|| text(root, "sliceName")).unwrap_or_default().into(),
        contexts: Vec::new(),
        context_invariants: Vec::new(),
        values: Vec::new(),
        is_value_required: value.and_then(|value| number(value, "min")).unwrap_or(0) > 0,
        binding: value.and_then(|value| maker.binding(value)).map(|binding| binding.value_set),
        nested: Vec::new(),
        constraints: maker.constraints_of(root, &["ele-1", "ext-1"]),
        min: u16::try_from(number(root, "min").unwrap_or(0))?,
        max: maximum(root, "max").context("no maximum")?,
        is_modifier: is_true(root, "isModifier"),
    };
    if let Some(value) = value {
        made.values = maker.types_of(value)?;
    }
    for nested in snapshot(definition).iter().filter_map(|found| text(found, "id")) {
        let slice = nested.strip_prefix(id).and_then(|rest| rest.strip_prefix(".extension:"));
        if slice.is_some_and(|slice| !slice.contains('.')) {
            made.nested.push(level(maker, definition, nested)?);
        }
    }
    Ok(made)
}

fn element<'v>(definition: &'v Value, id: &str) -> Option<&'v Value> {
    snapshot(definition).iter().find(|found| text(found, "id") == Some(id))
}

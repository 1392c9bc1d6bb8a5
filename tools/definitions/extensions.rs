//! Reads the extensions that the packages define.

use crate::corrections;
use crate::members::{each, is_true, last_segment, maximum, number, text, texts};
use crate::place::snapshot;
use crate::structures::Maker;
use anyhow::{Context as _, Result};
use fhir::schema::{Context, ExtensionDef};
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Every extension, sorted by url. The extensions pack takes precedence over the release, because HL7 corrects
/// errors of the releases there. Contexts and value types that the release allows stay allowed.
pub fn make(maker: &mut Maker, resources: &[Value], pack: &[Value]) -> Result<Vec<ExtensionDef>> {
    let mut made: BTreeMap<String, ExtensionDef> = BTreeMap::new();
    for definition in pack.iter().chain(resources).filter(|found| is_extension(found)) {
        let url = text(definition, "url").context("an extension without url")?;
        let mut extension = level(maker, definition, "Extension").with_context(|| url.to_owned())?;
        extension.url = url.into();
        extension.contexts = contexts(maker, definition);
        extension.context_invariants = texts(definition, "contextInvariant")
            .map(|published| corrections::corrected(maker.version, last_segment(url), published).into())
            .collect();
        match made.entry(url.to_owned()) {
            Entry::Vacant(place) => drop(place.insert(extension)),
            Entry::Occupied(mut place) => widen(place.get_mut(), extension),
        }
    }
    for extension in made.values_mut() {
        let more = corrections::more_contexts(maker.version, last_segment(&extension.url));
        extension.contexts.extend(more.map(|path| Context::Element(path.into())));
    }
    Ok(made.into_values().collect())
}

/// Adds what an earlier edition of the same extension allows beyond this one.
fn widen(newest: &mut ExtensionDef, earlier: ExtensionDef) {
    // Without contexts, it is allowed anywhere.
    if newest.contexts.is_empty() || earlier.contexts.is_empty() {
        newest.contexts.clear();
    } else {
        let further = earlier.contexts.into_iter().filter(|context| !newest.contexts.contains(context));
        newest.contexts.extend(further.collect::<Vec<_>>());
    }
    newest.is_value_required &= earlier.is_value_required;
    for of_type in earlier.values {
        if !newest.values.iter().any(|known| known.type_id == of_type.type_id) {
            newest.values.push(of_type);
        }
    }
    for nested in &mut newest.nested {
        nested.min = match earlier.nested.iter().find(|known| known.url == nested.url) {
            Some(known) => nested.min.min(known.min),
            None => 0,
        };
    }
    for mut nested in earlier.nested {
        match newest.nested.iter_mut().find(|known| known.url == nested.url) {
            Some(known) => {
                known.max = known.max.max(nested.max);
                widen(known, nested);
            }
            None => {
                nested.min = 0;
                newest.nested.push(nested);
            }
        }
    }
}

/// The contexts whose types this version defines: the pack also names types of later releases. If none is defined,
/// all are kept, because an empty list would allow the extension anywhere.
fn contexts(maker: &Maker, definition: &Value) -> Vec<Context> {
    let all: Vec<Context> = each(definition, "context").iter().filter_map(context).collect();
    let is_known = |context: &Context| match context {
        Context::Element(path) => maker.has_type(path.split('.').next().unwrap_or_default()),
        Context::Extension(_) | Context::Fhirpath(_) => true,
    };
    if !all.iter().any(is_known) {
        return all;
    }
    all.into_iter().filter(is_known).collect()
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

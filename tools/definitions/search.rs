//! Reads search parameters.

use crate::members::{each, text, texts};
use anyhow::{Context, Result, bail};
use fhir::schema::{Schema, SearchKind, SearchParameter, SearchParameters, TypeId};
use serde_json::Value;

/// `schema`: provides the types that parameters name. Types that the version does not define are printed and left
/// out.
pub fn make(name: &str, schema: &Schema, resources: &[Value]) -> Result<SearchParameters> {
    let found = resources.iter().filter(|resource| text(resource, "resourceType") == Some("SearchParameter"));
    let all = found.map(|resource| {
        let url = text(resource, "url").context("a search parameter without url")?;
        parameter(name, schema, resource, url).with_context(|| url.to_owned())
    });
    Ok(SearchParameters::new(all.collect::<Result<_>>()?))
}

fn parameter(name: &str, schema: &Schema, resource: &Value, url: &str) -> Result<SearchParameter> {
    let types = |member| -> Vec<TypeId> {
        let known = |of: &str| {
            let id = schema.named(of);
            if id.is_none() {
                eprintln!("{name}: {url} names the type {of}, which this version does not define");
            }
            id
        };
        texts(resource, member).filter_map(known).collect()
    };
    let part = |component: &Value| -> Option<(Box<str>, Box<str>)> {
        Some((text(component, "definition")?.into(), text(component, "expression")?.into()))
    };
    Ok(SearchParameter {
        url: url.into(),
        code: text(resource, "code").context("no code")?.into(),
        kind: kind(text(resource, "type").context("no type")?)?,
        bases: types("base"),
        targets: types("target"),
        expression: text(resource, "expression").unwrap_or_default().into(),
        components: each(resource, "component").iter().filter_map(part).collect(),
    })
}

fn kind(code: &str) -> Result<SearchKind> {
    Ok(match code {
        "number" => SearchKind::Number,
        "date" => SearchKind::Date,
        "string" => SearchKind::String,
        "token" => SearchKind::Token,
        "reference" => SearchKind::Reference,
        "composite" => SearchKind::Composite,
        "quantity" => SearchKind::Quantity,
        "uri" => SearchKind::Uri,
        "special" => SearchKind::Special,
        "resource" => SearchKind::Resource,
        other => bail!("the type {other} is not known"),
    })
}

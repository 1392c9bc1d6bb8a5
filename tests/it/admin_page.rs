//! `docs/admin.md`, made from the OpenAPI file of the admin API and compared with it.
//!
//! After a change of `src/admin/openapi.json`, run `EMBERPOST_UPDATE=1 cargo test --test it admin_page`.

use crate::help::assert_is_file;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

const INTRODUCTION: &str = "# Admin API

Made from `src/admin/openapi.json` by a test; do not edit it by hand. A running router serves that file at `/admin/v1/openapi.json`.

Paths are relative to `/admin/v1`. Without credentials, only direct requests from loopback are served. With credentials, send
`Authorization: Bearer` and an operator's token: the role `viewer` reads, the role `operator` also changes things and reads the content of
messages. Request and response bodies are JSON. Every refusal is an OperationOutcome whose `details.coding` with the system
`urn:emberpost:fault` says who must act ([faults.md](faults.md)). Lists return a page; `next` is the `cursor` of the next one. Times are
microseconds since 1970 (UTC). The commands of `emberpost` use this API.

    curl -s -H \"Authorization: Bearer $EMBERPOST_TOKEN\" 'http://127.0.0.1:8080/admin/v1/deliveries?state=dead&limit=10'

Outside of `/admin/v1`: `/health/live` and `/health/ready` for probes, `/metrics` for Prometheus, and `[base]/metadata` with the
CapabilityStatement.
";

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A text as the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The type of a schema in a few words, with links to schemas that are described.
fn kind(schema: &Value) -> String {
    if let Some(name) = text(schema, "$ref").strip_prefix("#/components/schemas/") {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        if let Some(schemas) = schema[several].as_array() {
            let word = if several == "allOf" { " and " } else { " or " };
            return schemas.iter().map(kind).collect::<Vec<_>>().join(word);
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap_or("null")))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        name => name.as_str().unwrap_or("any").to_owned(),
    };
    match name.as_str() {
        "array" => format!("list of {}", kind(&schema["items"])),
        _ if schema["format"].is_string() => format!("{name} ({})", text(schema, "format")),
        _ => name,
    }
}

/// The properties of a schema as rows; those of its parts, too.
fn properties(schema: &Value, page: &mut String) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let always = if required.contains(&name.as_str()) { "yes" } else { "" };
        let (kind, description) = (cell(&kind(property)), cell(text(property, "description")));
        writeln!(page, "| `{name}` | {kind} | {always} | {description} |").unwrap();
    }
}

fn operations(document: &Value, page: &mut String) {
    page.push_str("\n## Operations\n");
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let (summary, description) = (text(operation, "summary"), text(operation, "description"));
            write!(page, "\n### {} {path}\n\n{summary}. {description}\n", method.to_uppercase()).unwrap();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let query: Vec<_> = parameters.iter().filter(|parameter| parameter["in"] == "query").collect();
            if !query.is_empty() {
                page.push_str("\n| parameter | type | |\n|---|---|---|\n");
            }
            for parameter in query {
                let (kind, description) = (cell(&kind(&parameter["schema"])), cell(text(parameter, "description")));
                writeln!(page, "| `{}` | {kind} | {description} |", text(parameter, "name")).unwrap();
            }
            for (media_type, body) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                writeln!(page, "\nBody, `{media_type}`: {}", kind(&body["schema"])).unwrap();
                if body["schema"]["properties"].is_object() {
                    page.push_str("\n| member | type | required | |\n|---|---|---|---|\n");
                    properties(&body["schema"], page);
                }
            }
            let answers = operation["responses"].as_object().unwrap();
            for (status, answer) in answers.iter().filter(|(status, _)| *status != "default") {
                let content = answer["content"].as_object().and_then(|content| content.iter().next());
                let returns = content.map(|(media_type, it)| match (media_type.as_str(), kind(&it["schema"])) {
                    ("application/json", kind)
                        if kind == "object" && it["schema"]["properties"]["items"].is_object() =>
                    {
                        format!(": a page with `items`, a {}", kind_of_items(&it["schema"]))
                    }
                    ("application/json", kind) => format!(": {kind}"),
                    (other, _) => format!(": `{other}`"),
                });
                writeln!(page, "\n{status}{}", returns.unwrap_or_else(|| format!(": {}", text(answer, "description"))))
                    .unwrap();
            }
        }
    }
}

fn kind_of_items(schema: &Value) -> String {
    kind(&schema["properties"]["items"])
}

fn schemas(document: &Value, page: &mut String) {
    page.push_str("\n## Schemas\n");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        write!(page, "\n### {name}\n\n").unwrap();
        if !text(schema, "description").is_empty() {
            write!(page, "{}\n\n", text(schema, "description")).unwrap();
        }
        let parts: Vec<&Value> = schema["allOf"].as_array().into_iter().flatten().collect();
        let bases: Vec<String> = parts.iter().filter(|part| part["$ref"].is_string()).map(|part| kind(part)).collect();
        if !bases.is_empty() {
            write!(page, "The members of {}, and:\n\n", bases.join(" and ")).unwrap();
        }
        let own: Vec<&&Value> = parts.iter().filter(|part| part["properties"].is_object()).collect();
        if schema["properties"].is_object() || !own.is_empty() {
            page.push_str("| member | type | always | |\n|---|---|---|---|\n");
            properties(schema, page);
            own.iter().for_each(|part| properties(part, page));
        } else if bases.is_empty() {
            writeln!(page, "{}", kind(schema)).unwrap();
        }
    }
}

#[test]
fn the_page_of_the_admin_api_is_made_from_its_openapi_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("src/admin/openapi.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut page = INTRODUCTION.to_owned();
    operations(&document, &mut page);
    schemas(&document, &mut page);
    assert_is_file(&page, &root.join("docs/admin.md"));
}

//! Reads XML of FHIR definitions as JSON values, as far as the tables need it.
//!
//! An element with only a `value` becomes a string (numbers and booleans, too), and a repeated one an array. Readers
//! use `members`, which accepts a single value for a list and a string for a number. Extensions of primitives and
//! narrative are left out.

use anyhow::{Context, Result, bail};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

/// The resources of a Bundle.
pub fn bundle(text: &str) -> Result<Vec<Value>> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<(String, Map<String, Value>)> = Vec::new();
    let mut resources = Vec::new();
    loop {
        match reader.read_event()? {
            Event::Start(start) => {
                let name = start.local_name().as_ref().to_owned();
                if name == "div" {
                    reader.read_to_end(start.name())?;
                } else {
                    open.push((name, attributes(&start)?));
                }
            }
            Event::End(_) => {
                let (name, members) = open.pop().context("an end without a start")?;
                if open.len() == 3 && open.last().is_some_and(|(parent, _)| parent == "resource") {
                    resources.push(resource(&name, members));
                } else if let Some((_, parent)) = open.last_mut() {
                    close(parent, name, members);
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !open.is_empty() || resources.is_empty() {
        bail!("no Bundle with resources");
    }
    Ok(resources)
}

/// Every attribute becomes a member, except namespaces.
fn attributes(start: &BytesStart) -> Result<Map<String, Value>> {
    let mut members = Map::new();
    for attribute in start.attributes() {
        let attribute = attribute?;
        let key = attribute.key.as_ref().to_owned();
        if !key.starts_with("xml") {
            let text = quick_xml::escape::unescape(&attribute.value)?.into_owned();
            members.insert(key, Value::String(text));
        }
    }
    Ok(members)
}

fn close(parent: &mut Map<String, Value>, name: String, mut members: Map<String, Value>) {
    // A contained resource replaces the element around it.
    if name.starts_with(|first: char| first.is_ascii_uppercase()) {
        if let Value::Object(inner) = resource(&name, members) {
            parent.extend(inner);
        }
        return;
    }
    let value = match members.remove("value") {
        Some(value @ Value::String(_)) if members.keys().all(|key| key == "id" || key == "extension") => value,
        Some(value) => {
            members.insert("value".to_owned(), value);
            Value::Object(members)
        }
        None => Value::Object(members),
    };
    match parent.get_mut(&name) {
        None => drop(parent.insert(name, value)),
        Some(Value::Array(list)) => list.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

fn resource(name: &str, mut members: Map<String, Value>) -> Value {
    members.insert("resourceType".to_owned(), Value::String(name.to_owned()));
    Value::Object(members)
}

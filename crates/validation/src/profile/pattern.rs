//! Fixed values and patterns, compared with the values of a document.
//!
//! Compares trees, member by member. Numbers are compared by value, because definitions are parsed into plain JSON
//! numbers.

use emberpost_fhir::tree::{Kind, Node};
use rust_decimal::Decimal;
use serde_json::Value;

/// The maximum length of an allowed value that issues quote, in characters.
const SHOWN_LIMIT: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pattern {
    Text(Box<str>),
    Number(Decimal),
    Boolean(bool),
    Object(Vec<(Box<str>, Pattern)>),
    Array(Vec<Pattern>),
}

impl Pattern {
    /// None for null, or for a number that no decimal represents.
    pub fn read(value: &Value) -> Option<Pattern> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(value) => Pattern::Boolean(*value),
            Value::Number(number) => Pattern::Number(decimal(&number.to_string())?),
            Value::String(text) => Pattern::Text(text.as_str().into()),
            Value::Array(items) => Pattern::Array(items.iter().filter_map(Pattern::read).collect()),
            Value::Object(members) => Pattern::Object(
                members
                    .iter()
                    .filter_map(|(name, value)| Some((name.as_str().into(), Pattern::read(value)?)))
                    .collect(),
            ),
        })
    }

    /// Whether the value has at least what the pattern has: each member, and for each item a matching item.
    pub fn is_in(&self, node: Node) -> bool {
        match self {
            Pattern::Object(members) => {
                node.is_object()
                    && members.iter().all(|(name, wanted)| node.get(name).is_some_and(|found| wanted.is_in(found)))
            }
            Pattern::Array(items) => {
                node.is_array() && items.iter().all(|wanted| node.items().any(|found| wanted.is_in(found)))
            }
            scalar => scalar.is_scalar(node),
        }
    }

    /// Whether the value is equal to this one, ignoring the order of members.
    pub fn is(&self, node: Node) -> bool {
        match self {
            Pattern::Object(members) => {
                node.is_object()
                    && node.members().count() == members.len()
                    && members.iter().all(|(name, wanted)| node.get(name).is_some_and(|found| wanted.is(found)))
            }
            Pattern::Array(items) => {
                node.is_array()
                    && node.items().count() == items.len()
                    && items.iter().zip(node.items()).all(|(wanted, found)| wanted.is(found))
            }
            scalar => scalar.is_scalar(node),
        }
    }

    fn is_scalar(&self, node: Node) -> bool {
        match self {
            Pattern::Text(wanted) => match node.span() {
                (bytes, false) => node.kind() == Kind::String && bytes == wanted.as_bytes(),
                _ => node.text().is_some_and(|found| *found == **wanted),
            },
            Pattern::Number(wanted) => node.number().and_then(decimal).is_some_and(|found| found == *wanted),
            Pattern::Boolean(wanted) => node.boolean() == Some(*wanted),
            Pattern::Object(_) | Pattern::Array(_) => false,
        }
    }

    /// The wanted value as issues show it: part of the definition, shortened.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        self.show(&mut text);
        match text.char_indices().nth(SHOWN_LIMIT) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    fn show(&self, text: &mut String) {
        if text.len() > SHOWN_LIMIT * 4 {
            return;
        }
        match self {
            Pattern::Text(value) => text.push_str(value),
            Pattern::Number(value) => text.push_str(&value.to_string()),
            Pattern::Boolean(value) => text.push_str(&value.to_string()),
            Pattern::Object(members) => {
                for (index, (name, value)) in members.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    text.push_str(name);
                    text.push(' ');
                    value.show(text);
                }
            }
            Pattern::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "; " });
                    item.show(text);
                }
            }
        }
    }
}

/// The value of a JSON number; None beyond 28 digits.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    Decimal::from_str_exact(text).ok().or_else(|| Decimal::from_scientific(text).ok())
}

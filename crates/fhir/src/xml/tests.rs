//! What the reader accepts, notes, and refuses, what the writer writes, and that both are inverse.

mod corpus;
mod formats;
mod fuzz;
mod reading;
mod refusing;
mod writing;

use super::*;
use crate::json as json_reader;
use crate::tree::{Kind, Node};

fn read(text: &str) -> Result<Tree, Vec<Issue>> {
    parse(Bytes::copy_from_slice(text.as_bytes()), None, None)
}

/// A Patient with this content, as JSON.
fn patient(content: &str) -> String {
    let tree = read(&format!("<Patient xmlns=\"http://hl7.org/fhir\">{content}</Patient>")).unwrap();
    String::from_utf8(tree.json().to_vec()).unwrap()
}

/// Rule, expression and position of each issue.
fn found(issues: &[Issue]) -> Vec<(&str, &str, (u32, u32))> {
    issues
        .iter()
        .map(|i| (i.rule.as_deref().unwrap_or(""), i.expression.as_deref().unwrap_or(""), i.position.unwrap_or((0, 0))))
        .collect()
}

/// Whether two values are equal: members in any order, numbers as they are written.
fn is_same(one: Node<'_>, other: Node<'_>) -> bool {
    let same_items =
        |one: Node<'_>, other: Node<'_>| one.items().zip(other.items()).all(|(one, other)| is_same(one, other));
    one.kind() == other.kind()
        && match one.kind() {
            Kind::Null => true,
            Kind::Boolean => one.boolean() == other.boolean(),
            Kind::Number => one.number() == other.number(),
            Kind::String => one.text() == other.text(),
            Kind::Array => one.items().count() == other.items().count() && same_items(one, other),
            Kind::Object => {
                let has = |key: &str, one| other.get(key).is_some_and(|other| is_same(one, other));
                one.members().count() == other.members().count() && one.members().all(|(key, one)| has(&key, one))
            }
        }
}

/// Whether the tree is what the JSON reader produces from its text, node by node.
fn is_as_json_reads(tree: &Tree) -> bool {
    let other = json_reader::parse(tree.json().clone()).expect("the JSON form is JSON");
    let fields = |tree: &Tree| {
        let slots = tree.slots.iter();
        let fields = slots.map(|s| (s.start, s.end, s.key_start, s.key_end, s.next, s.tag, s.kind, s.flags));
        fields.collect::<Vec<_>>()
    };
    fields(tree) == fields(&other)
}

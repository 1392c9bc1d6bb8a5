//! Equality and equivalence of items and collections.

use super::super::collection::Collection;
use super::super::value::{Item, Value};
use emberpost_fhir::schema::{Schema, TypeKind};
use emberpost_fhir::tree::{Kind, Node};
use rust_decimal::Decimal;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Objects with more members are compared by a table of names, so that the time is linear in the number of members.
const MEMBERS_FEW: usize = 16;

/// `=` of two items: None if the result is unknown.
pub(super) fn equal(left: &Item<'_>, right: &Item<'_>, schema: &Schema) -> Option<bool> {
    match (left, right) {
        (Item::Element(element), Item::Value(Value::String(text))) => {
            // The most frequent comparison: a code with a literal. Neither is decoded.
            match element.value {
                Some(node) => match node.plain() {
                    Some(bytes) => Some(bytes == text.as_bytes()),
                    None => Some(node.text().is_some_and(|found| *found == **text)),
                },
                None => None,
            }
        }
        (Item::Value(Value::String(_)), Item::Element(_)) => equal(right, left, schema),
        (Item::Element(mine), Item::Element(theirs)) => {
            let (Some(left_node), Some(right_node)) = (mine.value, theirs.value) else { return None };
            if left_node == right_node {
                return Some(true);
            }
            if left_node.plain().is_some_and(|mine| right_node.plain() == Some(mine)) {
                return Some(true);
            }
            match (left.value(schema), right.value(schema)) {
                (Some(left), Some(right)) => values_equal(&left, &right),
                (None, None) => Some(nodes_equal(left_node, right_node)),
                _ => Some(false),
            }
        }
        _ => match (left.value(schema), right.value(schema)) {
            (Some(left), Some(right)) => values_equal(&left, &right),
            _ if left.is_valueless(schema) || right.is_valueless(schema) => None,
            _ => Some(false),
        },
    }
}

fn values_equal(left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
    match (left, right) {
        (Value::Boolean(left), Value::Boolean(right)) => Some(left == right),
        (Value::String(left), Value::String(right)) => Some(left == right),
        (Value::Date(left) | Value::DateTime(left), Value::Date(right) | Value::DateTime(right))
        | (Value::Time(left), Value::Time(right)) => left.compare(right).map(|order| order == Ordering::Equal),
        (Value::Quantity(left), Value::Quantity(right)) => left.compare(right).map(|order| order == Ordering::Equal),
        (Value::Quantity(_), number) if number.number().is_some() => {
            values_equal(left, &super::super::convert::to_quantity(number)?)
        }
        (number, Value::Quantity(_)) if number.number().is_some() => {
            values_equal(&super::super::convert::to_quantity(number)?, right)
        }
        (Value::Type { .. }, Value::Type { .. }) => Some(left == right),
        _ => match (left.number(), right.number()) {
            (Some(left), Some(right)) => Some(left == right),
            _ => Some(false),
        },
    }
}

/// Equality of two JSON values, ignoring the order of members; numbers by value. The reader limits the depth of the
/// recursion.
fn nodes_equal(left: Node<'_>, right: Node<'_>) -> bool {
    if left.kind() != right.kind() {
        return false;
    }
    match left.kind() {
        Kind::Null => true,
        Kind::Boolean => left.boolean() == right.boolean(),
        Kind::String => left.text() == right.text(),
        Kind::Number => {
            let number = |node: Node<'_>| node.number().and_then(super::super::convert::decimal);
            left.raw() == right.raw() || number(left).is_some_and(|mine| number(right) == Some(mine))
        }
        Kind::Array => {
            left.items().count() == right.items().count()
                && left.items().zip(right.items()).all(|(left, right)| nodes_equal(left, right))
        }
        Kind::Object => {
            if left.members().count() != right.members().count() {
                return false;
            }
            if left.members().nth(MEMBERS_FEW).is_none() {
                let is_same = |name: &str, mine| right.get(name).is_some_and(|theirs| nodes_equal(mine, theirs));
                return left.members().all(|(name, mine)| is_same(&name, mine));
            }
            let named: HashMap<_, _> = right.members().collect();
            left.members().all(|(name, mine)| named.get(&name).is_some_and(|theirs| nodes_equal(mine, *theirs)))
        }
    }
}

/// `=` of collections: of the same length, and equal item by item.
pub(super) fn collections_equal(left: &Collection<'_>, right: &Collection<'_>, schema: &Schema) -> Option<bool> {
    let (left, right) = (left.items(), right.items());
    if left.is_empty() || right.is_empty() {
        return None;
    }
    if left.len() != right.len() {
        return Some(false);
    }
    let mut result = Some(true);
    for (left, right) in left.iter().zip(right) {
        match equal(left, right, schema) {
            Some(false) => return Some(false),
            Some(true) => {}
            None => result = None,
        }
    }
    result
}

/// `~` of two items.
pub(super) fn equivalent(left: &Item<'_>, right: &Item<'_>, schema: &Schema) -> bool {
    match (left.value(schema), right.value(schema)) {
        (Some(left), Some(right)) => values_equivalent(&left, &right),
        (None, None) => match (left, right) {
            (Item::Element(mine), Item::Element(theirs)) => match (mine.value, theirs.value) {
                (Some(left), Some(right)) => nodes_equivalent(left, right),
                (None, None) => !is_complex(left, schema) && !is_complex(right, schema),
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}

fn is_complex(item: &Item<'_>, schema: &Schema) -> bool {
    match item {
        Item::Element(element) => !matches!(element.def(schema).kind, TypeKind::Primitive(_)),
        Item::Value(_) => false,
    }
}

fn values_equivalent(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::String(left), Value::String(right)) => texts_equivalent(left, right),
        (Value::Date(left) | Value::DateTime(left), Value::Date(right) | Value::DateTime(right))
        | (Value::Time(left), Value::Time(right)) => {
            left.precision == right.precision && left.compare(right) == Some(Ordering::Equal)
        }
        (Value::Quantity(left), Value::Quantity(right)) => left.is_equivalent(right),
        _ => match (left.number(), right.number()) {
            (Some(left), Some(right)) => numbers_equivalent(left, right),
            _ => values_equal(left, right) == Some(true),
        },
    }
}

/// Ignores case and the amount of white space between words.
fn texts_equivalent(left: &str, right: &str) -> bool {
    let mut left = left.split_whitespace().map(str::to_lowercase);
    let mut right = right.split_whitespace().map(str::to_lowercase);
    left.by_ref().eq(right.by_ref())
}

/// Compares with the digits of the less precise number.
fn numbers_equivalent(left: Decimal, right: Decimal) -> bool {
    let digits = left.normalize().scale().min(right.normalize().scale());
    left.round_dp(digits) == right.round_dp(digits)
}

fn nodes_equivalent(left: Node<'_>, right: Node<'_>) -> bool {
    match (left.kind(), right.kind()) {
        (Kind::String, Kind::String) => {
            left.text().zip(right.text()).is_some_and(|(left, right)| texts_equivalent(&left, &right))
        }
        (Kind::Object, Kind::Object) => {
            left.members().count() == right.members().count()
                && left
                    .members()
                    .all(|(name, mine)| right.get(&name).is_some_and(|theirs| nodes_equivalent(mine, theirs)))
        }
        (Kind::Array, Kind::Array) => {
            let count = right.items().count();
            left.items().count() == count
                && left.items().all(|mine| right.items().any(|theirs| nodes_equivalent(mine, theirs)))
        }
        _ => nodes_equal(left, right),
    }
}

/// `~` of collections: of the same length, and each item equivalent to one of the other, in any order.
pub(super) fn collections_equivalent(left: &Collection<'_>, right: &Collection<'_>, schema: &Schema) -> bool {
    let (left, right) = (left.items(), right.items());
    if left.len() != right.len() {
        return false;
    }
    let mut taken = vec![false; right.len()];
    left.iter().all(|mine| {
        let partner = (0..right.len()).find(|&at| !taken[at] && equivalent(mine, &right[at], schema));
        partner.inspect(|&at| taken[at] = true).is_some()
    })
}

//! Evaluates constraints without the engine where the members of the object are enough. Expressions are compiled
//! once into a small tree over the bits of the elements that the walk saw.
//!
//! Parts of an expression that are not understood become leaves of unknown value, so a result that does not depend
//! on them is exact. Most constraints begin with `x.empty() or` or `x.exists() implies`, and most objects have no
//! such x.

mod read;

use emberpost_fhir::schema::{Schema, TypeDef};
use emberpost_fhir::tree::{Kind, Node};

/// An expression, as far as it is understood.
#[derive(Debug, PartialEq)]
pub(super) enum Shortcut {
    /// Any of these elements is present.
    Any(u128),
    /// A path from one of these elements: its result if none of them is present; unknown otherwise.
    From(u128, bool),
    /// The text of a member is one of these; unknown if the member is absent.
    Text(Box<str>, Vec<Box<str>>),
    /// The text of a member contains this part.
    Contains(Box<str>, Box<str>),
    /// The number of a member is 0 or more.
    NotNegative(Box<str>),
    /// Unknown.
    Open,
    Not(Box<Shortcut>),
    And(Box<Shortcut>, Box<Shortcut>),
    Or(Box<Shortcut>, Box<Shortcut>),
    Xor(Box<Shortcut>, Box<Shortcut>),
}

/// The bit of an element's position. A test asserts that no type of any version has more elements than bits.
pub(super) fn bit(index: u32) -> u128 {
    1u128.checked_shl(index).unwrap_or(0)
}

impl Shortcut {
    /// `of`: the type on which the expression is evaluated.
    pub fn compile(expression: &str, of: &TypeDef, schema: &Schema) -> Shortcut {
        read::read(expression, of, schema)
    }

    /// The value of the expression, if it is known. `present` has a bit for each element, by its position in the
    /// type; `node` is the object.
    pub fn evaluate(&self, present: u128, node: Node<'_>) -> Option<bool> {
        match self {
            Shortcut::Any(bits) => Some(present & bits != 0),
            Shortcut::From(bits, if_absent) => (present & bits == 0).then_some(*if_absent),
            Shortcut::Text(name, texts) => {
                text(node, name).map(|found| texts.iter().any(|text| text.as_bytes() == found))
            }
            Shortcut::Contains(name, part) => {
                text(node, name).map(|found| memchr::memmem::find(found, part.as_bytes()).is_some())
            }
            Shortcut::NotNegative(name) => is_not_negative(node, name),
            Shortcut::Open => None,
            Shortcut::Not(inner) => inner.evaluate(present, node).map(|said| !said),
            Shortcut::And(left, right) => joined(false, [left, right], present, node),
            Shortcut::Or(left, right) => joined(true, [left, right], present, node),
            Shortcut::Xor(left, right) => Some(left.evaluate(present, node)? != right.evaluate(present, node)?),
        }
    }
}

/// `and` and `or`: if one side has the value `decisive`, the other side does not matter.
fn joined(decisive: bool, [left, right]: [&Shortcut; 2], present: u128, node: Node<'_>) -> Option<bool> {
    let left = left.evaluate(present, node);
    if left == Some(decisive) {
        return left;
    }
    let right = right.evaluate(present, node);
    if right == Some(decisive) { right } else { left.and(right) }
}

fn text<'t>(node: Node<'t>, name: &str) -> Option<&'t [u8]> {
    node.get(name)?.plain().filter(|text| !text.is_empty())
}

/// By its sign; -0 is left to the engine.
fn is_not_negative(node: Node<'_>, name: &str) -> Option<bool> {
    let number = node.get(name).filter(|member| member.kind() == Kind::Number)?.number()?;
    (!number.starts_with('-')).then_some(true)
}

#[cfg(test)]
mod tests;

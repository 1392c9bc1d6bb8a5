//! Answers to constraints without the engine, where what stands in an object is enough: expressions are read once into a
//! small tree over the bits of the elements that the walk met.
//!
//! What the tree does not know of an expression is a leaf that may be anything, so an answer that does not hang on such a
//! leaf is exact, whatever it says. Most constraints begin `x.empty() or` or `x.exists() implies`, and most objects have no
//! such x.

mod read;

use emberpost_fhir::schema::{Schema, TypeDef};
use emberpost_fhir::tree::{Kind, Node};

/// An expression as far as it is known here.
#[derive(Debug, PartialEq)]
pub(super) enum Shortcut {
    /// Any of these elements is there.
    Any(u128),
    /// A path from one of these elements: what it comes to where that is not there, else not known here.
    From(u128, bool),
    /// The text of a member is one of these; not known here where it is not there.
    Text(Box<str>, Vec<Box<str>>),
    /// The text of a member has this part.
    Contains(Box<str>, Box<str>),
    /// The number of a member is 0 or more.
    NotNegative(Box<str>),
    /// Not known here.
    Open,
    Not(Box<Shortcut>),
    And(Box<Shortcut>, Box<Shortcut>),
    Or(Box<Shortcut>, Box<Shortcut>),
    Xor(Box<Shortcut>, Box<Shortcut>),
}

impl Shortcut {
    /// `of`: the type that the expression is asked of.
    pub fn compile(expression: &str, of: &TypeDef, schema: &Schema) -> Shortcut {
        read::read(expression, of, schema)
    }

    /// What the expression comes to, where that is known. `present` has a bit for each element, by its position in the
    /// type; `node` is the object.
    pub fn says(&self, present: u128, node: Node<'_>) -> Option<bool> {
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
            Shortcut::Not(inner) => inner.says(present, node).map(|said| !said),
            Shortcut::And(left, right) => joined(false, [left, right], present, node),
            Shortcut::Or(left, right) => joined(true, [left, right], present, node),
            Shortcut::Xor(left, right) => Some(left.says(present, node)? != right.says(present, node)?),
        }
    }
}

/// `and` and `or`: one side that is `decisive` decides, whatever the other is.
fn joined(decisive: bool, [left, right]: [&Shortcut; 2], present: u128, node: Node<'_>) -> Option<bool> {
    let left = left.says(present, node);
    if left == Some(decisive) {
        return left;
    }
    let right = right.says(present, node);
    if right == Some(decisive) { right } else { left.and(right) }
}

fn text<'t>(node: Node<'t>, name: &str) -> Option<&'t [u8]> {
    node.get(name)?.plain().filter(|text| !text.is_empty())
}

/// By its sign: what is written as -0 is left to the engine.
fn is_not_negative(node: Node<'_>, name: &str) -> Option<bool> {
    let number = node.get(name).filter(|member| member.kind() == Kind::Number)?.number()?;
    (!number.starts_with('-')).then_some(true)
}

#[cfg(test)]
mod tests;

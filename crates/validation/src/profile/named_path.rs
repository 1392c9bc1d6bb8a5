//! The path to the current element, as a linked list on the stack: the FHIRPath expression is only made when an
//! issue needs it.

use std::fmt::{Display, Formatter, Result};

/// One element and its parent.
#[derive(Clone, Copy)]
pub(super) struct NamedPath<'p> {
    pub parent: Option<&'p NamedPath<'p>>,
    pub name: &'p str,
    /// The type of a choice, as FHIRPath names it.
    pub of_type: Option<&'p str>,
    /// None if the element does not repeat.
    pub index: Option<u32>,
}

impl<'p> NamedPath<'p> {
    pub fn root(name: &'p str) -> NamedPath<'p> {
        NamedPath { parent: None, name, of_type: None, index: None }
    }

    /// The path to a member.
    pub fn member<'q>(&'q self, name: &'q str, index: Option<u32>) -> NamedPath<'q> {
        NamedPath { parent: Some(self), name, of_type: None, index }
    }
}

impl Display for NamedPath<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // The reader limits the depth of documents, and with it this recursion.
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        f.write_str(self.name)?;
        if let Some(of_type) = self.of_type {
            write!(f, ".ofType({of_type})")?;
        }
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

//! Where the walk stands, as a list on the stack: no text is made until an issue needs the FHIRPath expression.

use std::fmt::{Display, Formatter, Result};

/// One element and what holds it.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub parent: Option<&'p Place<'p>>,
    pub name: &'p str,
    /// Of a choice the type, as FHIRPath calls it.
    pub of_type: Option<&'p str>,
    /// None: it does not repeat.
    pub index: Option<u32>,
}

impl<'p> Place<'p> {
    pub fn root(name: &'p str) -> Place<'p> {
        Place { parent: None, name, of_type: None, index: None }
    }

    /// A member of what stands here.
    pub fn member<'q>(&'q self, name: &'q str, index: Option<u32>) -> Place<'q> {
        Place { parent: Some(self), name, of_type: None, index }
    }
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // At most as deep as the reader lets documents be nested.
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

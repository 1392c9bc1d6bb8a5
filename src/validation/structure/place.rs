//! Where the walk stands, as a list on the stack: nothing is made until an issue needs the FHIRPath expression.

use crate::fhir::schema::{ElementDef, Schema, TypeId};
use std::fmt::{Display, Formatter, Result, Write};

/// No index: the element does not repeat.
pub(super) const SINGLE: u32 = u32::MAX;

/// One element and what holds it.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub parent: Option<&'p Place<'p>>,
    pub step: Step<'p>,
    /// What the element is; of a resource its actual type. None: unknown.
    pub type_id: Option<TypeId>,
    pub schema: &'static Schema,
}

#[derive(Clone, Copy)]
pub(super) enum Step<'p> {
    /// The name of the root's type.
    Root(&'p str),
    /// An element of a type, the position of its type among those of a choice, its index or `SINGLE`.
    Element { def: &'static ElementDef, choice: u16, index: u32 },
}

impl<'p> Place<'p> {
    pub fn root(schema: &'static Schema, name: &'p str, type_id: Option<TypeId>) -> Place<'p> {
        Place { parent: None, step: Step::Root(name), type_id, schema }
    }

    /// An element of what stands here.
    pub fn element<'q>(&'q self, def: &'static ElementDef, choice: u16, index: u32) -> Place<'q> {
        let type_id = def.types.get(usize::from(choice)).map(|of_type| of_type.type_id);
        Place { parent: Some(self), step: Step::Element { def, choice, index }, type_id, schema: self.schema }
    }

    /// The element's name; of the root none.
    pub fn name(&self) -> Option<&'static str> {
        match self.step {
            Step::Root(_) => None,
            Step::Element { def, .. } => Some(&def.name),
        }
    }
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // At most as deep as the reader lets documents be nested.
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        match self.step {
            Step::Root(name) => f.write_str(name),
            Step::Element { def, choice, index } => {
                f.write_str(&def.name)?;
                if let (true, Some(of_type)) = (def.is_choice, def.types.get(usize::from(choice))) {
                    write!(f, ".ofType({})", self.schema.def(of_type.type_id).code)?;
                }
                match index {
                    SINGLE => Ok(()),
                    index => {
                        f.write_char('[')?;
                        write!(f, "{index}]")
                    }
                }
            }
        }
    }
}

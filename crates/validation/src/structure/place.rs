//! Where the walk stands, as a list on the stack: nothing is made until an issue needs the FHIRPath expression.

use super::member::MemberPlan;
use emberpost_fhir::schema::{Schema, TypeId};
use std::fmt::Write;

/// No index: the element does not repeat.
pub(super) const SINGLE: u32 = u32::MAX;

/// One element and what holds it.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub parent: Option<&'p Place<'p>>,
    /// None: the root.
    pub member: Option<&'static MemberPlan>,
    /// Among the values of an element that repeats, or `SINGLE`.
    pub index: u32,
    /// What the element is; of a resource its actual type. None: unknown.
    pub type_id: Option<TypeId>,
}

impl<'p> Place<'p> {
    pub fn root(type_id: Option<TypeId>) -> Place<'p> {
        Place { parent: None, member: None, index: SINGLE, type_id }
    }

    /// An element of what stands here.
    #[inline]
    pub fn element<'q>(&'q self, member: &'static MemberPlan, index: u32) -> Place<'q> {
        Place { parent: Some(self), member: Some(member), index, type_id: Some(member.type_id) }
    }

    /// The element's name; of the root none.
    pub fn name(&self) -> Option<&'static str> {
        self.member.map(|member| &*member.def.name)
    }

    /// The FHIRPath expression.
    pub fn path(&self, schema: &Schema) -> String {
        let mut path = String::new();
        self.write(schema, &mut path);
        path
    }

    fn write(&self, schema: &Schema, path: &mut String) {
        // At most as deep as the reader lets documents be nested.
        if let Some(parent) = self.parent {
            parent.write(schema, path);
            path.push('.');
        }
        match self.member {
            None => path.push_str(self.type_id.map_or("Resource", |id| &schema.def(id).name)),
            Some(member) => {
                path.push_str(&member.def.name);
                if member.is_choice {
                    let _ = write!(path, ".ofType({})", schema.def(member.type_id).code);
                }
                if self.index != SINGLE {
                    let _ = write!(path, "[{}]", self.index);
                }
            }
        }
    }
}

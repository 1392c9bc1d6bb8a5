//! The path to the current element, as a linked list on the stack: the FHIRPath expression is only made when an
//! issue needs it.

use super::member::MemberPlan;
use crate::expressions::{push_index, push_type};
use emberpost_fhir::schema::{Schema, TypeId};

/// The index of an element that does not repeat.
pub(super) const SINGLE: u32 = u32::MAX;

/// Nearly all expressions are shorter, and so are allocated once.
const EXPRESSION_BYTES: usize = 96;

/// One element and its parent.
#[derive(Clone, Copy)]
pub(super) struct ElementPath<'p> {
    pub parent: Option<&'p ElementPath<'p>>,
    /// None: the root.
    pub member: Option<&'static MemberPlan>,
    /// The position among the values of a repeating element, or `SINGLE`.
    pub index: u32,
    /// The type of the element, for a resource its actual type. None: unknown.
    pub type_id: Option<TypeId>,
}

impl<'p> ElementPath<'p> {
    pub fn root(type_id: Option<TypeId>) -> ElementPath<'p> {
        ElementPath { parent: None, member: None, index: SINGLE, type_id }
    }

    /// The path to a child element.
    #[inline]
    pub fn element<'q>(&'q self, member: &'static MemberPlan, index: u32) -> ElementPath<'q> {
        ElementPath { parent: Some(self), member: Some(member), index, type_id: Some(member.type_id) }
    }

    /// The element's name; None for the root.
    pub fn name(&self) -> Option<&'static str> {
        self.member.map(|member| &*member.def.name)
    }

    /// The FHIRPath expression.
    pub fn expression(&self, schema: &Schema) -> String {
        let mut path = String::with_capacity(EXPRESSION_BYTES);
        self.write(schema, &mut path);
        path
    }

    fn write(&self, schema: &Schema, path: &mut String) {
        // The reader limits the depth of documents, and with it this recursion.
        if let Some(parent) = self.parent {
            parent.write(schema, path);
            path.push('.');
        }
        match self.member {
            None => path.push_str(self.type_id.map_or("Resource", |id| &schema.def(id).name)),
            Some(member) => {
                path.push_str(&member.def.name);
                if member.is_choice {
                    push_type(path, &schema.def(member.type_id).code);
                }
                if self.index != SINGLE {
                    push_index(path, self.index);
                }
            }
        }
    }
}

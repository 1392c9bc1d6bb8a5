//! The members of an object in the order of XML, each beside its `_` sibling.

use super::super::super::schema::TypeDef;
use super::super::super::tree::{Kind, Node};
use super::{Refused, Writer, refuse_member};

#[derive(Clone, Copy)]
pub(super) struct Member<'t> {
    /// Position in `TypeDef::elements`.
    pub element: u16,
    /// Position in `ElementDef::types`.
    pub of_type: u16,
    pub value: Option<Node<'t>>,
    pub extra: Option<Node<'t>>,
}

impl<'t> Writer<'t, '_> {
    /// Appends the members of an object to `members`. Refuses members that the type does not define.
    pub(super) fn gather(&mut self, node: Node<'t>, def: &TypeDef, is_resource: bool) -> Result<(), Refused<'t>> {
        let from = self.members.len();
        for (key, child) in node.members() {
            if is_resource && key == "resourceType" {
                continue;
            }
            let (name, is_extra) = match key.strip_prefix('_') {
                Some(name) => (name, true),
                None => (&*key, false),
            };
            let Some((element, of_type)) = self.schema.member_index(def, name) else {
                return refuse_member(
                    child,
                    "The definitions do not define a member with this name, so it cannot be written as XML",
                );
            };
            if child.kind() == Kind::Null {
                return refuse_member(child, "null is only allowed in an array; leave the property out");
            }
            if is_extra && !self.is_primitive(def, element, of_type) {
                return refuse_member(child, "A value that is not a primitive has a _ sibling");
            }
            let (value, extra) = if is_extra { (None, Some(child)) } else { (Some(child), None) };
            self.members.push(Member { element, of_type, value, extra });
        }
        let order = |member: &Member<'_>| (member.element, member.of_type);
        self.members[from..].sort_by_key(order);
        // A name and its sibling are neighbors now: a name occurs only once in an object.
        let mut kept = from;
        for at in from..self.members.len() {
            let member = self.members[at];
            let before = self.members[from..kept].last_mut().filter(|before| order(before) == order(&member));
            match before {
                Some(before) => {
                    before.value = before.value.or(member.value);
                    before.extra = before.extra.or(member.extra);
                }
                None => {
                    self.members[kept] = member;
                    kept += 1;
                }
            }
        }
        self.members.truncate(kept);
        Ok(())
    }

    fn is_primitive(&self, def: &TypeDef, element: u16, of_type: u16) -> bool {
        let element = def.elements.get(usize::from(element));
        let of_type = element.and_then(|element| element.types.get(usize::from(of_type)));
        of_type.is_some_and(|of_type| matches!(self.schema.def(of_type.type_id).kind, super::TypeKind::Primitive(_)))
    }
}

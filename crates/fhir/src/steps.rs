//! Iterates over the children of an element without collecting them: the most frequent operation of FHIRPath.
//!
//! Relies on the look-ups of the schema; skips what the schema does not define, as `element` does.

use super::element::Element;
use super::schema::{Schema, TypeDef, TypeId, TypeKind};
use super::tree::{Children, KEY_ESCAPED, Kind, Node};

/// What a type defines for the values of a member.
#[derive(Clone, Copy)]
struct Shape {
    type_id: TypeId,
    is_primitive: bool,
    is_resource: bool,
}

impl Shape {
    fn of(schema: &Schema, type_id: TypeId) -> Shape {
        let kind = schema.def(type_id).kind;
        Shape { type_id, is_primitive: matches!(kind, TypeKind::Primitive(_)), is_resource: kind == TypeKind::Resource }
    }

    fn element<'t>(self, schema: &Schema, value: Option<Node<'t>>, extra: Option<Node<'t>>) -> Option<Element<'t>> {
        let value = value.filter(|node| match node.kind() {
            Kind::Null | Kind::Array => false,
            Kind::Object => !self.is_primitive,
            _ => self.is_primitive,
        });
        let extra = extra.filter(|node| node.is_object());
        let node = value.or(extra)?;
        match self.is_resource {
            true => Element::resource(node, schema),
            false => Some(Element { value, extra, type_id: self.type_id }),
        }
    }
}

/// The children with one FHIRPath name, in document order.
pub struct Steps<'t> {
    schema: &'static Schema,
    /// The number of members that were read to find them.
    pub passed: u32,
    state: State<'t>,
}

enum State<'t> {
    One(Option<Element<'t>>),
    Items {
        values: Option<Children<'t>>,
        extras: Option<Children<'t>>,
        shape: Shape,
    },
    /// Members of the parent of a choice that were not read yet.
    Choice {
        members: Children<'t>,
        holder: Node<'t>,
        def: &'static TypeDef,
        element: u16,
    },
}

impl<'t> Element<'t> {
    /// The object whose members are this element's children: `id` and `extension` of a primitive are in its `_x`.
    fn holder(self, def: &TypeDef) -> Option<Node<'t>> {
        if matches!(def.kind, TypeKind::Primitive(_)) { self.extra } else { self.value }
    }

    /// The children with this FHIRPath name: `value` includes `valueQuantity` and the others.
    pub fn step(self, schema: &'static Schema, name: &str) -> Steps<'t> {
        let def = schema.def(self.type_id);
        let Some(holder) = self.holder(def) else { return Steps { schema, passed: 0, state: State::One(None) } };
        let alike = alike(holder, name.as_bytes());
        let passed = alike.passed;
        // Most queries find nothing, which needs no look-up.
        let found = if alike.any { step_state(schema, (def, holder), name, alike) } else { None };
        Steps { schema, passed, state: found.unwrap_or(State::One(None)) }
    }
    /// Calls `visit` with every child, in document order.
    pub fn each_child(self, schema: &'static Schema, mut visit: impl FnMut(Element<'t>)) {
        let def = schema.def(self.type_id);
        let Some(holder) = self.holder(def) else { return };
        let has_extras = holder.members_of().any(|member| {
            let (key, flags) = member.key_bytes();
            key.first() == Some(&b'_') || flags & KEY_ESCAPED != 0
        });
        for member in holder.members_of() {
            let Some(state) = member_state(schema, def, holder, member, None, has_extras) else { continue };
            match state {
                State::One(found) => found.into_iter().for_each(&mut visit),
                state => Steps { schema, passed: 0, state }.for_each(&mut visit),
            }
        }
    }
}

fn step_state<'t>(
    schema: &'static Schema,
    (def, holder): (&'static TypeDef, Node<'t>),
    name: &str,
    alike: Alike<'t>,
) -> Option<State<'t>> {
    let index = schema.element_index(def, name)?;
    let element = def.elements.get(usize::from(index))?;
    if element.is_choice {
        return Some(State::Choice { members: holder.members_of(), holder, def, element: index });
    }
    let shape = Shape::of(schema, element.types.first()?.type_id);
    let extra = if shape.is_primitive { alike.extra } else { None };
    Some(state(schema, shape, alike.value, extra))
}

fn state<'t>(schema: &Schema, shape: Shape, value: Option<Node<'t>>, extra: Option<Node<'t>>) -> State<'t> {
    if value.is_some_and(Node::is_array) || extra.is_some_and(Node::is_array) {
        let items = |node: Option<Node<'t>>| node.filter(|node| node.is_array()).map(Node::children);
        return State::Items { values: items(value), extras: items(extra), shape };
    }
    State::One(shape.element(schema, value, extra))
}

/// The members of an object with one name.
#[derive(Default)]
struct Alike<'t> {
    value: Option<Node<'t>>,
    /// The member named with `_`.
    extra: Option<Node<'t>>,
    /// Whether a member's name begins with the name, with or without `_`, as those of a choice do.
    any: bool,
    /// The number of members.
    passed: u32,
}

/// Reads each member once.
fn alike<'t>(holder: Node<'t>, name: &[u8]) -> Alike<'t> {
    let mut found = Alike::default();
    let first = name.first();
    for member in holder.members_of() {
        found.passed += 1;
        let (key, flags) = member.key_bytes();
        if flags & KEY_ESCAPED != 0 {
            escaped(&mut found, member, name);
            continue;
        }
        let (rest, is_extra) = match key {
            [b'_', rest @ ..] => (rest, true),
            _ => (key, false),
        };
        if rest.first() != first || !rest.starts_with(name) {
            continue;
        }
        found.any = true;
        if rest.len() == name.len() {
            let place = if is_extra { &mut found.extra } else { &mut found.value };
            *place = place.or(Some(member));
        }
    }
    found
}

#[cold]
fn escaped<'t>(found: &mut Alike<'t>, member: Node<'t>, name: &[u8]) {
    let key = member.key().unwrap_or_default();
    let (rest, place) = match key.strip_prefix('_') {
        Some(rest) => (rest, &mut found.extra),
        None => (&*key, &mut found.value),
    };
    found.any |= rest.as_bytes().starts_with(name);
    if rest.as_bytes() == name {
        *place = place.or(Some(member));
    }
}

/// The values of one member, if the type defines it and it belongs to the wanted element. A `_x` beside `x` is part
/// of `x`; it is only looked up if the parent may have such members.
fn member_state<'t>(
    schema: &'static Schema,
    def: &'static TypeDef,
    holder: Node<'t>,
    member: Node<'t>,
    wanted: Option<u16>,
    has_extras: bool,
) -> Option<State<'t>> {
    let key = member.key()?;
    let (name, is_extra) = match key.strip_prefix('_') {
        Some(name) => (name, true),
        None => (&*key, false),
    };
    let (index, position) = schema.member_index(def, name)?;
    if wanted.is_some_and(|wanted| wanted != index) {
        return None;
    }
    let of_type = def.elements.get(usize::from(index))?.types.get(usize::from(position))?;
    let shape = Shape::of(schema, of_type.type_id);
    if is_extra {
        let alone = shape.is_primitive && holder.get(name).is_none();
        return alone.then(|| state(schema, shape, None, Some(member)));
    }
    let extra = if has_extras && shape.is_primitive { alike(holder, name.as_bytes()).extra } else { None };
    Some(state(schema, shape, Some(member), extra))
}

impl<'t> Iterator for Steps<'t> {
    type Item = Element<'t>;

    fn next(&mut self) -> Option<Element<'t>> {
        match &mut self.state {
            State::One(element) => element.take(),
            State::Items { values, extras, shape } => loop {
                let (value, extra) =
                    (values.as_mut().and_then(Children::next), extras.as_mut().and_then(Children::next));
                if value.is_none() && extra.is_none() {
                    return None;
                }
                if let Some(element) = shape.element(self.schema, value, extra) {
                    return Some(element);
                }
            },
            State::Choice { members, holder, def, element } => {
                let prefix = def.elements.get(usize::from(*element))?.name.as_bytes();
                for member in members {
                    let (key, flags) = member.key_bytes();
                    let key = key.strip_prefix(b"_").unwrap_or(key);
                    if flags & KEY_ESCAPED == 0 && !key.starts_with(prefix) {
                        continue;
                    }
                    let state = member_state(self.schema, def, *holder, member, Some(*element), true);
                    if let Some(State::One(Some(found))) = state {
                        return Some(found);
                    }
                }
                None
            }
        }
    }
}

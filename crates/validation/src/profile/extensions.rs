//! Checks extensions that loaded definitions define, anywhere in a message: their content and their context. The
//! structure check covers those of the base packages; unknown extensions are not checked.

use super::super::structure::is_type;
use super::check::{Checker, STEPS_PER_WORK};
use super::named_path::NamedPath;
use super::resolver::Target;
use super::rules::{Context, ProfileId, ProfileRef};
use super::sink::{Found, Sink};
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::{ElementDef, Schema, TypeKind};
use emberpost_fhir::tree::{Node, Tree};
use std::borrow::Cow;

/// The maximum number of contexts that an issue lists.
const LISTED_LIMIT: usize = 8;

/// An element on the path from the root to an extension.
#[derive(Clone, Copy)]
struct Frame<'t> {
    /// None: the root.
    def: Option<&'static ElementDef>,
    element: Element<'t>,
    index: Option<u32>,
}

/// An extension and where it occurs.
struct Located<'t> {
    frames: Vec<Frame<'t>>,
    target: Target<'t>,
}

impl<'t> Checker<'t> {
    /// Checks every extension of the tree whose definition is loaded, in document order.
    pub(super) fn extensions(&'t self, tree: &'t Tree, sink: &mut Sink) {
        if !self.profiles.has_extensions() {
            return;
        }
        for node in (0u32..).take(tree.len()).map(|index| Node { tree, index }) {
            let (key, _) = node.key_span();
            if !matches!(key, b"extension" | b"modifierExtension") {
                continue;
            }
            for item in node.items() {
                let url = item.get("url").and_then(Node::text);
                let Some(ProfileRef::Known(id)) = url.map(|url| self.profiles.find(&url)) else { continue };
                if let Some(located) = self.locate(tree, item) {
                    self.extension(&located, id, sink);
                }
            }
        }
    }

    fn extension(&'t self, located: &Located<'t>, id: ProfileId, sink: &mut Sink) {
        with_frames_path(self.schema, &located.frames, None, &mut |path| {
            self.conform(located.target, id, path, sink);
            let Some(profile) = self.profiles.get(id) else { return };
            let holders = located.frames.split_last().map(|(_, holders)| holders).unwrap_or_default();
            if profile.contexts.is_empty()
                || profile.contexts.iter().any(|one| is_in_context(self.schema, one, holders))
            {
                return;
            }
            let node = located.target.element.node();
            let found = Found { path, child: None, node, rule: Cow::Borrowed("extension"), code: IssueCode::Structure };
            sink.error(found, || {
                let names =
                    profile.contexts.iter().take(LISTED_LIMIT).map(Context::name).collect::<Vec<_>>().join(", ");
                format!("the extension {} is not allowed here; it belongs to {names}", profile.canonical)
            });
        });
    }

    /// The path from the root to a node, by the schema; None if it includes something that the schema does not
    /// define.
    fn locate(&self, tree: &'t Tree, wanted: Node<'t>) -> Option<Located<'t>> {
        let mut element = Element::root(tree, self.schema)?;
        let mut target = Target::whole(element);
        let mut frames = vec![Frame { def: None, element, index: None }];
        // Each step goes deeper into the document; the reader limits the depth.
        while element.node()?.index != wanted.index {
            let frame = self.toward(element, wanted)?;
            // Long arrays are searched again for each extension in them, so this counts as work.
            if !self.spend(u64::from(frame.index.unwrap_or(0)) / STEPS_PER_WORK) {
                return None;
            }
            element = frame.element;
            if element.is_resource(self.schema) {
                let is_contained = frame.def.is_some_and(|def| *def.name == *"contained");
                let root = if is_contained { target.root } else { element };
                target = Target { element, resource: element, root };
            }
            frames.push(frame);
        }
        Some(Located { frames, target: Target { element, ..target } })
    }

    /// The child that contains the wanted node.
    fn toward(&self, element: Element<'t>, wanted: Node<'t>) -> Option<Frame<'t>> {
        let def = element.def(self.schema);
        let is_primitive = matches!(def.kind, TypeKind::Primitive(_));
        let holder = if is_primitive { element.extra } else { element.value };
        let document = |node: &Node| (node.index..node.after()).contains(&wanted.index);
        let member = holder?.children().find(document)?;
        let key = member.key()?;
        let (child, of_type) = self.schema.member(def, key.strip_prefix('_').unwrap_or(&key))?;
        let (index, node) = match member.is_array() {
            true => (0u32..).zip(member.items()).find(|(_, item)| document(item)).map(|(at, item)| (Some(at), item))?,
            false => (None, member),
        };
        let element = match (self.schema.def(of_type.type_id).kind, key.starts_with('_')) {
            (TypeKind::Resource, _) => Element::resource(node, self.schema)?,
            (_, true) => Element { value: None, extra: Some(node), type_id: of_type.type_id },
            (_, false) => Element { value: Some(node), extra: None, type_id: of_type.type_id },
        };
        Some(Frame { def: Some(child), element, index })
    }
}

/// Calls `act` with the path of the last frame. The depth of the document limits the recursion.
fn with_frames_path(schema: &Schema, frames: &[Frame], parent: Option<&NamedPath>, act: &mut dyn FnMut(&NamedPath)) {
    let Some((first, rest)) = frames.split_first() else { return parent.into_iter().for_each(act) };
    let of = first.element.def(schema);
    let name = first.def.map_or(&*of.name, |def| &def.name);
    let of_type = first.def.filter(|def| def.is_choice).map(|_| &*of.code);
    with_frames_path(schema, rest, Some(&NamedPath { parent, name, of_type, index: first.index }), act);
}

/// Whether the element that contains the extension, the last frame, matches this context. Expressions are not
/// evaluated.
fn is_in_context(schema: &Schema, context: &Context, holders: &[Frame]) -> bool {
    let Some(holder) = holders.last() else { return true };
    match context {
        Context::Element(path) => is_element(schema, path, holders),
        Context::Extension(url) => {
            let node = holder.element.value;
            node.and_then(|node| node.get("url")?.text()).as_deref() == Some(url)
        }
        Context::Expression => true,
    }
}

/// Matches `Patient.birthDate`, `HumanName`, `Element`, or `DomainResource` against the last steps of the path,
/// below a type.
fn is_element(schema: &Schema, path: &str, holders: &[Frame]) -> bool {
    let (head, steps) = path.split_once('.').map_or((path, None), |(head, steps)| (head, Some(steps)));
    if steps.is_some() && schema.named(head).is_none() {
        return true;
    }
    let count = steps.map_or(0, |steps| steps.split('.').count());
    let Some(top) = holders.len().checked_sub(count + 1) else { return false };
    let below = holders.iter().skip(top + 1);
    let same = |(step, frame): (&str, &Frame)| {
        frame.def.is_some_and(|def| *def.name == *step.strip_suffix("[x]").unwrap_or(step))
    };
    let is_below = steps.into_iter().flat_map(|steps| steps.split('.')).zip(below).all(same);
    is_below && holders.get(top).is_some_and(|frame| is_type(schema, frame.element.type_id, head))
}

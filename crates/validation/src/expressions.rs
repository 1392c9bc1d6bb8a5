//! FHIRPath expressions of nodes: `Bundle.entry[1].resource.value.ofType(Quantity)`. Made at the end of a check,
//! only for the nodes of reported issues.
//!
//! Nodes in document order take one pass over the tree, whatever their number. If a schema is given, choice elements
//! are named as in FHIRPath; names that the schema does not know stay as in JSON.

use emberpost_fhir::schema::{Schema, TypeId, TypeKind};
use emberpost_fhir::tree::{Children, Node, Tree};

/// A container on the path to the current node.
struct Level<'t> {
    node: Node<'t>,
    rest: Children<'t>,
    /// The number of its children that were skipped.
    passed: u32,
    type_id: Option<TypeId>,
    /// The length of the expression up to and including this node.
    length: usize,
    /// Whether the specification defines every name so far.
    is_known: bool,
}

pub(super) struct Expression {
    pub path: String,
    /// Whether the specification defines every name in it; if not, a name may be the sender's own.
    pub is_known: bool,
}

/// Appends a position among repeated elements. Without `write!`, which took half the time of an expression.
pub(super) fn push_index(path: &mut String, index: u32) {
    path.push('[');
    let mut unit = 10_u32.pow(index.checked_ilog10().unwrap_or(0));
    while unit > 0 {
        path.push(char::from(b'0' + (index / unit % 10) as u8));
        unit /= 10;
    }
    path.push(']');
}

/// Appends the type of a choice element.
pub(super) fn push_type(path: &mut String, code: &str) {
    path.push_str(".ofType(");
    path.push_str(code);
    path.push(')');
}

/// Makes expressions for the nodes of one tree.
pub(super) struct Expressions<'t> {
    tree: &'t Tree,
    schema: Option<&'static Schema>,
    levels: Vec<Level<'t>>,
    path: String,
}

impl<'t> Expressions<'t> {
    pub fn new(tree: &'t Tree, schema: Option<&'static Schema>) -> Self {
        Expressions { tree, schema, levels: Vec::new(), path: String::new() }
    }

    fn restart(&mut self) {
        self.levels.clear();
        self.path.clear();
        let root = self.tree.root();
        let type_id = self.resource_type(root);
        let name = root.get("resourceType").and_then(Node::text).filter(|name| is_name(name));
        self.path.push_str(name.as_deref().unwrap_or("$this"));
        let is_known = type_id.is_some() || name.is_none();
        self.push(root, type_id, is_known);
    }

    fn push(&mut self, node: Node<'t>, type_id: Option<TypeId>, is_known: bool) {
        self.levels.push(Level { node, rest: node.children(), passed: 0, type_id, length: self.path.len(), is_known });
    }

    fn resource_type(&self, node: Node<'t>) -> Option<TypeId> {
        self.schema?.resource(&node.get("resourceType")?.text()?)
    }

    /// The expression of a node of the tree. Fastest if nodes are requested in document order.
    pub fn of(&mut self, wanted: Node<'t>) -> Expression {
        if self.levels.last().is_none_or(|level| level.node.index > wanted.index) {
            self.restart();
        }
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| level.node.after() <= wanted.index) {
            self.levels.pop();
        }
        self.path.truncate(self.levels.last().map_or(0, |level| level.length));
        // Each iteration goes one level down; the reader limits the depth.
        while let Some(level) = self.levels.last_mut().filter(|level| level.node.index != wanted.index) {
            let mut found = None;
            let start = level.rest.clone();
            for (number, child) in (level.passed..).zip(start) {
                if child.index <= wanted.index && wanted.index < child.after() {
                    found = Some((number, child));
                    break;
                }
            }
            let Some((number, child)) = found else {
                // Already skipped: the nodes are out of document order.
                if level.passed == 0 {
                    break;
                }
                self.restart();
                continue;
            };
            // The child itself is not skipped: the next node may be within it, too.
            level.rest.skip_to(child);
            level.passed = number;
            self.enter(number, child);
        }
        Expression { path: self.path.clone(), is_known: self.levels.last().is_some_and(|level| level.is_known) }
    }

    fn enter(&mut self, number: u32, child: Node<'t>) {
        let Some(level) = self.levels.last() else { return };
        let is_known = level.is_known;
        let (type_id, is_known) = match level.node.is_array() {
            true => {
                push_index(&mut self.path, number);
                let type_id = match level.type_id.zip(self.schema) {
                    Some((id, schema)) if schema.def(id).kind == TypeKind::Resource => self.resource_type(child),
                    _ => level.type_id,
                };
                (type_id, is_known)
            }
            false => {
                let (type_id, is_known_member) = self.member(child, level.type_id);
                (type_id, is_known && is_known_member)
            }
        };
        self.push(child, type_id, is_known);
    }

    /// Appends the step to a member. Returns the type of its value, and whether the specification defines its name.
    fn member(&mut self, child: Node<'t>, holder: Option<TypeId>) -> (Option<TypeId>, bool) {
        let key = child.key().unwrap_or_default();
        let name = key.strip_prefix('_').unwrap_or(&key);
        self.path.push('.');
        let known =
            self.schema.zip(holder).and_then(|(schema, id)| Some((schema, schema.member(schema.def(id), name)?)));
        let Some((schema, (element, of_type))) = known else {
            self.path.push_str(if is_name(name) { name } else { "?" });
            return (None, false);
        };
        self.path.push_str(&element.name);
        let def = schema.def(of_type.type_id);
        if element.is_choice {
            push_type(&mut self.path, &def.code);
        }
        let type_id = match def.kind == TypeKind::Resource && !child.is_array() {
            true => self.resource_type(child),
            false => Some(of_type.type_id),
        };
        (type_id, true)
    }
}

/// Whether a name can be written into an expression as it is; names of members may be the sender's own.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use emberpost_fhir::json;

    /// Every node of the tree whose JSON pointer is looked up by walking down.
    fn node<'t>(tree: &'t Tree, steps: &[&str]) -> Node<'t> {
        steps.iter().fold(tree.root(), |node, step| match step.parse::<usize>() {
            Ok(index) => node.items().nth(index).expect("an item"),
            Err(_) => node.get(step).expect("a member"),
        })
    }

    #[test]
    fn nodes_are_named_as_fhirpath_names_them_in_any_order() {
        let text = r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Observation","valueQuantity":{"value":1},
            "component":[{"code":{}},{"valueString":"x","_valueString":{"id":"a"}}],"bad name":[1]}}]}"#;
        let tree = json::parse(bytes::Bytes::from_static(text.as_bytes())).expect("JSON");
        let cases: [(&[&str], &str); 7] = [
            (&[], "Bundle"),
            (&["entry", "0", "resource"], "Bundle.entry[0].resource"),
            (&["entry", "0", "resource", "valueQuantity"], "Bundle.entry[0].resource.value.ofType(Quantity)"),
            (&["entry", "0", "resource", "component", "1"], "Bundle.entry[0].resource.component[1]"),
            (
                &["entry", "0", "resource", "component", "1", "valueString"],
                "Bundle.entry[0].resource.component[1].value.ofType(string)",
            ),
            (
                &["entry", "0", "resource", "component", "1", "_valueString", "id"],
                "Bundle.entry[0].resource.component[1].value.ofType(string).id",
            ),
            (&["entry", "0", "resource", "bad name"], "Bundle.entry[0].resource.?"),
        ];
        let schema = Schema::of(emberpost_fhir::FhirVersion::R4);
        let mut expressions = Expressions::new(&tree, Some(schema));
        for (steps, wanted) in cases.iter().chain(cases.iter().rev()) {
            assert_eq!(expressions.of(node(&tree, steps)).path, *wanted);
            assert_eq!(expressions.of(node(&tree, steps)).is_known, !wanted.ends_with('?'));
        }
        let mut plain = Expressions::new(&tree, None);
        assert_eq!(plain.of(node(&tree, cases[2].0)).path, "Bundle.entry[0].resource.valueQuantity");
    }
}

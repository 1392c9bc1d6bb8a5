//! FHIRPath expressions of nodes, made at the end for those that are at fault: `Bundle.entry[1].resource.value.ofType(Quantity)`.
//!
//! Nodes that come in document order are found in one pass over the tree, however many there are. Choices are named as
//! FHIRPath names them where a schema is at hand; what it does not know keeps its name in JSON.

use emberpost_fhir::schema::{Schema, TypeId, TypeKind};
use emberpost_fhir::tree::{Children, Node, Tree};
use std::fmt::Write;

/// A container that is being passed through.
struct Level<'t> {
    node: Node<'t>,
    rest: Children<'t>,
    /// How many children of it were passed.
    passed: u32,
    type_id: Option<TypeId>,
    /// How long the expression is up to and with this node.
    length: usize,
    /// Whether every name so far is the specification's.
    is_known: bool,
}

pub(super) struct Expression {
    pub path: String,
    /// Whether every name in it is the specification's; else one may be the sender's own.
    pub is_known: bool,
}

/// Expressions of one tree's nodes.
pub(super) struct Places<'t> {
    tree: &'t Tree,
    schema: Option<&'static Schema>,
    levels: Vec<Level<'t>>,
    path: String,
}

impl<'t> Places<'t> {
    pub fn new(tree: &'t Tree, schema: Option<&'static Schema>) -> Self {
        let mut places = Places { tree, schema, levels: Vec::new(), path: String::new() };
        places.restart();
        places
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

    /// The expression of a node of the tree; cheapest when nodes are asked for in document order.
    pub fn of(&mut self, wanted: Node<'t>) -> Expression {
        if self.levels.last().is_none_or(|level| level.node.index > wanted.index) {
            self.restart();
        }
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| level.node.after() <= wanted.index) {
            self.levels.pop();
        }
        self.path.truncate(self.levels.last().map_or(0, |level| level.length));
        // Each round goes one level down, and the reader bounds how many there are.
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
                // Passed already: the nodes came out of order.
                if level.passed == 0 {
                    break;
                }
                self.restart();
                continue;
            };
            // The child itself stays ahead: the next node may be in it, too.
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
                let _ = write!(self.path, "[{number}]");
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

    /// Writes the step to a member; the type of what it holds, and whether its name is the specification's.
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
            let _ = write!(self.path, ".ofType({})", def.code);
        }
        let type_id = match def.kind == TypeKind::Resource && !child.is_array() {
            true => self.resource_type(child),
            false => Some(of_type.type_id),
        };
        (type_id, true)
    }
}

/// What may stand in an expression as it is: names of members are the sender's, too.
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
        let mut places = Places::new(&tree, Some(schema));
        for (steps, wanted) in cases.iter().chain(cases.iter().rev()) {
            assert_eq!(places.of(node(&tree, steps)).path, *wanted);
            assert_eq!(places.of(node(&tree, steps)).is_known, !wanted.ends_with('?'));
        }
        let mut plain = Places::new(&tree, None);
        assert_eq!(plain.of(node(&tree, cases[2].0)).path, "Bundle.entry[0].resource.valueQuantity");
    }
}

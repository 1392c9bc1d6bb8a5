//! Merges the element definitions of a profile and its bases into one tree: what a snapshot would contain beyond the
//! base specification.
//!
//! Each StructureDefinition of the chain contributes its differential, or its snapshot if it has none. Members of
//! the most derived profile win; constraints accumulate; cardinalities can only become narrower.

use super::segment::{Segment, segments};
use emberpost_fhir::schema::{ElementDef, Schema, TypeId, TypeKind};
use serde_json::{Map, Value};

/// The maximum number of elements in the draft of one profile.
const ELEMENTS_LIMIT: usize = 50_000;
/// The maximum length of an element's path, in steps.
const PATH_LIMIT_STEPS: usize = 32;

/// The definition of an element, or of one of its slices.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Without `[x]`; for the root, the name of the type.
    pub name: String,
    pub slice: Option<String>,
    /// The types that the base allows; for a type slice, its type.
    pub types: Vec<TypeId>,
    /// None: the root.
    pub base: Option<&'static ElementDef>,
    pub fields: Map<String, Value>,
    pub slices: Vec<Draft>,
    pub children: Vec<Draft>,
}

impl Draft {
    pub fn root(schema: &Schema, type_id: TypeId) -> Draft {
        Draft { name: schema.def(type_id).name.to_string(), types: vec![type_id], ..Draft::default() }
    }

    pub fn child(&self, name: &str) -> Option<&Draft> {
        self.children.iter().find(|child| child.name == name)
    }

    pub fn is_choice(&self) -> bool {
        self.base.is_some_and(|base| base.is_choice)
    }

    /// The member `fixedUri`, `patternCoding`, and so on, with the name of its type.
    pub fn value_rule<'v>(&'v self, kind: &str) -> Option<(&'v str, &'v Value)> {
        let of_kind =
            |name: &'v str| name.strip_prefix(kind).filter(|of| of.starts_with(|c: char| c.is_ascii_uppercase()));
        self.fields.iter().find_map(|(name, value)| Some((of_kind(name)?, value)))
    }

    /// The types of the element as the chain narrows them.
    pub fn narrowed(&self, schema: &Schema) -> Vec<TypeId> {
        let codes = self.fields.get("type").and_then(Value::as_array);
        let named: Vec<TypeId> =
            codes.into_iter().flatten().filter_map(|one| schema.named(one["code"].as_str()?)).collect();
        match named.is_empty() {
            // Elements of backbone elements are only known to the base.
            true => self.types.clone(),
            false if self.types.iter().any(|id| schema.def(*id).kind == TypeKind::Backbone) => self.types.clone(),
            false => named,
        }
    }

    /// Merges the element definitions of one StructureDefinition. Returns errors as sentences, without the file
    /// name; the definitions with errors are skipped.
    pub fn overlay(&mut self, schema: &'static Schema, elements: &[Value]) -> Vec<String> {
        let mut errors = Vec::new();
        let mut context: Vec<Segment> = Vec::new();
        for element in elements.iter().take(ELEMENTS_LIMIT) {
            let Some(path) = element["path"].as_str() else {
                errors.push("an element has no path".to_owned());
                continue;
            };
            let steps = segments(element, path, &context);
            if steps.len() > PATH_LIMIT_STEPS {
                errors.push(format!("{} has more than {PATH_LIMIT_STEPS} steps", shown(path)));
                continue;
            }
            match steps.first() {
                Some(root) if root.name == self.name => {}
                _ => {
                    errors.push(format!("the path {} does not begin with {}", shown(path), self.name));
                    continue;
                }
            }
            match self.reach(schema, steps.get(1..).unwrap_or_default()) {
                Ok(draft) => draft.merge(element),
                Err(Unfit::Unknown) => {
                    errors.push(format!("the path {} is not an element of the base specification", shown(path)))
                }
                Err(Unfit::PrimitiveValue) => {}
            }
            context = steps;
        }
        errors
    }

    /// The node at these steps below this one; created if it is missing.
    fn reach(&mut self, schema: &'static Schema, steps: &[Segment]) -> Result<&mut Draft, Unfit> {
        let mut here = self;
        for step in steps {
            here = here.enter(schema, &step.name)?;
            for slice in step.slices() {
                here = here.sliced(schema, slice);
            }
        }
        Ok(here)
    }

    /// The child with this name; a name such as `valueQuantity` is the slice of that type.
    fn enter(&mut self, schema: &'static Schema, name: &str) -> Result<&mut Draft, Unfit> {
        let types = self.narrowed(schema);
        let plain = name.strip_suffix("[x]").unwrap_or(name);
        let found = types.iter().find_map(|id| schema.def(*id).elements.iter().find(|one| *one.name == *plain));
        if let Some(def) = found {
            return Ok(self.made_child(def));
        }
        if let Some((def, _)) = types.iter().find_map(|id| schema.member(schema.def(*id), plain)) {
            return Ok(self.made_child(def).sliced(schema, plain));
        }
        let is_primitive = |id: &TypeId| matches!(schema.def(*id).kind, TypeKind::Primitive(_));
        match plain == "value" && types.iter().any(is_primitive) {
            true => Err(Unfit::PrimitiveValue),
            false => Err(Unfit::Unknown),
        }
    }

    fn made_child(&mut self, def: &'static ElementDef) -> &mut Draft {
        let at = match self.children.iter().position(|child| child.name == *def.name) {
            Some(at) => at,
            None => {
                let types = def.types.iter().map(|one| one.type_id).collect();
                let name = def.name.to_string();
                self.children.push(Draft { name, types, base: Some(def), ..Draft::default() });
                self.children.len() - 1
            }
        };
        &mut self.children[at]
    }

    fn sliced(&mut self, schema: &Schema, slice: &str) -> &mut Draft {
        let at = match self.slices.iter().position(|one| one.slice.as_deref() == Some(slice)) {
            Some(at) => at,
            None => {
                let of_name = |def: &'static ElementDef| {
                    def.types.iter().find(|one| def.member_name(schema, one) == slice).map(|one| one.type_id)
                };
                let own = self.base.filter(|def| def.is_choice).and_then(of_name);
                let types = own.map_or_else(|| self.types.clone(), |own| vec![own]);
                let (name, slice) = (self.name.clone(), Some(slice.to_owned()));
                self.slices.push(Draft { name, slice, types, base: self.base, ..Draft::default() });
                self.slices.len() - 1
            }
        };
        &mut self.slices[at]
    }

    /// Merges one element definition into this node.
    fn merge(&mut self, element: &Value) {
        for (name, value) in element.as_object().into_iter().flatten() {
            match name.as_str() {
                "min" => self.narrow(name, value, |old, new| new > old),
                "max" => self.narrow(name, value, |old, new| new < old),
                "constraint" => self.constrain(value),
                "type" | "maxLength" | "mustSupport" | "mustHaveValue" | "slicing" | "binding" => {
                    self.fields.insert(name.clone(), value.clone());
                }
                _ if is_value_rule(name) => {
                    self.fields.insert(name.clone(), value.clone());
                }
                _ => {}
            }
        }
    }

    fn narrow(&mut self, name: &str, value: &Value, is_narrower: impl Fn(u64, u64) -> bool) {
        let Some(new) = count(value) else { return };
        if self.fields.get(name).and_then(count).is_none_or(|old| is_narrower(old, new)) {
            self.fields.insert(name.to_owned(), value.clone());
        }
    }

    fn constrain(&mut self, value: &Value) {
        let known = self.fields.entry("constraint").or_insert_with(|| Value::Array(Vec::new()));
        let Some(known) = known.as_array_mut() else { return };
        for one in value.as_array().into_iter().flatten() {
            match known.iter_mut().find(|old| old["key"] == one["key"]) {
                Some(old) => *old = one.clone(),
                None => known.push(one.clone()),
            }
        }
    }
}

/// Why a path does not lead to an element.
enum Unfit {
    Unknown,
    /// `value` of a primitive, for which the profile cannot define anything beyond the base.
    PrimitiveValue,
}

/// `min` or `max` as a number; `*` is the largest number.
pub(super) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) if text == "*" => Some(u64::MAX),
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
}

fn is_value_rule(name: &str) -> bool {
    ["fixed", "pattern", "minValue", "maxValue"].iter().any(|kind| {
        name.strip_prefix(kind).is_some_and(|of_type| of_type.starts_with(|first: char| first.is_ascii_uppercase()))
    })
}

/// A text of a definition, shortened for issues.
pub(super) fn shown(text: &str) -> String {
    let end = text.char_indices().nth(200).map_or(text.len(), |(end, _)| end);
    text[..end].to_owned()
}

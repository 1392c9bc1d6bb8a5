//! Makes types and elements from the snapshots of StructureDefinitions.

use crate::corrections;
use crate::members::{each, extension, is_true, last_segment, maximum, number, text, texts, unversioned};
use crate::place::{Place, gather, has_children, is_type, root, snapshot};
use anyhow::{Context, Result};
use fhir::FhirVersion;
use fhir::schema::{
    Binding, Constraint, ConstraintId, ElementDef, ElementType, Strength, TypeDef, TypeId, TypeKind, ValueSetId,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

const FHIR_TYPE: &str = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type";
const IMPLEMENTS: &str = "http://hl7.org/fhir/StructureDefinition/structuredefinition-implements";
const SYSTEM_TYPES: &str = "http://hl7.org/fhirpath/System.";

/// The tables of a version under construction.
pub struct Maker<'v> {
    pub version: FhirVersion,
    resources: &'v [Value],
    pub types: Vec<TypeDef>,
    pub constraints: Vec<Constraint>,
    /// Urls of the value sets of required bindings, in the order of their ids.
    pub value_sets: Vec<String>,
    ids: BTreeMap<String, TypeId>,
    /// The resources that implement an interface, by its name (R5: CanonicalResource, MetadataResource).
    implementers: HashMap<String, Vec<TypeId>>,
    /// Definitions that the tables cannot represent.
    pub notes: Vec<String>,
}

impl<'v> Maker<'v> {
    pub fn new(version: FhirVersion, resources: &'v [Value]) -> Maker<'v> {
        Maker {
            version,
            resources,
            types: Vec::new(),
            constraints: Vec::new(),
            value_sets: Vec::new(),
            ids: BTreeMap::new(),
            implementers: HashMap::new(),
            notes: Vec::new(),
        }
    }

    /// Makes types and constraints.
    pub fn make_types(&mut self) -> Result<()> {
        let mut places: Vec<Place<'v>> = Vec::new();
        for definition in self.resources.iter().filter(|found| is_type(found)) {
            gather(definition, &mut places)?;
        }
        places.sort_by(|left, right| left.name.cmp(&right.name));
        places.dedup_by(|left, right| left.name == right.name);
        self.ids = (0u16..).zip(&places).map(|(index, place)| (place.name.clone(), TypeId(index))).collect();
        self.find_implementers(&places);
        for place in &places {
            let mut made = TypeDef::new(&place.name, &place.code, place.kind);
            made.is_abstract = place.is_abstract;
            made.base = place.base.as_deref().and_then(|base| self.ids.get(base)).copied();
            made.elements = self.elements(place)?;
            made.constraints = self.constraints_of(root(place)?, &["ele-1"]);
            self.types.push(made);
        }
        self.leave_out_what_types_bring();
        Ok(())
    }

    /// Whether contexts may name it: a type, or an interface of some version.
    pub fn has_type(&self, name: &str) -> bool {
        const KINDS: [&str; 7] =
            ["Element", "Base", "Any", "CanonicalResource", "MetadataResource", "BackboneElement", "Resource"];
        self.ids.contains_key(name) || KINDS.contains(&name)
    }

    fn find_implementers(&mut self, places: &[Place]) {
        for place in places {
            let interface = extension(place.definition, IMPLEMENTS).and_then(|found| text(found, "valueUri"));
            if let (Some(url), TypeKind::Resource) = (interface, place.kind) {
                let id = self.ids[&place.name];
                // A MetadataResource is also a CanonicalResource.
                for name in ["CanonicalResource", "MetadataResource"] {
                    if last_segment(url) == name || name == "CanonicalResource" {
                        self.implementers.entry(name.to_owned()).or_default().push(id);
                    }
                }
            }
        }
    }

    /// Removes constraints that snapshots repeat at an element although its type, or the backbone element it refers
    /// to, has them.
    fn leave_out_what_types_bring(&mut self) {
        let of_types: Vec<Vec<ConstraintId>> = self.types.iter().map(|found| found.constraints.clone()).collect();
        let keys: Vec<Box<str>> = self.constraints.iter().map(|found| found.key.clone()).collect();
        for element in self.types.iter_mut().flat_map(|found| &mut found.elements) {
            let brought: Vec<&str> = element
                .types
                .iter()
                .flat_map(|of_type| &of_types[usize::from(of_type.type_id.0)])
                .map(|id| &*keys[usize::from(id.0)])
                .collect();
            element.constraints.retain(|id| !brought.contains(&&*keys[usize::from(id.0)]));
        }
    }

    fn elements(&mut self, place: &Place<'v>) -> Result<Vec<ElementDef>> {
        let mut made = Vec::new();
        for element in snapshot(place.definition) {
            let path = text(element, "path").context("an element without path")?;
            let Some(name) = path.strip_prefix(&place.path).and_then(|rest| rest.strip_prefix('.')) else { continue };
            let is_left_out = name.contains('.') || element.get("sliceName").is_some();
            let is_value = matches!(place.kind, TypeKind::Primitive(_)) && name == "value";
            if is_left_out || is_value || maximum(element, "max") == Some(0) {
                continue;
            }
            made.push(self.element(place, element, path, name)?);
        }
        Ok(made)
    }

    fn element(&mut self, place: &Place<'v>, element: &'v Value, path: &str, name: &str) -> Result<ElementDef> {
        let has_own_type = has_children(place.definition, path);
        let types = match (text(element, "contentReference"), has_own_type) {
            (Some(reference), _) => vec![self.plain(reference.rsplit('#').next().unwrap_or_default())?],
            (None, true) => vec![self.plain(path)?],
            (None, false) if name == "id" && place.kind == TypeKind::Resource => vec![self.plain("id")?],
            (None, false) if name == "id" => vec![self.plain("string")?],
            (None, false) => self.types_of(element).with_context(|| path.to_owned())?,
        };
        let base_max = element.get("base").and_then(|base| text(base, "max")).or_else(|| text(element, "max"));
        // Constraints of a backbone element are at its type, so that a contentReference to it has them as well.
        let constraints = match has_own_type {
            true => Vec::new(),
            false => self.constraints_of(element, &["ele-1", "ext-1"]),
        };
        Ok(ElementDef {
            name: name.trim_end_matches("[x]").into(),
            is_choice: name.ends_with("[x]"),
            min: u16::try_from(number(element, "min").unwrap_or(0))?,
            max: maximum(element, "max").with_context(|| path.to_owned())?,
            is_array: !matches!(base_max, Some("0" | "1")),
            is_attribute: texts(element, "representation").any(|found| found == "xmlAttr"),
            is_modifier: is_true(element, "isModifier"),
            types,
            binding: self.binding(element),
            constraints,
        })
    }

    fn plain(&self, name: &str) -> Result<ElementType> {
        let type_id = *self.ids.get(name).with_context(|| format!("no type {name}"))?;
        Ok(ElementType { type_id, targets: Vec::new() })
    }

    /// The types of an element by its `type`s.
    pub fn types_of(&mut self, element: &Value) -> Result<Vec<ElementType>> {
        let mut types: Vec<ElementType> = Vec::new();
        for of_type in each(element, "type") {
            let mut made = self.plain(&self.type_name(of_type)?)?;
            made.targets = self.targets(of_type);
            match types.iter_mut().find(|known| known.type_id == made.type_id) {
                // R4 repeats a type for each target.
                Some(known) if !known.targets.is_empty() && !made.targets.is_empty() => {
                    known.targets.extend(made.targets);
                }
                Some(known) => known.targets.clear(),
                None => types.push(made),
            }
        }
        anyhow::ensure!(!types.is_empty(), "an element without type");
        Ok(types)
    }

    fn type_name(&self, of_type: &Value) -> Result<String> {
        let code = text(of_type, "code").context("a type without code")?;
        if code.starts_with(SYSTEM_TYPES) {
            let named = extension(of_type, FHIR_TYPE).context("a System type without FHIR type")?;
            let name = text(named, "valueUrl").or_else(|| text(named, "valueUri"));
            return Ok(name.context("an empty FHIR type")?.to_owned());
        }
        // A profile of a data type that is a type of its own in the tables.
        let profile = texts(of_type, "profile").map(last_segment).find(|name| self.ids.contains_key(*name));
        Ok(profile.unwrap_or(code).to_owned())
    }

    fn targets(&mut self, of_type: &Value) -> Vec<TypeId> {
        let mut targets = Vec::new();
        for url in texts(of_type, "targetProfile") {
            let name = last_segment(url);
            match (self.implementers.get(name), self.ids.get(name)) {
                _ if name == "Resource" || name == "Any" => return Vec::new(),
                (Some(implementers), _) => targets.extend(implementers),
                (None, Some(id)) => targets.push(*id),
                (None, None) => {
                    self.notes.push(format!("target {url} is not a type: any is allowed"));
                    return Vec::new();
                }
            }
        }
        targets.sort();
        targets.dedup();
        targets
    }

    /// The required binding; other bindings are not enforced and are left out.
    pub fn binding(&mut self, element: &Value) -> Option<Binding> {
        let binding = element.get("binding")?;
        if text(binding, "strength") != Some("required") {
            return None;
        }
        let url = unversioned(text(binding, "valueSet").or_else(|| text(binding, "valueSetUri"))?);
        let at = self.value_sets.iter().position(|known| known == url).unwrap_or_else(|| {
            self.value_sets.push(url.to_owned());
            self.value_sets.len() - 1
        });
        Some(Binding { strength: Strength::Required, value_set: ValueSetId(u16::try_from(at).ok()?) })
    }

    /// The constraints of an element except those with the keys `without`.
    pub fn constraints_of(&mut self, element: &Value, without: &[&str]) -> Vec<ConstraintId> {
        let mut ids: Vec<ConstraintId> = Vec::new();
        for constraint in each(element, "constraint") {
            let key = text(constraint, "key").unwrap_or_default();
            if without.contains(&key) {
                continue;
            }
            let Some(published) = text(constraint, "expression") else {
                self.notes.push(format!("{key} has no expression"));
                continue;
            };
            let expression = corrections::corrected(self.version, key, published);
            let id = self.constraint(key, constraint, expression);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    fn constraint(&mut self, key: &str, constraint: &Value, expression: &str) -> ConstraintId {
        let human = text(constraint, "human").unwrap_or_default();
        let is_error = text(constraint, "severity") == Some("error");
        let at = self.constraints.iter().position(|known| {
            *known.key == *key
                && *known.expression == *expression
                && *known.human == *human
                && known.is_error == is_error
        });
        let at = at.unwrap_or_else(|| {
            self.constraints.push(Constraint {
                key: key.into(),
                is_error,
                human: human.into(),
                expression: expression.into(),
            });
            self.constraints.len() - 1
        });
        ConstraintId(u16::try_from(at).unwrap_or(u16::MAX))
    }
}

//! Compiles drafts to rules: keeps what goes beyond the base specification, resolves canonicals, value sets, and
//! discriminators, and parses expressions.

use super::compiler::Compiler;
use super::discriminator;
use super::draft::{Draft, count, shown};
use super::expression::Expression;
use super::library::BASE;
use super::limit::Limit;
use super::pattern::Pattern;
use super::rules::{Aggregation, BindingRule, ConstraintRule, Openness, ProfileRef, Rules, Slice, Slicing, TypeRule};
use crate::definition::canonical::split_canonical;
use emberpost_fhir::schema::{ElementType, Schema, Strength, TypeId};
use serde_json::Value;
use std::sync::Arc;

/// A binding to this value set is always enforced, whatever its strength.
const MAX_VALUE_SET: &str = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet";

/// The maximum depth of profiles whose rules discriminators need.
const DEPTH_LIMIT: usize = 4;

impl Compiler<'_> {
    /// The rules of a draft and everything below it. The draft limits the depth of paths, and with it this
    /// recursion.
    pub fn rules(&mut self, draft: &Draft) -> Rules {
        let (min, max) = cardinality(draft);
        let slices = draft.slices.iter().map(|slice| self.slice(draft, slice)).collect::<Vec<_>>();
        let children = draft.children.iter().map(|child| self.rules(child)).filter(|child| !child.is_empty());
        let children = children.collect();
        Rules {
            name: draft.name.as_str().into(),
            min,
            max,
            types: self.types(draft),
            fixed: draft.value_rule("fixed").and_then(|(_, value)| Pattern::read(value)),
            pattern: draft.value_rule("pattern").and_then(|(_, value)| Pattern::read(value)),
            bindings: self.bindings(draft),
            constraints: self.constraints(draft),
            max_length: draft.fields.get("maxLength").and_then(Value::as_u64).and_then(|most| most.try_into().ok()),
            min_value: draft.value_rule("minValue").and_then(|(_, value)| Limit::read(value)),
            max_value: draft.value_rule("maxValue").and_then(|(_, value)| Limit::read(value)),
            must_support: draft.fields.get("mustSupport").is_some_and(|is| *is == true),
            must_have_value: draft.fields.get("mustHaveValue").is_some_and(|is| *is == true),
            // A slicing without slices only says how slices would be distinguished.
            slicing: slicing(draft).filter(|_| !slices.is_empty()),
            slices,
            children,
        }
    }

    /// The rules of a draft for a discriminator, possibly of another profile; None if profiles lead on too deep.
    pub fn rules_within(&mut self, draft: &Draft) -> Option<Rules> {
        if self.depth >= DEPTH_LIMIT {
            return None;
        }
        self.depth += 1;
        let rules = self.rules(draft);
        self.depth -= 1;
        Some(rules)
    }

    fn slice(&mut self, of: &Draft, slice: &Draft) -> Slice {
        let matchers = discriminator::matchers(self, of, slice);
        Slice { name: slice.slice.as_deref().unwrap_or_default().into(), matchers, rules: self.rules(slice) }
    }

    fn types(&mut self, draft: &Draft) -> Vec<TypeRule> {
        let listed = draft.fields.get("type").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut found = Vec::new();
        for one in listed {
            let code = one["code"].as_str().unwrap_or_default();
            let code = code.strip_prefix(BASE).unwrap_or(code);
            let Some(type_id) = self.schema.named(code) else {
                // FHIRPath types represent the values of ids and urls.
                if !code.starts_with("http://hl7.org/fhirpath/") {
                    self.errors.push(format!("{} has the unknown type {}", draft.name, shown(code)));
                }
                return Vec::new();
            };
            let refs = |name: &str| {
                let canonicals = one[name].as_array().into_iter().flatten().filter_map(Value::as_str);
                canonicals.map(|canonical| self.library.find(canonical)).collect::<Vec<_>>()
            };
            let aggregation = one["aggregation"].as_array().into_iter().flatten().filter_map(aggregation).collect();
            let (profiles, targets) = (refs("profile"), refs("targetProfile"));
            found.push(TypeRule { type_id, profiles, targets, aggregation });
        }
        if is_same_as_base(self.schema, draft, &found) { Vec::new() } else { found }
    }

    pub fn bindings(&mut self, draft: &Draft) -> Vec<BindingRule> {
        let Some(binding) = draft.fields.get("binding") else { return Vec::new() };
        let mut canonicals = Vec::new();
        let value_set = binding["valueSet"].as_str();
        if binding["strength"] == "required"
            && let Some(value_set) = value_set.filter(|value_set| !self.is_base_binding(draft, value_set))
        {
            canonicals.push(value_set);
        }
        let extensions = binding["extension"].as_array().into_iter().flatten();
        canonicals.extend(
            extensions.filter(|one| one["url"] == MAX_VALUE_SET).filter_map(|one| one["valueCanonical"].as_str()),
        );
        // R5: additional bindings. Those limited to some usage contexts are skipped.
        let more = binding["additional"].as_array().into_iter().flatten();
        let holds = |one: &&Value| {
            matches!(one["purpose"].as_str(), Some("maximum" | "required")) && one.get("usage").is_none()
        };
        canonicals.extend(more.filter(holds).filter_map(|one| one["valueSet"].as_str()));
        let find = |canonical: &str| BindingRule {
            value_set: shown(canonical).into(),
            codes: self.value_sets.find(self.catalog, canonical),
        };
        canonicals.into_iter().map(find).collect()
    }

    fn is_base_binding(&self, draft: &Draft, value_set: &str) -> bool {
        draft.base.and_then(|base| base.binding).is_some_and(|binding| {
            binding.strength == Strength::Required
                && *self.schema.value_set(binding.value_set).url == *split_canonical(value_set).0
        })
    }

    fn constraints(&mut self, draft: &Draft) -> Vec<ConstraintRule> {
        let listed = draft.fields.get("constraint").and_then(Value::as_array).cloned().unwrap_or_default();
        listed.iter().filter_map(|one| self.constraint(one)).collect()
    }

    fn constraint(&mut self, one: &Value) -> Option<ConstraintRule> {
        let (key, text) = (one["key"].as_str()?, one["expression"].as_str()?);
        let is_error = one["severity"] != "warning";
        // R5: a profile may suppress warnings of its bases.
        let is_silent = !is_error && one["suppress"] == true;
        if is_silent || self.is_base_constraint(one, key, text) {
            return None;
        }
        let known = self.expressions.entry(text.to_owned()).or_insert_with(|| Expression::parse(text).map(Arc::new));
        match known {
            Ok(expression) => Some(ConstraintRule {
                key: shown(key).into(),
                human: shown(one["human"].as_str().unwrap_or("the constraint is not satisfied")).into(),
                is_error,
                expression: expression.clone(),
            }),
            Err(error) => {
                self.errors.push(format!("the expression of {} cannot be parsed: {error}", shown(key)));
                None
            }
        }
    }

    /// Snapshots repeat the constraints of the base.
    fn is_base_constraint(&self, one: &Value, key: &str, text: &str) -> bool {
        if matches!(key, "ele-1" | "ext-1") || self.base_constraints.contains(&(key, text)) {
            return true;
        }
        let source = one["source"].as_str().and_then(|source| source.strip_prefix(BASE));
        source.is_some_and(|name| self.schema.named(name).is_some())
            && self.base_constraints.iter().any(|(known, _)| *known == key)
    }
}

fn slicing(draft: &Draft) -> Option<Slicing> {
    let Some(slicing) = draft.fields.get("slicing") else {
        return (!draft.slices.is_empty()).then_some(Slicing { openness: Openness::Open, ordered: false });
    };
    let openness = match slicing["rules"].as_str() {
        Some("closed") => Openness::Closed,
        Some("openAtEnd") => Openness::OpenAtEnd,
        _ => Openness::Open,
    };
    Some(Slicing { openness, ordered: slicing["ordered"] == true })
}

/// `min` and `max` where they are narrower than the base; for slices always.
fn cardinality(draft: &Draft) -> (u32, Option<u32>) {
    let min = draft.fields.get("min").and_then(count).map_or(0, |min| u32::try_from(min).unwrap_or(u32::MAX));
    let max = draft.fields.get("max").and_then(count).filter(|max| *max != u64::MAX);
    let max = max.map(|max| u32::try_from(max).unwrap_or(u32::MAX));
    match (draft.base, &draft.slice) {
        (Some(base), None) => {
            let base_max = if base.max == u16::MAX { u32::MAX } else { u32::from(base.max) };
            (if min > u32::from(base.min) { min } else { 0 }, max.filter(|max| *max < base_max))
        }
        (Some(_), Some(_)) => (min, max),
        (None, _) => (0, None),
    }
}

fn aggregation(code: &Value) -> Option<Aggregation> {
    match code.as_str()? {
        "contained" => Some(Aggregation::Contained),
        "bundled" => Some(Aggregation::Bundled),
        "referenced" => Some(Aggregation::Referenced),
        _ => None,
    }
}

/// Whether the types are those of the base, without profiles and with the same targets.
fn is_same_as_base(schema: &Schema, draft: &Draft, listed: &[TypeRule]) -> bool {
    let Some(base) = draft.base else { return true };
    if draft.slice.is_some() && base.is_choice && listed.iter().all(|one| one.profiles.is_empty()) {
        // The slice's name or discriminator determines the type; anything else that is given is targets.
        return listed.iter().all(|one| is_base_rule(schema, &base.types, one));
    }
    let is_backbone = listed.iter().all(|one| matches!(&*schema.def(one.type_id).name, "BackboneElement" | "Element"));
    let all_there = base.types.iter().all(|of| listed.iter().any(|one| is_same_type(schema, of.type_id, one.type_id)));
    (is_backbone || all_there) && listed.iter().all(|one| is_base_rule(schema, &base.types, one))
}

fn is_same_type(schema: &Schema, base: TypeId, one: TypeId) -> bool {
    base == one || schema.def(base).code == schema.def(one).code
}

fn is_base_rule(schema: &Schema, base: &[ElementType], one: &TypeRule) -> bool {
    let of_base = base.iter().find(|of| is_same_type(schema, of.type_id, one.type_id));
    let targets = of_base.map(|of| of.targets.as_slice()).unwrap_or_default();
    let is_any = |id: TypeId| matches!(&*schema.def(id).name, "Resource");
    let same_targets = one.targets.is_empty()
        || one.targets.iter().any(|target| matches!(target, ProfileRef::Base(id) if is_any(*id)))
        || (!targets.is_empty() && targets.iter().all(|id| one.targets.contains(&ProfileRef::Base(*id))));
    // A type of the base is only a rule of the profile where it is narrower than the type itself.
    let is_wide = |profile: &ProfileRef| matches!(profile, ProfileRef::Base(id) if schema.is_a(one.type_id, *id));
    one.profiles.iter().all(is_wide) && same_targets && one.aggregation.is_empty()
}

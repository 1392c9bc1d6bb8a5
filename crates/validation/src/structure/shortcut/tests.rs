//! Compares shortcuts and hand-written rules with the engine, for every constraint of every version.

use super::super::compiled_constraint::{CompiledConstraint, Evaluator};
use super::super::native;
use super::super::plan::{Plan, TypePlan};
use super::bit;
use super::*;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::{ElementDef, Primitive, Schema, TypeDef, TypeKind};
use emberpost_fhir::tree::Tree;
use emberpost_fhir::{FhirVersion, json};
use emberpost_fhirpath::{Expression, Host, Scope};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The number of objects per constraint.
const OBJECTS: usize = 60;

struct Nothing;

impl Host<'_> for Nothing {
    fn now_us(&self) -> i64 {
        0
    }
}

/// Pseudorandom numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn one<'v, T>(&mut self, of: &'v [T]) -> &'v T {
        &of[self.below(of.len())]
    }
}

/// The quoted texts of an expression, and some that it does not have.
fn texts(expression: &str) -> Vec<String> {
    let quoted = expression.split('\'').skip(1).step_by(2).map(str::to_owned);
    quoted.chain(["other", "x/_history/1", "home", "http://unitsofmeasure.org", "3"].map(str::to_owned)).collect()
}

/// A value for an element, valid or not: members that the expression names, with its texts.
fn value(schema: &Schema, element: &ElementDef, expression: &str, dice: &mut Dice, depth: u32) -> (String, Value) {
    let of_type = dice.one(&element.types);
    let def = schema.def(of_type.type_id);
    let value = match def.kind {
        TypeKind::Primitive(Primitive::Boolean) => json!(dice.below(2) == 0),
        TypeKind::Primitive(Primitive::Decimal) => {
            [json!(-1.5), json!(0), json!(-0.0), json!(2)][dice.below(4)].clone()
        }
        TypeKind::Primitive(Primitive::Integer | Primitive::UnsignedInt | Primitive::PositiveInt) => {
            json!(dice.below(3))
        }
        TypeKind::Primitive(_) => json!(dice.one(&texts(expression))),
        TypeKind::Resource => {
            json!({ "resourceType": dice.one(&["Basic", "Composition"]), "meta": { "versionId": "1" } })
        }
        _ => Value::Object(object(schema, def, expression, dice, depth + 1)),
    };
    let value = if element.is_array { (0..=dice.below(2)).map(|_| value.clone()).collect() } else { value };
    (element.member_name(schema, of_type), value)
}

fn object(schema: &Schema, def: &TypeDef, expression: &str, dice: &mut Dice, depth: u32) -> Map<String, Value> {
    let is_named = |element: &&ElementDef| expression.contains(&*element.name);
    let named: Vec<&ElementDef> = def.elements.iter().filter(is_named).collect();
    let mut members = Map::new();
    for element in named.into_iter().filter(|_| depth < 4) {
        if dice.below(2) == 0 {
            let (name, value) = value(schema, element, expression, dice, depth);
            members.insert(name, value);
        }
    }
    if members.is_empty() {
        members.insert("id".into(), json!("x"));
    }
    members
}

/// Bits of the elements that the object has.
fn present(plan: &'static TypePlan, schema: &Schema, tree: &Tree) -> u128 {
    let members = tree.root().members().filter_map(|(name, _)| plan.member(schema, name.as_bytes()));
    members.fold(0, |bits, member| bits | bit(u32::from(member.element)))
}

/// Counts how often a result was known, and how often it was false.
fn compare(
    plan: &'static Plan,
    of: &'static TypePlan,
    compiled: &CompiledConstraint,
    dice: &mut Dice,
) -> (usize, usize) {
    let (schema, expression) = (plan.schema, &*compiled.constraint.expression);
    let read = Expression::parse(expression).expect("read");
    let (mut known, mut noes) = (0, 0);
    for _ in 0..OBJECTS {
        let mut members = object(schema, of.def, expression, dice, 0);
        if of.def.kind == TypeKind::Resource {
            members.insert("resourceType".into(), json!(of.def.name));
        }
        let text = Value::Object(members).to_string();
        let tree = json::parse(text.clone().into()).expect("JSON");
        let said = match &compiled.by {
            Evaluator::Hand(native) => native::evaluate(*native, tree.root(), schema.version),
            Evaluator::Shortcut(shortcut) => shortcut.evaluate(present(of, schema, &tree), tree.root()),
        };
        let element = Element { value: Some(tree.root()), extra: None, type_id: of.type_id };
        let scope = Scope { schema, resource: element, root: element, host: &Nothing };
        let Ok(reported) = read.holds(&scope, element) else { continue };
        let fails = |answer: Option<bool>| answer == Some(false);
        if let Some(said) = said {
            assert_eq!(!said, fails(reported), "{:?} {} {expression}\n{text}", schema.version, of.def.name);
            known += 1;
            noes += usize::from(!said);
        }
    }
    (known, noes)
}

#[test]
fn results_without_the_engine_equal_those_of_the_engine() {
    let mut dice = Dice(1);
    let (mut known, mut noes, mut asked) = (0, 0, 0);
    // Hand-written rules decide more than their expressions, as their own tests show.
    let by_hand = BTreeSet::from(["per-1", "md-1", "vsd-9", "bdl-11", "bdl-12", "bdl-13"]);
    for plan in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5].map(Plan::of) {
        for of in plan.types.iter().filter(|of| of.primitive.is_none() && !of.def.is_abstract) {
            for compiled in of.constraints.into_iter().flatten() {
                if by_hand.contains(&*compiled.constraint.key) && matches!(compiled.by, Evaluator::Hand(_)) {
                    continue;
                }
                let (found, no) = compare(plan, of, compiled, &mut dice);
                (known, noes, asked) = (known + found, noes + no, asked + OBJECTS);
            }
        }
    }
    println!("{known} of {asked} answers were known, {noes} of them no");
    assert!(known * 2 > asked && noes > 1000, "{known} of {asked}, {noes} no");
}

#[test]
fn an_expression_is_understood_as_far_as_it_is_parsed() {
    let schema = Schema::of(FhirVersion::R4);
    let def = schema.def(schema.named("Observation").expect("a type"));
    let read = |expression| Shortcut::compile(expression, def, schema);
    let at = |name: &str| bit(u32::try_from(def.elements.iter().position(|of| *of.name == *name).unwrap()).unwrap());
    let or = |left, right| Shortcut::Or(Box::new(left), Box::new(right));
    let not = |inner| Shortcut::Not(Box::new(inner));
    let is = |text: &str| Shortcut::Text("status".into(), vec![text.into()]);
    assert_eq!(read("value.exists()"), Shortcut::Any(at("value")));
    assert_eq!(read("component.code.where(a = b and (c)).empty()"), Shortcut::From(at("component"), true));
    assert_eq!(read("component.count().empty()"), Shortcut::Open);
    assert_eq!(read("status = 'a' or value.empty()"), or(is("a"), not(Shortcut::Any(at("value")))));
    assert_eq!(read("status != 'it\\'s'"), Shortcut::Open);
    assert_eq!(read("(status = 'and') or nothing.exists()"), or(is("and"), Shortcut::Any(0)));
    assert_eq!(read("status.exists() and"), Shortcut::Open);
    assert_eq!(read("$this.exists() or 1 = 1"), or(Shortcut::Open, Shortcut::Open));
}

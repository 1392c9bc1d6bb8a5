//! Limits of an evaluation: steps that grow with the input, items per collection, bytes per text.

use super::fixture::tree;
use super::{COLLECTION_LIMIT_ITEMS, Expression, Failure, Host, Item, STEP_LIMIT, Scope, TEXT_LIMIT_BYTES, Value};
use emberpost_fhir::FhirVersion;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::Schema;
use serde_json::json;
use std::cell::Cell;

/// Counts steps, and allows fewer of them than an evaluation needs.
struct Counting {
    spent: Cell<u32>,
    left: u32,
}

impl Host<'_> for Counting {
    fn now_us(&self) -> i64 {
        0
    }

    fn steps_left(&self) -> u32 {
        self.left
    }

    fn spent(&self, steps: u32) {
        self.spent.set(self.spent.get() + steps);
    }
}

/// The outcome of an evaluation.
struct Outcome {
    steps: u32,
    items: usize,
    /// The length of the longest text among the items.
    text_bytes: usize,
    failure: Option<Failure>,
}

/// Evaluates on a Patient with this many names; each has a text of its own with an escaped character.
fn evaluated(text: &str, names: usize, left: u32) -> Outcome {
    let names: Vec<_> = (0..names).map(|at| json!({ "family": format!("a b\n{at}"), "given": ["a,b"] })).collect();
    let tree = tree(&json!({ "resourceType": "Patient", "name": names }).to_string());
    let schema = Schema::of(FhirVersion::R4);
    let root = Element::root(&tree, schema).expect("a Patient");
    let host = Counting { spent: Cell::new(0), left };
    let scope = Scope { schema, resource: root, root, host: &host };
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let found = expression.evaluate(&scope, root);
    let length = |item: &Item| match item {
        Item::Value(Value::String(text)) => text.len(),
        _ => 0,
    };
    let (items, text_bytes) = match &found {
        Ok(found) => (found.len(), found.items().iter().map(length).max().unwrap_or(0)),
        Err(_) => (0, 0),
    };
    Outcome { steps: host.spent.get(), items, text_bytes, failure: found.err() }
}

#[test]
fn functions_that_multiply_items_end_at_a_limit() {
    let doubled = "select($this.combine($this))";
    let streamed = format!("name.{}.count()", vec![doubled; 20].join("."));
    for text in [
        "name.aggregate($total.combine($total), 1)",
        "name.aggregate($total.combine($total), 1).count()",
        "name.aggregate($total.select($this.combine($this)), 1)",
        "name.aggregate($total.select(1 | 2), 1)",
        "name.aggregate($total.select(%resource.name), 1)",
        "name.aggregate($total.select('a,b'.split(',')), 1)",
        "name.aggregate($total.select('ab'.toChars()), 1)",
        "name.aggregate($total.select($this.trace('a').combine($this)), 1)",
        "name.aggregate($total.combine($total).sort(), 1)",
        "name.aggregate($total.combine($total).tail(), 1 .combine(2).combine(3))",
        "name.aggregate($total.combine($total).where(true), 1)",
        "name.aggregate($total.combine($total).exclude({}), 1)",
        "name.aggregate($total.combine($total).type(), 1)",
        "name.aggregate(iif(true, $total.combine($total)), 1)",
        "name.aggregate(coalesce({}, $total.combine($total)), 1)",
        "name.aggregate($total.defineVariable('v').combine(%v), 1)",
        "name.aggregate($total | $total.select($this + 1) | $total.select($this * 2) | $total.select($this * 3), 1)",
        "name.aggregate($total.union($total.select($this * 3)).union($total.select($this * 2 + 1)), 1)",
        "name.repeatAll($this.combine($this))",
        "repeatAll($this)",
        "1.repeat($this + 1)",
        "name.select(%resource.descendants()).select(%resource.descendants()).select(%resource.descendants())",
        "name.select(%resource.children()).select(%resource.children()).select(%resource.children()).select(%resource.children())",
        &streamed,
    ] {
        let outcome = evaluated(text, 24, STEP_LIMIT);
        assert!(
            outcome.failure.is_some_and(Failure::is_limit),
            "{text}: {:?}, {} items",
            outcome.failure,
            outcome.items
        );
        // Each stored item takes at least a step, so this limits all collections together.
        assert!(outcome.steps <= STEP_LIMIT + COLLECTION_LIMIT_ITEMS as u32, "{text}: {}", outcome.steps);
    }
}

#[test]
fn a_collection_may_be_as_large_as_the_limit_and_not_larger() {
    let all = "1".to_owned() + &".combine(1)".repeat(4);
    for (factor, wanted) in [(8, None), (9, Some(Failure::ItemLimit))] {
        let text = format!(
            "({all}).select({all}).select({all}).select({all}).select({all}).select(%resource.name.take({factor})).select(%resource.name.take(8))"
        );
        let outcome = evaluated(&text, 9, STEP_LIMIT);
        assert_eq!(outcome.failure, wanted, "{factor}");
        assert_eq!(outcome.items, if wanted.is_none() { COLLECTION_LIMIT_ITEMS } else { 0 });
    }
}

#[test]
fn functions_that_lengthen_texts_end_at_a_limit_in_bytes() {
    for text in [
        "$total & $total",
        "$total + $total",
        "$total.replace('a', 'aaaa')",
        "$total.replace('', 'a')",
        "$total.replaceMatches('a', 'aaaa')",
        "$total.replaceMatches('.+', '$0$0$0$0')",
        "$total.combine($total).join('')",
        "'a'.combine('a').combine('a').join($total)",
        "$total.encode('hex')",
        "$total.encode('base64').encode('base64')",
        "$total.replace('a', '<').escape('html').replace('&lt;', 'aaaa')",
        "$total.replace('a', '\\\"').escape('json').replace('\\\\', 'a').replace('\\\"', 'a')",
        "$total.upper().lower().replace('a', 'aa').trim()",
        "($total & $total).toString()",
        "($total & $total).substring(0, 1000000000)",
    ] {
        let text = format!("name.aggregate({text}, 'aaaaaaaa')");
        let outcome = evaluated(&text, 60, STEP_LIMIT);
        assert!(outcome.failure.is_some_and(Failure::is_limit), "{text}: {:?}", outcome.failure);
        assert!(outcome.steps <= STEP_LIMIT + TEXT_LIMIT_BYTES as u32, "{text}: {}", outcome.steps);
    }
    let doubled = |times| evaluated("name.aggregate($total & $total, 'aaaa')", times, STEP_LIMIT);
    let longest = TEXT_LIMIT_BYTES.ilog2() as usize - 2;
    assert_eq!((doubled(longest).failure, doubled(longest).text_bytes), (None, TEXT_LIMIT_BYTES));
    assert_eq!(doubled(longest + 1).failure, Some(Failure::TextLimit));
}

#[test]
fn steps_grow_with_the_items_and_texts_that_are_read() {
    for text in [
        "name.combine(name).count()",
        "name.select($this.combine($this)).count()",
        "name.union(name).count()",
        "(name.family | name.given).count()",
        "name.repeat(family).count()",
        "name.repeatAll(family).count()",
        "name.family.aggregate($total + $this.length(), 0)",
        "children().count()",
        "descendants().count()",
        "%resource.descendants().count()",
        "name.family.distinct().count()",
        "name.family.isDistinct()",
        "name.family.intersect(%resource.name.family).count()",
        "name.family.exclude(%resource.name.family).count()",
        "name.family.subsetOf(%resource.name.family)",
        "name.family.join(',').length()",
        "name.family.join(',').split(',').count()",
        "name.family.join(',').toChars().count()",
        "name.family.join(',').replace('a', 'bb').length()",
        "name.family.join(',').replaceMatches('a', 'bb').length()",
        "name.family.join(',').encode('base64').decode('base64').length()",
        "name.family.join(',').escape('html').unescape('html').length()",
        "(name.family.join(',') & 'b').length()",
        "name.trace('a', family).count()",
        "name.defineVariable('v').select(family).count()",
        "name.family.value.count()",
        "name.family.getValue().count()",
        "name.where(family in %resource.name.family).count()",
        "name.given = name.given",
        "name.skip(1).take(1000000).tail().count()",
        "name.all(family.exists())",
    ] {
        let steps = [500, 1000, 2000].map(|names| evaluated(text, names, STEP_LIMIT));
        let [one, two, four] = steps.map(|outcome| match outcome.failure {
            None => outcome.steps,
            Some(failure) => panic!("{text}: {failure}"),
        });
        assert!(one >= 500 / 16, "{text}: {one}");
        assert!(two >= one + one / 2 && two <= one * 5 / 2, "{text}: {one}, {two}");
        assert!(four >= two + two / 2 && four <= two * 5 / 2, "{text}: {two}, {four}");
    }
}

#[test]
fn reading_a_long_text_again_and_again_counts() {
    let long = "a\n".repeat(50_000);
    let short = "a\n".repeat(5);
    for text in [
        "name.select(%resource.language.value)",
        "name.where(%resource.language = 'a')",
        "name.where(family = %resource.language)",
        "name.select(%resource.language.toString())",
        "name.select(%resource.language & 'b')",
        "name.where(%resource.language.startsWith('b'))",
        "name.where(%resource.language < 'b')",
    ] {
        let steps = [&short, &long].map(|language| {
            let names: Vec<_> = (0..20).map(|_| json!({ "family": language })).collect();
            let tree = tree(&json!({ "resourceType": "Patient", "language": language, "name": names }).to_string());
            let schema = Schema::of(FhirVersion::R4);
            let root = Element::root(&tree, schema).expect("a Patient");
            let host = Counting { spent: Cell::new(0), left: STEP_LIMIT };
            let scope = Scope { schema, resource: root, root, host: &host };
            let _ = Expression::parse(text).expect("an expression").evaluate(&scope, root);
            host.spent.get()
        });
        assert!(steps[1] >= steps[0] + 20 * 100_000 / 16, "{text}: {steps:?}");
    }
}

#[test]
fn the_host_may_allow_fewer_steps() {
    for (left, wanted) in [(0, Some(Failure::StepLimit)), (100, Some(Failure::StepLimit)), (1_000, None)] {
        assert_eq!(evaluated("name.family.count()", 100, left).failure, wanted, "{left}");
    }
}

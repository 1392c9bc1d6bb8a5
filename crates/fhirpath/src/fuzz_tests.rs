//! Random expressions: the parser refuses invalid ones without a panic, and every evaluation ends.

use super::fixture::{Alone, tree};
use super::{Collection, Expression, Scope};
use emberpost_fhir::FhirVersion;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::Schema;
use proptest::prelude::*;

const SAMPLE: &str = r##"{"resourceType":"Patient","id":"p","active":true,"_birthDate":{"extension":[{"url":"u","valueCode":"c"}]},
"contained":[{"resourceType":"Organization","id":"o","name":"N"}],"managingOrganization":{"reference":"#o"},
"name":[{"use":"official","given":["A","B"],"_given":[null,{"id":"x"}],"period":{"start":"2020","end":"2021-02-03"}},{"family":"F"}],
"multipleBirthInteger":3,"extension":[{"url":"v","valueQuantity":{"value":1.5,"code":"kg"}},{"url":"w","valueDecimal":0.10}]}"##;

/// With two spaces between them.
const TOKENS: &str = "name  given  Patient  extension  value  period  start  contained  reference  where(  select(  \
        exists(  all(  iif(  repeat(  repeatAll(  descendants()  children()  count()  first()  empty()  \
        not()  as(  ofType(  is  as  substring(  matches(  replaceMatches(  lowBoundary()  highBoundary(3)  \
        power(  toString()  toQuantity()  defineVariable(  aggregate(  sort(  distinct()  combine(  union(  \
        resolve()  type()  join(  split(  encode(  decode(  round(  (  )  [  ]  {  }  {}  .  ,  +  -  *  /  \
        div  mod  &  |  =  !=  ~  !~  <  <=  >  >=  in  contains  and  or  xor  implies  $this  $index  \
        $total  %resource  %context  %v  'a'  'hex'  '('  1  0  2147483647  1.50  @2020  @2020-02-29T10:00Z  \
        @T10:30  4 days  1 'mg'  true  `x`  //  /*  '  \\";

fn words(text: &'static str) -> Vec<&'static str> {
    text.split("  ").collect()
}

/// Evaluates an expression on the sample, also as an invariant.
fn evaluate(expression: &Expression) {
    let tree = tree(SAMPLE);
    let schema = Schema::of(FhirVersion::R4);
    let root = Element::root(&tree, schema).expect("the sample is a Patient");
    let host = Alone { schema, root };
    let scope = Scope { schema, resource: root, root, host: &host };
    let _ = expression.evaluate(&scope, root).map(|found: Collection| found.len());
    let _ = expression.holds(&scope, root);
}

fn grammar() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(words(
        "name  name.given  active  birthDate  extension.value  contained  managingOrganization  $this  $index  \
        $total  %resource  %context  {}  1  0  (-7)  2.50  2147483647  'a b'  ''  true  @2020-02  \
        @2020-02-29T10:30:00.5+02:00  @T10  3 months  2 'cm'  1000000.0 'kg'  name.period  descendants()",
    ));
    leaf.prop_map(str::to_owned).prop_recursive(5, 40, 3, |inner| {
        let unary = prop::sample::select(words(
            "exists()  empty()  count()  not()  first()  last()  tail()  children()  descendants()  type()  \
        distinct()  isDistinct()  toString()  toInteger()  toDecimal()  toQuantity()  toDateTime()  length()  \
        upper()  abs()  ceiling()  exp()  ln()  sqrt()  round(2)  truncate()  lowBoundary()  highBoundary(2)  \
        precision()  resolve()  allTrue()  single()  hasValue()  toChars()  sort()  monthOf()  \
        ofType(Quantity)  extension('v')  trim()  given",
        ));
        let binary_call = prop::sample::select(words(
            "where  select  all  exists  repeat  combine  union  intersect  exclude  subsetOf  skip  take  \
        substring  startsWith  indexOf  matches  split  join  power  log  round  aggregate  sort  comparable  \
        coalesce  encode  repeatAll",
        ));
        let operator = prop::sample::select(words(
            "+  -  *  /  div  mod  &  |  =  !=  ~  !~  <  >=  in  contains  and  or  xor  implies",
        ));
        prop_oneof![
            (inner.clone(), unary).prop_map(|(of, function)| format!("({of}).{function}")),
            (inner.clone(), binary_call, inner.clone()).prop_map(|(of, name, with)| format!("({of}).{name}({with})")),
            (inner.clone(), operator, inner.clone()).prop_map(|(left, name, right)| format!("({left} {name} {right})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("iif({a}, {b}, {c})")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        let _ = Expression::parse(&text);
    }

    #[test]
    fn no_sequence_of_tokens_makes_parser_or_evaluator_panic(
        tokens in prop::collection::vec(prop::sample::select(words(TOKENS)), 0..14),
    ) {
        if let Ok(expression) = Expression::parse(&tokens.join(" ")) {
            evaluate(&expression);
        }
    }

    #[test]
    fn every_expression_of_a_grammar_is_parsed_and_its_evaluation_ends(text in grammar()) {
        let read = Expression::parse(&text);
        prop_assert!(read.is_ok(), "{} {:?}", text, read);
        if let Ok(expression) = read {
            evaluate(&expression);
        }
    }
}

#[test]
fn sorting_unordered_items_fails_without_a_panic() {
    // The standard library's sort panicked on this one.
    let expression = Expression::parse("descendants().sort()").expect("an expression");
    evaluate(&expression);
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::parse(&nested(40)).is_ok());
    for text in [
        nested(5_000),
        "-".repeat(5_000) + "1",
        "a".to_owned() + &".a".repeat(5_000),
        "1".to_owned() + &"+1".repeat(5_000),
        "a".to_owned() + &"[0]".repeat(5_000),
        "iif(".repeat(3_000),
        "x".repeat(super::LENGTH_LIMIT_BYTES + 1),
    ] {
        assert!(Expression::parse(&text).is_err());
    }
    let chain = "a".to_owned() + &" or a".repeat(2_000);
    evaluate(&Expression::parse(&chain).expect("a chain is not deep"));
}

#[test]
fn an_evaluation_that_grows_without_end_is_ended() {
    let tree = tree(SAMPLE);
    let schema = Schema::of(FhirVersion::R4);
    let root = Element::root(&tree, schema).expect("the sample is a Patient");
    let host = Alone { schema, root };
    let scope = Scope { schema, resource: root, root, host: &host };
    let long = "a".repeat(30_000);
    let replaced = format!(
        "descendants().select(%resource.descendants()).select(%resource.children()).select(''.replace('', '{long}'))"
    );
    for text in [
        &*replaced,
        "repeatAll($this)",
        "repeatAll($this | 1 | 2)",
        "(1|2|3).select(%resource.descendants().select(%resource.descendants().select(%resource.descendants().select(%context.descendants()))))",
        "descendants().aggregate($total & 'aaaaaaaaaaaaaaaa' & $total & $total, 'a')",
    ] {
        let expression = Expression::parse(text).expect("an expression");
        let found = expression.evaluate(&scope, root).map(|found| found.len());
        assert!(found.is_err_and(super::Failure::is_limit), "{text}: {found:?}");
    }
}

#[test]
fn the_deepest_expressions_are_evaluated_within_the_stack_of_a_thread() {
    let deepest = |open: &str, inner: &str, close: &str| {
        let nested = |depth: usize| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
        let read = (1..super::DEPTH_LIMIT_LEVELS).rev().find_map(|depth| Expression::parse(&nested(depth)).ok());
        read.expect("one of them is read")
    };
    for (open, inner, close) in [
        ("$this.where(", "name.exists()", ")"),
        ("select(", "$this", ")"),
        ("iif(true, ", "name", ")"),
        ("(1 + ", "1", ")"),
        ("(true xor ", "true", ")"),
        ("(true implies ", "true", ")"),
        ("repeat(", "name", ")"),
        ("('a' in ", "'a'", ")"),
        ("", "name", ".trace('a')"),
        ("", "name", ".where(true)"),
        ("", "name", ".select($this)"),
        ("-", "1", ""),
        ("aggregate(", "1", ", 1)"),
        ("defineVariable('a', ", "1", ").select($this)"),
    ] {
        evaluate(&deepest(open, inner, close));
    }
}

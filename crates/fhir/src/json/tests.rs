use super::*;
use crate::Cause;
use crate::tree::Node;
use proptest::prelude::*;
use serde_json::{Map, Value};

fn read(text: &str) -> Result<Tree, Vec<Issue>> {
    parse(Bytes::copy_from_slice(text.as_bytes()))
}

/// Rule, expression and position of each issue.
fn found(issues: &[Issue]) -> Vec<(&str, &str, (u32, u32))> {
    let place = |issue: &'_ Issue| issue.position.unwrap_or_default();
    issues
        .iter()
        .map(|i| (i.rule.as_deref().unwrap_or_default(), i.full_expression().unwrap_or_default(), place(i)))
        .collect()
}

#[test]
fn values_are_read_as_they_are_written() {
    let tree = read(
        "\u{feff}{\"a\\u0062\": [6.30, -1e+05, true, false], \"s\":\"x\\n\\ud83d\\ude00\\/\", \"o\": {\"k\":\"v\"}}",
    )
    .unwrap();
    let root = tree.root();
    let numbers: Vec<_> = root.get("ab").unwrap().items().filter_map(Node::number).collect();
    assert_eq!(numbers, ["6.30", "-1e+05"]);
    let booleans: Vec<_> = root.get("ab").unwrap().items().filter_map(Node::boolean).collect();
    assert_eq!(booleans, [true, false]);
    assert_eq!(root.get("s").unwrap().text().unwrap(), "x\n😀/");
    assert_eq!(root.get("s").unwrap().raw(), "\"x\\n\\ud83d\\ude00\\/\"");
    assert_eq!(root.get("o").unwrap().raw(), "{\"k\":\"v\"}");
    assert_eq!(root.get("o").unwrap().get("k").unwrap().text().unwrap(), "v");
    let names: Vec<_> = root.members().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["ab", "s", "o"]);
    assert!(root.get("missing").is_none() && root.get("s").unwrap().get("k").is_none());
    assert_eq!(root.position(), (1, 1));
    assert!(tree.notes.is_empty());
}

#[test]
fn violations_of_the_grammar_are_refused_with_their_position() {
    let cases: &[(&str, (u32, u32))] = &[
        ("", (1, 1)),
        ("  \n", (2, 1)),
        ("{", (1, 2)),
        ("[1", (1, 3)),
        ("{\"a\":1", (1, 7)),
        ("1 {}", (1, 3)),
        ("{\"a\" 1}", (1, 6)),
        ("{\"a\":1,}", (1, 8)),
        ("[1,]", (1, 4)),
        ("[1 2]", (1, 4)),
        ("{a:1}", (1, 2)),
        ("[01]", (1, 2)),
        ("[1.]", (1, 2)),
        ("[.5]", (1, 2)),
        ("[+1]", (1, 2)),
        ("[1e]", (1, 2)),
        ("[-]", (1, 2)),
        ("[NaN]", (1, 2)),
        ("[tru]", (1, 2)),
        ("[nul", (1, 2)),
        ("[\"a]", (1, 2)),
        ("[\"a\tb\"]", (1, 4)),
        ("[\"\\x\"]", (1, 3)),
        ("[\"\\u12\"]", (1, 3)),
        ("[\"\\ud800\"]", (1, 3)),
        ("[\"\\ud800\\u0041\"]", (1, 3)),
        ("[\"é\\udc00\"]", (1, 4)),
        ("[\"\\", (1, 3)),
        ("{\n  \"a\": 1,\n  \"b\": ]\n}", (3, 8)),
        ("]", (1, 1)),
        ("[}", (1, 2)),
        ("[\u{a0}1]", (1, 2)),
    ];
    for (text, place) in cases {
        let issues = read(text).expect_err(text);
        assert_eq!(issues.len(), 1, "{text}");
        assert_eq!((issues[0].rule.as_deref(), issues[0].position), (Some("RFC8259"), Some(*place)), "{text}");
        assert_eq!((issues[0].cause, issues[0].severity), (Cause::Syntax, Severity::Fatal), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_with_their_position() {
    let issues = parse(Bytes::from_static(b"{\"a\":\n \"\xff\"}")).unwrap_err();
    assert_eq!(found(&issues), [("RFC8259", "", (2, 3))]);
}

#[test]
fn comments_are_refused_wherever_they_occur() {
    for text in ["// x\n{}", "{/*x*/}", "{\"a\"/**/:1}", "{\"a\":/**/1}", "[1/**/]", "1 // x", "[1,//\n2]"] {
        assert_eq!(read(text).unwrap_err()[0].rule.as_deref(), Some("JSN-09"), "{text}");
    }
}

#[test]
fn nesting_is_read_up_to_the_limit_and_no_further() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(DEPTH_LIMIT)).is_ok());
    for text in [nested(DEPTH_LIMIT + 1), "[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        let issues = read(&text).unwrap_err();
        assert_eq!((issues.len(), issues[0].cause), (1, crate::Cause::Depth));
        assert!(issues[0].diagnostics.contains("Emberpost's limit is 256"), "{}", issues[0].diagnostics);
    }
}

#[test]
fn more_values_than_the_limit_are_refused() {
    let text = format!("[{}1]", "1,".repeat(NODE_LIMIT));
    assert_eq!(read(&text).unwrap_err()[0].code, IssueCode::TooLong);
}

#[test]
fn every_duplicate_name_is_reported() {
    let text =
        "{\"resourceType\":\"Bundle\",\"entry\":[{\"a\":1,\n\"a\":2,\"\\u0061\":3}],\"id\":\"x\",\n\"entry\":[1]}";
    let issues = read(text).unwrap_err();
    let expected = [
        ("JSN-01", "Bundle.entry[0].a", (2, 1)),
        ("JSN-01", "Bundle.entry[0].a", (2, 7)),
        ("JSN-01", "Bundle.entry", (3, 1)),
    ];
    assert_eq!(found(&issues), expected);
    assert!(issues.iter().all(|issue| issue.severity == Severity::Error && issue.cause == Cause::Syntax));
}

#[test]
fn a_duplicate_among_very_many_names_is_found() {
    let mut text: String = (0..50_000).map(|n| format!("\"n{n}\":1,")).collect();
    text = format!("{{{text}\"n77\":2}}");
    assert_eq!(read(&text).unwrap_err().len(), 1);
}

#[test]
fn duplicates_before_a_violation_are_reported_with_it() {
    let issues = read("{\"resourceType\":\"Bundle\",\"x\":{\"a\":1,\"a\":2},\"b\":?}").unwrap_err();
    assert_eq!(found(&issues), [("JSN-01", "Bundle.x.a", (1, 37)), ("RFC8259", "Bundle.b", (1, 48))]);
}

#[test]
fn empty_values_and_stray_nulls_are_notes_and_not_refused() {
    let text = r#"{"resourceType":"Bundle","a":[],"b":{},"c":"","d":null,"e":[{"f":[null,{}]}],"g":["x",null],"_h":[null,{"id":"1"}]}"#;
    let tree = read(text).unwrap();
    let expected = [
        ("JSN-03", "Bundle.a"),
        ("JSN-03", "Bundle.b"),
        ("JSN-03", "Bundle.c"),
        ("JSN-04", "Bundle.d"),
        ("JSN-04", "Bundle.e[0].f[0]"),
        ("JSN-03", "Bundle.e[0].f[1]"),
    ];
    let notes: Vec<_> = found(&tree.notes).into_iter().map(|(rule, expression, _)| (rule, expression)).collect();
    assert_eq!(notes, expected);
    assert!(tree.notes.iter().all(|note| note.cause == Cause::Structure && note.is_error()));
}

#[test]
fn issues_are_bounded_and_the_fatal_one_is_kept() {
    let many = "[],".repeat(ISSUE_LIMIT * 3);
    let issues = read(&format!("[{many}?")).unwrap_err();
    assert_eq!(issues.len(), ISSUE_LIMIT + 1);
    assert_eq!(issues.last().map(|issue| issue.severity), Some(Severity::Fatal));
    let duplicates = "{\"a\":1,\"a\":2},".repeat(ISSUE_LIMIT * 3);
    let mut issues = read(&format!("[{duplicates}?")).unwrap_err();
    let counted = issues.pop().unwrap();
    assert!(counted.diagnostics.starts_with("1001 more issues are not listed"), "{}", counted.diagnostics);
    assert_eq!(issues.len(), ISSUE_LIMIT);
    assert_eq!(issues.last().map(|issue| issue.severity), Some(Severity::Fatal));
    let issues = read(&format!("[{many}{{\"a\":1,\"a\":2}}]")).unwrap_err();
    assert_eq!(issues.last().and_then(|issue| issue.rule.as_deref()), Some("JSN-01"));
}

#[test]
fn where_a_name_is_missing_the_object_is_named() {
    let issues = read("{\"resourceType\":\"Bundle\",\"x\":{\"a\":1,}}").unwrap_err();
    assert_eq!(found(&issues), [("RFC8259", "Bundle.x", (1, 37))]);
}

#[test]
fn no_text_of_an_issue_repeats_a_name_that_no_element_has() {
    let issues = read("{\"Jane Doe\":1,\"Jane Doe\":2}").unwrap_err();
    assert_eq!(issues[0].expression.as_deref(), Some("`?`"));
}

fn value_of(node: Node<'_>) -> Value {
    match node.kind() {
        Kind::Null => Value::Null,
        Kind::Boolean => Value::Bool(node.boolean().unwrap()),
        // Not with serde_json, whose floats may differ in their last bit.
        Kind::Number => {
            let raw = node.number().unwrap();
            raw.parse::<i64>().map(Value::from).unwrap_or_else(|_| Value::from(raw.parse::<f64>().unwrap()))
        }
        Kind::String => Value::String(node.text().unwrap().into_owned()),
        Kind::Array => Value::Array(node.items().map(value_of).collect()),
        Kind::Object => Value::Object(node.members().map(|(key, value)| (key.into_owned(), value_of(value))).collect()),
    }
}

pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        (-1e9f64..1e9).prop_map(Value::from),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            proptest::collection::vec((any::<String>(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Bytes::from(bytes));
    }

    #[test]
    fn any_text_of_brackets_is_judged_as_serde_json_does(text in r#"[\[\]{},:"\\ 01.eu-]{0,24}"#) {
        // Only duplicate names are refused here but accepted by serde_json.
        let ours = read(&text);
        let duplicate = ours.as_ref().is_err_and(|issues| issues.iter().any(|issue| issue.rule.as_deref() == Some("JSN-01")));
        // A number out of range of f64 does not violate the grammar.
        let theirs = match serde_json::from_str::<Value>(&text) {
            Ok(_) => true,
            Err(error) => error.to_string().contains("out of range"),
        };
        prop_assert!(duplicate || ours.is_ok() == theirs);
    }

    #[test]
    fn any_json_is_read_to_an_equal_value(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let tree = read(&text).unwrap();
        prop_assert_eq!(value_of(tree.root()), value);
        prop_assert_eq!(tree.root().raw(), text.as_str());
    }
}

#[test]
fn a_tree_prints_figures_and_nothing_of_its_content() {
    let tree = read(r#"{"family":"Secret"}"#).expect("JSON");
    assert_eq!(format!("{:?}", tree.root()), "Node { tree: Tree { 2 nodes, 19 bytes }, index: 0 }");
}

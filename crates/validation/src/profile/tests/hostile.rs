//! Random and hostile definitions and packages: reading them terminates and does no damage.

use super::*;
use crate::definition::package;
use crate::definition::package::tests::packed;
use proptest::prelude::*;

/// Texts that resemble parts of definitions, combined at random.
fn text() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "Patient",
        ".",
        "identifier",
        ":",
        "a",
        "/",
        "[x]",
        "deceased",
        "deceasedBoolean",
        "extension",
        "('",
        "')",
        "resolve()",
        "$this",
        "ofType(",
        ")",
        "url",
        "value",
        "contained",
        "link",
        "other",
        "é",
        " ",
        "|",
        "#",
        "\u{0}",
    ]);
    prop::collection::vec(parts, 0..8).prop_map(|parts| parts.concat())
}

fn element() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec!["value", "exists", "type", "profile", "position", "pattern", "?"]);
    let rules = prop::sample::select(vec!["open", "closed", "openAtEnd", "?"]);
    (text(), text(), text(), text(), (kind, rules, any::<bool>(), 0..3u32)).prop_map(
        |(id, path, slice, at, (kind, rules, ordered, min))| {
            json!({ "id": format!("Patient.{id}"), "path": format!("Patient.{path}"), "sliceName": slice, "min": min, "max": at,
                "type": [{ "code": at, "profile": [format!("{OWN}own"), slice], "targetProfile": [format!("{OWN}own")] }],
                "slicing": { "discriminator": [{ "type": kind, "path": at }], "rules": rules, "ordered": ordered },
                "constraint": [{ "key": slice, "severity": "error", "human": path, "expression": at }],
                "binding": { "strength": "required", "valueSet": slice }, "fixedString": id, "maxLength": min })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_random_definition_compiles_and_its_check_terminates(elements in prop::collection::vec(element(), 0..12), base in text()) {
        let own = derived("own", "Patient", &base, Value::Array(elements));
        let (profiles, _) = Profiles::compile(&loaded(&[own]).catalog, FhirVersion::R4);
        let patient = json!({ "resourceType": "Patient", "identifier": [{ "system": "urn:a" }, {}], "deceasedBoolean": true,
            "contained": [{ "resourceType": "Patient", "id": "c" }], "link": [{ "other": { "reference": "#c" } }, { "other": { "reference": "#" } }],
            "extension": [{ "url": format!("{OWN}own"), "valueReference": { "reference": "#c" } }] });
        let count = issues(&profiles, &format!("{OWN}own"), &patient).len();
        prop_assert!(count <= 1_001);
    }

    #[test]
    fn random_bytes_are_a_package_or_refused(noise in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..400, flip in 0usize..400) {
        let mut whole = packed(&[("package/package.json", br#"{"name":"x"}"#), ("package/a.json", &noise)]);
        let at = flip % whole.len();
        whole[at] ^= 0x10;
        whole.truncate(whole.len().min(cut));
        for bytes in [&noise, &whole] {
            if let Err(error) = package::read(bytes) {
                prop_assert!(!error.is_empty());
            }
        }
    }
}

#[test]
fn a_constraint_that_multiplies_items_or_texts_is_a_warning_however_small_the_message() {
    let names: Vec<Value> = (0..24).map(|at| json!({ "family": format!("n{at}") })).collect();
    let patient = json!({ "resourceType": "Patient", "name": names });
    for expression in [
        "name.aggregate($total.combine($total), 1).exists()",
        "name.aggregate($total.select($this.combine($this)), 1).count() > 0",
        "name.aggregate($total & $total, 'a').length() > 0",
        "name.aggregate($total.replace('a', 'aaaa'), 'a').exists()",
    ] {
        let rule = json!({ "key": "own-1", "severity": "error", "human": "grows", "expression": expression });
        let own = profile("own", "Patient", json!([{ "id": "Patient", "path": "Patient", "constraint": [rule] }]));
        let (profiles, errors) = Profiles::compile(&loaded(&[own]).catalog, FhirVersion::R4);
        assert_eq!(errors, Vec::<String>::new());
        let found: Vec<String> = issues(&profiles, &format!("{OWN}own"), &patient).iter().map(short).collect();
        assert_eq!(found, ["warning profile-constraint Patient"], "{expression}");
    }
}

#[test]
fn profiles_that_require_each_other_in_deep_expressions_fit_the_stack_of_a_thread() {
    let own = |at: usize| {
        let inner = format!("conformsTo('{OWN}p{}')", at + 1);
        let deep = format!("{}{inner}{}", "$this.where(".repeat(44), ")".repeat(44));
        let rule = json!({ "key": "own-1", "severity": "error", "human": "deep", "expression": deep });
        profile(&format!("p{at}"), "Patient", json!([{ "id": "Patient", "path": "Patient", "constraint": [rule] }]))
    };
    let resources: Vec<Value> = (0..100).map(own).collect();
    let (profiles, errors) = Profiles::compile(&loaded(&resources).catalog, FhirVersion::R4);
    assert_eq!(errors, Vec::<String>::new());
    let issues = issues(&profiles, &format!("{OWN}p0"), &json!({ "resourceType": "Patient" }));
    let found: Vec<String> = issues.iter().map(short).collect();
    assert_eq!(found, ["warning profile-limit Bundle"]);
}

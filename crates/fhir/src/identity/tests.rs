use super::*;
use crate::Message;
use crate::json;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn keys_of(bundle: &Value, version: FhirVersion) -> IdentityKeys {
    let tree = json::parse(Bytes::from(bundle.to_string())).unwrap();
    Message::read(tree, Some(version), None).unwrap().identity()
}

fn bundle(id: Option<&str>, identifier: Option<&str>, header_id: Option<&str>) -> Value {
    let mut header = json!({ "resourceType": "MessageHeader" });
    let mut bundle = json!({ "resourceType": "Bundle", "type": "message" });
    if let Some(id) = header_id {
        header["id"] = id.into();
    }
    if let Some(id) = id {
        bundle["id"] = id.into();
    }
    if let Some(value) = identifier {
        bundle["identifier"] = json!({ "system": "urn:s", "value": value });
    }
    bundle["entry"] = json!([{ "resource": header }]);
    bundle
}

#[test]
fn each_version_has_its_keys() {
    use KeyKind::{BundleId, BundleIdentifier, HeaderId};
    let r4 = [
        ((Some("b"), Some("i"), Some("h")), Some((BundleId, "b")), Some((HeaderId, "h"))),
        ((Some("b"), Some("i"), None), Some((BundleId, "b")), Some((BundleIdentifier, "urn:s|i"))),
        ((Some("b"), None, None), Some((BundleId, "b")), Some((BundleId, "b"))),
        ((None, None, Some("h")), None, Some((HeaderId, "h"))),
        ((None, Some("i"), None), None, Some((BundleIdentifier, "urn:s|i"))),
        ((None, None, None), None, None),
        ((Some(" "), None, Some("")), None, None),
    ];
    let owned = |key: Option<(KeyKind, &str)>| key.map(|(kind, text)| (kind, text.to_owned()));
    for ((id, identifier, header_id), transmission, message) in r4 {
        let bundle = bundle(id, identifier, header_id);
        for version in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
            let keys = keys_of(&bundle, version);
            if version == FhirVersion::R5 && identifier.is_some() {
                let expected = Some((BundleIdentifier, "urn:s|i".to_owned()));
                assert_eq!((keys.transmission, keys.message, keys.strict), (None, expected, true));
            } else {
                assert_eq!((keys.transmission, keys.message), (owned(transmission), owned(message)), "{bundle}");
                assert!(!keys.strict);
            }
        }
    }
}

const NEW: Seen<u8> = Seen { same: None, any: None };
const SAME: Seen<u8> = Seen { same: Some(1), any: Some(2) };
const OTHER: Seen<u8> = Seen { same: None, any: Some(2) };

#[test]
fn r4_messages_are_judged_by_both_keys() {
    let consequence = Some(Category::Consequence);
    let harmless = [None, Some(Category::Currency), Some(Category::Notification)];
    for category in harmless.into_iter().chain([consequence]) {
        let judged = |transmission, message| judge(false, category, transmission, message);
        assert_eq!(judged(NEW, NEW), Verdict::New);
        for message in [NEW, SAME, OTHER] {
            assert_eq!(judged(SAME, message), Verdict::Duplicate(1), "the same transmission again");
            assert_eq!(judged(OTHER, message), Verdict::Conflict(2), "Bundle.id with other content");
        }
        assert_eq!(judged(NEW, SAME), Verdict::Duplicate(1), "sent again as a new transmission");
        let copied = judged(NEW, OTHER);
        assert_eq!(
            copied,
            if category == consequence { Verdict::Conflict(2) } else { Verdict::New },
            "a copied header id"
        );
    }
}

#[test]
fn r5_messages_are_judged_by_their_identifier() {
    for category in [None, Some(Category::Currency), Some(Category::Notification), Some(Category::Consequence)] {
        assert_eq!(judge(true, category, NEW, NEW), Verdict::New);
        assert_eq!(judge(true, category, NEW, SAME), Verdict::Duplicate(1));
        assert_eq!(judge(true, category, NEW, OTHER), Verdict::Conflict(2));
    }
}

#[test]
fn members_of_a_transmission_are_not_content() {
    let plain = bundle(None, None, Some("h"));
    let mut sent = plain.clone();
    sent["id"] = "b".into();
    sent["meta"] = json!({ "lastUpdated": "2020-01-01T00:00:00Z" });
    sent["timestamp"] = "2020-01-01T00:00:00Z".into();
    sent["signature"] = json!({ "data": "x" });
    let content = |bundle: &Value| keys_of(bundle, FhirVersion::R4).content;
    assert_eq!(content(&plain), content(&sent));
    // Only at the top: the same names within entries are content.
    for name in ["id", "meta", "timestamp", "signature"] {
        let mut other = plain.clone();
        other["entry"][0][name] = "x".into();
        assert_ne!(content(&plain), content(&other), "{name}");
    }
}

fn content_of(text: &str) -> [u8; 32] {
    content::digest(&json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap())
}

#[test]
fn insignificant_spelling_is_ignored_and_significant_spelling_counts() {
    assert_eq!(
        content_of(r#"{"a":"é\n","b":[1,2]}"#),
        content_of("{ \"b\" : [1, 2],\n\"\\u0061\":\"\\u00e9\\u000a\"}")
    );
    let different = [r#"{"a":1}"#, r#"{"a":1.0}"#, r#"{"a":"1"}"#, r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#];
    let more =
        [r#"{"a":[[1],2]}"#, r#"{"a":[[1,2]]}"#, r#"{"a":null}"#, r#"{"a":true}"#, r#"{"a":false}"#, r#"{"ab":1}"#];
    let all: Vec<_> = different.into_iter().chain(more).map(content_of).collect();
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "case {index}");
    }
}

/// The same value with its members in reverse order, by hand: serde_json sorts them.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> =
                members.iter().rev().map(|(k, v)| format!("{} : {}", json!(k), reversed(v))).collect();
            format!("{{\n{}\t}}", members.join(" ,\r\n "))
        }
        Value::Array(items) => format!("[ {} ]", items.iter().map(reversed).collect::<Vec<_>>().join("\n,")),
        other => other.to_string(),
    }
}

/// Every value that differs from this one in a single scalar or in the length of one container.
fn changed(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![json!(0)],
        Value::Bool(it) => vec![json!(!it)],
        Value::Number(it) => vec![json!(it.to_string()), json!(7.25)],
        Value::String(it) => vec![json!(format!("{it}x"))],
        Value::Array(items) => {
            let mut all = vec![Value::Array(items.iter().cloned().chain([Value::Null]).collect())];
            for (index, item) in items.iter().enumerate() {
                all.extend(changed(item).into_iter().map(|other| {
                    let mut items = items.clone();
                    items[index] = other;
                    Value::Array(items)
                }));
            }
            all
        }
        Value::Object(members) => {
            let with = |key: &str, other: Value| {
                let mut members: Map<String, Value> = members.clone();
                members.insert(key.to_owned(), other);
                Value::Object(members)
            };
            let mut all = vec![with("a name that is new", Value::Null)];
            all.extend(
                members.iter().flat_map(|(key, member)| changed(member).into_iter().map(move |other| with(key, other))),
            );
            all
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn order_of_members_and_white_space_do_not_change_the_content(value in json::tests::any_json()) {
        let value = json!({ "resourceType": "Bundle", "entry": value });
        prop_assert_eq!(content_of(&value.to_string()), content_of(&reversed(&value)));
    }

    #[test]
    fn any_change_of_a_value_changes_the_content(value in json::tests::any_json()) {
        let content = content_of(&value.to_string());
        for other in changed(&value) {
            if other != value {
                prop_assert_ne!(content, content_of(&other.to_string()), "{}", other);
            }
        }
    }
}

#[test]
fn ids_compare_without_urn_uuid_and_uuids_without_case() {
    let uuid = "6f2a0a6e-0c3a-4f3f-9a50-3d1a3f1c9a11";
    for spelled in [uuid, &uuid.to_uppercase(), &format!("urn:uuid:{uuid}"), &format!("URN:UUID:{uuid}")] {
        assert_eq!(normal(spelled), uuid);
    }
    assert_eq!(normal("Message-1"), "Message-1");
    assert_ne!(normal("Message-1"), normal("message-1"));
}

//! Reads members of JSON values that come from JSON or, with less exact types, from XML.

use serde_json::Value;

/// The members of a list; a single value is a list of one.
pub fn each<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    match value.get(name) {
        Some(Value::Array(list)) => list,
        Some(one) => std::slice::from_ref(one),
        None => &[],
    }
}

pub fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

pub fn texts<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v str> {
    each(value, name).iter().filter_map(Value::as_str)
}

pub fn is_true(value: &Value, name: &str) -> bool {
    matches!(value.get(name), Some(Value::Bool(true))) || text(value, name) == Some("true")
}

pub fn number(value: &Value, name: &str) -> Option<u64> {
    let value = value.get(name)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A maximum: `*` is `u16::MAX`.
pub fn maximum(value: &Value, name: &str) -> Option<u16> {
    match text(value, name)? {
        "*" => Some(u16::MAX),
        count => count.parse().ok(),
    }
}

/// The extension with this url.
pub fn extension<'v>(value: &'v Value, url: &str) -> Option<&'v Value> {
    each(value, "extension").iter().find(|found| text(found, "url") == Some(url))
}

/// A canonical url without its version.
pub fn unversioned(url: &str) -> &str {
    url.split('|').next().unwrap_or(url)
}

/// The text after the last slash.
pub fn last_segment(url: &str) -> &str {
    let url = unversioned(url);
    url.rsplit('/').next().unwrap_or(url)
}

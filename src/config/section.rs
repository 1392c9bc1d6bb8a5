//! Typed access to one section's keys; every invalid value and every unknown key is an error.
//!
//! A method reports an error and returns None, so that the caller continues and all errors are found.

use super::ConfigError;
use super::keys;
use super::setting::{Setting, Settings, Value};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use strsim::osa_distance;

/// All errors so far, in the order found.
#[derive(Debug, Default)]
pub struct Errors(RefCell<Vec<ConfigError>>);

impl Errors {
    pub fn report(&self, location: &str, text: impl Into<String>) {
        self.0.borrow_mut().push(ConfigError { location: location.to_owned(), text: text.into() });
    }

    pub fn extend(&self, errors: Vec<ConfigError>) {
        self.0.borrow_mut().extend(errors);
    }

    pub fn into_vec(self) -> Vec<ConfigError> {
        self.0.into_inner()
    }
}

pub struct Section<'a> {
    /// How sentences refer to it: `[server]`, `participant "lab"`.
    pub name: String,
    pub location: String,
    settings: Settings,
    errors: &'a Errors,
}

impl<'a> Section<'a> {
    /// Reports every key that is not among `keys`.
    pub fn new(name: &str, setting: Setting, keys: &[&str], errors: &'a Errors) -> Section<'a> {
        let settings = match setting.value {
            Value::Table(settings) => settings,
            other => {
                errors.report(&setting.location, format!("{name} must be a section with keys, not {}", other.kind()));
                Settings::new()
            }
        };
        for (key, value) in settings.iter().filter(|(key, _)| !keys.contains(&key.as_str())) {
            let sentence = format!("{name} has no key \"{key}\"");
            let text = keys::section_of(key).filter(|_| nearest(key, keys).is_none());
            let text = text.map(|section| format!("{sentence}; it belongs to [{section}]"));
            errors.report(&value.location, text.unwrap_or_else(|| unknown(&sentence, key, keys)));
        }
        Section { name: name.to_owned(), location: setting.location, settings, errors }
    }

    pub fn report(&self, key: &str, text: impl AsRef<str>) {
        self.errors.report(self.location_of(key), format!("{key} {}", text.as_ref()));
    }

    pub fn location_of(&self, key: &str) -> &str {
        self.settings.get(key).map_or(&self.location, |setting| &setting.location)
    }

    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    pub fn take(&mut self, key: &str) -> Option<Setting> {
        self.settings.remove(key)
    }

    /// A text that is not empty.
    pub fn text(&self, key: &str) -> Option<String> {
        let setting = self.get(key)?;
        match text_of(setting) {
            Some(text) if !text.trim().is_empty() => Some(text),
            Some(_) => self.none(key, "must not be empty"),
            None => self.none(key, &format!("must be a string in quotes, not {}", setting.value.kind())),
        }
    }

    pub fn number(&self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let setting = self.get(key)?;
        let (least, most) = (range.start(), range.end());
        match setting.value {
            Value::Integer(number) if range.contains(&number) => Some(number),
            Value::Integer(number) => self.none(key, &format!("must be from {least} to {most}, not {number}")),
            _ => self.none(key, &format!("must be a number from {least} to {most}, not {}", setting.value.kind())),
        }
    }

    pub fn numbers(&self, key: &str, range: RangeInclusive<i64>) -> Option<Vec<i64>> {
        let (least, most) = (range.start(), range.end());
        let numbers = |items: &[Setting]| -> Option<Vec<i64>> {
            items.iter().map(|item| number_of(item).filter(|number| range.contains(number))).collect()
        };
        match &self.get(key)?.value {
            Value::List(items) if items.is_empty() => self.none(key, "must not be empty"),
            Value::List(items) => {
                numbers(items).or_else(|| self.none(key, &format!("must hold only numbers from {least} to {most}")))
            }
            other => self.none(key, &format!("must be a list of numbers, not {}", other.kind())),
        }
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        match &self.get(key)?.value {
            Value::Boolean(flag) => Some(*flag),
            other => self.none(key, &format!("must be true or false, not {}", other.kind())),
        }
    }

    /// A list of texts, none empty. A variable may hold a single text, without brackets.
    pub fn texts(&self, key: &str) -> Option<Vec<String>> {
        let setting = self.get(key)?;
        match &setting.value {
            Value::Text(_) if setting.variable_text.is_some() => self.text(key).map(|text| vec![text]),
            Value::List(items) => self.texts_of(key, items),
            other => self.none(key, &format!("must be a list of strings, not {}", other.kind())),
        }
    }

    /// One text or a list of texts.
    pub fn one_or_more_texts(&self, key: &str) -> Option<Vec<String>> {
        match &self.get(key)?.value {
            Value::List(items) => self.texts_of(key, items),
            _ => self.text(key).map(|text| vec![text]),
        }
    }

    /// One of these names; for another one the error suggests the nearest.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let listed = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        self.none(key, &unknown(&format!("must be one of {listed}, not \"{text}\""), &text, &names))
    }

    /// Reports an error about the key and returns None.
    pub fn none<T>(&self, key: &str, text: &str) -> Option<T> {
        self.report(key, text);
        None
    }

    fn texts_of(&self, key: &str, items: &[Setting]) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        for item in items {
            match text_of(item) {
                Some(text) if !text.trim().is_empty() => texts.push(text),
                _ => self.errors.report(&item.location, format!("{key} must hold only strings that are not empty")),
            }
        }
        Some(texts)
    }
}

fn text_of(setting: &Setting) -> Option<String> {
    match (&setting.value, &setting.variable_text) {
        (Value::Text(text), _) => Some(text.clone()),
        (Value::Integer(_) | Value::Boolean(_) | Value::Other(_), Some(text)) => Some(text.clone()),
        _ => None,
    }
}

fn number_of(setting: &Setting) -> Option<i64> {
    match setting.value {
        Value::Integer(number) => Some(number),
        _ => None,
    }
}

/// The sentence, with a suggestion if a known name is similar.
pub fn unknown(sentence: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("{sentence}; did you mean \"{near}\"?"),
        None => sentence.to_owned(),
    }
}

/// The most similar name, if at most a third of its letters differ (at least one). Numbers get no suggestion.
fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let name = name.to_lowercase();
    let near = known.iter().map(|known| (osa_distance(&name, known), *known)).min_by_key(|(distance, _)| *distance);
    let is_word = name.chars().any(char::is_alphabetic);
    near.filter(|(distance, known)| is_word && *distance <= (known.len() / 3).max(1)).map(|(_, near)| near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_if_it_is_near() {
        let known = ["listen", "base_url", "max_in_flight", "max_waiting", "name"];
        let cases = [
            ("lisen", Some("listen")),
            ("lsiten", Some("listen")),
            ("LISTEN", Some("listen")),
            ("baseurl", Some("base_url")),
            ("max_inflight", Some("max_in_flight")),
            ("max_waitings", Some("max_waiting")),
            ("colour", None),
            ("x", None),
            ("4", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, &known), expected, "{name}");
        }
    }
}

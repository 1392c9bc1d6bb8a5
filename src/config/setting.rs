//! Settings with their locations: the values of TOML files, variables, and flags, before they are interpreted.
//!
//! Each value has the location where it was written, so that every later error can name file and line, or the variable.

use super::ConfigError;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Prefix of variables; section and key follow: `EMBERPOST__SERVER__LISTEN`.
pub const VARIABLE_PREFIX: &str = "EMBERPOST__";

pub type Settings = BTreeMap<String, Setting>;

#[derive(Clone, Debug)]
pub struct Setting {
    /// `file:line`, the variable's name, or the flag.
    pub location: String,
    pub value: Value,
    /// The variable's text: `8080` is a number in a file, but may be meant as a text in a variable.
    pub variable_text: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// A value that no key accepts, by its kind: a float, a date.
    Other(&'static str),
    List(Vec<Setting>),
    Table(Settings),
}

impl Value {
    /// With article, for sentences.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::Integer(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Other(kind) => kind,
            Value::List(_) => "a list",
            Value::Table(_) => "a section",
        }
    }
}

/// Parses one TOML text. Values that could be read are returned along with every syntax error.
pub fn from_toml(text: &str, file: &str) -> (Settings, Vec<ConfigError>) {
    let lines = Lines::of(text, file);
    let (table, errors) = DeTable::parse_recoverable(text);
    let location = |span: Option<Range<usize>>| span.map_or(file.to_owned(), |span| lines.location(span.start));
    let errors = errors.iter().map(|error| ConfigError {
        location: location(error.span()),
        text: format!("this is not valid TOML: {}", error.message().lines().next().unwrap_or("unreadable")),
    });
    (lines.settings(table.get_ref()), errors.collect())
}

struct Lines<'a> {
    /// Ends of the lines, so that a location is found without counting lines from the start.
    ends: Vec<usize>,
    file: &'a str,
}

impl<'a> Lines<'a> {
    fn of(text: &str, file: &'a str) -> Lines<'a> {
        Lines { ends: memchr::memchr_iter(b'\n', text.as_bytes()).collect(), file }
    }

    fn location(&self, offset: usize) -> String {
        format!("{}:{}", self.file, 1 + self.ends.partition_point(|end| *end < offset))
    }

    fn settings(&self, table: &DeTable) -> Settings {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue>)| {
            let key_text: &std::borrow::Cow<str> = key.get_ref();
            let setting = Setting { location: self.location(key.span().start), ..self.setting(value) };
            (key_text.clone().into_owned(), setting)
        };
        table.iter().map(entry).collect()
    }

    fn setting(&self, value: &Spanned<DeValue>) -> Setting {
        let location = self.location(value.span().start);
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Other("a number beyond every bound"), Value::Integer),
            DeValue::Boolean(flag) => Value::Boolean(*flag),
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Datetime(_) => Value::Other("a date or time"),
            DeValue::Array(items) => Value::List(items.iter().map(|item| self.setting(item)).collect()),
            DeValue::Table(table) => Value::Table(self.settings(table)),
        };
        Setting { location, value, variable_text: None }
    }
}

/// Reads the variables that begin with `EMBERPOST__`.
pub fn from_variables(variables: impl Iterator<Item = (String, String)>) -> (Settings, Vec<ConfigError>) {
    let mut settings = Settings::new();
    let mut errors = Vec::new();
    // Sorted, so that errors always come in the same order.
    let variables: BTreeMap<String, String> = variables.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect();
    for (name, text) in variables {
        let path = name[VARIABLE_PREFIX.len()..].to_ascii_lowercase();
        match path.split_once("__") {
            Some((section, key)) if !section.is_empty() && !key.is_empty() => {
                put(&mut settings, section, key, from_variable(&name, text));
            }
            _ => errors.push(ConfigError {
                text: format!("a variable must have the form {VARIABLE_PREFIX}SECTION__KEY"),
                location: name,
            }),
        }
    }
    (settings, errors)
}

/// Sets one key of one section, as a flag does.
pub fn put(settings: &mut Settings, section: &str, key: &str, setting: Setting) {
    let location = setting.location.clone();
    let section = settings.entry(section.to_owned()).or_insert_with(|| Setting {
        location,
        value: Value::Table(Settings::new()),
        variable_text: None,
    });
    if let Value::Table(table) = &mut section.value {
        table.insert(key.to_owned(), setting);
    }
}

/// A TOML scalar or list if the text is one, otherwise the text itself.
fn from_variable(name: &str, text: String) -> Setting {
    let document = format!("value = {text}");
    // A line break would let the text add keys of its own.
    let parsed = if text.contains('\n') { None } else { DeTable::parse(&document).ok() };
    let lines = Lines::of("", name);
    let value = parsed
        .and_then(|table| table.get_ref().get("value").map(|value| lines.setting(value)))
        .map_or_else(|| Value::Text(text.clone()), |setting| renamed(setting, name).value);
    Setting { location: name.to_owned(), value, variable_text: Some(text) }
}

/// A variable has no lines: all its parts have its name as location.
fn renamed(mut setting: Setting, name: &str) -> Setting {
    setting.location = name.to_owned();
    if let Value::List(items) = setting.value {
        setting.value = Value::List(items.into_iter().map(|item| renamed(item, name)).collect());
    }
    setting
}

/// Lays one layer over another: sections key by key, everything else as a whole.
pub fn lay_over(base: &mut Settings, over: Settings) {
    for (key, setting) in over {
        match (base.get_mut(&key).map(|below| &mut below.value), setting.value) {
            (Some(Value::Table(below)), Value::Table(above)) => {
                lay_over(below, above);
                if let Some(section) = base.get_mut(&key) {
                    section.location = setting.location;
                }
            }
            (_, value) => {
                base.insert(key, Setting { value, ..setting });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let text =
            "[server]\nlisten = \"a\"\nmax_in_flight = 0x10\n\n[[route]]\nto = [\n  \"lab\",\n  7.5,\n]\n[[route]]\n";
        let (settings, errors) = from_toml(text, "x.toml");
        assert_eq!(errors, []);
        let Value::Table(server) = &settings["server"].value else { panic!("a section") };
        assert_eq!(server["max_in_flight"].location, "x.toml:3");
        assert!(matches!(server["max_in_flight"].value, Value::Integer(16)));
        let Value::List(routes) = &settings["route"].value else { panic!("a list") };
        assert_eq!([&routes[0].location, &routes[1].location], ["x.toml:5", "x.toml:10"]);
        let Value::Table(route) = &routes[0].value else { panic!("a section") };
        let Value::List(to) = &route["to"].value else { panic!("a list") };
        assert_eq!([&to[0].location, &to[1].location], ["x.toml:7", "x.toml:8"]);
        assert_eq!(to[1].value.kind(), "a number with a fraction");
    }

    #[test]
    fn every_syntax_mistake_is_named_and_the_rest_is_read() {
        let (settings, errors) = from_toml("[server]\nlisten = \nname = \"x\"\n[store\nurl = 1\n", "x.toml");
        let locations: Vec<_> = errors.iter().map(|error| &*error.location).collect();
        assert!(locations.contains(&"x.toml:2") && locations.contains(&"x.toml:4"), "{errors:?}");
        assert!(settings.contains_key("server"));
    }

    #[test]
    fn variables_are_scalars_lists_or_else_text() {
        let variables = [
            ("EMBERPOST__SERVER__LISTEN", "127.0.0.1:1"),
            ("EMBERPOST__SERVER__MAX_IN_FLIGHT", "12"),
            ("EMBERPOST__STORE__URL", "\"sqlite:x\""),
            ("EMBERPOST__DEFINITIONS__PATHS", "[\"a\", \"b\"]"),
            ("EMBERPOST__VALIDATION__LEVEL", "message\nx = 1"),
            ("EMBERPOST__SERVER", "x"),
            ("EMBERPOST_TOKEN", "secret"),
        ];
        let variables = variables.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let (settings, errors) = from_variables(variables.into_iter());
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].location, "EMBERPOST__SERVER");
        let kind = |section: &str, key: &str| match &settings[section].value {
            Value::Table(table) => table[key].value.kind(),
            other => other.kind(),
        };
        assert_eq!(kind("server", "listen"), "a string");
        assert_eq!(kind("server", "max_in_flight"), "a number");
        assert_eq!(kind("store", "url"), "a string");
        assert_eq!(kind("definitions", "paths"), "a list");
        assert_eq!(kind("validation", "level"), "a string");
    }
}

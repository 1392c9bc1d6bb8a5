//! Settings with their place: what TOML texts, variables and flags say, before anybody asks what it means.
//!
//! Each value remembers where it was written, so that every later mistake can name file and line, or the variable.

use super::Mistake;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What variables begin with; the parts after it are section and key: `EMBERPOST__SERVER__LISTEN`.
pub const VARIABLE_PREFIX: &str = "EMBERPOST__";

pub type Settings = BTreeMap<String, Setting>;

#[derive(Clone, Debug)]
pub struct Setting {
    /// `file:line`, the variable's name or the flag.
    pub place: String,
    pub value: Value,
    /// The variable's text: `8080` is a number in a file, but may be meant as a name in a variable.
    pub variable_text: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// Something that no key takes, by its name: a float, a date.
    Other(&'static str),
    List(Vec<Setting>),
    Table(Settings),
}

impl Value {
    /// With article, for sentences.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text",
            Value::Integer(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Other(kind) => kind,
            Value::List(_) => "a list",
            Value::Table(_) => "a section",
        }
    }
}

/// Reads one TOML text. What could be read is returned beside every syntax mistake.
pub fn from_toml(text: &str, file: &str) -> (Settings, Vec<Mistake>) {
    let lines = Lines::of(text, file);
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = |span: Option<Range<usize>>| span.map_or(file.to_owned(), |span| lines.place(span.start));
    let mistakes = errors.iter().map(|error| Mistake {
        place: place(error.span()),
        text: format!("this is no TOML: {}", error.message().lines().next().unwrap_or("unreadable")),
    });
    (lines.settings(table.get_ref()), mistakes.collect())
}

struct Lines<'a> {
    /// Where each line ends, so that a place is looked up without reading all that stands before it.
    ends: Vec<usize>,
    file: &'a str,
}

impl<'a> Lines<'a> {
    fn of(text: &str, file: &'a str) -> Lines<'a> {
        Lines { ends: memchr::memchr_iter(b'\n', text.as_bytes()).collect(), file }
    }

    fn place(&self, offset: usize) -> String {
        format!("{}:{}", self.file, 1 + self.ends.partition_point(|end| *end < offset))
    }

    fn settings(&self, table: &DeTable) -> Settings {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue>)| {
            let key_text: &std::borrow::Cow<str> = key.get_ref();
            let setting = Setting { place: self.place(key.span().start), ..self.setting(value) };
            (key_text.clone().into_owned(), setting)
        };
        table.iter().map(entry).collect()
    }

    fn setting(&self, value: &Spanned<DeValue>) -> Setting {
        let place = self.place(value.span().start);
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
        Setting { place, value, variable_text: None }
    }
}

/// Reads the variables that begin with `EMBERPOST__`; others are not ours.
pub fn from_variables(variables: impl Iterator<Item = (String, String)>) -> (Settings, Vec<Mistake>) {
    let mut settings = Settings::new();
    let mut mistakes = Vec::new();
    // Sorted, so that mistakes come in the same order every time.
    let variables: BTreeMap<String, String> = variables.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect();
    for (name, text) in variables {
        let path = name[VARIABLE_PREFIX.len()..].to_ascii_lowercase();
        match path.split_once("__") {
            Some((section, key)) if !section.is_empty() && !key.is_empty() => {
                put(&mut settings, section, key, from_variable(&name, text));
            }
            _ => mistakes
                .push(Mistake { text: format!("a variable is spelled {VARIABLE_PREFIX}SECTION__KEY"), place: name }),
        }
    }
    (settings, mistakes)
}

/// Sets one key of one section, as a flag does.
pub fn put(settings: &mut Settings, section: &str, key: &str, setting: Setting) {
    let place = setting.place.clone();
    let section = settings.entry(section.to_owned()).or_insert_with(|| Setting {
        place,
        value: Value::Table(Settings::new()),
        variable_text: None,
    });
    if let Value::Table(table) = &mut section.value {
        table.insert(key.to_owned(), setting);
    }
}

/// A TOML scalar or list where the text is one, else the text itself.
fn from_variable(name: &str, text: String) -> Setting {
    let document = format!("value = {text}");
    // A line break would let the text add keys of its own.
    let parsed = if text.contains('\n') { None } else { DeTable::parse(&document).ok() };
    let lines = Lines::of("", name);
    let value = parsed
        .and_then(|table| table.get_ref().get("value").map(|value| lines.setting(value)))
        .map_or_else(|| Value::Text(text.clone()), |setting| renamed(setting, name).value);
    Setting { place: name.to_owned(), value, variable_text: Some(text) }
}

/// A variable has no lines: its parts are all at its name.
fn renamed(mut setting: Setting, name: &str) -> Setting {
    setting.place = name.to_owned();
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
                    section.place = setting.place;
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
        let (settings, mistakes) = from_toml(text, "x.toml");
        assert_eq!(mistakes, []);
        let Value::Table(server) = &settings["server"].value else { panic!("a section") };
        assert_eq!(server["max_in_flight"].place, "x.toml:3");
        assert!(matches!(server["max_in_flight"].value, Value::Integer(16)));
        let Value::List(routes) = &settings["route"].value else { panic!("a list") };
        assert_eq!([&routes[0].place, &routes[1].place], ["x.toml:5", "x.toml:10"]);
        let Value::Table(route) = &routes[0].value else { panic!("a section") };
        let Value::List(to) = &route["to"].value else { panic!("a list") };
        assert_eq!([&to[0].place, &to[1].place], ["x.toml:7", "x.toml:8"]);
        assert_eq!(to[1].value.kind(), "a number with a fraction");
    }

    #[test]
    fn every_syntax_mistake_is_named_and_the_rest_is_read() {
        let (settings, mistakes) = from_toml("[server]\nlisten = \nname = \"x\"\n[store\nurl = 1\n", "x.toml");
        let places: Vec<_> = mistakes.iter().map(|mistake| &*mistake.place).collect();
        assert!(places.contains(&"x.toml:2") && places.contains(&"x.toml:4"), "{mistakes:?}");
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
        let (settings, mistakes) = from_variables(variables.into_iter());
        assert_eq!(mistakes.len(), 1);
        assert_eq!(mistakes[0].place, "EMBERPOST__SERVER");
        let kind = |section: &str, key: &str| match &settings[section].value {
            Value::Table(table) => table[key].value.kind(),
            other => other.kind(),
        };
        assert_eq!(kind("server", "listen"), "a text");
        assert_eq!(kind("server", "max_in_flight"), "a number");
        assert_eq!(kind("store", "url"), "a text");
        assert_eq!(kind("definitions", "paths"), "a list");
        assert_eq!(kind("validation", "level"), "a text");
    }
}

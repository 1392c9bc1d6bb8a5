//! The documentation, compared with the source: rule numbers, and references to texts that are not in the repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text files below a folder or at a path, with their content.
fn texts(path: &Path, found: &mut Vec<(PathBuf, String)>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            texts(&entry.unwrap().path(), found);
        }
    } else if let Ok(text) = fs::read_to_string(path) {
        found.push((path.to_owned(), text));
    }
}

fn all(paths: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    paths.iter().for_each(|path| texts(&root().join(path), &mut found));
    assert!(!found.is_empty());
    found
}

/// The rule numbers of a text: one of the families, a hyphen, and at least two digits (one for `bdl`).
fn rules(text: &str) -> BTreeSet<String> {
    const FAMILIES: [(&str, usize); 8] =
        [("MSG", 2), ("EXC", 2), ("ASY", 2), ("SEC", 2), ("JSN", 2), ("XML", 2), ("VER", 2), ("bdl", 1)];
    let mut found = BTreeSet::new();
    for (family, digits) in FAMILIES {
        for (at, _) in text.match_indices(&format!("{family}-")) {
            let is_inside = text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
            let number: String = text[at + 4..].chars().take_while(char::is_ascii_digit).collect();
            // bdl-3a; but not the numbers that generated text continues.
            let suffix = text[at + 4 + number.len()..].chars().take_while(char::is_ascii_lowercase).collect::<String>();
            if !is_inside && number.len() >= digits && suffix.len() <= 1 {
                found.insert(format!("{family}-{number}{suffix}"));
            }
        }
    }
    found
}

#[test]
fn every_rule_number_of_the_source_is_explained() {
    let page = fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let listed: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ").map(|row| row.0)).collect();
    for (path, text) in all(&["src", "crates", "tests/it", "README.md", "ARCHITECTURE.md", "docs"]) {
        for rule in rules(&text) {
            assert!(listed.contains(&rule.as_str()), "{}: docs/rules.md does not explain {rule}", path.display());
        }
    }
    let distinct: BTreeSet<&&str> = listed.iter().collect();
    let headings = listed.iter().filter(|word| **word == "rule").count();
    assert_eq!(distinct.len(), listed.len() + 1 - headings, "docs/rules.md has a rule twice");
}

#[test]
fn nothing_refers_to_texts_outside_of_the_repository() {
    let pages = ["src", "crates", "tools", "tests", "docs", "examples", "compose", "message-definitions", "README.md"];
    for (path, text) in all(&[&pages[..], &["ARCHITECTURE.md", "CHANGELOG.md"]].concat()) {
        for (number, line) in text.lines().enumerate() {
            let after = line.split("design ").nth(1).unwrap_or_default();
            let is_section = after.starts_with(|c: char| c.is_ascii_digit());
            assert!(!is_section, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

/// Links between pages lead somewhere.
#[test]
fn links_to_files_lead_to_files() {
    for (path, text) in all(&["README.md", "ARCHITECTURE.md", "docs", "message-definitions/README.md", "examples"]) {
        if path.extension().is_none_or(|extension| extension != "md")
            || path.components().any(|part| part.as_os_str() == "node_modules")
        {
            continue;
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let is_file = !file.is_empty() && !file.contains(':') && !file.contains(' ');
            let target = path.parent().unwrap().join(file);
            assert!(!is_file || target.exists(), "{}: there is no {}", path.display(), target.display());
        }
    }
}

/// Paths between accents, such as `src/store/batch.rs`.
#[test]
fn files_that_the_documentation_names_exist() {
    for (path, text) in all(&["README.md", "ARCHITECTURE.md", "docs"]) {
        let named = text.split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '\n', '*', ':', '<']));
        for name in named.filter(|name| ["src/", "crates/", "tools/", "tests/"].iter().any(|top| name.starts_with(top)))
        {
            assert!(root().join(name).exists(), "{}: there is no {name}", path.display());
        }
    }
}

#[test]
fn the_page_on_http_shows_its_examples_as_they_are() {
    let page = fs::read_to_string(root().join("docs/http.md")).unwrap();
    for (path, text) in all(&["examples/http"]) {
        let is_program = path.extension().is_some_and(|it| ["py", "mjs", "go", "java"].iter().any(|own| it == *own));
        assert!(!is_program || page.contains(text.trim_end()), "docs/http.md does not show {}", path.display());
    }
}

/// Phrases that a reader has to decode. The list is short; it samples the language of the documentation and the help.
const BANNED: [&str; 16] = [
    "is told",
    "are told",
    "be told",
    "of late",
    "put up with",
    "comes to stand",
    "way home",
    "who comes",
    "who waits",
    "who asks",
    "a mistake",
    "mistakes are",
    "without doubt",
    "given to nobody",
    "stands in",
    "goes on and",
];

#[test]
fn documentation_and_help_are_in_plain_english() {
    let pages =
        ["README.md", "CHANGELOG.md", "docs", "tests/help", "message-definitions/README.md", "src/admin/openapi.json"];
    for (path, text) in all(&pages) {
        if path.ends_with("validation.md") {
            // Made by tools/validation-page from the texts of issues.
            continue;
        }
        let words = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
        for phrase in BANNED {
            let found = words.match_indices(phrase).find(|(at, _)| {
                let end = at + phrase.len();
                !words[..*at].ends_with(char::is_alphabetic) && !words[end..].starts_with(char::is_alphabetic)
            });
            assert!(found.is_none(), "{}: \"{phrase}\"", path.display());
        }
    }
}

/// The words of a text that begin with `emberpost_`.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let name = |(at, _): (usize, &str)| text[at..].chars().take_while(|letter| is_part(*letter)).collect::<String>();
    text.match_indices("emberpost_").map(name).collect()
}

#[test]
fn alert_rules_and_pages_name_metrics_that_exist() {
    let mut source = String::new();
    all(&["src/metrics.rs", "src/metrics"]).iter().for_each(|(_, text)| source.push_str(text));
    let rules = fs::read_to_string(root().join("docs/alerts.yaml")).unwrap();
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let named: BTreeSet<String> = metrics_in(&rules).union(&metrics_in(&page)).cloned().collect();
    assert!(named.len() > 8, "{named:?}");
    for name in named {
        let stem = name.trim_start_matches("emberpost_").trim_end_matches("_bucket").trim_end_matches("_total");
        assert!(source.contains(&format!("\"{stem}\"")), "{name} is not a metric");
    }
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(page.contains(&format!("`{alert}`")), "docs/operations.md does not say what to do about {alert}");
    }
}

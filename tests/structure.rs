//! The structure of the source, checked by reading it: imports follow the table in `src/lib.rs`, no file is part of a
//! circle of imports, and phrases that we do not write stay out of documents and texts for users.
//!
//! The reader is simple on purpose. It knows `use` declarations and paths that begin with `crate`, `super`, or `self`, and
//! leaves out tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Phrases that we do not write. "There is no …", "is no longer …", and "is no more than …" are fine.
const BANNED: [&str; 9] =
    ["is no ", "is told ", "are told ", "put up with", "of late", " stands in ", "who comes", "for ever", " mistake"];

/// A source file as a module path, such as `channel::amqp::link`, and its text without comments and tests.
struct Source {
    module: Vec<String>,
    file: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files_below(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}

/// Everything up to the file's test module, without comments.
fn product_code(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_test = |at: usize| {
        lines[at].trim() == "#[cfg(test)]" && lines.get(at + 1).is_some_and(|next| next.starts_with("mod tests {"))
    };
    let end = (0..lines.len()).find(|at| is_test(*at)).unwrap_or(lines.len());
    let code =
        |line: &&str| line.split(" // ").next().filter(|code| !code.trim_start().starts_with("//")).map(str::to_owned);
    lines[..end].iter().filter_map(code).collect::<Vec<_>>().join("\n")
}

fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["tests.rs", "fixture.rs"].contains(&name)
        || path.ends_with("queue/cases.rs")
        || name.ends_with("_tests.rs")
        || path.contains("/tests/")
        || path.contains("/testing")
}

fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    files_below(&root().join(folder), ".rs", &mut paths);
    let mut sources: Vec<Source> = Vec::new();
    for path in paths {
        let file = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        if is_test_file(&file) {
            continue;
        }
        let module = file.strip_prefix(&format!("{folder}/")).unwrap_or_default().trim_end_matches(".rs");
        let module = module.trim_end_matches("/mod").split('/').map(str::to_owned).collect();
        let text = product_code(&fs::read_to_string(&path).expect("a readable file"));
        sources.push(Source { module, file, text });
    }
    sources.sort_by(|one, other| one.file.cmp(&other.file));
    sources
}

/// Every path that begins with `crate`, `super`, or `self`, with groups in braces expanded.
fn imported_paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(start) {
            let is_inside =
                text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':');
            if !is_inside {
                expand(String::new(), &text[at..], &mut paths);
            }
        }
    }
    paths
}

/// Reads one path or group at the start of `rest`; returns what follows it.
fn expand<'t>(prefix: String, rest: &'t str, paths: &mut Vec<String>) -> &'t str {
    let rest = rest.trim_start();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            inner = expand(prefix.clone(), inner, paths).trim_start();
            match inner.strip_prefix(',') {
                Some(next) if !next.trim_start().starts_with('}') => inner = next,
                Some(next) => return next.trim_start().strip_prefix('}').unwrap_or(next),
                None => return inner.strip_prefix('}').unwrap_or(inner),
            }
        }
    }
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
    let path = format!("{prefix}{}", &rest[..end]);
    match rest[end..].strip_prefix("::") {
        Some(next) if next.starts_with(|letter: char| letter.is_alphabetic() || letter == '{' || letter == '_') => {
            expand(format!("{path}::"), next, paths)
        }
        _ => {
            paths.push(path);
            let after = &rest[end..];
            match after.strip_prefix(" as ") {
                Some(alias) => alias.trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_'),
                None => after,
            }
        }
    }
}

/// The path as segments from the crate's root.
fn absolute(path: &str, module: &[String]) -> Vec<String> {
    let mut at: Vec<String> = module.to_vec();
    let mut segments = path.split("::").peekable();
    match segments.next() {
        Some("crate") => at.clear(),
        Some("super") => {
            at.pop();
            while segments.next_if_eq(&"super").is_some() {
                at.pop();
            }
        }
        _ => {}
    }
    at.extend(segments.map(str::to_owned));
    at
}

/// The table in `src/lib.rs`: modules in order, each with those that it may import.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let lines = text.lines().skip_while(|line| *line != "//! ```text").skip(1).take_while(|line| *line != "//! ```");
    let mut table: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in lines {
        let line = line.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default();
        let mut words = line.split_whitespace().map(str::to_owned);
        if !line.starts_with(' ') {
            table.push((words.next().expect("a module"), BTreeSet::new()));
        }
        table.last_mut().expect("a module first").1.extend(words);
    }
    table
}

#[test]
fn imports_follow_the_table_of_modules() {
    let table = table();
    let order: Vec<&str> = table.iter().map(|(module, _)| module.as_str()).collect();
    for (at, (module, allowed)) in table.iter().enumerate() {
        let upward = allowed.iter().find(|import| !order[at + 1..].contains(&import.as_str()));
        assert_eq!(upward, None, "the table lets {module} import a module that is not below it");
    }
    let mut wrong = BTreeSet::new();
    for source in sources("src") {
        let module = source.module[0].as_str();
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let Some((_, allowed)) = table.iter().find(|(known, _)| known == module) else {
            wrong.insert(format!("{}: add the module {module} to the table in src/lib.rs", source.file));
            continue;
        };
        for path in imported_paths(&source.text) {
            let path = absolute(&path, &source.module);
            let Some(import) = path.first().filter(|import| *import != module && order.contains(&import.as_str()))
            else {
                continue;
            };
            if !allowed.contains(import) {
                wrong.insert(format!("{} imports {import}, which the table in src/lib.rs does not allow", source.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

/// The tools, which are crates, too.
const TOOLS: [&str; 4] = ["tools/bench/src", "tools/definitions", "tools/fuzz", "tools/validation-page"];

/// The folder `src` of the router and of each library.
fn crates() -> Vec<String> {
    let mut folders = vec!["src".to_owned()];
    for entry in fs::read_dir(root().join("crates")).expect("the folder crates") {
        folders.push(format!("crates/{}/src", entry.expect("a crate").file_name().to_string_lossy()));
    }
    folders.sort();
    folders
}

/// Which file imports from which. A module and its submodules are one unit, so imports between them do not count.
fn imports_of_files(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources(folder);
    let modules: BTreeSet<String> = sources.iter().map(|source| source.module.join("::")).collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let module = source.module.join("::");
        for path in imported_paths(&source.text) {
            let path = absolute(&path, &source.module);
            let import =
                (1..=path.len()).rev().map(|length| path[..length].join("::")).find(|path| modules.contains(path));
            let is_own = |other: &str| {
                other == module
                    || other.starts_with(&format!("{module}::"))
                    || module.starts_with(&format!("{other}::"))
            };
            if let Some(import) = import.filter(|import| !is_own(import)) {
                imports.entry(module.clone()).or_default().insert(import);
            }
        }
    }
    imports
}

fn reachable<'i>(from: &'i str, imports: &'i BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'i str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for import in imports.get(module).into_iter().flatten() {
            if seen.insert(import.as_str()) {
                open.push(import);
            }
        }
    }
    seen
}

#[test]
fn no_file_imports_from_one_that_imports_from_it() {
    let (mut circular, mut files) = (Vec::new(), 0);
    for folder in crates().into_iter().chain(TOOLS.map(str::to_owned)) {
        let imports = imports_of_files(&folder);
        files += imports.len();
        let in_circle = |module: &&String| reachable(module, &imports).contains(module.as_str());
        circular.extend(imports.keys().filter(in_circle).map(|module| format!("{folder} {module}")));
    }
    assert!(files > 300, "{files} files with imports were found");
    assert!(circular.is_empty(), "these files are part of a circle of imports: {circular:?}");
}

/// The banned phrase that the text contains, if any.
fn banned_phrase(text: &str) -> Option<&'static str> {
    let is_fine = |at: usize, phrase: &str| {
        let before = text[..at].trim_end().to_ascii_lowercase();
        let after = &text[at + phrase.len()..];
        phrase == "is no "
            && (before.ends_with("there") || after.starts_with("longer") || after.starts_with("more than"))
    };
    BANNED.into_iter().find(|phrase| text.match_indices(phrase).any(|(at, _)| !is_fine(at, phrase)))
}

/// String literals of one line, roughly: enough to find phrases in them.
fn literals(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

#[test]
fn banned_phrases_stay_out_of_documents() {
    let mut paths = Vec::new();
    files_below(&root().join("docs"), ".md", &mut paths);
    paths.push(root().join("README.md"));
    for path in paths {
        let file = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a readable file");
        for (number, line) in text.lines().enumerate() {
            assert_eq!(banned_phrase(line), None, "{file}:{}", number + 1);
        }
    }
}

#[test]
fn banned_phrases_stay_out_of_texts_for_users() {
    for source in crates().iter().flat_map(|folder| sources(folder)) {
        for line in source.text.lines() {
            let found = literals(line).find_map(|literal| Some((banned_phrase(literal)?, literal)));
            assert_eq!(found, None, "{}", source.file);
        }
    }
}

#[test]
fn paths_are_read_with_groups_aliases_and_from_inside_code() {
    let text = "use crate::a::{self, b::C, d as e};\nlet x = super::f::g(crate::h::I);\nuse self::j;";
    let paths: BTreeSet<String> = imported_paths(text).into_iter().collect();
    let wanted = ["crate::a::b::C", "crate::a::d", "crate::a::self", "crate::h::I", "self::j", "super::f::g"];
    assert_eq!(paths.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    assert_eq!(banned_phrase("there is no store at x; it is no longer there"), None);
    assert_eq!(banned_phrase("which is no participant"), Some("is no "));
}

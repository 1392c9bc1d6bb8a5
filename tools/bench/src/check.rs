//! The cost of checking a message, beside parsing the same JSON to `serde_json::Value` in the same run.
//!
//! Uses the JSON messages of a folder closest to 4 KB and 50 KB, and the largest. Each figure is the median of many
//! runs, and of five rounds in which the variants alternate. First it measures the time and memory for the definitions
//! of the three versions, from an empty process.

use bytes::Bytes;
use fhir::format::convert;
use fhir::{FhirVersion, Format};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;
use validation::definition::{DefinitionFile, Definitions};
use validation::{Checks, Level, ProseRules, check_document};

/// Sizes to look for, in bytes.
const SIZES: [(&str, usize); 3] =
    [("nearest to 4 KB", 4_000), ("nearest to 50 KB", 50_000), ("the largest", usize::MAX)];
const ROUNDS: usize = 5;
/// The number of bytes that one round of one variant processes.
const ROUND_BYTES: usize = 40_000_000;

/// Prints the times of loading the definitions, then a table of the messages.
pub fn run() {
    loaded();
    let Some(corpus) = std::env::var_os("EMBERPOST_CORPUS").map(PathBuf::from) else {
        println!("skipped: set EMBERPOST_CORPUS to a folder of real messages");
        return;
    };
    println!(
        "\n| message | bytes | serde_json::Value | JSON, structure | ratio | XML bytes | XML, structure | XML / JSON | profile | profile / structure |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let messages = messages(&corpus);
    for (name, size) in SIZES {
        let nearest = messages.iter().min_by_key(|(_, bytes)| bytes.len().abs_diff(size));
        if let Some((path, bytes)) = nearest {
            measure(name, &corpus, path, bytes);
        }
    }
}

fn checks(level: Level) -> Checks {
    Checks { level, prose_rules: ProseRules::Warning, take_unknown_events: true, now_us: 0 }
}

fn measure(name: &str, corpus: &Path, path: &Path, bytes: &Bytes) {
    let none = Definitions::default();
    let source = path.strip_prefix(corpus).ok().and_then(|path| path.components().next());
    let mut own = source.map(|source| definitions(&corpus.join(source))).unwrap_or_default();
    own.compile();
    let check = |bytes: &Bytes, format, definitions: &Definitions, level| {
        black_box(check_document(black_box(bytes.clone()), format, None, definitions, checks(level)));
    };
    let xml = convert(bytes.clone(), Format::Xml, FhirVersion::R4).ok();
    let mut ways: Vec<Box<dyn FnMut() + '_>> = vec![
        Box::new(|| drop(black_box(serde_json::from_slice::<serde_json::Value>(black_box(bytes))))),
        Box::new(|| check(bytes, Format::Json, &none, Level::Structure)),
        Box::new(|| check(bytes, Format::Json, &own, Level::Profile)),
    ];
    if let Some(xml) = &xml {
        ways.push(Box::new(|| check(xml, Format::Xml, &none, Level::Structure)));
    }
    let took = in_turns(&mut ways, (ROUND_BYTES / bytes.len()).clamp(11, 3_001));
    drop(ways);
    let xml_cells = match (&xml, took.get(3)) {
        (Some(xml), Some(took_xml)) => format!("{} | {took_xml:.1} us | {:.2}", xml.len(), took_xml / took[1]),
        _ => "cannot be written as XML | - | -".to_owned(),
    };
    println!(
        "| {name} | {} | {:.1} us | {:.1} us | {:.2} | {xml_cells} | {:.1} us | {:.1} |",
        bytes.len(),
        took[0],
        took[1],
        took[1] / took[0],
        took[2],
        took[2] / took[1],
    );
}

/// For each variant the median of its rounds' medians, in microseconds.
fn in_turns(ways: &mut [Box<dyn FnMut() + '_>], runs: usize) -> Vec<f64> {
    let mut rounds = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for (way, round) in ways.iter_mut().zip(&mut rounds) {
            round.push(median((0..runs).map(|_| {
                let started = Instant::now();
                way();
                started.elapsed().as_secs_f64() * 1e6
            })));
        }
    }
    rounds.into_iter().map(|round| median(round.into_iter())).collect()
}

fn median(times: impl Iterator<Item = f64>) -> f64 {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Loads every version by checking a small message of it, and prints the time and memory.
fn loaded() {
    let before = memory_bytes();
    for version in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5] {
        let started = Instant::now();
        let text =
            r#"{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"MessageHeader"}}]}"#;
        let bytes = Bytes::from_static(text.as_bytes());
        black_box(check_document(
            bytes,
            Format::Json,
            Some(version),
            &Definitions::default(),
            checks(Level::Structure),
        ));
        println!("definitions of {}: {:.1} ms", version.short(), started.elapsed().as_secs_f64() * 1e3);
    }
    println!("memory of the three: {:.1} MB", (memory_bytes() - before) as f64 / 1e6);
}

/// Resident memory of this process in bytes; 0 if the system does not provide it.
fn memory_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<i64>().ok()).unwrap_or(0) * 1024
}

/// The JSON messages below the folder.
fn messages(folder: &Path) -> Vec<(PathBuf, Bytes)> {
    let is_message = |path: &Path| {
        let is_json = path.extension().is_some_and(|ending| ending == "json" || ending == "fhir");
        is_json && path.iter().any(|part| part == "messages")
    };
    files(folder).into_iter().filter(|(path, _)| is_message(path)).map(|(path, bytes)| (path, bytes.into())).collect()
}

/// Definitions beside the messages of a source.
fn definitions(source: &Path) -> Definitions {
    let beside = files(source).into_iter().filter(|(path, _)| path.iter().all(|part| part != "messages"));
    let beside = beside.map(|(path, bytes)| DefinitionFile { path: path.display().to_string(), bytes });
    Definitions::load(&beside.collect::<Vec<_>>()).0
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

//! Real messages of many publishers through one router: each is delivered byte for byte, or refused by a named rule.
//!
//! `EMBERPOST_CORPUS` names a folder with `<source>/**/messages/*.json` (or `.fhir`, `.xml`). Some files reuse another's identity with
//! other content, which is a conflict by design, so the messages go in rounds, each with a store of its own.
//!
//! The same run makes the table of `docs/corpus.md`: with `EMBERPOST_CORPUS_TABLE=write` it is written, else compared.

use crate::harness::{Answer, NodeConfig, Party, Peer, Reply, SOON, wait_until};
use bytes::Bytes;
use fhir::format::convert;
use fhir::{FhirVersion, Format};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

#[derive(Clone)]
pub struct Message {
    pub source: String,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// Ids by which it would be taken for another: each round holds each once.
    ids: BTreeSet<String>,
    pub is_response: bool,
}

/// The results for the messages of one publisher.
#[derive(Default)]
struct Tally {
    all: usize,
    taken: usize,
    /// Status and rules to how many.
    refused: BTreeMap<String, usize>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_real_message_is_delivered_byte_for_byte_or_refused_by_a_named_rule() {
    let Some(folder) = std::env::var_os("EMBERPOST_CORPUS") else {
        println!("skipped: EMBERPOST_CORPUS names no folder of real messages");
        return;
    };
    let messages = read_all(Path::new(&folder));
    assert!(!messages.is_empty(), "no messages in EMBERPOST_CORPUS");
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for round in rounds(messages) {
        run_round(round, &mut tallies).await;
    }
    let table = table(&tallies);
    hold_to(Part::First, &table);
}

/// The parts of `docs/corpus.md`; each is made by a test of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    First,
    OverAmqp,
}

/// What the second part begins with.
pub const OVER_AMQP: &str = "\n## Over AMQP\n";

/// Writes a part of the page, or compares it, as `EMBERPOST_CORPUS_TABLE` says.
#[track_caller]
pub fn hold_to(part: Part, text: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/corpus.md");
    let page = std::fs::read_to_string(&file).unwrap_or_default();
    let (first, second) = page.split_at(page.find(OVER_AMQP).unwrap_or(page.len()));
    if std::env::var("EMBERPOST_CORPUS_TABLE").is_ok_and(|wish| wish == "write") {
        let page = if part == Part::First { [text, second] } else { [first, text] };
        std::fs::write(&file, page.concat()).unwrap();
        return;
    }
    let written = if part == Part::First { first } else { second };
    assert_eq!(written, text, "docs/corpus.md is no longer true");
}

pub fn read_all(folder: &Path) -> Vec<Message> {
    let mut messages = Vec::new();
    for source in sorted(folder) {
        for path in files(&source).into_iter().filter(|path| path.iter().any(|part| part == "messages")) {
            let ending = path.extension().and_then(|ending| ending.to_str());
            if !matches!(ending, Some("json" | "fhir" | "xml")) {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            // Read by the product, but only to know which messages share a round.
            let json = convert(bytes.clone().into(), Format::Json, FhirVersion::R4).unwrap_or_default();
            let value: Value = serde_json::from_slice(&json).unwrap_or_default();
            let header = &value["entry"][0]["resource"];
            let ids = [&value["id"], &value["identifier"]["value"], &header["id"]];
            messages.push(Message {
                source: source.file_name().unwrap().to_string_lossy().into_owned(),
                ids: ids.into_iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                is_response: header.get("response").is_some(),
                path,
                bytes,
            });
        }
    }
    messages
}

/// Every file below a folder; some sources have a folder for each version.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = sorted(folder);
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

pub fn sorted(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Rounds in which no id occurs twice; responses first, so that none is taken for the answer to a request of its round.
pub fn rounds(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let mut rounds: Vec<(HashSet<String>, Vec<Message>)> = Vec::new();
    for message in messages {
        let free = rounds.iter().position(|(ids, _)| message.ids.iter().all(|id| !ids.contains(id)));
        let index = free.unwrap_or_else(|| {
            rounds.push(Default::default());
            rounds.len() - 1
        });
        rounds[index].0.extend(message.ids.iter().cloned());
        rounds[index].1.push(message);
    }
    for (_, round) in &mut rounds {
        round.sort_by_key(|message| !message.is_response);
    }
    rounds.into_iter().map(|(_, round)| round).collect()
}

/// One participant owns every address, and a route takes what names no destination.
async fn run_round(round: Vec<Message>, tallies: &mut BTreeMap<String, Tally>) {
    let everyone = Peer::answering(Answer::Empty(204)).await;
    let node = NodeConfig::new()
        .shipped_definitions()
        .definitions("unknown_events = \"route\"")
        .validation("level = \"message\"")
        .participant(Party::new("everyone").address("*").at(&everyone).with("order = \"none\""))
        .toml("[[route]]\nto = [\"everyone\"]")
        .start()
        .await;
    let mut expected: Vec<(PathBuf, Bytes)> = Vec::new();
    for message in round {
        let tally = tallies.entry(message.source.clone()).or_default();
        tally.all += 1;
        let reply = node.ask(node.posting(message.bytes.clone()).header("accept", "application/fhir+json")).await;
        match judged(&message, &reply) {
            Ok(()) => {
                tally.taken += 1;
                expected.push((message.path, message.bytes.into()));
            }
            Err(why) => *tally.refused.entry(why).or_default() += 1,
        }
    }
    let what = "every message that was taken arrives byte for byte";
    wait_until(SOON, what, async || {
        let arrived: HashSet<Bytes> = everyone.received().into_iter().map(|received| received.body).collect();
        expected.iter().all(|(_, bytes)| arrived.contains(bytes))
    })
    .await;
}

/// Taken, or why not: the status and the rules that the reply names. Panics on a reply that explains nothing.
fn judged(message: &Message, reply: &Reply) -> Result<(), String> {
    let file = message.path.display();
    assert!(reply.status < 500, "{file}: {} {}", reply.status, reply.text());
    if reply.is_plain_success() {
        return Ok(());
    }
    let issues = reply.issues();
    let errors = issues.iter().filter(|issue| matches!(issue["severity"].as_str(), Some("error" | "fatal")));
    let rules: BTreeSet<String> = errors
        .map(|issue| {
            let codings = issue["details"]["coding"].as_array().cloned().unwrap_or_default();
            let rule = codings.iter().find(|coding| coding["system"] == "urn:emberpost:rule");
            let rule = rule.and_then(|rule| rule["code"].as_str());
            rule.unwrap_or_else(|| panic!("{file}: an issue without a rule: {issue}")).to_owned()
        })
        .collect();
    assert!(!rules.is_empty(), "{file}: refused without an error: {} {}", reply.status, reply.text());
    let rules: Vec<_> = rules.into_iter().collect();
    Err(format!("{} ({})", rules.join(", "), reply.status))
}

fn table(tallies: &BTreeMap<String, Tally>) -> String {
    let mut text = String::from(
        "# Real messages\n\nThe results of sending messages of many publishers, JSON and XML, to a router whose participants cover their \
         addresses, with the shipped\ndefinitions, `unknown_events = \"route\"`, and `level = \"message\"`. Each accepted \
         message arrived byte for byte; each other message was\nrefused by the named rules, with the HTTP status in \
         parentheses (200: a `fatal-error` message).\n\nMade by `EMBERPOST_CORPUS=<folder> EMBERPOST_CORPUS_TABLE=write cargo test --test it corpus`, and \
         compared by the same test\nwithout the second variable.\n\n| source | messages | taken | refused, by rule |\n\
         |---|---|---|---|\n",
    );
    let (mut all, mut taken) = (0, 0);
    for (source, tally) in tallies {
        let refused: Vec<_> = tally.refused.iter().map(|(why, count)| format!("{count}: {why}")).collect();
        let _ = writeln!(text, "| {source} | {} | {} | {} |", tally.all, tally.taken, refused.join("; "));
        all += tally.all;
        taken += tally.taken;
    }
    let _ = writeln!(text, "| all | {all} | {taken} | |");
    text
}

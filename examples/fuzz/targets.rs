//! What is fed, with what it begins from.

use bytes::Bytes;
use emberpost::fhir::{Message, json};
use std::path::{Path, PathBuf};

pub struct Target {
    pub name: &'static str,
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub dictionary: &'static [&'static str],
    /// Must not panic, whatever it is given.
    pub run: fn(&[u8]),
}

pub const TARGETS: [&Target; 1] = [&JSON];

const JSON: Target = Target { name: "json", seeds: || messages("json"), dictionary: WORDS, run: json };

const WORDS: &[&str] =
    &["{", "}", "[", "]", "null", "\"", "\\u0000", "\\ud800", "1e999", "-0", "\"resourceType\":", "\"_", ","];

fn json(bytes: &[u8]) {
    if let Ok(tree) = json::parse(Bytes::copy_from_slice(bytes))
        && let Ok(message) = Message::read(tree, None, None)
    {
        std::hint::black_box(message.identity());
    }
}

/// Our own samples, and those of the corpus where it is set, of this ending.
fn messages(ending: &str) -> Vec<Vec<u8>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("message-definitions/samples");
    let corpus = std::env::var_os("EMBERPOST_CORPUS").map(PathBuf::from);
    let mut found = Vec::new();
    for folder in [Some(own), corpus].into_iter().flatten() {
        collect(&folder, ending, &mut found);
    }
    found
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, ending, found);
        } else if path.extension().is_some_and(|known| known == ending) {
            found.extend(std::fs::read(&path).ok());
        }
    }
}

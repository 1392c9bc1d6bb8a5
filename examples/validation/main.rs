//! Makes `docs/validation.md`: what is checked, and how it compares with the HL7 reference validator.
//!
//! `EMBERPOST_CORPUS=… EMBERPOST_ORACLE=… cargo run --release --example validation [-- --list]`. `--list` prints the
//! figures and every disagreement instead of writing the page.

mod explained;
mod oracle;
mod page;
mod ways;

use emberpost::clock::Clock;
use emberpost::fhir::{FhirVersion, Form, Issue};
use emberpost::validation::definition::Definitions;
use emberpost::validation::{Checks, Level, ProseRules, check_document};
use oracle::Source;
use page::Page;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let Some(source) = Source::of_environment() else {
        println!("skipped: EMBERPOST_CORPUS and EMBERPOST_ORACLE name no folders");
        return Ok(());
    };
    let made = std::env::temp_dir().join(format!("emberpost-mutants-{}", std::process::id()));
    let mutants = source.mutants(&made, &check);
    std::fs::remove_dir_all(&made)?;
    let (mutants, corpus) = (mutants?, source.corpus(&check)?);
    let own = ways::go(&check);
    let page = Page { corpus: &corpus, mutants: &mutants, own: &own };
    let text = page.write();
    if std::env::args().any(|argument| argument == "--list") {
        println!("{:?}", page.figures());
        let rows = text.split("## Where the two differ").nth(1).unwrap_or_default();
        println!("{rows}");
        return Ok(());
    }
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/validation.md"), text)
}

/// Level structure, prose rules as errors, any event.
fn check(bytes: Vec<u8>, form: Form, version: FhirVersion) -> Vec<Issue> {
    let checks = Checks {
        level: Level::Structure,
        prose_rules: ProseRules::Error,
        take_unknown_events: true,
        now_us: Clock::default().now_us(),
    };
    check_document(bytes.into(), form, Some(version), &Definitions::default(), checks).1
}

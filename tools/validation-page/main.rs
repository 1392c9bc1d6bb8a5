//! Makes `docs/validation.md`: what is checked, and how the results compare with those of the HL7 reference
//! validator.
//!
//! `EMBERPOST_CORPUS=… EMBERPOST_ORACLE=… cargo run --release -p emberpost-validation-page [-- --list]`. `--list`
//! prints the figures and every difference instead of writing the page.

mod cases;
mod explained;
mod oracle;
mod page;
mod rules;
#[cfg(test)]
mod tests;

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
    let mutants = source.mutants(&made);
    std::fs::remove_dir_all(&made)?;
    let (mutants, corpus) = (mutants?, source.corpus()?);
    let own = cases::run();
    let page = Page { corpus: &corpus, mutants: &mutants, own: &own };
    let text = page.write();
    if std::env::args().any(|argument| argument == "--list") {
        println!("{:?}", page.figures());
        let rows = text.split("## Where the two differ").nth(1).unwrap_or_default();
        println!("{rows}");
        return Ok(());
    }
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/validation.md"), text)
}

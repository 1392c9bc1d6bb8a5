//! Checks the messages of a folder: `cargo run -p emberpost-validation --example folder -- FOLDER`.

use emberpost_fhir::Format;
use emberpost_validation::definition::Definitions;
use emberpost_validation::{Checks, Level, check_document};
use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: folder FOLDER")?;
    let checks = Checks { level: Level::Structure, take_unknown_events: true, ..Checks::default() };
    let mut invalid = 0;
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if !path.is_file() {
            continue;
        }
        let bytes = fs::read(&path)?;
        let format = Format::detect(&bytes);
        let (_, issues) = check_document(bytes.into(), format, None, &Definitions::default(), checks);
        for issue in &issues {
            let place = issue.full_expression().unwrap_or_default();
            println!("{}: {:?} {place}: {}", path.display(), issue.severity, issue.diagnostics.full());
        }
        invalid += usize::from(issues.iter().any(|issue| issue.is_error()));
    }
    println!("{invalid} invalid");
    Ok(())
}

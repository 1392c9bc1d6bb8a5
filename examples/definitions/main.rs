//! Makes the tables of the base specification (src/fhir/schema/base) from the published definitions.
//!
//! `base-definitions --r4 DIR --r4b DIR --r5 DIR --out DIR`, each DIR an unpacked artefact as `fetch.sh` leaves it. The
//! same input gives the same bytes.

mod faults;
mod look;
mod source;
mod structures;
mod xml;

use anyhow::{Context, Result, bail};
use emberpost::fhir::FhirVersion;
use emberpost::fhir::schema::{Schema, ValueSet};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use structures::Maker;

fn main() -> Result<()> {
    let folders = arguments()?;
    let folder = |name: &str| folders.get(name).with_context(|| format!("--{name} DIR is missing"));
    let out = folder("out")?;
    fs::create_dir_all(out)?;
    for (version, name) in [(FhirVersion::R4, "r4"), (FhirVersion::R4B, "r4b"), (FhirVersion::R5, "r5")] {
        let resources = source::read(folder(name)?)?;
        make(version, name, &resources, out).with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn arguments() -> Result<HashMap<String, PathBuf>> {
    let mut given = HashMap::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.strip_prefix("--"), words.next()) {
            (Some(name), Some(folder)) => drop(given.insert(name.to_owned(), PathBuf::from(folder))),
            _ => bail!("usage: base-definitions --r4 DIR --r4b DIR --r5 DIR --out DIR"),
        }
    }
    Ok(given)
}

fn make(version: FhirVersion, name: &str, resources: &[serde_json::Value], out: &Path) -> Result<()> {
    let mut maker = Maker::new(version, resources);
    maker.make_types()?;
    for note in &maker.notes {
        eprintln!("{name}: {note}");
    }
    let mut schema = Schema::empty(version);
    schema.value_sets = maker.value_sets.iter().map(|url| ValueSet { url: (**url).into(), codes: None }).collect();
    schema.types = maker.types;
    schema.constraints = maker.constraints;
    println!(
        "{name}: {} types, {} constraints, {} value sets",
        schema.types.len(),
        schema.constraints.len(),
        schema.value_sets.len()
    );
    write(&out.join(format!("{name}.bin")), &postcard::to_stdvec(&schema)?)
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let packed = zstd::encode_all(bytes, 19)?;
    println!("{}: {} bytes, {} packed", file.display(), bytes.len(), packed.len());
    fs::write(file, packed).with_context(|| file.display().to_string())
}

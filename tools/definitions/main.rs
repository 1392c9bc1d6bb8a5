//! Makes the tables of the base specification (crates/fhir/src/schema/base) from the published definitions.
//!
//! `emberpost-definitions --r4 DIR --r4b DIR --r5 DIR --extensions DIR --out DIR`, where `fetch.sh` creates each
//! input DIR. The same input gives the same bytes.

mod corrections;
mod currencies;
mod extensions;
mod filter;
mod members;
mod place;
mod search;
mod source;
mod structures;
mod system;
mod terminology;
mod xml;

use anyhow::{Context, Result, bail, ensure};
use fhir::FhirVersion;
use fhir::schema::{Schema, UnboundValueSets, ValueSet};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use structures::Maker;
use terminology::{CODES_LIMIT, Terminology};

fn main() -> Result<()> {
    let folders = arguments()?;
    let folder = |name: &str| folders.get(name).with_context(|| format!("--{name} DIR is missing"));
    let out = folder("out")?;
    fs::create_dir_all(out)?;
    let r4 = source::read(folder("r4")?)?;
    let r4b = source::read(folder("r4b")?)?;
    let r5 = source::read(folder("r5")?)?;
    let packs = folder("extensions")?;
    let pack_r4 = source::read_package(&packs.join("r4.tgz"))?;
    let pack_r5 = source::read_package(&packs.join("r5.tgz"))?;
    let currencies = [currencies::code_system()];
    // The artifact of R4B has no v2 and v3 tables, and that of R4 lacks what the pack's value sets use from HL7's
    // shared terminology; the package beside R5 has both. The extensions pack has no edition for R4B, whose types
    // are those of R4 wherever an extension is allowed.
    let versions = [
        (FhirVersion::R4, "r4", &r4, &pack_r4, r5.as_slice()),
        (FhirVersion::R4B, "r4b", &r4b, &pack_r4, &r5),
        (FhirVersion::R5, "r5", &r5, &pack_r5, &[]),
    ];
    for (version, name, resources, pack, fallback) in versions {
        let mut terminology = Terminology::new(resources);
        terminology.add(&currencies, |_| true);
        terminology.add(pack, |_| true);
        terminology.add(fallback, |url| url.starts_with("http://terminology.hl7.org/"));
        let schema = make(version, name, (resources, pack), &terminology, out).with_context(|| name.to_owned())?;
        let parameters = search::make(name, &schema, &source::search_parameters(folder(name)?)?)?;
        println!("{name}: {} search parameters", parameters.iter().count());
        write(&out.join(format!("{name}-search.bin")), &postcard::to_stdvec(&parameters)?)?;
    }
    Ok(())
}

fn arguments() -> Result<HashMap<String, PathBuf>> {
    let mut given = HashMap::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.strip_prefix("--"), words.next()) {
            (Some(name), Some(folder)) => drop(given.insert(name.to_owned(), PathBuf::from(folder))),
            _ => bail!("usage: emberpost-definitions --r4 DIR --r4b DIR --r5 DIR --extensions DIR --out DIR"),
        }
    }
    Ok(given)
}

fn make(
    version: FhirVersion,
    name: &str,
    (resources, pack): (&[serde_json::Value], &[serde_json::Value]),
    terminology: &Terminology,
    out: &Path,
) -> Result<Schema> {
    let mut maker = Maker::new(version, resources);
    maker.make_types()?;
    let extensions = extensions::make(&mut maker, resources, pack)?;
    for note in &maker.notes {
        eprintln!("{name}: {note}");
    }
    let mut schema = Schema::empty(version);
    schema.value_sets = maker.value_sets.iter().map(|url| value_set(terminology, url)).collect();
    let more = unbound_value_sets(terminology, &maker.value_sets);
    schema.types = maker.types;
    schema.constraints = maker.constraints;
    schema.extensions = extensions;
    let constraints = schema.constraints.iter().map(|constraint| &*constraint.expression);
    let invariants = schema.extensions.iter().flat_map(|extension| &extension.context_invariants).map(|text| &**text);
    let unmet = corrections::unmet(version, &constraints.chain(invariants).collect::<Vec<_>>());
    ensure!(unmet.is_empty(), "these are not published as corrections.rs has them: {unmet:?}");
    println!(
        "{name}: {} types, {} constraints, {} value sets, {} extensions",
        schema.types.len(),
        schema.constraints.len(),
        schema.value_sets.len(),
        schema.extensions.len()
    );
    for set in schema.value_sets.iter().filter(|set| set.codes.is_none()) {
        println!("{name}: not enumerable: {} of {:?}", set.url, set.systems);
    }
    let codes: usize = more.iter().filter_map(|set| set.codes.as_ref()).map(|codes| codes.codes.len()).sum();
    println!("{name}: {} further value sets with {codes} codes", more.len());
    write(&out.join(format!("{name}.bin")), &postcard::to_stdvec(&schema)?)?;
    write(&out.join(format!("{name}-sets.bin")), &postcard::to_stdvec(&UnboundValueSets::new(more))?)?;
    Ok(schema.indexed())
}

fn value_set(terminology: &Terminology, url: &str) -> ValueSet {
    let codes = terminology.codes(url).filter(|codes| codes.codes.len() <= CODES_LIMIT);
    let systems = terminology.systems_of(url);
    ValueSet { url: url.into(), codes, systems }
}

/// Every value set of the version to which no element has a required binding, by url.
fn unbound_value_sets(terminology: &Terminology, bound: &[String]) -> Vec<ValueSet> {
    let further = terminology.urls().filter(|url| !bound.iter().any(|known| known == url));
    further.map(|url| value_set(terminology, url)).collect()
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    // In one block, so that the frame header has the size and decoding needs no window of megabytes.
    let packed = zstd::bulk::compress(bytes, 19)?;
    println!("{}: {} bytes, {} packed", file.display(), bytes.len(), packed.len());
    fs::write(file, packed).with_context(|| file.display().to_string())
}

//! The fuzz targets, with their seeds.

use bytes::Bytes;
use emberpost::channel::media::{self, Encoding};
use fhir::element::Element;
use fhir::format::convert;
use fhir::schema::Schema;
use fhir::tree::Tree;
use fhir::{FhirVersion, Format, json};
use fhirpath::{Expression, Host, Scope};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use validation::definition::{DefinitionFile, Definitions};
use validation::{Checks, Level, ProseRules, check_document};

pub struct Target {
    pub name: &'static str,
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub dictionary: &'static [&'static str],
    /// Must not panic on any input.
    pub run: fn(&[u8]),
}

pub const JSON: Target = Target {
    name: "json",
    seeds: || messages("json"),
    dictionary: JSON_WORDS,
    run: |bytes| check(bytes, Format::Json),
};
pub const XML: Target =
    Target { name: "xml", seeds: xml_messages, dictionary: XML_WORDS, run: |bytes| check(bytes, Format::Xml) };
pub const GZIP: Target = Target { name: "gzip", seeds: packed, dictionary: &[], run: unpack };
pub const FHIRPATH: Target = Target { name: "fhirpath", seeds: expressions, dictionary: FHIRPATH_WORDS, run: evaluate };
pub const PACKAGE: Target = Target { name: "package", seeds: packages, dictionary: JSON_WORDS, run: load };

const JSON_WORDS: &[&str] =
    &["{", "}", "[", "]", "null", "\"", "\\u0000", "\\ud800", "1e999", "-0", "\"resourceType\":", "\"_", ",", "é"];
const XML_WORDS: &[&str] = &[
    "<",
    "/>",
    "</",
    "\"",
    "&#x0;",
    "&#1114112;",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?x ",
    "?>",
    "xmlns:a=\"",
    "<a:",
    "<!DOCTYPE x>",
    "<contained><Patient>",
    "<div xmlns=\"http://www.w3.org/1999/xhtml\">",
    "value=\"",
    "é",
];
const FHIRPATH_WORDS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    ".where(",
    ".repeat(",
    ".select(",
    "$this",
    "%resource",
    "'",
    "`",
    " and ",
    " | ",
    "@2024-02-29T",
    "1.0",
    "'mg'",
    ".descendants()",
    ".matches('(a+)+$')",
    ".replaceMatches('', 'xx')",
    ".resolve()",
    " as ",
    "{}",
    "-",
    ".aggregate($total + ",
    ".toString()",
    ".power(",
    "9999999999999999999999999999",
];

/// The maximum number of bytes unpacked from a body.
const UNPACKED_LIMIT_BYTES: usize = 1 << 20;

fn check(bytes: &[u8], format: Format) {
    let checks =
        Checks { level: Level::Structure, prose_rules: ProseRules::Error, take_unknown_events: false, now_us: 0 };
    let bytes = Bytes::copy_from_slice(bytes);
    black_box(check_document(bytes.clone(), format, None, &Definitions::default(), checks));
    for other in [Format::Json, Format::Xml] {
        if let Ok(converted) = convert(bytes.clone(), other, FhirVersion::R4) {
            black_box(converted);
        }
    }
}

fn unpack(bytes: &[u8]) {
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        if let Ok(unpacked) = media::decode(&Bytes::copy_from_slice(bytes), encoding, UNPACKED_LIMIT_BYTES, |_| true) {
            assert!(unpacked.len() <= UNPACKED_LIMIT_BYTES, "more bytes than the limit");
        }
    }
}

static SAMPLE: LazyLock<Option<Tree>> = LazyLock::new(|| {
    let sample = own().join("patient-link-request.json");
    json::parse(std::fs::read(sample).ok()?.into()).ok()
});

struct Nowhere;

impl Host<'_> for Nowhere {
    fn now_us(&self) -> i64 {
        1_800_000_000_000_000
    }
}

fn evaluate(bytes: &[u8]) {
    let Ok(expression) = Expression::parse(&String::from_utf8_lossy(bytes)) else { return };
    let schema = Schema::of(FhirVersion::R4);
    let Some(root) = SAMPLE.as_ref().and_then(|tree| Element::root(tree, schema)) else { return };
    let scope = Scope { schema, resource: root, root, host: &Nowhere };
    let _ = black_box(expression.evaluate(&scope, root));
}

fn load(bytes: &[u8]) {
    let named = |path: &str, bytes: &[u8]| DefinitionFile { path: path.to_owned(), bytes: bytes.to_vec() };
    let files = [named("fuzzed.tgz", bytes), named("fuzzed.json", bytes), named("packed.tgz", &tgz(bytes))];
    let (mut definitions, _) = Definitions::load(&files);
    definitions.compile();
    black_box(definitions);
}

/// A package whose one definition is these bytes.
fn tgz(bytes: &[u8]) -> Vec<u8> {
    let manifest = br#"{"name":"fuzz","version":"1.0.0","fhirVersions":["4.0.1"],"dependencies":{}}"#;
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in [("package/package.json", &manifest[..]), ("package/one.json", bytes)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        if archive.append_data(&mut header, path, content).is_err() {
            return Vec::new();
        }
    }
    archive.into_inner().and_then(GzEncoder::finish).unwrap_or_default()
}

/// Those of the corpus, and the shipped samples, which are JSON, converted.
fn xml_messages() -> Vec<Vec<u8>> {
    let converted = messages("json").into_iter().take(20);
    let converted = converted.filter_map(|bytes| convert(bytes.into(), Format::Xml, FhirVersion::R4).ok());
    messages("xml").into_iter().chain(converted.map(|converted| converted.to_vec())).collect()
}

fn packed() -> Vec<Vec<u8>> {
    let gzip = |bytes: Vec<u8>| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes).and_then(|()| encoder.finish()).unwrap_or_default()
    };
    let few = || messages("json").into_iter().take(20);
    few().map(gzip).chain(few().filter_map(|bytes| zstd::encode_all(&bytes[..], 1).ok())).collect()
}

/// The constraints of the base specification.
fn expressions() -> Vec<Vec<u8>> {
    let schema = Schema::of(FhirVersion::R5);
    schema.constraints.iter().map(|constraint| constraint.expression.as_bytes().to_vec()).collect()
}

/// Profiles of our own, as files and in a package.
fn packages() -> Vec<Vec<u8>> {
    let profile = br#"{"resourceType":"StructureDefinition","url":"urn:p","name":"P","status":"active","fhirVersion":"4.0.1",
        "kind":"resource","abstract":false,"type":"Patient","derivation":"constraint",
        "baseDefinition":"http://hl7.org/fhir/StructureDefinition/Patient","differential":{"element":[
        {"id":"Patient","path":"Patient","constraint":[{"key":"own-1","severity":"error","human":"x","expression":"name.exists()"}]},
        {"id":"Patient.identifier","path":"Patient.identifier","slicing":{"discriminator":[{"type":"value","path":"system"}],"rules":"open"},"min":1},
        {"id":"Patient.identifier:a","path":"Patient.identifier","sliceName":"a","min":1,"max":"1"},
        {"id":"Patient.identifier:a.system","path":"Patient.identifier.system","fixedUri":"urn:a"},
        {"id":"Patient.maritalStatus","path":"Patient.maritalStatus","patternCodeableConcept":{"coding":[{"code":"M"}]}},
        {"id":"Patient.deceased[x]","path":"Patient.deceased[x]","type":[{"code":"boolean"}]}]}}"#;
    vec![profile.to_vec(), tgz(profile)]
}

fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../message-definitions/samples")
}

/// The shipped samples, and those of the corpus if it is set, with this extension; only small ones, to have many
/// runs.
fn messages(ending: &str) -> Vec<Vec<u8>> {
    let corpus = std::env::var_os("EMBERPOST_CORPUS").map(PathBuf::from);
    let mut found = Vec::new();
    for folder in [Some(own()), corpus].into_iter().flatten() {
        collect(&folder, ending, &mut found);
    }
    found.retain(|bytes| bytes.len() < 64 * 1024);
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

//! Reads and writes FHIR XML (XML-01 to XML-05).
//!
//! Reading produces the tree that the equivalent JSON would produce, so that all later code handles both formats
//! alike: the JSON text is written beside the nodes, and the tree records positions in the XML. `scan` parses any
//! XML to a `document`, `hints` detects the version from its header, `build` shapes it by that version's `schema`.
//! `write` is the exact inverse.
//!
//! | rule | says |
//! |---|---|
//! | XML1.0 | well-formed, namespaces declared, not nested too deeply: else it cannot be read |
//! | XML-01 | namespace of FHIR on each element (else it cannot be read), elements in order, one resource in its element |
//! | XML-02 | no empty element, no empty value |
//! | XML-03 | UTF-8, no DTD, no entities (else it cannot be read), no location of schemas |
//! | XML-05 | nothing that JSON has no place for: text in elements, attributes of no meaning |
//!
//! A document that only violates XML-05 can be read but not converted: its JSON would say less.

mod build;
mod document;
mod hints;
mod namespace;
mod narrative;
mod prolog;
mod scan;
mod text;
mod write;

pub use self::hints::Hints;
use self::scan::Stop;
pub use self::write::write;
use super::finding::{Finding, Findings, ISSUE_LIMIT};
use super::issue::{Issue, Severity};
use super::schema::Schema;
use super::tree::{Source, Tree};
use super::version::FhirVersion;
use bytes::Bytes;
use bytestring::ByteString;

/// The rule number of violations of the XML grammar.
const GRAMMAR: &str = "XML1.0";

/// The rule of content that JSON cannot represent.
const NO_PLACE: &str = "XML-05";

/// Parses one XML document. `declared` is the version that the media type names, `expected` the participant's;
/// without them the header's spelling decides, else R4. Violations of FHIR's rules alone become `Tree::notes`.
/// Positions of the tree are those in the XML.
///
/// # Errors
/// What makes the document unreadable, with line and column.
pub fn parse(bytes: Bytes, declared: Option<FhirVersion>, expected: Option<FhirVersion>) -> Result<Tree, Vec<Issue>> {
    parse_with(bytes, |hints| Schema::of(hints.version(declared, expected)))
}

/// The same with a schema that is chosen once the document's spelling is known.
pub fn parse_with<'s>(bytes: Bytes, choose: impl FnOnce(Hints) -> &'s Schema) -> Result<Tree, Vec<Issue>> {
    let (built, root) = {
        let document = scan::document(&bytes).map_err(|stop| refused(&bytes, stop, Findings::default(), None))?;
        let schema = choose(Hints::of(&document));
        let root = document.elements.first().map(|element| document.name(element).to_vec());
        let root = root.and_then(|name| String::from_utf8(name).ok());
        let built = build::build(&document, schema);
        let built = built.map_err(|(stop, findings)| refused(&bytes, stop, findings, root.as_deref()))?;
        (built, root)
    };
    let notes = built.findings.into_issues(&bytes, root.as_deref())?;
    Ok(Tree {
        // Slices of text that was checked.
        text: ByteString::try_from(built.json).unwrap_or_default(),
        slots: built.slots,
        notes,
        source: Some(Source { bytes, offsets: built.offsets }),
    })
}

/// The JSON equivalent of a resource in XML, such as a definition; violations of FHIR's rules alone are ignored.
pub fn to_json(bytes: Bytes, version: FhirVersion) -> Result<Bytes, Vec<Issue>> {
    parse(bytes, Some(version), None).map(|tree| tree.json().clone())
}

/// The JSON equivalent of a tree, which is its own text. Errs if the XML says more than the JSON (XML-05).
pub fn json(tree: &Tree) -> Result<&Bytes, Vec<Issue>> {
    let lost: Vec<Issue> = tree.notes.iter().filter(|note| note.rule.as_deref() == Some(NO_PLACE)).cloned().collect();
    if lost.is_empty() { Ok(tree.json()) } else { Err(lost) }
}

fn refused(bytes: &[u8], stop: Stop, mut findings: Findings, root: Option<&str>) -> Vec<Issue> {
    let finding = Finding::new(stop.offset, stop.rule, stop.text, String::new());
    findings.end(Finding { severity: Severity::Fatal, code: stop.code, ..finding });
    findings.into_issues(bytes, root).err().unwrap_or_default()
}

#[cfg(test)]
mod tests;

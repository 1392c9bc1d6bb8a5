//! Detects the FHIR version of a message: the version that the sender declared, else the expected one, else what the
//! header looks like.
//!
//! Nothing in a Bundle states its version (VER-06), but the spellings of MSG-20 differ.

use super::cause::Cause;
use super::issue::{Issue, IssueCode};
use super::resolve::entries;
use super::tree::{Kind, Node, Tree};
use super::version::FhirVersion;

const HEADER: &str = "Bundle.entry[0].resource";

/// Elements that only STU3 has; `event` if it is an object.
const STU3: [&str; 4] = ["event", "timestamp", "receiver", "acknowledgement"];

/// An element that only one version has.
#[derive(Clone, Copy)]
struct Hint<'t> {
    of: Parent,
    name: &'static str,
    node: Node<'t>,
}

/// The object that has it.
#[derive(Clone, Copy)]
enum Parent {
    Header,
    Source,
    Destination(usize),
    Response,
}

impl Hint<'_> {
    fn at(&self) -> String {
        match self.of {
            Parent::Header => format!("{HEADER}.{}", self.name),
            Parent::Source => format!("{HEADER}.source.{}", self.name),
            Parent::Destination(index) => format!("{HEADER}.destination[{index}].{}", self.name),
            Parent::Response => format!("{HEADER}.response.{}", self.name),
        }
    }
}

/// The first such element of R4 and of R5.
#[derive(Default)]
struct Hints<'t> {
    r4: Option<Hint<'t>>,
    r5: Option<Hint<'t>>,
}

impl<'t> Hints<'t> {
    fn of(header: Node<'t>) -> Self {
        let mut hints = Hints::default();
        let [source, destination, response, uri, enterer, canonical] =
            header.pick(["source", "destination", "response", "eventUri", "enterer", "eventCanonical"]);
        hints.r4 = uri.map(named("eventUri")).or(enterer.map(named("enterer")));
        hints.r5 = canonical.map(named("eventCanonical"));
        if let Some(source) = source {
            hints.add_participant(source, Parent::Source);
        }
        for (index, node) in destination.into_iter().flat_map(Node::items).enumerate() {
            hints.add_participant(node, Parent::Destination(index));
        }
        if let Some(found) = response.and_then(|response| hint(response, Parent::Response, "identifier")) {
            match found.node.kind() {
                Kind::String => hints.r4 = hints.r4.or(Some(found)),
                Kind::Object => hints.r5 = hints.r5.or(Some(found)),
                _ => {}
            }
        }
        hints
    }

    fn add_participant(&mut self, participant: Node<'t>, of: Parent) {
        self.r4 = self.r4.or_else(|| hint(participant, of, "endpoint"));
        self.r5 = self
            .r5
            .or_else(|| hint(participant, of, "endpointUrl"))
            .or_else(|| hint(participant, of, "endpointReference"));
    }
}

/// The first element of a header that only STU3 has.
fn stu3_hint(header: Node<'_>) -> Option<Hint<'_>> {
    let [event, older @ ..] = header.pick(STU3);
    let event = event.filter(|node| node.is_object()).map(named(STU3[0]));
    event.or_else(|| older.into_iter().zip(&STU3[1..]).find_map(|(node, name)| node.map(named(name))))
}

fn named<'t>(name: &'static str) -> impl Fn(Node<'t>) -> Hint<'t> {
    move |node| Hint { of: Parent::Header, name, node }
}

fn hint<'t>(parent: Node<'t>, of: Parent, name: &'static str) -> Option<Hint<'t>> {
    parent.get(name).map(|node| Hint { of, name, node })
}

/// Why a message of STU3 is refused, if a MessageHeader, in any entry, shows that it is one.
pub(super) fn stu3(tree: &Tree) -> Option<Issue> {
    let resources = entries(tree).filter_map(|entry| entry.get("resource"));
    let mut headers = (0usize..)
        .zip(resources)
        .filter(|(_, resource)| resource.get("resourceType").and_then(Node::text).as_deref() == Some("MessageHeader"));
    let (index, hint) = headers.find_map(|(index, header)| Some((index, stu3_hint(header)?)))?;
    let text = "The MessageHeader is of FHIR STU3, which is not supported; send R4, R4B or R5";
    let issue = refusal(text.to_owned(), hint);
    Some(if index == 0 { issue } else { issue.at(format!("Bundle.entry[{index}].resource.{}", hint.name)) })
}

/// The version to read the message as, and a note if it mixes the spellings of two. Errs if `declared` (the
/// fhirVersion of the media type) is not the version of the header's spelling (VER-04, VER-06).
pub(super) fn version(
    header: Node<'_>,
    declared: Option<FhirVersion>,
    expected: Option<FhirVersion>,
) -> Result<(FhirVersion, Option<Issue>), Issue> {
    let hints = Hints::of(header);
    let (shape, hint) = match (hints.r4, hints.r5) {
        (Some(_), Some(hint)) => {
            let (line, column) = hint.node.position();
            let text = "The MessageHeader has elements of R4 and of R5; use the spelling of one version";
            let note = Issue::error(IssueCode::Structure, Cause::Version, text).rule("MSG-20").at(hint.at());
            return Ok((declared.or(expected).unwrap_or(FhirVersion::R4), Some(note.position(line, column))));
        }
        (None, None) => return Ok((declared.or(expected).unwrap_or(FhirVersion::R4), None)),
        (Some(hint), None) => (FhirVersion::R4, hint),
        (None, Some(hint)) => (FhirVersion::R5, hint),
    };
    let fits = |version: &FhirVersion| (*version == FhirVersion::R5) == (shape == FhirVersion::R5);
    match declared {
        Some(declared) if !fits(&declared) => {
            let name = if shape == FhirVersion::R5 { "R5" } else { "R4" };
            let text = format!(
                "The media type says fhirVersion {}, but the MessageHeader has an element of {name} only",
                declared.short()
            );
            Err(refusal(text, hint))
        }
        _ => Ok((declared.or(expected.filter(fits)).unwrap_or(shape), None)),
    }
}

fn refusal(text: String, hint: Hint<'_>) -> Issue {
    let (line, column) = hint.node.position();
    Issue::error(IssueCode::NotSupported, Cause::Version, text).rule("VER-04").at(hint.at()).position(line, column)
}

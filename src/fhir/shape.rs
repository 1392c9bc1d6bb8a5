//! Which FHIR version a message is of: what the sender said, else what is expected, else what the header looks like.
//!
//! Nothing in a Bundle states its version (VER-06); the spellings of MSG-20 give it away.

use super::fault::Fault;
use super::outcome::{Issue, IssueCode};
use super::tree::{Kind, Node};
use super::version::FhirVersion;

const HEADER: &str = "Bundle.entry[0].resource";

/// The first element that only one version has, as an expression, and the node, for each version.
#[derive(Default)]
struct Hints<'t> {
    stu3: Option<(String, Node<'t>)>,
    r4: Option<(String, Node<'t>)>,
    r5: Option<(String, Node<'t>)>,
}

impl<'t> Hints<'t> {
    fn of(header: Node<'t>) -> Self {
        let mut hints = Hints::default();
        let member = |name: &str| header.get(name).map(|node| (format!("{HEADER}.{name}"), node));
        let event = member("event").filter(|(_, node)| node.is_object());
        hints.stu3 = event.or_else(|| ["timestamp", "receiver", "acknowledgement"].into_iter().find_map(member));
        hints.r4 = ["eventUri", "enterer"].into_iter().find_map(member);
        hints.r5 = member("eventCanonical");
        if let Some(source) = header.get("source") {
            hints.add_party(source, &format!("{HEADER}.source"));
        }
        for (index, node) in header.get("destination").into_iter().flat_map(Node::items).enumerate() {
            hints.add_party(node, &format!("{HEADER}.destination[{index}]"));
        }
        if let Some(node) = header.get("response").and_then(|response| response.get("identifier")) {
            let found = Some((format!("{HEADER}.response.identifier"), node));
            match node.kind() {
                Kind::String => hints.r4 = hints.r4.take().or(found),
                Kind::Object => hints.r5 = hints.r5.take().or(found),
                _ => {}
            }
        }
        hints
    }

    fn add_party(&mut self, party: Node<'t>, at: &str) {
        let member = |name: &str| party.get(name).map(|node| (format!("{at}.{name}"), node));
        self.r4 = self.r4.take().or_else(|| member("endpoint"));
        self.r5 = self.r5.take().or_else(|| member("endpointUrl")).or_else(|| member("endpointReference"));
    }
}

/// The version to read the message as, and a note where it mixes the spellings of two. Errs when it is STU3, or when
/// `said` (the media type's fhirVersion) is not what the header is spelled in (VER-04, VER-06).
pub(super) fn version(
    header: Node<'_>,
    said: Option<FhirVersion>,
    expected: Option<FhirVersion>,
) -> Result<(FhirVersion, Option<Issue>), Issue> {
    let hints = Hints::of(header);
    if let Some((at, node)) = hints.stu3 {
        let text = "The MessageHeader is of FHIR STU3, which is not supported; send R4, R4B or R5";
        return Err(refusal(text.to_owned(), &at, node));
    }
    let (shape, at, node) = match (hints.r4, hints.r5) {
        (Some(_), Some((at, node))) => {
            let (line, column) = node.position();
            let text = "The MessageHeader has elements of R4 and of R5; use the spelling of one version";
            let note = Issue::error(IssueCode::Structure, Fault::SendVersion, text).rule("MSG-20").at(at);
            return Ok((said.or(expected).unwrap_or(FhirVersion::R4), Some(note.position(line, column))));
        }
        (None, None) => return Ok((said.or(expected).unwrap_or(FhirVersion::R4), None)),
        (Some((at, node)), None) => (FhirVersion::R4, at, node),
        (None, Some((at, node))) => (FhirVersion::R5, at, node),
    };
    let fits = |version: &FhirVersion| (*version == FhirVersion::R5) == (shape == FhirVersion::R5);
    match said {
        Some(said) if !fits(&said) => {
            let name = if shape == FhirVersion::R5 { "R5" } else { "R4" };
            let text = format!(
                "The media type says fhirVersion {}, but the MessageHeader has an element of {name} only",
                said.short()
            );
            Err(refusal(text, &at, node))
        }
        _ => Ok((said.or(expected.filter(fits)).unwrap_or(shape), None)),
    }
}

fn refusal(text: String, at: &str, node: Node<'_>) -> Issue {
    let (line, column) = node.position();
    Issue::error(IssueCode::NotSupported, Fault::SendVersion, text).rule("VER-04").at(at).position(line, column)
}

//! MessageHeader in R4 and R5 spelling, read into one type (MSG-20).
//!
//! Reads what routing, identity and answering need, and takes what is of a wrong type as absent, with a note. Whether
//! the header is complete and its references hold is for `validation` to say.

use super::event::{Event, Identifier, ResponseCode, ResponseRequired};
use super::fault::Fault;
use super::outcome::{Issue, IssueCode};
use super::resolve::{self, Index, Resolved};
use super::tree::{Kind, Node, Tree};
use std::cell::OnceCell;
use std::fmt::{self, Display};

/// The extension by which a sender says whether it wants a response (MSG-49).
const RESPONSE_REQUEST: &str = "http://hl7.org/fhir/StructureDefinition/messageheader-response-request";
/// Most notes of one message, those of its JSON included; one is enough to refuse it.
const NOTES_LIMIT: usize = 2_000;
/// Notes that say line and column.
const POSITIONS_LIMIT: usize = 20;
/// Where the header stands.
const HEADER: &str = "Bundle.entry[0].resource";

#[derive(Clone, Debug, Default)]
pub struct MessageHeader {
    pub id: Option<String>,
    /// None also where a Coding has no code.
    pub event: Option<Event>,
    /// R4 `source.endpoint`, R5 `source.endpointUrl` or the address of `source.endpointReference`.
    pub source_endpoint: Option<String>,
    /// One for each `destination[n]`, in order, so that the index is `n`.
    pub destinations: Vec<Destination>,
    /// The references as written, one for each `focus[n]`; empty where one has no `reference`.
    pub focus: Vec<String>,
    /// Present exactly when the message is a response (MSG-27).
    pub response: Option<Response>,
    pub definition: Option<String>,
    /// The extension of MSG-49.
    pub response_request: Option<ResponseRequired>,
}

#[derive(Clone, Debug, Default)]
pub struct Destination {
    pub endpoint: Option<String>,
    /// Addresses that `destination.target` stands for: the Device's identifiers as `system|value`, else the reference text.
    pub targets: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Response {
    /// R4's id is a value without system (MSG-37).
    pub identifier: Option<Identifier>,
    pub code: Option<ResponseCode>,
    pub details: Option<String>,
}

/// Reads the header that stands in entry 0; what is of a wrong type is noted and read as absent.
pub(super) fn read(tree: &Tree, header: Node<'_>, notes: &mut Vec<Issue>) -> MessageHeader {
    let mut reader = Reader::new(tree, notes);
    let [id, source, response, destination, focus, definition, extension] =
        header.pick(["id", "source", "response", "destination", "focus", "definition", "extension"]);
    let source_at = format_args!("{HEADER}.source");
    let source = source.filter(|source| reader.is_object(*source, source_at));
    let response = response.filter(|response| reader.is_object(*response, format_args!("{HEADER}.response")));
    MessageHeader {
        id: id.and_then(|id| reader.string(id, format_args!("{HEADER}.id"))),
        event: reader.event(header),
        source_endpoint: source.and_then(|source| reader.endpoint(source, source_at)),
        destinations: destination.map_or_else(Vec::new, |list| reader.destinations(list)),
        focus: focus.map_or_else(Vec::new, |list| reader.focus(list)),
        response: response.map(|response| reader.response(response)),
        definition: definition.and_then(|url| reader.string(url, format_args!("{HEADER}.definition"))),
        response_request: extension.and_then(|list| reader.response_request(list)),
    }
}

/// An Identifier's system and value; None without a value.
pub(super) fn identifier(node: Node<'_>) -> Option<Identifier> {
    Some(Identifier { value: resolve::text(node, "value")?, system: resolve::text(node, "system") })
}

/// Reads members by name and notes those of a wrong type. `at` is the expression of the node that is asked.
pub(super) struct Reader<'t, 'n> {
    tree: &'t Tree,
    notes: &'n mut Vec<Issue>,
    /// Made for the first reference that is looked up.
    index: OnceCell<Index<'t>>,
}

impl<'t, 'n> Reader<'t, 'n> {
    pub fn new(tree: &'t Tree, notes: &'n mut Vec<Issue>) -> Self {
        Reader { tree, notes, index: OnceCell::new() }
    }

    fn resolve(&self, reference: &str) -> Resolved<'t> {
        self.index.get_or_init(|| Index::new(self.tree)).resolve(reference)
    }

    pub fn text(&mut self, node: Node<'t>, name: &str, at: impl Display) -> Option<String> {
        self.string(node.get(name)?, format_args!("{at}.{name}"))
    }

    fn string(&mut self, member: Node<'t>, at: fmt::Arguments) -> Option<String> {
        self.expect(member, Kind::String, at);
        resolve::filled(member)
    }

    pub fn object(&mut self, node: Node<'t>, name: &str, at: impl Display) -> Option<Node<'t>> {
        let member = node.get(name)?;
        self.is_object(member, format_args!("{at}.{name}")).then_some(member)
    }

    fn is_object(&mut self, node: Node<'t>, at: fmt::Arguments) -> bool {
        self.expect(node, Kind::Object, at)
    }

    fn items(&mut self, list: Node<'t>, at: fmt::Arguments) -> impl Iterator<Item = Node<'t>> + use<'t> {
        self.expect(list, Kind::Array, at);
        list.items()
    }

    /// Notes a node of another kind. A null is in the tree's notes already (JSN-04).
    fn expect(&mut self, node: Node<'t>, kind: Kind, at: fmt::Arguments) -> bool {
        if node.kind() != kind && node.kind() != Kind::Null {
            let wanted = match kind {
                Kind::Array => "an array",
                Kind::Object => "an object",
                _ => "a string",
            };
            let text = format!("The element must be {wanted} in JSON; it is read as absent");
            let issue = Issue::error(IssueCode::Structure, Fault::SendStructure, text);
            let issue = issue.rule(if kind == Kind::Array { "JSN-05" } else { "MSG-20" }).at(at.to_string());
            // Each position reads the bytes before it, so that only the first have one.
            let positioned = self.notes.iter().filter(|note| note.position.is_some()).take(POSITIONS_LIMIT).count();
            let (line, column) = if positioned < POSITIONS_LIMIT { node.position() } else { (0, 0) };
            self.note(if line > 0 { issue.position(line, column) } else { issue });
        }
        node.kind() == kind
    }

    fn note(&mut self, issue: Issue) {
        if self.notes.len() < NOTES_LIMIT {
            self.notes.push(issue);
        }
    }

    fn event(&mut self, header: Node<'t>) -> Option<Event> {
        let [coding, uri, canonical] = header.pick(["eventCoding", "eventUri", "eventCanonical"]);
        let at = format_args!("{HEADER}.eventCoding");
        let coding = coding.filter(|coding| self.is_object(*coding, at)).and_then(|coding| {
            let system = self.text(coding, "system", at);
            self.text(coding, "code", at).map(|code| Event::Coding { system, code })
        });
        // All three are read before one is chosen, so that each wrong type is noted.
        let uri = uri.and_then(|uri| self.string(uri, format_args!("{HEADER}.eventUri")));
        let canonical = canonical.and_then(|canonical| self.string(canonical, format_args!("{HEADER}.eventCanonical")));
        coding.or(uri.or(canonical).map(Event::Uri))
    }

    fn destinations(&mut self, list: Node<'t>) -> Vec<Destination> {
        let mut destinations = Vec::new();
        for (index, node) in self.items(list, format_args!("{HEADER}.destination")).enumerate() {
            destinations.push(self.destination(node, format_args!("{HEADER}.destination[{index}]")));
        }
        destinations
    }

    fn focus(&mut self, list: Node<'t>) -> Vec<String> {
        let mut focus = Vec::new();
        for (index, node) in self.items(list, format_args!("{HEADER}.focus")).enumerate() {
            let at = format_args!("{HEADER}.focus[{index}]");
            let reference = if self.is_object(node, at) { self.text(node, "reference", at) } else { None };
            focus.push(reference.unwrap_or_default());
        }
        focus
    }

    fn destination(&mut self, node: Node<'t>, at: fmt::Arguments) -> Destination {
        if !self.is_object(node, at) {
            return Destination::default();
        }
        let target = self.object(node, "target", at);
        let reference = target.and_then(|target| self.text(target, "reference", format_args!("{at}.target")));
        Destination {
            endpoint: self.endpoint(node, at),
            targets: reference.map_or_else(Vec::new, |text| self.targets(text)),
        }
    }

    /// The Device's identifiers as addresses, else the reference as written.
    fn targets(&self, reference: String) -> Vec<String> {
        let device = self.resolve(&reference).node();
        let identifiers = device.and_then(|device| device.get("identifier")).into_iter().flat_map(Node::items);
        let addresses: Vec<_> = identifiers.filter_map(identifier).map(|identifier| identifier.to_string()).collect();
        if addresses.is_empty() { vec![reference] } else { addresses }
    }

    /// The address of a source or destination, in the spelling of either version.
    fn endpoint(&mut self, node: Node<'t>, at: fmt::Arguments) -> Option<String> {
        let endpoint = self.text(node, "endpoint", at);
        let url = self.text(node, "endpointUrl", at);
        let reference = self.object(node, "endpointReference", at);
        let at = format_args!("{at}.endpointReference");
        let reference = reference.and_then(|reference| self.text(reference, "reference", at));
        endpoint.or(url).or_else(|| reference.and_then(|reference| self.address(&reference, at)))
    }

    /// The address of the Endpoint that a reference names within the Bundle.
    fn address(&mut self, reference: &str, at: fmt::Arguments) -> Option<String> {
        let resolved = self.resolve(reference);
        let address = resolved.node().and_then(|endpoint| resolve::text(endpoint, "address"));
        if address.is_none() {
            let (code, text) = match resolved {
                Resolved::Found(..) => (IssueCode::Required, "The reference names no Endpoint with an address"),
                Resolved::Ambiguous => {
                    (IssueCode::MultipleMatches, "The reference fits more than one entry of the Bundle")
                }
                Resolved::Missing => {
                    (IssueCode::NotFound, "The Endpoint that the reference names is not in the Bundle")
                }
            };
            let issue = Issue::error(code, Fault::SendStructure, format!("{text}; the address is read as absent"));
            self.note(issue.rule("MSG-20").at(at.to_string()));
        }
        address
    }

    fn response(&mut self, response: Node<'t>) -> Response {
        let at = format_args!("{HEADER}.response");
        let identifier = match response.get("identifier") {
            Some(node) if node.is_object() => {
                let system = self.text(node, "system", format_args!("{at}.identifier"));
                let value = self.text(node, "value", format_args!("{at}.identifier"));
                value.map(|value| Identifier { system, value })
            }
            _ => self.text(response, "identifier", at).map(|value| Identifier { system: None, value }),
        };
        let details = self.object(response, "details", at);
        Response {
            identifier,
            code: self.text(response, "code", at).and_then(|code| ResponseCode::parse(&code)),
            details: details.and_then(|details| self.text(details, "reference", format_args!("{at}.details"))),
        }
    }

    fn response_request(&mut self, list: Node<'t>) -> Option<ResponseRequired> {
        let wanted = |node: &Node<'t>| resolve::text(*node, "url").as_deref() == Some(RESPONSE_REQUEST);
        let extension = self.items(list, format_args!("{HEADER}.extension")).find(wanted)?;
        ResponseRequired::parse(&resolve::text(extension, "valueCode")?)
    }
}

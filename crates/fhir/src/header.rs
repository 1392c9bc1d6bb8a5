//! Reads a MessageHeader in R4 or R5 spelling into one type (MSG-20).
//!
//! Reads what routing, identity, and answering need. An element of a wrong type is read as absent, with a note.
//! `validation` checks whether the header is complete and its references resolve.

use super::cause::Cause;
use super::event::{Event, Identifier, ResponseCode, ResponseRequired};
use super::issue::{Issue, IssueCode};
use super::quoted::is_plain;
use super::resolve::{self, Index, Resolved};
use super::tree::{Kind, Node, Tree};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::sync::Arc;

/// The extension with which a sender requests a response (MSG-49).
const RESPONSE_REQUEST: &str = "http://hl7.org/fhir/StructureDefinition/messageheader-response-request";
/// The maximum number of notes of one message, including those of its JSON; one is enough to refuse it at level
/// `structure`.
const NOTES_LIMIT: usize = 2_000;
/// The number of notes that have line and column.
const POSITIONS_LIMIT: usize = 20;
/// The maximum number of reasons to refuse one message for exceeding limits; one is enough.
const REFUSALS_LIMIT: usize = 100;
/// The position of the header in expressions.
const HEADER: &str = "Bundle.entry[0].resource";

/// Limits on what is used for routing and stored beside the body.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The maximum size of each address, identifier, id, and event, in bytes.
    pub text_bytes: usize,
    /// The maximum number of destinations of one message, and of identifiers of one Device that a target refers to.
    pub destinations: usize,
}

/// A MessageHeader, as far as routing, identity, and answering need it.
#[derive(Clone, Debug, Default)]
pub struct MessageHeader {
    /// `MessageHeader.id`.
    pub id: Option<String>,
    /// None also if a Coding has no code.
    pub event: Option<Event>,
    /// R4 `source.endpoint`, R5 `source.endpointUrl`, or the address of `source.endpointReference`.
    pub source_endpoint: Option<Arc<str>>,
    /// One for each `destination[n]`, in order, so that the index is `n`.
    pub destinations: Vec<Destination>,
    /// The references as written, one for each `focus[n]`; empty if it has no `reference`.
    pub focus: Vec<String>,
    /// Present if and only if the message is a response (MSG-27).
    pub response: Option<Response>,
    /// The canonical of the MessageDefinition.
    pub definition: Option<String>,
    /// The extension of MSG-49.
    pub response_request: Option<ResponseRequired>,
}

/// One `MessageHeader.destination`.
#[derive(Clone, Debug, Default)]
pub struct Destination {
    /// Shared by all destinations that refer to the same Endpoint.
    pub endpoint: Option<Arc<str>>,
    /// The addresses of `destination.target`: the Device's identifiers as `system|value`, else the text of the
    /// reference. Shared by all destinations that refer to the same Device.
    pub targets: Arc<[Arc<str>]>,
}

/// `MessageHeader.response`.
#[derive(Clone, Debug)]
pub struct Response {
    /// R4 has an id, which is a value without a system (MSG-37).
    pub identifier: Option<Identifier>,
    /// The response code; None if it is missing or unknown.
    pub code: Option<ResponseCode>,
    /// The reference to the OperationOutcome, as written.
    pub details: Option<String>,
}

/// Reads the header in entry 0; an element of a wrong type is noted and read as absent.
pub(super) fn read<'t>(reader: &mut Reader<'t, '_>, header: Node<'t>) -> MessageHeader {
    let [id, source, response, destination, focus, definition, extension] =
        header.pick(["id", "source", "response", "destination", "focus", "definition", "extension"]);
    let source_at = format_args!("{HEADER}.source");
    let source = source.filter(|source| reader.is_object(*source, source_at));
    let response = response.filter(|response| reader.is_object(*response, format_args!("{HEADER}.response")));
    MessageHeader {
        id: id.and_then(|id| reader.bounded(id, format_args!("{HEADER}.id"))).map(Cow::into_owned),
        event: reader.event(header),
        source_endpoint: source.and_then(|source| reader.endpoint(source, source_at)),
        destinations: destination.map_or_else(Vec::new, |list| reader.destinations(list)),
        focus: focus.map_or_else(Vec::new, |list| reader.focus(list)),
        response: response.map(|response| reader.response(response)),
        definition: definition
            .and_then(|url| reader.bounded(url, format_args!("{HEADER}.definition")))
            .map(Cow::into_owned),
        response_request: extension.and_then(|list| reader.response_request(list)),
    }
}

/// An Identifier's system and value; None without a value.
pub(super) fn identifier(node: Node<'_>) -> Option<Identifier> {
    Some(Identifier { value: resolve::text(node, "value")?, system: resolve::text(node, "system") })
}

/// Reads members by name and notes those of a wrong type. `at` is the expression of the node.
pub(super) struct Reader<'t, 'n> {
    tree: &'t Tree,
    notes: &'n mut Vec<Issue>,
    /// None: texts of any length are read, for callers that only check the message.
    bounds: Option<Bounds>,
    /// The number of notes beyond the limit.
    pub left_out: usize,
    /// What exceeds the bounds, which refuses the message.
    pub refused: Vec<Issue>,
    /// Built when the first reference is resolved.
    index: OnceCell<Index<'t>>,
    /// By the Endpoint's node: its address, read once however many destinations refer to it.
    endpoints: HashMap<u32, Option<Arc<str>>>,
    /// By the Device's node: its identifiers as addresses, likewise.
    devices: HashMap<u32, Arc<[Arc<str>]>>,
}

impl<'t, 'n> Reader<'t, 'n> {
    pub fn new(tree: &'t Tree, notes: &'n mut Vec<Issue>, bounds: Option<Bounds>) -> Self {
        let (endpoints, devices) = Default::default();
        Reader { tree, notes, bounds, refused: Vec::new(), left_out: 0, index: OnceCell::new(), endpoints, devices }
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

    /// A text that is used for routing or stored beside the body: within the bounds and without control characters,
    /// so that it can appear in lists, headers, and logs. None also if it is not, which refuses the message.
    pub fn bounded_text(&mut self, node: Node<'t>, name: &str, at: impl Display) -> Option<Cow<'t, str>> {
        self.bounded(node.get(name)?, format_args!("{at}.{name}"))
    }

    fn bounded(&mut self, member: Node<'t>, at: fmt::Arguments) -> Option<Cow<'t, str>> {
        self.expect(member, Kind::String, at);
        let text = member.text()?;
        if let Some(bounds) = self.bounds.filter(|bounds| text.len() > bounds.text_bytes) {
            let limit = bounds.text_bytes;
            let text = format!("The text has {} bytes; the limit is {limit} (address_limit_bytes)", text.len());
            self.refuse(Issue::error(IssueCode::TooLong, Cause::Limit, text), Some(member), at);
            return None;
        }
        if !is_plain(&text) && text.chars().any(char::is_control) {
            let text = "The text has a control character, which an address, id, or event must not have; remove it";
            self.refuse(Issue::error(IssueCode::Value, Cause::Structure, text).rule("MSG-20"), Some(member), at);
            return None;
        }
        (!text.trim().is_empty()).then_some(text)
    }

    /// Refuses the message for exceeding a bound; if it is only checked, adds a note instead.
    fn refuse(&mut self, issue: Issue, node: Option<Node<'t>>, at: fmt::Arguments) {
        let issue = issue.at(at.to_string());
        match self.bounds {
            Some(_) if self.refused.len() >= REFUSALS_LIMIT => {}
            Some(_) => {
                let positioned = self.refused.len() < POSITIONS_LIMIT;
                let place = node.filter(|_| positioned).map(Node::position);
                self.refused.push(match place {
                    Some((line, column)) => issue.position(line, column),
                    None => issue,
                });
            }
            None => self.note(issue),
        }
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

    /// Notes a node of another kind. A null is already among the tree's notes (JSN-04).
    fn expect(&mut self, node: Node<'t>, kind: Kind, at: fmt::Arguments) -> bool {
        if node.kind() != kind && node.kind() != Kind::Null {
            let wanted = match (kind, node.tree.is_xml()) {
                (Kind::Object, true) => "have elements, and no attribute value",
                (_, true) => "occur once and have the attribute value",
                (Kind::Array, false) => "be an array in JSON",
                (Kind::Object, false) => "be an object in JSON",
                (_, false) => "be a string in JSON",
            };
            let text = format!("The element must {wanted}; it is read as absent");
            let issue = Issue::error(IssueCode::Structure, Cause::Structure, text);
            let issue = issue.rule(if kind == Kind::Array { "JSN-05" } else { "MSG-20" }).at(at.to_string());
            // Each position scans the bytes before it, so only the first notes have one.
            let positioned = self.notes.iter().filter(|note| note.position.is_some()).take(POSITIONS_LIMIT).count();
            let (line, column) = if positioned < POSITIONS_LIMIT { node.position() } else { (0, 0) };
            self.note(if line > 0 { issue.position(line, column) } else { issue });
        }
        node.kind() == kind
    }

    fn note(&mut self, issue: Issue) {
        match self.notes.len() < NOTES_LIMIT {
            true => self.notes.push(issue),
            false => self.left_out += 1,
        }
    }

    fn event(&mut self, header: Node<'t>) -> Option<Event> {
        let [coding, uri, canonical] = header.pick(["eventCoding", "eventUri", "eventCanonical"]);
        let at = format_args!("{HEADER}.eventCoding");
        let coding = coding.filter(|coding| self.is_object(*coding, at)).and_then(|coding| {
            let system = self.bounded_text(coding, "system", at).map(Cow::into_owned);
            let code = self.bounded_text(coding, "code", at)?.into_owned();
            Some(Event::Coding { system, code })
        });
        // All three are read before one is chosen, so that each wrong type is noted.
        let uri = uri.and_then(|uri| self.bounded(uri, format_args!("{HEADER}.eventUri")));
        let canonical = canonical.and_then(|node| self.bounded(node, format_args!("{HEADER}.eventCanonical")));
        coding.or(uri.or(canonical).map(|uri| Event::Uri(uri.into_owned())))
    }

    fn destinations(&mut self, list: Node<'t>) -> Vec<Destination> {
        let mut destinations = Vec::new();
        let limit = self.bounds.map_or(usize::MAX, |bounds| bounds.destinations);
        if list.items().take(limit.saturating_add(1)).count() > limit {
            let text =
                format!("The message has more than {limit} destinations (destinations_limit); send several messages");
            let issue = Issue::error(IssueCode::TooLong, Cause::Limit, text);
            self.refuse(issue, Some(list), format_args!("{HEADER}.destination"));
            return destinations;
        }
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
        let target_at = format_args!("{at}.target");
        let reference = target.and_then(|target| self.text(target, "reference", target_at));
        Destination {
            endpoint: self.endpoint(node, at),
            targets: reference.map_or_else(Default::default, |text| self.targets(&text, target, target_at)),
        }
    }

    /// The Device's identifiers as addresses, else the reference as written.
    fn targets(&mut self, reference: &str, target: Option<Node<'t>>, at: fmt::Arguments) -> Arc<[Arc<str>]> {
        let device = self.resolve(reference).node();
        let identifiers = device.and_then(|device| Some((device, device.get("identifier")?)));
        let addresses = identifiers.map_or_else(Default::default, |(device, list)| {
            if let Some(known) = self.devices.get(&device.index) {
                return known.clone();
            }
            let addresses = self.identifiers(list, at);
            self.devices.insert(device.index, addresses.clone());
            addresses
        });
        if !addresses.is_empty() {
            return addresses;
        }
        let written = target.and_then(|target| self.bounded_text(target, "reference", at));
        written.map(Arc::from).into_iter().collect()
    }

    /// A Device's identifiers as addresses. `at`: the target that refers to it.
    fn identifiers(&mut self, list: Node<'t>, at: fmt::Arguments) -> Arc<[Arc<str>]> {
        let limit = self.bounds.map_or(usize::MAX, |bounds| bounds.destinations);
        if list.items().take(limit.saturating_add(1)).count() > limit {
            let text = format!("The Device has more than {limit} identifiers (destinations_limit)");
            self.refuse(Issue::error(IssueCode::TooLong, Cause::Limit, text), Some(list), at);
            return Default::default();
        }
        let mut addresses = Vec::new();
        for (index, node) in list.items().enumerate() {
            let at = format_args!("{at}.resolve().identifier[{index}]");
            let system = self.bounded_text(node, "system", at);
            let value = self.bounded_text(node, "value", at);
            addresses.extend(value.map(|value| match system {
                Some(system) => Arc::from(format!("{system}|{value}")),
                None => Arc::from(value),
            }));
        }
        addresses.into()
    }

    /// The address of a source or destination, in the spelling of either version.
    fn endpoint(&mut self, node: Node<'t>, at: fmt::Arguments) -> Option<Arc<str>> {
        let endpoint = self.bounded_text(node, "endpoint", at);
        let url = self.bounded_text(node, "endpointUrl", at);
        let reference = self.object(node, "endpointReference", at);
        let at = format_args!("{at}.endpointReference");
        let reference = reference.and_then(|reference| self.text(reference, "reference", at));
        endpoint.or(url).map(Arc::from).or_else(|| reference.and_then(|reference| self.address(&reference, at)))
    }

    /// The address of the Endpoint in the Bundle that a reference refers to.
    fn address(&mut self, reference: &str, at: fmt::Arguments) -> Option<Arc<str>> {
        let resolved = self.resolve(reference);
        let address = resolved.node().and_then(|endpoint| {
            if let Some(known) = self.endpoints.get(&endpoint.index) {
                return known.clone();
            }
            let address = self.bounded_text(endpoint, "address", format_args!("{at}.resolve()")).map(Arc::from);
            self.endpoints.insert(endpoint.index, address.clone());
            address
        });
        if address.is_none() {
            let (code, text) = match resolved {
                Resolved::Found(..) => {
                    (IssueCode::Required, "The reference does not refer to an Endpoint with an address")
                }
                Resolved::Ambiguous => {
                    (IssueCode::MultipleMatches, "The reference matches more than one entry of the Bundle")
                }
                Resolved::Missing => {
                    (IssueCode::NotFound, "The Endpoint that the reference refers to is not in the Bundle")
                }
            };
            let issue = Issue::error(code, Cause::Structure, format!("{text}; the address is read as absent"));
            self.note(issue.rule("MSG-20").at(at.to_string()));
        }
        address
    }

    fn response(&mut self, response: Node<'t>) -> Response {
        let at = format_args!("{HEADER}.response");
        let identifier = match response.get("identifier") {
            Some(node) if node.is_object() => self.identifier(node, format_args!("{at}.identifier")),
            _ => self
                .bounded_text(response, "identifier", at)
                .map(|value| Identifier { system: None, value: value.into_owned() }),
        };
        let details = self.object(response, "details", at);
        Response {
            identifier,
            code: self.text(response, "code", at).and_then(|code| ResponseCode::parse(&code)),
            details: details.and_then(|details| self.text(details, "reference", format_args!("{at}.details"))),
        }
    }

    /// An Identifier that is the identity of a message.
    pub fn identifier(&mut self, node: Node<'t>, at: fmt::Arguments) -> Option<Identifier> {
        let system = self.bounded_text(node, "system", at).map(Cow::into_owned);
        let value = self.bounded_text(node, "value", at)?.into_owned();
        Some(Identifier { system, value })
    }

    fn response_request(&mut self, list: Node<'t>) -> Option<ResponseRequired> {
        let wanted = |node: &Node<'t>| resolve::text(*node, "url").as_deref() == Some(RESPONSE_REQUEST);
        let extension = self.items(list, format_args!("{HEADER}.extension")).find(wanted)?;
        ResponseRequired::parse(&resolve::text(extension, "valueCode")?)
    }
}

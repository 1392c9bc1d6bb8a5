//! The entries of one Bundle, each read once for all message rules.

use super::uri;
use emberpost_fhir::message::entries_of;
use emberpost_fhir::reference::split_version;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::Node;
use std::borrow::Cow;

pub(super) struct Entry<'t> {
    pub node: Node<'t>,
    /// The value of `resource`, of any kind; `object` returns it only if it is an object.
    pub resource: Option<Node<'t>>,
    pub full_url: Option<FullUrl<'t>>,
    /// Whether `_fullUrl` is present.
    pub has_extra_url: bool,
    pub search: Option<Node<'t>>,
    pub request: Option<Node<'t>>,
    pub response: Option<Node<'t>>,
    /// The resource's type; None if it is not a string.
    pub kind: Option<Cow<'t, str>>,
    /// Members of the resource, of any kind.
    pub id: Option<Node<'t>>,
    pub meta: Option<Node<'t>>,
}

pub(super) struct FullUrl<'t> {
    pub node: Node<'t>,
    /// The URL; None if it is not a string.
    pub text: Option<Cow<'t, str>>,
    /// The length of the server's base, if this is a RESTful URL.
    base: Option<usize>,
}

/// The entries in document order. `schema` is used to recognize resource types.
pub(super) fn of<'t>(bundle: Node<'t>, schema: &Schema) -> Vec<Entry<'t>> {
    entries_of(bundle).map(|node| Entry::of(node, schema)).collect()
}

impl<'t> Entry<'t> {
    fn of(node: Node<'t>, schema: &Schema) -> Self {
        let [full_url, resource, extra_url, search, request, response] =
            node.pick(["fullUrl", "resource", "_fullUrl", "search", "request", "response"]);
        let [kind, id, meta] = resource.map_or([None; 3], |resource| resource.pick(["resourceType", "id", "meta"]));
        Entry {
            node,
            resource,
            full_url: full_url.map(|node| FullUrl::of(node, schema)),
            has_extra_url: extra_url.is_some(),
            search,
            request,
            response,
            kind: kind.and_then(Node::text),
            id,
            meta,
        }
    }

    pub fn object(&self) -> Option<Node<'t>> {
        self.resource.filter(|resource| resource.is_object())
    }

    pub fn url(&self) -> Option<&str> {
        self.full_url.as_ref()?.text.as_deref()
    }

    /// Base of the server, type, and id, if the fullUrl is a RESTful URL.
    pub fn restful(&self) -> Option<(&str, &str, &str)> {
        let (base, rest) = self.url()?.split_at_checked(self.full_url.as_ref()?.base?)?;
        let (kind, id) = split_version(rest).0.split_once('/')?;
        Some((base, kind, id))
    }

    /// `resource.meta.versionId`.
    pub fn version(&self) -> Option<Cow<'t, str>> {
        self.meta?.get("versionId")?.text()
    }
}

impl<'t> FullUrl<'t> {
    fn of(node: Node<'t>, schema: &Schema) -> Self {
        let text = node.text();
        let is_type = |name: &str| schema.resource(name).is_some();
        let restful = text.as_deref().and_then(|url| uri::restful(url, is_type));
        let base = restful.map(|(base, _, _)| base.len());
        FullUrl { node, text, base }
    }
}

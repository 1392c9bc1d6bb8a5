//! Profiles: what StructureDefinitions, GraphDefinitions, and a message's definition require beyond the base
//! specification.
//!
//! Everything is compiled when definitions are loaded (`Profiles::compile`), so that errors in definitions are
//! reported then, and a check only evaluates compiled rules: `library` finds profiles and merges each with its bases
//! (`draft`, `segment`), `compile` keeps what goes beyond the base, with `discriminator` and `path` for slices,
//! `codes` for value sets, `graph` for graphs. At run time `message` selects what is checked, `check` walks the
//! elements, with `values`, `binding`, `slices`, `links`, and `extensions`; `resolver` resolves references within
//! the message. Pure; relies on `emberpost_fhir::schema` for the base specification and on the structure check to
//! enforce it.
//!
//! These claims are enforced: those of the message's definition (the profiles of its focus rules and of its bases,
//! its graphs), those in `meta.profile` of the Bundle, its resources, and their contained resources, and every
//! extension whose definition is loaded, by its url. A profile that is not loaded, or a value set that cannot be
//! enumerated, is a warning, once per message. If only the base of a profile is not loaded, its snapshot is used;
//! without a snapshot, what is known of it is enforced and the base is named.
//!
//! These are not checked: extension contexts given as an expression, bindings that are not required, the order of
//! elements, `params` and compartments of graphs. `mustSupport` says what systems must be able to handle, not what
//! must be present: the elements that a resource lacks are one information issue per resource, only if the caller
//! requests it.

mod binding;
mod check;
mod codes;
mod compile;
mod compiler;
mod discriminator;
mod draft;
mod expression;
mod extensions;
mod graph;
mod library;
mod limit;
mod limitations;
mod links;
mod membership;
mod message;
mod named_path;
mod path;
mod pattern;
mod resolver;
mod rules;
mod segment;
mod sink;
mod slices;
mod support;
#[cfg(test)]
mod tests;
mod unused;
mod values;

use super::collector::IssueCollector;
use crate::definition::catalog::Catalog;
use check::Checker;
use codes::ValueSets;
use compiler::Compiler;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::{Schema, TypeId};
use emberpost_fhir::version::FhirVersion;
use graph::Graphs;
use library::{Drafted, Library, Source};
use named_path::NamedPath;
use resolver::Target;
use rules::{Profile, ProfileId, ProfileRef};
use rustc_hash::FxHashMap;
use sink::Sink;
use unused::Unused;

pub(super) use message::check_message;

/// The versions of a URL.
type Versions = Vec<(Option<Box<str>>, ProfileId)>;

/// Options of a profile check.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProfileOptions {
    /// UTC microseconds since 1970, for expressions that use the current time.
    pub now_us: i64,
    /// Whether to report absent must-support elements, as information.
    pub must_support: bool,
}

/// The compiled profiles, graphs, and value sets for messages of one FHIR version. Shared by all checks.
#[derive(Debug)]
pub struct Profiles {
    schema: &'static Schema,
    profiles: Vec<Profile>,
    /// The versions of each URL, newest first.
    by_url: FxHashMap<Box<str>, Versions>,
    value_sets: ValueSets,
    graphs: Graphs,
    /// Whether any of the profiles defines an extension.
    has_extensions: bool,
    unused: Unused,
}

impl Profiles {
    /// Compiles what is loaded for a version. The second value lists every error, each beginning with the file; an
    /// element with an error is left out, and the rest of its profile is enforced.
    pub fn compile(catalog: &Catalog, version: FhirVersion) -> (Profiles, Vec<String>) {
        Self::compile_with(catalog, Schema::of(version))
    }

    fn compile_with(catalog: &Catalog, schema: &'static Schema) -> (Profiles, Vec<String>) {
        let (mut library, mut errors) = Library::new(schema, catalog);
        let unused = std::mem::take(&mut library.unused);
        let mut drafts = Vec::with_capacity(library.sources.len());
        for (id, source) in (0u32..).map(ProfileId).zip(&library.sources) {
            let (drafted, mut found) = library.drafted(id);
            found.retain(|_| source.is_own);
            errors.extend(found.into_iter().map(|error| format!("{}: {error}", source.file)));
            drafts.push(drafted);
        }
        let mut compiler = Compiler::new(&library, &drafts, catalog);
        let mut profiles = Vec::with_capacity(drafts.len());
        for (source, drafted) in library.sources.iter().zip(&drafts) {
            profiles.push(profile(&mut compiler, source, drafted));
            let mut found = std::mem::take(&mut compiler.errors);
            found.retain(|_| source.is_own);
            errors.extend(found.into_iter().map(|error| format!("{}: {}: {error}", source.file, source.url())));
        }
        compiler.value_sets.take_all(catalog);
        let graphs = Graphs::compile(&mut compiler, &mut errors);
        let value_sets = std::mem::replace(&mut compiler.value_sets, ValueSets::new(schema));
        let by_url = named(&library);
        let extension = schema.named("Extension");
        let has_extensions = profiles.iter().any(|one| Some(one.type_id) == extension);
        let profiles = Profiles { schema, profiles, by_url, value_sets, graphs, has_extensions, unused };
        errors.extend(profiles.unused_notices(catalog));
        (profiles, errors)
    }

    /// The number of profiles.
    pub fn len(&self) -> usize {
        self.profiles.len()
    }

    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }

    /// Reports how a resource violates a profile, given as `url` or `url|version`; a profile that is not loaded is a
    /// warning. `path` is the FHIRPath expression of the resource.
    pub fn check_resource(
        &self,
        element: Element,
        profile: &str,
        path: &str,
        options: ProfileOptions,
        collector: &mut IssueCollector,
    ) {
        let Some(node) = element.node() else { return };
        let checker = Checker::new(node.tree, self, options.now_us);
        let mut sink = Sink::Issues(collector);
        checker.demand(Target::whole(element), &self.find(profile), &NamedPath::root(path), &mut sink);
        checker.limitations.report(node.tree, collector);
    }

    fn has_extensions(&self) -> bool {
        self.has_extensions
    }

    fn get(&self, id: ProfileId) -> Option<&Profile> {
        self.profiles.get(id.0 as usize)
    }

    fn find(&self, canonical: &str) -> ProfileRef {
        library::find(self.schema, canonical, |url, version| {
            let all = self.by_url.get(url)?;
            all.iter().find(|(has, _)| library::fits(has.as_deref(), version)).map(|(_, id)| *id)
        })
    }

    /// The canonical, or the name of the type.
    fn name(&self, profile: &ProfileRef) -> String {
        match profile {
            ProfileRef::Base(id) => self.schema.def(*id).name.to_string(),
            ProfileRef::Known(id) => self.get(*id).map(|one| one.canonical.to_string()).unwrap_or_default(),
            ProfileRef::BuiltIn => "an extension of the base".to_owned(),
            ProfileRef::Missing(canonical) => canonical.to_string(),
        }
    }

    /// Whether a profile is loaded and applies to this type.
    fn is_for(&self, profile: &ProfileRef, schema: &Schema, of: TypeId) -> bool {
        matches!(profile, ProfileRef::Known(id) if self.get(*id).is_some_and(|one| schema.is_a(of, one.type_id)))
    }
}

fn profile<'d>(compiler: &mut Compiler<'d>, source: &Source, drafted: &'d Drafted) -> Profile {
    compiler.is_whole = drafted.missing_base.is_none();
    let root = compiler.rules(&drafted.draft);
    Profile {
        canonical: source.canonical().into(),
        // A draft without types has no source.
        type_id: drafted.draft.types.first().copied().unwrap_or(TypeId(0)),
        ancestors: drafted.ancestors.clone(),
        missing_base: drafted.missing_base.clone(),
        contexts: source.contexts(),
        root,
    }
}

fn named(library: &Library) -> FxHashMap<Box<str>, Versions> {
    let version = |id: &ProfileId| {
        let source = library.source_of(*id)?;
        source.resource["version"].as_str().map(Box::from)
    };
    let versions = |ids: &Vec<ProfileId>| ids.iter().map(|id| (version(id), *id)).collect();
    library.by_url().iter().map(|(url, ids)| (url.as_str().into(), versions(ids))).collect()
}

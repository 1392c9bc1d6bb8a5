//! Profiles: what StructureDefinitions, GraphDefinitions and a message's definition ask beyond the base specification.
//!
//! Everything is compiled when definitions are loaded (`Profiles::compile`), so that their mistakes are told then and a
//! check runs over ready rules: `library` finds profiles and lays each over its chain (`draft`, `segment`), `compile`
//! keeps what goes beyond the base, with `discriminator` and `path` for slices, `codes` for value sets, `graph` for
//! graphs. At run time `message` says what is held against what, `check` walks, with `values`, `binding`, `slices`,
//! `links` and `extensions`; `world` resolves references within the message. Pure; relies on `emberpost_fhir::schema` for the base
//! and on the structure check for holding it.
//!
//! Which claims are enforced: those that the message's definition makes (the profiles of its focus rules and of its
//! bases, its graphs), those that the Bundle, its resources and what they contain make of themselves in `meta.profile`,
//! and every extension whose definition is loaded, by its url. A profile that is not loaded is a warning that names it,
//! once in a message; a value set that cannot be enumerated is one, too. Where only the base of a profile is not loaded,
//! its snapshot is taken; without one, what is known of it is held and the base is named.
//!
//! What is not checked: contexts of extensions that are given as an expression, bindings that are not required,
//! the order of elements, `params` and compartments of graphs. `mustSupport` says what systems must be able
//! to handle, not what has to be there: what a resource lacks of it is one information for each resource, and only where
//! the caller asks for it.

mod binding;
mod check;
mod codes;
mod compile;
mod discriminator;
mod draft;
mod expression;
mod extensions;
mod graph;
mod library;
mod limit;
mod links;
mod message;
mod notes;
mod path;
mod pattern;
mod place;
mod rules;
mod segment;
mod sink;
mod slices;
mod support;
#[cfg(test)]
mod tests;
mod unused;
mod values;
mod world;

use super::definition::Definitions;
use super::report::Report;
use check::Checker;
use codes::ValueSets;
use compile::Compiler;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::{Schema, TypeId};
use emberpost_fhir::version::FhirVersion;
use graph::Graphs;
use library::{Drafted, Library, Source};
use place::Place;
use rules::{Profile, ProfileId, ProfileRef};
use rustc_hash::FxHashMap;
use sink::Sink;
use unused::Unused;
use world::Target;

pub(super) use library::serves;
pub(super) use message::check_message;

/// The versions of a url.
type Versions = Vec<(Option<Box<str>>, ProfileId)>;

/// How a check is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// UTC microseconds since 1970, for expressions that ask for the time.
    pub now_us: i64,
    /// Tell what is not there of what profiles mark as must-support, as information.
    pub must_support: bool,
}

/// The profiles, graphs and value sets for messages of one version of FHIR, compiled. Shared by all checks.
#[derive(Debug)]
pub struct Profiles {
    schema: &'static Schema,
    profiles: Vec<Profile>,
    /// Of each url the versions, the newest first.
    by_url: FxHashMap<Box<str>, Versions>,
    value_sets: ValueSets,
    graphs: Graphs,
    /// Whether any of the profiles is of an extension.
    has_extensions: bool,
    unused: Unused,
}

impl Profiles {
    /// Compiles what is loaded for a version. The second value lists every mistake, each beginning with the file; what
    /// has a mistake is left out, and the rest of its profile holds.
    pub fn compile(definitions: &Definitions, version: FhirVersion) -> (Profiles, Vec<String>) {
        Self::compile_with(definitions, Schema::of(version))
    }

    fn compile_with(definitions: &Definitions, schema: &'static Schema) -> (Profiles, Vec<String>) {
        let (mut library, mut mistakes) = Library::new(schema, definitions);
        let unused = std::mem::take(&mut library.unused);
        let mut drafts = Vec::with_capacity(library.sources.len());
        for (id, source) in (0u32..).map(ProfileId).zip(&library.sources) {
            let (drafted, mut found) = library.drafted(id);
            found.retain(|_| source.is_own);
            mistakes.extend(found.into_iter().map(|mistake| format!("{}: {mistake}", source.file)));
            drafts.push(drafted);
        }
        let mut compiler = Compiler::new(&library, &drafts, definitions);
        let mut profiles = Vec::with_capacity(drafts.len());
        for (source, drafted) in library.sources.iter().zip(&drafts) {
            profiles.push(profile(&mut compiler, source, drafted));
            let mut found = std::mem::take(&mut compiler.mistakes);
            found.retain(|_| source.is_own);
            mistakes.extend(found.into_iter().map(|mistake| format!("{}: {}: {mistake}", source.file, source.url())));
        }
        compiler.value_sets.take_all(definitions);
        let graphs = Graphs::compile(&mut compiler, &mut mistakes);
        let value_sets = std::mem::replace(&mut compiler.value_sets, ValueSets::new(schema));
        let by_url = named(&library);
        let extension = schema.named("Extension");
        let has_extensions = profiles.iter().any(|one| Some(one.type_id) == extension);
        let profiles = Profiles { schema, profiles, by_url, value_sets, graphs, has_extensions, unused };
        mistakes.extend(profiles.unused_notices(definitions));
        (profiles, mistakes)
    }

    /// How many profiles there are.
    pub fn len(&self) -> usize {
        self.profiles.len()
    }

    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }

    /// Reports how a resource breaks a profile, `url` or `url|version`; a profile that is not loaded is a warning.
    /// `place` is the FHIRPath of the resource.
    pub fn check_resource(&self, element: Element, profile: &str, place: &str, asked: Asked, report: &mut Report) {
        let Some(node) = element.node() else { return };
        let checker = Checker::new(node.tree, self, asked.now_us);
        let mut sink = Sink::Report(report);
        checker.demand(Target::whole(element), &self.find(profile), &Place::root(place), &mut sink);
        checker.notes.tell(node.tree, report);
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

    /// The canonical, or the type's name.
    fn name(&self, profile: &ProfileRef) -> String {
        match profile {
            ProfileRef::Base(id) => self.schema.def(*id).name.to_string(),
            ProfileRef::Known(id) => self.get(*id).map(|one| one.canonical.to_string()).unwrap_or_default(),
            ProfileRef::BuiltIn => "an extension of the base".to_owned(),
            ProfileRef::Missing(canonical) => canonical.to_string(),
        }
    }

    /// Whether a profile is loaded and for values of this type.
    fn is_for(&self, profile: &ProfileRef, schema: &Schema, of: TypeId) -> bool {
        matches!(profile, ProfileRef::Known(id) if self.get(*id).is_some_and(|one| schema.is_a(of, one.type_id)))
    }
}

fn profile<'d>(compiler: &mut Compiler<'d>, source: &Source, drafted: &'d Drafted) -> Profile {
    compiler.is_whole = drafted.missing_base.is_none();
    let root = compiler.rules(&drafted.draft);
    Profile {
        canonical: source.canonical().into(),
        // A draft without types belongs to no source.
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

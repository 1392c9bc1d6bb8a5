//! Discriminators as they apply to each slice: where to look, and what must be found there.
//!
//! What a slice requires at the path of a discriminator is defined in the slice itself, in the profiles of its
//! types, or, behind `resolve()`, in the profiles of its targets. R5: value, exists, type, profile, position;
//! `pattern` is the same as `value`.

use super::compiler::Compiler;
use super::draft::{Draft, count, shown};
use super::path::steps;
use super::pattern::Pattern;
use super::rules::{Matcher, ProfileRef, Step, Test, ValueTest};
use crate::definition::canonical::split_canonical;
use emberpost_fhir::schema::TypeId;
use serde_json::Value;

/// A definition that a path leads to.
#[derive(Clone)]
enum Site<'d> {
    Draft(&'d Draft),
    Profile(ProfileRef),
}

/// The tests of one slice, one per discriminator. Empty: whether a value conforms to the slice's rules decides.
pub(super) fn matchers(compiler: &mut Compiler, of: &Draft, slice: &Draft) -> Vec<Matcher> {
    let Some(slicing) = of.fields.get("slicing") else { return vec![implied(compiler, of, slice)] };
    let listed = slicing["discriminator"].as_array().cloned().unwrap_or_default();
    if listed.is_empty() && (of.is_choice() || is_extension(of)) {
        return vec![implied(compiler, of, slice)];
    }
    let matcher = |one: &Value| {
        let kind = one["type"].as_str().unwrap_or_default();
        matcher(compiler, of, slice, kind, one["path"].as_str().unwrap_or("$this"))
    };
    let found: Vec<Result<Matcher, String>> = listed.iter().map(matcher).collect();
    // A discriminator for which the slice defines nothing does not distinguish it. If that applies to all,
    // membership is unknown.
    let (told, silent): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
    let told: Vec<Matcher> = told.into_iter().flatten().collect();
    if told.is_empty() && !silent.is_empty() {
        compiler.errors.extend(silent.into_iter().filter_map(Result::err));
        return vec![unknown(Vec::new())];
    }
    told
}

fn unknown(path: Vec<Step>) -> Matcher {
    Matcher { path, test: Test::Unknown }
}

fn is_extension(of: &Draft) -> bool {
    matches!(of.name.as_str(), "extension" | "modifierExtension")
}

/// Choices are sliced by type and extensions by url, even without a discriminator.
fn implied(compiler: &mut Compiler, of: &Draft, slice: &Draft) -> Matcher {
    let found = match () {
        () if of.is_choice() => matcher(compiler, of, slice, "type", "$this"),
        () if is_extension(of) => matcher(compiler, of, slice, "value", "url"),
        // The slicing is defined in a profile of the element's type, or in a base that is not loaded.
        () => Ok(unknown(Vec::new())),
    };
    found.unwrap_or_else(|error| {
        compiler.errors.push(error);
        unknown(Vec::new())
    })
}

/// Errs with a sentence if the slice does not define what to look for.
fn matcher(compiler: &mut Compiler, of: &Draft, slice: &Draft, kind: &str, path: &str) -> Result<Matcher, String> {
    let name = slice.slice.as_deref().unwrap_or_default();
    let Some(steps) = steps(compiler.schema, path) else {
        compiler.errors.push(format!("slice {name} of {}: the path {} cannot be parsed", of.name, shown(path)));
        return Ok(unknown(Vec::new()));
    };
    let sites = sites(compiler, slice, &steps);
    let test = match kind {
        "value" | "pattern" => value(compiler, slice, &steps, &sites),
        "exists" => exists(&sites),
        "type" => of_type(compiler, &sites),
        "profile" => profile(compiler, &sites),
        "position" => position(of, slice),
        _ => None,
    };
    // A definition that is not loaded might define it.
    let is_open = refs(compiler, slice, "profile").iter().any(|profile| matches!(profile, ProfileRef::Missing(_)));
    match test {
        Some(test) => Ok(Matcher { path: steps, test }),
        None if compiler.is_whole && !is_open => Err(format!(
            "slice {name} of {} does not define a value for the discriminator {kind} {}",
            of.name,
            shown(path)
        )),
        None => Ok(unknown(steps)),
    }
}

fn sites<'d>(compiler: &Compiler<'d>, slice: &'d Draft, steps: &[Step]) -> Vec<Site<'d>> {
    let mut sites = vec![Site::Draft(slice)];
    for step in steps {
        sites = sites.iter().flat_map(|site| next(compiler, site, step)).collect();
    }
    sites
}

fn next<'d>(compiler: &Compiler<'d>, site: &Site<'d>, step: &Step) -> Vec<Site<'d>> {
    let draft = match site {
        Site::Draft(draft) => *draft,
        Site::Profile(ProfileRef::Known(id)) => match compiler.drafts.get(id.0 as usize) {
            Some(known) => &known.draft,
            None => return Vec::new(),
        },
        Site::Profile(_) => return Vec::new(),
    };
    if let Step::Resolve = step {
        return refs(compiler, draft, "targetProfile").into_iter().map(Site::Profile).collect();
    }
    let mut found: Vec<Site<'d>> = within(compiler, draft, step).into_iter().map(Site::Draft).collect();
    // What the profiles of its type require, one step deep: their own drafts define the rest.
    for profile in refs(compiler, draft, "profile") {
        if let ProfileRef::Known(id) = profile
            && let Some(known) = compiler.drafts.get(id.0 as usize)
        {
            found.extend(within(compiler, &known.draft, step).into_iter().map(Site::Draft));
        }
    }
    found
}

/// The drafts that a step leads to within one profile.
fn within<'d>(compiler: &Compiler, draft: &'d Draft, step: &Step) -> Vec<&'d Draft> {
    match step {
        Step::Child(name) => {
            let Some(child) = draft.child(name) else { return Vec::new() };
            // Required slices decide; if none is required, any of them may be present.
            let is_asked = |slice: &&Draft| slice.fields.get("min").and_then(count).is_some_and(|min| min > 0);
            let any_asked = child.slices.iter().any(|slice| is_asked(&slice));
            let slices = child.slices.iter().filter(|slice| !is_forbidden(slice));
            std::iter::once(child).chain(slices.filter(|slice| !any_asked || is_asked(slice))).collect()
        }
        Step::Extension(url) => {
            let slices = draft.child("extension").map(|child| child.slices.as_slice()).unwrap_or_default();
            slices.iter().filter(|slice| urls(slice).any(|of| *of == **url)).collect()
        }
        Step::OfType(id) if draft.is_choice() && draft.slice.is_none() => {
            let same = |slice: &&Draft| slice.types.as_slice() == [*id];
            let slices: Vec<&Draft> = draft.slices.iter().filter(same).collect();
            if slices.is_empty() { vec![draft] } else { slices }
        }
        Step::OfType(id) => {
            let has = draft.types.contains(id) || draft.narrowed(compiler.schema).contains(id);
            if has { vec![draft] } else { Vec::new() }
        }
        Step::Resolve => Vec::new(),
    }
}

/// The urls that a slice of extensions represents.
fn urls(slice: &Draft) -> impl Iterator<Item = &str> {
    let own = slice.child("url").and_then(|url| url.value_rule("fixed").or_else(|| url.value_rule("pattern")));
    let own = own.and_then(|(_, value)| value.as_str());
    own.into_iter().chain(canonicals(slice, "profile").map(|canonical| split_canonical(canonical).0))
}

fn canonicals<'d>(draft: &'d Draft, name: &str) -> impl Iterator<Item = &'d str> {
    let types = draft.fields.get("type").and_then(Value::as_array).into_iter().flatten();
    let lists: Vec<&'d Value> = types.filter_map(|one| one.get(name)).collect();
    lists.into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str)
}

fn refs(compiler: &Compiler, draft: &Draft, name: &str) -> Vec<ProfileRef> {
    canonicals(draft, name).map(|canonical| compiler.library.find(canonical)).collect()
}

fn value(compiler: &mut Compiler, slice: &Draft, steps: &[Step], sites: &[Site]) -> Option<Test> {
    if is_extension(slice) && matches!(steps, [Step::Child(name)] if &**name == "url") {
        let urls: Vec<_> = urls(slice).map(|url| ValueTest::Fixed(Pattern::Text(url.into()))).collect();
        return (!urls.is_empty()).then_some(Test::Value(urls));
    }
    let mut tests = Vec::new();
    for site in sites {
        let draft = match site {
            Site::Draft(draft) => draft,
            Site::Profile(ProfileRef::Known(id)) => match compiler.drafts.get(id.0 as usize) {
                Some(known) => &known.draft,
                None => continue,
            },
            Site::Profile(_) => continue,
        };
        tests.extend(value_test(compiler, draft));
    }
    (!tests.is_empty()).then_some(Test::Value(tests))
}

fn value_test(compiler: &mut Compiler, draft: &Draft) -> Option<ValueTest> {
    let of_kind = |kind| draft.value_rule(kind).and_then(|(_, value)| Pattern::read(value));
    if let Some(fixed) = of_kind("fixed") {
        return Some(ValueTest::Fixed(fixed));
    }
    if let Some(pattern) = of_kind("pattern") {
        return Some(ValueTest::Pattern(pattern));
    }
    if let Some(binding) = compiler.bindings(draft).into_iter().next() {
        return Some(ValueTest::Binding(binding));
    }
    let rules = compiler.rules_within(draft)?;
    rules.constrains_value().then(|| ValueTest::Rules(Box::new(rules)))
}

fn exists(sites: &[Site]) -> Option<Test> {
    let said = |name: &str, is: fn(u64) -> bool| {
        sites.iter().any(|site| match site {
            Site::Draft(draft) => draft.fields.get(name).and_then(count).is_some_and(is),
            Site::Profile(_) => false,
        })
    };
    match (said("max", |max| max == 0), said("min", |min| min > 0)) {
        (true, _) => Some(Test::Exists(false)),
        (_, true) => Some(Test::Exists(true)),
        _ => None,
    }
}

fn of_type(compiler: &Compiler, sites: &[Site]) -> Option<Test> {
    let mut types: Vec<TypeId> = Vec::new();
    for site in sites {
        match site {
            Site::Profile(profile) => types.push(type_of(compiler, profile)?),
            // The slices of a choice are sites of their own, and narrower than the choice.
            Site::Draft(draft) if draft.is_choice() && draft.slice.is_none() && has_type_slices(draft) => {}
            Site::Draft(draft) => {
                let profiles = refs(compiler, draft, "profile");
                let of_profiles: Option<Vec<TypeId>> = profiles.iter().map(|one| type_of(compiler, one)).collect();
                let of_profiles = of_profiles.filter(|types| !types.is_empty());
                types.extend(of_profiles.unwrap_or_else(|| draft.narrowed(compiler.schema)));
            }
        }
    }
    (!types.is_empty()).then_some(Test::Type(types))
}

fn is_forbidden(slice: &Draft) -> bool {
    slice.fields.get("max").and_then(count) == Some(0)
}

/// Whether a slice of the choice represents one of its types.
fn has_type_slices(choice: &Draft) -> bool {
    choice.slices.iter().any(|slice| slice.types.len() == 1 && !is_forbidden(slice))
}

fn type_of(compiler: &Compiler, profile: &ProfileRef) -> Option<TypeId> {
    match profile {
        ProfileRef::Base(id) => Some(*id),
        ProfileRef::Known(id) => compiler.library.source_of(*id).map(|source| source.type_id),
        ProfileRef::BuiltIn => compiler.schema.named("Extension"),
        ProfileRef::Missing(_) => None,
    }
}

fn profile(compiler: &Compiler, sites: &[Site]) -> Option<Test> {
    let mut profiles = Vec::new();
    for site in sites {
        match site {
            Site::Profile(profile) => profiles.push(profile.clone()),
            Site::Draft(draft) => {
                let own = refs(compiler, draft, "profile");
                match own.is_empty() && draft.fields.contains_key("type") {
                    true => profiles.extend(draft.narrowed(compiler.schema).into_iter().map(ProfileRef::Base)),
                    false => profiles.extend(own),
                }
            }
        }
    }
    (!profiles.is_empty()).then_some(Test::Profile(profiles))
}

/// Every slice but the last takes as many values as its `min`; the last takes the rest.
fn position(of: &Draft, slice: &Draft) -> Option<Test> {
    let mut from = 0_u32;
    for (at, one) in of.slices.iter().enumerate() {
        let min = one.fields.get("min").and_then(count).and_then(|min| u32::try_from(min).ok()).unwrap_or(0);
        let to = if at + 1 == of.slices.len() { u32::MAX } else { from.saturating_add(min) };
        if one.slice == slice.slice {
            return Some(Test::Position(from, to));
        }
        from = to;
    }
    None
}

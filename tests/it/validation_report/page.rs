//! The text of `docs/validation.md`.

use super::tally::{Group, Source, Tally};
use emberpost::fhir::FhirVersion;
use emberpost::fhir::schema::{Schema, Strength, TypeKind};
use emberpost::validation::structure;
use std::collections::HashMap;
use std::fmt::Write;

const HEAD: &str = "# Validation\n\nWhat is checked, and how it compares with the HL7 reference validator (org.hl7.fhir.validation 6.7.9), whose verdicts on\n\
     real messages and on mutants of them stand in outcome files. Made by\n`EMBERPOST_CORPUS=<folder> EMBERPOST_ORACLE=<folder> EMBERPOST_VALIDATION_TABLE=write cargo test --test it validation_report`,\n\
     and compared by the same test without the last variable. The level is `structure` and `prose_rules` is `error`, as the\nreference holds them; no definitions are loaded.\n";

/// Families of rules: name, rules, and what is done, in every version but where figures say otherwise.
const FAMILIES: [(&str, &str, &str); 14] = [
    ("JSON form", "RFC8259, JSN-01, JSN-03 to JSN-07, JSN-09", "errors"),
    ("XML form", "XML-01 to XML-05", "errors"),
    ("envelope and header", "MSG-01 to MSG-03, MSG-20, MSG-35, MSG-37", "errors"),
    ("Bundle invariants of a message", "bdl-1 to bdl-16 where they bite", "errors"),
    ("fullUrl", "MSG-10, MSG-11", "prose; in R5 a missing one is bdl-15"),
    ("references within Bundles", "MSG-04, MSG-16, MSG-17", "prose; a urn that leads nowhere is a warning"),
    ("connectedness", "MSG-06, MSG-07, EXC-35", "a warning in messages, prose in documents within them"),
    ("identity", "MSG-12", "a warning in R5"),
    ("elements, cardinalities, types, choices", "min, max, type, unknown", "errors"),
    ("formats of primitives", "format", "errors"),
    ("required bindings", "binding", "errors where the value set can be enumerated"),
    ("narrative", "txt-1, txt-2", "errors"),
    ("base invariants", "dom-, ext-, per-, qty-, \u{2026}", "errors"),
    (
        "systems, urns, canonicals, identifiers in prose",
        "system-absolute, urn, canonical-absolute, identifier-uri, extension-absolute, system-value-set",
        "prose",
    ),
];

pub fn write(tally: &Tally, explanations: &str) -> String {
    let mut page = HEAD.to_owned();
    families(&mut page);
    corpus(tally, &mut page);
    invalid(tally, &mut page);
    mutants(tally, &mut page);
    page.push_str("\n## Mutants of our own ways\n\nNone yet.\n");
    disagreements(tally, explanations, &mut page);
    page
}

fn families(page: &mut String) {
    page.push_str("\n## Rule families\n\n\"Prose\" are rules that the specification states in words alone: warnings, with `prose_rules = \"error\"` errors.\n\n\
                   | family | rules | what they are | R4 | R4B | R5 |\n|---|---|---|---|---|---|\n");
    for (name, rules, state) in FAMILIES {
        let _ = writeln!(page, "| {name} | {rules} | {state} | held | held | held |");
    }
    let row = |name: &str, of: &dyn Fn(&'static Schema) -> String| {
        let versions = [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5];
        let cells = versions.into_iter().map(|version| of(Schema::of(version))).collect::<Vec<_>>().join(" | ");
        format!("| {name} | {cells} |\n")
    };
    page.push_str("\n| figure | R4 | R4B | R5 |\n|---|---|---|---|\n");
    let resources =
        |schema: &Schema| schema.types.iter().filter(|of| of.kind == TypeKind::Resource && !of.is_abstract).count();
    page.push_str(&row("resource types", &|schema| resources(schema).to_string()));
    let grave = |schema: &Schema| schema.constraints.iter().filter(|one| one.is_error).count();
    page.push_str(&row("invariants of error severity", &|schema| grave(schema).to_string()));
    page.push_str(&row("of these not evaluated", &|schema| {
        let keys = structure::not_evaluated(schema).iter().map(|one| one.key.to_string()).collect::<Vec<_>>();
        if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
    }));
    page.push_str(&row("elements with a required binding", &|schema| bindings(schema)));
    page.push_str(&row("extensions of the base packages", &|schema| schema.extensions.len().to_string()));
}

/// How many, and how many of them have a value set that can be enumerated.
fn bindings(schema: &Schema) -> String {
    let elements = schema.types.iter().flat_map(|of| &of.elements).filter_map(|element| element.binding);
    let required = elements.filter(|binding| binding.strength == Strength::Required).collect::<Vec<_>>();
    let known = required.iter().filter(|binding| schema.value_set(binding.value_set).codes.is_some()).count();
    format!("{}, enumerable {known}", required.len())
}

fn corpus(tally: &Tally, page: &mut String) {
    page.push_str("\n## Real messages\n\n\"By default\": with `prose_rules = \"warning\"`.\n\n\
                   | source | form | messages | the reference accepts | we accept | by default | same verdict |\n|---|---|---|---|---|---|---|\n");
    let mut all = Source::default();
    for ((source, format), of) in &tally.sources {
        row(page, source, format, of);
        all.all += of.all;
        all.reference_accepts += of.reference_accepts;
        all.accepted += of.accepted;
        all.usually_accepted += of.usually_accepted;
        all.agree += of.agree;
    }
    row(page, "all", "", &all);
}

fn row(page: &mut String, source: &str, format: &str, of: &Source) {
    let figures = [of.all, of.reference_accepts, of.accepted, of.usually_accepted, of.agree];
    let figures = figures.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
    let _ = writeln!(page, "| {source} | {format} | {figures} |");
}

fn invalid(tally: &Tally, page: &mut String) {
    page.push_str("\n## Files that their publishers call invalid\n\n| file | the reference | we |\n|---|---|---|\n");
    let word = |refused: bool| if refused { "refuses" } else { "accepts" };
    for (file, theirs, ours) in &tally.invalid {
        let _ = writeln!(page, "| {file} | {} | {} |", word(*theirs), word(*ours));
    }
}

fn mutants(tally: &Tally, page: &mut String) {
    page.push_str("\n## Mutants\n\nAgainst what the specification asks (`expected` in the outcome files). \"Located\": in JSON, where an element was changed,\nan error names it, one below it, or the one directly above.\n\n\
                   | group | to refuse | refused | to accept | accepted | either | refused | with a place | located |\n|---|---|---|---|---|---|---|---|---|\n");
    let mut all = Group::default();
    for (name, of) in &tally.groups {
        group_row(page, name, of);
        all.to_refuse += of.to_refuse;
        all.refused += of.refused;
        all.to_accept += of.to_accept;
        all.accepted += of.accepted;
        all.either += of.either;
        all.either_refused += of.either_refused;
        all.with_place += of.with_place;
        all.located += of.located;
    }
    group_row(page, "all", &all);
    let percent = |part: usize, whole: usize| if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 };
    let _ = writeln!(
        page,
        "\nRefused {:.2} % of those to refuse, accepted {:.2} % of those to accept, located {:.2} %.",
        percent(all.refused, all.to_refuse),
        percent(all.accepted, all.to_accept),
        percent(all.located, all.with_place)
    );
}

fn group_row(page: &mut String, name: &str, of: &Group) {
    let name = if name.is_empty() { "untouched" } else { name };
    let figures =
        [of.to_refuse, of.refused, of.to_accept, of.accepted, of.either, of.either_refused, of.with_place, of.located];
    let figures = figures.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
    let _ = writeln!(page, "| {name} | {figures} |");
}

fn disagreements(tally: &Tally, explanations: &str, page: &mut String) {
    let explained = explanations.lines().skip(1).filter_map(|line| line.split_once(',')).collect::<HashMap<_, _>>();
    page.push_str("\n## Disagreements\n\nMessages on which our verdict is not the reference's, and mutants on which it is not the expected one or names another\nplace.\n\n");
    if tally.disagreements.is_empty() {
        page.push_str("None.\n");
        return;
    }
    page.push_str("| what | we | the reference | why |\n|---|---|---|---|\n");
    for one in &tally.disagreements {
        let why = explained.get(one.key.as_str()).map_or("not explained yet", |why| why.trim_matches('"'));
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(page, "| {} | {} | {} | {} |", cell(&one.id), cell(&one.ours), cell(&one.theirs), cell(why));
    }
}

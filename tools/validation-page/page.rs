//! Writes the page `docs/validation.md`: what is checked in which version, and how that compares with the reference.

use super::cases::{CASES, CaseResult};
use super::explained::explained;
use super::oracle::Judged;
use fhir::FhirVersion;
use fhir::schema::{Schema, Strength};
use std::collections::BTreeMap;
use std::fmt::Write;
use validation::not_evaluated;

/// The figures on the page that a test asserts.
#[derive(Default, Debug)]
pub struct Figures {
    pub to_refuse: usize,
    pub refused: usize,
    pub to_accept: usize,
    pub accepted: usize,
    pub placed: usize,
    pub located: usize,
    /// Corpus messages that the reference accepts and Emberpost refuses.
    pub false_alarms: usize,
}

/// The results from which the page is written.
pub struct Page<'p> {
    pub corpus: &'p [Judged],
    pub mutants: &'p [Judged],
    pub own: &'p [CaseResult],
}

impl Page<'_> {
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for mutant in self.mutants {
            match mutant.line.expected.as_str() {
                "refused" => {
                    figures.to_refuse += 1;
                    figures.refused += usize::from(mutant.is_refused());
                    if !mutant.line.at.is_empty() {
                        figures.placed += 1;
                        figures.located += usize::from(mutant.is_located());
                    }
                }
                "accepted" => {
                    figures.to_accept += 1;
                    figures.accepted += usize::from(!mutant.is_refused());
                }
                _ => {}
            }
        }
        figures.false_alarms = self.corpus.iter().filter(|one| one.is_refused() && !one.is_refused_there()).count();
        figures
    }

    pub fn write(&self) -> String {
        let mut text = String::from(HEAD);
        families(&mut text);
        text.push_str(READING);
        self.mutant_table(&mut text);
        self.own_table(&mut text);
        self.corpus_table(&mut text);
        self.invalid_table(&mut text);
        self.disagreements(&mut text);
        text
    }

    fn mutant_table(&self, text: &mut String) {
        let figures = self.figures();
        let share = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
        let _ = write!(
            text,
            "\n## Mutants\n\n{} messages of R4, R4B, or R5, each changed in one way. Emberpost refuses {} of the {} that must be refused \
             ({:.1} %), accepts {}\nof the {} that must be accepted ({:.1} %), and names the right element (the changed one, one \
             below it, or its parent) in {} of the\n{} that have one ({:.1} %). The reference itself reaches 98.2 %, 98.4 %, and \
             97.9 %.\n\n| group | mutants | to refuse | refused | placed | located | to accept | accepted | either | refused |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
            self.mutants.len(),
            figures.refused,
            figures.to_refuse,
            share(figures.refused, figures.to_refuse),
            figures.accepted,
            figures.to_accept,
            share(figures.accepted, figures.to_accept),
            figures.located,
            figures.placed,
            share(figures.located, figures.placed),
        );
        let mut groups: BTreeMap<&str, [usize; 9]> = BTreeMap::new();
        for mutant in self.mutants {
            let row = groups.entry(&mutant.line.group).or_default();
            let (refused, located) = (usize::from(mutant.is_refused()), usize::from(mutant.is_located()));
            row[0] += 1;
            match mutant.line.expected.as_str() {
                "refused" => {
                    row[1] += 1;
                    row[2] += refused;
                    if !mutant.line.at.is_empty() {
                        row[3] += 1;
                        row[4] += located;
                    }
                }
                "accepted" => {
                    row[5] += 1;
                    row[6] += 1 - refused;
                }
                _ => {
                    row[7] += 1;
                    row[8] += refused;
                }
            }
        }
        for (group, row) in groups {
            let cells: Vec<String> = row.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "| {group} | {} |", cells.join(" | "));
        }
    }

    fn own_table(&self, text: &mut String) {
        let right = self.own.iter().filter(|result| result.is_right()).count();
        let _ = write!(
            text,
            "\n## Cases of our own\n\nOne message, changed in {} ways that are not among the mutants, in each version to which they apply: \
             {right} of {} have the\nexpected result (refused at the right element, or accepted).\n",
            CASES.len(),
            self.own.len()
        );
        for result in self.own.iter().filter(|result| !result.is_right()) {
            let _ = writeln!(text, "\n- {} ({}): wrong", result.case.name, result.version.short());
        }
    }

    fn corpus_table(&self, text: &mut String) {
        text.push_str(
            "\n## Real messages\n\nBy publisher and format: accepted by both, refused by both, and where the two differ. Prose rules \
             count as errors here.\n\n| source | format | messages | both accept | both refuse | only Emberpost refuses | only the reference \
             refuses |\n|---|---|---|---|---|---|---|\n",
        );
        let mut rows: BTreeMap<(&str, &str), [usize; 5]> = BTreeMap::new();
        for one in self.corpus.iter().filter(|one| !is_invalid(one)) {
            let source = one.line.file.split('/').next().unwrap_or_default();
            let row = rows.entry((source, &one.line.format)).or_default();
            row[0] += 1;
            row[match (one.is_refused(), one.is_refused_there()) {
                (false, false) => 1,
                (true, true) => 2,
                (true, false) => 3,
                (false, true) => 4,
            }] += 1;
        }
        let mut sum = [0; 5];
        for ((source, format), row) in rows {
            let cells: Vec<String> = row.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "| {source} | {format} | {} |", cells.join(" | "));
            sum.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        }
        let cells: Vec<String> = sum.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "| all | | {} |", cells.join(" | "));
        let refused = || self.corpus.iter().filter(|one| one.is_refused() && one.is_refused_there());
        let same = refused().filter(|one| one.missed().is_empty()).count();
        let _ = writeln!(
            text,
            "\nEmberpost reports every rule that the reference reports in {same} of the {} messages that both refuse, including those of the\n\
             next section.",
            refused().count()
        );
        for one in refused().filter(|one| !one.missed().is_empty()) {
            let why = explained(one).unwrap_or("**not explained**");
            let _ = writeln!(
                text,
                "\n- {}: not {}; Emberpost reports {}. {why}",
                one.name(),
                one.missed().join(", "),
                one.ours()
            );
        }
    }

    fn invalid_table(&self, text: &mut String) {
        text.push_str(
            "\n## Files that their publishers call invalid\n\n| file | Emberpost | the reference |\n|---|---|---|\n",
        );
        for one in self.corpus.iter().filter(|one| is_invalid(one)) {
            let _ = writeln!(text, "| {} | {} | {} |", one.line.file, one.ours(), one.theirs());
        }
    }

    /// Every message on which the two differ, one by one.
    fn disagreements(&self, text: &mut String) {
        text.push_str(
            "\n## Where the two differ\n\nMutants are compared with the expected result, not with the reference; real messages with \
             the reference's counted errors.\n\n| message | expected | Emberpost reports | the reference reports | why |\n|---|---|---|---|---|\n",
        );
        let mutants = self.mutants.iter().filter(|one| {
            let (refused, located) = (one.is_refused(), one.line.at.is_empty() || one.is_located());
            match one.line.expected.as_str() {
                "refused" => !refused || !located,
                "accepted" => refused,
                _ => false,
            }
        });
        for one in mutants {
            let expected = match one.line.at.as_str() {
                "" => one.line.expected.clone(),
                at => format!("{} at {at}", one.line.expected),
            };
            self.row(text, one, &expected);
        }
        for one in self.corpus.iter().filter(|one| one.is_refused() != one.is_refused_there()) {
            let expected = if one.is_refused_there() { "refused" } else { "accepted" };
            self.row(text, one, expected);
        }
    }

    fn row(&self, text: &mut String, one: &Judged, expected: &str) {
        let why = explained(one).unwrap_or("**not explained**");
        let _ = writeln!(text, "| {} | {expected} | {} | {} | {why} |", one.name(), one.ours(), one.theirs());
    }
}

fn is_invalid(one: &Judged) -> bool {
    one.line.file.contains("/invalid/")
}

/// The rule families with their state in each version.
fn families(text: &mut String) {
    let versions = [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5];
    let schemas = versions.map(Schema::of);
    let mut row = |name: &str, state: [String; 3]| {
        let _ = writeln!(text, "| {name} | {} |", state.join(" | "));
    };
    let count = |of: &dyn Fn(&'static Schema) -> usize| schemas.map(|schema| of(schema).to_string());
    row("types with their elements", count(&|schema| schema.types.len()));
    row("elements", count(&|schema| schema.types.iter().map(|found| found.elements.len()).sum()));
    row(
        "value sets of required bindings with enumerated codes",
        count(&|schema| schema.value_sets.iter().filter(|set| set.codes.is_some()).count()),
    );
    row(
        "value sets of required bindings without (a coding from their systems is required)",
        count(&|schema| schema.value_sets.iter().filter(|set| set.codes.is_none()).count()),
    );
    row(
        "elements with a required binding",
        count(&|schema| {
            let bound = |element: &&fhir::schema::ElementDef| {
                element.binding.is_some_and(|binding| binding.strength == Strength::Required)
            };
            schema.types.iter().flat_map(|found| &found.elements).filter(bound).count()
        }),
    );
    row(
        "invariants of error severity",
        count(&|schema| schema.constraints.iter().filter(|constraint| constraint.is_error).count()),
    );
    row("of them not evaluated", count(&|schema| not_evaluated(schema).len()));
    row("extensions of the base packages", count(&|schema| schema.extensions.len()));
    for (name, state) in FAMILIES {
        row(name, [*state; 3].map(str::to_owned));
    }
}

const FAMILIES: &[(&str, &str)] = &[
    ("JSON (JSN-01 to JSN-08): names, arrays, `_` siblings, nulls, empty values", "checked"),
    ("XML (XML-01 to XML-03): namespaces, order, attributes, text, no DTD", "checked"),
    ("unknown elements, cardinalities, types, choices", "checked"),
    ("primitive formats", "checked"),
    ("contained resources, references, their target types", "checked"),
    ("narrative: elements and attributes of XHTML, no active content", "checked"),
    ("prose rules of Bundles and messages (`prose_rules`)", "warning, or error"),
];

/// How rules are interpreted where the definitions leave it open.
const READING: &str = "
## How rules are interpreted

- **Invariants must be true.** One without a result is violated, for example because an element that it compares is missing or not a number.
  Exceptions: two dates of different precision have no order, so `per-1` compares the boundaries, and `mdd-1` and `inv-1` (Task) pass; if an
  invariant depends on the target of a reference or on a value set that is not known here, it is not violated. Published expressions that have
  no result when nothing is wrong (`bdl-8` and `ras-2` of R4, `ing-1` of R4B, `eld-28` and `dgr-1` of R5), or that do not express their text
  (`csd-1` of R5), are corrected in the tables: `tools/definitions/corrections.rs` lists them with reasons. Constraints of profiles are treated alike.
- **Extensions of the base** follow HL7's newest extensions pack in a registry (5.3.0-ballot-tc1); what a release allows beyond it is also
  allowed. A loaded definition with the same url overrides the embedded one: level `structure` then ignores the extension, and level `profile`
  enforces the loaded definition.
- **Required value sets that cannot be enumerated** (languages, SNOMED CT, and so on) require a coding from a system that the value set includes;
  an extension may replace it. Currencies are the codes of ISO 4217, including withdrawn ones.
- **Relative references** that are not a type, `/`, and an id violate a prose rule. `Reference.type` is the name of a type, never a URL.
- **Ids of elements** are unique within a resource (in a StructureDefinition within each of snapshot and differential) and have no white space.
- **Attachment.size** is the size of `data` before base64. In R5, base64 has no white space.
- **Narrative** may use a prefix for XHTML. It must not have a link in a link, elements in `pre` that HTML excludes there, or control characters.
- **Parameters** may be empty; any other resource needs more than its type.
- **STU3** messages are reported as such (VER-04) and not checked any further.
- Documents may be nested 256 levels deep, counting objects and arrays of the equivalent JSON (`SEND_DEPTH` beyond).
- Issues use the terms of the format that was sent: for XML, elements and attributes (XML-02 instead of JSN-03 and JSN-04, `max`, `type`, or
  `format` instead of JSN-05 and JSN-07). Errors come first, then warnings, each in the order of the document.
";

const HEAD: &str = "# Validation\n\nMade by `cargo run --release -p emberpost-validation-page`, with `EMBERPOST_CORPUS` and `EMBERPOST_ORACLE` set: the \
folder of real messages, and\nthat of the issues that the HL7 reference validator (org.hl7.fhir.validation 6.7.9) finds in them and in mutants of \
them. Do not edit it by\nhand.\n\nEach level includes the ones before it: `message` (envelope, header, events, MessageDefinition), `structure` (the base \
specification), `profile`\n(profiles, graphs). This page is about `structure` with `prose_rules = \"error\"`.\n\n## What is checked\n\n| rules | R4 \
| R4B | R5 |\n|---|---|---|---|\n";

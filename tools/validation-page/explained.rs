//! Explains why Emberpost and the reference differ, for each message where they do: by kind of mutant, or by file.

use super::oracle::Judged;

/// Prefix of the name (`way~` of mutants, path of real messages) and the explanation.
const REASONS: &[(&str, &str)] = &[
    (
        "duplicate-key~",
        "the duplicate name is below a choice; the JSON reader refuses it before FHIR definitions are used, and names the member as \
         written, `valueCoding`",
    ),
    (
        "cdc-vrdr-dotnet-fixtures/invalid/BadMessage.json",
        "A number with a leading zero is not JSON (RFC 8259), so nothing after it is read.",
    ),
    (
        "cdc-vrdr-",
        "The Composition's fullUrl is a RESTful URL, so its relative references resolve against that base (bundle page, Resolving \
         references in Bundles) and join the entries; that its id differs is reported (MSG-11). The reference resolves nothing in this case.",
    ),
    (
        "fhir-test-cases/messages/bundle-with-contained.json",
        "The header's fullUrl is a RESTful URL with another id; its base is valid all the same, and the focus resolves with it.",
    ),
    (
        "medcom-dk/invalid/MedComClinicalEmailMessage",
        "The relative reference resolves against the RESTful fullUrl of its entry, whose id differs, which is reported (MSG-11).",
    ),
    (
        "nhs-digital-medicines-drafts/messages/Bundle-calcium-gluconate",
        "Two entries have no fullUrl (MSG-10), and the focus is found by type and id (MSG-17), in a single entry. The reference \
         counts the entries without fullUrl as matches of each other.",
    ),
    (
        "nhs-digital-medicines-drafts/messages/ceftriaxone-infusion-dispense",
        "The relative fullUrl, refused as such (MSG-11), has exactly the text of the focus, which therefore finds its entry.",
    ),
];

pub fn explained(one: &Judged) -> Option<&'static str> {
    REASONS.iter().find(|(begins, _)| one.name().starts_with(begins)).map(|(_, why)| *why)
}

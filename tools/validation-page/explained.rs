//! Why Emberpost and the reference differ, for each message where they do: by way of a mutant, or by file.

use super::oracle::Judged;

/// Beginning of the name (`way~` of mutants, path of real messages) and the reason.
const REASONS: &[(&str, &str)] = &[
    (
        "duplicate-key~",
        "the name that stands twice is below a choice; the reader of JSON refuses it before anything of FHIR is known, and writes \
         the member's own name, `valueCoding`",
    ),
    (
        "cdc-vrdr-dotnet-fixtures/invalid/BadMessage.json",
        "A number with a leading zero is no JSON (RFC 8259), so nothing behind it is read.",
    ),
    (
        "cdc-vrdr-",
        "The Composition's fullUrl is a RESTful URL, so its relative references resolve against that base (bundle page, Resolving \
         references in Bundles) and join the entries; that its id disagrees is told (MSG-11). The reference resolves nothing then.",
    ),
    (
        "fhir-test-cases/messages/bundle-with-contained.json",
        "The header's fullUrl is a RESTful URL with another id; its base holds all the same, and the focus resolves by it.",
    ),
    (
        "medcom-dk/invalid/MedComClinicalEmailMessage",
        "The relative reference resolves against the RESTful fullUrl of its entry, whose id disagrees, which is told (MSG-11).",
    ),
    (
        "nhs-digital-medicines-drafts/messages/Bundle-calcium-gluconate",
        "Two entries have no fullUrl (MSG-10), and the focus is found by type and id (MSG-17); there is one such entry, where the \
         reference counts the entries without fullUrl as matches of each other.",
    ),
    (
        "nhs-digital-medicines-drafts/messages/ceftriaxone-infusion-dispense",
        "The relative fullUrl, refused as such (MSG-11), is letter by letter the text of the focus, which so finds its entry.",
    ),
];

pub fn explained(one: &Judged) -> Option<&'static str> {
    REASONS.iter().find(|(begins, _)| one.name().starts_with(begins)).map(|(_, why)| *why)
}

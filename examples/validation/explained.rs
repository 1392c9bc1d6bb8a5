//! Why Emberpost and the reference differ, for each message where they do: by way of a mutant, or by file.

use super::oracle::Judged;

/// Beginning of the name (`way~` of mutants, path of real messages) and the reason.
const REASONS: &[(&str, &str)] = &[(
    "duplicate-key~",
    "the name that stands twice is below a choice; the reader of JSON refuses it before anything of FHIR is known, and writes the member's \
     own name, `valueCoding`",
)];

pub fn explained(one: &Judged) -> Option<&'static str> {
    REASONS.iter().find(|(begins, _)| one.name().starts_with(begins)).map(|(_, why)| *why)
}

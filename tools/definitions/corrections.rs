//! Corrections of published expressions that are known to be wrong.
//!
//! Only where an expression gives a wrong result, which includes having none when nothing is wrong: an invariant
//! without a result is violated. `PLACES` lists elements on which HL7's own resources have extensions although no
//! definition allows it.

use fhir::FhirVersion::{self, R4, R4B, R5};

struct Correction {
    versions: &'static [FhirVersion],
    /// The key of a constraint, or the last part of the url of an extension whose context invariant it is.
    key: &'static str,
    published: &'static str,
    used: &'static str,
}

const CORRECTIONS: [Correction; 16] = [
    // `as` takes one item, but these are many; the filter is meant, as in R5.
    Correction {
        versions: &[R4],
        key: "dom-3",
        published: "contained.where((('#'+id in (%resource.descendants().reference | \
            %resource.descendants().as(canonical) | %resource.descendants().as(uri) | \
            %resource.descendants().as(url))) or descendants().where(reference = '#').exists() or \
            descendants().where(as(canonical) = '#').exists() or descendants().where(as(canonical) = \
            '#').exists()).not()).trace('unmatched', id).empty()",
        used: "contained.where((('#'+id in (%resource.descendants().reference | \
            %resource.descendants().ofType(canonical) | %resource.descendants().ofType(uri) | \
            %resource.descendants().ofType(url))) or descendants().where(reference = '#').exists() or \
            descendants().where(ofType(canonical) = '#').exists() or descendants().where(ofType(canonical) = \
            '#').exists()).not()).trace('unmatched', id).empty()",
    },
    // The same, testing the identity first.
    Correction {
        versions: &[R4B],
        key: "dom-3",
        published: "contained.where(((id.exists() and ('#'+id in (%resource.descendants().reference | \
            %resource.descendants().as(canonical) | %resource.descendants().as(uri) | \
            %resource.descendants().as(url)))) or descendants().where(reference = '#').exists() or \
            descendants().where(as(canonical) = '#').exists() or descendants().where(as(uri) = \
            '#').exists()).not()).trace('unmatched', id).empty()",
        used: "contained.where(((id.exists() and ('#'+id in (%resource.descendants().reference | \
            %resource.descendants().ofType(canonical) | %resource.descendants().ofType(uri) | \
            %resource.descendants().ofType(url)))) or descendants().where(reference = '#').exists() or \
            descendants().where(ofType(canonical) = '#').exists() or descendants().where(ofType(uri) = \
            '#').exists()).not()).trace('unmatched', id).empty()",
    },
    // `#` alone is the resource around the contained one; later versions say so.
    Correction {
        versions: &[R4],
        key: "ref-1",
        published: "reference.startsWith('#').not() or (reference.substring(1).trace('url') in \
            %rootResource.contained.id.trace('ids'))",
        used: "reference.startsWith('#').not() or (reference.substring(1).trace('url') in \
            %rootResource.contained.id.trace('ids')) or (reference='#' and %rootResource!=%resource)",
    },
    // The text says "more than one", as does the expression from R4B on.
    Correction {
        versions: &[R4],
        key: "que-12",
        published: "enableWhen.count() > 2 implies enableBehavior.exists()",
        used: "enableWhen.count() > 1 implies enableBehavior.exists()",
    },
    // An answer is of a FHIR type, never of a System type; corrected in R4B.
    Correction {
        versions: &[R4],
        key: "que-7",
        published: "operator = 'exists' implies (answer is Boolean)",
        used: "operator = 'exists' implies (answer is boolean)",
    },
    // A path must match as a whole, otherwise every text passes; corrected in R4B.
    Correction {
        versions: &[R4],
        key: "eld-19",
        published: r#"path.matches('[^\\s\\.,:;\\\'"\\/|?!@#$%&*()\\[\\]{}]{1,64}(\\.[^\\s\\.,:;\\\'"\\/|?!@#$%&*()\\[\\]{}]{1,64}(\\[x\\])?(\\:[^\\s\\.]+)?)*')"#,
        used: r#"path.matches('^[^\\s\\.,:;\\\'"\\/|?!@#$%&*()\\[\\]{}]{1,64}(\\.[^\\s\\.,:;\\\'"\\/|?!@#$%&*()\\[\\]{}]{1,64}(\\[x\\])?(\\:[^\\s\\.]+)?)*$')"#,
    },
    // `when` repeats, but `in` takes one item on its left; corrected in R5.
    Correction {
        versions: &[R4, R4B],
        key: "tim-9",
        published: "offset.empty() or (when.exists() and ((when in ('C' | 'CM' | 'CD' | 'CV')).not()))",
        used: "offset.empty() or (when.exists() and when.select($this in ('C' | 'CM' | 'CD' | 'CV')).allFalse())",
    },
    // Texts must be in single quotes, and an element may have several types.
    Correction {
        versions: &[R5],
        key: "eld-11",
        published: r#"binding.empty() or type.code.empty() or type.code.contains(":") or type.select((code = 'code') or (code = 'Coding') or (code='CodeableConcept') or (code = 'Quantity') or (code = 'string') or (code = 'uri') or (code = 'Duration')).exists()"#,
        used: "binding.empty() or type.code.empty() or type.where(code.contains(':')).exists() or type.select((code \
            = 'code') or (code = 'Coding') or (code='CodeableConcept') or (code = 'Quantity') or (code = \
            'string') or (code = 'uri') or (code = 'Duration')).exists()",
    },
    // Comparing several severities with one is false; the text says "for all issues".
    Correction {
        versions: &[R5],
        key: "bdl-16",
        published: "issues.exists() implies (issues.issue.severity = 'information' or issues.issue.severity = 'warning')",
        used: "issues.issue.all(severity = 'information' or severity = 'warning')",
    },
    // A boolean has no member `value`, so the first part counted nothing; the text and R5 count the indicator.
    Correction {
        versions: &[R4B],
        key: "ing-1",
        published: "(Ingredient.allergenicIndicator.where(value='true').count() + \
            Ingredient.substance.code.reference.count())  < 2",
        used: "(Ingredient.allergenicIndicator.where($this = true).count() + \
            Ingredient.substance.code.reference.count())  < 2",
    },
    // Entries need no fullUrl, as in R4B.
    Correction {
        versions: &[R4],
        key: "bdl-8",
        published: "fullUrl.contains('/_history/').not()",
        used: "fullUrl.exists() implies fullUrl.contains('/_history/').not()",
    },
    // Predictions need no probability, as in R4B.
    Correction {
        versions: &[R4],
        key: "ras-2",
        published: "probability is decimal implies (probability as decimal) <= 100",
        used: "probability.exists($this is decimal) implies (probability as decimal) <= 100",
    },
    // A boolean has no member `value`, and most elements have no mustHaveValue.
    Correction {
        versions: &[R5],
        key: "eld-28",
        published: "mustHaveValue.value implies valueAlternatives.empty()",
        used: "mustHaveValue.where($this = true).exists() implies valueAlternatives.empty()",
    },
    // The published expression skips the second level of concepts; R4's includes all.
    Correction {
        versions: &[R5],
        key: "csd-1",
        published: "concept.exists() implies concept.code.combine(%resource.concept.descendants().concept.code).isDistinct()",
        used: "concept.exists() implies concept.code.combine($this.descendants().concept.code).isDistinct()",
    },
    // `in` takes one item on its left, but there may be many Observations, or none. The text says "all".
    Correction {
        versions: &[R5],
        key: "dgr-1",
        published: "composition.exists() implies (composition.resolve().section.entry.reference.where(resolve() is \
            Observation) in (result.reference|result.reference.resolve().hasMember.reference))",
        used: "composition.exists() implies composition.resolve().section.entry.reference.where(resolve() is \
            Observation).all($this in (%resource.result.reference | %resource.result.reference.resolve().hasMember.reference))",
    },
    // The name of the type in R5 is `coding`.
    Correction {
        versions: &[R5],
        key: "questionnaire-choiceOrientation",
        published: "ofType(ElementDefinition).type.exists(code='Coding') or \
            where(%resource.is(Questionnaire)).exists(type.first()='choice' or type.first()='open-choice')",
        used: "ofType(ElementDefinition).type.exists(code='Coding') or \
            where(%resource.is(Questionnaire)).exists(type.first()='coding')",
    },
];

/// An element on which resources published by HL7 with a version have an extension, although neither the version nor
/// the newest extensions pack lists it.
struct Place {
    versions: &'static [FhirVersion],
    /// The last part of the url.
    key: &'static str,
    path: &'static str,
}

const PLACES: [Place; 3] = [
    // On the type of `value` in the StructureDefinition of every primitive type (Bundle `types` of each release).
    Place { versions: &[R4, R4B, R5], key: "regex", path: "ElementDefinition.type" },
    // On concepts of HL7's v3 code systems (Bundle `v3-codesystems` of R4 and R4B).
    Place { versions: &[R4, R4B], key: "valueset-concept-comments", path: "CodeSystem.concept" },
    // On the contents of expansions that HL7 published with R4 (Bundle `valueset-expansions`).
    Place { versions: &[R4, R4B], key: "translation", path: "ValueSet.expansion.contains" },
];

/// The additional elements on which an extension is allowed.
pub fn more_contexts(version: FhirVersion, key: &str) -> impl Iterator<Item = &'static str> {
    let known = PLACES.iter().filter(move |place| place.versions.contains(&version) && place.key == key);
    known.map(|place| place.path)
}

/// The expression to use.
pub fn corrected<'e>(version: FhirVersion, key: &str, published: &'e str) -> &'e str {
    let is_known =
        |fault: &&Correction| fault.versions.contains(&version) && fault.key == key && fault.published == published;
    CORRECTIONS.iter().find(is_known).map_or(published, |fault| fault.used)
}

/// The keys of corrections that no longer match a published expression.
pub fn unmet(version: FhirVersion, used: &[&str]) -> Vec<&'static str> {
    let unmet = CORRECTIONS.iter().filter(|fault| fault.versions.contains(&version) && !used.contains(&fault.used));
    unmet.map(|fault| fault.key).collect()
}

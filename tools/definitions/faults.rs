//! Published expressions that are known to be wrong, and what is used in their place.
//!
//! Only where an expression gives a wrong answer, having no result where nothing is wrong included: an invariant without a
//! result is broken. `PLACES` lists where HL7's own resources have extensions that no definition lets stand there.

use fhir::FhirVersion::{self, R4, R4B, R5};

struct Fault {
    versions: &'static [FhirVersion],
    /// Of a constraint, or the last part of the url of an extension whose context invariant it is.
    key: &'static str,
    published: &'static str,
    used: &'static str,
}

const FAULTS: [Fault; 16] = [
    // `as` takes one item, and these are many; meant is the filter, as in R5.
    Fault {
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
    // The same, with the identity asked for first.
    Fault {
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
    Fault {
        versions: &[R4],
        key: "ref-1",
        published: "reference.startsWith('#').not() or (reference.substring(1).trace('url') in \
            %rootResource.contained.id.trace('ids'))",
        used: "reference.startsWith('#').not() or (reference.substring(1).trace('url') in \
            %rootResource.contained.id.trace('ids')) or (reference='#' and %rootResource!=%resource)",
    },
    // Its sentence says "more than one", as does the expression from R4B on.
    Fault {
        versions: &[R4],
        key: "que-12",
        published: "enableWhen.count() > 2 implies enableBehavior.exists()",
        used: "enableWhen.count() > 1 implies enableBehavior.exists()",
    },
    // An answer is of the FHIR type, never of the System type; R4B mends it.
    Fault {
        versions: &[R4],
        key: "que-7",
        published: "operator = 'exists' implies (answer is Boolean)",
        used: "operator = 'exists' implies (answer is boolean)",
    },
    // A path is tested as a whole, else every text passes; R4B mends it.
    Fault {
        versions: &[R4],
        key: "eld-19",
        published: r#"path.matches('[^\\s\\.,:;\\\'"\\/|?!@#$%&*()\\[\\]{}]{1,64}(\\.[^\\s\\.,:;\\\'"\\/|?!@#$%&*()\\[\\]{}]{1,64}(\\[x\\])?(\\:[^\\s\\.]+)?)*')"#,
        used: r#"path.matches('^[^\\s\\.,:;\\\'"\\/|?!@#$%&*()\\[\\]{}]{1,64}(\\.[^\\s\\.,:;\\\'"\\/|?!@#$%&*()\\[\\]{}]{1,64}(\\[x\\])?(\\:[^\\s\\.]+)?)*$')"#,
    },
    // `when` repeats, and `in` takes one item on its left; R5 mends it.
    Fault {
        versions: &[R4, R4B],
        key: "tim-9",
        published: "offset.empty() or (when.exists() and ((when in ('C' | 'CM' | 'CD' | 'CV')).not()))",
        used: "offset.empty() or (when.exists() and when.select($this in ('C' | 'CM' | 'CD' | 'CV')).allFalse())",
    },
    // A text stands in single quotes, and an element may have several types.
    Fault {
        versions: &[R5],
        key: "eld-11",
        published: r#"binding.empty() or type.code.empty() or type.code.contains(":") or type.select((code = 'code') or (code = 'Coding') or (code='CodeableConcept') or (code = 'Quantity') or (code = 'string') or (code = 'uri') or (code = 'Duration')).exists()"#,
        used: "binding.empty() or type.code.empty() or type.where(code.contains(':')).exists() or type.select((code \
            = 'code') or (code = 'Coding') or (code='CodeableConcept') or (code = 'Quantity') or (code = \
            'string') or (code = 'uri') or (code = 'Duration')).exists()",
    },
    // Equality of many severities with one is false; its sentence says "for all issues".
    Fault {
        versions: &[R5],
        key: "bdl-16",
        published: "issues.exists() implies (issues.issue.severity = 'information' or issues.issue.severity = 'warning')",
        used: "issues.issue.all(severity = 'information' or severity = 'warning')",
    },
    // A boolean has no member `value`, so the first part counted nothing; its sentence, and R5, count the indicator.
    Fault {
        versions: &[R4B],
        key: "ing-1",
        published: "(Ingredient.allergenicIndicator.where(value='true').count() + \
            Ingredient.substance.code.reference.count())  < 2",
        used: "(Ingredient.allergenicIndicator.where($this = true).count() + \
            Ingredient.substance.code.reference.count())  < 2",
    },
    // Entries need no fullUrl, as R4B says.
    Fault {
        versions: &[R4],
        key: "bdl-8",
        published: "fullUrl.contains('/_history/').not()",
        used: "fullUrl.exists() implies fullUrl.contains('/_history/').not()",
    },
    // Predictions need no probability, as R4B says.
    Fault {
        versions: &[R4],
        key: "ras-2",
        published: "probability is decimal implies (probability as decimal) <= 100",
        used: "probability.exists($this is decimal) implies (probability as decimal) <= 100",
    },
    // A boolean has no member `value`, and an element mostly has no mustHaveValue.
    Fault {
        versions: &[R5],
        key: "eld-28",
        published: "mustHaveValue.value implies valueAlternatives.empty()",
        used: "mustHaveValue.where($this = true).exists() implies valueAlternatives.empty()",
    },
    // The published one passes over the second level of concepts; R4 has them all.
    Fault {
        versions: &[R5],
        key: "csd-1",
        published: "concept.exists() implies concept.code.combine(%resource.concept.descendants().concept.code).isDistinct()",
        used: "concept.exists() implies concept.code.combine($this.descendants().concept.code).isDistinct()",
    },
    // `in` takes one item on its left; there may be many Observations, or none. Its sentence says "all".
    Fault {
        versions: &[R5],
        key: "dgr-1",
        published: "composition.exists() implies (composition.resolve().section.entry.reference.where(resolve() is \
            Observation) in (result.reference|result.reference.resolve().hasMember.reference))",
        used: "composition.exists() implies composition.resolve().section.entry.reference.where(resolve() is \
            Observation).all($this in (%resource.result.reference | %resource.result.reference.resolve().hasMember.reference))",
    },
    // R5 calls the type `coding`.
    Fault {
        versions: &[R5],
        key: "questionnaire-choiceOrientation",
        published: "ofType(ElementDefinition).type.exists(code='Coding') or \
            where(%resource.is(Questionnaire)).exists(type.first()='choice' or type.first()='open-choice')",
        used: "ofType(ElementDefinition).type.exists(code='Coding') or \
            where(%resource.is(Questionnaire)).exists(type.first()='coding')",
    },
];

/// A place where resources that HL7 published with a version have an extension, and that neither the version nor the newest
/// extensions pack lists.
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

/// The further elements on which an extension may stand.
pub fn more_contexts(version: FhirVersion, key: &str) -> impl Iterator<Item = &'static str> {
    let known = PLACES.iter().filter(move |place| place.versions.contains(&version) && place.key == key);
    known.map(|place| place.path)
}

/// The expression to use.
pub fn mended<'e>(version: FhirVersion, key: &str, published: &'e str) -> &'e str {
    let is_known =
        |fault: &&Fault| fault.versions.contains(&version) && fault.key == key && fault.published == published;
    FAULTS.iter().find(is_known).map_or(published, |fault| fault.used)
}

/// The keys of those that nothing published has any more.
pub fn unmet(version: FhirVersion, used: &[&str]) -> Vec<&'static str> {
    let unmet = FAULTS.iter().filter(|fault| fault.versions.contains(&version) && !used.contains(&fault.used));
    unmet.map(|fault| fault.key).collect()
}

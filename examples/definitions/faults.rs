//! Published expressions that are known to be wrong, and what is used in their place.
//!
//! Only where an expression gives a wrong answer. One that has no result for want of an element is not here: no result is
//! no failure.

use emberpost::fhir::FhirVersion::{self, R4, R4B, R5};

struct Fault {
    versions: &'static [FhirVersion],
    /// Of a constraint, or the last part of the url of an extension whose context invariant it is.
    key: &'static str,
    published: &'static str,
    used: &'static str,
}

const FAULTS: [Fault; 13] = [
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
    // The extension has no member of its own name; its sentence asks for the code of the resource around it.
    Fault {
        versions: &[R4, R4B, R5],
        key: "inv-1",
        published: "substanceExposureRisk.exists() and code.empty()",
        used: "%resource.code.empty()",
    },
    // Turned round: the category is for displays, as R4B and R5 say.
    Fault {
        versions: &[R4],
        key: "questionnaire-displayCategory",
        published: "type!='display'",
        used: "type='display'",
    },
    // R5 calls the type `coding`.
    Fault {
        versions: &[R5],
        key: "questionnaire-choiceOrientation",
        published: "type='choice' or type='open-choice'",
        used: "type='coding'",
    },
    // Misspelled, and the members are no booleans.
    Fault {
        versions: &[R5],
        key: "questionnaire-optionRestriction",
        published: "answerValueset or answerOption",
        used: "answerValueSet.exists() or answerOption.exists()",
    },
];

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

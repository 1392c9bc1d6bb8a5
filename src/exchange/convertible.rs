//! Whether a request can be given to each of its receivers: in its format, and in its FHIR version.

use super::judge::Judged;
use crate::conversion::{Wanted, converted_tree};
use crate::delivery::Metadata;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, with_faults};
use crate::routing::Participant;
use crate::routing::plan::Plan;
use fhir::FhirVersion;
use fhir::tree::Tree;
use validation::check_structure;
use validation::definition::Definitions;

/// Errs with why a receiver cannot be told; the message is then refused as a whole, like one that cannot be routed.
/// `definitions` are those that are loaded: their extensions replace the base's in every version.
pub(super) fn check(
    judged: &Judged,
    metadata: &Metadata,
    plan: &Plan,
    definitions: &Definitions,
) -> Result<(), Vec<Issue>> {
    let mut issues = Vec::new();
    for receiver in &plan.receivers {
        if let Err(broken) = check_one(judged, metadata, &receiver.participant, definitions) {
            issues.extend(broken);
        }
    }
    if issues.is_empty() { Ok(()) } else { Err(issues) }
}

fn check_one(
    judged: &Judged,
    metadata: &Metadata,
    receiver: &Participant,
    definitions: &Definitions,
) -> Result<(), Vec<Issue>> {
    let version = receiver.fhir_version.filter(|wanted| Some(*wanted) != metadata.version);
    if let Some(wanted) = version.filter(|_| !receiver.bridge_versions) {
        // It is delivered as it is, if it is valid in the receiver's version as it is.
        if !metadata.version.is_some_and(|sent| sent.is_spelled_as(wanted)) {
            return Err(vec![foreign(receiver, wanted, metadata.version)]);
        }
        valid_in(&judged.message.tree, wanted, receiver, definitions)?;
    }
    let version = version.filter(|_| receiver.bridge_versions);
    let wanted = Wanted { format: receiver.format, version };
    let told = converted_tree(metadata, &judged.message.tree, wanted)
        .map_err(|issues| named(with_faults(issues), receiver))?;
    let (Some(told), Some(version)) = (told, version) else { return Ok(()) };
    // What keeps a message that was spelled anew from being one of this version: then more than the header differs.
    valid_in(&told.tree, version, receiver, definitions)
}

fn valid_in(
    tree: &Tree,
    version: FhirVersion,
    receiver: &Participant,
    definitions: &Definitions,
) -> Result<(), Vec<Issue>> {
    let mut broken = check_structure(tree, version, definitions);
    broken.retain(fhir::Issue::is_error);
    if broken.is_empty() { Ok(()) } else { Err(named(with_faults(broken), receiver)) }
}

fn foreign(receiver: &Participant, wanted: FhirVersion, sent: Option<FhirVersion>) -> Issue {
    let text = format!(
        "Participant {} reads FHIR {}, and the message is {}; send it in that version, or the operator sets bridge_versions \
         where only the header's spelling differs",
        receiver.id,
        wanted.short(),
        sent.map_or("of none that is known", FhirVersion::short)
    );
    Issue::error(IssueCode::NotSupported, Fault::RouteConversion, text).rule("MSG-37").at("Bundle")
}

/// The issues, each saying for whom.
fn named(issues: Vec<Issue>, receiver: &Participant) -> Vec<Issue> {
    let of = |mut issue: Issue| {
        issue.cause = Fault::RouteConversion;
        issue.diagnostics =
            std::mem::take(&mut issue.diagnostics).prefixed(&format!("For participant {}: ", receiver.id));
        issue
    };
    issues.into_iter().map(of).collect()
}

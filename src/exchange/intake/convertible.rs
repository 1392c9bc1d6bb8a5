//! Checks that a message can be delivered to each of its receivers in the format (JSON, XML) and FHIR version that they accept.

use super::CheckedMessage;
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

/// Errs with the reasons per receiver; the message is then refused as a whole, like one that cannot be routed. Extensions in
/// `definitions`, the loaded ones, replace those of the base specification in every version.
pub(super) fn check(
    message: &CheckedMessage,
    metadata: &Metadata,
    plan: &Plan,
    definitions: &Definitions,
) -> Result<(), Vec<Issue>> {
    let mut issues = Vec::new();
    for receiver in &plan.receivers {
        if let Err(broken) = check_one(message, metadata, &receiver.participant, definitions) {
            issues.extend(broken);
        }
    }
    if issues.is_empty() { Ok(()) } else { Err(issues) }
}

fn check_one(
    message: &CheckedMessage,
    metadata: &Metadata,
    receiver: &Participant,
    definitions: &Definitions,
) -> Result<(), Vec<Issue>> {
    let version = receiver.fhir_version.filter(|wanted| Some(*wanted) != metadata.version);
    if let Some(wanted) = version.filter(|_| !receiver.bridge_versions) {
        // Without bridging it is delivered unchanged, so it must be valid in the receiver's version as it is.
        if !metadata.version.is_some_and(|sent| sent.is_spelled_as(wanted)) {
            return Err(vec![wrong_version(receiver, wanted, metadata.version)]);
        }
        valid_in(&message.message.tree, wanted, receiver, definitions)?;
    }
    let version = version.filter(|_| receiver.bridge_versions);
    let wanted = Wanted { format: receiver.format, version };
    let converted = converted_tree(metadata, &message.message.tree, wanted)
        .map_err(|issues| for_receiver(with_faults(issues), receiver))?;
    let (Some(converted), Some(version)) = (converted, version) else { return Ok(()) };
    // Bridging rewrites the header only. A result that is invalid in the new version differs in more than that.
    valid_in(&converted.tree, version, receiver, definitions)
}

fn valid_in(
    tree: &Tree,
    version: FhirVersion,
    receiver: &Participant,
    definitions: &Definitions,
) -> Result<(), Vec<Issue>> {
    let mut broken = check_structure(tree, version, definitions);
    broken.retain(fhir::Issue::is_error);
    if broken.is_empty() { Ok(()) } else { Err(for_receiver(with_faults(broken), receiver)) }
}

fn wrong_version(receiver: &Participant, wanted: FhirVersion, sent: Option<FhirVersion>) -> Issue {
    let text = format!(
        "Participant {} reads FHIR {}, and the message is {}; send it in that version, or the operator sets bridge_versions \
         where only the header's spelling differs",
        receiver.id,
        wanted.short(),
        sent.map_or("of an unknown version", FhirVersion::short)
    );
    Issue::error(IssueCode::NotSupported, Fault::RouteConversion, text).rule("MSG-37").at("Bundle")
}

/// Adds to each issue for which participant it holds.
fn for_receiver(issues: Vec<Issue>, receiver: &Participant) -> Vec<Issue> {
    let name = |mut issue: Issue| {
        issue.cause = Fault::RouteConversion;
        issue.diagnostics =
            std::mem::take(&mut issue.diagnostics).prefixed(&format!("For participant {}: ", receiver.id));
        issue
    };
    issues.into_iter().map(name).collect()
}

//! Identifies the sender of a message: the participant whose credential was used, else the owner of the source address.
//!
//! The credential has been verified before; this only compares it with the source.

use super::participant::{ANYONE, Participant};
use super::table::Table;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use std::sync::Arc;

const SOURCE: &str = "Bundle.entry[0].resource.source";

#[derive(Clone, Debug, PartialEq)]
pub enum SenderFound {
    Participant(Arc<Participant>),
    /// No participant is configured: every admitted sender may send.
    Anyone,
}

impl SenderFound {
    /// The participant's id, or `anyone`.
    pub fn id(&self) -> &str {
        match self {
            SenderFound::Participant(participant) => &participant.id,
            SenderFound::Anyone => ANYONE,
        }
    }

    pub fn participant(&self) -> Option<&Arc<Participant>> {
        match self {
            SenderFound::Participant(participant) => Some(participant),
            SenderFound::Anyone => None,
        }
    }
}

impl Table {
    /// The sender of a message with this source endpoint. `credential`: id of the participant whose credential was used. Errs
    /// with `forbidden` (HTTP 403) if nobody or another participant owns the source, with `login` if the credential's
    /// participant is no longer configured, and with `required` if the message does not identify a sender at all (MSG-23).
    pub fn sender_of(&self, source: Option<&str>, credential: Option<&str>) -> Result<SenderFound, Issue> {
        let source = source.filter(|source| !source.is_empty());
        match credential {
            Some(id) => self.sender_with_credential(source, id).map(SenderFound::Participant),
            None if self.participants.is_empty() => Ok(SenderFound::Anyone),
            None => self.owner_of_source(source).map(SenderFound::Participant),
        }
    }

    fn sender_with_credential(&self, source: Option<&str>, id: &str) -> Result<Arc<Participant>, Issue> {
        let Some(participant) = self.participant(id) else {
            let text = "The credential belongs to a participant that is no longer configured";
            return Err(Issue::error(IssueCode::Login, Fault::SendCredential, text));
        };
        let is_own = |source| self.owner(source).is_some_and(|owner| owner.id == participant.id);
        if source.is_none_or(is_own) {
            return Ok(participant.clone());
        }
        let text = format!("The source endpoint is not an address of participant {id}, whose credential was used");
        Err(Issue::error(IssueCode::Forbidden, Fault::SendForeignSource, text).rule("MSG-23").at(SOURCE))
    }

    fn owner_of_source(&self, source: Option<&str>) -> Result<Arc<Participant>, Issue> {
        let Some(source) = source else {
            let text = "The message has no source endpoint and came without a credential that names its sender";
            return Err(Issue::error(IssueCode::Required, Fault::SendUnknownSource, text).rule("MSG-23").at(SOURCE));
        };
        self.owner(source).cloned().ok_or_else(|| {
            let text = "No participant owns the source endpoint";
            Issue::error(IssueCode::Forbidden, Fault::SendUnknownSource, text).rule("MSG-23").at(SOURCE)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::fixture::owner;

    fn table() -> Table {
        let participants = vec![owner("lab", &["https://lab.org/fhir"]), owner("ward", &["urn:oid:1.*"])];
        Table::build(participants, vec![], vec![], "http://hub.org/fhir".into()).unwrap()
    }

    #[test]
    fn a_credential_names_the_sender_and_the_source_must_be_its_own() {
        let cases = [
            (Some("https://LAB.org/fhir/"), Some("lab"), Ok("lab")),
            (None, Some("lab"), Ok("lab")),
            (Some(""), Some("lab"), Ok("lab")),
            (Some("urn:oid:1.2"), Some("lab"), Err((IssueCode::Forbidden, Fault::SendForeignSource))),
            (Some("urn:oid:9"), Some("lab"), Err((IssueCode::Forbidden, Fault::SendForeignSource))),
            (Some("http://hub.org/fhir"), Some("lab"), Err((IssueCode::Forbidden, Fault::SendForeignSource))),
            (Some("urn:oid:1.2"), Some("gone"), Err((IssueCode::Login, Fault::SendCredential))),
            (Some("urn:oid:1.2"), None, Ok("ward")),
            (Some("urn:oid:9"), None, Err((IssueCode::Forbidden, Fault::SendUnknownSource))),
            (None, None, Err((IssueCode::Required, Fault::SendUnknownSource))),
        ];
        let table = table();
        for (source, credential, expected) in cases {
            let found = table.sender_of(source, credential);
            let found = found.as_ref().map(SenderFound::id).map_err(|issue| (issue.code, issue.cause));
            assert_eq!(found, expected, "{source:?} {credential:?}");
        }
    }

    #[test]
    fn without_participants_everybody_is_anyone() {
        for source in [Some("urn:oid:9"), None] {
            let found = Table::default().sender_of(source, None).unwrap();
            assert_eq!((found.id(), found.participant()), ("anyone", None));
        }
    }
}

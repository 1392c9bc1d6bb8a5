//! Decides which request a response answers. Ids are unique per sender at best, so one identifier may name several requests.
//! Then the response's other elements decide; if they do not, the response is ambiguous, and nobody gets it.
//!
//! Pure. Answered requests count like all others, because a further answer to one of them looks the same as the first answer
//! to another.

use crate::delivery::{DeliveryKind, Metadata};
use crate::routing::Table;
use crate::routing::address::is_same;
use crate::store::{Candidates, SentRequest};
use fhir::event::Identifier;
use fhir::identity::normal;
use uuid::Uuid;

/// How many of several fitting requests are listed; the others are only counted.
const NAMED_LIMIT: usize = 10;

/// The requests that a response fits.
#[derive(Debug)]
pub(in crate::exchange) enum Match {
    None,
    One(Box<SentRequest>),
    Several(Ambiguity),
}

/// The requests that a response may answer, newest first.
#[derive(Debug, Default, PartialEq)]
pub(in crate::exchange) struct Ambiguity {
    /// Emberpost's ids of the newest of them.
    pub named: Vec<Uuid>,
    pub count: usize,
    /// There may be more.
    pub is_cut: bool,
    /// Only one request fits, but the response is addressed to another participant.
    pub is_addressed_elsewhere: bool,
}

/// Decides among the deliveries that the response's identifier allows. `responder`: id of the participant that sent it.
pub(super) fn decide(candidates: Candidates, response: &Metadata, responder: &str, table: &Table) -> Match {
    let Candidates { deliveries: mut left, is_cut } = candidates;
    if let Some(identifier) = response.response.as_ref().map(|response| &response.identifier) {
        narrow(&mut left, |sent| is_identified(&sent.delivery.metadata, identifier));
    }
    let from = |metadata: &Metadata| {
        response.destinations.iter().any(|to| metadata.source.as_deref().is_some_and(|from| is_same(from, to)))
    };
    let owners = || response.destinations.iter().filter_map(|to| table.owner(to));
    let owned = |metadata: &Metadata| owners().any(|owner| *owner.id == *metadata.sender);
    let is_addressed = narrow(&mut left, |sent| from(&sent.delivery.metadata))
        || narrow(&mut left, |sent| owned(&sent.delivery.metadata));
    // A responder that copies the request's destinations addresses itself, which means nothing.
    let elsewhere = !is_addressed && owners().any(|owner| *owner.id != *responder);
    match left.first() {
        None if !is_cut => Match::None,
        Some(first) if !is_cut && !elsewhere && left.iter().all(|sent| is_same_request(sent, first)) => {
            newest(left).map_or(Match::None, Match::One)
        }
        _ => Match::Several(ambiguity(&left, is_cut, elsewhere)),
    }
}

/// Whether a response that names this request is addressed to another participant than the request's sender, and neither to the
/// request's source nor to an address of its sender.
pub(super) fn is_addressed_elsewhere(response: &Metadata, request: &Metadata, responder: &str, table: &Table) -> bool {
    let from = request.source.as_deref();
    let back = response.destinations.iter().any(|to| {
        from.is_some_and(|from| is_same(from, to)) || table.owner(to).is_some_and(|owner| *owner.id == *request.sender)
    });
    !back && response.destinations.iter().filter_map(|to| table.owner(to)).any(|owner| *owner.id != *responder)
}

/// The delivery of one request that a response answers: of the newest message; unanswered deliveries first, then the request
/// before its replays.
pub(super) fn newest(mut deliveries: Vec<SentRequest>) -> Option<Box<SentRequest>> {
    let newest = deliveries.iter().map(|sent| sent.delivery.message_key).max()?;
    deliveries.retain(|sent| sent.delivery.message_key == newest);
    let is_replay = |sent: &SentRequest| sent.delivery.kind != DeliveryKind::Request;
    deliveries.into_iter().min_by_key(|sent| (sent.answered, is_replay(sent))).map(Box::new)
}

/// Retains the fitting ones if there are any; returns whether there are.
fn narrow(left: &mut Vec<SentRequest>, fits: impl Fn(&SentRequest) -> bool) -> bool {
    let any = left.iter().any(&fits);
    if any {
        left.retain(fits);
    }
    any
}

/// Whether the identifier is the request's Bundle.identifier with system and value (MSG-37).
fn is_identified(request: &Metadata, identifier: &Identifier) -> bool {
    identifier.system.is_some()
        && request
            .bundle_identifier
            .as_ref()
            .is_some_and(|known| known.system == identifier.system && normal(&known.value) == normal(&identifier.value))
}

/// Whether both are one request, possibly sent again after a transient error.
fn is_same_request(one: &SentRequest, other: &SentRequest) -> bool {
    one.delivery.message_key == other.delivery.message_key
        || one.delivery.metadata.sender == other.delivery.metadata.sender && one.content == other.content
}

pub(super) fn ambiguity(left: &[SentRequest], is_cut: bool, is_addressed_elsewhere: bool) -> Ambiguity {
    let mut ids: Vec<Uuid> = left.iter().map(|sent| sent.delivery.metadata.id).collect();
    // Replays have the id of their request, and ids are in order of time.
    ids.sort_unstable();
    ids.dedup();
    let count = ids.len();
    Ambiguity { named: ids.into_iter().rev().take(NAMED_LIMIT).collect(), count, is_cut, is_addressed_elsewhere }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{PendingDelivery, ResponseMetadata};
    use crate::testing;
    use std::sync::Arc;

    /// The delivery of request `key` with this content from `sender` to the lab.
    fn sent(key: i64, sender: &str, content: u8) -> SentRequest {
        let metadata = Metadata {
            id: Uuid::from_u128(key as u128),
            sender: sender.into(),
            source: Some(format!("http://{sender}.example/fhir")),
            ..testing::metadata()
        };
        let work = PendingDelivery {
            message_key: key,
            kind: DeliveryKind::Request,
            metadata: Arc::new(metadata),
            ..testing::pending("lab", 1, key)
        };
        SentRequest { delivery: work, answered: false, content: [content; 32] }
    }

    fn answered(sent: SentRequest) -> SentRequest {
        SentRequest { answered: true, ..sent }
    }

    fn replayed(mut sent: SentRequest) -> SentRequest {
        sent.delivery.kind = DeliveryKind::Replay { replay: Uuid::nil(), of: None, forward_answers: false };
        sent
    }

    fn identified(mut sent: SentRequest, system: &str) -> SentRequest {
        let identifier = Identifier { system: Some(system.into()), value: "1".into() };
        Arc::make_mut(&mut sent.delivery.metadata).bundle_identifier = Some(identifier);
        sent
    }

    fn table() -> Table {
        let participants =
            ["lab", "a", "b", "c"].map(|id| testing::owner(id, &[&format!("http://{id}.example/*")])).to_vec();
        Table::build(participants, Vec::new(), Vec::new(), "http://hub.example/fhir".into()).unwrap()
    }

    fn response(to: &[&str], system: Option<&str>) -> Metadata {
        let identifier = Identifier { system: system.map(str::to_owned), value: "1".into() };
        let destinations = to.iter().map(|to| (*to).into()).collect();
        Metadata { destinations, response: Some(ResponseMetadata { identifier, code: None }), ..testing::metadata() }
    }

    /// Key and kind of the delivery; how many requests fit.
    fn decided(all: Vec<SentRequest>, to: &[&str], system: Option<&str>) -> Result<(i64, bool), usize> {
        let candidates = Candidates { deliveries: all, is_cut: false };
        match decide(candidates, &response(to, system), "lab", &table()) {
            Match::None => Err(0),
            Match::One(one) => Ok((one.delivery.message_key, one.delivery.kind != DeliveryKind::Request)),
            Match::Several(ambiguity) => Err(ambiguity.count),
        }
    }

    #[test]
    fn an_answer_has_one_request_or_none() {
        let (a, b, c) = ("http://a.example/fhir", "http://b.example/fhir", "http://c.example/fhir");
        let lab = "http://lab.example/fhir";
        let two = || vec![sent(2, "b", 2), sent(1, "a", 1)];
        for (what, all, to, wanted) in [
            ("none is known", vec![], vec![a], Err(0)),
            ("one", vec![sent(1, "a", 1)], vec![], Ok((1, false))),
            ("two senders, no destination", two(), vec![], Err(2)),
            ("two senders, to one", two(), vec![a], Ok((1, false))),
            ("two senders, to one in another spelling", two(), vec!["HTTP://a.example:80/fhir/"], Ok((1, false))),
            ("two senders, to another address of one", two(), vec!["http://b.example/unit"], Ok((2, false))),
            ("two senders, to both", two(), vec![a, b], Err(2)),
            ("two senders, to neither", two(), vec!["urn:nobody"], Err(2)),
            ("one is answered", vec![sent(2, "b", 2), answered(sent(1, "a", 1))], vec![], Err(2)),
            ("all are answered", vec![answered(sent(2, "b", 2)), answered(sent(1, "a", 1))], vec![], Err(2)),
            ("two requests of one sender", vec![sent(2, "a", 2), sent(1, "a", 1)], vec![a], Err(2)),
            ("one of them answered", vec![sent(2, "a", 2), answered(sent(1, "a", 1))], vec![a], Err(2)),
            (
                "sent again after a transient error",
                vec![sent(2, "a", 1), answered(sent(1, "a", 1))],
                vec![],
                Ok((2, false)),
            ),
            ("the same content of two senders", vec![sent(2, "b", 1), sent(1, "a", 1)], vec![], Err(2)),
            ("a replay", vec![replayed(sent(1, "a", 1)), answered(sent(1, "a", 1))], vec![], Ok((1, true))),
            ("a replay, and no answer yet", vec![replayed(sent(1, "a", 1)), sent(1, "a", 1)], vec![], Ok((1, false))),
            (
                "all of it answered",
                vec![answered(replayed(sent(1, "a", 1))), answered(sent(1, "a", 1))],
                vec![],
                Ok((1, false)),
            ),
            ("a replay and another sender", vec![sent(2, "b", 2), replayed(sent(1, "a", 1))], vec![], Err(2)),
            ("addressed to another participant", vec![sent(1, "a", 1)], vec![c], Err(1)),
            ("addressed to its sender itself", vec![sent(1, "a", 1)], vec![lab], Ok((1, false))),
            ("addressed to the router", vec![sent(1, "a", 1)], vec!["http://hub.example/fhir"], Ok((1, false))),
        ] {
            assert_eq!(decided(all, &to, None), wanted, "{what}");
        }
    }

    #[test]
    fn the_system_of_an_identifier_decides_where_requests_share_its_value() {
        let two = || vec![identified(sent(2, "b", 2), "urn:b"), identified(sent(1, "a", 1), "urn:a")];
        assert_eq!(decided(two(), &[], Some("urn:a")), Ok((1, false)));
        assert_eq!(decided(two(), &[], Some("urn:other")), Err(2));
        assert_eq!(decided(two(), &[], None), Err(2));
    }

    #[test]
    fn an_identifier_that_too_many_use_names_nobody() {
        let candidates = |deliveries| Candidates { deliveries, is_cut: true };
        for all in [vec![], vec![sent(1, "a", 1)]] {
            let decided = decide(candidates(all), &response(&["http://a.example/fhir"], None), "lab", &table());
            assert!(matches!(decided, Match::Several(ambiguity) if ambiguity.is_cut));
        }
    }
}

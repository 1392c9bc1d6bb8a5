//! Which request a response answers. Ids are unique per sender only, and not everybody keeps even to that, so that an
//! identifier may mean several requests: what else the response says decides, or nobody gets it.
//!
//! Pure. Requests that were answered before count like all others: a further answer to one of them looks the same as the
//! first answer to another.

use crate::delivery::{DeliveryKind, Metadata};
use crate::routing::Table;
use crate::routing::address::is_same;
use crate::store::{Candidates, SentRequest};
use fhir::event::Identifier;
use fhir::identity::normal;
use uuid::Uuid;

/// Requests that are named where several fit; the others are only counted.
const NAMED_LIMIT: usize = 10;

/// What a response answers.
#[derive(Debug)]
pub(super) enum Match {
    Nothing,
    One(Box<SentRequest>),
    Several(Doubt),
}

/// The requests that a response may answer, newest first.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Doubt {
    /// Emberpost's ids of the first of them.
    pub named: Vec<Uuid>,
    pub count: usize,
    /// There may be more.
    pub is_cut: bool,
    /// There is one only, but the response is addressed to somebody else.
    pub is_addressed_elsewhere: bool,
}

/// Decides among the deliveries that the response's identifier allows. `response`: of a response that `responder` sent.
pub(super) fn decide(candidates: Candidates, response: &Metadata, responder: &str, table: &Table) -> Match {
    let Candidates { deliveries: mut left, is_cut } = candidates;
    if let Some(identifier) = response.response.as_ref().map(|response| &response.identifier) {
        narrow(&mut left, |asked| is_identified(&asked.delivery.metadata, identifier));
    }
    let from = |metadata: &Metadata| {
        response.destinations.iter().any(|to| metadata.source.as_deref().is_some_and(|from| is_same(from, to)))
    };
    let owners = || response.destinations.iter().filter_map(|to| table.owner(to));
    let owned = |metadata: &Metadata| owners().any(|owner| *owner.id == *metadata.sender);
    let is_addressed = narrow(&mut left, |asked| from(&asked.delivery.metadata))
        || narrow(&mut left, |asked| owned(&asked.delivery.metadata));
    // A responder that repeats the request's destinations addresses itself.
    let elsewhere = !is_addressed && owners().any(|owner| *owner.id != *responder);
    match left.first() {
        None if !is_cut => Match::Nothing,
        Some(first) if !is_cut && !elsewhere && left.iter().all(|asked| is_same_request(asked, first)) => {
            one(left).map_or(Match::Nothing, Match::One)
        }
        _ => Match::Several(doubt(&left, is_cut, elsewhere)),
    }
}

/// Whether a response that its responder gave to this very request is addressed to somebody else: to another participant, and
/// neither to the request's source nor to its sender.
pub(super) fn is_addressed_elsewhere(response: &Metadata, request: &Metadata, responder: &str, table: &Table) -> bool {
    let from = request.source.as_deref();
    let back = response.destinations.iter().any(|to| {
        from.is_some_and(|from| is_same(from, to)) || table.owner(to).is_some_and(|owner| *owner.id == *request.sender)
    });
    !back && response.destinations.iter().filter_map(|to| table.owner(to)).any(|owner| *owner.id != *responder)
}

/// The delivery of one request that a response answers: the newest time that it was sent; the request before its replays,
/// and what has no answer yet first.
pub(super) fn one(mut deliveries: Vec<SentRequest>) -> Option<Box<SentRequest>> {
    let newest = deliveries.iter().map(|asked| asked.delivery.message_key).max()?;
    deliveries.retain(|asked| asked.delivery.message_key == newest);
    let is_replay = |asked: &SentRequest| asked.delivery.kind != DeliveryKind::Request;
    deliveries.into_iter().min_by_key(|asked| (asked.answered, is_replay(asked))).map(Box::new)
}

/// Leaves those that fit, where any does; whether any did.
fn narrow(left: &mut Vec<SentRequest>, fits: impl Fn(&SentRequest) -> bool) -> bool {
    let any = left.iter().any(&fits);
    if any {
        left.retain(fits);
    }
    any
}

/// Whether system and value are those of the request's Bundle.identifier (MSG-37).
fn is_identified(request: &Metadata, identifier: &Identifier) -> bool {
    identifier.system.is_some()
        && request
            .bundle_identifier
            .as_ref()
            .is_some_and(|known| known.system == identifier.system && normal(&known.value) == normal(&identifier.value))
}

/// The same request, or the same one sent again after a transient error.
fn is_same_request(one: &SentRequest, other: &SentRequest) -> bool {
    one.delivery.message_key == other.delivery.message_key
        || one.delivery.metadata.sender == other.delivery.metadata.sender && one.content == other.content
}

pub(super) fn doubt(left: &[SentRequest], is_cut: bool, is_addressed_elsewhere: bool) -> Doubt {
    let mut ids: Vec<Uuid> = left.iter().map(|asked| asked.delivery.metadata.id).collect();
    // Replays stand beside their request, and ids are in order of time.
    ids.sort_unstable();
    ids.dedup();
    let count = ids.len();
    Doubt { named: ids.into_iter().rev().take(NAMED_LIMIT).collect(), count, is_cut, is_addressed_elsewhere }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::courier::fixture;
    use crate::delivery::{PendingDelivery, ResponseMetadata};
    use crate::routing::Participant;
    use std::sync::Arc;

    /// The delivery of request `key` with this content from `sender` to the lab.
    fn asked(key: i64, sender: &str, content: u8) -> SentRequest {
        let metadata = Metadata {
            id: Uuid::from_u128(key as u128),
            sender: sender.into(),
            source: Some(format!("http://{sender}.example/fhir")),
            ..fixture::metadata()
        };
        let work = PendingDelivery {
            message_key: key,
            kind: DeliveryKind::Request,
            metadata: Arc::new(metadata),
            ..fixture::pending("lab", 1, key)
        };
        SentRequest { delivery: work, answered: false, content: [content; 32] }
    }

    fn answered(asked: SentRequest) -> SentRequest {
        SentRequest { answered: true, ..asked }
    }

    fn replayed(mut asked: SentRequest) -> SentRequest {
        asked.delivery.kind = DeliveryKind::Replay { replay: Uuid::nil(), of: None, forward_answers: false };
        asked
    }

    fn identified(mut asked: SentRequest, system: &str) -> SentRequest {
        let identifier = Identifier { system: Some(system.into()), value: "1".into() };
        Arc::make_mut(&mut asked.delivery.metadata).bundle_identifier = Some(identifier);
        asked
    }

    fn table() -> Table {
        let participant =
            |id: &str| Participant { addresses: vec![format!("http://{id}.example/*")], ..Participant::new(id) };
        let participants = ["lab", "a", "b", "c"].map(participant).to_vec();
        Table::build(participants, Vec::new(), Vec::new(), "http://hub.example/fhir".into()).unwrap()
    }

    fn response(to: &[&str], system: Option<&str>) -> Metadata {
        let identifier = Identifier { system: system.map(str::to_owned), value: "1".into() };
        let destinations = to.iter().map(|to| (*to).into()).collect();
        Metadata { destinations, response: Some(ResponseMetadata { identifier, code: None }), ..fixture::metadata() }
    }

    /// Key and kind of the delivery; how many requests fit.
    fn decided(all: Vec<SentRequest>, to: &[&str], system: Option<&str>) -> Result<(i64, bool), usize> {
        let candidates = Candidates { deliveries: all, is_cut: false };
        match decide(candidates, &response(to, system), "lab", &table()) {
            Match::Nothing => Err(0),
            Match::One(one) => Ok((one.delivery.message_key, one.delivery.kind != DeliveryKind::Request)),
            Match::Several(doubt) => Err(doubt.count),
        }
    }

    #[test]
    fn an_answer_has_one_request_or_none() {
        let (a, b, c) = ("http://a.example/fhir", "http://b.example/fhir", "http://c.example/fhir");
        let lab = "http://lab.example/fhir";
        let two = || vec![asked(2, "b", 2), asked(1, "a", 1)];
        for (what, all, to, wanted) in [
            ("none is known", vec![], vec![a], Err(0)),
            ("one", vec![asked(1, "a", 1)], vec![], Ok((1, false))),
            ("two senders, no destination", two(), vec![], Err(2)),
            ("two senders, to one", two(), vec![a], Ok((1, false))),
            ("two senders, to one in another spelling", two(), vec!["HTTP://a.example:80/fhir/"], Ok((1, false))),
            ("two senders, to another address of one", two(), vec!["http://b.example/unit"], Ok((2, false))),
            ("two senders, to both", two(), vec![a, b], Err(2)),
            ("two senders, to neither", two(), vec!["urn:nobody"], Err(2)),
            ("one is answered", vec![asked(2, "b", 2), answered(asked(1, "a", 1))], vec![], Err(2)),
            ("all are answered", vec![answered(asked(2, "b", 2)), answered(asked(1, "a", 1))], vec![], Err(2)),
            ("two requests of one sender", vec![asked(2, "a", 2), asked(1, "a", 1)], vec![a], Err(2)),
            ("one of them answered", vec![asked(2, "a", 2), answered(asked(1, "a", 1))], vec![a], Err(2)),
            (
                "sent again after a transient error",
                vec![asked(2, "a", 1), answered(asked(1, "a", 1))],
                vec![],
                Ok((2, false)),
            ),
            ("the same content of two senders", vec![asked(2, "b", 1), asked(1, "a", 1)], vec![], Err(2)),
            ("a replay", vec![replayed(asked(1, "a", 1)), answered(asked(1, "a", 1))], vec![], Ok((1, true))),
            ("a replay, and no answer yet", vec![replayed(asked(1, "a", 1)), asked(1, "a", 1)], vec![], Ok((1, false))),
            (
                "all of it answered",
                vec![answered(replayed(asked(1, "a", 1))), answered(asked(1, "a", 1))],
                vec![],
                Ok((1, false)),
            ),
            ("a replay and another sender", vec![asked(2, "b", 2), replayed(asked(1, "a", 1))], vec![], Err(2)),
            ("addressed to another participant", vec![asked(1, "a", 1)], vec![c], Err(1)),
            ("addressed to its sender itself", vec![asked(1, "a", 1)], vec![lab], Ok((1, false))),
            ("addressed to the router", vec![asked(1, "a", 1)], vec!["http://hub.example/fhir"], Ok((1, false))),
        ] {
            assert_eq!(decided(all, &to, None), wanted, "{what}");
        }
    }

    #[test]
    fn the_system_of_an_identifier_decides_where_requests_share_its_value() {
        let two = || vec![identified(asked(2, "b", 2), "urn:b"), identified(asked(1, "a", 1), "urn:a")];
        assert_eq!(decided(two(), &[], Some("urn:a")), Ok((1, false)));
        assert_eq!(decided(two(), &[], Some("urn:other")), Err(2));
        assert_eq!(decided(two(), &[], None), Err(2));
    }

    #[test]
    fn an_identifier_that_too_many_use_names_nobody() {
        let candidates = |deliveries| Candidates { deliveries, is_cut: true };
        for all in [vec![], vec![asked(1, "a", 1)]] {
            let decided = decide(candidates(all), &response(&["http://a.example/fhir"], None), "lab", &table());
            assert!(matches!(decided, Match::Several(doubt) if doubt.is_cut));
        }
    }
}

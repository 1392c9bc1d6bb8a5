//! Prepares a message for the writer: compresses, serializes, and hashes it. Runs in the caller's task, so that the writer
//! only decides and writes.

use super::reference::{Reference, references};
use super::terms::SearchFields;
use crate::delivery::{
    AttemptRow, DeliveryState, Further, HeldLease, MessageState, Metadata, NewDelivery, NewMessage, Settlement,
};
use crate::fault::Fault;
use crate::offload::offload;
use crate::outcome::Outcome;
use bytes::Bytes;
use fhir::identity::IdentityKeys;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Larger bodies are compressed outside the runtime's threads.
const COMPRESS_ON_BLOCKING_THREAD_BYTES: usize = 256 * 1024;
/// Below this, compressing saves less than it costs.
const COMPRESS_FROM_BYTES: usize = 1_000;
const ZSTD_LEVEL: i32 = 1;

/// Sender of the answers that the router writes itself; they are never duplicates.
pub(super) const ROUTER: &str = "emberpost";

/// A message, ready to be written.
pub(super) struct Prepared {
    pub metadata: Arc<Metadata>,
    pub metadata_json: Arc<str>,
    pub state: MessageState,
    pub outcome_json: Option<Arc<str>>,
    /// The outcome with what it quotes of the message; None if it quotes nothing.
    pub full_outcome_json: Option<Arc<str>>,
    pub issue_labels: Option<Arc<str>>,
    pub destinations: Arc<str>,
    pub event: Option<Arc<str>>,
    pub identity: IdentityKeys,
    pub references: Vec<Reference>,
    pub terms: Vec<i64>,
    /// As received, for the courier.
    pub plain: Bytes,
    pub packed: Packed,
    pub deliveries: Vec<NewDelivery>,
    pub answer: Option<Box<Prepared>>,
    pub closes: Option<i64>,
    pub further: Option<Further>,
    pub assigns: Option<(i64, Uuid)>,
    pub releases_request: bool,
}

/// A body as stored.
#[derive(Clone)]
pub(super) struct Packed {
    /// 0 as received, 1 zstd.
    pub codec: i64,
    pub bytes: Bytes,
}

pub(super) struct PreparedSettlement {
    pub delivery_key: i64,
    pub state: DeliveryState,
    pub due_at_us: i64,
    pub attempt: Option<AttemptRow>,
    pub fault: Option<Fault>,
    pub answer: Option<Box<Prepared>>,
    pub receiver_issues: Option<String>,
    pub shares_with: Option<Uuid>,
    pub ends_waits: bool,
    pub lease: Option<HeldLease>,
}

/// A sender on this node begins or ends to wait for the answer to a delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitChange {
    pub delivery_key: i64,
    pub begins: bool,
}

pub(super) enum BatchJob {
    Accept(Box<Prepared>),
    Settle(Box<PreparedSettlement>),
    Wait(WaitChange),
}

impl BatchJob {
    /// The message that may be a duplicate.
    pub fn message(&self) -> Option<&Prepared> {
        match self {
            BatchJob::Accept(message) => Some(message),
            BatchJob::Settle(settlement) => settlement.answer.as_deref(),
            BatchJob::Wait(_) => None,
        }
    }

    /// Participants that the rows of this job name.
    pub fn participants(&self) -> impl Iterator<Item = &str> {
        self.message().into_iter().flat_map(Prepared::with_answers).flat_map(|message| {
            let receivers = message.all_deliveries().map(|delivery| &*delivery.participant);
            std::iter::once(message.metadata.sender.as_str()).chain(receivers)
        })
    }

    pub fn delivery_key(&self) -> Option<i64> {
        match self {
            BatchJob::Accept(message) => message.closes,
            BatchJob::Settle(settlement) => Some(settlement.delivery_key),
            BatchJob::Wait(change) => Some(change.delivery_key),
        }
    }

    /// The lease that must be current for a failure to count.
    pub fn lease(&self) -> Option<&HeldLease> {
        match self {
            BatchJob::Settle(settlement) => settlement.lease.as_ref(),
            BatchJob::Accept(_) | BatchJob::Wait(_) => None,
        }
    }
}

impl Prepared {
    /// This message and the router's answer to it.
    pub fn with_answers(&self) -> impl Iterator<Item = &Prepared> {
        std::iter::successors(Some(self), |message| message.answer.as_deref())
    }

    /// All deliveries that it may get.
    pub fn all_deliveries(&self) -> impl Iterator<Item = &NewDelivery> {
        let further = self.further.as_ref().and_then(|further| further.delivery.as_ref());
        self.deliveries.iter().chain(further)
    }

    /// Approximate memory of the message in a batch.
    pub fn size_bytes(&self) -> usize {
        self.packed.bytes.len()
            + self.metadata_json.len()
            + self.answer.as_ref().map_or(0, |answer| answer.size_bytes())
    }
}

/// Prepares a message and the router's own answer to it.
pub(super) async fn message(new: NewMessage) -> Result<Prepared, serde_json::Error> {
    let NewMessage { metadata, state, bytes, outcome, identity, deliveries, answer, .. } = new;
    let NewMessage { closes, further, assigns, releases_request, .. } = new;
    let answer = match answer {
        None => None,
        Some(mut answer) => {
            // The request's id links them; the author of the answer may not have set it.
            answer.metadata.in_reply_to.get_or_insert(metadata.id);
            Some(Box::new(Box::pin(self::message(*answer)).await?))
        }
    };
    let full_outcome = outcome.as_ref().filter(|outcome| outcome.quotes()).map(Outcome::unmasked);
    let (issue_labels, destinations) = (outcome.as_ref().and_then(issue_labels), lines(&metadata.destinations));
    let event = metadata.event.as_ref().map(ToString::to_string);
    let response_code = metadata.response.as_ref().and_then(|response| response.code);
    let search_fields = SearchFields {
        source: metadata.source.as_deref(),
        event: event.as_deref(),
        response_code: response_code.map(|code| code.as_str()),
        destinations: &destinations,
        issue_labels: issue_labels.as_deref(),
        state,
    };
    Ok(Prepared {
        terms: search_fields.terms(),
        metadata_json: serde_json::to_string(&metadata)?.into(),
        state,
        issue_labels: issue_labels.map(Arc::from),
        outcome_json: outcome.as_ref().map(serde_json::to_string).transpose()?.map(Arc::from),
        full_outcome_json: full_outcome.map(|full| serde_json::to_string(&full)).transpose()?.map(Arc::from),
        destinations: destinations.into(),
        event: event.map(Arc::from),
        references: references(&metadata, &identity),
        identity,
        packed: pack(&bytes).await,
        plain: bytes,
        deliveries,
        answer,
        closes,
        further,
        assigns,
        releases_request,
        metadata: Arc::new(metadata),
    })
}

/// A message that is only compared with stored ones, and not stored itself.
pub(super) fn identity_only(metadata: &Metadata, identity: IdentityKeys) -> Prepared {
    Prepared {
        terms: Vec::new(),
        metadata_json: "".into(),
        state: MessageState::Accepted,
        outcome_json: None,
        full_outcome_json: None,
        issue_labels: None,
        destinations: "".into(),
        event: None,
        references: references(metadata, &identity),
        identity,
        plain: Bytes::new(),
        packed: Packed { codec: 0, bytes: Bytes::new() },
        deliveries: Vec::new(),
        answer: None,
        closes: None,
        further: None,
        assigns: None,
        releases_request: false,
        metadata: Arc::new(metadata.clone()),
    }
}

pub(super) async fn settlement(settlement: Settlement) -> Result<PreparedSettlement, serde_json::Error> {
    let Settlement { delivery_key, state, due_at_us, attempt, fault, answer, receiver_issues, .. } = settlement;
    let Settlement { shares_with, ends_waits, lease, .. } = settlement;
    let answer = match answer {
        None => None,
        Some(answer) => Some(Box::new(message(*answer).await?)),
    };
    Ok(PreparedSettlement {
        delivery_key,
        state,
        due_at_us,
        attempt,
        fault,
        answer,
        receiver_issues,
        shares_with,
        ends_waits,
        lease,
    })
}

/// The body of a row, as received. None if the row does not hold what was written.
pub(super) fn unpack(codec: i64, size: i64, bytes: Vec<u8>) -> Option<Bytes> {
    match codec {
        0 => Some(bytes.into()),
        1 => {
            let size = usize::try_from(size).ok()?;
            offload(size, || zstd::bulk::decompress(&bytes, size)).ok().map(Bytes::from)
        }
        _ => None,
    }
}

pub(super) async fn pack(bytes: &Bytes) -> Packed {
    let packed = if bytes.len() < COMPRESS_FROM_BYTES {
        None
    } else if bytes.len() < COMPRESS_ON_BLOCKING_THREAD_BYTES {
        compress(bytes)
    } else {
        let bytes = bytes.clone();
        tokio::task::spawn_blocking(move || compress(&bytes)).await.ok().flatten()
    };
    match packed {
        Some(packed) => Packed { codec: 1, bytes: packed.into() },
        None => Packed { codec: 0, bytes: bytes.clone() },
    }
}

/// None if the result is not smaller.
fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        // Making a context takes longer than compressing a small message.
        static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?),
        };
        compressor.compress(bytes).ok().filter(|packed| packed.len() < bytes.len())
    })
}

/// Each destination between line feeds, so that a search matches whole destinations.
fn lines(destinations: &[Arc<str>]) -> String {
    match destinations {
        [] => String::new(),
        all => format!("\n{}\n", all.join("\n")),
    }
}

/// Faults, issue codes, and rules of an outcome, each once and between spaces.
fn issue_labels(outcome: &Outcome) -> Option<String> {
    let mut labels = BTreeSet::new();
    for issue in &outcome.issues {
        labels.insert(issue.cause.code().to_owned());
        labels.extend(serde_json::to_value(issue.code).ok().and_then(|code| code.as_str().map(str::to_owned)));
        labels.extend(issue.rule.as_ref().map(|rule| rule.to_string()));
    }
    (!labels.is_empty()).then(|| format!(" {} ", labels.into_iter().collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Issue, IssueCode};

    #[tokio::test]
    async fn bodies_are_restored_byte_for_byte_whatever_their_size() {
        for size in [0, 1, 199, 200, 5_000, COMPRESS_ON_BLOCKING_THREAD_BYTES + 1] {
            let plain = Bytes::from("Bundle ".repeat(size / 7 + 1).into_bytes()).slice(..size);
            let packed = pack(&plain).await;
            assert!(packed.bytes.len() <= size && (size < 1_000 || packed.codec == 1));
            assert_eq!(unpack(packed.codec, size as i64, packed.bytes.to_vec()).unwrap(), plain);
        }
    }

    #[test]
    fn issue_labels_are_separated_by_spaces() {
        let issue = Issue::error(IssueCode::NotFound, Fault::SendUnknownDestination, "").rule("MSG-22");
        assert_eq!(issue_labels(&issue.into()).unwrap(), " MSG-22 SEND_UNKNOWN_DESTINATION not-found ");
        assert_eq!(issue_labels(&Outcome::default()), None);
    }
}

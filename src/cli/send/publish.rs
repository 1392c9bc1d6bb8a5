//! Sends one message to a broker: publishes it, waits for the confirm, and, without --async, for the answer.

use super::address::Address;
use super::answer::{self, Verdict};
use super::link::{Answer, Link, NoLink, why};
use super::sent::Sent;
use crate::cli::failure::Failure;
use crate::cli::source::Source;
use crate::clock::Clock;
use fhir::Format;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation, ErrorKind};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

/// Default limit for the wait for an answer.
const ANSWER_TIMEOUT_SECONDS: u64 = 30;
/// Limit for the wait for a confirm.
const CONFIRM_TIMEOUT_SECONDS: u64 = 30;
/// Limit of an answer.
const ANSWER_LIMIT_BYTES: usize = 20 * 1024 * 1024;
/// Delivery mode 2: the broker writes the message to disk.
const PERSISTENT: u8 = 2;

/// The verdict on a message, and its reason.
type Fate = (Verdict, Option<String>);

/// The target with its connection.
pub struct Publisher {
    address: Address,
    /// None: do not wait for an answer.
    answer_timeout: Option<Duration>,
    link: Mutex<Result<Arc<Link>, NoLink>>,
    /// Number of attempts to connect.
    tries: AtomicU64,
}

impl Publisher {
    /// Fails if the broker refuses the connection: then no message could be sent.
    pub async fn open(address: Address, is_async: bool, timeout: Option<Duration>) -> Result<Publisher, Failure> {
        let answer_timeout =
            if is_async { None } else { Some(timeout.unwrap_or(Duration::from_secs(ANSWER_TIMEOUT_SECONDS))) };
        let link = Mutex::new(Err(NoLink::Unreachable("not connected".into())));
        let publisher = Publisher { address, answer_timeout, link, tries: AtomicU64::new(0) };
        match publisher.link().await {
            Err(NoLink::Refused(why)) => Err(Failure::Refused(why)),
            // An unreachable broker is reported for each message, like an unreachable HTTP endpoint.
            Ok(_) | Err(NoLink::Unreachable(_)) => Ok(publisher),
        }
    }

    /// Sends one message, once. Failures are verdicts, not errors.
    pub async fn send(&self, source: Source) -> Sent {
        let (mut sent, bytes) = match Sent::begin(source) {
            Ok(begun) => begun,
            Err(unreadable) => return unreadable,
        };
        let started = Instant::now();
        (sent.verdict, sent.detail) = self.deliver(&bytes).await;
        if !matches!(sent.verdict, Verdict::Unreachable | Verdict::Unanswered) {
            sent.duration = Some(started.elapsed());
        }
        sent
    }

    pub async fn close(&self) {
        if let Ok(link) = &*self.link.lock().await {
            link.close().await;
        }
    }

    /// The connection; reconnects if it was lost.
    async fn link(&self) -> Result<Arc<Link>, NoLink> {
        let tries = self.tries.load(Ordering::Relaxed);
        let mut link = self.link.lock().await;
        match &*link {
            Ok(link) if link.is_alive() => return Ok(link.clone()),
            // Another message tried to connect while this one waited for the lock: its result is recent.
            Err(why) if self.tries.load(Ordering::Relaxed) != tries => return Err(why.clone()),
            _ => {}
        }
        self.tries.fetch_add(1, Ordering::Relaxed);
        *link = Link::open(&self.address.broker, self.answer_timeout.is_some()).await.map(Arc::new);
        link.clone()
    }

    async fn deliver(&self, bytes: &[u8]) -> Fate {
        let link = match self.link().await {
            Ok(link) => link,
            Err(NoLink::Unreachable(why)) => return (Verdict::Unreachable, Some(why)),
            Err(NoLink::Refused(why)) => return (Verdict::Declined, Some(why)),
        };
        let correlation_id = Uuid::new_v4().to_string();
        let answer = link.expect(&correlation_id);
        let properties = properties(bytes, &correlation_id, link.answer_queue());
        let confirming = link.publish(&self.address, properties, bytes);
        let fate = match timeout(Duration::from_secs(CONFIRM_TIMEOUT_SECONDS), confirming).await {
            Ok(Ok(confirmation)) => self.confirmed(&confirmation),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err((Verdict::Unreachable, Some(unconfirmed(&link).into()))),
        };
        let fate = match (fate, answer, self.answer_timeout) {
            (Err(fate), ..) => fate,
            (Ok(()), Some(answer), Some(longest)) => wait(answer, longest).await,
            (Ok(()), ..) => (Verdict::Taken, None),
        };
        link.forget(&correlation_id);
        fate
    }

    /// Fails if the broker did not accept the message.
    fn confirmed(&self, confirmation: &Confirmation) -> Result<(), Fate> {
        let why = match confirmation {
            Confirmation::Ack(None) => return Ok(()),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => self.address.no_route(),
            Confirmation::Nack(None) => "the broker refused it; the queue may be full".into(),
            Confirmation::NotRequested => "the broker did not confirm it".into(),
        };
        Err((Verdict::Declined, Some(why)))
    }

    /// A channel error is a refusal of this message; any other error means that the connection is lost.
    fn failed(&self, error: &lapin::Error) -> Fate {
        let why = match error.kind() {
            ErrorKind::ProtocolError(said) => match said.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
                    format!("the broker has no exchange {}", self.address.exchange)
                }
                AMQPErrorKind::Soft(_) => format!("the broker refused it: {}", why(error)),
                AMQPErrorKind::Hard(_) => return (Verdict::Unreachable, Some(why(error))),
            },
            ErrorKind::ChannelsLimitReached => "the broker allows no more channels; lower --concurrency".into(),
            _ => return (Verdict::Unreachable, Some(why(error))),
        };
        (Verdict::Declined, Some(why))
    }
}

/// Why no confirm came within the timeout. The broker may still accept the message.
fn unconfirmed(link: &Link) -> &'static str {
    if link.is_blocked() {
        "the broker accepts no messages because its memory or disk is full; it may still accept this one"
    } else {
        "the broker did not confirm it in time; it may still accept it"
    }
}

/// Waits for the first answer, at most `longest`.
async fn wait(answer: oneshot::Receiver<Answer>, longest: Duration) -> Fate {
    match timeout(longest, answer).await {
        Ok(Ok(answer)) if answer.body.len() > ANSWER_LIMIT_BYTES => {
            (Verdict::NotUnderstood, Some(format!("its answer is longer than {ANSWER_LIMIT_BYTES} bytes")))
        }
        Ok(Ok(answer)) => answer::read_reply(answer.is_outcome, &answer.body),
        Ok(Err(_)) => (Verdict::Unanswered, Some("the connection was lost before its answer came".into())),
        Err(_) => (Verdict::Unanswered, None),
    }
}

fn properties(bytes: &[u8], correlation_id: &str, reply_to: Option<ShortString>) -> BasicProperties {
    let seconds = u64::try_from(Clock::default().now_us() / 1_000_000).unwrap_or(0);
    let mut properties = BasicProperties::default()
        .with_content_type(Format::detect(bytes).media_type().into())
        .with_delivery_mode(PERSISTENT)
        .with_app_id("emberpost-send".into())
        .with_correlation_id(correlation_id.into())
        .with_timestamp(seconds);
    if let Some(id) = identity(bytes) {
        properties = properties.with_message_id(id);
    }
    match reply_to {
        Some(queue) => properties.with_reply_to(queue),
        None => properties,
    }
}

/// `MessageHeader.id`, else the value of `Bundle.identifier`, of a message in JSON; None if it is longer than 255 bytes.
fn identity(bytes: &[u8]) -> Option<ShortString> {
    let bundle: Value = serde_json::from_slice(bytes).ok()?;
    let header = &bundle["entry"][0]["resource"];
    let id = header["id"].as_str().filter(|_| header["resourceType"] == "MessageHeader");
    let id = id.or_else(|| bundle["identifier"]["value"].as_str())?;
    ShortString::try_new(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::send::address::Place;
    use serde_json::json;

    async fn publisher(place: Place) -> Publisher {
        let address = Address::new("amqp://127.0.0.1:1", &place).unwrap_or_else(|error| panic!("{error}"));
        Publisher::open(address, true, None).await.unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_message_id_is_the_header_id_or_the_bundle_identifier() {
        let header = json!({"resource": {"resourceType": "MessageHeader", "id": "h-1"}});
        for (message, id) in [
            (json!({"identifier": {"value": "b-1"}, "entry": [header]}), Some("h-1")),
            (json!({"identifier": {"value": "b-1"}, "entry": [{"resource": {"id": "p-1"}}]}), Some("b-1")),
            (json!({"identifier": {"value": "i".repeat(256)}}), None),
            (json!({}), None),
            (json!([]), None),
        ] {
            let found = identity(message.to_string().as_bytes());
            assert_eq!(found.as_ref().map(ShortString::as_str), id, "{message}");
        }
        assert_eq!(identity(b"<Bundle/>"), None);
    }

    #[tokio::test]
    async fn messages_that_the_broker_did_not_accept_are_refused_with_a_reason() {
        let queue = publisher(Place::default()).await;
        assert!(queue.confirmed(&Confirmation::Ack(None)).is_ok());
        let (verdict, why) = queue.confirmed(&Confirmation::Nack(None)).expect_err("accepted");
        assert_eq!(verdict, Verdict::Declined);
        assert!(why.is_some_and(|why| why.contains("may be full")));
        assert!(queue.address.no_route().contains("no queue fhir.inbound"));
        let exchange = Place { exchange: Some("lab".into()), ..Place::default() };
        assert!(publisher(exchange).await.address.no_route().contains("the exchange lab"));
    }

    #[tokio::test]
    async fn a_missing_answer_is_not_a_failure() {
        let (sender, answer) = oneshot::channel();
        assert_eq!(wait(answer, Duration::from_millis(1)).await, (Verdict::Unanswered, None));
        drop(sender);
        let (sender, answer) = oneshot::channel();
        drop(sender);
        let (verdict, why) = wait(answer, Duration::from_secs(60)).await;
        assert!(verdict == Verdict::Unanswered && verdict.is_success() && why.is_some());
    }
}

//! One connection to a broker: channels to publish on, and the queue for answers.
//!
//! Each message in flight has its own channel, so an error that closes the channel affects only the message that caused it.

use super::address::Address;
use crate::channel::amqp::{NotConnected, connect};
use crate::cli::table;
use crate::config::BrokerUrl;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer, ErrorKind};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Limit for connecting and declaring the queue for answers.
const CONNECT_TIMEOUT_SECONDS: u64 = 10;
/// Answers that the broker sends ahead of their acknowledgement.
const ANSWER_PREFETCH_MESSAGES: u16 = 64;
/// Limit for closing the connection.
const CLOSE_TIMEOUT_SECONDS: u64 = 5;
/// The reply code of a normal close.
const REPLY_SUCCESS: u16 = 200;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLink {
    Unreachable(String),
    /// The broker refused the connection; a sentence.
    Refused(String),
}

/// An answer as it was published.
#[derive(Debug)]
pub struct Answer {
    /// The property `type` says that it is an OperationOutcome instead of a message.
    pub is_outcome: bool,
    pub body: Vec<u8>,
}

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Answer>>>>;

pub struct Link {
    connection: Connection,
    /// Channels without a message in flight; at most as many as there were messages in flight at once.
    idle: Mutex<Vec<Channel>>,
    answers: Option<Answers>,
}

/// The queue for answers; it exists as long as the connection.
struct Answers {
    queue: ShortString,
    waiting: Waiting,
    reader: JoinHandle<()>,
}

impl Link {
    /// Connects. With `is_answered`, declares the queue for answers; nothing else is declared.
    pub async fn open(broker: &BrokerUrl, is_answered: bool) -> Result<Link, NoLink> {
        let open = async {
            let connection = connect(broker, "emberpost send").await.map_err(|error| match error {
                NotConnected::Broker(error) => {
                    NoLink::new(&error, |why| format!("the broker refused the connection: {why}"))
                }
                NotConnected::File(sentence) => NoLink::Refused(sentence),
                NotConnected::Silent => NoLink::Unreachable(error.to_string()),
            })?;
            let answers = if is_answered { Some(Answers::open(&connection).await?) } else { None };
            Ok(Link { connection, idle: Mutex::default(), answers })
        };
        match timeout(Duration::from_secs(CONNECT_TIMEOUT_SECONDS), open).await {
            Ok(link) => link,
            Err(_) => Err(NoLink::Unreachable("no answer in time".into())),
        }
    }

    pub fn is_alive(&self) -> bool {
        self.connection.status().connected() && self.answers.as_ref().is_none_or(|it| !it.reader.is_finished())
    }

    /// Whether the broker has blocked the connection because it lacks memory or disk space.
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// The value of `reply_to`; None if no answers are expected.
    pub fn answer_queue(&self) -> Option<ShortString> {
        self.answers.as_ref().map(|answers| answers.queue.clone())
    }

    /// Receives the answer with this correlation id; an error if the connection is lost first.
    pub fn expect(&self, correlation_id: &str) -> Option<oneshot::Receiver<Answer>> {
        let answers = self.answers.as_ref()?;
        let (sender, receiver) = oneshot::channel();
        lock(&answers.waiting).insert(correlation_id.into(), sender);
        Some(receiver)
    }

    /// A later answer with this correlation id is dropped.
    pub fn forget(&self, correlation_id: &str) {
        if let Some(answers) = &self.answers {
            lock(&answers.waiting).remove(correlation_id);
        }
    }

    /// Publishes one message and waits for the confirm of the broker.
    pub async fn publish(
        &self,
        to: &Address,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<Confirmation, lapin::Error> {
        let channel = self.channel().await?;
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let (exchange, routing_key) = (to.exchange.clone(), to.routing_key.clone());
        let confirm = channel.basic_publish(exchange, routing_key, options, body, properties).await?;
        let confirmation = confirm.await?;
        lock(&self.idle).push(channel);
        Ok(confirmation)
    }

    async fn channel(&self) -> Result<Channel, lapin::Error> {
        let idle = lock(&self.idle).pop();
        if let Some(channel) = idle.filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    /// Closes the connection, and with it the queue for answers.
    pub async fn close(&self) {
        let closing = self.connection.close(REPLY_SUCCESS, "done".into());
        // The result does not matter: each message has its verdict, and the process ends.
        let _ = timeout(Duration::from_secs(CLOSE_TIMEOUT_SECONDS), closing).await;
    }
}

impl Answers {
    async fn open(connection: &Connection) -> Result<Answers, NoLink> {
        let refused = |why| format!("the broker refused the queue for answers: {why}; with --async none is needed");
        let (queue, consumer) = consume(connection).await.map_err(|error| NoLink::new(&error, refused))?;
        let waiting = Waiting::default();
        let reader = tokio::spawn(read(consumer, waiting.clone()));
        Ok(Answers { queue, waiting, reader })
    }
}

/// Declares an exclusive queue with a name chosen by the broker, and consumes it.
async fn consume(connection: &Connection) -> Result<(ShortString, Consumer), lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(ANSWER_PREFETCH_MESSAGES, BasicQosOptions::default()).await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?.name().clone();
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let consumer = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await?;
    Ok((queue, consumer))
}

/// Passes answers to the messages that wait for them, until the connection or the queue is lost.
async fn read(mut consumer: Consumer, waiting: Waiting) {
    while let Some(Ok(delivery)) = consumer.next().await {
        // If this fails, the connection is lost, and the loop ends.
        let _ = delivery.ack(BasicAckOptions::default()).await;
        let Delivery { properties, data, .. } = delivery;
        let correlation_id = properties.correlation_id().as_ref().map(ShortString::as_str).unwrap_or_default();
        let is_outcome = properties.kind().as_ref().is_some_and(|kind| kind.as_str() == "OperationOutcome");
        // Otherwise the answer is late, or from a further receiver: the first answer decides.
        if let Some(sender) = lock(&waiting).remove(correlation_id) {
            let _ = sender.send(Answer { is_outcome, body: data });
        }
    }
    lock(&waiting).clear();
}

impl NoLink {
    fn new(error: &lapin::Error, refused: impl FnOnce(String) -> String) -> NoLink {
        let is_refusal = match error.kind() {
            ErrorKind::ProtocolError(error) => {
                matches!(error.kind(), AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED))
            }
            _ => false,
        };
        if is_refusal { NoLink::Refused(refused(why(error))) } else { NoLink::Unreachable(why(error)) }
    }
}

/// The innermost cause, with the text of the broker if there is one.
pub fn why(error: &lapin::Error) -> String {
    if let ErrorKind::ProtocolError(error) = error.kind() {
        return table::plain(error.get_message().as_str());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    table::plain(&cause.to_string())
}

/// A panic while the lock was held leaves the value consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

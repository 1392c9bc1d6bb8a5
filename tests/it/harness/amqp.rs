//! Another party on the broker: a plain AMQP client that knows nothing of Emberpost.
//!
//! Each call opens a channel of its own, because an error closes the channel it happens on.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind};

use super::broker::Broker;

/// A connection attempt that takes longer than this has failed.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A confirm that takes longer than this is a failure of the test.
const CONFIRM_LIMIT: Duration = Duration::from_secs(60);
/// Publishes that wait for their confirms at once.
const PIPELINE_MESSAGES: usize = 256;

/// A connection. Dropping it closes it.
pub struct Amqp {
    connection: Connection,
}

/// What a consumer got.
#[derive(Debug)]
pub struct Taken {
    pub body: Vec<u8>,
    pub properties: BasicProperties,
    pub redelivered: bool,
}

impl Taken {
    fn of(delivery: &Delivery) -> Taken {
        let properties = delivery.properties.clone();
        Taken { body: delivery.data.clone(), properties, redelivered: delivery.redelivered }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            _ => None,
        }
    }

    pub fn correlation_id(&self) -> Option<&str> {
        self.properties.correlation_id().as_ref().map(ShortString::as_str)
    }

    pub fn reply_to(&self) -> Option<&str> {
        self.properties.reply_to().as_ref().map(ShortString::as_str)
    }
}

impl Amqp {
    /// Panics when the broker does not take the connection.
    pub async fn connect(url: &str) -> Amqp {
        Amqp::try_connect(url).await.unwrap_or_else(|error| panic!("no connection: {error}"))
    }

    /// A connection on which a channel could be opened.
    pub async fn try_connect(url: &str) -> Result<Amqp, String> {
        let open = async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            connection.create_channel().await?;
            Ok::<_, lapin::Error>(Amqp { connection })
        };
        let opened = tokio::time::timeout(CONNECT_LIMIT, open).await;
        opened.map_err(|_| format!("not within {CONNECT_LIMIT:?}"))?.map_err(|error| error.to_string())
    }

    /// A channel for what this client has no method for.
    pub async fn channel(&self) -> Channel {
        self.connection.create_channel().await.expect("a channel opens")
    }

    /// A durable queue with arguments, such as `x-max-length`.
    pub async fn declare(&self, queue: &str, arguments: &[(&str, AMQPValue)]) {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.channel().await.queue_declare(queue.into(), options, table(arguments)).await.unwrap();
    }

    pub async fn declare_quorum(&self, queue: &str) {
        self.declare(queue, &[("x-queue-type", text("quorum"))]).await;
    }

    /// A queue of this connection alone, gone with it; its name.
    pub async fn exclusive_queue(&self) -> String {
        let name = Broker::name("exclusive");
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        self.channel().await.queue_declare(name.as_str().into(), options, FieldTable::default()).await.unwrap();
        name
    }

    /// A durable topic exchange.
    pub async fn declare_exchange(&self, exchange: &str) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let channel = self.channel().await;
        channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default()).await.unwrap();
    }

    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        self.channel().await.queue_bind(queue.into(), exchange.into(), key.into(), options, none).await.unwrap();
    }

    pub async fn delete_queue(&self, queue: &str) {
        self.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    pub async fn delete_exchange(&self, exchange: &str) {
        self.channel().await.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }

    /// Messages that wait in a queue and are with no consumer; none when there is no such queue.
    pub async fn depth(&self, queue: &str) -> Option<u32> {
        self.look(queue).await.map(|queue| queue.message_count())
    }

    /// Those who consume a queue.
    pub async fn consumers(&self, queue: &str) -> u32 {
        self.look(queue).await.map_or(0, |queue| queue.consumer_count())
    }

    async fn look(&self, queue: &str) -> Option<lapin::Queue> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        self.channel().await.queue_declare(queue.into(), options, FieldTable::default()).await.ok()
    }

    /// Publishes with a confirm; whether the message was routed to a queue and not refused by it.
    pub async fn publish(&self, exchange: &str, key: &str, body: &[u8], props: Props) -> bool {
        self.publish_many(exchange, key, [(body.to_vec(), props)]).await == 1
    }

    /// Publishes many with confirms, hundreds under way at once; how many were routed and not refused.
    pub async fn publish_many(
        &self,
        exchange: &str,
        key: &str,
        messages: impl IntoIterator<Item = (Vec<u8>, Props)>,
    ) -> usize {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let channel = &channel;
        let publishes = messages.into_iter().map(|(body, props)| async move {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let written = channel.basic_publish(exchange.into(), key.into(), options, &body, props.0).await.unwrap();
            matches!(written.await.unwrap(), Confirmation::Ack(None))
        });
        let confirmed = futures_util::stream::iter(publishes).buffered(PIPELINE_MESSAGES);
        let routed = confirmed.fold(0, async |sum, routed| sum + usize::from(routed));
        tokio::time::timeout(CONFIRM_LIMIT, routed).await.expect("the broker confirms")
    }

    /// Consumes with acknowledgement by hand; `prefetch` 0 is no bound.
    pub async fn consume(&self, queue: &str, prefetch: u16) -> Consuming {
        let channel = self.channel().await;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let tag = Broker::name("consumer");
        let consumer = channel.basic_consume(queue.into(), tag.into(), options, none).await.unwrap();
        Consuming { consumer, channel }
    }

    /// Takes so many messages and acknowledges them; panics when they do not come within `limit`.
    pub async fn take(&self, queue: &str, count: usize, limit: Duration) -> Vec<Taken> {
        let mut consuming = self.consume(queue, u16::try_from(count).unwrap_or(0)).await;
        let mut taken = Vec::new();
        let all = async {
            while taken.len() < count {
                let delivery = consuming.consumer.next().await.expect("the queue goes on").unwrap();
                taken.push(Taken::of(&delivery));
                if taken.len() == count {
                    // One for all: of thousands, one by one, some had not arrived when the channel closed, and came back.
                    delivery.ack(BasicAckOptions { multiple: true }).await.unwrap();
                }
            }
        };
        let in_time = tokio::time::timeout(limit, all).await;
        assert!(in_time.is_ok(), "{} of {count} messages in {queue} within {limit:?}", taken.len());
        // Closing waits for the broker, so that the acknowledgements have arrived.
        consuming.channel.close(200, "taken".into()).await.unwrap();
        taken
    }

    /// Publishes with an own `reply_to` and `correlation_id`, and waits for the answer that has it; none within `limit`.
    pub async fn request(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
        props: Props,
        limit: Duration,
    ) -> Option<Taken> {
        let (queue, id) = (self.exclusive_queue().await, Broker::name("request"));
        let mut answers = self.consume(&queue, 0).await;
        let props = props.reply_to(&queue).correlation_id(&id);
        assert!(self.publish(exchange, key, body, props).await, "the request was not routed");
        let answer = async {
            loop {
                let delivery = answers.consumer.next().await.expect("the queue goes on").unwrap();
                delivery.ack(BasicAckOptions::default()).await.unwrap();
                let taken = Taken::of(&delivery);
                if taken.correlation_id() == Some(&id) {
                    return taken;
                }
            }
        };
        tokio::time::timeout(limit, answer).await.ok()
    }
}

/// A consumer. Dropping it gives back what was not acknowledged.
pub struct Consuming {
    consumer: Consumer,
    channel: Channel,
}

impl Consuming {
    /// The next message, not yet acknowledged; none within `limit`, or when the consumer was cancelled or cut off.
    pub async fn next(&mut self, limit: Duration) -> Option<Delivery> {
        tokio::time::timeout(limit, self.consumer.next()).await.ok()??.ok()
    }

    pub async fn ack(&self, delivery: &Delivery) {
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }

    /// Gives a message back to its queue, or away to its dead-letter queue.
    pub async fn reject(&self, delivery: &Delivery, requeue: bool) {
        delivery.reject(BasicRejectOptions { requeue }).await.unwrap();
    }
}

/// Properties of a message: persistent JSON unless said otherwise.
#[derive(Clone)]
pub struct Props(BasicProperties);

impl Props {
    /// Persistent, nothing else.
    pub fn none() -> Props {
        Props(BasicProperties::default().with_delivery_mode(2))
    }

    /// Persistent, `application/fhir+json`.
    pub fn json() -> Props {
        Props::none().content_type("application/fhir+json")
    }

    pub fn content_type(self, value: &str) -> Props {
        Props(self.0.with_content_type(value.into()))
    }

    pub fn content_encoding(self, value: &str) -> Props {
        Props(self.0.with_content_encoding(value.into()))
    }

    pub fn reply_to(self, queue: &str) -> Props {
        Props(self.0.with_reply_to(queue.into()))
    }

    pub fn correlation_id(self, value: &str) -> Props {
        Props(self.0.with_correlation_id(value.into()))
    }

    pub fn message_id(self, value: &str) -> Props {
        Props(self.0.with_message_id(value.into()))
    }

    /// The broker refuses one that is not the connection's user.
    pub fn user_id(self, value: &str) -> Props {
        Props(self.0.with_user_id(value.into()))
    }

    pub fn expiration_ms(self, milliseconds: u32) -> Props {
        Props(self.0.with_expiration(milliseconds.to_string().into()))
    }

    pub fn kind(self, value: &str) -> Props {
        Props(self.0.with_type(value.into()))
    }

    pub fn header(self, name: &str, value: &str) -> Props {
        let mut headers = self.0.headers().clone().unwrap_or_default();
        headers.insert(name.into(), text(value));
        Props(self.0.with_headers(headers))
    }
}

/// A text as the value of an argument or header.
pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
    let named = arguments.iter().map(|(name, value)| (ShortString::from(*name), value.clone()));
    FieldTable::from(named.collect::<BTreeMap<_, _>>())
}

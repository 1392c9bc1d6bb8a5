//! Publishes with confirms, each message on a channel of its own until it is confirmed.
//!
//! The client library delivers a returned message with whichever confirm comes next on its channel, so two messages on
//! one channel could be confused. And a missing exchange closes the channel with everything on it. Many channels with
//! one message each have neither problem, and a lane has only one active attempt anyway.

use super::link::LinkState;
use bytes::Bytes;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Unconfirmed messages over all participants, if the broker allows that many channels; by default it allows 2047.
const UNCONFIRMED_MOST: usize = 512;
/// Channels reserved for declarations and checks.
const OTHER_CHANNELS: u16 = 2;
/// A closing channel counts for the broker until it is closed.
const CHANNEL_RETRY: Duration = Duration::from_millis(20);
/// How long a publish waits for a connection. After that the delivery is rescheduled, so that an operator's commands
/// take effect.
const HOLD_SECONDS: u64 = 5;
/// The prefix of a requester's direct reply address, which is not a queue (RabbitMQ, direct reply-to).
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to.";

/// The exchange and routing key of a publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    pub exchange: &'a str,
    pub routing_key: &'a str,
}

/// The result of a publish.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Published {
    /// Stored by the queue's majority.
    Confirmed,
    /// No queue accepts it.
    Unroutable,
    /// A queue rejected it, usually because it is full.
    Rejected,
    /// The broker closed the channel, with its text: no such exchange, no permission.
    Closed(String),
    /// The broker does not accept a message of this size, with its text.
    TooLarge(String),
    /// No confirm in time.
    Unconfirmed,
    /// There is no connection, or it was lost: the message may or may not be in the queue.
    Unknown(&'static str),
}

pub(super) struct Publisher {
    link: watch::Receiver<LinkState>,
    /// Notified when an exchange or queue may be gone.
    pub recheck: Arc<Notify>,
    /// Cancelled when the router stops.
    pub stop: CancellationToken,
    channels: Mutex<Arc<Channels>>,
}

/// The channels of one connection.
struct Channels {
    /// None before the first connection.
    connection: Option<Arc<Connection>>,
    /// One for each channel that may be open at a time.
    permits: Arc<Semaphore>,
    permits_most: usize,
    /// Channels in confirm mode without an unconfirmed message.
    idle: Mutex<Vec<Channel>>,
}

impl Channels {
    fn of(connection: Option<Arc<Connection>>) -> Arc<Channels> {
        let allowed = connection.as_ref().map_or(u16::MAX, |connection| connection.configuration().channel_max());
        let permits_most = permits_most(allowed);
        Arc::new(Channels {
            connection,
            permits: Arc::new(Semaphore::new(permits_most)),
            permits_most,
            idle: Mutex::default(),
        })
    }

    fn is_of(&self, connection: &Arc<Connection>) -> bool {
        self.connection.as_ref().is_some_and(|known| Arc::ptr_eq(known, connection))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel in confirm mode. Waits while the broker allows no further channels.
    async fn take(&self, connection: &Connection) -> lapin::Result<Channel> {
        loop {
            let idle = self.idle().pop();
            if let Some(channel) = idle.filter(|channel| channel.status().connected()) {
                return Ok(channel);
            }
            match connection.create_channel().await {
                Ok(channel) => {
                    channel.confirm_select(ConfirmSelectOptions::default()).await?;
                    return Ok(channel);
                }
                Err(error) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => {
                    tokio::time::sleep(CHANNEL_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// How many messages may be unconfirmed on a connection with this many channels.
fn permits_most(channels: u16) -> usize {
    usize::from(channels.saturating_sub(OTHER_CHANNELS)).clamp(1, UNCONFIRMED_MOST)
}

impl Publisher {
    pub fn new(link: watch::Receiver<LinkState>) -> Self {
        Publisher {
            link,
            recheck: Arc::default(),
            stop: CancellationToken::new(),
            channels: Mutex::new(Channels::of(None)),
        }
    }

    pub fn unconfirmed(&self) -> usize {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        channels.permits_most.saturating_sub(channels.permits.available_permits())
    }

    /// Publishes, mandatory and confirmed. Time during an alarm of the broker does not count towards `timeout`. If the
    /// router stops during an alarm, it does not wait for its end.
    pub async fn publish(
        &self,
        to: Address<'_>,
        body: &Bytes,
        properties: BasicProperties,
        timeout: Duration,
    ) -> Published {
        tokio::select! {
            published = self.publish_confirmed(to, body, properties, timeout) => published,
            () = self.stopped_without_broker() => Published::Unknown("the router stops"),
        }
    }

    async fn stopped_without_broker(&self) {
        self.stop.cancelled().await;
        let mut link = self.link.clone();
        // An error means that the link itself has ended.
        let _ = link.wait_for(|state| state.blocked || state.connection.is_none()).await;
    }

    async fn publish_confirmed(
        &self,
        to: Address<'_>,
        body: &Bytes,
        properties: BasicProperties,
        timeout: Duration,
    ) -> Published {
        let Some(connection) = self.connection().await else { return Published::Unknown("there is no connection") };
        let channels = self.channels_of(&connection);
        // The semaphore is never closed, so this cannot fail.
        let Ok(permit) = channels.permits.clone().acquire_owned().await else {
            return Published::Unknown("the publisher is closed");
        };
        if to.exchange.is_empty() && to.routing_key.starts_with(DIRECT_REPLY) {
            match tokio::time::timeout(timeout, has_direct_reply(&connection, to.routing_key)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Published::Unroutable,
                Ok(Err(_)) => return Published::Unknown("the connection was lost"),
                Err(_) => return Published::Unknown("the broker did not report whether the requester listens"),
            }
        }
        let channel = match tokio::time::timeout(timeout, channels.take(&connection)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return failed(&error),
            Err(_) => return Published::Unknown("the broker did not open a channel in time"),
        };
        let published = self.confirmed(send(&channel, to, body, properties), timeout).await;
        match published {
            Published::Confirmed | Published::Unroutable | Published::Rejected => channels.idle().push(channel),
            // A message on it is still unconfirmed, and its late confirm must not be taken for that of the next one.
            Published::Unconfirmed => drop(tokio::spawn(async move {
                let closed = channel.close(200, "no confirm".into()).await;
                drop(permit);
                closed
            })),
            Published::Closed(_) | Published::TooLarge(_) | Published::Unknown(_) => {}
        }
        published
    }

    /// The connection, waited for within a bound, once the broker has no alarm.
    async fn connection(&self) -> Option<Arc<Connection>> {
        let mut link = self.link.clone();
        let ready = link.wait_for(|state| state.connection.is_some() && !state.blocked);
        let state = tokio::time::timeout(Duration::from_secs(HOLD_SECONDS), ready).await.ok()?.ok()?;
        state.connection.clone()
    }

    /// The channels of this connection; those of an earlier one are dropped.
    fn channels_of(&self, connection: &Arc<Connection>) -> Arc<Channels> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.is_of(connection) {
            return channels.clone();
        }
        let new = Channels::of(Some(connection.clone()));
        // A caller that still holds a lost connection must not replace the channels of the next one.
        if !channels.connection.as_ref().is_some_and(|known| known.status().connected()) {
            *channels = new.clone();
        }
        new
    }

    /// Waits for the confirm.
    async fn confirmed(
        &self,
        publishing: impl Future<Output = lapin::Result<Confirmation>>,
        timeout: Duration,
    ) -> Published {
        match within(timeout, self.link.clone(), publishing).await {
            Some(Ok(Confirmation::Ack(None))) => Published::Confirmed,
            Some(Ok(Confirmation::Ack(Some(_)))) => Published::Unroutable,
            Some(Ok(Confirmation::Nack(_))) => Published::Rejected,
            None | Some(Ok(Confirmation::NotRequested)) => Published::Unconfirmed,
            Some(Err(error)) => failed(&error),
        }
    }
}

/// The result of `publishing`; None after `timeout`, which runs only while the broker has no alarm. It starts again
/// after an alarm, because the broker has not read what was waiting for its end.
async fn within<T>(
    timeout: Duration,
    mut link: watch::Receiver<LinkState>,
    publishing: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(publishing);
    let mut blocked = link.borrow_and_update().blocked;
    let mut deadline = Instant::now() + timeout;
    loop {
        tokio::select! {
            biased;
            done = &mut publishing => return Some(done),
            Ok(()) = link.changed() => {
                let was_blocked = std::mem::replace(&mut blocked, link.borrow_and_update().blocked);
                if was_blocked && !blocked {
                    deadline = Instant::now() + timeout;
                }
            }
            () = tokio::time::sleep_until(deadline), if !blocked => return None,
        }
    }
}

async fn send(
    channel: &Channel,
    to: Address<'_>,
    body: &Bytes,
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    // A direct reply address is not a queue, so a mandatory message would be returned although it arrives. Whether it
    // exists was checked before.
    let mandatory = !to.routing_key.starts_with(DIRECT_REPLY);
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    channel.basic_publish(to.exchange.into(), to.routing_key.into(), options, body, properties).await?.await
}

/// Whether a requester still listens on its direct reply address, checked as RabbitMQ documents: by declaring the name,
/// on a channel of its own that a negative answer closes.
async fn has_direct_reply(connection: &Connection, name: &str) -> lapin::Result<bool> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(name.into(), options, FieldTable::default()).await {
        Ok(_) => {
            channel.close(200, "asked".into()).await?;
            Ok(true)
        }
        Err(error) if error.is_amqp_soft_error() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Only what the broker reports about this channel is a failed attempt. Everything else is the end of the connection,
/// which the client library may report before it marks the connection as lost.
fn failed(error: &lapin::Error) -> Published {
    match error.kind() {
        ErrorKind::ProtocolError(reply) if error.is_amqp_soft_error() => {
            let text = reply.get_message().to_string();
            if is_about_size(reply.get_id(), &text) { Published::TooLarge(text) } else { Published::Closed(text) }
        }
        ErrorKind::ChannelsLimitReached => Published::Unknown("the broker allows no more channels"),
        _ => Published::Unknown("the connection was lost"),
    }
}

/// RabbitMQ refuses a message above its `max_message_size` with 406; 311 is the protocol's own code for it.
fn is_about_size(code: u16, text: &str) -> bool {
    const CONTENT_TOO_LARGE: u16 = 311;
    const PRECONDITION_FAILED: u16 = 406;
    code == CONTENT_TOO_LARGE || code == PRECONDITION_FAILED && text.to_ascii_lowercase().contains("size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_what_the_broker_allows_but_for_two_and_at_most_512() {
        for (channels, wanted) in [(u16::MAX, 512), (2047, 512), (514, 512), (513, 511), (16, 14), (3, 1), (1, 1)] {
            assert_eq!(permits_most(channels), wanted, "{channels}");
        }
    }

    #[test]
    fn only_what_the_broker_says_of_a_size_is_final() {
        const SIZE: &str = "PRECONDITION_FAILED - message size 2097152 is larger than configured max size 1048576";
        for (code, text, wanted) in [
            (406, SIZE, true),
            (311, "CONTENT_TOO_LARGE", true),
            (406, "PRECONDITION_FAILED - invalid expiration", false),
            (404, "NOT_FOUND - no exchange 'size' in vhost '/'", false),
        ] {
            assert_eq!(is_about_size(code, text), wanted, "{text}");
        }
    }

    const PATIENCE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn an_alarm_stops_the_time_that_a_confirm_has_and_its_end_begins_it_anew() {
        let link = watch::Sender::new(LinkState { blocked: true, ..LinkState::default() });
        let (confirm, confirmed) = tokio::sync::oneshot::channel();
        let alarm = async {
            tokio::time::sleep(PATIENCE * 4).await;
            link.send_modify(|state| state.blocked = false);
            confirm.send(()).expect("nobody waits for the confirm any more");
        };
        let (done, ()) = tokio::join!(within(PATIENCE, link.subscribe(), confirmed), alarm);
        assert_eq!(done, Some(Ok(())), "the alarm counted");

        let never = || std::future::pending::<()>();
        assert_eq!(within(PATIENCE, link.subscribe(), never()).await, None);
        link.send_modify(|state| state.blocked = true);
        let end = async { link.send_modify(|state| state.blocked = false) };
        let (done, ()) = tokio::join!(within(PATIENCE, link.subscribe(), never()), end);
        assert_eq!(done, None, "after the alarm the wait has an end again");
    }
}

//! Publishing with confirms: each message on a channel of its own for as long as it is under way.
//!
//! The client tells a returned message with whichever confirm comes next on its channel, so two messages on one channel
//! could be taken for each other; and an exchange that is missing closes the channel, with everything on it. Many channels
//! with one message each have neither fault, and a lane has one message under way anyway.

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

/// Messages under way at once over all participants, where the broker allows so many channels; 2047 unless told otherwise.
const UNDER_WAY_MOST: usize = 512;
/// Channels that are left for declarations and questions.
const OTHER_CHANNELS: u16 = 2;
/// A channel that is closing counts for the broker until it is closed.
const CHANNEL_RETRY: Duration = Duration::from_millis(20);
/// A caller that finds no connection comes again after this long: an operator's orders are heard in between.
const HOLD_SECONDS: u64 = 5;
/// What begins like this is a requester's own connection, not a queue (RabbitMQ, direct reply-to).
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to.";

/// Where a message is published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    pub exchange: &'a str,
    pub routing_key: &'a str,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Published {
    /// On the disks of the queue's majority.
    Confirmed,
    /// No queue takes it.
    Unroutable,
    /// A queue refused it, because it is full as a rule.
    Refused,
    /// The broker closed the channel, in its own words: no such exchange, no permission.
    Closed(String),
    /// The broker takes no message of this size, in its own words.
    TooLarge(String),
    /// No confirm in time.
    Silent,
    /// There is no connection, or it was lost: it may or may not be in the queue.
    Unknown(&'static str),
}

pub(super) struct Publisher {
    link: watch::Receiver<LinkState>,
    /// Told when an exchange or queue that messages need may be gone.
    pub doubt: Arc<Notify>,
    /// Cancelled when the router stops.
    pub stop: CancellationToken,
    channels: Mutex<Arc<Channels>>,
}

/// The channels of one connection.
struct Channels {
    /// None before the first connection.
    connection: Option<Arc<Connection>>,
    /// One for each channel that may be open at once.
    places: Arc<Semaphore>,
    places_most: usize,
    /// Channels in confirm mode without a message under way.
    idle: Mutex<Vec<Channel>>,
}

impl Channels {
    fn of(connection: Option<Arc<Connection>>) -> Arc<Channels> {
        let allowed = connection.as_ref().map_or(u16::MAX, |connection| connection.configuration().channel_max());
        let places_most = places_most(allowed);
        Arc::new(Channels {
            connection,
            places: Arc::new(Semaphore::new(places_most)),
            places_most,
            idle: Mutex::default(),
        })
    }

    fn is_of(&self, connection: &Arc<Connection>) -> bool {
        self.connection.as_ref().is_some_and(|known| Arc::ptr_eq(known, connection))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel in confirm mode. Waits where the broker allows no more channels right now.
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

/// How many messages may be under way on a connection with so many channels.
fn places_most(channels: u16) -> usize {
    usize::from(channels.saturating_sub(OTHER_CHANNELS)).clamp(1, UNDER_WAY_MOST)
}

impl Publisher {
    pub fn new(link: watch::Receiver<LinkState>) -> Self {
        Publisher {
            link,
            doubt: Arc::default(),
            stop: CancellationToken::new(),
            channels: Mutex::new(Channels::of(None)),
        }
    }

    pub fn under_way(&self) -> usize {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        channels.places_most.saturating_sub(channels.places.available_permits())
    }

    /// Publishes, mandatory and confirmed. Time in which the broker takes nothing because of an alarm does not count; when
    /// the router stops meanwhile, the end of the alarm is not waited for.
    pub async fn publish(
        &self,
        to: Address<'_>,
        body: &Bytes,
        properties: BasicProperties,
        patience: Duration,
    ) -> Published {
        tokio::select! {
            published = self.publish_to_the_end(to, body, properties, patience) => published,
            () = self.stops_without_broker() => Published::Unknown("the router stops"),
        }
    }

    async fn stops_without_broker(&self) {
        self.stop.cancelled().await;
        let mut link = self.link.clone();
        // An error means that the link itself has ended.
        let _ = link.wait_for(|state| state.blocked || state.connection.is_none()).await;
    }

    async fn publish_to_the_end(
        &self,
        to: Address<'_>,
        body: &Bytes,
        properties: BasicProperties,
        patience: Duration,
    ) -> Published {
        let Some(connection) = self.connection().await else { return Published::Unknown("there is no connection") };
        let channels = self.channels_of(&connection);
        // Never closed, so the error cannot happen; without a place nothing may be published.
        let Ok(place) = channels.places.clone().acquire_owned().await else {
            return Published::Unknown("the publisher is closed");
        };
        if to.exchange.is_empty() && to.routing_key.starts_with(DIRECT_REPLY) {
            match tokio::time::timeout(patience, listens(&connection, to.routing_key)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Published::Unroutable,
                Ok(Err(_)) => return Published::Unknown("the connection was lost"),
                Err(_) => return Published::Unknown("the broker did not say whether the requester listens"),
            }
        }
        let channel = match tokio::time::timeout(patience, channels.take(&connection)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return failed(&error),
            Err(_) => return Published::Unknown("the broker opened no channel in time"),
        };
        let published = self.confirmed(send(&channel, to, body, properties), patience).await;
        match published {
            Published::Confirmed | Published::Unroutable | Published::Refused => channels.idle().push(channel),
            // One message of it is still under way: whatever the broker says of it must not be taken for the next.
            Published::Silent => drop(tokio::spawn(async move {
                let closed = channel.close(200, "no confirm".into()).await;
                drop(place);
                closed
            })),
            Published::Closed(_) | Published::TooLarge(_) | Published::Unknown(_) => {}
        }
        published
    }

    /// The connection, waited for within bounds, and past an alarm of the broker.
    async fn connection(&self) -> Option<Arc<Connection>> {
        let mut link = self.link.clone();
        let ready = link.wait_for(|state| state.connection.is_some() && !state.blocked);
        let state = tokio::time::timeout(Duration::from_secs(HOLD_SECONDS), ready).await.ok()?.ok()?;
        state.connection.clone()
    }

    /// The channels of this connection; those of one before are given up.
    fn channels_of(&self, connection: &Arc<Connection>) -> Arc<Channels> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.is_of(connection) {
            return channels.clone();
        }
        let new = Channels::of(Some(connection.clone()));
        // Who comes late with a connection that was lost takes nothing from those of the next.
        if !channels.connection.as_ref().is_some_and(|known| known.status().connected()) {
            *channels = new.clone();
        }
        new
    }

    /// Waits for the confirm of what is being published.
    async fn confirmed(
        &self,
        publishing: impl Future<Output = lapin::Result<Confirmation>>,
        patience: Duration,
    ) -> Published {
        match within(patience, self.link.clone(), publishing).await {
            Some(Ok(Confirmation::Ack(None))) => Published::Confirmed,
            Some(Ok(Confirmation::Ack(Some(_)))) => Published::Unroutable,
            Some(Ok(Confirmation::Nack(_))) => Published::Refused,
            None | Some(Ok(Confirmation::NotRequested)) => Published::Silent,
            Some(Err(error)) => failed(&error),
        }
    }
}

/// What `publishing` comes to; None when `patience` ends before. It runs only while the broker has no alarm, and begins anew
/// after one: what waited for its end has not been read by the broker yet.
async fn within<T>(
    patience: Duration,
    mut link: watch::Receiver<LinkState>,
    publishing: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(publishing);
    let mut blocked = link.borrow_and_update().blocked;
    let mut deadline = Instant::now() + patience;
    loop {
        tokio::select! {
            biased;
            done = &mut publishing => return Some(done),
            Ok(()) = link.changed() => {
                let was_blocked = std::mem::replace(&mut blocked, link.borrow_and_update().blocked);
                if was_blocked && !blocked {
                    deadline = Instant::now() + patience;
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
    // A direct reply is no queue, and would come back although it arrives; it was looked for before.
    let mandatory = !to.routing_key.starts_with(DIRECT_REPLY);
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    channel.basic_publish(to.exchange.into(), to.routing_key.into(), options, body, properties).await?.await
}

/// Whether a requester still listens for its direct reply, as RabbitMQ has it asked: by declaring the name, on a channel
/// that a no would close.
async fn listens(connection: &Connection, name: &str) -> lapin::Result<bool> {
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

/// Only what the broker says of this channel is a failed attempt. All else is the connection's end, which the client may tell
/// of before it counts the connection as lost.
fn failed(error: &lapin::Error) -> Published {
    match error.kind() {
        ErrorKind::ProtocolError(said) if error.is_amqp_soft_error() => {
            let text = said.get_message().to_string();
            if is_about_size(said.get_id(), &text) { Published::TooLarge(text) } else { Published::Closed(text) }
        }
        ErrorKind::ChannelsLimitReached => Published::Unknown("the broker allows no more channels"),
        _ => Published::Unknown("the connection was lost"),
    }
}

/// RabbitMQ refuses a message above its `max_message_size` so; 311 is the protocol's own code for it.
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
            assert_eq!(places_most(channels), wanted, "{channels}");
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

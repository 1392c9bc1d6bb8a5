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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Messages under way at once over all participants; brokers allow 2047 channels unless told otherwise.
const UNDER_WAY_MOST: usize = 512;
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
    places: Semaphore,
    /// Channels in confirm mode without a message under way, of the connection that they belong to.
    idle: Mutex<(Option<Arc<Connection>>, Vec<Channel>)>,
}

impl Publisher {
    pub fn new(link: watch::Receiver<LinkState>) -> Self {
        Publisher {
            link,
            doubt: Arc::default(),
            stop: CancellationToken::new(),
            places: Semaphore::new(UNDER_WAY_MOST),
            idle: Mutex::default(),
        }
    }

    pub fn under_way(&self) -> usize {
        UNDER_WAY_MOST - self.places.available_permits()
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
        // Never closed, so the error cannot happen; without a place nothing may be published.
        let Ok(_place) = self.places.acquire().await else { return Published::Unknown("the publisher is closed") };
        if to.exchange.is_empty() && to.routing_key.starts_with(DIRECT_REPLY) {
            match tokio::time::timeout(patience, listens(&connection, to.routing_key)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Published::Unroutable,
                Ok(Err(_)) => return Published::Unknown("the connection was lost"),
                Err(_) => return Published::Unknown("the broker did not say whether the requester listens"),
            }
        }
        let channel = match tokio::time::timeout(patience, self.take(&connection)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return failed(&error),
            Err(_) => return Published::Unknown("the broker opened no channel in time"),
        };
        let published = self.confirmed(send(&channel, to, body, properties), patience).await;
        match published {
            Published::Confirmed | Published::Unroutable | Published::Refused => self.give_back(&connection, channel),
            // One message of it is still under way: whatever the broker says of it must not be taken for the next.
            Published::Silent => drop(tokio::spawn(async move { channel.close(200, "no confirm".into()).await })),
            Published::Closed(_) | Published::Unknown(_) => {}
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

    async fn take(&self, connection: &Arc<Connection>) -> lapin::Result<Channel> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if !idle.0.as_ref().is_some_and(|known| Arc::ptr_eq(known, connection)) {
                *idle = (Some(connection.clone()), Vec::new());
            }
            idle.1.pop()
        };
        if let Some(channel) = idle.filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    fn give_back(&self, connection: &Arc<Connection>, channel: Channel) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.0.as_ref().is_some_and(|known| Arc::ptr_eq(known, connection)) {
            idle.1.push(channel);
        }
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
            Published::Closed(said.get_message().to_string())
        }
        ErrorKind::ChannelsLimitReached => Published::Closed("the broker allows no more channels".into()),
        _ => Published::Unknown("the connection was lost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! A connection that is kept up: brokers tried in turn, backoff with jitter, what the broker says of its alarms.
//!
//! One link consumes, another publishes: a broker in alarm stops reading from those that publish, and acknowledgements
//! would be stuck behind it. Reconnecting is done here and not by the client, so that what was in flight is known.

use super::connect::connect;
use super::topology::{self, Thing};
use crate::config::Amqp;
use futures_util::{FutureExt, StreamExt};
use lapin::{Connection, ErrorKind, Event};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pauses between rounds over all brokers; the last repeats. Half of each is left to chance.
const BACKOFF_MILLISECONDS: [u64; 7] = [100, 200, 500, 1000, 2000, 5000, 10_000];
/// A connection that held so long begins the pauses anew.
const STABLE_SECONDS: u64 = 5;
/// The client tells when a connection ends; this is for when it does not. What is in doubt is declared no more often.
const LOOK_SECONDS: u64 = 1;
/// A broker that does not say good-bye in time is left without.
const CLOSE_SECONDS: u64 = 3;
/// What could not be declared is tried again after this long.
const TOPOLOGY_RETRY_SECONDS: u64 = 15;

/// What is known of a link.
#[derive(Clone, Default)]
pub struct LinkState {
    /// None while there is no connection.
    pub connection: Option<Arc<Connection>>,
    /// The broker has an alarm: what is published now waits.
    pub blocked: bool,
    /// The broker, without credentials.
    pub broker: Option<String>,
    /// Why there is no connection.
    pub why: Option<String>,
    /// What the broker has otherwise than it should be, a sentence each.
    pub mistakes: Vec<String>,
    /// It was up with everything in order at least once since the start.
    pub was_ready: bool,
    /// Connections that ended because the client could not read what the broker brought.
    pub unreadable: u64,
    /// Connections made.
    pub connects: u64,
}

impl LinkState {
    /// `ready`, `blocked`, `mismatch` or `away`.
    pub fn word(&self) -> &'static str {
        match (&self.connection, self.blocked, self.mistakes.is_empty()) {
            (None, ..) => "away",
            (Some(_), true, _) => "blocked",
            (Some(_), false, false) => "mismatch",
            (Some(_), false, true) => "ready",
        }
    }
}

/// What one link is told.
pub struct Keeper {
    /// `in` or `out`.
    pub purpose: &'static str,
    /// Our name, as the broker shows it.
    pub name: String,
    pub amqp: Arc<Amqp>,
    /// What must be there; a new value is declared at once.
    pub things: watch::Receiver<Vec<Thing>>,
    pub state: watch::Sender<LinkState>,
    /// Told by who found something missing: it is declared, or looked for, with the next look.
    pub doubt: Arc<Notify>,
    pub stop: CancellationToken,
}

impl Keeper {
    /// Keeps the link up until `stop`, then closes it.
    pub async fn run(mut self) {
        let mut round = 0;
        while !self.stop.is_cancelled() {
            let stop = self.stop.clone();
            let connected = tokio::select! {
                () = stop.cancelled() => return,
                connected = self.connect() => connected,
            };
            if let Some((connection, broker)) = connected {
                let since = Instant::now();
                self.hold(Arc::new(connection), broker).await;
                if since.elapsed() > Duration::from_secs(STABLE_SECONDS) {
                    round = 0;
                }
            }
            let pause = pause(round);
            round += 1;
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn connect(&self) -> Option<(Connection, String)> {
        let name = format!("{} ({})", self.name, self.purpose);
        for broker in &self.amqp.urls {
            if self.stop.is_cancelled() {
                return None;
            }
            match connect(broker, &name).await {
                Ok(connection) => return Some((connection, broker.to_string())),
                Err(error) => self.is_away(format!("cannot connect to {broker}: {error}")),
            }
        }
        None
    }

    /// Says it once for each reason, however often it is tried.
    fn is_away(&self, why: String) {
        self.state.send_modify(|state| {
            if state.why.as_ref() != Some(&why) {
                tracing::warn!(link = self.purpose, "AMQP: {why}");
            }
            state.connection = None;
            state.blocked = false;
            state.why = Some(why);
        });
    }

    async fn hold(&mut self, connection: Arc<Connection>, broker: String) {
        let mut events = Box::pin(connection.events_listener());
        self.declare(&connection).await;
        tracing::info!(link = self.purpose, broker, "AMQP: connected");
        self.state.send_modify(|state| {
            state.connection = Some(connection.clone());
            state.broker = Some(broker.clone());
            state.why = None;
            state.connects += 1;
        });
        let mut looks = tokio::time::interval(Duration::from_secs(LOOK_SECONDS));
        let (mut doubted, mut lost) = (false, None);
        let mut again = Instant::now() + Duration::from_secs(TOPOLOGY_RETRY_SECONDS);
        while connection.status().connected() {
            tokio::select! {
                () = self.stop.cancelled() => break,
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.is_blocked(Some(&reason)),
                    Some(Event::ConnectionUnblocked) => self.is_blocked(None),
                    // It names frames and codes, never a body.
                    Some(Event::Error(error)) => lost = Some(error),
                    Some(_) => {}
                    // The client is gone with its connection; the loop ends with the next look.
                    None => tokio::select! {
                        () = self.stop.cancelled() => break,
                        () = tokio::time::sleep(Duration::from_secs(LOOK_SECONDS)) => {}
                    },
                },
                changed = self.things.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.declare(&connection).await;
                }
                () = self.doubt.notified() => doubted = true,
                _ = looks.tick() => {
                    let retry = Instant::now() >= again && !self.state.borrow().mistakes.is_empty();
                    if std::mem::take(&mut doubted) || retry {
                        self.declare(&connection).await;
                        again = Instant::now() + Duration::from_secs(TOPOLOGY_RETRY_SECONDS);
                    }
                }
            }
        }
        if self.stop.is_cancelled() {
            // Whether or not the broker hears it: the process ends. One in alarm hears nothing.
            let closing = connection.close(200, "stopping".into());
            let _ = tokio::time::timeout(Duration::from_secs(CLOSE_SECONDS), closing).await;
            self.state.send_modify(|state| state.connection = None);
        } else {
            // The loop may have ended before it heard why.
            while let Some(Some(event)) = events.next().now_or_never() {
                if let Event::Error(error) = event {
                    lost = Some(error);
                }
            }
            if lost.as_ref().is_some_and(|error| matches!(error.kind(), ErrorKind::ParsingError(_))) {
                self.state.send_modify(|state| state.unreadable += 1);
            }
            let why = lost.map(|error| format!(": {error}")).unwrap_or_default();
            self.is_away(format!("the connection to {broker} was lost{why}"));
        }
    }

    fn is_blocked(&self, reason: Option<&str>) {
        match reason {
            Some(reason) => tracing::warn!(link = self.purpose, reason, "AMQP: the broker takes no messages now"),
            None => tracing::info!(link = self.purpose, "AMQP: the broker takes messages again"),
        }
        self.state.send_modify(|state| state.blocked = reason.is_some());
    }

    async fn declare(&mut self, connection: &Connection) {
        let things = self.things.borrow_and_update().clone();
        let mistakes = tokio::select! {
            () = self.stop.cancelled() => return,
            mistakes = topology::ensure(connection, &things, self.amqp.declare) => mistakes,
        };
        let still_there = connection.status().connected();
        self.state.send_modify(|state| {
            for mistake in mistakes.iter().filter(|mistake| !state.mistakes.contains(mistake)) {
                tracing::error!(link = self.purpose, "AMQP: {mistake}");
            }
            state.was_ready |= mistakes.is_empty() && still_there;
            state.mistakes = mistakes;
        });
    }
}

/// The pause before round `round` + 2 over all brokers.
fn pause(round: usize) -> Duration {
    let longest = BACKOFF_MILLISECONDS[round.min(BACKOFF_MILLISECONDS.len() - 1)];
    // The low bits of a fresh UUID are random enough to spread those who lost the same broker.
    let chance = (uuid::Uuid::new_v4().as_u128() as u32) as f64 / f64::from(u32::MAX);
    Duration::from_millis(longest).mul_f64(0.5 + 0.5 * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_ten_seconds_and_are_never_longer() {
        for round in 0..20 {
            let longest = Duration::from_millis(BACKOFF_MILLISECONDS[round.min(6)]);
            let pause = pause(round);
            assert!(pause >= longest / 2 && pause <= longest, "{round}: {pause:?}");
        }
    }
}

//! A connection that is kept up: brokers are tried in turn, with backoff and jitter, and the broker's alarms are
//! tracked.
//!
//! One link consumes and another publishes, because a broker in alarm stops reading from connections that publish, and
//! acknowledgements would be stuck. Reconnecting is done here and not by the client library, so that the messages in
//! flight are known.

use super::connect::connect;
use super::topology::{self, Entity};
use crate::config::Amqp;
use futures_util::{FutureExt, StreamExt};
use lapin::{Connection, ErrorKind, Event};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pauses between rounds over all brokers; the last one repeats. Half of each is random.
const BACKOFF_MILLISECONDS: [u64; 7] = [100, 200, 500, 1000, 2000, 5000, 10_000];
/// A connection that lasted this long resets the backoff.
const STABLE_SECONDS: u64 = 5;
/// The client library reports the end of a connection; this check is for when it does not. It also limits how often
/// entities are declared again.
const LOOK_SECONDS: u64 = 1;
/// How long a graceful close may take.
const CLOSE_SECONDS: u64 = 3;
/// Pause before entities that could not be declared are tried again.
const TOPOLOGY_RETRY_SECONDS: u64 = 15;

/// The state of a link.
#[derive(Clone, Default)]
pub struct LinkState {
    /// None while there is no connection.
    pub connection: Option<Arc<Connection>>,
    /// The broker has an alarm: publishing waits.
    pub blocked: bool,
    /// The broker, without credentials.
    pub broker: Option<String>,
    /// Why there is no connection.
    pub why: Option<String>,
    /// How the broker's entities differ from what is needed, a sentence each.
    pub errors: Vec<String>,
    /// It was up with all entities in order at least once since the start.
    pub was_ready: bool,
    /// Connections that ended because the client library could not decode a frame.
    pub unreadable: u64,
    /// Connections made.
    pub connects: u64,
}

impl LinkState {
    /// `ready`, `blocked`, `mismatch`, or `away`.
    pub fn word(&self) -> &'static str {
        match (&self.connection, self.blocked, self.errors.is_empty()) {
            (None, ..) => "away",
            (Some(_), true, _) => "blocked",
            (Some(_), false, false) => "mismatch",
            (Some(_), false, true) => "ready",
        }
    }
}

/// The task that keeps one link up.
pub struct LinkTask {
    /// `in` or `out`.
    pub purpose: &'static str,
    /// Our name, as the broker shows it.
    pub name: String,
    pub amqp: Arc<Amqp>,
    /// What must be there; a new value is declared at once.
    pub entities: watch::Receiver<Vec<Entity>>,
    pub state: watch::Sender<LinkState>,
    /// Notified when an entity may be missing: it is declared, or checked, soon after.
    pub recheck: Arc<Notify>,
    pub stop: CancellationToken,
}

impl LinkTask {
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
                Err(error) => self.set_disconnected(format!("cannot connect to {broker}: {error}")),
            }
        }
        None
    }

    /// Logs each reason once, however often connecting fails.
    fn set_disconnected(&self, why: String) {
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
        let (mut needs_recheck, mut lost) = (false, None);
        let mut again = Instant::now() + Duration::from_secs(TOPOLOGY_RETRY_SECONDS);
        while connection.status().connected() {
            tokio::select! {
                () = self.stop.cancelled() => break,
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.set_blocked(Some(&reason)),
                    Some(Event::ConnectionUnblocked) => self.set_blocked(None),
                    // It contains frames and codes, never a body.
                    Some(Event::Error(error)) => lost = Some(error),
                    Some(_) => {}
                    // The client library has dropped the connection; the loop ends with the next check.
                    None => tokio::select! {
                        () = self.stop.cancelled() => break,
                        () = tokio::time::sleep(Duration::from_secs(LOOK_SECONDS)) => {}
                    },
                },
                changed = self.entities.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.declare(&connection).await;
                }
                () = self.recheck.notified() => needs_recheck = true,
                _ = looks.tick() => {
                    let retry = Instant::now() >= again && !self.state.borrow().errors.is_empty();
                    if std::mem::take(&mut needs_recheck) || retry {
                        self.declare(&connection).await;
                        again = Instant::now() + Duration::from_secs(TOPOLOGY_RETRY_SECONDS);
                    }
                }
            }
        }
        if self.stop.is_cancelled() {
            // Errors are ignored because the process ends. A broker in alarm does not read the close.
            let closing = connection.close(200, "stopping".into());
            let _ = tokio::time::timeout(Duration::from_secs(CLOSE_SECONDS), closing).await;
            self.state.send_modify(|state| state.connection = None);
        } else {
            // The loop may have ended before the reason arrived.
            while let Some(Some(event)) = events.next().now_or_never() {
                if let Event::Error(error) = event {
                    lost = Some(error);
                }
            }
            if lost.as_ref().is_some_and(|error| matches!(error.kind(), ErrorKind::ParsingError(_))) {
                self.state.send_modify(|state| state.unreadable += 1);
            }
            let why = lost.map(|error| format!(": {error}")).unwrap_or_default();
            self.set_disconnected(format!("the connection to {broker} was lost{why}"));
        }
    }

    fn set_blocked(&self, reason: Option<&str>) {
        match reason {
            Some(reason) => tracing::warn!(link = self.purpose, reason, "AMQP: the broker blocks publishing"),
            None => tracing::info!(link = self.purpose, "AMQP: the broker accepts messages again"),
        }
        self.state.send_modify(|state| state.blocked = reason.is_some());
    }

    async fn declare(&mut self, connection: &Connection) {
        let entities = self.entities.borrow_and_update().clone();
        let errors = tokio::select! {
            () = self.stop.cancelled() => return,
            errors = topology::ensure(connection, &entities, self.amqp.declare) => errors,
        };
        let still_there = connection.status().connected();
        self.state.send_modify(|state| {
            for error_text in errors.iter().filter(|error_text| !state.errors.contains(error_text)) {
                tracing::error!(link = self.purpose, "AMQP: {error_text}");
            }
            state.was_ready |= errors.is_empty() && still_there;
            state.errors = errors;
        });
    }
}

/// The pause before round `round` + 2 over all brokers.
fn pause(round: usize) -> Duration {
    let longest = BACKOFF_MILLISECONDS[round.min(BACKOFF_MILLISECONDS.len() - 1)];
    // The low bits of a new UUID are random enough to spread routers that lost the same broker.
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

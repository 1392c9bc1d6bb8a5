//! AMQP 0-9-1 over RabbitMQ: messages in from queues, out to exchanges, answers to reply queues (design 1.6).
//!
//! Reading order: `link` (a connection that is kept up), `topology` (what must be there), `consumer` and `inbound` (in),
//! `outbound` and `publisher` (out), `properties` (what is said beside the body), `health` (what is shown).

mod acks;
mod connect;
mod consumer;
mod format;
mod health;
mod inbound;
mod link;
mod outbound;
mod properties;
mod publisher;
mod rescue;
mod topology;

pub use connect::{NotConnected, connect};
pub use health::AmqpHealth;
use health::Seen;
pub use outbound::AmqpOut;

use crate::admission::Admission;
use crate::clock::Clock;
use crate::config::Amqp as Settings;
use crate::exchange::Exchange;
use crate::metrics::Metrics;
use crate::routing::Participant;
use crate::store::Store;
use crate::supervisor::Supervisor;
use consumer::QueueConsumer;
use inbound::Intake;
use link::{Keeper, LinkState};
use publisher::Publisher;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use topology::Thing;

/// How long the consumers of a lost connection wait to learn why it was lost.
const RESCUE_WAIT: Duration = Duration::from_secs(2);

/// The broker, before anything is connected: what publishes can be handed out, what consumes comes later.
pub struct Amqp {
    settings: Arc<Settings>,
    name: String,
    publisher: Arc<Publisher>,
    inward: watch::Sender<LinkState>,
    outward: watch::Sender<LinkState>,
    things_out: watch::Sender<Vec<Thing>>,
    metrics: Metrics,
}

/// AMQP at work.
pub struct RunningAmqp {
    pub health: AmqpHealth,
    things_out: watch::Sender<Vec<Thing>>,
    /// Never changes; a keeper whose things come to an end has nothing more to do.
    _things_in: watch::Sender<Vec<Thing>>,
    stop_in: CancellationToken,
    stop_out: CancellationToken,
    consuming: JoinHandle<()>,
    keepers: [JoinHandle<()>; 2],
}

impl Amqp {
    /// `name`: our name in `via`, and the broker's list of connections.
    pub fn new(settings: Settings, name: String, metrics: Metrics) -> Amqp {
        let outward = watch::Sender::new(LinkState::default());
        Amqp {
            settings: Arc::new(settings),
            name,
            publisher: Arc::new(Publisher::new(outward.subscribe())),
            inward: watch::Sender::new(LinkState::default()),
            outward,
            things_out: watch::Sender::new(Vec::new()),
            metrics,
        }
    }

    pub fn out(&self, store: Store, clock: Clock) -> AmqpOut {
        let answer_queue = self.settings.answer_queue.clone();
        AmqpOut::new(self.publisher.clone(), store, answer_queue, self.name.clone(), clock, self.metrics.clone())
    }

    /// Connects in the background and consumes; what is not there yet is waited for.
    pub fn start(
        self,
        exchange: Arc<Exchange>,
        participants: &[Arc<Participant>],
        body_limit_bytes: usize,
        admission: Admission,
        supervisor: &Supervisor,
    ) -> RunningAmqp {
        let (stop_in, stop_out) = (self.publisher.stop.clone(), CancellationToken::new());
        self.things_out.send_replace(topology::outbound(participants));
        let keeper =
            |purpose, state: &watch::Sender<LinkState>, things, doubt: &Arc<Notify>, stop: &CancellationToken| Keeper {
                purpose,
                name: self.name.clone(),
                amqp: self.settings.clone(),
                things,
                state: state.clone(),
                doubt: doubt.clone(),
                stop: stop.clone(),
            };
        let things_in = watch::Sender::new(topology::inbound(&self.settings));
        let doubt_in = Arc::default();
        let out = keeper("out", &self.outward, self.things_out.subscribe(), &self.publisher.doubt, &stop_out);
        // The inward link outlasts its consumers: what they have under way is acknowledged on it.
        let inward = keeper("in", &self.inward, things_in.subscribe(), &doubt_in, &stop_out);
        let queues = self.settings.inbound_queues.iter().chain([&self.settings.answer_queue]);
        let queues: Arc<[Arc<Seen>]> = queues.map(|queue| Arc::new(Seen::new(queue))).collect();
        let health = AmqpHealth::new(
            self.settings.clone(),
            [self.inward.subscribe(), self.outward.subscribe()],
            self.publisher.clone(),
            queues.clone(),
            self.metrics.clone(),
        );
        let intake = Arc::new(Intake {
            exchange,
            publisher: self.publisher,
            amqp: self.settings.clone(),
            body_limit_bytes,
            company: Arc::default(),
            settled: Default::default(),
            admission,
        });
        let consumers =
            Consumers { intake, queues, link: self.inward.subscribe(), doubt: doubt_in, stop: stop_in.clone() };
        let keepers = [
            supervisor.spawn("amqp link in", stop_out.clone(), inward.run()),
            supervisor.spawn("amqp link out", stop_out.clone(), out.run()),
        ];
        let consuming = supervisor.spawn("amqp consumers", stop_in.clone(), consumers.run());
        supervisor.spawn("amqp health", stop_out.clone(), health.clone().watch(stop_out.clone()));
        RunningAmqp {
            health,
            things_out: self.things_out,
            _things_in: things_in,
            stop_in,
            stop_out,
            consuming,
            keepers,
        }
    }
}

impl RunningAmqp {
    /// Other participants: what they need is declared.
    pub fn reload(&self, participants: &[Arc<Participant>]) {
        self.things_out.send_replace(topology::outbound(participants));
    }

    /// Takes no more messages; returns when those under way are kept and acknowledged, or their time is up.
    pub async fn stop_consuming(&mut self) {
        self.stop_in.cancel();
        // A task that panicked has nothing more under way.
        let _ = (&mut self.consuming).await;
    }

    /// Closes the connections.
    pub async fn stop(self) {
        self.stop_out.cancel();
        for keeper in self.keepers {
            let _ = keeper.await;
        }
    }
}

/// The consumers of all queues, begun anew with each connection.
struct Consumers {
    intake: Arc<Intake>,
    queues: Arc<[Arc<Seen>]>,
    link: watch::Receiver<LinkState>,
    doubt: Arc<Notify>,
    stop: CancellationToken,
}

impl Consumers {
    async fn run(mut self) {
        let (mut last, mut unreadable) = (0, 0);
        loop {
            let connection = tokio::select! {
                () = self.stop.cancelled() => return,
                state = self.link.wait_for(|state| state.connection.is_some() && state.connects > last) => match state {
                    Ok(state) => {
                        last = state.connects;
                        state.connection.clone()
                    }
                    Err(_) => return,
                },
            };
            let Some(connection) = connection else { continue };
            let mut consumers = JoinSet::new();
            for seen in self.queues.iter() {
                let consumer = QueueConsumer {
                    intake: self.intake.clone(),
                    queue: seen.queue.clone(),
                    prefetch: self.intake.amqp.prefetch,
                    seen: seen.clone(),
                    doubt: self.doubt.clone(),
                    stop: self.stop.clone(),
                };
                consumers.spawn(consumer.run(connection.clone()));
            }
            consumers.join_all().await;
            if self.stop.is_cancelled() {
                return;
            }
            unreadable = self.rescue(last, unreadable).await;
        }
    }

    /// Puts a message out of the way that the client could not read, and that ended the connection. Where the queues are
    /// somebody else's, the broker might drop what is rejected: then it is left. `connects`: which connection was lost;
    /// `known`: how many were lost so before. Returns how many are known now.
    async fn rescue(&mut self, connects: u64, known: u64) -> u64 {
        // The link learns of the end of its connection a moment after the consumers.
        let lost = self.link.wait_for(|state| state.connection.is_none() || state.connects > connects);
        let state = match tokio::time::timeout(RESCUE_WAIT, lost).await {
            Ok(Ok(state)) if state.unreadable > known => state.clone(),
            _ => return known,
        };
        let amqp = &self.intake.amqp;
        let broker = amqp.urls.iter().find(|url| Some(url.to_string()) == state.broker);
        let Some(broker) = broker.filter(|_| amqp.declare) else { return state.unreadable };
        for seen in self.queues.iter() {
            match rescue::reject_unreadable(broker, &seen.queue, amqp.prefetch.saturating_add(1)).await {
                Ok(true) => tracing::error!(queue = %seen.queue,
                    "AMQP: a message with a property that is no UTF-8 text was dead-lettered by the broker"),
                Ok(false) => {}
                Err(why) => tracing::error!(queue = %seen.queue, why, "AMQP: a message that cannot be read stays"),
            }
        }
        state.unreadable
    }
}

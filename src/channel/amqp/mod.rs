//! AMQP 0-9-1 over RabbitMQ: messages in from queues, out to exchanges, answers to reply queues.
//!
//! Reading order: `link` (a connection that is kept up), `socket` (TCP and TLS), `attempt` (ends a connection that nobody
//! waits for), `topology` (the queues and exchanges), `consumer` and `inbound` (in), `outbound` and `publisher` (out),
//! `properties` (metadata besides the body), `health` (status for operators), `unreadable` (messages that the client
//! library cannot decode).

mod acks;
mod attempt;
mod connect;
mod consumer;
mod format;
mod health;
mod inbound;
mod link;
mod outbound;
mod properties;
mod publisher;
mod socket;
mod topology;
mod unreadable;

pub use connect::{NotConnected, connect};
pub use health::AmqpHealth;
use health::ConsumerStatus;
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
use link::{LinkState, LinkTask};
use publisher::Publisher;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use topology::Entity;

/// How long the consumers of a lost connection wait for the reason.
const LOST_REASON_TIMEOUT: Duration = Duration::from_secs(2);

/// AMQP before it connects: the publishing side can be handed out already; consuming starts with `start`.
pub struct Amqp {
    settings: Arc<Settings>,
    name: String,
    publisher: Arc<Publisher>,
    inward: watch::Sender<LinkState>,
    outward: watch::Sender<LinkState>,
    entities_out: watch::Sender<Vec<Entity>>,
    metrics: Metrics,
}

/// AMQP once it is started.
pub struct RunningAmqp {
    pub health: AmqpHealth,
    entities_out: watch::Sender<Vec<Entity>>,
    /// Never changes; a link_task whose entities come to an end has nothing more to do.
    _things_in: watch::Sender<Vec<Entity>>,
    stop_in: CancellationToken,
    stop_out: CancellationToken,
    consuming: JoinHandle<()>,
    link_tasks: [JoinHandle<()>; 2],
}

impl Amqp {
    /// `name`: our name in `via`, and in the broker's list of connections.
    pub fn new(settings: Settings, name: String, metrics: Metrics) -> Amqp {
        let outward = watch::Sender::new(LinkState::default());
        Amqp {
            settings: Arc::new(settings),
            name,
            publisher: Arc::new(Publisher::new(outward.subscribe())),
            inward: watch::Sender::new(LinkState::default()),
            outward,
            entities_out: watch::Sender::new(Vec::new()),
            metrics,
        }
    }

    pub fn out(&self, store: Store, clock: Clock) -> AmqpOut {
        let answer_queue = self.settings.answer_queue.clone();
        AmqpOut::new(self.publisher.clone(), store, answer_queue, self.name.clone(), clock, self.metrics.clone())
    }

    /// Connects in the background and consumes; brokers and queues that are not available yet are retried.
    pub fn start(
        self,
        exchange: Arc<Exchange>,
        participants: &[Arc<Participant>],
        body_limit_bytes: usize,
        admission: Admission,
        supervisor: &Supervisor,
    ) -> RunningAmqp {
        let (stop_in, stop_out) = (self.publisher.stop.clone(), CancellationToken::new());
        self.entities_out.send_replace(topology::outbound(participants));
        let link_task =
            |purpose, state: &watch::Sender<LinkState>, entities, recheck: &Arc<Notify>, stop: &CancellationToken| {
                LinkTask {
                    purpose,
                    name: self.name.clone(),
                    amqp: self.settings.clone(),
                    entities,
                    state: state.clone(),
                    recheck: recheck.clone(),
                    stop: stop.clone(),
                }
            };
        let entities_in = watch::Sender::new(topology::inbound(&self.settings));
        let recheck_in = Arc::default();
        let out = link_task("out", &self.outward, self.entities_out.subscribe(), &self.publisher.recheck, &stop_out);
        // The inward link outlives its consumers: their messages in progress are acknowledged on it.
        let inward = link_task("in", &self.inward, entities_in.subscribe(), &recheck_in, &stop_out);
        let queues = self.settings.inbound_queues.iter().chain([&self.settings.answer_queue]);
        let queues: Arc<[Arc<ConsumerStatus>]> = queues.map(|queue| Arc::new(ConsumerStatus::new(queue))).collect();
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
            try_lock: Arc::default(),
            settled: Default::default(),
            admission,
        });
        let consumers =
            Consumers { intake, queues, link: self.inward.subscribe(), recheck: recheck_in, stop: stop_in.clone() };
        let link_tasks = [
            supervisor.spawn("amqp link in", stop_out.clone(), inward.run()),
            supervisor.spawn("amqp link out", stop_out.clone(), out.run()),
        ];
        let consuming = supervisor.spawn("amqp consumers", stop_in.clone(), consumers.run());
        supervisor.spawn("amqp health", stop_out.clone(), health.clone().watch(stop_out.clone()));
        RunningAmqp {
            health,
            entities_out: self.entities_out,
            _things_in: entities_in,
            stop_in,
            stop_out,
            consuming,
            link_tasks,
        }
    }
}

impl RunningAmqp {
    /// Declares what the new participants need.
    pub fn reload(&self, participants: &[Arc<Participant>]) {
        self.entities_out.send_replace(topology::outbound(participants));
    }

    /// Accepts no more messages; returns when those in progress are stored and acknowledged, or after a timeout.
    pub async fn stop_consuming(&mut self) {
        self.stop_in.cancel();
        // A task that panicked has nothing left in progress.
        let _ = (&mut self.consuming).await;
    }

    /// Closes the connections.
    pub async fn stop(self) {
        self.stop_out.cancel();
        for link_task in self.link_tasks {
            let _ = link_task.await;
        }
    }
}

/// The consumers of all queues, restarted with each connection.
struct Consumers {
    intake: Arc<Intake>,
    queues: Arc<[Arc<ConsumerStatus>]>,
    link: watch::Receiver<LinkState>,
    recheck: Arc<Notify>,
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
                    recheck: self.recheck.clone(),
                    stop: self.stop.clone(),
                };
                consumers.spawn(consumer.run(connection.clone()));
            }
            consumers.join_all().await;
            if self.stop.is_cancelled() {
                return;
            }
            unreadable = self.reject_unreadable(last, unreadable).await;
        }
    }

    /// Has the broker dead-letter a message that the client library could not decode and that ended the connection. Not
    /// if the queues are declared elsewhere, because the broker might then drop what is rejected. `connects`: which
    /// connection was lost; `known`: how many were lost this way before. Returns the number that is known now.
    async fn reject_unreadable(&mut self, connects: u64, known: u64) -> u64 {
        // The link learns that its connection ended a moment after the consumers do.
        let lost = self.link.wait_for(|state| state.connection.is_none() || state.connects > connects);
        let state = match tokio::time::timeout(LOST_REASON_TIMEOUT, lost).await {
            Ok(Ok(state)) if state.unreadable > known => state.clone(),
            _ => return known,
        };
        let amqp = &self.intake.amqp;
        let broker = amqp.urls.iter().find(|url| Some(url.to_string()) == state.broker);
        let Some(broker) = broker.filter(|_| amqp.declare) else { return state.unreadable };
        for seen in self.queues.iter() {
            match unreadable::reject_unreadable(broker, &seen.queue, amqp.prefetch.saturating_add(1)).await {
                Ok(true) => tracing::error!(queue = %seen.queue,
                    "AMQP: a message with a property that is not valid UTF-8 was dead-lettered by the broker"),
                Ok(false) => {}
                Err(why) => {
                    tracing::error!(queue = %seen.queue, why, "AMQP: a message that cannot be decoded stays in the queue")
                }
            }
        }
        state.unreadable
    }
}

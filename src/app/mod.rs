//! Connects all parts: `start` builds a running router from a configuration, and `serve` is the command around it.
//!
//! Only this module knows every part, and no part imports it. Stopping is the reverse of starting, each step with a
//! timeout: accept no more messages, let attempts end, release waiting senders, close the store.

mod archive;
mod descriptors;
mod health;
mod reload;
mod serve;
mod upkeep;

pub use reload::build_rules;
pub use serve::{ServeOptions, serve};

use self::archive::Archiver;
use crate::admin::{self, Admin};
use crate::admission::Admission;
use crate::channel::ChannelTransport;
use crate::channel::amqp::{Amqp, RunningAmqp};
use crate::channel::edge::{self, EdgeSettings};
use crate::channel::http_in::{self, HttpIn, ServeSettings};
use crate::channel::http_out::{HttpOut, Pooling};
use crate::channel::metadata;
use crate::clock::Clock;
use crate::config::Config;
use crate::courier::{Courier, CourierSettings, Handle};
use crate::exchange::{Exchange, Settings};
use crate::metrics::Metrics;
use crate::replay::Replays;
use crate::security::Credentials;
use crate::store::{OpenError, Store, StoreSettings, Unavailable};
use crate::supervisor::Supervisor;
use arc_swap::ArcSwap;
use axum::Router;
use fhir::header::Bounds;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use validation::definition::Definitions;

/// After the grace period, this long at most to close connections.
const CLOSE_MILLISECONDS: u64 = 500;
/// Writes that are queued must be committed within this time; a store that hangs is abandoned.
const STORE_CLOSE_SECONDS: u64 = 2;

/// Why the router did not start, as a sentence (exit code 2).
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}; is another program there?")]
    Listen { address: String, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("the store failed at start: {0}")]
    Read(#[from] Unavailable),
    #[error("{0}")]
    Configuration(String),
}

/// A running router.
pub struct Running {
    pub address: SocketAddr,
    pub base_url: String,
    pub exchange: Arc<Exchange>,
    amqp: Option<RunningAmqp>,
    /// Reports when a part ends unexpectedly; the router must be stopped then.
    pub supervisor: Supervisor,
    /// The configuration in force: that of the start, with later reloads.
    config: ArcSwap<Config>,
    credentials: Arc<ArcSwap<Credentials>>,
    signals: StopSignals,
    http: JoinHandle<()>,
    courier: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

/// The tokens that are canceled in this order when the router stops.
#[derive(Clone, Default)]
struct StopSignals {
    /// The router is about to stop: readiness reports it.
    leaving: CancellationToken,
    /// No new messages and no new attempts.
    stopping: CancellationToken,
    /// No new connections, including health checks.
    closing: CancellationToken,
}

/// Starts a router. The caller has checked `definitions`.
pub async fn start(config: &Config, definitions: Definitions, clock: Clock) -> Result<Running, StartError> {
    clock.check().map_err(StartError::Configuration)?;
    let descriptors = descriptors::raise();
    let listen = config.server.listen.to_string();
    let cannot_listen = |source| StartError::Listen { address: listen.clone(), source };
    let listener = TcpListener::bind(&listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let mut config = config.clone();
    config.set_bound_address(address);
    let config = &config;
    let base_url = config.server.base_url.clone();
    let (supervisor, signals) = (Supervisor::default(), StopSignals::default());
    let store = Store::open_supervised(store_settings(config), clock.clone(), &supervisor).await?;
    let metrics = Metrics::default();
    let (handle, inbox) = Handle::new();
    let rules = build_rules(config, definitions, &base_url).map_err(StartError::Configuration)?;
    let participants = rules.table.participants.clone();
    let carried_to = rules.table.carried_to();
    let credentials = reload::credentials(config, &participants, &base_url).map_err(StartError::Configuration)?;
    let credentials = Arc::new(ArcSwap::from_pointee(credentials));
    let settings = settings(config);
    let http = HttpOut::new(store.clone(), settings.name.clone(), clock.clone(), pooling(config))
        .map_err(|error| StartError::Configuration(format!("cannot set up TLS towards receivers: {error}")))?;
    let amqp = config.amqp.clone().map(|amqp| Amqp::new(amqp, settings.name.clone(), metrics.clone()));
    let out = amqp.as_ref().map(|amqp| amqp.out(store.clone(), clock.clone()));
    let exchange = Exchange::new(store.clone(), handle, rules, clock.clone(), metrics.clone(), settings);
    let ruled = exchange.clone();
    let is_owner = Box::new(move |id: &str, address: &str| ruled.rules.load().table.is_owner(id, address));
    let transport = ChannelTransport { http, amqp: out, clock: clock.clone(), is_owner };
    upkeep::limit_waits(&store, &carried_to).await?;
    let courier = Courier::run(
        inbox,
        CourierSettings {
            participants: carried_to,
            paused: store.paused().await?,
            memory_bytes: config.server.courier_memory_bytes,
            store: store.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            transport: Arc::new(transport),
            settler: exchange.settler.clone(),
            stop: signals.stopping.clone(),
            grace: Duration::from_secs(config.server.shutdown_grace_seconds),
        },
    );
    let admission = Admission::new(config.server.max_in_flight, config.server.max_in_flight_bytes);
    let courier = supervisor.spawn("courier", signals.stopping.clone(), courier);
    let amqp = amqp.map(|amqp| {
        amqp.start(exchange.clone(), &participants, config.server.body_limit_bytes, admission.clone(), &supervisor)
    });
    let replays = Replays::start(exchange.clone(), signals.stopping.clone(), &supervisor);
    let archiver = Archiver::new(config.retention.archive_dir.clone(), metrics.clone());
    let retention = config.retention.clone();
    let upkeep = upkeep::run(store, clock.clone(), retention, metrics, archiver, signals.stopping.clone());
    let upkeep = supervisor.spawn("retention", signals.stopping.clone(), upkeep);
    let health = health::routes(
        exchange.clone(),
        credentials.clone(),
        amqp.as_ref().map(|amqp| amqp.health.clone()),
        signals.leaving.clone(),
        supervisor.clone(),
        admission.clone(),
    );
    let router = router(config, &exchange, &credentials, (replays, admission), health, &signals.stopping);
    let connections = ServeSettings::new(descriptors::connections(config.server.max_connections, descriptors));
    let http = http_in::serve(listener, router, connections, signals.stopping.clone(), signals.closing.clone());
    let http = supervisor.spawn("listener", signals.closing.clone(), http);
    let config = ArcSwap::from_pointee(config.clone());
    Ok(Running { address, base_url, exchange, amqp, supervisor, config, credentials, signals, http, courier, upkeep })
}

fn settings(config: &Config) -> Settings {
    Settings {
        base_url: config.server.base_url.clone(),
        name: config.server.name.clone(),
        answer_timeout: Duration::from_millis(config.server.answer_timeout_ms),
        max_waiting: config.server.max_waiting,
        fhir_version: config.server.fhir_version,
        bounds: Bounds {
            text_bytes: config.server.address_limit_bytes,
            destinations: config.server.destinations_limit,
        },
    }
}

fn pooling(config: &Config) -> Pooling {
    Pooling {
        idle: Duration::from_secs(config.server.pool_idle_seconds),
        age: Duration::from_secs(config.server.connection_age_seconds),
    }
}

fn store_settings(config: &Config) -> StoreSettings {
    StoreSettings {
        url: config.store.url.clone(),
        min_free_bytes: config.store.min_free_bytes,
        identities_days: config.retention.identities_days,
    }
}

fn router(
    config: &Config,
    exchange: &Arc<Exchange>,
    credentials: &Arc<ArcSwap<Credentials>>,
    (replays, admission): (Replays, Admission),
    health: Router,
    stopping: &CancellationToken,
) -> Router {
    let http = HttpIn::new(
        exchange.clone(),
        credentials.clone(),
        admission,
        config.server.trusted_proxies.clone().into(),
        config.server.body_limit_bytes,
        stopping.clone(),
    );
    let base_url = exchange.settings.base_url.clone();
    let fhir =
        http.routes().merge(metadata::routes(exchange.clone(), base_url.clone(), config.retention.identities_days));
    let admin = Admin {
        exchange: exchange.clone(),
        security: credentials.clone(),
        replays,
        node_name: exchange.settings.name.clone(),
        started_at_us: exchange.clock.now_us(),
        body_limit_bytes: config.server.body_limit_bytes,
    };
    let router = Router::new().merge(admin::router(admin)).merge(health).fallback(http_in::nothing_here);
    let base_path = base_path(&base_url);
    let routes = match base_path {
        "" => router.merge(fhir),
        path => router.nest(path, fhir),
    };
    let cors_origins = config.server.cors_origins.clone();
    edge::around(
        routes,
        EdgeSettings { credentials: credentials.clone(), base_path: base_path.to_owned(), cors_origins },
    )
}

/// The path of the FHIR base, without a trailing slash; empty if the base is the host itself.
fn base_path(base_url: &str) -> &str {
    let after_scheme = base_url.find("://").map_or(0, |index| index + 3);
    let path = base_url[after_scheme..].find('/').map_or("", |index| &base_url[after_scheme + index..]);
    path.trim_end_matches('/')
}

impl Running {
    /// Applies a new configuration's participants, routes, definitions, and credentials; other changes need a restart.
    pub fn reload(&self, config: &Config, definitions: Definitions) -> Result<(), String> {
        reload::apply(self, config, definitions)
    }

    /// Drains within `shutdown_delay_seconds` and `shutdown_grace_seconds`: readiness turns 503; then new messages are
    /// refused and waiting senders get 202 at once; then active attempts end, and the store closes. If a part has
    /// failed, draining starts without the delay. Returns whether every part ended as requested.
    pub async fn stop(mut self) -> bool {
        let config = self.config.load_full();
        self.signals.leaving.cancel();
        let delay = Duration::from_secs(config.server.shutdown_delay_seconds);
        let _ = tokio::time::timeout(delay, self.supervisor.failure()).await;
        let deadline = Instant::now() + Duration::from_secs(config.server.shutdown_grace_seconds);
        self.signals.stopping.cancel();
        self.exchange.release_waiting();
        let consuming = async {
            if let Some(amqp) = &mut self.amqp {
                amqp.stop_consuming().await;
            }
        };
        let all = async { tokio::join!(consuming, &mut self.courier, &mut self.upkeep) };
        if timeout_at(deadline, all).await.is_err() {
            tracing::warn!("stopping with active deliveries; they are retried after the next start");
        }
        self.signals.closing.cancel();
        let last = deadline.max(Instant::now() + Duration::from_millis(CLOSE_MILLISECONDS));
        if timeout_at(last, &mut self.http).await.is_err() {
            tracing::warn!("some requests did not end in time; their connections are closed");
            self.http.abort();
        }
        if let Some(amqp) = self.amqp {
            let _ = tokio::time::timeout(Duration::from_millis(CLOSE_MILLISECONDS), amqp.stop()).await;
        }
        self.courier.abort();
        let _ = tokio::time::timeout(Duration::from_secs(STORE_CLOSE_SECONDS), self.exchange.store.close()).await;
        self.supervisor.failed().is_empty()
    }
}

#[cfg(test)]
mod tests;

//! Wires everything once: `start` builds a running router from a configuration, `serve` is the command around it.
//!
//! The app alone knows every part; no part knows the app. Stopping runs in the opposite order of starting, each step
//! with a bound: take no more, let attempts end, let waiting senders go, close the store.

mod health;
mod reload;
mod serve;
mod upkeep;

pub use reload::build_rules;
pub use serve::{ServeOptions, serve};

use crate::admin::{self, Admin};
use crate::channel::Carriers;
use crate::channel::amqp::{Amqp, AmqpHealth, RunningAmqp};
use crate::channel::edge::{self, EdgeSettings};
use crate::channel::http_in::{self, HttpIn};
use crate::channel::http_out::{HttpOut, Pooling};
use crate::channel::metadata;
use crate::clock::Clock;
use crate::config::Config;
use crate::courier::{Courier, CourierSettings, Handle};
use crate::exchange::{Exchange, Settings};
use crate::fhir::header::Bounds;
use crate::metrics::Metrics;
use crate::replay::Replays;
use crate::security::Credentials;
use crate::store::{OpenError, Store, StoreSettings, Unavailable};
use crate::validation::definition::Definitions;
use arc_swap::ArcSwap;
use axum::Router;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Why the router did not start: a plain sentence for exit code 2.
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

/// A router that serves.
pub struct Running {
    pub address: SocketAddr,
    pub base_url: String,
    pub exchange: Arc<Exchange>,
    amqp: Option<RunningAmqp>,
    credentials: Arc<ArcSwap<Credentials>>,
    stopping: CancellationToken,
    courier_stop: CancellationToken,
    http: JoinHandle<()>,
    courier: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

/// Starts a router. `definitions` were read and found good by the caller.
pub async fn start(config: &Config, definitions: Definitions, clock: Clock) -> Result<Running, StartError> {
    let listen = config.server.listen.to_string();
    let cannot_listen = |source| StartError::Listen { address: listen.clone(), source };
    let listener = TcpListener::bind(&listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let mut config = config.clone();
    config.bound(address);
    let config = &config;
    let base_url = config.server.base_url.clone();
    let store = Store::open(store_settings(config), clock.clone()).await?;
    let metrics = Metrics::default();
    let (handle, inbox) = Handle::new();
    let rules = build_rules(config, definitions, &base_url).map_err(StartError::Configuration)?;
    let participants = rules.table.participants.clone();
    let carried_to = rules.table.carried_to();
    let credentials = reload::credentials(config, &participants, &base_url).map_err(StartError::Configuration)?;
    let credentials = Arc::new(ArcSwap::from_pointee(credentials));
    let settings = Settings {
        base_url: base_url.clone(),
        name: config.server.name.clone(),
        answer_timeout: Duration::from_millis(config.server.answer_timeout_ms),
        max_waiting: config.server.max_waiting,
        fhir_version: config.server.fhir_version,
        bounds: Bounds {
            text_bytes: config.server.address_limit_bytes,
            destinations: config.server.destinations_limit,
        },
    };
    let http = HttpOut::new(store.clone(), settings.name.clone(), clock.clone(), pooling(config))
        .map_err(|error| StartError::Configuration(format!("cannot set up TLS towards receivers: {error}")))?;
    let amqp = config.amqp.clone().map(|amqp| Amqp::new(amqp, settings.name.clone(), metrics.clone()));
    let out = amqp.as_ref().map(|amqp| amqp.out(store.clone(), clock.clone()));
    let carrier = Carriers { http, amqp: out, clock: clock.clone() };
    let exchange = Exchange::new(store.clone(), handle, rules, clock.clone(), metrics.clone(), settings);
    let (stopping, courier_stop) = (CancellationToken::new(), CancellationToken::new());
    let courier = Courier::start(
        inbox,
        CourierSettings {
            participants: carried_to,
            paused: store.paused().await?,
            store: store.clone(),
            clock: clock.clone(),
            metrics,
            carrier: Arc::new(carrier),
            conclude: exchange.clone(),
            stop: courier_stop.clone(),
        },
    );
    let amqp = amqp.map(|amqp| amqp.start(exchange.clone(), &participants, config.server.body_limit_bytes));
    let replays = Replays::start(exchange.clone(), stopping.clone());
    let upkeep = tokio::spawn(upkeep::run(store, clock.clone(), config.retention.clone(), stopping.clone()));
    let amqp_health = amqp.as_ref().map(|amqp| amqp.health.clone());
    let router = router(config, &exchange, &credentials, replays, amqp_health, &stopping);
    let http = tokio::spawn(http_in::serve(listener, router, stopping.clone()));
    Ok(Running { address, base_url, exchange, amqp, credentials, stopping, courier_stop, http, courier, upkeep })
}

fn pooling(config: &Config) -> Pooling {
    Pooling {
        idle: Duration::from_secs(config.server.pool_idle_seconds),
        age: Duration::from_secs(config.server.connection_age_seconds),
    }
}

fn store_settings(config: &Config) -> StoreSettings {
    StoreSettings {
        path: config.store_path(),
        min_free_bytes: config.store.min_free_bytes,
        identities_days: config.retention.identities_days,
    }
}

fn router(
    config: &Config,
    exchange: &Arc<Exchange>,
    credentials: &Arc<ArcSwap<Credentials>>,
    replays: Replays,
    amqp: Option<AmqpHealth>,
    stopping: &CancellationToken,
) -> Router {
    let http = HttpIn::new(
        exchange.clone(),
        credentials.clone(),
        config.server.max_in_flight,
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
    let router = Router::new()
        .merge(health::routes(exchange.clone(), credentials.clone(), amqp, stopping.clone()))
        .merge(admin::router(admin))
        .fallback(http_in::nothing_here);
    let base_path = base_path(&base_url);
    let routes = match base_path {
        "" => router.merge(fhir),
        path => router.nest(path, fhir),
    };
    let cors_origins = config.server.cors_origins.clone();
    edge::around(routes, EdgeSettings { base_path: base_path.to_owned(), cors_origins })
}

/// The path of our base, without a trailing slash; empty where the base is the host itself.
fn base_path(base_url: &str) -> &str {
    let after_scheme = base_url.find("://").map_or(0, |index| index + 3);
    let path = base_url[after_scheme..].find('/').map_or("", |index| &base_url[after_scheme + index..]);
    path.trim_end_matches('/')
}

impl Running {
    /// Takes a new configuration's participants, routes, definitions and credentials; the rest needs a restart.
    pub fn reload(&self, config: &Config, definitions: Definitions) -> Result<(), String> {
        reload::apply(self, config, definitions)
    }

    /// Drains: no new messages, attempts under way end, waiting senders get 202, the store closes.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        if let Some(amqp) = &mut self.amqp {
            amqp.stop_consuming().await;
        }
        self.courier_stop.cancel();
        let _ = self.courier.await;
        self.exchange.release_waiting();
        let _ = self.http.await;
        let _ = self.upkeep.await;
        if let Some(amqp) = self.amqp {
            amqp.stop().await;
        }
        self.exchange.store.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::base_path;

    #[test]
    fn the_base_path_is_what_follows_host_and_port() {
        assert_eq!(base_path("http://127.0.0.1:8080/fhir"), "/fhir");
        assert_eq!(base_path("https://a.example/x/y/"), "/x/y");
        assert_eq!(base_path("https://a.example"), "");
    }
}

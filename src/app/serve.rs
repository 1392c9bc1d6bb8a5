//! The `serve` command: configuration, start, signals, drain, exit code.

use super::{Running, start};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Overrides};
use crate::telemetry;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use validation::definition::Definitions;

/// Flags of `serve`.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub config: Option<PathBuf>,
    pub listen: Option<String>,
    pub store_url: Option<String>,
    pub log_format: telemetry::Format,
}

/// Exit code: 0 after a stop by signal, 1 if a part of the router ended unexpectedly, 2 if the configuration is invalid
/// or the start failed.
pub async fn serve(options: ServeOptions) -> i32 {
    telemetry::log_panics();
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            telemetry::complain(&format!("cannot listen for signals: {error}"));
            return 2;
        }
    };
    let options = Arc::new(options);
    // Files may be on a disk that hangs: a stop signal is handled anyway.
    let loaded = tokio::select! {
        loaded = load_apart(options.clone()) => loaded,
        () = signals.stop() => return 0,
    };
    let (config, definitions) = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => {
            errors.iter().for_each(|error| telemetry::complain(&error.to_string()));
            return 2;
        }
    };
    match start(&config, definitions, Clock::default()).await {
        Ok(running) => {
            announce(&config, &running);
            run(running, options, signals).await
        }
        Err(error) => {
            telemetry::complain(&format!("emberpost did not start: {error}"));
            2
        }
    }
}

/// The signals that the router handles. Signals that would end a process by default, and that others use for their own
/// purposes, are ignored.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        let ignored =
            [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::pipe(), SignalKind::alarm()];
        for kind in ignored {
            // Once a signal has a listener, it no longer ends the process, whether or not the listener is used.
            drop(signal(kind)?);
        }
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns on a signal to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

type Loaded = Result<(Config, Definitions), Vec<ConfigError>>;

/// Configuration and definitions, or all errors in them.
fn load(options: &ServeOptions) -> Loaded {
    let overrides = Overrides { listen: options.listen.clone(), store_url: options.store_url.clone() };
    let config = Config::open(options.config.as_deref(), &overrides)?;
    let (definitions, errors) = config.load_definitions(&[]);
    if errors.is_empty() { Ok((config, definitions)) } else { Err(errors) }
}

/// As `load`, on a thread where it blocks nothing else.
async fn load_apart(options: Arc<ServeOptions>) -> Loaded {
    let loaded = tokio::task::spawn_blocking(move || load(&options)).await;
    loaded.unwrap_or_else(|_| {
        let text = "a defect in the router stopped reading it; please report it".to_owned();
        Err(vec![ConfigError { location: "configuration".into(), text }])
    })
}

/// Runs until a signal or a failure; the exit code.
async fn run(running: Running, options: Arc<ServeOptions>, mut signals: Signals) -> i32 {
    let mut loading = None;
    // A signal during a reload requests one more reload, however often it came.
    let mut asked = false;
    let store = running.exchange.store.clone();
    let lost = store.until_lost();
    tokio::pin!(lost);
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => match loading {
                None => loading = Some(Box::pin(load_apart(options.clone()))),
                Some(_) => asked = true,
            },
            loaded = read(&mut loading) => {
                apply(&running, loaded);
                loading = std::mem::take(&mut asked).then(|| Box::pin(load_apart(options.clone())));
            }
            reason = &mut lost => {
                tracing::error!("the store is lost: {reason}");
                running.supervisor.fail("store");
                break;
            }
            () = running.supervisor.failure() => break,
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    tracing::info!("stopping: no new messages are accepted");
    let parts_are_well = running.stop().await;
    tracing::info!("stopped");
    i32::from(!parts_are_well)
}

/// The reload in progress, if any.
async fn read<F: Future<Output = Loaded> + Unpin>(loading: &mut Option<F>) -> Loaded {
    match loading {
        Some(loading) => loading.await,
        None => std::future::pending().await,
    }
}

/// If the new files have errors, the old configuration stays in force, and the errors are logged.
fn apply(running: &Running, loaded: Loaded) {
    let applied = loaded.and_then(|(config, definitions)| {
        let wrong = |text| vec![ConfigError { location: "configuration".into(), text }];
        running.reload(&config, definitions).map_err(wrong).map(|()| config)
    });
    match applied {
        Ok(config) => {
            tracing::info!("participants, routes, and definitions were reloaded");
            warn(&config, running);
        }
        Err(errors) => {
            for error in errors {
                tracing::error!(%error, "not reloaded; the old configuration stays in force");
            }
        }
    }
}

fn announce(config: &Config, running: &Running) {
    tracing::info!(
        base_url = running.base_url, listen = %running.address, store = %config.store.url,
        participants = running.exchange.rules.load().table.participants.len(), "emberpost {} serves", env!("CARGO_PKG_VERSION")
    );
    warn(config, running);
}

/// Logs the notices for the person who runs the router.
fn warn(config: &Config, running: &Running) {
    let rules = running.exchange.rules.load();
    for notice in config.notices().iter().chain(&rules.definitions.notices) {
        tracing::warn!("{notice}");
    }
}

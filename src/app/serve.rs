//! The `serve` command: configuration, start, signals, drain, exit code.

use super::{Running, start};
use crate::clock::Clock;
use crate::config::{Config, Mistake, Overrides};
use crate::validation::definition::Definitions;
use std::path::PathBuf;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Flags of `serve`.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub config: Option<PathBuf>,
    pub listen: Option<String>,
    pub store_url: Option<String>,
    pub log_format: crate::telemetry::Format,
}

/// Exit code: 0 after a stop by signal, 1 where a part failed while it ran, 2 where configuration or start failed.
pub async fn serve(options: ServeOptions) -> i32 {
    let (config, definitions) = match load(&options) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("{mistake}");
            }
            return 2;
        }
    };
    let signals = signal(SignalKind::hangup())
        .and_then(|hangup| Ok((hangup, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)));
    let (hangup, terminate, interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("cannot listen for signals: {error}");
            return 2;
        }
    };
    match start(&config, definitions, Clock::default()).await {
        Ok(running) => {
            announce(&config, &running);
            run(running, &options, hangup, terminate, interrupt).await
        }
        Err(error) => {
            eprintln!("emberpost did not start: {error}");
            2
        }
    }
}

/// Configuration and definitions, or every mistake in them.
fn load(options: &ServeOptions) -> Result<(Config, Definitions), Vec<Mistake>> {
    let overrides = Overrides { listen: options.listen.clone(), store_url: options.store_url.clone() };
    let config = Config::open(options.config.as_deref(), &overrides)?;
    let (definitions, mistakes) = config.load_definitions(&[]);
    if mistakes.is_empty() { Ok((config, definitions)) } else { Err(mistakes) }
}

async fn run(
    running: Running,
    options: &ServeOptions,
    mut hangup: Signal,
    mut terminate: Signal,
    mut interrupt: Signal,
) -> i32 {
    let store = running.exchange.store.clone();
    let lost = store.until_lost();
    tokio::pin!(lost);
    let code = loop {
        tokio::select! {
            _ = hangup.recv() => reload(&running, options),
            _ = terminate.recv() => break 0,
            _ = interrupt.recv() => break 0,
            reason = &mut lost => {
                tracing::error!("the store is lost: {reason}");
                break 1;
            }
        }
    };
    tracing::info!("stopping: no new messages are taken");
    running.stop().await;
    tracing::info!("stopped");
    code
}

/// A mistake in the new files keeps the old ones running and says so.
fn reload(running: &Running, options: &ServeOptions) {
    let loaded = load(options).and_then(|(config, definitions)| {
        let wrong = |text| vec![Mistake { place: "configuration".into(), text }];
        running.reload(&config, definitions).map_err(wrong).map(|()| config)
    });
    match loaded {
        Ok(config) => {
            tracing::info!("participants, routes and definitions were read again");
            warn(&config, running);
        }
        Err(mistakes) => {
            for mistake in mistakes {
                tracing::error!(%mistake, "not reloaded; the old configuration goes on");
            }
        }
    }
}

fn announce(config: &Config, running: &Running) {
    tracing::info!(
        base_url = running.base_url, listen = %running.address, store = %config.store_path().display(),
        participants = running.exchange.rules.load().table.participants.len(), "emberpost {} serves", env!("CARGO_PKG_VERSION")
    );
    warn(config, running);
}

/// What whoever runs this should read.
fn warn(config: &Config, running: &Running) {
    let rules = running.exchange.rules.load();
    for notice in config.notices().iter().chain(&rules.definitions.notices) {
        tracing::warn!("{notice}");
    }
}

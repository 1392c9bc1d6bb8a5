//! What SIGHUP reads again: participants, routes, definitions, credentials.

use super::Running;
use crate::config::{self, Config, UnknownEvents};
use crate::exchange::Rules;
use crate::routing::Participant;
use crate::security::{Credentials, Operator, Role};
use std::sync::Arc;
use validation::Checks;
use validation::definition::Definitions;

/// The rules that a configuration defines; errs with all errors, one per line.
pub fn build_rules(config: &Config, definitions: Definitions, base_url: &str) -> Result<Rules, String> {
    let table = config
        .table(base_url)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let checks = Checks {
        level: config.validation.level,
        prose_rules: config.validation.prose_rules,
        take_unknown_events: config.definitions.unknown_events == UnknownEvents::Route,
        now_us: 0,
    };
    let requires_credentials = !config.operators.is_empty() || table.has_credentials();
    Ok(Rules { table, definitions, checks, requires_credentials, on_failure: config.validation.on_failure })
}

pub(super) fn credentials(
    config: &Config,
    participants: &[Arc<Participant>],
    base_url: &str,
) -> Result<Credentials, String> {
    let operators = config.operators.iter().map(|operator| Operator {
        name: operator.name.clone(),
        token_sha256: operator.token_sha256.clone(),
        role: match operator.role {
            config::Role::Viewer => Role::Viewer,
            config::Role::Operator => Role::Operator,
        },
    });
    let credentials = Credentials::new(participants, operators.collect(), base_url);
    let credentials = credentials.map_err(|errors| errors.join("\n"))?;
    Ok(credentials.with_origins(&config.server.cors_origins))
}

pub(super) fn apply(running: &Running, config: &Config, definitions: Definitions) -> Result<(), String> {
    config.check_reload(&running.config.load()).map_err(|error| error.to_string())?;
    // The socket stays as it was bound at the start, whatever address the new configuration has.
    if !running.address.ip().is_loopback() && !config.has_credentials() {
        let text = format!(
            "the router listens on {}, which is not a loopback address, and the new configuration has no credential; give a participant or \
             an operator a token_sha256, or restart on a loopback address",
            running.address
        );
        return Err(text);
    }
    let rules = build_rules(config, definitions, &running.base_url)?;
    let credentials = credentials(config, &rules.table.participants, &running.base_url)?;
    let participants = rules.table.carried_to();
    running.credentials.store(Arc::new(credentials));
    running.exchange.rules.store(Arc::new(rules));
    if let Some(amqp) = &running.amqp {
        amqp.reload(&participants);
    }
    running.exchange.courier.reload(participants);
    // Settings that need a restart stay as they are.
    let mut config = config.clone();
    config.server = running.config.load().server.clone();
    running.config.store(Arc::new(config));
    Ok(())
}

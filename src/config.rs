//! Configuration: `default.toml`, then the file, then `EMBERPOST__SECTION__KEY` variables, then flags, checked as a
//! whole.
//!
//! All errors are reported at once, each with its location. Nothing is opened, bound, or written here; the only effect
//! is reading files. Tokens are configured by their SHA-256 only, and not even that is printed.

mod broker;
mod built_in_definitions;
mod choices;
mod definition_files;
mod entries;
mod keys;
mod regular_file;
mod section;
mod sections;
mod setting;

pub use broker::{Amqp, BrokerUrl, DEAD_LETTERS, is_queue_or_its_dead_letters};
pub use regular_file::read_text as read_regular_text;

use crate::routing::{Conflict, Entry, Participant, Route, Table};
use crate::secret::Secret;
use crate::store_url::StoreUrl;
use fhir::FhirVersion;
use section::Errors;
use setting::{Setting, Settings, Value};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use validation::{Level, OnFailure, ProseRules};

/// The defaults, which are also the manual.
pub const DEFAULT_TOML: &str = include_str!("default.toml");
/// Read from the working directory if it exists and no other file is named.
pub const DEFAULT_FILE: &str = "emberpost.toml";
/// A configuration is written by hand; anything larger is some other file.
const FILE_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// An error in the configuration: its location (`file:line`, a variable, a flag) and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub location: String,
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.text)
    }
}

/// Values of command-line flags, which override everything else.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
    /// `--store`
    pub store_url: Option<String>,
}

/// The complete, checked configuration. Fields have the names of the keys in `default.toml`, which explains them.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    pub store: Store,
    pub retention: Retention,
    /// None if AMQP is not configured.
    pub amqp: Option<Amqp>,
    pub definitions: Definitions,
    pub validation: Validation,
    pub participants: Vec<Participant>,
    pub operators: Vec<Operator>,
    pub routes: Vec<Route>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Whether the built-in definitions applied when this was read, because there was no folder of definitions.
    used_built_in_definitions: bool,
    locations: Locations,
}

#[derive(Clone, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    /// Without a trailing slash.
    pub base_url: String,
    pub name: String,
    pub body_limit_bytes: usize,
    pub answer_timeout_ms: u64,
    pub max_in_flight: usize,
    pub max_in_flight_bytes: u64,
    /// 0: derived from the limit of file descriptors.
    pub max_connections: usize,
    pub max_waiting: usize,
    /// Version of messages that do not name theirs.
    pub fhir_version: FhirVersion,
    /// Origins whose pages in a browser may call, as `https://app.example.org`; none by default.
    pub cors_origins: Vec<String>,
    pub address_limit_bytes: usize,
    pub destinations_limit: usize,
    pub pool_idle_seconds: u64,
    pub connection_age_seconds: u64,
    pub shutdown_delay_seconds: u64,
    pub shutdown_grace_seconds: u64,
    pub trusted_proxies: Vec<IpAddr>,
    pub courier_memory_bytes: usize,
    base_url_is_set: bool,
    name_is_set: bool,
}

#[derive(Clone, Debug)]
pub struct Store {
    pub url: StoreUrl,
    pub min_free_bytes: u64,
}

/// In days; 0 means forever.
#[derive(Clone, Debug)]
pub struct Retention {
    pub bodies_days: u32,
    /// For bodies of messages with a dead letter, counted from the end of that delivery.
    pub dead_letters_days: u32,
    pub traces_days: u32,
    /// Never 0.
    pub identities_days: u32,
    /// Where what is deleted is archived before. None: nowhere.
    pub archive_dir: Option<PathBuf>,
    /// 0: no limit.
    pub store_limit_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct Definitions {
    pub paths: Vec<PathBuf>,
    pub unknown_events: UnknownEvents,
    pub fan_out: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownEvents {
    Reject,
    Route,
}

#[derive(Clone, Debug)]
pub struct Validation {
    pub level: Level,
    pub on_failure: OnFailure,
    pub prose_rules: ProseRules,
}

/// A person or program that operates the router, identified by a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    pub name: String,
    /// Lower-case hex; at least one.
    pub token_sha256: Vec<Secret>,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May see traces.
    Viewer,
    /// May also see content, retry, replay, and pause.
    Operator,
}

/// Where settings were written, for errors that are found later.
#[derive(Clone, Debug, Default)]
struct Locations {
    listen: String,
    definition_paths: String,
    /// One for each of `participants` and `routes`.
    participants: Vec<String>,
    routes: Vec<String>,
}

impl Config {
    /// Reads the configuration for a command: `--config`, or `emberpost.toml` if it exists, and this process's
    /// variables.
    pub fn open(config: Option<&Path>, overrides: &Overrides) -> Result<Config, Vec<ConfigError>> {
        let path = config.unwrap_or(Path::new(DEFAULT_FILE));
        let errors = Errors::default();
        // A variable whose name is not UTF-8 cannot be ours, because our names are ASCII. One whose value is not UTF-8
        // is an error.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(setting::VARIABLE_PREFIX))?;
            let value = value.into_string();
            value
                .map_err(|_| errors.report(&name, "the variable's value is not UTF-8 text"))
                .ok()
                .map(|value| (name, value))
        });
        let variables: Vec<_> = variables.collect();
        match (Config::load(Some(path), config.is_some(), variables.into_iter(), overrides), errors.into_vec()) {
            (Ok(config), unreadable) if unreadable.is_empty() => Ok(config),
            (Ok(_), unreadable) => Err(unreadable),
            (Err(found), unreadable) => Err(unreadable.into_iter().chain(found).collect()),
        }
    }

    /// Reads and checks all layers. A missing file is an error only if it was named (`explicit`).
    pub fn load(
        path: Option<&Path>,
        explicit: bool,
        variables: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Config, Vec<ConfigError>> {
        let errors = Errors::default();
        let (mut settings, broken) = setting::from_toml(DEFAULT_TOML, "default.toml");
        errors.extend(broken);
        // If the file's existence cannot be checked, reading it reports why.
        let file = path.filter(|path| explicit || path.try_exists().unwrap_or(true));
        let text = file.and_then(|path| read_text(path, &errors));
        if let (Some(path), Some(text)) = (file, text) {
            let (layer, broken) = setting::from_toml(&text, &path.display().to_string());
            errors.extend(broken);
            setting::lay_over(&mut settings, layer);
        }
        let (layer, broken) = setting::from_variables(variables);
        errors.extend(broken);
        sections::lay_variables(&mut settings, layer, &errors);
        setting::lay_over(&mut settings, flags(overrides));

        let mut config = sections::config(settings, file.map(Path::to_owned), &errors);
        config.used_built_in_definitions = config.uses_built_in_definitions();
        let found = errors.into_vec();
        if found.is_empty() { Ok(config) } else { Err(found) }
    }

    /// The address that was really bound: a `base_url` and `name` that are not configured follow it (port 0 in tests).
    pub fn set_bound_address(&mut self, listen: SocketAddr) {
        self.server.listen = listen;
        if !self.server.base_url_is_set {
            self.server.base_url = format!("http://{listen}/fhir");
        }
        if !self.server.name_is_set {
            self.server.name = sections::host_and_port(&self.server.base_url).unwrap_or_else(|| listen.to_string());
        }
    }

    /// Participants and routes, indexed. Errs with all conflicts between entries.
    pub fn table(&self, base_url: &str) -> Result<Table, Vec<ConfigError>> {
        let fan_out = self.definitions.fan_out.clone();
        Table::build_or_conflicts(self.participants.clone(), self.routes.clone(), fan_out, base_url.to_owned())
            .map_err(|conflicts| conflicts.into_iter().map(|conflict| self.located(conflict)).collect())
    }

    /// Errs if a file or folder of the previous configuration is gone, so that the defaults would replace it. `before`:
    /// the configuration in force.
    pub fn check_reload(&self, before: &Config) -> Result<(), ConfigError> {
        let gone = |location: &Path, text: &str| {
            Err(ConfigError { location: location.display().to_string(), text: text.to_owned() })
        };
        if let (Some(file), None) = (&before.file, &self.file) {
            return gone(file, "the configuration file is gone; the defaults do not replace it");
        }
        if let (Some(folder), false, true) =
            (before.definitions.paths.first(), before.used_built_in_definitions, self.used_built_in_definitions)
        {
            let text = "the folder of definitions is gone; the built-in definitions do not replace it";
            return gone(folder, text);
        }
        Ok(())
    }

    /// Whether any participant or operator has a credential.
    pub fn has_credentials(&self) -> bool {
        !self.operators.is_empty() || self.participants.iter().any(|participant| !participant.token_sha256.is_empty())
    }

    /// Warnings for whoever starts the router: what is configured but not built, or works in a surprising way.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if !self.has_credentials() {
            notices.push("no credential is configured: only direct requests from loopback are served".to_owned());
        }
        if (1..self.retention.identities_days).contains(&self.retention.bodies_days) {
            let text =
                "retention.bodies_days is less than identities_days: a duplicate whose answer was dropped gets 202";
            notices.push(text.to_owned());
        }
        if let (Some(_), Some(known)) = (&self.amqp, self.participants.iter().find(|known| known.is_open_over_amqp())) {
            let text = format!(
                "participant \"{}\" has a token and no amqp_user: over AMQP, anyone who may publish to an inbound queue can send \
                 in its name",
                known.id
            );
            notices.push(text);
        }
        if self.server.max_in_flight_bytes / 2 < self.server.body_limit_bytes as u64 {
            let text = "server.max_in_flight_bytes is less than twice body_limit_bytes: one sender has half of it, so the largest \
                        bodies get 503 however often they are sent";
            notices.push(text.to_owned());
        }
        if self.uses_built_in_definitions() {
            let text =
                "definitions.paths: there is no folder message-definitions here; the built-in definitions are used";
            notices.push(text.to_owned());
        }
        if self.server.listen.ip().is_unspecified() && !self.server.base_url_is_set {
            notices.push("server.base_url is not set, and other systems cannot reach the listen address".to_owned());
        }
        notices
    }

    fn located(&self, conflict: Conflict) -> ConfigError {
        let location = match conflict.about {
            Entry::Participant(index) => self.locations.participants.get(index),
            Entry::Route(index) => self.locations.routes.get(index),
        };
        ConfigError { location: location.cloned().unwrap_or_else(|| "configuration".to_owned()), text: conflict.text }
    }
}

fn read_text(path: &Path, errors: &Errors) -> Option<String> {
    let location = path.display().to_string();
    let text = regular_file::read_text(path, FILE_LIMIT_BYTES);
    text.map_err(|error| errors.report(&location, format!("the file cannot be read: {error}"))).ok()
}

fn flags(overrides: &Overrides) -> Settings {
    let mut settings = Settings::new();
    let flags =
        [("--listen", "server", "listen", &overrides.listen), ("--store", "store", "url", &overrides.store_url)];
    for (flag, section, key, text) in flags {
        if let Some(text) = text {
            let value = Value::Text(text.clone());
            setting::put(&mut settings, section, key, Setting { location: flag.into(), value, variable_text: None });
        }
    }
    settings
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;

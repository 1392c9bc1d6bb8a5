//! Reads the sections that exist once. Participants, operators, and routes are read in `entries`.

use super::choices::{FHIR_VERSIONS, LEVELS, ON_FAILURE, PROSE_RULES, http_url};
use super::section::{Errors, Section, unknown};
use super::setting::{Setting, Settings, Value, lay_over};
use super::{Config, Definitions, Locations, Retention, Server, Store, UnknownEvents, Validation};
use super::{broker, entries, keys};
use crate::routing::Channel;
use crate::routing::address;
use crate::store_url::StoreUrl;
use fhir::FhirVersion;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use validation::{Level, OnFailure};

const UNKNOWN_EVENTS: &[(&str, UnknownEvents)] = &[("reject", UnknownEvents::Reject), ("route", UnknownEvents::Route)];

/// Sections that are lists of entries, which variables cannot set.
const LISTS: [&str; 3] = ["participant", "operator", "route"];
/// A hundred years: a larger value has the wrong unit.
const DAYS_MOST: i64 = 36_500;
const BODY_LIMIT_BYTES_MOST: i64 = 1 << 30;
const ADDRESS_LIMIT_BYTES_MOST: i64 = 1 << 20;
const DESTINATIONS_LIMIT_MOST: i64 = 1_000_000;
/// A day.
const POOL_SECONDS_MOST: i64 = 86_400;
const ANSWER_TIMEOUT_MS_MOST: i64 = 3_600_000;
/// First path segments that cannot be part of the FHIR base.
const OWN_PATHS: [&str; 4] = ["health", "metrics", "admin", "console"];
const SHUTDOWN_SECONDS_MOST: i64 = 3600;
/// A mebibyte to a tebibyte.
const COURIER_MEMORY_BYTES: RangeInclusive<i64> = 1 << 20..=1 << 40;

/// Lays the variables over the other layers. Variables for participants, operators, and routes are errors.
pub fn lay_variables(settings: &mut Settings, mut variables: Settings, errors: &Errors) {
    for name in LISTS {
        if let Some(setting) = variables.remove(name) {
            errors.report(&setting.location, format!("[[{name}]] can be set in the file only, not by a variable"));
        }
    }
    lay_over(settings, variables);
}

/// The complete configuration. Where an error was reported, a harmless value is used, so that the rest is checked too.
pub fn config(mut settings: Settings, file: Option<PathBuf>, errors: &Errors) -> Config {
    let names: Vec<&str> = keys::SECTIONS.iter().map(|(name, _)| *name).collect();
    for (name, setting) in settings.iter().filter(|(name, _)| !names.contains(&name.as_str())) {
        let sentence = format!("there is no section \"{name}\"");
        let text = keys::section_of(name).map(|section| format!("{sentence}; it belongs to [{section}]"));
        errors.report(&setting.location, text.unwrap_or_else(|| unknown(&sentence, name, &names)));
    }
    let amqp =
        settings.remove("amqp").map(|setting| broker::amqp(&Section::new("[amqp]", setting, keys::AMQP, errors)));
    let mut locations = Locations::default();
    let mut section = |name: &str, keys| {
        let location = "default.toml".to_owned();
        let missing = Setting { location, value: Value::Table(Settings::new()), variable_text: None };
        Section::new(&format!("[{name}]"), settings.remove(name).unwrap_or(missing), keys, errors)
    };
    let server = server(&section("server", keys::SERVER), &mut locations);
    let store = store(&section("store", keys::STORE));
    let retention = retention(&section("retention", keys::RETENTION));
    let definitions = definitions(&section("definitions", keys::DEFINITIONS), &mut locations);
    let validation = validation(&section("validation", keys::VALIDATION));
    let entries = entries::read(&mut settings, &mut locations, errors);
    let entries::Entries { participants, operators, routes, .. } = entries;
    let config = Config {
        server,
        store,
        retention,
        amqp,
        definitions,
        validation,
        participants,
        operators,
        routes,
        file,
        used_built_in_definitions: false,
        locations,
    };
    check_as_a_whole(&config, errors);
    config
}

fn check_as_a_whole(config: &Config, errors: &Errors) {
    if let Err(conflicts) = config.table(&config.server.base_url) {
        errors.extend(conflicts);
    }
    check_channels(config, errors);
    if !config.server.listen.ip().is_loopback() && !config.has_credentials() {
        let text = "listen is not a loopback address, and no credential is configured; \
                    give a participant or an operator a token_sha256, or listen on 127.0.0.1";
        errors.report(&config.locations.listen, text);
    }
}

/// An AMQP channel needs a broker, and must not publish to a queue that the router consumes.
fn check_channels(config: &Config, errors: &Errors) {
    for (participant, location) in config.participants.iter().zip(&config.locations.participants) {
        let Some(Channel::Amqp { exchange, routing_key }) = &participant.channel else { continue };
        let id = &participant.id;
        match &config.amqp {
            None => errors.report(location, format!("the channel of \"{id}\" is amqp, but there is no section [amqp]")),
            Some(amqp) if exchange.is_empty() && amqp.is_own_queue(routing_key) => {
                let text =
                    format!("the channel of \"{id}\" is \"{routing_key}\", a queue that the router itself consumes");
                errors.report(location, text);
            }
            Some(_) => {}
        }
    }
}

fn server(section: &Section, locations: &mut Locations) -> Server {
    locations.listen = section.location_of("listen").to_owned();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let listen = section.text("listen").and_then(|text| {
        let listen = text.parse().ok();
        listen.or_else(|| {
            section.none("listen", &format!("must be an IP address and port such as 127.0.0.1:8080, not \"{text}\""))
        })
    });
    let listen = listen.unwrap_or(loopback);
    let base_url = section.text("base_url").and_then(|text| http_url(section, "base_url", text));
    // The base is public, in metadata and status URLs.
    let base_url = base_url.and_then(|text| match address::http_url(&text) {
        Some(url) if !url.username().is_empty() || url.password().is_some() => {
            section.none("base_url", "must be a URL without user and password, because it is public")
        }
        _ => Some(text),
    });
    if let Some(Err(wrong)) = base_url.as_deref().map(check_base_path) {
        section.report("base_url", wrong);
    }
    let name = section.text("name").and_then(|text| {
        let is_name =
            text.len() <= 255 && text.chars().all(|letter| letter.is_ascii_graphic() && !",;()\"".contains(letter));
        is_name.then_some(text).or_else(|| section.none("name", "must be a name without spaces, such as host:port"))
    });
    let (base_url_is_set, name_is_set) = (base_url.is_some(), name.is_some());
    let base_url = base_url.unwrap_or_else(|| format!("http://{listen}/fhir"));
    Server {
        listen,
        name: name.or_else(|| host_and_port(&base_url)).unwrap_or_else(|| listen.to_string()),
        base_url: base_url.trim_end_matches('/').to_owned(),
        body_limit_bytes: number(section, "body_limit_bytes", 1024..=BODY_LIMIT_BYTES_MOST) as usize,
        answer_timeout_ms: number(section, "answer_timeout_ms", 1..=ANSWER_TIMEOUT_MS_MOST).unsigned_abs(),
        max_in_flight: number(section, "max_in_flight", 1..=1_000_000) as usize,
        max_in_flight_bytes: number(section, "max_in_flight_bytes", 1024..=i64::MAX).unsigned_abs(),
        max_connections: number(section, "max_connections", 0..=1_000_000) as usize,
        max_waiting: number(section, "max_waiting", 0..=1_000_000) as usize,
        fhir_version: section.choice("fhir_version", FHIR_VERSIONS).unwrap_or(FhirVersion::R4),
        cors_origins: cors_origins(section),
        address_limit_bytes: number(section, "address_limit_bytes", 64..=ADDRESS_LIMIT_BYTES_MOST) as usize,
        destinations_limit: number(section, "destinations_limit", 1..=DESTINATIONS_LIMIT_MOST) as usize,
        pool_idle_seconds: number(section, "pool_idle_seconds", 0..=POOL_SECONDS_MOST).unsigned_abs(),
        connection_age_seconds: number(section, "connection_age_seconds", 1..=POOL_SECONDS_MOST).unsigned_abs(),
        shutdown_delay_seconds: number(section, "shutdown_delay_seconds", 0..=SHUTDOWN_SECONDS_MOST).unsigned_abs(),
        shutdown_grace_seconds: number(section, "shutdown_grace_seconds", 0..=SHUTDOWN_SECONDS_MOST).unsigned_abs(),
        trusted_proxies: addresses(section, "trusted_proxies"),
        courier_memory_bytes: number(section, "courier_memory_bytes", COURIER_MEMORY_BYTES) as usize,
        base_url_is_set,
        name_is_set,
    }
}

/// Origins as browsers write them: scheme, host, and a port that is not the scheme's default.
fn cors_origins(section: &Section) -> Vec<String> {
    let origins = section.texts("cors_origins").unwrap_or_default();
    for origin in &origins {
        let written = reqwest::Url::parse(origin).ok().map(|url| url.origin().ascii_serialization());
        if written.as_ref() != Some(origin) || !origin.starts_with("http") {
            section
                .report("cors_origins", "must hold origins such as https://app.example.org or http://localhost:3000");
        }
    }
    origins
}

/// IP addresses, without ports and masks.
fn addresses(section: &Section, key: &str) -> Vec<IpAddr> {
    let read = |text: &String| {
        let address = text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        address.or_else(|| section.none(key, &format!("must hold IP addresses such as 10.0.0.7, not \"{text}\"")))
    };
    section.texts(key).unwrap_or_default().iter().filter_map(read).collect()
}

/// Checks the path of a base URL: plain segments, so that the router can distinguish its own addresses. Errs with what
/// is wrong.
fn check_base_path(text: &str) -> Result<(), String> {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let Some((_, path)) = after_scheme.trim_end_matches('/').split_once('/') else { return Ok(()) };
    for segment in path.split('/') {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=@".contains(&byte);
        if segment.is_empty() || segment == "." || segment == ".." || !segment.bytes().all(is_plain) {
            let plain = "letters, digits, and any of -._~!$&'()+,;=@";
            return Err(format!("must have a path of plain segments ({plain}), not \"{segment}\""));
        }
    }
    let first = path.split('/').next().unwrap_or_default();
    if OWN_PATHS.contains(&first) {
        return Err(format!("must not have a path below /{first}, which is the router's own; use /fhir"));
    }
    Ok(())
}

/// `host:port`, with the scheme's default port if the URL has none.
pub fn host_and_port(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

fn store(section: &Section) -> Store {
    let url = section.text("url");
    let url = url.and_then(|text| StoreUrl::parse(&text).map_or_else(|wrong| section.none("url", &wrong), Some));
    Store {
        url: url.unwrap_or_default(),
        min_free_bytes: number(section, "min_free_bytes", 0..=i64::MAX).unsigned_abs(),
    }
}

fn retention(section: &Section) -> Retention {
    let days = |key, least| number(section, key, least..=DAYS_MOST) as u32;
    Retention {
        bodies_days: days("bodies_days", 0),
        dead_letters_days: days("dead_letters_days", 0),
        traces_days: days("traces_days", 0),
        identities_days: days("identities_days", 1),
        store_limit_bytes: number(section, "store_limit_bytes", 0..=i64::MAX) as u64,
        archive_dir: section.text("archive_dir").map(PathBuf::from),
    }
}

fn definitions(section: &Section, locations: &mut Locations) -> Definitions {
    locations.definition_paths = section.location_of("paths").to_owned();
    let paths = section.texts("paths").unwrap_or_default();
    Definitions {
        paths: paths.into_iter().map(PathBuf::from).collect(),
        unknown_events: section.choice("unknown_events", UNKNOWN_EVENTS).unwrap_or(UnknownEvents::Reject),
        fan_out: section.texts("fan_out").unwrap_or_default(),
    }
}

fn validation(section: &Section) -> Validation {
    Validation {
        level: section.choice("level", LEVELS).unwrap_or(Level::Structure),
        on_failure: section.choice("on_failure", ON_FAILURE).unwrap_or(OnFailure::Reject),
        prose_rules: section.choice("prose_rules", PROSE_RULES).unwrap_or_default(),
    }
}

/// A number in the range, or its lower bound if an error was reported.
fn number(section: &Section, key: &str, range: RangeInclusive<i64>) -> i64 {
    section.number(key, range.clone()).unwrap_or(*range.start())
}

//! Reads the lists of entries: participants, operators, and routes.
//!
//! Conflicts between entries (an address claimed twice, a route to an unknown participant) are checked by
//! `routing::Table`.

use super::choices::{FHIR_VERSIONS, LEVELS, ON_FAILURE, PROSE_RULES, http_url};
use super::section::{Errors, Section};
use super::setting::{Setting, Settings, Value};
use super::{Locations, Operator, Role, keys};
use crate::routing::{Channel, Order, Participant, Rejections, Route};
use crate::secret::Secret;
use fhir::Format;
use std::collections::HashMap;

const ORDERS: &[(&str, Order)] = &[("none", Order::None), ("sender", Order::Sender), ("subject", Order::Subject)];
const REJECTIONS: &[(&str, Rejections)] = &[("message", Rejections::Message), ("status", Rejections::Status)];
const FORMATS: &[(&str, Format)] = &[("json", Format::Json), ("xml", Format::Xml)];
const ROLES: &[(&str, Role)] = &[("viewer", Role::Viewer), ("operator", Role::Operator)];

#[derive(Clone, Copy)]
enum ChannelType {
    Http,
    Mailbox,
    Amqp,
    Repository,
}

const CHANNEL_TYPES: &[(&str, ChannelType)] = &[
    ("http", ChannelType::Http),
    ("mailbox", ChannelType::Mailbox),
    ("amqp", ChannelType::Amqp),
    ("repository", ChannelType::Repository),
];

const CONCURRENCY_MOST: i64 = 10_000;
const RATE_PER_SECOND_MOST: i64 = 100_000;
const ATTEMPTS_LIMIT_MOST: i64 = 1_000_000;
const ATTEMPT_TIMEOUT_SECONDS_MOST: i64 = 3600;
/// One day, and one year: a larger value was probably meant as milliseconds.
const RETRY_SECONDS_MOST: i64 = 86_400;
const EXPIRE_AFTER_SECONDS_MOST: i64 = 31_536_000;

/// AMQP's names have 255 bytes; five are reserved for `.dead`.
const AMQP_NAME_LIMIT_BYTES: usize = 250;

#[derive(Default)]
pub struct Entries {
    pub participants: Vec<Participant>,
    pub operators: Vec<Operator>,
    pub routes: Vec<Route>,
}

pub fn read(settings: &mut Settings, locations: &mut Locations, errors: &Errors) -> Entries {
    let mut entries = Entries::default();
    let mut tokens = Tokens::default();
    for setting in list_entries(settings, "participant", errors) {
        locations.participants.push(setting.location.clone());
        let mut section = Section::new(&named("participant", "id", &setting), setting, keys::PARTICIPANT, errors);
        entries.participants.push(participant(&mut section, &mut tokens, errors));
    }
    for setting in list_entries(settings, "operator", errors) {
        let section = Section::new(&named("operator", "name", &setting), setting, keys::OPERATOR, errors);
        entries.operators.push(operator(&section, &mut tokens));
    }
    for (index, setting) in list_entries(settings, "route", errors).into_iter().enumerate() {
        locations.routes.push(setting.location.clone());
        let section = Section::new(&format!("route {}", index + 1), setting, keys::ROUTE, errors);
        entries.routes.push(route(&section));
    }
    entries
}

fn list_entries(settings: &mut Settings, name: &str, errors: &Errors) -> Vec<Setting> {
    match settings.remove(name) {
        None => Vec::new(),
        Some(Setting { value: Value::List(entries), .. }) => entries,
        Some(other) => {
            errors.report(&other.location, format!("write [[{name}]] with two brackets, because there may be several"));
            Vec::new()
        }
    }
}

/// How sentences refer to an entry: `participant "lab"`.
fn named(kind: &str, key: &str, setting: &Setting) -> String {
    let Value::Table(settings) = &setting.value else { return kind.to_owned() };
    match settings.get(key).map(|setting| &setting.value) {
        Some(Value::Text(name)) => format!("{kind} \"{name}\""),
        _ => kind.to_owned(),
    }
}

fn participant(section: &mut Section, tokens: &mut Tokens, errors: &Errors) -> Participant {
    let id = required(section, "id");
    if !is_short_name(&id) {
        section.report("id", "must be 1 to 64 letters, digits, \".\", \"_\" or \"-\"");
    }
    let channel = section.take("channel").and_then(|setting| channel(&section.name, setting, errors));
    let section = &*section;
    let defaults = Participant::new(&id);
    let number = |key, most| section.number(key, 1..=most);
    let schedule = section.numbers("retry_schedule_seconds", 1..=RETRY_SECONDS_MOST);
    Participant {
        name: section.text("name"),
        addresses: section.texts("addresses").unwrap_or_default(),
        channel,
        may_send: section.texts("may_send").unwrap_or(defaults.may_send),
        may_receive: section.texts("may_receive").unwrap_or(defaults.may_receive),
        fhir_version: section.choice("fhir_version", FHIR_VERSIONS),
        order: section.choice("order", ORDERS).unwrap_or(defaults.order),
        concurrency: number("concurrency", CONCURRENCY_MOST).map_or(defaults.concurrency, |number| number as usize),
        rate_per_second: section.number("rate_per_second", 0..=RATE_PER_SECOND_MOST).map_or(0, |number| number as u32),
        attempts_limit: section.number("attempts_limit", 0..=ATTEMPTS_LIMIT_MOST).map_or(0, |number| number as u32),
        attempt_timeout_seconds: number("attempt_timeout_seconds", ATTEMPT_TIMEOUT_SECONDS_MOST)
            .map_or(defaults.attempt_timeout_seconds, i64::unsigned_abs),
        retry_schedule_seconds: schedule
            .map_or(defaults.retry_schedule_seconds, |seconds| seconds.into_iter().map(i64::unsigned_abs).collect()),
        expire_after_seconds: number("expire_after_seconds", EXPIRE_AFTER_SECONDS_MOST)
            .map_or(defaults.expire_after_seconds, i64::unsigned_abs),
        rejections: section.choice("rejections", REJECTIONS).unwrap_or(defaults.rejections),
        format: section.choice("format", FORMATS),
        bridge_versions: bridge_versions(section),
        level: section.choice("level", LEVELS),
        prose_rules: section.choice("prose_rules", PROSE_RULES),
        on_failure: section.choice("on_failure", ON_FAILURE),
        token_sha256: tokens.take(section),
        amqp_user: section.text("amqp_user"),
        id: defaults.id,
    }
}

fn bridge_versions(section: &Section) -> bool {
    let allowed = section.flag("bridge_versions").unwrap_or(false);
    if allowed && section.get("fhir_version").is_none() {
        section.report("bridge_versions", "needs fhir_version, the version to convert to");
    }
    allowed
}

fn channel(of: &str, setting: Setting, errors: &Errors) -> Option<Channel> {
    let section = Section::new(&format!("channel of {of}"), setting, keys::CHANNEL, errors);
    if section.get("type").is_none() {
        return section.none("type", "is missing: a channel needs a type, such as { type = \"mailbox\" }");
    }
    let foreign = |keys: &[&str], name: &str| {
        for key in keys.iter().filter(|key| section.get(key).is_some()) {
            section.report(key, format!("is not a key of a channel of type \"{name}\""));
        }
    };
    match section.choice("type", CHANNEL_TYPES)? {
        ChannelType::Amqp => {
            foreign(&["url", "async"], "amqp");
            let exchange = exchange(&section)?;
            if section.get("routing_key").is_none() {
                return section.none("routing_key", "is missing: a channel of type \"amqp\" needs one");
            }
            let routing_key = section.text("routing_key")?;
            for (key, name) in [("exchange", &exchange), ("routing_key", &routing_key)] {
                if name.len() > AMQP_NAME_LIMIT_BYTES {
                    section.report(key, format!("is longer than {AMQP_NAME_LIMIT_BYTES} bytes"));
                }
            }
            Some(Channel::Amqp { exchange, routing_key })
        }
        ChannelType::Repository => {
            section.none("type", "is \"repository\": channel type \"repository\" is not built yet")
        }
        ChannelType::Mailbox => {
            foreign(&["url", "async", "exchange", "routing_key"], "mailbox");
            Some(Channel::Mailbox)
        }
        ChannelType::Http => {
            foreign(&["exchange", "routing_key"], "http");
            let asynchronous = section.flag("async").unwrap_or(false);
            if section.get("url").is_none() {
                return section.none("url", "is missing: a channel of type \"http\" needs the receiver's FHIR base");
            }
            let url = section.text("url").and_then(|text| http_url(&section, "url", text))?;
            Some(Channel::Http { url: url.into(), asynchronous })
        }
    }
}

/// The default exchange has the name `""`, which is valid here.
fn exchange(section: &Section) -> Option<String> {
    match section.get("exchange").map(|setting| &setting.value) {
        None => {
            section.none("exchange", "is missing: a channel of type \"amqp\" needs one; \"\" is the default exchange")
        }
        Some(Value::Text(text)) if text.is_empty() => Some(String::new()),
        Some(_) => section.text("exchange"),
    }
}

fn operator(section: &Section, tokens: &mut Tokens) -> Operator {
    let name = required(section, "name");
    if section.get("token_sha256").is_none() {
        section.report("token_sha256", "is missing: an operator needs a token");
    }
    Operator { name, token_sha256: tokens.take(section), role: section.choice("role", ROLES).unwrap_or(Role::Viewer) }
}

fn route(section: &Section) -> Route {
    if section.get("when").is_some() {
        section.report("when", "is set: FHIRPath conditions are not built yet");
    }
    Route {
        event: section.text("event"),
        source: section.text("source"),
        destination: section.text("destination"),
        to: section.texts("to").unwrap_or_default(),
    }
}

fn required(section: &Section, key: &str) -> String {
    if section.get(key).is_none() {
        section.report(key, "is missing");
    }
    // A placeholder; the error was reported.
    section.text(key).unwrap_or_else(|| "-".to_owned())
}

/// Ids appear in URLs, logs, and metrics.
fn is_short_name(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

/// Token hashes so far and their owners: a token must identify one participant or operator.
#[derive(Default)]
struct Tokens(HashMap<String, String>);

impl Tokens {
    fn take(&mut self, section: &Section) -> Vec<Secret> {
        let mut taken = Vec::new();
        for hash in section.one_or_more_texts("token_sha256").unwrap_or_default() {
            let is_hash = hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            // The value is not quoted, because it may be the token itself.
            if !is_hash {
                section.report("token_sha256", "must be a SHA-256, 64 lower-case hex digits, never the token itself");
            } else if let Some(first) = self.0.get(&hash) {
                section.report(
                    "token_sha256",
                    format!("is also that of {first}; a token must belong to one of them only"),
                );
            } else {
                self.0.insert(hash.clone(), section.name.clone());
            }
            taken.push(hash.into());
        }
        taken
    }
}

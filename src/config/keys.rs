//! Every key that a configuration may have, section by section. `default.toml` explains each.

pub const SECTIONS: &[(&str, &[&str])] = &[
    ("server", SERVER),
    ("store", STORE),
    ("retention", RETENTION),
    ("amqp", AMQP),
    ("definitions", DEFINITIONS),
    ("validation", VALIDATION),
    ("participant", PARTICIPANT),
    ("operator", OPERATOR),
    ("route", ROUTE),
];

/// The section, of those that are there once, to which a key belongs.
pub fn section_of(key: &str) -> Option<&'static str> {
    let once = SECTIONS.iter().filter(|(section, _)| !["participant", "operator", "route"].contains(section));
    once.filter(|(_, keys)| keys.contains(&key)).map(|(section, _)| *section).next()
}

pub const SERVER: &[&str] = &[
    "listen",
    "base_url",
    "name",
    "body_limit_bytes",
    "answer_timeout_ms",
    "max_in_flight",
    "max_in_flight_bytes",
    "max_connections",
    "max_waiting",
    "shutdown_delay_seconds",
    "shutdown_grace_seconds",
    "trusted_proxies",
    "fhir_version",
    "cors_origins",
    "address_limit_bytes",
    "destinations_limit",
    "pool_idle_seconds",
    "connection_age_seconds",
    "courier_memory_bytes",
];
pub const STORE: &[&str] = &["url", "min_free_bytes"];
pub const RETENTION: &[&str] =
    &["bodies_days", "traces_days", "identities_days", "dead_letters_days", "archive_dir", "store_limit_bytes"];
pub const AMQP: &[&str] = &["url", "inbound_queues", "answer_queue", "declare", "prefetch"];
pub const DEFINITIONS: &[&str] = &["paths", "unknown_events", "fan_out"];
pub const VALIDATION: &[&str] = &["level", "on_failure", "prose_rules"];
pub const PARTICIPANT: &[&str] = &[
    "id",
    "name",
    "addresses",
    "channel",
    "may_send",
    "may_receive",
    "fhir_version",
    "order",
    "concurrency",
    "rate_per_second",
    "attempts_limit",
    "attempt_timeout_seconds",
    "retry_schedule_seconds",
    "expire_after_seconds",
    "rejections",
    "format",
    "bridge_versions",
    "level",
    "on_failure",
    "prose_rules",
    "token_sha256",
    "amqp_user",
];
pub const OPERATOR: &[&str] = &["name", "token_sha256", "role"];
pub const ROUTE: &[&str] = &["event", "source", "destination", "when", "to"];
/// Of all channel types together; which belong to which type is checked with the type.
pub const CHANNEL: &[&str] = &["type", "url", "async", "exchange", "routing_key"];

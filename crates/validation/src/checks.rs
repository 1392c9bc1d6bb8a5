//! How deep and how strictly a message is checked.

use serde::{Deserialize, Serialize};

/// How deep messages are checked; each level includes those before it (`validation.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The rules of messaging, and the event's definition.
    Message,
    /// The definitions of the base specification too.
    #[default]
    Structure,
    /// Profiles and graphs in force too.
    Profile,
}

/// How strictly prose rules are held (`validation.prose_rules`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProseRules {
    #[default]
    Warning,
    Error,
}

/// What becomes of a message that fails (`validation.on_failure`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Reject,
    /// It is delivered, and its outcome kept with it.
    Report,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    pub level: Level,
    pub prose_rules: ProseRules,
    /// `definitions.unknown_events = "route"`.
    pub take_unknown_events: bool,
    /// UTC microseconds since 1970, for constraints that ask for the time.
    pub now_us: i64,
}

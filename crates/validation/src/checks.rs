//! The options of a check: how much is checked, and how strictly.

use serde::{Deserialize, Serialize};

/// How much is checked; each level includes the ones before it (`validation.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The rules of messaging, and the definition of the event.
    Message,
    /// Also the definitions of the base specification.
    #[default]
    Structure,
    /// Also the profiles and graphs that apply.
    Profile,
}

/// The severity of rules that only the specification's prose states (`validation.prose_rules`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProseRules {
    /// They are warnings.
    #[default]
    Warning,
    /// They are errors.
    Error,
}

/// What happens to a message that fails validation (`validation.on_failure`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Reject,
    /// It is delivered, and its outcome is stored with it.
    Report,
}

/// The options of a check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    /// How much is checked.
    pub level: Level,
    /// The severity of prose rules.
    pub prose_rules: ProseRules,
    /// Whether an event that no definition names is accepted (`definitions.unknown_events = "route"`).
    pub take_unknown_events: bool,
    /// The current time for constraints that use it, in UTC microseconds since 1970.
    pub now_us: i64,
}

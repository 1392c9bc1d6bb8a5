//! (being built)

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts the log. Called once, before anything logs.
pub fn init(_format: LogFormat) {}

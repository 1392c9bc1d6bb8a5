//! (being built)

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Starts the log. Called once, before anything logs.
pub fn init(_format: Format) {}

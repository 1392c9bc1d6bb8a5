//! Logging: to standard error, as text or JSON lines, filtered by `EMBERPOST_LOG` (default `info`).
//!
//! Logs contain ids and figures, never content or tokens; every log statement must comply. Logging never blocks: lines
//! go through a bounded queue to a thread of their own, and lines that cannot be written are dropped and counted.

mod queue;

use queue::LogQueue;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The queue of this process, once the logger is installed.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();
/// How long the process waits at its end for the last lines to be written.
const FLUSH_LIMIT_SECONDS: u64 = 1;

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// The variable that sets the filter, in the syntax of `tracing-subscriber`: `debug`, `emberpost::courier=trace`.
pub const FILTER_VARIABLE: &str = "EMBERPOST_LOG";

/// Dependencies that log at info what Emberpost logs itself; a filter that names them overrides this. lapin is off
/// because it logs the content of messages that a broker returns.
const QUIET: &str = "hyper=warn,h2=warn,reqwest=warn,rustls=warn,sqlx=warn,tower=warn,lapin=off";

/// lapin logs the bodies of returned messages, so its log is never enabled.
const NEVER: &str = "lapin=off";

/// Installs the logger for this process, once; later calls have no effect. An invalid filter counts as `info`, with a
/// warning.
pub fn init(format: Format) {
    let asked = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let (filter, error) = filter(asked.as_deref());
    // A descriptor of its own: the standard library's lock would be held by a write that hangs.
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let queue = match stderr.and_then(LogQueue::start) {
        Ok(queue) => QUEUE.get_or_init(|| queue).clone(),
        Err(error) => return complain(&format!("emberpost: cannot log: {error}")),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || queue.clone());
    // The subscriber would print its errors to standard error, which panics if that is closed.
    let builder = builder.log_internal_errors(false);
    // A second start in the same process (tests) finds a logger installed, which stays.
    let _ = match format {
        Format::Text => {
            // https://no-color.org: any value that is not empty turns colors off.
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colored = !no_color && std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colored).with_target(false).try_init()
        }
        Format::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    if let Some(error) = error {
        tracing::warn!("{FILTER_VARIABLE} is not a valid filter, logging at info: {error}");
    }
}

/// Logs panics, for a process that serves. Their text is left out, because it may quote a message.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => tracing::error!("panicked at {place}\n{backtrace}"),
            _ => tracing::error!("panicked at {place}"),
        }
    }));
}

/// Waits, up to a limit, until everything logged so far is written.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(Duration::from_secs(FLUSH_LIMIT_SECONDS));
    }
}

/// Log lines that were dropped because they could not be written, or not fast enough.
pub fn dropped_lines() -> u64 {
    QUEUE.get().map_or(0, LogQueue::dropped_lines)
}

/// Prints why the router does not start to standard error. If that is closed, only the exit code shows it.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The variable's filter comes last, so that it overrides the defaults for dependencies.
fn filter(asked: Option<&str>) -> (EnvFilter, Option<String>) {
    let quiet = |level: &str| EnvFilter::new(format!("{QUIET},{level},{NEVER}"));
    match asked {
        None => (quiet("info"), None),
        Some(text) => match EnvFilter::try_new(format!("{QUIET},{text},{NEVER}")) {
            Ok(filter) => (filter, None),
            Err(error) => (quiet("info"), Some(error.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_info_unless_asked_and_dependencies_stay_quiet() {
        let shown = |asked| filter(asked).0.to_string();
        assert!(shown(None).contains("info") && shown(None).contains("sqlx=warn"));
        assert!(shown(Some("debug")).contains("debug"));
        assert!(
            shown(Some("lapin=trace")).contains("lapin=off") && !shown(Some("lapin=trace")).contains("lapin=trace")
        );
        assert!(shown(Some("sqlx=trace,info")).contains("sqlx=trace"));
        let (fallback, error) = filter(Some("emberpost=nonsense"));
        assert!(fallback.to_string().contains("info") && error.is_some());
    }
}

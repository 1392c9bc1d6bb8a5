//! Where logs go: standard error, as text or JSON lines, filtered by `EMBERPOST_LOG` (default `info`).
//!
//! Logs hold ids and figures, never content or tokens; that is kept by those who write them. Logging never stops work: lines
//! go through a bounded queue to a thread of their own, and what cannot be written is dropped and counted.

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
/// How long the end of the process waits for the last lines to be written.
const FLUSH_LIMIT_SECONDS: u64 = 1;

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// The variable that sets the filter, in the syntax of `tracing-subscriber`: `debug`, `emberpost::courier=trace`.
pub const FILTER_VARIABLE: &str = "EMBERPOST_LOG";

/// Dependencies that speak at info of what we say ourselves; a filter that names them still turns them up. lapin is off: a
/// message that a broker returns is in its log with its content.
const QUIET: &str = "hyper=warn,h2=warn,reqwest=warn,rustls=warn,sqlx=warn,tower=warn,lapin=off";

/// The AMQP client writes the bodies of returned messages to its log: it is never turned up.
const NEVER: &str = "lapin=off";

/// Installs the logger for this process, once; a later call changes nothing. A filter that cannot be read counts as `info`
/// and is said so.
pub fn init(format: Format) {
    let asked = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let (filter, mistake) = filter(asked.as_deref());
    // A descriptor of our own: the lock of the standard library's would be held by a write that stalls.
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let queue = match stderr.and_then(LogQueue::start) {
        Ok(queue) => QUEUE.get_or_init(|| queue).clone(),
        Err(error) => return complain(&format!("emberpost: cannot log: {error}")),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || queue.clone());
    // Of its own accord the subscriber would print its troubles to standard error, which panics where that is closed.
    let builder = builder.log_internal_errors(false);
    // A second start in the same process (tests) finds a logger installed; that one stays.
    let _ = match format {
        Format::Text => {
            // https://no-color.org: any value that is not empty turns colors off.
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colored = !no_color && std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colored).with_target(false).try_init()
        }
        Format::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    if let Some(mistake) = mistake {
        tracing::warn!("{FILTER_VARIABLE} cannot be read, logging at info: {mistake}");
    }
}

/// Has panics logged like everything else, for a process that serves. Without their text: it may quote what a message holds.
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

/// Waits, within a bound, until what was logged is written: before the process ends.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(Duration::from_secs(FLUSH_LIMIT_SECONDS));
    }
}

/// Lines of the log that were dropped, because they could not be written or not fast enough.
pub fn dropped_lines() -> u64 {
    QUEUE.get().map_or(0, LogQueue::dropped_lines)
}

/// Says on standard error why the router does not start; where that is closed, nobody hears it, and the exit code remains.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What the variable asks for comes last, so that it wins over the quieting of dependencies.
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
        let (fallback, mistake) = filter(Some("emberpost=nonsense"));
        assert!(fallback.to_string().contains("info") && mistake.is_some());
    }
}

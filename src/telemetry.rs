//! Where logs go: standard error, as text or JSON lines, filtered by `EMBERPOST_LOG` (default `info`).
//!
//! Logs hold ids and figures, never content or tokens; that is kept by those who write them.

use tracing_subscriber::EnvFilter;

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in the same process (tests) finds a logger installed; that one stays.
    let _ = match format {
        Format::Text => {
            let colored = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colored).with_target(false).try_init()
        }
        Format::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    if let Some(mistake) = mistake {
        tracing::warn!("{FILTER_VARIABLE} cannot be read, logging at info: {mistake}");
    }
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

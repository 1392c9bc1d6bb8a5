//! `emberpost validate`: checks message files without a server, as the router would before it keeps them.
//!
//! Reads files while it checks (`cli::source`), a few messages ahead; several at once, told in the order of the files.

mod report;

use super::failure::Failure;
use super::source::{self, Source};
use crate::clock::Clock;
use crate::config::{Config, Mistake, Overrides};
use crate::outcome::Issue;
use crate::outcome::with_faults;
use clap::ValueEnum;
use fhir::FhirVersion;
use futures_util::{StreamExt, stream};
use report::Report;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use validation::definition::Definitions;
use validation::{Checks, Level, ProseRules, check_document};

/// Messages read ahead and checked at once, for each core.
const AHEAD_PER_CORE: usize = 2;

/// Validate messages without a server
///
/// Checks each message as the router would before it keeps it: the rules of FHIR messaging, the whole base specification of
/// R4, R4B or R5, and, at level profile, profiles and graphs. A named file is read whatever its ending, its format (JSON or XML)
/// seen from its content; of folders .json, .xml, .fhir and .ndjson files, recursively, in order of their names; - is standard
/// input. An .ndjson file has one message per line. Definitions, level and prose_rules are those of the configuration, where
/// there is one. An event that no definition names is no mistake here.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  emberpost validate message.json\n  emberpost validate messages/ --format ndjson\n  \
                        emberpost validate --level profile --package my-guide.tgz messages/\n  \
                        cat message.xml | emberpost validate - --fhir-version 4.0\n\n\
                        Exit codes: 0 all are valid; 1 some are not; 2 wrong usage, configuration or definitions."
)]
pub struct ValidateArgs {
    /// Message files and folders; - is standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// How deep [default: validation.level]
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<LevelName>,
    /// IG packages (.tgz) and folders of definitions, beside those of the configuration; may be given several times
    #[arg(long, value_name = "PATH")]
    package: Vec<PathBuf>,
    /// As which version messages are read: 4.0, 4.3 or 5.0 [default: as each shows]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    fhir_version: Option<FhirVersion>,
    /// Rules that only the specification's prose states [default: validation.prose_rules]
    #[arg(long, value_enum, value_name = "STRICTNESS")]
    prose_rules: Option<ProseName>,
    /// Lines for people, or one object per message
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Ndjson,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelName {
    Message,
    Structure,
    Profile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProseName {
    Warning,
    Error,
}

/// A message that was checked.
struct Checked {
    source: String,
    /// None: it could not be read at all.
    version: Option<FhirVersion>,
    issues: Vec<Issue>,
}

/// Checks everything. Exit code 1 when any message is invalid or could not be read.
pub async fn run(args: ValidateArgs, config: Option<&Path>, out: &mut dyn Write) -> Result<i32, Failure> {
    let files = source::find(&args.paths)?;
    let (definitions, checks) = definitions(&args, config)?;
    let is_terminal = std::io::stderr().is_terminal() && args.format == Format::Text;
    let mut report = Report::new(out, args.format, is_terminal, files.len() as u64);
    let ahead = std::thread::available_parallelism().map_or(1, usize::from) * AHEAD_PER_CORE;
    let (sender, receiver) = mpsc::channel(ahead);
    let reader = tokio::task::spawn_blocking(move || source::read_all(files, &sender));
    let messages = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let definitions = Arc::new(definitions);
    let mut checked = Box::pin(
        messages
            .map(|source| {
                let (definitions, version) = (definitions.clone(), args.fhir_version);
                tokio::task::spawn_blocking(move || check(source, version, &definitions, checks))
            })
            .buffered(ahead),
    );
    while let Some(checked) = checked.next().await {
        let checked = checked.map_err(|defect| Failure::Refused(format!("a defect stopped a message: {defect}")))?;
        report.add(&checked)?;
    }
    drop(checked);
    if !reader.is_finished() {
        reader.abort();
    }
    report.finish()
}

fn check(source: Source, version: Option<FhirVersion>, definitions: &Definitions, checks: Checks) -> Checked {
    match source.bytes {
        Ok(bytes) => {
            let format = fhir::Format::detect(&bytes);
            let (version, issues) = check_document(bytes.into(), format, version, definitions, checks);
            Checked { source: source.label, version, issues: with_faults(issues) }
        }
        Err(why) => Checked { source: source.label, version: None, issues: vec![report::unread(&why)] },
    }
}

/// The definitions of the configuration and of `--package`, and how to check. Errs with every mistake in them.
fn definitions(args: &ValidateArgs, path: Option<&Path>) -> Result<(Definitions, Checks), Failure> {
    let lines = |mistakes: Vec<Mistake>| mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>();
    let wrong = |mistakes: Vec<String>| Failure::Usage(mistakes.join("\n"));
    let mut config = Config::open(path, &Overrides::default()).map_err(|mistakes| wrong(lines(mistakes)))?;
    config.validation.level = args.level.map_or(config.validation.level, level);
    let (definitions, mistakes) = config.load_definitions(&args.package);
    if !mistakes.is_empty() {
        return Err(wrong(lines(mistakes)));
    }
    let checks = Checks {
        level: config.validation.level,
        prose_rules: args.prose_rules.map_or(config.validation.prose_rules, prose_rules),
        take_unknown_events: true,
        now_us: Clock::default().now_us(),
    };
    for notice in &definitions.notices {
        eprintln!("emberpost: notice: {notice}");
    }
    Ok((definitions, checks))
}

fn level(name: LevelName) -> Level {
    match name {
        LevelName::Message => Level::Message,
        LevelName::Structure => Level::Structure,
        LevelName::Profile => Level::Profile,
    }
}

fn prose_rules(name: ProseName) -> ProseRules {
    match name {
        ProseName::Warning => ProseRules::Warning,
        ProseName::Error => ProseRules::Error,
    }
}

fn version(text: &str) -> Result<FhirVersion, String> {
    FhirVersion::parse(text).ok_or_else(|| "give 4.0 (R4), 4.3 (R4B) or 5.0 (R5)".to_owned())
}

//! `emberpost validate`: checks message files without a server.
//!
//! Files are found first and read one by one (`source`); messages are judged side by side, a few more than there are
//! cores, and told in the order of the files (`report`). What they are held against is made once (`rules`).

mod report;
mod rules;

use super::failure::Failure;
use super::source::{self, Source};
use crate::fhir::FhirVersion;
use crate::validation::{Level, ProseRules, document};
use clap::ValueEnum;
use futures_util::StreamExt;
use futures_util::stream;
use report::{Judged, Report};
use rules::Rules;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Messages that are read ahead of the one that is told next, for each core.
const AHEAD: usize = 2;
/// Files of folders that are taken for messages.
const ENDINGS: [&str; 4] = ["json", "xml", "fhir", "ndjson"];

/// Validate messages without a server
///
/// Checks each message as a router would, and prints one line per message with its issues below it. A named file is read
/// whatever its ending, its form is seen from its content; of folders .json, .xml, .fhir and .ndjson files, recursively, in
/// order of their names; - is standard input. An .ndjson file has one message per line. The definitions are those of the
/// configuration, or of message-definitions, or the program's own, and of the packages given. Without a configuration file
/// a message of an event that no definition names is valid.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost validate messages/\n  \
                        emberpost validate --level profile --package my-guide.tgz message.xml\n  \
                        cat message.json | emberpost validate - --format ndjson\n\n\
                        Exit codes: 0 all are valid; 1 some are not; 2 wrong usage or configuration.")]
pub struct ValidateArgs {
    /// Message files and folders; - is standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// How deep [default: validation.level, which is structure]
    #[arg(long, value_enum)]
    level: Option<LevelArg>,
    /// FHIR packages (.tgz) or folders with definitions, beside those of the configuration
    #[arg(long, value_name = "FILE", num_args = 1..)]
    package: Vec<PathBuf>,
    /// Version of the messages [default: as they are spelled]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    fhir_version: Option<FhirVersion>,
    /// What rules are that stand in the specification's prose alone [default: validation.prose_rules, which is warning]
    #[arg(long, value_enum)]
    prose_rules: Option<ProseArg>,
    /// Text for people, or one object per message
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelArg {
    Message,
    Structure,
    Profile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProseArg {
    Warning,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Ndjson,
}

fn version(text: &str) -> Result<FhirVersion, String> {
    FhirVersion::parse(text).ok_or_else(|| "give 4.0, 4.3 or 5.0".to_owned())
}

impl ValidateArgs {
    fn level(&self) -> Option<Level> {
        self.level.map(|level| match level {
            LevelArg::Message => Level::Message,
            LevelArg::Structure => Level::Structure,
            LevelArg::Profile => Level::Profile,
        })
    }

    fn prose_rules(&self) -> Option<ProseRules> {
        self.prose_rules.map(|prose| match prose {
            ProseArg::Warning => ProseRules::Warning,
            ProseArg::Error => ProseRules::Error,
        })
    }
}

/// Validates everything. Exit code 1 when any message is invalid or could not be read.
pub async fn run(args: ValidateArgs, config: Option<&Path>, out: &mut dyn Write) -> Result<i32, Failure> {
    let files = source::find(&args.paths, &ENDINGS)?;
    let rules = Arc::new(Rules::new(config, args.level(), args.prose_rules(), &args.package)?);
    let is_terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
    let mut report = Report::new(out, args.format, is_terminal, files.len() as u64);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (sender, receiver) = mpsc::channel(AHEAD * cores);
    let reader = tokio::task::spawn_blocking(move || source::read_all(files, &sender));
    let messages = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let judge = |source: Source| {
        let (rules, said) = (rules.clone(), args.fhir_version);
        async move { tokio::task::spawn_blocking(move || judge(source, said, &rules)).await }
    };
    let mut judged = Box::pin(messages.map(judge).buffered(AHEAD * cores));
    while let Some(judged) = judged.next().await {
        let judged = judged.map_err(|error| Failure::Refused(format!("a message could not be judged: {error}")))?;
        report.add(&judged)?;
    }
    // The reader ends with its channel; a read of standard input that still waits is not waited for.
    drop(judged);
    reader.abort();
    rules.tell_mistakes();
    Ok(report.finish()?)
}

fn judge(source: Source, said: Option<FhirVersion>, rules: &Rules) -> Judged {
    let Source { label, bytes, is_further } = source;
    let found =
        bytes.map(|bytes| document::check_bytes(bytes.into(), said, |version| rules.against(version), rules.checks));
    Judged { label, found, is_further }
}

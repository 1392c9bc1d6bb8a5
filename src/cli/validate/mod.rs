//! `emberpost validate`: validates message files without a server, by the same checks as the router.
//!
//! Reads files while it validates (`cli::source`), a few messages ahead. Several are validated at once and reported in order
//! (`report`).

mod report;
mod summary;

use super::failure::Failure;
use super::interrupt;
use super::source::{self, Source};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Overrides};
use crate::outcome::Issue;
use crate::outcome::with_faults;
use clap::ValueEnum;
use fhir::{FhirVersion, Message};
use futures_util::{StreamExt, stream};
use report::Report;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use validation::definition::Definitions;
use validation::{Checks, Level, ProseRules, check_document, check_resource};

/// Messages that are read ahead and validated at once, per core.
const AHEAD_PER_CORE: usize = 2;

/// Validate messages without a server
///
/// Checks each message like the router does before it stores one: the rules of FHIR messaging, the base specification of R4,
/// R4B, or R5, and, at level profile, profiles and graphs. Reads named files whatever their extension, and the .json, .xml,
/// .fhir, and .ndjson files of folders, recursively, sorted by name; - is standard input. The format (JSON or XML) is
/// detected from the content. An .ndjson file has one message per line. Definitions, level, and prose_rules come from the
/// configuration, if there is one. An event without a definition is not an error here.
///
/// Of a folder, resources other than Bundles are skipped, and counted; with --all they are validated against the base
/// specification. For a folder, or a file with several messages, a summary by rule follows. Ctrl-C stops it and prints the
/// summary.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  emberpost validate message.json\n  emberpost validate messages/ --format ndjson\n  \
                        emberpost validate --level profile --package my-guide.tgz messages/\n  \
                        emberpost validate --all --errors-only my-guide/examples/\n  \
                        cat message.xml | emberpost validate - --fhir-version 4.0\n\n\
                        Exit codes: 0 all are valid; 1 some are not, or it was interrupted; 2 wrong usage, configuration, \
                        or definitions."
)]
pub struct ValidateArgs {
    /// Message files and folders; - is standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// Depth of validation [default: validation.level]
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<LevelName>,
    /// IG package (.tgz) or folder of definitions, in addition to those of the configuration; may be repeated
    #[arg(long, value_name = "PATH")]
    package: Vec<PathBuf>,
    /// FHIR version of the messages: 4.0, 4.3, or 5.0 [default: detected]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    fhir_version: Option<FhirVersion>,
    /// Severity of rules that only the prose of the specification states [default: validation.prose_rules]
    #[arg(long, value_enum, value_name = "STRICTNESS")]
    prose_rules: Option<ProseName>,
    /// Report only invalid messages, and of their issues only errors
    #[arg(long)]
    errors_only: bool,
    /// Also validate resources that are not Bundles
    #[arg(long)]
    all: bool,
    /// Lines for people, or one JSON object per message
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

/// The result of one document.
struct Checked {
    source: String,
    /// Not the first of its file.
    is_further: bool,
    /// Not a Bundle, and not validated.
    is_skipped: bool,
    /// None: it cannot be read at all.
    version: Option<FhirVersion>,
    issues: Vec<Issue>,
}

/// What to validate, and how.
struct Validator {
    definitions: Definitions,
    checks: Checks,
    version: Option<FhirVersion>,
    /// The version of resources that are not Bundles, which do not show theirs.
    resource_version: FhirVersion,
    takes_all: bool,
}

/// Validates everything. Exit code 1 if any message is invalid or cannot be read, or after Ctrl-C.
pub async fn run(args: ValidateArgs, config: Option<&Path>, out: &mut dyn Write) -> Result<i32, Failure> {
    let files = source::find(&args.paths)?;
    let validator = Arc::new(Validator::open(&args, config)?);
    let is_terminal = std::io::stderr().is_terminal() && args.format == Format::Text;
    let is_folder = files.iter().any(|file| file.is_found);
    let mut report = Report::new(out, &args, is_terminal, files.len() as u64, is_folder);
    let ahead = std::thread::available_parallelism().map_or(1, usize::from) * AHEAD_PER_CORE;
    let (sender, receiver) = mpsc::channel(ahead);
    let reader = tokio::task::spawn_blocking(move || source::read_all(files, &sender));
    let messages = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let mut checked = Box::pin(
        messages
            .map(|source| {
                let validator = validator.clone();
                tokio::task::spawn_blocking(move || validator.check(source))
            })
            .buffered(ahead),
    );
    let mut interrupt = pin!(interrupt::wait());
    loop {
        let checked = tokio::select! {
            checked = checked.next() => checked,
            () = &mut interrupt => {
                report.interrupted();
                break;
            }
        };
        let Some(checked) = checked else { break };
        let checked = checked.map_err(|defect| Failure::Refused(format!("a defect in the validation: {defect}")))?;
        report.add(&checked)?;
    }
    drop(checked);
    if !reader.is_finished() {
        reader.abort();
    }
    report.finish()
}

impl Validator {
    fn check(&self, source: Source) -> Checked {
        let Source { label, bytes, is_further, is_found } = source;
        let new = |version, issues| Checked { source: label, is_further, is_skipped: false, version, issues };
        match bytes {
            Err(reason) => new(None, vec![report::unread(&reason)]),
            Ok(bytes) if is_found || self.takes_all => match self.check_resource(&bytes) {
                Some(Resource::Skipped) => Checked { is_skipped: true, ..new(None, Vec::new()) },
                Some(Resource::Checked(version, issues)) => new(version, with_faults(issues)),
                None => self.check_message(bytes, new),
            },
            Ok(bytes) => self.check_message(bytes, new),
        }
    }

    fn check_message(&self, bytes: Vec<u8>, new: impl FnOnce(Option<FhirVersion>, Vec<Issue>) -> Checked) -> Checked {
        let format = fhir::Format::detect(&bytes);
        let (version, issues) = check_document(bytes.into(), format, self.version, &self.definitions, self.checks);
        new(version, with_faults(issues))
    }

    /// A resource other than a Bundle. None: it is a Bundle, or not a readable resource.
    fn check_resource(&self, bytes: &[u8]) -> Option<Resource> {
        let version = self.version.unwrap_or(self.resource_version);
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        let format = fhir::Format::detect(&bytes);
        let tree = fhir::format::read(bytes, format, Some(version), None).ok()?;
        let kind = tree.root().get("resourceType")?.text()?;
        if kind.is_empty() || kind == "Bundle" {
            return None;
        }
        if !self.takes_all {
            return Some(Resource::Skipped);
        }
        Some(match Message::stu3(&tree) {
            Some(issue) => Resource::Checked(None, vec![issue]),
            None => Resource::Checked(Some(version), check_resource(&tree, version, &self.definitions, self.checks)),
        })
    }

    /// The definitions of the configuration and of `--package`, and the checks. Fails with every error in them.
    fn open(args: &ValidateArgs, path: Option<&Path>) -> Result<Validator, Failure> {
        let lines = |mistakes: Vec<ConfigError>| mistakes.iter().map(ConfigError::to_string).collect::<Vec<_>>();
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
        let resource_version = config.server.fhir_version;
        Ok(Validator { definitions, checks, version: args.fhir_version, resource_version, takes_all: args.all })
    }
}

/// What became of a resource other than a Bundle.
enum Resource {
    Skipped,
    Checked(Option<FhirVersion>, Vec<fhir::Issue>),
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
    FhirVersion::parse(text).ok_or_else(|| "give 4.0 (R4), 4.3 (R4B), or 5.0 (R5)".to_owned())
}

//! The command line: what each command and option means, and the exit code that each command ends with.
//!
//! 0: success; 1: done, but something in it failed; 2: wrong usage or configuration; 3: the server could not be reached.
//! Commands that query a running router call its admin API over HTTP (`client`). None of them opens the store of a running
//! router, except `store backup` and `store check`, which only read it.

pub mod bench;
pub mod check;
mod client;
mod clock;
mod deliveries;
mod failure;
#[cfg(test)]
mod fake;
mod filter;
mod generated;
mod import;
mod interrupt;
mod list;
mod messages;
mod not_built;
mod participants;
mod program;
mod progress;
mod replay;
mod route;
mod send;
mod source;
mod store;
mod table;
mod time;
mod validate;

pub use program::main;

use crate::app::{self, ServeOptions};
use crate::telemetry;
use clap::{Parser, Subcommand};
use std::io::{self, Write};
use std::path::PathBuf;

/// A FHIR messaging endpoint and router
///
/// Receives FHIR messages at $process-message, validates and stores them, delivers them to the participants that they are
/// addressed to, and returns the answers. Without a command it runs the router, like `emberpost serve`.
#[derive(Debug, Parser)]
#[command(
    name = "emberpost",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  emberpost\n  emberpost --config /etc/emberpost.toml serve\n  \
                  emberpost send messages/ --to http://127.0.0.1:8080/fhir\n\n\
                  Exit codes: 0 success; 1 done, but something in it failed; 2 wrong usage or configuration; \
                  3 the server could not be reached. NO_COLOR turns colors off."
)]
pub struct Args {
    /// Configuration file [default: emberpost.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Format of log lines
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value = "text")]
    pub log_format: telemetry::Format,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the router (the default)
    ///
    /// Without a configuration it listens on 127.0.0.1:8080, stores messages in ./emberpost-data/, loads the definitions in
    /// message-definitions/, and accepts messages from every sender on loopback. SIGHUP reloads participants, routes,
    /// definitions, and credentials. SIGTERM stops it after the attempts under way.
    #[command(after_help = "Examples:\n  emberpost serve\n  \
                            emberpost serve --listen 127.0.0.1:9090 --store sqlite:/var/lib/emberpost/emberpost.db")]
    Serve(ServeArgs),
    /// Check configuration and definitions
    ///
    /// Reads the configuration and the definitions like `serve`, reports every error at once with file and line, and prints
    /// brokers, participants, events, and routes. Starts nothing.
    #[command(after_help = "Example:\n  emberpost check --config /etc/emberpost.toml")]
    Check,
    Validate(validate::ValidateArgs),
    Send(send::SendArgs),
    Route(route::RouteArgs),
    Messages(Box<messages::MessagesArgs>),
    Deliveries(Box<deliveries::DeliveriesArgs>),
    Participants(participants::ParticipantsArgs),
    Nodes(participants::NodesArgs),
    Clock(clock::ClockArgs),
    Replay(Box<replay::ReplayArgs>),
    Store(store::StoreArgs),
    Import(import::ImportArgs),
    Bench(bench::BenchArgs),
    Completions(generated::CompletionsArgs),
    Man(generated::ManArgs),
    /// List requests with their answers (not built yet)
    ///
    /// Will list requests with their answers, including overdue ones. Not built yet.
    #[command(after_help = "Example, once it is built:\n  emberpost exchanges --overdue")]
    Exchanges(not_built::AnyArgs),
}

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on, host:port (server.listen)
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The store, such as sqlite:emberpost-data/emberpost.db (store.url)
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
}

/// Runs the command and returns its exit code. Results go to standard output, errors to standard error.
pub async fn run(args: Args) -> i32 {
    let Args { config, log_format, command } = args;
    survive_large_files();
    // Not locked: `serve` has threads that print.
    let out = &mut io::stdout();
    let result = match command.unwrap_or(Command::Serve(ServeArgs { listen: None, store: None })) {
        Command::Serve(ServeArgs { listen, store }) => {
            Ok(app::serve(ServeOptions { config, listen, store_url: store, log_format }).await)
        }
        Command::Check => Ok(check::run(config.as_deref())),
        Command::Bench(args) => bench::run(args),
        Command::Send(args) => send::run(args, out).await,
        Command::Route(args) => route::run(args, out).await,
        Command::Messages(args) => messages::run(*args, out).await,
        Command::Deliveries(args) => deliveries::run(*args, out).await,
        Command::Participants(args) => participants::run(args, out).await,
        Command::Nodes(args) => participants::run_nodes(args, out).await,
        Command::Clock(args) => clock::run(args, out).await,
        Command::Replay(args) => replay::run(*args, out).await,
        Command::Store(args) => store::run(args, config.as_deref(), out).await,
        Command::Import(args) => import::run(args, config.as_deref(), out).await,
        Command::Completions(args) => generated::completions(&args, out),
        Command::Man(args) => generated::man(&args, out),
        Command::Exchanges(_) => not_built::refuse("exchanges"),
        Command::Validate(args) => validate::run(args, config.as_deref(), out).await,
    };
    let result = result.and_then(|code| out.flush().map(|()| code).map_err(failure::Failure::from));
    failure::exit_code(result)
}

/// With a listener for SIGXFSZ, a write beyond the process's file size limit fails instead of ending the process.
fn survive_large_files() {
    use tokio::signal::unix::{SignalKind, signal};
    let kind = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    if let Err(error) = signal(kind) {
        tracing::warn!(%error, "a write beyond the file size limit would end this process");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(words.split(' '))
    }

    #[test]
    fn every_command_has_a_short_and_a_long_text_and_an_example_of_itself() {
        fn check(command: &clap::Command, path: &str) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{path}: no example");
            assert!(help.contains(path), "{path}: its example shows another command");
            let short = command.get_about().map(ToString::to_string).unwrap_or_default();
            let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(!short.is_empty() && long.len() > short.len(), "{path}: no short and long text");
            for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
                check(child, &format!("{path} {}", child.get_name()));
            }
        }
        let command = Args::command();
        command.clone().debug_assert();
        check(&command, "emberpost");
    }

    #[test]
    fn wrong_usage_is_exit_code_2_and_help_is_0() {
        for (words, code) in [
            ("emberpost --help", 0),
            ("emberpost send --help", 0),
            ("emberpost validate --help", 0),
            ("emberpost --version", 0),
            ("emberpost fly", 2),
            ("emberpost send file.json", 2),
            ("emberpost messages --state lost", 2),
            ("emberpost messages --since yesterday", 2),
            ("emberpost --log-format xml", 2),
            ("emberpost deliveries retry", 2),
            ("emberpost replay", 2),
            ("emberpost import", 2),
        ] {
            assert_eq!(parse(words).expect_err(words).exit_code(), code, "{words}");
        }
    }

    #[test]
    fn no_command_serves_and_global_flags_may_follow_the_command() {
        assert!(parse("emberpost").expect("no command").command.is_none());
        let args = parse("emberpost check --config a.toml --log-format json").expect("flags after the command");
        assert_eq!((args.config, args.log_format), (Some(PathBuf::from("a.toml")), telemetry::Format::Json));
    }

    #[tokio::test]
    async fn what_is_not_built_is_exit_code_2() {
        for words in ["exchanges --overdue", "validate x.json --level profile"] {
            let args = parse(&format!("emberpost {words}")).expect(words);
            assert_eq!(run(args).await, 2, "{words}");
        }
    }
}

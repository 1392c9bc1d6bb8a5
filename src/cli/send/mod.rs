//! `emberpost send`: sends message files to any FHIR messaging endpoint and sums its answers up.
//!
//! Reads files while it sends (`source`), never more than the concurrency ahead; one request per message over HTTP (`post`)
//! or AMQP (`publish`, over a `link`, to an `address`); lines and figures (`report`). It repeats nothing: who wants a
//! message sent again runs it again.

mod address;
mod answer;
mod link;
mod post;
mod publish;
mod report;
mod sent;

use super::client::{TOKEN_VARIABLE, token_of};
use super::failure::Failure;
use super::source::{self, Source};
use address::{Address, Place};
use futures_util::StreamExt;
use futures_util::stream;
use post::Endpoint;
use publish::Publisher;
use report::Report;
use sent::Sent;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Nothing was reached by so many messages: the rest is not tried.
const GIVE_UP_AFTER: u64 = 16;
/// A sender that fell behind its rate catches up by no more than this.
const CATCH_UP_MS: u64 = 20;

/// Send messages to a FHIR messaging endpoint
///
/// Posts each message to the endpoint's $process-message, or publishes it to a broker, and sums the answers up. A named
/// file is read whatever its ending; of folders .json, .fhir and .ndjson files, recursively, in order of their names; - is
/// standard input. An .ndjson file has one message per line. Messages that are under way together may overtake each other:
/// --concurrency 1 keeps their order. On a terminal a progress bar and the messages that failed are shown, elsewhere one
/// line per message.
///
/// Over AMQP a message is persistent and must be confirmed by the broker. Then its answer is waited for, in a queue of this
/// command's own; of several answers the first counts. When none comes in time, the message is in the broker's custody, and
/// that is no failure. With --async nothing is waited for but the broker. No other queue and no exchange is declared.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost send messages/ --to http://127.0.0.1:8080/fhir\n  \
                        emberpost send day.ndjson --to https://hub.example.org/fhir --concurrency 16 --rate 50\n  \
                        cat message.json | emberpost send - --to http://127.0.0.1:8080/fhir\n  \
                        emberpost send messages/ --to amqp://user:password@127.0.0.1:5672/%2f --timeout 60\n  \
                        emberpost send day.ndjson --to amqps://user:password@mq.example.org --queue lab.in --async\n  \
                        emberpost send day.ndjson --to amqp://127.0.0.1 --exchange fhir --routing-key lab\n\n\
                        Exit codes: 0 all were taken; 1 some were not; 3 the server could not be reached at all.")]
pub struct SendArgs {
    /// Message files and folders; - is standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// The endpoint; /$process-message is appended unless the URL ends so. Or a broker: amqp(s)://user:password@host/vhost
    #[arg(long, value_name = "URL")]
    to: String,
    /// Messages under way at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// At most so many messages a second
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Ask for asynchronous processing (async=true); AMQP: do not wait for answers
    #[arg(long = "async")]
    is_async: bool,
    /// Longest wait for the answer to a message, in seconds [default: 120; AMQP: 30]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
    #[command(flatten)]
    place: Place,
    /// HTTP: variable that holds the token [default: EMBERPOST_TOKEN]
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
}

/// Sends everything. Exit code 1 when any message was not taken, 3 when the server was never reached.
pub async fn run(args: SendArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let target = target(&args)?;
    let files = source::find(&args.paths, &["json", "fhir", "ndjson"])?;
    let carrier = target.open(&args).await?;
    let is_terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
    let mut report = Report::new(out, is_terminal, files.len() as u64);

    let (sender, receiver) = mpsc::channel(usize::from(args.concurrency));
    let reader = tokio::task::spawn_blocking(move || source::read_all(files, &sender));
    let pace = Pace { interval: args.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)), next: Instant::now() };
    let paced = stream::unfold((receiver, pace), |(mut receiver, mut pace)| async {
        let message = receiver.recv().await?;
        pace.wait().await;
        Some((message, (receiver, pace)))
    });
    let mut answers = Box::pin(paced.map(|message| carrier.send(message)).buffer_unordered(args.concurrency.into()));
    while let Some(sent) = answers.next().await {
        report.add(sent);
        if report.never_reached(GIVE_UP_AFTER) {
            report.gave_up();
            break;
        }
    }
    // The reader ends with its channel; a read of standard input that still waits is not waited for.
    drop(answers);
    carrier.close().await;
    if !reader.is_finished() {
        reader.abort();
    }
    Ok(report.finish())
}

/// Where the messages go, before anything is connected.
enum Target {
    Http(Endpoint),
    Amqp(Address),
}

/// Errs for an address that is none, and for options that are the other protocol's.
fn target(args: &SendArgs) -> Result<Target, Failure> {
    let usage = |sentence: &str| Err(Failure::Usage(sentence.into()));
    if !address::is_amqp(&args.to) {
        if args.place.is_given() {
            return usage("--queue, --exchange and --routing-key are for amqp:// and amqps:// URLs");
        }
        let token = token(args.token_env.as_deref())?;
        return Ok(Target::Http(Endpoint::new(&args.to, args.is_async, args.timeout(), token)?));
    }
    if args.token_env.is_some() {
        return usage("--token-env is for http:// and https:// URLs; a broker's password is in its URL");
    }
    if args.is_async && args.timeout.is_some() {
        return usage("with --async no answer is waited for over AMQP: leave --timeout out");
    }
    Ok(Target::Amqp(Address::new(&args.to, &args.place)?))
}

impl SendArgs {
    fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}

impl Target {
    async fn open(self, args: &SendArgs) -> Result<Carrier, Failure> {
        Ok(match self {
            Target::Http(endpoint) => Carrier::Http(endpoint),
            Target::Amqp(address) => {
                Carrier::Amqp(Publisher::open(address, args.is_async, args.timeout()).await?.into())
            }
        })
    }
}

/// What carries each message.
enum Carrier {
    Http(Endpoint),
    Amqp(Box<Publisher>),
}

impl Carrier {
    async fn send(&self, source: Source) -> Sent {
        match self {
            Carrier::Http(endpoint) => endpoint.send(source).await,
            Carrier::Amqp(publisher) => publisher.send(source).await,
        }
    }

    async fn close(&self) {
        if let Carrier::Amqp(publisher) = self {
            publisher.close().await;
        }
    }
}

fn token(variable: Option<&str>) -> Result<Option<reqwest::header::HeaderValue>, Failure> {
    let token = token_of(variable.unwrap_or(TOKEN_VARIABLE))?;
    match variable {
        Some(variable) if token.is_none() => Err(Failure::Usage(format!("the variable {variable} holds no token"))),
        _ => Ok(token),
    }
}

/// Messages a second: `50`, `0.5` or `50/s`.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse::<f64>();
    number.ok().filter(|rate| (0.001..=1e6).contains(rate)).ok_or_else(|| "give messages a second, such as 50".into())
}

/// Starts of messages at an even distance.
struct Pace {
    interval: Option<Duration>,
    next: Instant,
}

impl Pace {
    async fn wait(&mut self) {
        let Some(interval) = self.interval else { return };
        tokio::time::sleep_until(self.next).await;
        let now = Instant::now();
        let earliest = now.checked_sub(Duration::from_millis(CATCH_UP_MS)).unwrap_or(now);
        self.next = self.next.max(earliest) + interval;
    }
}

#[cfg(test)]
mod tests;

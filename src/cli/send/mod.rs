//! `emberpost send`: sends message files to a FHIR messaging endpoint or a broker, and summarizes the answers.
//!
//! Reads files while it sends (`source`), at most `--concurrency` ahead. Sends one request per message over HTTP (`post`) or
//! AMQP (`publish`, over a `link`, to an `address`), and prints results (`report`). It never retries: run it again for that.

mod address;
mod answer;
mod link;
mod post;
mod publish;
mod report;
mod sent;

use super::client::{TOKEN_VARIABLE, token_of};
use super::failure::Failure;
use super::interrupt;
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
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// After so many messages that reached no server, the rest is not tried.
const GIVE_UP_AFTER: u64 = 16;
/// If sending falls behind its rate, it catches up by at most this.
const CATCH_UP_MS: u64 = 20;

/// Send messages to a FHIR messaging endpoint
///
/// Posts each message to the endpoint's $process-message, or publishes it to a broker, and summarizes the answers. Reads
/// named files whatever their extension, and the .json, .xml, .fhir, and .ndjson files of folders, recursively, sorted by
/// name; - is standard input. An .ndjson file has one message per line. Messages that are in flight together may overtake
/// each other: --concurrency 1 preserves their order. On a terminal it shows a progress bar and the messages that failed,
/// otherwise one line per message. Ctrl-C stops it and prints the summary.
///
/// Over AMQP, messages are persistent and the broker must confirm them. Then the command waits for the answer, in an
/// exclusive queue that it declares; of several answers the first counts. If none comes in time, the broker has the message,
/// and that is not a failure. With --async it waits for the confirm only. It declares no other queue and no exchange.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost send messages/ --to http://127.0.0.1:8080/fhir\n  \
                        emberpost send day.ndjson --to https://hub.example.org/fhir --concurrency 16 --rate 50\n  \
                        cat message.json | emberpost send - --to http://127.0.0.1:8080/fhir\n  \
                        emberpost send messages/ --to amqp://user:password@127.0.0.1:5672/%2f --timeout 60\n  \
                        emberpost send day.ndjson --to amqps://user:password@mq.example.org --queue lab.in --async\n  \
                        emberpost send day.ndjson --to amqp://127.0.0.1 --exchange fhir --routing-key lab\n\n\
                        Exit codes: 0 all were accepted; 1 some were not, or it was interrupted; 2 wrong usage; 3 the server could not be \
                        reached.")]
pub struct SendArgs {
    /// Message files and folders; - is standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// The endpoint (/$process-message is appended if missing), or a broker: amqp(s)://user:password@host/vhost
    #[arg(long, value_name = "URL")]
    to: String,
    /// Number of messages in flight at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// At most this many messages a second
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Request asynchronous processing (async=true); AMQP: do not wait for answers
    #[arg(long = "async")]
    is_async: bool,
    /// Longest wait for the answer to a message, in seconds [default: 120; AMQP: 30]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
    #[command(flatten)]
    place: Place,
    /// HTTP: the variable that holds the token [default: EMBERPOST_TOKEN]
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
}

/// Sends everything. Exit code 1 if any message was not accepted, 3 if the server was never reached.
pub async fn run(args: SendArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let target = target(&args)?;
    let files = source::find(&args.paths)?;
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
    let started = AtomicU64::new(0);
    let sending = paced.map(|message| {
        started.fetch_add(1, Ordering::Relaxed);
        carrier.send(message)
    });
    let mut answers = Box::pin(sending.buffer_unordered(args.concurrency.into()));
    let mut interrupt = pin!(interrupt::wait());
    loop {
        let sent = tokio::select! {
            sent = answers.next() => sent,
            () = &mut interrupt => {
                report.interrupted(started.load(Ordering::Relaxed));
                break;
            }
        };
        let Some(sent) = sent else { break };
        report.add(sent);
        if report.never_reached(GIVE_UP_AFTER) {
            report.gave_up();
            break;
        }
    }
    // Dropping the stream closes the reader's channel. A blocked read of standard input must not delay the end.
    drop(answers);
    carrier.close().await;
    if !reader.is_finished() {
        reader.abort();
    }
    Ok(report.finish())
}

/// Where the messages go, before it is connected.
enum Target {
    Http(Endpoint),
    Amqp(Address),
}

/// Fails for an invalid address, and for options of the other protocol.
fn target(args: &SendArgs) -> Result<Target, Failure> {
    let usage = |sentence: &str| Err(Failure::Usage(sentence.into()));
    if !address::is_amqp(&args.to) {
        if args.place.is_given() {
            return usage("--queue, --exchange, and --routing-key are for amqp:// and amqps:// URLs");
        }
        let token = token(args.token_env.as_deref())?;
        return Ok(Target::Http(Endpoint::new(&args.to, args.is_async, args.timeout(), token)?));
    }
    if args.token_env.is_some() {
        return usage("--token-env is for http:// and https:// URLs; a broker's password is in its URL");
    }
    if args.is_async && args.timeout.is_some() {
        return usage("over AMQP, --async does not wait for answers: omit --timeout");
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

/// The protocol with its open connection.
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
        Some(variable) if token.is_none() => {
            Err(Failure::Usage(format!("the variable {variable} does not hold a token")))
        }
        _ => Ok(token),
    }
}

/// Messages a second: `50`, `0.5` or `50/s`.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse::<f64>();
    number.ok().filter(|rate| (0.001..=1e6).contains(rate)).ok_or_else(|| "give messages a second, such as 50".into())
}

/// Spaces the messages evenly.
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

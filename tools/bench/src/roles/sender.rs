//! The senders: connections that each post a message, wait for the reply, and post the next.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use uuid::Uuid;

use super::{Measured, RoleArgs};
use crate::arrivals::Arrivals;
use crate::latency::Latencies;
use crate::message::{MAILBOX_ADDRESS, SENDER_ADDRESS, Template, holds};
use crate::proc::Usage;

/// The delay before a sender with a broken connection reconnects.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// The time limit for the last replies after the measured time; those still missing count as unexpected.
const LAST_REPLIES: Duration = Duration::from_secs(5);

/// State shared by the connections: when counting begins and ends, and the counts.
struct Tally {
    from: Instant,
    until: Instant,
    /// The schedule of an open loop.
    arrivals: Option<Arrivals>,
    counts: RefCell<Counts>,
}

struct Counts {
    latencies: Latencies,
    measured: Measured,
}

impl Tally {
    fn is_over(&self, most_messages: u64) -> bool {
        Instant::now() >= self.until || self.counts.borrow().measured.messages_in_all >= most_messages
    }

    async fn wait_until_over(&self, most_messages: u64) {
        if most_messages == u64::MAX {
            return tokio::time::sleep_until(self.until.into()).await;
        }
        while !self.is_over(most_messages) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// When the next message was due, from which its time counts: now in a closed loop. `None` at the end.
    async fn next_due(&self, most_messages: u64) -> Option<Instant> {
        if self.is_over(most_messages) {
            return None;
        }
        match &self.arrivals {
            Some(arrivals) => arrivals.next().await,
            None => Some(Instant::now()),
        }
    }
}

/// Sends for `time` after the warm-up, and prints the measurements.
pub async fn run(args: RoleArgs, time: Duration) -> Result<()> {
    let from = Instant::now() + args.warm_up();
    let until = from + time;
    let arrivals = (args.due_per_second > 0.0).then(|| Arrivals::new(until));
    let counts = RefCell::new(Counts { latencies: Latencies::new()?, measured: Measured::default() });
    let tally = Rc::new(Tally { from, until, arrivals, counts });
    let connections = LocalSet::new();
    let schedule = Rc::clone(&tally);
    connections.spawn_local(async move {
        if let Some(arrivals) = &schedule.arrivals {
            arrivals.run(Instant::now(), args.due_per_second).await;
        }
    });
    let senders: Vec<_> = (0..args.width)
        .map(|number| connections.spawn_local(send_until_done(number, args.clone(), Rc::clone(&tally))))
        .collect();
    let before = connections
        .run_until(async {
            tokio::time::sleep_until(tally.from.into()).await;
            println!("measuring");
            let before = Usage::of(std::process::id());
            tally.wait_until_over(args.messages).await;
            before
        })
        .await?;
    let elapsed = Instant::now().min(tally.until).saturating_duration_since(tally.from);
    let used = Usage::of(std::process::id())?.since(&before);
    let finished = connections
        .run_until(async {
            let all = futures_util::future::join_all(senders);
            tokio::time::timeout(LAST_REPLIES, all).await.is_ok()
        })
        .await;
    drop(connections);
    let Counts { latencies, measured } = &mut *tally.counts.borrow_mut();
    measured.latency = latencies.summary();
    measured.messages = latencies.count();
    measured.unsent = tally.arrivals.as_ref().map_or(0, Arrivals::unsent);
    measured.elapsed_us = elapsed.as_micros() as u64;
    measured.cpu_us = used.cpu_us;
    if !finished {
        unexpected(measured, || format!("no reply within {LAST_REPLIES:?} after the end"));
    }
    println!("{}", serde_json::to_string(measured)?);
    Ok(())
}

/// One sender: counts any failure and continues with a new connection.
async fn send_until_done(number: usize, args: RoleArgs, tally: Rc<Tally>) {
    let source = format!("{SENDER_ADDRESS}{number}");
    let template = Template::new(args.size_bytes, &source, &args.destination);
    while !tally.is_over(args.messages) {
        if let Err(error) = send_on_one_connection(&args, &template, &tally).await {
            unexpected(&mut tally.counts.borrow_mut().measured, || format!("{error:#}"));
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

async fn send_on_one_connection(args: &RoleArgs, template: &Template, tally: &Tally) -> Result<()> {
    let stream = TcpStream::connect(&args.peer).await.with_context(|| format!("cannot connect to {}", args.peer))?;
    stream.set_nodelay(true)?;
    let (mut requests, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    // The first half of each identity is specific to this connection, the second half is a counter.
    let own = Uuid::new_v4().as_u64_pair().0;
    let mut next = 0;
    while let Some(begun) = tally.next_due(args.messages).await {
        next += 2;
        let header_id = Uuid::from_u64_pair(own, next);
        let message = template.fill(Uuid::from_u64_pair(own, next + 1), header_id);
        let (status, body) = post(&mut requests, args, message).await?;
        let ended = Instant::now();
        let counts = &mut *tally.counts.borrow_mut();
        counts.measured.messages_in_all += 1;
        if !expected(args, status, &body, header_id) {
            unexpected(&mut counts.measured, || describe(status, &body));
        } else if ended >= tally.from && ended < tally.until {
            counts.latencies.record(ended.saturating_duration_since(begun));
        }
    }
    Ok(())
}

async fn post(requests: &mut SendRequest<Full<Bytes>>, args: &RoleArgs, message: Vec<u8>) -> Result<(u16, Bytes)> {
    let request = Request::post(&args.path).header(HOST, &args.peer).header(CONTENT_TYPE, "application/fhir+json");
    let request = if args.respond_async { request.header("prefer", "respond-async") } else { request };
    let request = request.body(Full::from(message))?;
    requests.ready().await.context("the connection was closed")?;
    let response = requests.send_request(request).await.context("no reply")?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await.context("the reply broke off")?.to_bytes()))
}

/// A message for a mailbox gets 202, as does one whose answer may come later; any other is answered, and the answer
/// names the request.
fn expected(args: &RoleArgs, status: u16, body: &[u8], header_id: Uuid) -> bool {
    if args.destination == MAILBOX_ADDRESS || args.respond_async {
        return status == 202;
    }
    status == 200 && holds(body, header_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes())
}

fn unexpected(measured: &mut Measured, what: impl FnOnce() -> String) {
    measured.unexpected += 1;
    measured.first_unexpected.get_or_insert_with(what);
}

/// The messages contain no real data, so the start of a reply may be shown.
fn describe(status: u16, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(600).collect();
    format!("status {status}: {text}")
}

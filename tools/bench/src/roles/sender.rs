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

use super::{Measured, RoleArgs, WARM_UP, percentiles};
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
    counts: RefCell<Counts>,
}

#[derive(Default)]
struct Counts {
    latencies_us: Vec<u32>,
    measured: Measured,
}

/// Sends for `time` after the warm-up, and prints the measurements.
pub async fn run(args: RoleArgs, time: Duration) -> Result<()> {
    let from = Instant::now() + WARM_UP;
    let tally = Rc::new(Tally { from, until: from + time, counts: RefCell::default() });
    let connections = LocalSet::new();
    let senders: Vec<_> = (0..args.width)
        .map(|number| connections.spawn_local(send_until_done(number, args.clone(), Rc::clone(&tally))))
        .collect();
    let before = connections
        .run_until(async {
            tokio::time::sleep_until(tally.from.into()).await;
            println!("measuring");
            let before = Usage::of(std::process::id());
            tokio::time::sleep_until(tally.until.into()).await;
            before
        })
        .await?;
    let used = Usage::of(std::process::id())?.since(before);
    let finished = connections
        .run_until(async {
            let all = futures_util::future::join_all(senders);
            tokio::time::timeout(LAST_REPLIES, all).await.is_ok()
        })
        .await;
    drop(connections);
    let Counts { mut latencies_us, mut measured } = tally.counts.take();
    (measured.p50_us, measured.p99_us) = percentiles(&mut latencies_us);
    measured.messages = latencies_us.len() as u64;
    measured.elapsed_us = time.as_micros() as u64;
    measured.cpu_us = used.cpu_us;
    if !finished {
        unexpected(&mut measured, || format!("no reply within {LAST_REPLIES:?} after the end"));
    }
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// One sender: counts any failure and continues with a new connection.
async fn send_until_done(number: usize, args: RoleArgs, tally: Rc<Tally>) {
    let source = format!("{SENDER_ADDRESS}{number}");
    let template = Template::new(args.size_bytes, &source, &args.destination);
    while Instant::now() < tally.until {
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
    while Instant::now() < tally.until {
        next += 2;
        let header_id = Uuid::from_u64_pair(own, next);
        let message = template.fill(Uuid::from_u64_pair(own, next + 1), header_id);
        let begun = Instant::now();
        let (status, body) = post(&mut requests, &args.peer, message).await?;
        let ended = Instant::now();
        let counts = &mut *tally.counts.borrow_mut();
        counts.measured.messages_in_all += 1;
        if !expected(&args.destination, status, &body, header_id) {
            unexpected(&mut counts.measured, || describe(status, &body));
        } else if ended >= tally.from && ended < tally.until {
            counts.latencies_us.push((ended - begun).as_micros().try_into().unwrap_or(u32::MAX));
        }
    }
    Ok(())
}

async fn post(requests: &mut SendRequest<Full<Bytes>>, host: &str, message: Vec<u8>) -> Result<(u16, Bytes)> {
    let request = Request::post("/fhir/$process-message")
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/fhir+json")
        .body(Full::from(message))?;
    requests.ready().await.context("the connection was closed")?;
    let response = requests.send_request(request).await.context("no reply")?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await.context("the reply broke off")?.to_bytes()))
}

/// A message for a mailbox gets 202; any other is answered, and the answer names the request.
fn expected(destination: &str, status: u16, body: &[u8], header_id: Uuid) -> bool {
    if destination == MAILBOX_ADDRESS {
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

//! Why a request got no answer, from the HTTP client's error: whose failure it is, and whether the receiver saw the
//! request.

use crate::delivery::AttemptResult;
use crate::fault::Fault;
use hyper_util::client::legacy::Error;
use rustix::io::Errno;
use std::error::Error as StdError;
use std::io;

use crate::channel::retryable;

/// Most headers of an answer.
pub(super) const HEADERS_LIMIT: usize = 100;
const DETAIL_LIMIT_CHARACTERS: usize = 200;
/// System errors when this process or machine has no resources for another connection.
const SHORTAGES: [Errno; 6] =
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN];

/// The result of an attempt without an answer.
pub(super) fn result_of(error: &Error) -> AttemptResult {
    if let Some(why) = shortage(error) {
        let detail = format!("the router has no resources for another connection: {why}");
        return AttemptResult::NotSent { fault: Some(Fault::RouteShortage), detail };
    }
    if error.is_connect() {
        let timed_out = causes(error).filter_map(io_error).any(|error| error.kind() == io::ErrorKind::TimedOut);
        let why = if timed_out { "no connection in time".into() } else { root_cause(error) };
        return retryable(Fault::RecvUnreachable, format!("cannot connect: {why}"));
    }
    match causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
        Some(error) if error.is_parse_too_large() => too_many_headers(),
        Some(error) if error.is_parse() => retryable(Fault::RecvBadAnswer, "the answer is not HTTP"),
        _ => retryable(Fault::RecvUnreachable, "connection lost before the answer was complete"),
    }
}

pub(super) fn too_many_headers() -> AttemptResult {
    retryable(
        Fault::RecvBadAnswer,
        format!("the answer has more than {HEADERS_LIMIT} headers, or headers that are too long"),
    )
}

/// Whether the receiver states that it did not process the request.
pub(super) fn is_unprocessed(error: &Error) -> bool {
    causes(error).filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        let reason = error.reason();
        error.is_remote()
            && (error.is_go_away() && reason == Some(h2::Reason::NO_ERROR)
                || error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Whether the connection ended, as opposed to an unreadable answer or one stream of many that was reset.
pub(super) fn is_connection_lost(error: &Error) -> bool {
    if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>()) {
        return error.is_io() || error.is_go_away();
    }
    causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>()).is_some_and(|error| {
        error.is_incomplete_message()
            || error.is_canceled()
            || error.is_closed()
            || error.is_body_write_aborted()
            || causes(error).any(|cause| io_error(cause).is_some())
    })
}

/// The resource shortage of this machine that prevented the connection.
fn shortage(error: &Error) -> Option<String> {
    if !error.is_connect() {
        return None;
    }
    let is_shortage = |error: &io::Error| {
        error.raw_os_error().is_some_and(|code| SHORTAGES.contains(&Errno::from_raw_os_error(code)))
    };
    if let Some(error) = causes(error).filter_map(io_error).find(|error| is_shortage(error)) {
        return Some(error.to_string());
    }
    // The system's resolver needs descriptors too but does not report when there are none, so this opens one as a test.
    let unresolved = causes(error).any(|cause| cause.to_string().contains("dns error"));
    let socket = if unresolved { std::net::UdpSocket::bind(("127.0.0.1", 0)).err() } else { None };
    socket.filter(is_shortage).map(|error| error.to_string())
}

fn io_error<'e>(cause: &'e (dyn StdError + 'static)) -> Option<&'e io::Error> {
    cause.downcast_ref()
}

/// The error and its causes, outermost first.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// The innermost cause, such as "Connection refused" or "invalid peer certificate", which names no URL.
fn root_cause(error: &Error) -> String {
    causes(error)
        .last()
        .map_or_else(String::new, |cause| cause.to_string().chars().take(DETAIL_LIMIT_CHARACTERS).collect())
}

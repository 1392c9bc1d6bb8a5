//! Reads a request's body, bounded before and after its content encoding is removed.

use crate::admission::Permit;
use crate::channel::media::{self, Encoding};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest pause between two parts of a body.
const BODY_IDLE_TIMEOUT_SECONDS: u64 = 20;
/// Longest duration of a whole body: 20 MiB at 70 KB a second.
const BODY_TIMEOUT_SECONDS: u64 = 300;
/// How much of a refused body is read and discarded. Closing a connection with unread bytes resets it, and a sender
/// that is still writing would lose the reply.
const DISCARD_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
const DISCARD_TIMEOUT_SECONDS: u64 = 10;
const READ_TIMEOUTS: ReadTimeouts = ReadTimeouts {
    idle: Duration::from_secs(BODY_IDLE_TIMEOUT_SECONDS),
    whole: Duration::from_secs(BODY_TIMEOUT_SECONDS),
};

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub limit_bytes: usize,
    pub encoding: Encoding,
}

/// How long a body may take: between two parts, and as a whole.
#[derive(Clone, Copy, Debug)]
struct ReadTimeouts {
    idle: Duration,
    whole: Duration,
}

type Problem = (StatusCode, Issue);

/// The decoded body, counted by `permit`. Errs with 413 beyond the limit, 400 if it is incomplete or badly encoded, 408
/// if it takes too long, and 503 if too many bytes are in flight.
pub async fn read_body(body: &mut Body, bounds: Bounds, permit: &mut Permit) -> Result<Bytes, Problem> {
    // A client with `Expect: 100-continue` gets this refusal before it sends the body.
    if body.size_hint().lower() > bounds.limit_bytes as u64 {
        return Err(too_large(bounds.limit_bytes));
    }
    let raw = collect(body, bounds.limit_bytes, READ_TIMEOUTS, permit).await?;
    if bounds.encoding == Encoding::Identity {
        return Ok(raw);
    }
    let unpacking = permit.decompression().await;
    let decoded = media::decode(&raw, bounds.encoding, bounds.limit_bytes, |bytes| permit.grow(bytes));
    drop(unpacking);
    permit.shrink(raw.len() as u64);
    decoded.map_err(|issue| match issue.code {
        IssueCode::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, issue),
        IssueCode::Transient => (StatusCode::SERVICE_UNAVAILABLE, issue),
        _ => (StatusCode::BAD_REQUEST, issue),
    })
}

fn too_many_bytes() -> Problem {
    (StatusCode::SERVICE_UNAVAILABLE, media::too_many_bytes())
}

/// Reads and discards the rest of a refused body, within bounds.
pub async fn discard(body: &mut Body) {
    let deadline = Instant::now() + Duration::from_secs(DISCARD_TIMEOUT_SECONDS);
    let mut bytes = 0;
    while bytes < DISCARD_LIMIT_BYTES
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await
    {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

async fn collect(
    body: &mut Body,
    limit_bytes: usize,
    timeouts: ReadTimeouts,
    permit: &mut Permit,
) -> Result<Bytes, Problem> {
    let deadline = Instant::now() + timeouts.whole;
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    loop {
        let until = deadline.min(Instant::now() + timeouts.idle);
        let frame = match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => {
                let text = "The body ended early; nothing was stored";
                return Err((StatusCode::BAD_REQUEST, Issue::error(IssueCode::Structure, Fault::SendSyntax, text)));
            }
            Ok(None) => return Ok(first.unwrap_or_else(|| whole.freeze())),
            Err(_) => {
                let text = "The body took too long to arrive; nothing was stored";
                return Err((StatusCode::REQUEST_TIMEOUT, Issue::error(IssueCode::Timeout, Fault::SendRequest, text)));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len);
        if so_far + data.len() > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        if !permit.grow(data.len() as u64) {
            return Err(too_many_bytes());
        }
        // Most messages arrive in one frame, which is used without a copy.
        if so_far == 0 {
            first = Some(data);
            continue;
        }
        if let Some(first) = first.take() {
            // Reserves the announced length at once; growing step by step would take up to twice as much.
            let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit_bytes);
            whole.reserve(limit_bytes.min(first.len() + data.len() + announced));
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
}

fn too_large(limit_bytes: usize) -> Problem {
    (StatusCode::PAYLOAD_TOO_LARGE, media::too_large(limit_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(20);

    fn permit() -> Permit {
        crate::admission::Admission::new(1, u64::MAX).admit(None).unwrap()
    }

    #[tokio::test]
    async fn a_body_that_stalls_ends_after_the_idle_time_and_one_that_drips_after_the_whole_time() {
        let start = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"{")) });
        let mut stalls = Body::from_stream(start.chain(stream::pending()));
        let (status, issue) =
            collect(&mut stalls, 1024, ReadTimeouts { idle: SHORT, whole: LONG }, &mut permit()).await.unwrap_err();
        assert_eq!((status, issue.code), (StatusCode::REQUEST_TIMEOUT, IssueCode::Timeout));

        let mut drips = Body::from_stream(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        }));
        let timeouts = ReadTimeouts { idle: LONG, whole: SHORT };
        let (status, _) = collect(&mut drips, 1024 * 1024, timeouts, &mut permit()).await.unwrap_err();
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn received_and_unpacked_bytes_are_counted_and_refused_beyond_the_limit() {
        let admission = crate::admission::Admission::new(10, 1000);
        let mut permit = admission.admit(None).unwrap();
        let packed = zstd::encode_all(&[b' '; 900][..], 3).unwrap();
        let bounds = |encoding| Bounds { limit_bytes: 5000, encoding };
        let mut body = Body::from(packed.clone());
        let bytes = read_body(&mut body, bounds(Encoding::Zstd), &mut permit).await.unwrap();
        assert_eq!((bytes.len(), admission.in_flight()), (900, (1, 900)));
        let refused = |problem: Problem| (problem.0.as_u16(), problem.1.cause);
        for (body, encoding) in [(packed, Encoding::Zstd), (vec![b' '; 101], Encoding::Identity)] {
            let mut other = admission.admit(None).unwrap();
            let problem = read_body(&mut Body::from(body), bounds(encoding), &mut other).await.unwrap_err();
            assert_eq!(refused(problem), (503, Fault::RouteBusy));
        }
        drop(permit);
        assert_eq!(admission.in_flight(), (0, 0));
    }
}

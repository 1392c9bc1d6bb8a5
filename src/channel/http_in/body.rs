//! A request's body, bounded before and after its content encoding is removed.

use crate::channel::media::{self, Encoding};
use crate::fhir::{Fault, Issue, IssueCode};
use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A sender that stops in the middle of its body holds its place no longer than this.
const BODY_IDLE_TIMEOUT_SECONDS: u64 = 20;
/// Nor longer than this when it drips: 20 MiB at 70 KB a second.
const BODY_TIMEOUT_SECONDS: u64 = 300;
/// What is read and thrown away of a body that is refused. A sender that still writes would lose the reply otherwise, because
/// closing a connection with unread bytes resets it.
const DISCARD_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
const DISCARD_TIMEOUT_SECONDS: u64 = 10;
const PATIENCE: Patience =
    Patience { idle: Duration::from_secs(BODY_IDLE_TIMEOUT_SECONDS), whole: Duration::from_secs(BODY_TIMEOUT_SECONDS) };

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub limit_bytes: usize,
    pub encoding: Encoding,
}

/// How long a body may take: without a byte, and as a whole.
#[derive(Clone, Copy, Debug)]
struct Patience {
    idle: Duration,
    whole: Duration,
}

type Problem = (StatusCode, Issue);

/// The decoded body. Errs with 413 beyond the limit, 400 when it stops half way or is badly encoded, 408 when it stalls.
pub async fn read_body(body: &mut Body, bounds: Bounds) -> Result<Bytes, Problem> {
    // A sender that asks first (`Expect: 100-continue`) is told before it sends anything.
    if body.size_hint().lower() > bounds.limit_bytes as u64 {
        return Err(too_large(bounds.limit_bytes));
    }
    let raw = collect(body, bounds.limit_bytes, PATIENCE).await?;
    media::decode(raw, bounds.encoding, bounds.limit_bytes).map_err(|issue| match issue.code {
        IssueCode::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, issue),
        _ => (StatusCode::BAD_REQUEST, issue),
    })
}

/// Reads what is left of a refused body, within bounds, and forgets it.
pub async fn discard(body: &mut Body) {
    let deadline = Instant::now() + Duration::from_secs(DISCARD_TIMEOUT_SECONDS);
    let mut bytes = 0;
    while bytes < DISCARD_LIMIT_BYTES
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await
    {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

async fn collect(body: &mut Body, limit_bytes: usize, patience: Patience) -> Result<Bytes, Problem> {
    let deadline = Instant::now() + patience.whole;
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    loop {
        let until = deadline.min(Instant::now() + patience.idle);
        let frame = match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => {
                let text = "The body stopped before its end; nothing was kept";
                return Err((StatusCode::BAD_REQUEST, Issue::error(IssueCode::Structure, Fault::SendSyntax, text)));
            }
            Ok(None) => return Ok(first.unwrap_or_else(|| whole.freeze())),
            Err(_) => {
                let text = "The body took too long to arrive; nothing was kept";
                return Err((StatusCode::REQUEST_TIMEOUT, Issue::error(IssueCode::Timeout, Fault::SendRequest, text)));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len);
        if so_far + data.len() > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        // Most messages come in one frame, which is then kept without a copy.
        if so_far == 0 {
            first = Some(data);
            continue;
        }
        if let Some(first) = first.take() {
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

    #[tokio::test]
    async fn a_body_that_stalls_ends_after_the_idle_time_and_one_that_drips_after_the_whole_time() {
        let start = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"{")) });
        let mut stalls = Body::from_stream(start.chain(stream::pending()));
        let (status, issue) = collect(&mut stalls, 1024, Patience { idle: SHORT, whole: LONG }).await.unwrap_err();
        assert_eq!((status, issue.code), (StatusCode::REQUEST_TIMEOUT, IssueCode::Timeout));

        let mut drips = Body::from_stream(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        }));
        let patience = Patience { idle: LONG, whole: SHORT };
        let (status, _) = collect(&mut drips, 1024 * 1024, patience).await.unwrap_err();
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    }
}

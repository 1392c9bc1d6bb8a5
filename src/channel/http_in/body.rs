//! A request's body, bounded before and after its content encoding is removed.

use crate::apart::apart;
use crate::fhir::{Fault, Issue, IssueCode};
use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::io::Read;
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
/// The largest window that a zstd body may ask memory for: 8 MiB, as RFC 9659 has it.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

const PATIENCE: Patience =
    Patience { idle: Duration::from_secs(BODY_IDLE_TIMEOUT_SECONDS), whole: Duration::from_secs(BODY_TIMEOUT_SECONDS) };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

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
    // What comes out may be a hundred times as long as what came in.
    let work = if bounds.encoding == Encoding::Identity { 0 } else { raw.len().saturating_mul(100) };
    apart(work, || match bounds.encoding {
        Encoding::Identity => Ok(raw.clone()),
        Encoding::Gzip => inflate(flate2::read::MultiGzDecoder::new(&raw[..]), bounds.limit_bytes),
        Encoding::Zstd => inflate(zstd_decoder(&raw).map_err(|_| badly_encoded())?, bounds.limit_bytes),
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

fn zstd_decoder(raw: &[u8]) -> std::io::Result<zstd::Decoder<'_, std::io::BufReader<&[u8]>>> {
    let mut decoder = zstd::Decoder::new(raw)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// Decodes at most `limit_bytes`: a small body that unpacks to gigabytes stops here.
fn inflate(decoder: impl Read, limit_bytes: usize) -> Result<Bytes, Problem> {
    let mut whole = Vec::new();
    match decoder.take(limit_bytes as u64 + 1).read_to_end(&mut whole) {
        Ok(length) if length > limit_bytes => Err(too_large(limit_bytes)),
        Ok(_) => Ok(whole.into()),
        Err(_) => Err(badly_encoded()),
    }
}

fn too_large(limit_bytes: usize) -> Problem {
    let text = format!("The body is larger than {limit_bytes} bytes, the most that is taken");
    (StatusCode::PAYLOAD_TOO_LARGE, Issue::error(IssueCode::TooLong, Fault::SendTooLarge, text))
}

fn badly_encoded() -> Problem {
    let text = "The body is not encoded as Content-Encoding says";
    (StatusCode::BAD_REQUEST, Issue::error(IssueCode::Structure, Fault::SendMediaType, text))
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

    #[tokio::test]
    async fn a_zstd_frame_that_asks_for_a_huge_window_is_refused_and_an_ordinary_one_is_read() {
        let text = vec![b' '; 100_000];
        for (window_log, wanted) in [(20, Ok(100_000)), (27, Err(StatusCode::BAD_REQUEST))] {
            let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(window_log).unwrap();
            std::io::copy(&mut &text[..], &mut encoder).unwrap();
            let mut body = Body::from(encoder.finish().unwrap());
            let bounds = Bounds { limit_bytes: 1024 * 1024, encoding: Encoding::Zstd };
            let read = read_body(&mut body, bounds).await;
            assert_eq!(read.map(|bytes| bytes.len()).map_err(|(status, _)| status), wanted, "{window_log}");
        }
    }
}

//! A request's body, bounded before and after its content encoding is removed.

use crate::apart::apart;
use crate::fhir::{Fault, Issue, IssueCode};
use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::io::Read;
use std::time::Duration;

/// A sender that stops in the middle of its body holds its place no longer than this.
const BODY_IDLE_TIMEOUT_SECONDS: u64 = 20;

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

type Problem = (StatusCode, Issue);

/// The decoded body. Errs with 413 beyond the limit, 400 when it stops half way or is badly encoded, 408 when it stalls.
pub async fn read_body(body: Body, bounds: Bounds) -> Result<Bytes, Problem> {
    let raw = collect(body, bounds.limit_bytes).await?;
    if bounds.encoding == Encoding::Identity {
        return Ok(raw);
    }
    // What comes out may be a hundred times as long as what came in.
    apart(raw.len().saturating_mul(100), || match bounds.encoding {
        Encoding::Identity => Ok(raw.clone()),
        Encoding::Gzip => inflate(flate2::read::MultiGzDecoder::new(&raw[..]), bounds.limit_bytes),
        Encoding::Zstd => match zstd::Decoder::new(&raw[..]) {
            Ok(decoder) => inflate(decoder, bounds.limit_bytes),
            Err(_) => Err(badly_encoded()),
        },
    })
}

async fn collect(mut body: Body, limit_bytes: usize) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    loop {
        let idle = Duration::from_secs(BODY_IDLE_TIMEOUT_SECONDS);
        let frame = match tokio::time::timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => {
                let text = "The body stopped before its end; nothing was kept";
                return Err((StatusCode::BAD_REQUEST, Issue::error(IssueCode::Structure, Fault::SendSyntax, text)));
            }
            Ok(None) => return Ok(first.unwrap_or_else(|| whole.freeze())),
            Err(_) => {
                let text = "The body stalled; nothing was kept";
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

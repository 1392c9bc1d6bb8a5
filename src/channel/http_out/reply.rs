//! The receiver's reply (MSG-90): one table from status and body to `AttemptResult`.
//!
//! Details describe the failure without content, URLs, or text of the receiver.

use super::failure::{HEADERS_LIMIT, too_many_headers};
use super::unpack::{TooLong, unpacked};
use crate::channel::{media, retryable};
use crate::delivery::AttemptResult;
use crate::fault::Fault;
use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use std::time::Duration;
use tokio::time::Instant;

/// The longest answer that is read, before and after decompression.
pub const ANSWER_LIMIT_BYTES: usize = 20 * 1024 * 1024;
/// The longest OperationOutcome of a refusal that is stored, and how much is read of any other error body.
const ERROR_BODY_LIMIT_BYTES: usize = 64 * 1024;
/// Longest wait for an error body. Reading it allows the connection to be reused.
const ERROR_BODY_SECONDS: u64 = 5;

/// Why a body could not be read to its end.
enum BodyError {
    TooLong,
    Cut,
    Timeout,
}

/// Reads the reply, by the deadline. `now_us` (UTC microseconds) is compared with a date in `Retry-After`.
pub(super) async fn read(response: Response<Incoming>, deadline: Instant, now_us: i64) -> AttemptResult {
    if response.headers().len() > HEADERS_LIMIT {
        return too_many_headers();
    }
    let status = response.status().as_u16();
    let detail = format!("the receiver answered {status}");
    if let 200..=299 = status {
        return accepted(response, deadline).await;
    }
    let retry_after = retry_after(response.headers(), now_us);
    let body = error_body(response, deadline).await;
    match status {
        300..=399 => retryable(Fault::RouteRedirect, detail),
        401 | 403 | 407 => AttemptResult::Misconfigured { fault: Fault::RouteCredential, detail },
        404 => AttemptResult::Misconfigured { fault: Fault::RouteUrl, detail },
        408 | 425 | 429 | 503 => AttemptResult::Retryable { fault: Fault::RecvBusy, retry_after, detail },
        400..=499 => AttemptResult::Refused { outcome: body.filter(|body| !body.is_empty()), detail },
        _ => AttemptResult::Retryable { fault: Fault::RecvError, retry_after, detail },
    }
}

async fn accepted(response: Response<Incoming>, deadline: Instant) -> AttemptResult {
    let status = response.status().as_u16();
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.to_owned();
    match body(response, deadline, ANSWER_LIMIT_BYTES).await {
        Ok(bytes) if is_blank(&bytes) => AttemptResult::Accepted,
        Ok(bytes) => AttemptResult::Body { bytes, media_type },
        // The real answer comes later, whatever this body was.
        Err(_) if status == 202 => AttemptResult::Accepted,
        Err(BodyError::TooLong) => {
            retryable(Fault::RecvBadAnswer, format!("answer longer than {ANSWER_LIMIT_BYTES} bytes"))
        }
        Err(BodyError::Cut) => retryable(Fault::RecvUnreachable, "connection lost before the answer was complete"),
        Err(BodyError::Timeout) => retryable(Fault::RecvTimeout, "the answer was not complete in time"),
    }
}

/// A body of only whitespace or a byte order mark counts as empty.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii().is_empty()
}

async fn error_body(response: Response<Incoming>, deadline: Instant) -> Option<Bytes> {
    let deadline = deadline.min(Instant::now() + Duration::from_secs(ERROR_BODY_SECONDS));
    body(response, deadline, ERROR_BODY_LIMIT_BYTES).await.ok()
}

/// The body without its content encodings.
async fn body(response: Response<Incoming>, deadline: Instant, limit_bytes: usize) -> Result<Bytes, BodyError> {
    let encodings = media::joined(response.headers(), &CONTENT_ENCODING).unwrap_or_default();
    let body = received(response.into_body(), deadline, limit_bytes).await?;
    unpacked(body, &encodings, limit_bytes).map_err(|TooLong| BodyError::TooLong)
}

async fn received(mut body: Incoming, deadline: Instant, limit_bytes: usize) -> Result<Bytes, BodyError> {
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > limit_bytes as u64 {
        return Err(BodyError::TooLong);
    }
    let mut bytes = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(BodyError::Timeout),
            Ok(Some(Err(_))) => return Err(BodyError::Cut),
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Ok(frame))) => frame,
        };
        match frame.into_data() {
            Ok(chunk) if bytes.len() + chunk.len() > limit_bytes => return Err(BodyError::TooLong),
            // The common answer is one chunk, which is used without a copy.
            Ok(chunk) if bytes.is_empty() && announced > 0 && chunk.len() as u64 == announced => return Ok(chunk),
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            // Trailers are ignored.
            Err(_) => {}
        }
    }
}

/// `Retry-After` in seconds or as an HTTP date; None if it is absent or unreadable.
fn retry_after(headers: &HeaderMap, now_us: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::from_micros(u64::try_from(date.as_microsecond().saturating_sub(now_us)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        const NOW_US: i64 = 784_111_777_000_000;
        for (text, wanted) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:40:37 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, NOW_US), wanted.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), NOW_US), None);
    }
}

//! What the receiver says (MSG-90): one table from status and body to `AttemptResult`.
//!
//! Details say what failed without content, without URLs and without the receiver's own words.

use super::failure::{HEADERS_LIMIT, too_many_headers};
use super::unpack::{TooLong, unpacked};
use crate::channel::{later, media};
use crate::delivery::AttemptResult;
use crate::fault::Fault;
use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use std::time::Duration;
use tokio::time::Instant;

/// The longest answer that is read, before and after its encodings are removed.
pub const ANSWER_LIMIT_BYTES: usize = 20 * 1024 * 1024;
/// The longest OperationOutcome of a refusal that is kept, and what is read of any body that does not count.
const ERROR_BODY_LIMIT_BYTES: usize = 64 * 1024;
/// A body that does not count is not waited for any longer; reading it lets the connection be used again.
const ERROR_BODY_SECONDS: u64 = 5;

/// Why a body could not be read to its end.
enum Broken {
    TooLong,
    Cut,
    Timeout,
}

/// Reads the reply, by the deadline. `now_us` (UTC microseconds) is what a date in `Retry-After` is compared with.
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
    let body = body_that_does_not_count(response, deadline).await;
    match status {
        300..=399 => later(Fault::RouteRedirect, detail),
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
        // It will answer later, whatever else it wanted to say now.
        Err(_) if status == 202 => AttemptResult::Accepted,
        Err(Broken::TooLong) => later(Fault::RecvBadAnswer, format!("answer longer than {ANSWER_LIMIT_BYTES} bytes")),
        Err(Broken::Cut) => later(Fault::RecvUnreachable, "connection lost before the answer was complete"),
        Err(Broken::Timeout) => later(Fault::RecvTimeout, "the answer was not complete in time"),
    }
}

/// A line feed, or a byte order mark alone, is no body.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii().is_empty()
}

async fn body_that_does_not_count(response: Response<Incoming>, deadline: Instant) -> Option<Bytes> {
    let deadline = deadline.min(Instant::now() + Duration::from_secs(ERROR_BODY_SECONDS));
    body(response, deadline, ERROR_BODY_LIMIT_BYTES).await.ok()
}

/// The body without its encodings.
async fn body(response: Response<Incoming>, deadline: Instant, limit_bytes: usize) -> Result<Bytes, Broken> {
    let encodings = media::joined(response.headers(), &CONTENT_ENCODING).unwrap_or_default();
    let body = received(response.into_body(), deadline, limit_bytes).await?;
    unpacked(body, &encodings, limit_bytes).map_err(|TooLong| Broken::TooLong)
}

async fn received(mut body: Incoming, deadline: Instant, limit_bytes: usize) -> Result<Bytes, Broken> {
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > limit_bytes as u64 {
        return Err(Broken::TooLong);
    }
    let mut bytes = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(Broken::Timeout),
            Ok(Some(Err(_))) => return Err(Broken::Cut),
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Ok(frame))) => frame,
        };
        match frame.into_data() {
            Ok(chunk) if bytes.len() + chunk.len() > limit_bytes => return Err(Broken::TooLong),
            // The common answer is one chunk, which is taken as it is.
            Ok(chunk) if bytes.is_empty() && announced > 0 && chunk.len() as u64 == announced => return Ok(chunk),
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            // Trailers say nothing that counts.
            Err(_) => {}
        }
    }
}

/// `Retry-After` in seconds or as an HTTP date; None when absent or unreadable.
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

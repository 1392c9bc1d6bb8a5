//! What the receiver says (MSG-90): one table from status and body to `Said`.
//!
//! Details say what failed without content, without URLs and without the receiver's own words.

use super::later;
use crate::delivery::Said;
use crate::fhir::Fault;
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use std::error::Error as _;
use std::time::Duration;
use tokio::time::Instant;

/// The longest answer that is read.
pub const ANSWER_LIMIT_BYTES: usize = 20 * 1024 * 1024;
/// The longest OperationOutcome of a refusal that is kept, and what is read of any body that does not count.
const ERROR_BODY_LIMIT_BYTES: usize = 64 * 1024;
/// A body that does not count is not waited for any longer; reading it lets the connection be used again.
const ERROR_BODY_SECONDS: u64 = 5;
/// A longer body is not looked at for whether it is an OperationOutcome.
const OUTCOME_LIMIT_BYTES: usize = 1024 * 1024;
const DETAIL_LIMIT_CHARACTERS: usize = 200;

/// Why a body could not be read to its end.
enum Broken {
    TooLong,
    Cut,
    Timeout,
}

/// Reads the reply, by the deadline. `now_us` (UTC microseconds) is what a date in `Retry-After` is compared with.
pub(super) async fn read(response: Response, deadline: Instant, now_us: i64) -> Said {
    let status = response.status().as_u16();
    let detail = format!("the receiver answered {status}");
    if let 200 | 201 | 203 | 205..=299 = status {
        return accepted(response, deadline).await;
    }
    let retry_after = retry_after(response.headers(), now_us);
    let body = body_that_does_not_count(response, deadline).await;
    match status {
        202 | 204 => Said::Taken,
        300..=399 => later(Fault::RouteRedirect, detail),
        401 | 403 | 407 => Said::Misconfigured { fault: Fault::RouteCredential, detail },
        404 => Said::Misconfigured { fault: Fault::RouteUrl, detail },
        408 | 425 | 429 | 503 => Said::Later { fault: Fault::RecvBusy, retry_after, detail },
        400..=499 => Said::Refused { outcome: body.filter(|body| is_outcome(body)), detail },
        _ => Said::Later { fault: Fault::RecvError, retry_after, detail },
    }
}

/// The request got no reply: no connection, or one that was lost.
pub(super) fn not_sent(error: &reqwest::Error) -> Said {
    if error.is_builder() {
        let detail = "the receiver's URL cannot be used".to_owned();
        return Said::Misconfigured { fault: Fault::RouteUrl, detail };
    }
    if error.is_connect() {
        return later(Fault::RecvUnreachable, format!("cannot connect: {}", root_cause(error)));
    }
    if error.is_timeout() {
        return later(Fault::RecvTimeout, "no answer in time");
    }
    later(Fault::RecvUnreachable, "connection lost before the answer was complete")
}

async fn accepted(response: Response, deadline: Instant) -> Said {
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.to_owned();
    match body(response, deadline, ANSWER_LIMIT_BYTES).await {
        Ok(bytes) if bytes.is_empty() || is_outcome(&bytes) => Said::Taken,
        Ok(bytes) => Said::Body { bytes, media_type },
        Err(Broken::TooLong) => later(Fault::RecvBadAnswer, format!("answer longer than {ANSWER_LIMIT_BYTES} bytes")),
        Err(Broken::Cut) => later(Fault::RecvUnreachable, "connection lost before the answer was complete"),
        Err(Broken::Timeout) => later(Fault::RecvTimeout, "the answer was not complete in time"),
    }
}

async fn body_that_does_not_count(response: Response, deadline: Instant) -> Option<Bytes> {
    let deadline = deadline.min(Instant::now() + Duration::from_secs(ERROR_BODY_SECONDS));
    body(response, deadline, ERROR_BODY_LIMIT_BYTES).await.ok()
}

async fn body(mut response: Response, deadline: Instant, limit_bytes: usize) -> Result<Bytes, Broken> {
    let announced = response.content_length().unwrap_or(0);
    if announced > limit_bytes as u64 {
        return Err(Broken::TooLong);
    }
    let mut bytes = BytesMut::new();
    loop {
        match tokio::time::timeout_at(deadline, response.chunk()).await {
            Err(_) => return Err(Broken::Timeout),
            Ok(Err(_)) => return Err(Broken::Cut),
            Ok(Ok(None)) => return Ok(bytes.freeze()),
            Ok(Ok(Some(chunk))) if bytes.len() + chunk.len() > limit_bytes => return Err(Broken::TooLong),
            // The common answer is one chunk, which is taken as it is.
            Ok(Ok(Some(chunk))) if bytes.is_empty() && chunk.len() as u64 == announced => return Ok(chunk),
            Ok(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
        }
    }
}

/// Whether the body is a JSON object with the resourceType OperationOutcome.
fn is_outcome(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Resource {
        #[serde(rename = "resourceType")]
        resource_type: String,
    }
    body.len() <= OUTCOME_LIMIT_BYTES
        && body.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<Resource>(body).is_ok_and(|resource| resource.resource_type == "OperationOutcome")
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

/// The innermost cause, such as "Connection refused" or "invalid peer certificate", which names no URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|cause| cause.source()) {
        cause = Some(inner);
    }
    cause.map_or_else(
        || "no reason given".into(),
        |cause| cause.to_string().chars().take(DETAIL_LIMIT_CHARACTERS).collect(),
    )
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

    #[test]
    fn only_an_operation_outcome_of_its_own_counts_as_one() {
        for (body, wanted) in [
            (r#"{"resourceType":"OperationOutcome","issue":[]}"#, true),
            (r#"{"issue":[],"resourceType":"OperationOutcome"}"#, true),
            (r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"OperationOutcome"}}]}"#, false),
            (r#"["OperationOutcome"]"#, false),
            ("OperationOutcome", false),
            ("", false),
        ] {
            assert_eq!(is_outcome(body.as_bytes()), wanted, "{body}");
        }
    }
}

//! Sends one message to an HTTP endpoint and reads the answer.

use super::answer::{self, Verdict};
use super::sent::Sent;
use crate::cli::client::{http_client, http_url, read_limited, why};
use crate::cli::failure::Failure;
use crate::cli::source::Source;
use fhir::Format;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url};
use std::time::{Duration, Instant};

/// Default limit for connecting, sending, and reading the answer of one message.
const TIMEOUT_SECONDS: u64 = 120;
/// Limit of an answer.
const ANSWER_LIMIT_BYTES: usize = 20 * 1024 * 1024;

/// The endpoint with its HTTP client.
pub struct Endpoint {
    client: Client,
    url: Url,
}

impl Endpoint {
    /// Fails if `to` is not an http or https URL.
    pub fn new(
        to: &str,
        is_async: bool,
        timeout: Option<Duration>,
        token: Option<HeaderValue>,
    ) -> Result<Endpoint, Failure> {
        let url = process_message(to, is_async)?;
        let timeout = timeout.unwrap_or(Duration::from_secs(TIMEOUT_SECONDS));
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/fhir+json"))]);
        headers.extend(token.map(|token| (AUTHORIZATION, token)));
        let client = http_client(&url).default_headers(headers).timeout(timeout).build();
        let client =
            client.map_err(|error| Failure::Usage(format!("cannot start the HTTP client: {}", why(&error))))?;
        Ok(Endpoint { client, url })
    }

    /// Sends one message, once. Failures are verdicts, not errors.
    pub async fn send(&self, source: Source) -> Sent {
        let (mut sent, bytes) = match Sent::begin(source) {
            Ok(begun) => begun,
            Err(unreadable) => return unreadable,
        };
        let started = Instant::now();
        let request =
            self.client.post(self.url.clone()).header(CONTENT_TYPE, Format::detect(&bytes).media_type()).body(bytes);
        match request.send().await {
            Err(error) => {
                sent.verdict = Verdict::Unreachable;
                sent.detail = Some(why(&error));
            }
            Ok(response) => {
                sent.read(response).await;
                sent.duration = Some(started.elapsed());
            }
        }
        sent
    }
}

impl Sent {
    async fn read(&mut self, response: Response) {
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        self.message_id = header("emberpost-message-id").map(String::from);
        self.is_repeat = header("emberpost-repeat") == Some("true");
        let status = response.status().as_u16();
        self.status = Some(status);
        match read_limited(response, ANSWER_LIMIT_BYTES).await {
            Ok(body) => (self.verdict, self.detail) = answer::read(status, &body),
            Err(error) => (self.verdict, self.detail) = (Verdict::NotUnderstood, Some(error)),
        }
    }
}

/// The URL of the operation. `to` is either the FHIR base or already that URL.
fn process_message(to: &str, is_async: bool) -> Result<Url, Failure> {
    // The text does not quote the URL: even a mistyped one may contain a password.
    let wrong = |_| Failure::Usage("--to: give a URL that starts with http://, https://, amqp://, or amqps://".into());
    let mut url = http_url(to).map_err(wrong)?;
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&if base.ends_with("/$process-message") { base } else { base + "/$process-message" });
    url.set_fragment(None);
    if is_async {
        url.query_pairs_mut().append_pair("async", "true");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operation_is_appended_unless_it_is_there() {
        for (to, is_async, url) in [
            ("http://h/fhir", false, "http://h/fhir/$process-message"),
            ("http://h/fhir/", true, "http://h/fhir/$process-message?async=true"),
            ("https://h", false, "https://h/$process-message"),
            ("http://h/f/$process-message?key=1", true, "http://h/f/$process-message?key=1&async=true"),
        ] {
            assert_eq!(process_message(to, is_async).expect(to).as_str(), url);
        }
        for wrong in ["ftp://h/fhir", "h/fhir", "", "http://"] {
            assert_eq!(process_message(wrong, false).expect_err(wrong).exit_code(), 2, "{wrong}");
        }
    }
}

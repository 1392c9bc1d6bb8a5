//! What the request's query and headers ask for: VER-01 to VER-04, MSG-86, MSG-87, MSG-94, ASY-02.

use crate::channel::media::{self, Encoding};
use crate::exchange::AnswerMode;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use fhir::{FhirVersion, Format};

#[derive(Clone, Debug)]
pub struct Requested {
    /// The format of the body.
    pub format: Format,
    /// The format that the answer is to have.
    pub answer: Format,
    pub version: Option<FhirVersion>,
    pub encoding: Encoding,
    pub answer_mode: AnswerMode,
    pub via: Option<String>,
}

type Problem = (StatusCode, Issue);

/// `fixed`: the version of the base's alias. Errs with 400, 406, or 415 and a sentence that says what to send instead.
pub fn negotiate(query: &str, headers: &HeaderMap, fixed: Option<FhirVersion>) -> Result<Requested, Problem> {
    let (format, named) = content_type(headers)?;
    let version = agreed(fixed, named)?;
    let mut requested = Requested {
        format,
        answer: format,
        version,
        encoding: content_encoding(headers)?,
        answer_mode: if prefers_async(headers) { AnswerMode::StatusUrl } else { AnswerMode::Synchronous },
        via: media::joined(headers, &header::VIA),
    };
    let accept = read_query(query, &mut requested)?;
    let accept = accept.or_else(|| media::joined(headers, &header::ACCEPT)).unwrap_or_default();
    let (answer, wanted) = media::wanted(&accept, format).map_err(|issue| match issue.cause {
        Fault::SendVersion => (StatusCode::UNSUPPORTED_MEDIA_TYPE, issue),
        _ => (StatusCode::NOT_ACCEPTABLE, issue),
    })?;
    agreed(fixed, wanted)?;
    if wanted.zip(version).is_some_and(|(wanted, sent)| wanted != sent) {
        let text = "Content-Type and Accept name different fhirVersions";
        let issue = Issue::error(IssueCode::NotSupported, Fault::SendVersion, text).rule("VER-04");
        return Err((StatusCode::BAD_REQUEST, issue));
    }
    requested.answer = answer;
    Ok(requested)
}

/// Several Content-Type lines are accepted if they mean the same; otherwise the type of the body is ambiguous.
fn content_type(headers: &HeaderMap) -> Result<(Format, Option<FhirVersion>), Problem> {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter().map(|value| value.to_str().unwrap_or(""));
    let first = media::content_type(lines.next().unwrap_or(""));
    for line in lines {
        let same = match (&first, media::content_type(line)) {
            (Ok(one), Ok(other)) => *one == other,
            _ => false,
        };
        if !same {
            let text = "The Content-Type lines name different types; send one";
            return Err((StatusCode::BAD_REQUEST, media::unsupported(Fault::SendMediaType, text)));
        }
    }
    first.map_err(unsupported)
}

/// All lines form one list (RFC 9110, 8.4).
fn content_encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("unreadable"));
    media::encoding(&lines.collect::<Vec<_>>().join(",")).map_err(unsupported)
}

/// The version that the path fixes or the request names; errs with 415 if they differ.
fn agreed(fixed: Option<FhirVersion>, named: Option<FhirVersion>) -> Result<Option<FhirVersion>, Problem> {
    if fixed.zip(named).is_some_and(|(fixed, named)| fixed != named) {
        let text = "The fhirVersion differs from the version in the path; send only one of them, or the same";
        return Err(unsupported(Issue::error(IssueCode::NotSupported, Fault::SendVersion, text).rule("VER-04")));
    }
    Ok(fixed.or(named))
}

fn read_query(query: &str, requested: &mut Requested) -> Result<Option<String>, Problem> {
    let (mut format, mut asynchronous, mut response_url) = (None, false, None);
    for (name, value) in media::query_pairs(query) {
        match (name.as_str(), value.as_str()) {
            ("async", "true") => asynchronous = true,
            ("async", "false") => asynchronous = false,
            ("async", _) => return Err(bad_query("async must be true or false", "MSG-87")),
            ("response-url", "") => return Err(bad_query("response-url is empty", "MSG-88")),
            ("response-url", _) => response_url = Some(value),
            ("_format", _) => format = Some(value),
            // The specification allows no other parameter (MSG-86); unknown ones are ignored because they do no harm.
            _ => {}
        }
    }
    if response_url.is_some() && !asynchronous {
        return Err(bad_query("response-url requires async=true", "MSG-87"));
    }
    // It has priority over `Prefer: respond-async`.
    if asynchronous {
        requested.answer_mode = AnswerMode::Asynchronous { response_url };
    }
    Ok(format)
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let preferences = media::joined(headers, &HeaderName::from_static("prefer")).unwrap_or_default();
    preferences.split([',', ';']).any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

fn bad_query(text: &str, rule: &'static str) -> Problem {
    (StatusCode::BAD_REQUEST, Issue::error(IssueCode::Value, Fault::SendRequest, text.to_owned()).rule(rule))
}

fn unsupported(issue: Issue) -> Problem {
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, issue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), axum::http::HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn status(query: &str, pairs: &[(&'static str, &'static str)]) -> u16 {
        match negotiate(query, &headers(pairs), None) {
            Ok(_) => 200,
            Err((status, _)) => status.as_u16(),
        }
    }

    const JSON: (&str, &str) = ("content-type", "application/fhir+json; fhirVersion=4.0");

    #[test]
    fn what_cannot_be_served_is_refused_with_the_status_of_its_kind() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], u16);
        let cases: &[Case] = &[
            ("", &[JSON], 200),
            ("", &[("content-type", "application/json")], 200),
            ("", &[("content-type", "text/plain")], 415),
            ("", &[], 415),
            ("", &[("content-type", "application/fhir+xml")], 200),
            ("", &[("content-type", "application/fhir+turtle")], 415),
            ("", &[("content-type", "application/fhir+json; fhirVersion=3.0")], 415),
            ("", &[("content-type", "application/fhir+json; charset=latin1")], 415),
            ("", &[JSON, ("content-encoding", "br")], 415),
            ("", &[JSON, ("accept", "application/fhir+xml")], 200),
            ("", &[JSON, ("accept", "application/fhir+turtle")], 406),
            ("", &[JSON, ("accept", "application/fhir+xml, */*;q=0.1")], 200),
            ("", &[JSON, ("accept", "application/fhir+json; fhirVersion=5.0")], 400),
            ("_format=json", &[JSON, ("accept", "image/png")], 200),
            ("_format=application/fhir%2Bjson", &[JSON], 200),
            ("_format=ttl", &[JSON], 406),
            ("async=true", &[JSON], 200),
            ("async=yes", &[JSON], 400),
            ("response-url=http%3A%2F%2Fa", &[JSON], 400),
            ("async=true&response-url=http%3A%2F%2Fa", &[JSON], 200),
        ];
        for (query, pairs, expected) in cases {
            assert_eq!(status(query, pairs), *expected, "{query} {pairs:?}");
        }
    }

    #[test]
    fn a_response_url_is_decoded_whole() {
        let requested =
            negotiate("async=true&response-url=http%3A%2F%2Fa%2Fb%3Fc%3Dd", &headers(&[JSON]), None).expect("fine");
        assert_eq!(requested.answer_mode, AnswerMode::Asynchronous { response_url: Some("http://a/b?c=d".into()) });
    }

    #[test]
    fn respond_async_is_found_among_other_preferences() {
        let requested =
            negotiate("", &headers(&[JSON, ("prefer", "return=minimal, respond-async")]), None).expect("fine");
        assert_eq!(requested.answer_mode, AnswerMode::StatusUrl);
    }
}

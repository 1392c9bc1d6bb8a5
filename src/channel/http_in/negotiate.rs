//! What the request's query and headers ask for: VER-01 to VER-04, MSG-86, MSG-87, MSG-94, ASY-02.

use crate::channel::media::{self, Encoding};
use crate::exchange::AnswerMode;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use fhir::{FhirVersion, Format};

#[derive(Clone, Debug)]
pub struct Asked {
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

/// `fixed`: the version of the base's alias. Errs with 400, 406 or 415 and a sentence that says what to send instead.
pub fn negotiate(query: &str, headers: &HeaderMap, fixed: Option<FhirVersion>) -> Result<Asked, Problem> {
    let (format, named) = content_type(headers)?;
    let version = agreed(fixed, named)?;
    let mut asked = Asked {
        format,
        answer: format,
        version,
        encoding: content_encoding(headers)?,
        answer_mode: if prefers_async(headers) { AnswerMode::StatusUrl } else { AnswerMode::Synchronous },
        via: media::joined(headers, &header::VIA),
    };
    let accept = read_query(query, &mut asked)?;
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
    asked.answer = answer;
    Ok(asked)
}

/// Several lines are one type if they mean the same; otherwise nobody can say what the body is.
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

/// All lines together are one list (RFC 9110, 8.4).
fn content_encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("unreadable"));
    media::encoding(&lines.collect::<Vec<_>>().join(",")).map_err(unsupported)
}

/// The version that the path fixes, or that is named; errs with 415 where they differ.
fn agreed(fixed: Option<FhirVersion>, named: Option<FhirVersion>) -> Result<Option<FhirVersion>, Problem> {
    if fixed.zip(named).is_some_and(|(fixed, named)| fixed != named) {
        let text = "The fhirVersion is another one than the version in the path; use one of them, or the same";
        return Err(unsupported(Issue::error(IssueCode::NotSupported, Fault::SendVersion, text).rule("VER-04")));
    }
    Ok(fixed.or(named))
}

fn read_query(query: &str, asked: &mut Asked) -> Result<Option<String>, Problem> {
    let (mut format, mut asynchronous, mut response_url) = (None, false, None);
    for (name, value) in media::query_pairs(query) {
        match (name.as_str(), value.as_str()) {
            ("async", "true") => asynchronous = true,
            ("async", "false") => asynchronous = false,
            ("async", _) => return Err(bad_query("async is true or false", "MSG-87")),
            ("response-url", "") => return Err(bad_query("response-url is empty", "MSG-88")),
            ("response-url", _) => response_url = Some(value),
            ("_format", _) => format = Some(value),
            // The specification allows no other parameter (MSG-86); what means nothing here does no harm.
            _ => {}
        }
    }
    if response_url.is_some() && !asynchronous {
        return Err(bad_query("response-url goes with async=true only", "MSG-87"));
    }
    // It wins over `Prefer: respond-async` (design 1.5).
    if asynchronous {
        asked.answer_mode = AnswerMode::Asynchronous { response_url };
    }
    Ok(format)
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let preferences = media::joined(headers, &HeaderName::from_static("prefer")).unwrap_or_default();
    preferences.split([',', ';']).any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

fn bad_query(text: &str, rule: &'static str) -> Problem {
    (StatusCode::BAD_REQUEST, Issue::error(IssueCode::Value, Fault::SendRequest, text).rule(rule))
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
        let asked =
            negotiate("async=true&response-url=http%3A%2F%2Fa%2Fb%3Fc%3Dd", &headers(&[JSON]), None).expect("fine");
        assert_eq!(asked.answer_mode, AnswerMode::Asynchronous { response_url: Some("http://a/b?c=d".into()) });
    }

    #[test]
    fn respond_async_is_found_among_other_preferences() {
        let asked = negotiate("", &headers(&[JSON, ("prefer", "return=minimal, respond-async")]), None).expect("fine");
        assert_eq!(asked.answer_mode, AnswerMode::StatusUrl);
    }
}
